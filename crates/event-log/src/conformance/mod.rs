//! What every adapter has to do, as one async function per property. They panic where an adapter fails.
//!
//! An adapter's tests make a [`Factory`] and say `souk_event_log::conformance_tests!(factory)`. The properties rely on
//! nothing but the port; all but [`appends::positions_are_gapless`] also hold where positions have gaps and others
//! write to the same server.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "the properties are tests that live in a library"
)]

pub mod appends;
pub mod handles;
pub mod reads;
pub mod subscriptions;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt};
use uuid::Uuid;

use crate::{
    Direction, EventLog, Expected, Filter, Message, NewEvent, Position, Recorded, StreamName, Subscription,
};

/// Makes handles of one log, which no other test uses.
#[async_trait]
pub trait Factory: Send + Sync + 'static {
    /// A handle of its own, as another process would have it. The first call makes the log.
    async fn open(&self) -> Arc<dyn EventLog>;

    /// A word that begins the categories the test writes to. Where logs outlive a test, each run needs another.
    fn scope(&self) -> String {
        "run".into()
    }
}

/// A test for each property, over a fresh factory each.
#[macro_export]
macro_rules! conformance_tests {
    ($factory:expr) => {
        $crate::conformance_tests! { $factory =>
            appends: positions_are_gapless, expected_revisions_hold, an_append_is_all_or_nothing, one_of_many_wins,
                repeated_appends_are_idempotent, repeats_without_expectation, an_empty_append_is_a_check,
                what_was_given_is_stored, recorded_at_never_goes_back;
            reads: a_stream_reads_both_ways, the_log_reads_both_ways, nothing_reads_as_nothing, long_reads_are_complete;
            subscriptions: catch_up_meets_live, checkpoints_pass_what_was_left_out, caught_up_is_told,
                a_slow_subscriber_misses_nothing, one_stream_can_be_followed, nobody_follows_from_beyond_the_end;
            handles: handles_share_one_log, exact_revisions_hold_between_handles, a_log_outlives_its_handles;
        }
    };
    ($factory:expr => $($module:ident: $($property:ident),+;)+) => {
        $($(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $property() {
                $crate::conformance::$module::$property(&$factory).await;
            }
        )+)+
    };
}

/// How long anything may take before a test gives up on it.
const PATIENCE: Duration = Duration::from_mins(1);

fn new_event(name: impl AsRef<str>, event_type: &str) -> NewEvent {
    let name = name.as_ref();
    NewEvent {
        id: Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes()),
        event_type: event_type.into(),
        data: format!(r#"{{"name":"{name}"}}"#).into_bytes(),
        metadata: br#"{"schemaVersion":1}"#.to_vec().into(),
    }
}

/// As many events as asked for, with ids that derive from the name.
fn new_events(name: &str, count: usize) -> Vec<NewEvent> {
    (0..count).map(|index| new_event(format!("{name}/{index}"), "Happened")).collect()
}

fn ids(events: &[NewEvent]) -> Vec<Uuid> {
    events.iter().map(|event| event.id).collect()
}

fn stored_ids(events: &[Arc<Recorded>]) -> Vec<Uuid> {
    events.iter().map(|event| event.id).collect()
}

async fn stream_of(log: &Arc<dyn EventLog>, stream: &StreamName) -> Vec<Arc<Recorded>> {
    log.read_stream(stream, 0, Direction::Forward, usize::MAX).try_collect().await.unwrap()
}

async fn all_of(log: &Arc<dyn EventLog>, filter: Filter) -> Vec<Arc<Recorded>> {
    log.read_all(0, filter, Direction::Forward, usize::MAX).try_collect().await.unwrap()
}

/// Appends at whatever revision the stream has; with retries, as several handles may write.
async fn write(log: &Arc<dyn EventLog>, stream: &StreamName, events: Vec<NewEvent>) -> Position {
    log.append(stream, Expected::Any, events).await.expect("an append without expectation succeeds").position
}

async fn next(subscription: &mut Subscription) -> Message {
    tokio::time::timeout(PATIENCE, subscription.next())
        .await
        .expect("the subscription says something in time")
        .expect("a subscription does not end")
        .expect("the subscription works")
}

/// Follows until the position is covered, checking the order on the way; the events, and how often it went live.
async fn follow(subscription: &mut Subscription, until: Position) -> (Vec<Arc<Recorded>>, usize) {
    let (mut events, mut live, mut covered): (Vec<Arc<Recorded>>, _, _) = (Vec::new(), 0, None);
    while covered < Some(until) {
        match next(subscription).await {
            Message::Event(event) => {
                assert!(covered < Some(event.position), "{covered:?} was covered before {event:?}");
                covered = Some(event.position);
                events.push(event);
            }
            Message::Checkpoint(position) => {
                assert!(
                    covered < Some(position),
                    "{covered:?} was covered before a checkpoint at {position}"
                );
                covered = Some(position);
            }
            Message::CaughtUp => live += 1,
        }
    }
    (events, live)
}
