//! Subscriptions: everything once, in order, from the past into the present.

use std::sync::Arc;

use futures::{StreamExt, future::join_all};

use super::{Factory, PATIENCE, all_of, follow, new_event, new_events, next, stored_ids, stream_of, write};
use crate::{Filter, Message, Position, ReadError, StreamName};

/// Subscribers that start at several places while writers are at work see what a reader sees afterwards.
pub async fn catch_up_meets_live(factory: &dyn Factory) {
    let log = factory.open().await;
    let scope = factory.scope();
    for n in 0..30 {
        write(&log, &StreamName::new(&scope, n % 4), new_events(&format!("before/{n}"), 100)).await;
    }
    let filter = Filter::categories([&scope]);
    let before = all_of(&log, filter.clone()).await;
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let (log, stream) = (Arc::clone(&log), StreamName::new(&scope, writer));
            tokio::spawn(async move {
                let mut last = 0;
                for n in 0..150 {
                    last = write(&log, &stream, new_events(&format!("during/{writer}/{n}"), 1 + n % 3)).await;
                }
                last
            })
        })
        .collect();
    let mut starts = vec![None];
    starts.extend([0, 1, 999, 1_000, 2_998, 2_999].map(|index: usize| Some(before[index].position)));
    let (end, known) = tokio::sync::watch::channel(None::<Position>);
    let subscribers: Vec<_> = starts
        .into_iter()
        .map(|after| {
            let (log, filter, mut known) = (Arc::clone(&log), filter.clone(), known.clone());
            tokio::spawn(async move {
                let mut subscription = log.subscribe(after, filter);
                let mut events = Vec::new();
                let mut covered = after;
                // Follows freely until the writers are done, then up to where they ended.
                loop {
                    if let Some(end) = *known.borrow()
                        && covered >= Some(end)
                    {
                        return (after, events);
                    }
                    let message = tokio::select! {
                        message = next(&mut subscription) => message,
                        changed = known.changed() => { changed.unwrap(); continue }
                    };
                    match message {
                        Message::Event(event) => {
                            assert!(covered < Some(event.position));
                            covered = Some(event.position);
                            events.push(event);
                        }
                        Message::Checkpoint(position) => {
                            assert!(covered < Some(position));
                            covered = Some(position);
                        }
                        Message::CaughtUp => {}
                    }
                }
            })
        })
        .collect();
    let last = join_all(writers).await.into_iter().map(Result::unwrap).max();
    end.send_replace(last);
    let everything = all_of(&log, filter).await;
    assert_eq!(everything.len(), 3_000 + 8 * 300);
    for subscriber in subscribers {
        let (after, events) = subscriber.await.unwrap();
        let start = everything.partition_point(|event| Some(event.position) <= after);
        assert_eq!(stored_ids(&events), stored_ids(&everything[start..]), "after {after:?}");
        assert_eq!(events, everything[start..]);
    }
}

/// A subscriber to little learns how far it has seen, in the past and live.
pub async fn checkpoints_pass_what_was_left_out(factory: &dyn Factory) {
    let log = factory.open().await;
    let scope = factory.scope();
    let (noise, rare) = (format!("{scope}Noise"), format!("{scope}Rare"));
    let noise = StreamName::new(&noise, 1);
    for n in 0..5 {
        write(&log, &noise, new_events(&format!("past/{n}"), 500)).await;
    }
    let past = write(&log, &noise, new_events("past", 1)).await;
    for filter in [
        Filter::categories([&rare]),
        Filter { stream: Some(StreamName::new(&rare, 1)), ..Filter::all() },
        Filter { event_types: vec!["Rarely".into()], ..Filter::categories([noise.category(), &rare]) },
    ] {
        let before = all_of(&log, filter.clone()).await.len();
        let mut subscription = log.subscribe(None, filter);
        let (events, _) = follow(&mut subscription, past).await;
        assert!(events.len() <= before);
        let live = write(&log, &noise, new_events(&format!("live/{before}"), 3)).await;
        follow(&mut subscription, live).await;
        let event = new_event(format!("rare/{before}"), "Rarely");
        let at = write(&log, &StreamName::new(&rare, 1), vec![event.clone()]).await;
        let (events, _) = follow(&mut subscription, at).await;
        assert_eq!(stored_ids(&events), [event.id]);
    }
}

/// Whoever has reached the end is told, also when there is nothing at all.
pub async fn caught_up_is_told(factory: &dyn Factory) {
    let log = factory.open().await;
    let scope = factory.scope();
    let filter = Filter::categories([&scope]);
    let mut subscription = log.subscribe(None, filter.clone());
    loop {
        match next(&mut subscription).await {
            Message::CaughtUp => break,
            Message::Checkpoint(_) => {}
            Message::Event(event) => panic!("nobody wrote {event:?}"),
        }
    }
    let stream = StreamName::new(&scope, 1);
    let first = write(&log, &stream, new_events("first", 2)).await;
    assert_eq!(follow(&mut subscription, first).await.0.len(), 2);

    let mut second = log.subscribe(None, filter.clone());
    let mut seen = 0;
    loop {
        match next(&mut second).await {
            Message::CaughtUp => break,
            Message::Checkpoint(_) => {}
            Message::Event(_) => seen += 1,
        }
    }
    assert_eq!(seen, 2);
    let mut third = log.subscribe(Some(first), filter);
    let event = new_events("more", 1);
    let last = write(&log, &stream, event.clone()).await;
    for subscription in [&mut subscription, &mut second, &mut third] {
        assert_eq!(stored_ids(&follow(subscription, last).await.0), [event[0].id]);
    }
}

/// A subscriber that is not listening for a while gets everything once it does.
pub async fn a_slow_subscriber_misses_nothing(factory: &dyn Factory) {
    let log = factory.open().await;
    let scope = factory.scope();
    let stream = StreamName::new(&scope, "fast");
    let filter = Filter::categories([&scope]);
    let start = write(&log, &stream, new_events("start", 1)).await;
    let mut slow = log.subscribe(None, filter.clone());
    follow(&mut slow, start).await;
    let mut last = start;
    for n in 0..40 {
        last = write(&log, &stream, new_events(&n.to_string(), 500)).await;
    }
    let (events, live) = follow(&mut slow, last).await;
    assert_eq!(events, all_of(&log, filter).await[1..]);
    assert_eq!(events.len(), 20_000);
    // It was told that it is live either before it fell behind, or now.
    while live == 0 && !matches!(next(&mut slow).await, Message::CaughtUp) {}
}

/// A filter for one stream, from its middle into the present.
pub async fn one_stream_can_be_followed(factory: &dyn Factory) {
    let log = factory.open().await;
    let scope = factory.scope();
    let (mine, other) = (StreamName::new(&scope, "mine"), StreamName::new(&scope, "other"));
    for n in 0..20 {
        write(&log, &mine, new_events(&format!("mine/{n}"), 3)).await;
        write(&log, &other, new_events(&format!("other/{n}"), 5)).await;
    }
    let stored = stream_of(&log, &mine).await;
    let filter = Filter { stream: Some(mine.clone()), ..Filter::all() };
    let mut subscription = log.subscribe(Some(stored[29].position), filter);
    let (past, _) = follow(&mut subscription, stored[59].position).await;
    assert_eq!(past, stored[30..]);
    write(&log, &other, new_events("more", 5)).await;
    let last = write(&log, &mine, new_events("mine", 2)).await;
    let (live, _) = follow(&mut subscription, last).await;
    assert_eq!(live, stream_of(&log, &mine).await[60..]);
}

/// A position that the log does not have means another log: following it would leave events out without a word.
pub async fn nobody_follows_from_beyond_the_end(factory: &dyn Factory) {
    let log = factory.open().await;
    let last = write(&log, &StreamName::new(&factory.scope(), 1), new_events("only", 1)).await;
    let mut subscription = log.subscribe(Some(last + 1_000_000), Filter::all());
    let message = tokio::time::timeout(PATIENCE, subscription.next()).await.unwrap();
    assert!(matches!(message, Some(Err(ReadError::Corrupt(_)))), "{message:?}");
}
