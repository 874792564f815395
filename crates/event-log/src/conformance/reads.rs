//! Reading: directions, limits, filters.

use std::sync::Arc;

use futures::TryStreamExt;

use super::{Factory, all_of, new_event, new_events, stored_ids, stream_of, write};
use crate::{Direction, EventLog, Expected, Filter, Recorded, StreamName};

async fn read_stream(
    log: &Arc<dyn EventLog>,
    stream: &StreamName,
    from: u64,
    direction: Direction,
    limit: usize,
) -> Vec<u64> {
    let events: Vec<_> = log.read_stream(stream, from, direction, limit).try_collect().await.unwrap();
    assert!(events.iter().all(|event: &Arc<Recorded>| event.stream == *stream));
    events.iter().map(|event| event.revision).collect()
}

/// From any revision, in both directions, with any limit.
pub async fn a_stream_reads_both_ways(factory: &dyn Factory) {
    let log = factory.open().await;
    let scope = factory.scope();
    let stream = StreamName::new(&scope, "read");
    for n in 0..10 {
        write(&log, &stream, new_events(&format!("mine/{n}"), 1)).await;
        write(&log, &StreamName::new(&scope, "reader"), new_events(&format!("other/{n}"), 2)).await;
    }
    let (forward, backward) = (Direction::Forward, Direction::Backward);
    assert_eq!(read_stream(&log, &stream, 0, forward, usize::MAX).await, (0..10).collect::<Vec<_>>());
    assert_eq!(read_stream(&log, &stream, 7, forward, usize::MAX).await, [7, 8, 9]);
    assert_eq!(read_stream(&log, &stream, 3, forward, 2).await, [3, 4]);
    assert_eq!(read_stream(&log, &stream, 10, forward, 5).await, [0; 0]);
    assert_eq!(read_stream(&log, &stream, 0, forward, 0).await, [0; 0]);
    assert_eq!(
        read_stream(&log, &stream, u64::MAX, backward, usize::MAX).await,
        (0..10).rev().collect::<Vec<_>>()
    );
    assert_eq!(read_stream(&log, &stream, u64::MAX, backward, 1).await, [9]);
    assert_eq!(read_stream(&log, &stream, 4, backward, 3).await, [4, 3, 2]);
    assert_eq!(read_stream(&log, &stream, 0, backward, 5).await, [0]);
}

/// Each filter, from several positions, with several limits, in both directions, against a plain reading of it all.
pub async fn the_log_reads_both_ways(factory: &dyn Factory) {
    let log = factory.open().await;
    let scope = factory.scope();
    let (left, right) = (format!("{scope}Left"), format!("{scope}Right"));
    for n in 0..60 {
        let stream = StreamName::new(if n % 3 == 0 { &left } else { &right }, n % 7);
        let event_type = ["Opened", "Changed", "Closed"][n % 4 % 3];
        write(&log, &stream, vec![new_event(format!("{n}"), event_type)]).await;
    }
    let ours = Filter::categories([&left, &right]);
    let everything = all_of(&log, ours.clone()).await;
    assert_eq!(everything.len(), 60);
    let filters = [
        ours.clone(),
        Filter::categories([&left]),
        Filter::categories([&left, &format!("{scope}Unknown")]),
        Filter { event_types: vec!["Changed".into(), "Closed".into()], ..ours.clone() },
        Filter { event_types: vec!["Closed".into()], ..Filter::categories([&right]) },
        Filter { event_types: vec!["Never".into()], ..ours.clone() },
        Filter::categories([format!("{scope}Unknown")]),
        // A category is not a prefix.
        Filter::categories([&scope]),
        Filter { stream: Some(StreamName::new(&left, 3)), ..Filter::all() },
        Filter {
            stream: Some(StreamName::new(&right, 4)),
            event_types: vec!["Opened".into()],
            ..Filter::all()
        },
        Filter { stream: Some(StreamName::new(&right, 4)), ..Filter::categories([&left]) },
        Filter { stream: Some(StreamName::new(&right, "unknown")), ..Filter::all() },
    ];
    let mut found = 0;
    for filter in filters {
        for from in [0, everything[0].position, everything[17].position, everything[59].position] {
            for limit in [1, 4, 1_000] {
                let expected: Vec<_> = everything
                    .iter()
                    .filter(|event| event.position >= from && filter.matches(event))
                    .take(limit)
                    .cloned()
                    .collect();
                let read: Vec<_> = log
                    .read_all(from, filter.clone(), Direction::Forward, limit)
                    .try_collect()
                    .await
                    .unwrap();
                assert_eq!(read, expected, "{filter:?} from {from}, {limit} at most");
                found += read.len();
            }
        }
        for from in [u64::MAX, everything[59].position, everything[17].position, everything[0].position] {
            for limit in [1, 4, 1_000] {
                let expected: Vec<_> = everything
                    .iter()
                    .rev()
                    .filter(|event| event.position <= from && filter.matches(event))
                    .take(limit)
                    .cloned()
                    .collect();
                let read: Vec<_> = log
                    .read_all(from, filter.clone(), Direction::Backward, limit)
                    .try_collect()
                    .await
                    .unwrap();
                assert_eq!(read, expected, "{filter:?} back from {from}, {limit} at most");
                found += read.len();
            }
        }
    }
    assert!(found > 500, "the filters left almost everything out");
}

/// Streams that do not exist are empty.
pub async fn nothing_reads_as_nothing(factory: &dyn Factory) {
    let log = factory.open().await;
    let scope = factory.scope();
    let stream = StreamName::new(&scope, "nothing");
    for _ in 0..2 {
        assert_eq!(stream_of(&log, &stream).await, []);
        assert_eq!(read_stream(&log, &stream, u64::MAX, Direction::Backward, 10).await, [0; 0]);
        assert_eq!(log.stream_head(&stream).await.unwrap(), None);
        assert_eq!(all_of(&log, Filter { stream: Some(stream.clone()), ..Filter::all() }).await, []);
        assert_eq!(all_of(&log, Filter::categories([format!("{scope}Nothing")])).await, []);
        let position = write(&log, &StreamName::new(&scope, "something"), new_events("something", 1)).await;
        assert!(log.head().await.unwrap() >= Some(position));
        let beyond = log.read_all(u64::MAX, Filter::all(), Direction::Forward, 10);
        assert_eq!(beyond.try_collect::<Vec<_>>().await.unwrap(), []);
    }
}

/// Readings that are longer than anything an adapter reads at once.
pub async fn long_reads_are_complete(factory: &dyn Factory) {
    const EVENTS: usize = 12_500;
    let log = factory.open().await;
    let scope = factory.scope();
    let (busy, rare) =
        (StreamName::new(&format!("{scope}Long"), 1), StreamName::new(&format!("{scope}Rare"), 1));
    for n in 0..EVENTS / 500 {
        let expected =
            (n * 500).checked_sub(1).map_or(Expected::NoStream, |last| Expected::Exact(last as u64));
        log.append(&busy, expected, new_events(&n.to_string(), 500)).await.unwrap();
        if n % 10 == 0 {
            write(&log, &rare, new_events(&format!("rare/{n}"), 1)).await;
        }
    }
    let forward = stream_of(&log, &busy).await;
    assert!((0..).zip(&forward).all(|(revision, event)| event.revision == revision));
    assert_eq!(forward.len(), EVENTS);
    for limit in [63, 64, 65, 1_000, 1_001, 2_345] {
        let part: Vec<_> =
            log.read_stream(&busy, 1_000, Direction::Forward, limit).try_collect().await.unwrap();
        assert_eq!(part, forward[1_000..1_000 + limit]);
    }
    let mut backward: Vec<_> =
        log.read_stream(&busy, u64::MAX, Direction::Backward, usize::MAX).try_collect().await.unwrap();
    backward.reverse();
    assert_eq!(backward, forward);

    let filter = Filter::categories([busy.category(), rare.category()]);
    let all = all_of(&log, filter.clone()).await;
    assert_eq!(all.len(), EVENTS + 3);
    assert!(all.is_sorted_by(|a, b| a.position < b.position));
    let mut backward: Vec<_> =
        log.read_all(u64::MAX, filter, Direction::Backward, usize::MAX).try_collect().await.unwrap();
    backward.reverse();
    assert_eq!(backward, all);

    let of_stream = Filter { stream: Some(busy.clone()), ..Filter::all() };
    assert_eq!(stored_ids(&all_of(&log, of_stream.clone()).await), stored_ids(&forward));
    let from = forward[6_000].position;
    let part: Vec<_> =
        log.read_all(from, of_stream.clone(), Direction::Forward, 3_000).try_collect().await.unwrap();
    assert_eq!(part, forward[6_000..9_000]);
    let mut part: Vec<_> =
        log.read_all(from, of_stream, Direction::Backward, 3_000).try_collect().await.unwrap();
    part.reverse();
    assert_eq!(part, forward[3_001..=6_000]);
    assert_eq!(all_of(&log, Filter::categories([rare.category()])).await, stream_of(&log, &rare).await);
    // A reader that has enough just stops.
    let mut dropped = log.read_all(0, Filter::all(), Direction::Forward, usize::MAX);
    assert!(dropped.try_next().await.unwrap().is_some());
}
