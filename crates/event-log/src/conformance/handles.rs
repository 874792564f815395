//! Several handles of one log, as several processes have them.

use std::sync::Arc;

use futures::future::join_all;

use super::{Factory, all_of, follow, ids, new_events, stored_ids, stream_of, write};
use crate::{AppendError, Expected, Filter, StreamName};

/// Two handles that write in turn and at once: subscribers of both see everything in the same order.
pub async fn handles_share_one_log(factory: &dyn Factory) {
    let handles = [factory.open().await, factory.open().await];
    let scope = factory.scope();
    let filter = Filter::categories([&scope]);
    let mut subscriptions = handles.each_ref().map(|log| log.subscribe(None, filter.clone()));
    let shared = StreamName::new(&scope, "shared");
    let mut expected = Expected::NoStream;
    for n in 0..40 {
        // Each sees at once what the other wrote.
        let (writer, reader) = (&handles[n % 2], &handles[1 - n % 2]);
        let events = new_events(&format!("turn/{n}"), 1 + n % 2);
        let appended = writer.append(&shared, expected, events.clone()).await.unwrap();
        assert_eq!(reader.stream_head(&shared).await.unwrap(), Some(appended.last_revision));
        assert!(reader.head().await.unwrap() >= Some(appended.position));
        assert_eq!(reader.append(&shared, expected, events).await.unwrap(), appended);
        expected = Expected::Exact(appended.last_revision);
    }
    let writers = (0..8).map(|task: usize| {
        let (log, stream) = (Arc::clone(&handles[task % 2]), StreamName::new(&scope, task % 3));
        tokio::spawn(async move {
            let mut last = 0;
            for n in 0..50 {
                last = write(&log, &stream, new_events(&format!("{task}/{n}"), 1)).await;
            }
            last
        })
    });
    let last = join_all(writers).await.into_iter().map(Result::unwrap).max().unwrap();
    let everything = all_of(&handles[0], filter.clone()).await;
    assert_eq!(everything.len(), 60 + 400);
    assert_eq!(everything, all_of(&handles[1], filter).await);
    for subscription in &mut subscriptions {
        assert_eq!(follow(subscription, last).await.0, everything);
    }
}

/// A counter that two handles fight over: each append rests on the revision that was read, and none is lost.
pub async fn exact_revisions_hold_between_handles(factory: &dyn Factory) {
    let handles = [factory.open().await, factory.open().await];
    let stream = StreamName::new(&factory.scope(), "counter");
    let fighters = (0..4_usize).map(|fighter| {
        let (log, stream) = (Arc::clone(&handles[fighter % 2]), stream.clone());
        tokio::spawn(async move {
            let mut conflicts = 0;
            for n in 0..25 {
                let events = new_events(&format!("{fighter}/{n}"), 1);
                loop {
                    let head = log.stream_head(&stream).await.unwrap();
                    let expected = head.map_or(Expected::NoStream, Expected::Exact);
                    match log.append(&stream, expected, events.clone()).await {
                        Ok(appended) => {
                            assert_eq!(appended.last_revision, head.map_or(0, |head| head + 1));
                            break;
                        }
                        Err(AppendError::Conflict { actual }) => {
                            assert!(actual > head);
                            conflicts += 1;
                        }
                        Err(other) => panic!("{other}"),
                    }
                }
            }
            conflicts
        })
    });
    let conflicts: usize = join_all(fighters).await.into_iter().map(Result::unwrap).sum();
    let events = stream_of(&handles[0], &stream).await;
    assert_eq!(events.len(), 100, "with {conflicts} conflicts");
    assert!((0..).zip(&events).all(|(revision, event)| event.revision == revision));
}

/// Everything is there after all handles are gone, and goes on where it was.
pub async fn a_log_outlives_its_handles(factory: &dyn Factory) {
    let scope = factory.scope();
    let filter = Filter::categories([&scope]);
    let stream = StreamName::new(&scope, "kept");
    let mut kept = Vec::new();
    let mut last = None;
    for round in 0..3 {
        let log = factory.open().await;
        let stored = all_of(&log, filter.clone()).await;
        assert_eq!(stored_ids(&stored), kept);
        assert!(log.head().await.unwrap() >= last);
        let events = new_events(&round.to_string(), 3);
        let expected = (round * 3_u64).checked_sub(1).map_or(Expected::NoStream, Expected::Exact);
        let appended = log.append(&stream, expected, events.clone()).await.unwrap();
        assert!(last < Some(appended.position));
        last = Some(appended.position);
        kept.extend(ids(&events));
        let mut subscription = log.subscribe(None, filter.clone());
        assert_eq!(stored_ids(&follow(&mut subscription, appended.position).await.0), kept);
    }
}
