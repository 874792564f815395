//! Appending: order, expectations, repeats.

use std::{collections::HashMap, sync::Arc};

use futures::future::join_all;

use super::{Factory, all_of, ids, new_event, new_events, stored_ids, stream_of, write};
use crate::{AppendError, Appended, EventLog, Expected, Filter, NewEvent, Revision, StreamName};

/// Many tasks at once: every event has a position of its own, none is left out, and the events of one append stand
/// together. For logs that promise gapless positions, with a log of its own.
pub async fn positions_are_gapless(factory: &dyn Factory) {
    let log = factory.open().await;
    let scope = factory.scope();
    let tasks = (0..32).map(|task| {
        let log = Arc::clone(&log);
        let stream = StreamName::new(&scope, task % 8);
        tokio::spawn(async move {
            let mut answers = Vec::new();
            for turn in 0..25 {
                let events = new_events(&format!("{task}/{turn}"), 1 + turn % 3);
                let appended = log.append(&stream, Expected::Any, events.clone()).await.unwrap();
                answers.push((ids(&events), appended));
            }
            answers
        })
    });
    let answers: Vec<_> = join_all(tasks).await.into_iter().flat_map(Result::unwrap).collect();

    let events = all_of(&log, Filter::all()).await;
    assert_eq!(events.len(), answers.iter().map(|(ids, _)| ids.len()).sum::<usize>());
    assert!((0..).zip(&events).all(|(position, event)| event.position == position));
    let mut revisions: HashMap<StreamName, Revision> = HashMap::new();
    for event in &events {
        let next = revisions.entry(event.stream.clone()).or_default();
        assert_eq!(event.revision, *next);
        *next += 1;
    }
    for (ids, Appended { last_revision, position }) in answers {
        let end = position as usize + 1;
        assert_eq!(stored_ids(&events[end - ids.len()..end]), ids);
        assert_eq!(events[end - 1].revision, last_revision);
    }
    assert_eq!(log.head().await.unwrap(), events.last().map(|event| event.position));
}

async fn conflict(
    log: &Arc<dyn EventLog>,
    stream: &StreamName,
    expected: Expected,
    events: Vec<NewEvent>,
) -> Option<Revision> {
    match log.append(stream, expected, events).await {
        Err(AppendError::Conflict { actual }) => actual,
        other => panic!("{expected:?} should conflict, but got {other:?}"),
    }
}

/// NoStream, Exact and Any do what they say, and a conflict tells where the stream is.
pub async fn expected_revisions_hold(factory: &dyn Factory) {
    let log = factory.open().await;
    let stream = StreamName::new(&factory.scope(), "expected");
    let one = |name: &str| new_events(name, 1);

    assert_eq!(conflict(&log, &stream, Expected::Exact(0), one("early")).await, None);
    assert_eq!(log.append(&stream, Expected::NoStream, one("a")).await.unwrap().last_revision, 0);
    assert_eq!(conflict(&log, &stream, Expected::NoStream, one("b")).await, Some(0));
    assert_eq!(conflict(&log, &stream, Expected::Exact(1), one("b")).await, Some(0));
    assert_eq!(log.append(&stream, Expected::Exact(0), new_events("b", 2)).await.unwrap().last_revision, 2);
    assert_eq!(conflict(&log, &stream, Expected::Exact(0), one("c")).await, Some(2));
    assert_eq!(conflict(&log, &stream, Expected::Exact(u64::MAX), one("c")).await, Some(2));
    assert_eq!(log.append(&stream, Expected::Any, one("c")).await.unwrap().last_revision, 3);
    assert_eq!(log.stream_head(&stream).await.unwrap(), Some(3));
    assert_eq!(stream_of(&log, &stream).await.len(), 4);
}

/// An append that conflicts leaves nothing behind, also while others around it succeed.
pub async fn an_append_is_all_or_nothing(factory: &dyn Factory) {
    let log = factory.open().await;
    let scope = factory.scope();
    let bad = StreamName::new(&scope, "bad");
    write(&log, &bad, new_events("first", 1)).await;
    let appends = (0..40).map(|n| {
        let (log, scope, bad) = (&log, &scope, &bad);
        async move {
            if n % 2 == 0 {
                let stream = StreamName::new(scope, format!("good{n}"));
                log.append(&stream, Expected::NoStream, new_events(&format!("good/{n}"), 3)).await.unwrap();
            } else {
                let events = new_events(&format!("bad/{n}"), 3);
                assert_eq!(conflict(log, bad, Expected::Exact(7), events).await, Some(0));
            }
        }
    });
    join_all(appends).await;
    assert_eq!(stream_of(&log, &bad).await.len(), 1);
    let events = all_of(&log, Filter::categories([&scope])).await;
    assert_eq!(events.len(), 1 + 20 * 3);
    for three in events[1..].chunks(3) {
        assert!(
            three.iter().all(|event| event.stream == three[0].stream),
            "events of one append stand together"
        );
        assert_eq!(three.iter().map(|event| event.revision).collect::<Vec<_>>(), [0, 1, 2]);
    }
}

/// Of many that expect the same revision exactly one appends; the others learn where the stream is now.
pub async fn one_of_many_wins(factory: &dyn Factory) {
    let log = factory.open().await;
    let stream = StreamName::new(&factory.scope(), "race");
    for round in 0..20_u64 {
        let expected = round.checked_sub(1).map_or(Expected::NoStream, Expected::Exact);
        let racers = (0..8).map(|racer| {
            let (log, stream) = (Arc::clone(&log), stream.clone());
            tokio::spawn(async move {
                log.append(&stream, expected, new_events(&format!("{round}/{racer}"), 1)).await
            })
        });
        let outcomes: Vec<_> = join_all(racers).await.into_iter().map(Result::unwrap).collect();
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
        for outcome in outcomes {
            match outcome {
                Ok(appended) => assert_eq!(appended.last_revision, round),
                Err(AppendError::Conflict { actual }) => assert_eq!(actual, Some(round)),
                Err(other) => panic!("{other}"),
            }
        }
    }
}

/// The same events at the same place succeed again, with the place they have, and nothing else does.
pub async fn repeated_appends_are_idempotent(factory: &dyn Factory) {
    let log = factory.open().await;
    let stream = StreamName::new(&factory.scope(), "repeated");
    let other = StreamName::new(&factory.scope(), "other");
    let (first, second) = (new_events("first", 2), new_events("second", 3));

    let at_first = log.append(&stream, Expected::NoStream, first.clone()).await.unwrap();
    write(&log, &other, new_events("other", 1)).await;
    let at_second = log.append(&stream, Expected::Exact(1), second.clone()).await.unwrap();
    write(&log, &other, new_events("another", 1)).await;
    assert_eq!((at_first.last_revision, at_second.last_revision), (1, 4));

    for _ in 0..2 {
        assert_eq!(log.append(&stream, Expected::NoStream, first.clone()).await.unwrap(), at_first);
        assert_eq!(log.append(&stream, Expected::Exact(1), second.clone()).await.unwrap(), at_second);
    }
    // Several times at once is no different.
    let repeats = join_all((0..8).map(|_| log.append(&stream, Expected::Exact(1), second.clone()))).await;
    assert!(repeats.into_iter().all(|repeat| repeat.unwrap() == at_second));

    // Longer than what is there, in another order, in part unknown, or elsewhere: not a repeat.
    let longer = [second.clone(), new_events("third", 1)].concat();
    assert_eq!(conflict(&log, &stream, Expected::Exact(1), longer).await, Some(4));
    let reversed = second.iter().rev().cloned().collect();
    assert_eq!(conflict(&log, &stream, Expected::Exact(1), reversed).await, Some(4));
    let partly = vec![second[0].clone(), new_event("new", "Happened")];
    assert_eq!(conflict(&log, &stream, Expected::Exact(1), partly).await, Some(4));
    assert_eq!(conflict(&log, &stream, Expected::Exact(2), second.clone()).await, Some(4));
    assert_eq!(conflict(&log, &stream, Expected::NoStream, second.clone()).await, Some(4));
    // A shorter one is what an append of these events alone, and others after it, would have left.
    let shorter = log.append(&stream, Expected::Exact(1), second[..2].to_vec()).await.unwrap();
    assert_eq!(shorter, Appended { last_revision: 3, position: at_second.position - 1 });

    assert_eq!(stored_ids(&stream_of(&log, &stream).await), [ids(&first), ids(&second)].concat());
    // The same ids in another stream are other events.
    log.append(&other, Expected::Exact(1), first).await.unwrap();
    assert_eq!(stream_of(&log, &other).await.len(), 4);
}

/// With Any a repeat is known as long as its events are the last of the stream.
pub async fn repeats_without_expectation(factory: &dyn Factory) {
    let log = factory.open().await;
    let stream = StreamName::new(&factory.scope(), "any");
    let events = new_events("first", 2);
    let first = log.append(&stream, Expected::Any, events.clone()).await.unwrap();
    assert_eq!(log.append(&stream, Expected::Any, events.clone()).await.unwrap(), first);
    let second = log.append(&stream, Expected::Any, new_events("second", 2)).await.unwrap();
    assert_eq!(second.last_revision, 3);
    assert_eq!(log.append(&stream, Expected::Any, new_events("second", 2)).await.unwrap(), second);
    assert_eq!(stream_of(&log, &stream).await.len(), 4);
}

/// An empty append writes nothing and conflicts as any other would.
pub async fn an_empty_append_is_a_check(factory: &dyn Factory) {
    let log = factory.open().await;
    let stream = StreamName::new(&factory.scope(), "empty");
    log.append(&stream, Expected::NoStream, Vec::new()).await.unwrap();
    log.append(&stream, Expected::Any, Vec::new()).await.unwrap();
    assert_eq!(conflict(&log, &stream, Expected::Exact(0), Vec::new()).await, None);
    assert_eq!(log.stream_head(&stream).await.unwrap(), None);

    let appended = log.append(&stream, Expected::NoStream, new_events("x", 2)).await.unwrap();
    assert_eq!(log.append(&stream, Expected::Exact(1), Vec::new()).await.unwrap(), appended);
    assert_eq!(log.append(&stream, Expected::Any, Vec::new()).await.unwrap(), appended);
    assert_eq!(conflict(&log, &stream, Expected::NoStream, Vec::new()).await, Some(1));
    assert_eq!(conflict(&log, &stream, Expected::Exact(0), Vec::new()).await, Some(1));
    assert_eq!(stream_of(&log, &stream).await.len(), 2);
}

/// Bytes, types and names come back as they were given.
pub async fn what_was_given_is_stored(factory: &dyn Factory) {
    let log = factory.open().await;
    let stream = StreamName::new(&factory.scope(), "naïve – 市場 – a-b-c");
    let big = format!(r#"{{"text":"{}"}}"#, "ü".repeat(100_000));
    let documents = ["{}", r#"{"a":[1,2.50,null,"\u0000"]}"#, "[]", "null", &big];
    let events: Vec<_> = documents
        .iter()
        .enumerate()
        .map(|(n, document)| NewEvent {
            data: document.as_bytes().to_vec(),
            metadata: documents[documents.len() - 1 - n].as_bytes().to_vec().into(),
            ..new_event(format!("document/{n}"), ["Happened", "Ereignis – ü"][n % 2])
        })
        .collect();
    log.append(&stream, Expected::NoStream, events.clone()).await.unwrap();
    let stored = stream_of(&log, &stream).await;
    assert_eq!(stored.len(), events.len());
    for (revision, (stored, given)) in (0..).zip(stored.iter().zip(&events)) {
        assert_eq!((stored.id, &stored.event_type, &stored.stream), (given.id, &given.event_type, &stream));
        assert_eq!((&stored.data[..], &stored.metadata[..]), (&given.data[..], &given.metadata[..]));
        assert_eq!(stored.revision, revision);
        assert_eq!(stored.recorded_at.timestamp_subsec_nanos() % 1_000, 0, "whole microseconds");
    }
    assert_eq!(all_of(&log, Filter { stream: Some(stream), ..Filter::all() }).await, stored);
}

/// In the order of positions time does not go back, whatever the clock does.
pub async fn recorded_at_never_goes_back(factory: &dyn Factory) {
    let log = factory.open().await;
    let scope = factory.scope();
    for n in 0..50 {
        write(&log, &StreamName::new(&scope, n % 5), new_events(&n.to_string(), 1)).await;
    }
    let events = all_of(&log, Filter::categories([&scope])).await;
    assert_eq!(events.len(), 50);
    assert!(events.is_sorted_by_key(|event| event.recorded_at));
}
