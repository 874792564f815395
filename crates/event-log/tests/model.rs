//! Whatever is appended, the two embedded adapters answer and hold the same.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests say what they rely on by panicking")]

mod common;

use futures::TryStreamExt;
use proptest::prelude::*;
use souk_event_log::{
    AppendError, Appended, Direction, Envelope, EventLog, Expected, Filter, MemoryLog, NewEvent, Recorded,
    StreamName,
    sqlite::{Options, SqliteLog},
};
use uuid::Uuid;

/// Few streams and few ids, so that repeats, halves of repeats and conflicts come up all the time.
fn append() -> impl Strategy<Value = (u8, Expected, Vec<u8>)> {
    let expected =
        prop_oneof![Just(Expected::NoStream), (0..6_u64).prop_map(Expected::Exact), Just(Expected::Any),];
    (0..2_u8, expected, prop::collection::vec(0..5_u8, 0..4))
}

type Told = Result<Appended, Option<Option<u64>>>;

fn told(outcome: Result<Appended, AppendError>) -> Told {
    outcome.map_err(|error| match error {
        AppendError::Conflict { actual } => Some(actual),
        AppendError::Unavailable(_) | AppendError::Unknown(_) => None,
    })
}

fn comparable(event: &Recorded) -> (u64, StreamName, u64, Uuid) {
    (event.position, event.stream.clone(), event.revision, event.id)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_adapters_agree(appends in prop::collection::vec(append(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let directory = tempfile::tempdir().unwrap();
        runtime.block_on(async {
            let options = Options { clock: common::unsteady_clock(), ..Options::default() };
            let sqlite = SqliteLog::open(&directory.path().join("log"), options).unwrap();
            let memory = MemoryLog::new(common::unsteady_clock());
            for (stream, expected, ids) in appends {
                let stream = StreamName::new("stream", stream);
                let events: Vec<_> = ids
                    .into_iter()
                    .map(|id| NewEvent {
                        id: Uuid::from_u128(id.into()),
                        event_type: "E".into(),
                        data: vec![id],
                        metadata: Envelope::default(),
                    })
                    .collect();
                let stored = told(sqlite.append(&stream, expected, events.clone()).await);
                prop_assert_eq!(stored, told(memory.append(&stream, expected, events).await));
            }
            let read = |log: &dyn EventLog| log.read_all(0, Filter::all(), Direction::Forward, usize::MAX);
            let stored: Vec<_> = read(&*sqlite).try_collect().await.unwrap();
            let held: Vec<_> = read(&memory).try_collect().await.unwrap();
            let [stored, held] = [stored, held]
                .map(|events| events.iter().map(|event| comparable(event)).collect::<Vec<_>>());
            prop_assert_eq!(stored, held);
            Ok(())
        })?;
    }
}
