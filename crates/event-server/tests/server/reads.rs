//! Reads that come to an end: where they begin, what metadata hide, what filters let through.

use std::sync::atomic::Ordering;

use souk_event_server::wire::streams::{
    ProposedMessage, append_resp,
    read_req::{Expression, FilterOptions, UuidOption, filter_options, uuid_option},
    read_resp::Content,
};
use tonic::Code;

use crate::support::{
    ANY, Changed, FromPosition, FromRevision, NO_STREAM, Server, all, all_from, at, event, number, position,
    recorded, stream, stream_from, typed,
};

fn positions(contents: &[Content]) -> Vec<String> {
    let others = contents.iter().filter(|content| recorded(content).is_none());
    others.map(|content| format!("{content:?}")).collect()
}

#[tokio::test]
async fn a_stream_is_read_from_any_place_in_both_directions() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.add("a-1", 0..3).await;
    client.add("other-1", [100]).await;
    client.add("a-1", 3..5).await;
    let from = |revision| stream_from("a-1", FromRevision::Revision(revision));
    let end = || stream_from("a-1", FromRevision::End(()));
    assert_eq!(client.numbers(stream("a-1")).await, [0, 1, 2, 3, 4]);
    assert_eq!(client.numbers(from(3)).await, [3, 4]);
    assert_eq!(client.numbers(from(1).count(2)).await, [1, 2]);
    assert_eq!(client.numbers(from(3).backwards()).await, [3, 2, 1, 0]);
    assert_eq!(client.numbers(end().backwards().count(2)).await, [4, 3]);
    assert_eq!(client.numbers(stream("a-1").backwards()).await, [0]);
    assert_eq!(client.numbers(stream("a-1").count(0)).await, [0_u64; 0]);
    for (options, expected) in [
        (from(3), vec!["LastStreamPosition(4)"]),
        (from(9), vec!["FirstStreamPosition(5)", "LastStreamPosition(4)"]),
        (end(), vec!["LastStreamPosition(4)"]),
        (end().backwards(), vec!["LastStreamPosition(4)"]),
    ] {
        let contents = client.read(options).await.unwrap();
        assert_eq!(positions(&contents), expected);
    }
    let mut old = from(9);
    old.control_option = None;
    assert_eq!(client.read(old).await.unwrap(), [], "older clients do not know these messages");
    let contents = client.read(stream("a-2")).await.unwrap();
    assert!(matches!(contents.as_slice(), [Content::StreamNotFound(_)]), "{contents:?}");
}

#[tokio::test]
async fn everything_is_read_from_any_position_in_both_directions() {
    let server = Server::start().await;
    let mut client = server.client().await;
    assert_eq!(client.numbers(all()).await, [0_u64; 0]);
    assert_eq!(client.add("a-1", 0..3).await, 2);
    assert_eq!(client.add("b-1", 3..5).await, 4);
    let end = || all_from(FromPosition::End(()));
    assert_eq!(client.numbers(all()).await, [0, 1, 2, 3, 4]);
    assert_eq!(client.numbers(all_from(at(3))).await, [3, 4]);
    assert_eq!(client.numbers(all_from(at(0)).count(1)).await, [0]);
    assert_eq!(client.numbers(end()).await, [0_u64; 0]);
    assert_eq!(client.numbers(end().backwards().count(2)).await, [4, 3]);
    // Backwards, what stands at the position is not read.
    assert_eq!(client.numbers(all_from(at(3)).backwards()).await, [2, 1, 0]);
    assert_eq!(client.numbers(all_from(at(0)).backwards()).await, [0_u64; 0]);
    assert_eq!(client.numbers(all().backwards()).await, [0_u64; 0]);
    assert_eq!(client.numbers(all_from(at(u64::MAX)).backwards().count(1)).await, [4]);
}

fn filter(subject: filter_options::Subject) -> FilterOptions {
    FilterOptions { subject: Some(subject), window: None, checkpoint_interval_multiplier: 1 }
}

fn regex(regex: &str) -> Expression {
    Expression { regex: regex.to_owned(), prefix: vec![] }
}

fn prefixes(prefixes: &[&str]) -> Expression {
    Expression { regex: String::new(), prefix: prefixes.iter().map(ToString::to_string).collect() }
}

#[tokio::test]
async fn everything_is_read_through_filters() {
    use filter_options::Subject::{EventType, StreamIdentifier};
    let server = Server::start().await;
    let mut client = server.client().await;
    for (number, stream, event_type) in [
        (0, "order-1", "OrderPlaced"),
        (1, "orders", "OrderPlaced"),
        (2, "item-1", "ItemListed"),
        (3, "order-2", "OrderPaid"),
        (4, "item-1", "PriceChanged"),
    ] {
        client.append(stream, ANY, [typed(number, event_type)]).await.unwrap();
    }
    client.describe("item-1", "{}").await;
    for (subject, expected) in [
        (StreamIdentifier(prefixes(&["order-"])), vec![0, 3]),
        (StreamIdentifier(prefixes(&["order"])), vec![0, 1, 3]),
        (StreamIdentifier(regex("^item-|^orders$")), vec![1, 2, 4]),
        (EventType(prefixes(&["Order", "Price"])), vec![0, 1, 3, 4]),
        (EventType(regex("^(?!Order|\\$).*")), vec![2, 4]),
        (EventType(regex("^(OrderPaid|PriceChanged)$")), vec![3, 4]),
    ] {
        let options = all().filtered(filter(subject.clone()));
        assert_eq!(client.numbers(options).await, expected, "{subject:?}");
        let backwards = all_from(FromPosition::End(())).backwards().filtered(filter(subject.clone()));
        let two: Vec<u64> = expected.iter().rev().take(2).copied().collect();
        assert_eq!(client.numbers(backwards.count(2)).await, two, "{subject:?}");
    }
    let refused = [
        all().filtered(filter(EventType(regex("(")))),
        all().filtered(filter(EventType(prefixes(&[])))),
        stream("item-1").filtered(filter(EventType(regex(".")))),
    ];
    for options in refused {
        assert_eq!(client.open(options).await.unwrap_err().code(), Code::InvalidArgument);
    }
}

#[tokio::test]
async fn metadata_hide_old_events() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.add("a-1", 0..6).await;
    for (json, expected) in [
        (r#"{"$maxCount":2}"#, vec![4, 5]),
        (r#"{"$tb":3}"#, vec![3, 4, 5]),
        (r#"{"$tb":1,"$maxCount":4}"#, vec![2, 3, 4, 5]),
        (r#"{"$tb":6}"#, vec![]),
        (r#"{"$maxCount":100,"$maxAge":1000,"$acl":{}}"#, vec![0, 1, 2, 3, 4, 5]),
        (r#"{"$maxCount":"no number"}"#, vec![0, 1, 2, 3, 4, 5]),
    ] {
        client.describe("a-1", json).await;
        assert_eq!(client.numbers(stream("a-1")).await, expected, "{json}");
        let backwards = stream_from("a-1", FromRevision::End(())).backwards();
        let reversed: Vec<u64> = expected.iter().rev().copied().collect();
        assert_eq!(client.numbers(backwards).await, reversed, "{json}");
        assert_eq!(client.numbers(all()).await.len(), 6, "all of them are in $all");
    }
    client.describe("a-1", r#"{"$tb":4}"#).await;
    let contents = client.read(stream("a-1").count(1)).await.unwrap();
    assert_eq!(positions(&contents), ["FirstStreamPosition(4)", "LastStreamPosition(5)"]);
    assert_eq!(contents.iter().find_map(number), Some(4));
    // Of the metadata themselves only the last are there.
    let metadata = client.read(stream("$$a-1")).await.unwrap();
    let [data] = metadata.iter().filter_map(recorded).map(|event| &event.data).collect::<Vec<_>>()[..] else {
        panic!("{metadata:?}")
    };
    assert_eq!(data, br#"{"$tb":4}"#);
}

#[tokio::test]
async fn events_past_their_age_are_hidden() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.add("a-1", [0, 1]).await;
    server.now.fetch_add(100, Ordering::Relaxed);
    client.add("a-1", [2]).await;
    client.describe("a-1", r#"{"$maxAge":100}"#).await;
    assert_eq!(client.numbers(stream("a-1")).await, [0, 1, 2]);
    server.now.fetch_add(1, Ordering::Relaxed);
    assert_eq!(client.numbers(stream("a-1")).await, [2]);
    server.now.fetch_add(100, Ordering::Relaxed);
    let contents = client.read(stream("a-1")).await.unwrap();
    assert_eq!(positions(&contents), ["FirstStreamPosition(3)", "LastStreamPosition(2)"]);
}

#[tokio::test]
async fn what_others_write_comes_back_as_they_wrote_it() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let foreign = |number, content_type: &str, data: &[u8], custom_metadata: &[u8]| {
        let mut event = event(number);
        event.metadata.insert("content-type".into(), content_type.into());
        ProposedMessage { data: data.to_vec(), custom_metadata: custom_metadata.to_vec(), ..event }
    };
    let events = [
        foreign(1, "application/json", br#"{"a":[1,2]}"#, br#"{"actor":"import"}"#),
        foreign(2, "application/json", b"", b""),
        foreign(3, "application/octet-stream", b"\x00\xff\x01", b"\xfe"),
    ];
    client.append("a-1", NO_STREAM, events.clone()).await.unwrap();
    let mut structured = stream("a-1");
    structured.uuid_option = Some(UuidOption { content: Some(uuid_option::Content::Structured(())) });
    let contents = client.read(stream("a-1")).await.unwrap();
    let shown: Vec<_> = contents.iter().filter_map(recorded).collect();
    for (wrote, read) in events.iter().zip(&shown) {
        assert_eq!((&wrote.data, &wrote.custom_metadata), (&read.data, &read.custom_metadata));
        assert_eq!(wrote.metadata["content-type"], read.metadata["content-type"]);
        assert_eq!(wrote.metadata["type"], read.metadata["type"]);
        assert_eq!(wrote.id, read.id);
    }
    assert_eq!(shown.len(), 3);
    let contents = client.read(structured).await.unwrap();
    assert!(recorded(&contents[0]).unwrap().id != events[0].id, "structured, as asked for");
}

#[tokio::test]
async fn an_empty_append_says_where_the_stream_is() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let nothing = client.append("a-1", NO_STREAM, []).await.unwrap();
    let append_resp::Result::Success(success) = nothing else { panic!("{nothing:?}") };
    assert!(format!("{success:?}").contains("NoStream"), "{success:?}");
    let at = client.add("a-1", [1, 2]).await;
    assert_eq!(position(&client.append("a-1", ANY, []).await.unwrap()), at);
}
