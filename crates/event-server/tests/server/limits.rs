//! What is too much: messages, appends, subscriptions, and readers that do not read.

use std::time::Duration;

use souk_event_log::{EventLog, Expected, NewEvent, StreamName};
use souk_event_server::wire::streams::{
    ProposedMessage, ReadReq, ReadResp, read_resp::Content, streams_client::StreamsClient,
};
use tonic::{Code, Status, Streaming};
use uuid::Uuid;

use crate::support::{
    ANY, Changed, FromPosition, Server, all, all_from, at, event, exception, next, recorded, stream,
};

fn large(number: u128, bytes: usize) -> ProposedMessage {
    // JSON, and of a size that is easy to tell.
    ProposedMessage { data: format!("\"{}\"", "x".repeat(bytes - 2)).into_bytes(), ..event(number) }
}

#[tokio::test]
async fn what_is_too_large_is_refused_and_what_is_not_goes_through() {
    let server = Server::start().await;
    let mut client = server.client().await;
    // In one message, and over several.
    for events in [vec![large(1, 18 << 20)], (0..5).map(|number| large(number, 4 << 20)).collect()] {
        let refused = client.append("a-1", ANY, events).await.unwrap_err();
        assert_eq!(
            (refused.code(), exception(&refused)),
            (Code::InvalidArgument, "maximum-append-size-exceeded")
        );
    }
    client.append("a-1", ANY, [large(6, 15 << 20)]).await.unwrap();
    let contents = client.read(stream("a-1")).await.unwrap();
    assert_eq!(recorded(&contents[0]).unwrap().data.len(), 15 << 20);
}

#[tokio::test]
async fn there_are_only_so_many_subscriptions() {
    let server = Server::with(|options| options.subscriptions = 2).await;
    let mut client = server.client().await;
    let mut first = client.open(all().live()).await.unwrap();
    let _second = client.open(all().live()).await.unwrap();
    next(&mut first).await.unwrap();
    assert_eq!(client.open(all().live()).await.unwrap_err().code(), Code::ResourceExhausted);
    assert!(client.read(all()).await.is_ok(), "reads are not subscriptions");
    drop(first);
    // The server hears of it soon.
    while client.open(all().live()).await.is_err() {}
}

#[tokio::test]
async fn from_one_place_come_only_so_many_connections() {
    let server = Server::with(|options| options.connections_from_one_place = 2).await;
    let mut connected = Vec::new();
    for _ in 0..2 {
        let mut client = server.client().await;
        client.read(all()).await.unwrap();
        connected.push(client);
    }
    let another = async || {
        let connected = StreamsClient::connect(format!("http://{}", server.address)).await;
        let options = Some(all());
        connected.map_err(|_| ())?.read(ReadReq { options }).await.map_err(|_| ())
    };
    assert!(another().await.is_err());
    connected[0].read(all()).await.unwrap();
    connected.pop();
    while another().await.is_err() {}
}

#[tokio::test]
async fn a_reader_that_does_not_read_is_dropped_and_can_go_on() {
    let server = Server::with(|options| {
        options.patience = Duration::from_millis(50);
        options.subscriptions = 1;
    })
    .await;
    let mut client = server.client().await;
    let mut subscription = client.open(all().live()).await.unwrap();
    let Content::Confirmation(_) = next(&mut subscription).await.unwrap() else { panic!("not confirmed") };
    // Far more than the connection and the server together hold for a reader.
    let stream = StreamName::new("a", 1);
    let count = 2_000;
    for number in 0..count {
        let data = format!(r#"{{"number":{number},"filler":"{}"}}"#, "x".repeat(16 << 10));
        let event = NewEvent {
            id: Uuid::from_u128(number.into()),
            event_type: "Happened".into(),
            data: data.into_bytes(),
            metadata: b"{}".to_vec().into(),
        };
        server.log.append(&stream, Expected::Any, vec![event]).await.unwrap();
    }
    // It reads nothing. Once it is dropped, there is room for another.
    let mut other = server.client().await;
    let other = loop {
        if let Ok(other) = other.open(all_from(FromPosition::End(())).live()).await {
            break other;
        }
    };
    drop(other);
    // What was under way still arrives, then the reason.
    let mut seen = Vec::new();
    let dropped = read_on(&mut subscription, &mut seen, count).await.expect_err("it was not dropped");
    assert_eq!(dropped.code(), Code::Unavailable, "{dropped:?}");
    assert!((seen.len() as u64) < count);
    // It goes on where it was, as often as need be.
    while (seen.len() as u64) < count {
        let from = all_from(at(*seen.last().unwrap()));
        if let Ok(mut subscription) = client.open(from.live()).await {
            let _ = read_on(&mut subscription, &mut seen, count).await;
        }
    }
    assert_eq!(seen, (0..count).collect::<Vec<u64>>());
}

/// Notes positions until there are so many, or the subscription ends.
async fn read_on(
    subscription: &mut Streaming<ReadResp>,
    seen: &mut Vec<u64>,
    until: u64,
) -> Result<(), Status> {
    while (seen.len() as u64) < until {
        if let Some(event) = recorded(&next(subscription).await?) {
            seen.push(event.commit_position);
        }
    }
    Ok(())
}
