//! Appends against what is expected, soft deletions and tombstones, and what is never deleted.

use souk_event_server::wire::streams::{
    append_resp,
    append_resp::wrong_expected_version::{Current, Expected as Believed},
    read_resp::Content,
    target::Expected,
};
use tonic::Code;

use crate::support::{
    ANY, Changed, EXISTS, NO_STREAM, Server, all, event, exception, position, stream, typed,
};

fn conflict(result: &append_resp::Result) -> (Current, Believed) {
    let append_resp::Result::WrongExpectedVersion(conflict) = result else { panic!("{result:?}") };
    (conflict.current.unwrap(), conflict.expected.unwrap())
}

#[tokio::test]
async fn appends_are_checked_against_what_is_expected_and_repeat_safely() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let none = client.append("a-1", EXISTS, [event(1)]).await.unwrap();
    assert_eq!(conflict(&none), (Current::CurrentNoStream(()), Believed::ExpectedStreamExists(())));
    let first = client.append("a-1", NO_STREAM, [event(1), event(2)]).await.unwrap();
    let again = client.append("a-1", NO_STREAM, [event(1), event(2)]).await.unwrap();
    assert_eq!(first, again);
    let other = client.append("a-1", NO_STREAM, [event(3)]).await.unwrap();
    assert_eq!(conflict(&other), (Current::CurrentRevision(1), Believed::ExpectedNoStream(())));
    let exact = client.append("a-1", Expected::Revision(0), [event(3)]).await.unwrap();
    assert_eq!(conflict(&exact), (Current::CurrentRevision(1), Believed::ExpectedRevision(0)));
    let exists = client.append("a-1", EXISTS, [event(3)]).await.unwrap();
    assert_eq!(client.append("a-1", EXISTS, [event(3)]).await.unwrap(), exists);
    assert_eq!(position(&exists), 2);
    assert_eq!(client.numbers(stream("a-1")).await, [1, 2, 3]);
    // Streams of the market's own go the same way.
    let none = client.append("order-1", EXISTS, [event(4)]).await.unwrap();
    assert_eq!(conflict(&none), (Current::CurrentNoStream(()), Believed::ExpectedStreamExists(())));
    client.append("order-1", NO_STREAM, [event(4)]).await.unwrap();
    client.append("order-1", EXISTS, [event(5)]).await.unwrap();
    assert_eq!(client.numbers(stream("order-1")).await, [4, 5]);
}

#[tokio::test]
async fn a_stream_that_is_deleted_may_begin_again_behind_what_is_hidden() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.add("a-1", 0..3).await;
    let wrong = client.delete("a-1", Expected::Revision(7)).await.unwrap_err();
    assert_eq!((wrong.code(), exception(&wrong)), (Code::FailedPrecondition, "wrong-expected-version"));
    let text =
        "Delete failed due to WrongExpectedVersion. Stream: a-1, Expected version: 7, Actual version: 2";
    assert_eq!(wrong.message(), text, "clients match on it");
    assert!(client.delete("a-2", EXISTS).await.is_err());
    for expectation in [Expected::Revision(2), ANY] {
        client.delete("a-1", expectation).await.unwrap();
        let contents = client.read(stream("a-1")).await.unwrap();
        assert!(matches!(contents.as_slice(), [Content::StreamNotFound(_)]), "{contents:?}");
    }
    let gone = client.append("a-1", EXISTS, [event(3)]).await.unwrap();
    assert_eq!(conflict(&gone).0, Current::CurrentNoStream(()));
    client.append("a-1", NO_STREAM, [event(3)]).await.unwrap();
    assert_eq!(client.numbers(stream("a-1")).await, [3]);
    client.add("a-1", [4]).await;
    assert_eq!(client.numbers(stream("a-1")).await, [3, 4]);
    // New metadata bring back the stream, not what was in it.
    client.delete("a-1", ANY).await.unwrap();
    client.describe("a-1", r#"{"$maxCount":10}"#).await;
    assert_eq!(client.numbers(stream("a-1")).await, [0_u64; 0]);
    client.add("a-1", [5]).await;
    assert_eq!(client.numbers(stream("a-1")).await, [5]);
    let numbers = client.numbers(all()).await;
    assert_eq!(numbers, [0, 1, 2, 3, 4, 5], "all of them are in $all");
}

#[tokio::test]
async fn a_tombstone_is_for_good() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.add("a-1", 0..2).await;
    let mut live = client.open(stream("a-1").live()).await.unwrap();
    client.tombstone("a-1", Expected::Revision(1)).await.unwrap();
    client.tombstone("never-1", NO_STREAM).await.unwrap();
    for name in ["a-1", "$$a-1", "never-1"] {
        // At the call, before there is any message.
        for options in [stream(name), stream(name).live()] {
            let refused = client.open(options).await.unwrap_err();
            assert_eq!((refused.code(), exception(&refused)), (Code::FailedPrecondition, "stream-deleted"));
            assert_eq!(
                refused.message(),
                format!("Event stream '{name}' is deleted."),
                "clients match on it"
            );
        }
        let refused = client.append(name, ANY, [event(9)]).await.unwrap_err();
        assert_eq!((refused.code(), exception(&refused)), (Code::FailedPrecondition, "stream-deleted"));
    }
    assert_eq!(exception(&client.delete("a-1", ANY).await.unwrap_err()), "stream-deleted");
    assert_eq!(exception(&client.tombstone("a-1", ANY).await.unwrap_err()), "stream-deleted");
    let ended = loop {
        if let Err(ended) = crate::support::next(&mut live).await {
            break ended;
        }
    };
    assert_eq!(exception(&ended), "stream-deleted", "who follows the stream hears of it");
}

#[tokio::test]
async fn nobody_deletes_what_is_the_markets_own() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.add("order-1", [1]).await;
    let refusals = [
        client.delete("order-1", ANY).await.unwrap_err(),
        client.tombstone("order-1", ANY).await.unwrap_err(),
        client.delete("$$order-1", ANY).await.unwrap_err(),
        client.append("$$order-1", ANY, [typed(2, "$metadata")]).await.unwrap_err(),
        client.append("order-1", ANY, [typed(3, "$streamDeleted")]).await.unwrap_err(),
        client.append("a-1", ANY, [typed(4, "$streamDeleted")]).await.unwrap_err(),
    ];
    for refused in refusals {
        assert_eq!((refused.code(), exception(&refused)), (Code::PermissionDenied, "access-denied"));
    }
    assert_eq!(client.numbers(stream("order-1")).await, [1]);
}

#[tokio::test]
async fn the_append_that_begins_a_stream_again_repeats_safely() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.add("a-1", 0..3).await;
    client.delete("a-1", ANY).await.unwrap();
    let begun = client.append("a-1", NO_STREAM, [event(3)]).await.unwrap();
    assert_eq!(client.append("a-1", NO_STREAM, [event(3)]).await.unwrap(), begun);
    let other = client.append("a-1", NO_STREAM, [event(4)]).await.unwrap();
    assert_eq!(conflict(&other), (Current::CurrentRevision(3), Believed::ExpectedNoStream(())));
    // So does the first append of a stream whose oldest events are hidden.
    let first = client.append("a-2", NO_STREAM, [event(1), event(2)]).await.unwrap();
    client.describe("a-2", r#"{"$tb":1}"#).await;
    assert_eq!(client.append("a-2", NO_STREAM, [event(1), event(2)]).await.unwrap(), first);
    assert_eq!(client.numbers(stream("a-1")).await, [3]);
}
