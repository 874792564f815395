//! The event server of a market: the log, for clients of KurrentDB, with the market's accounts. The client here is the
//! adapter that a market uses itself.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{process::Stdio, sync::Arc};

use futures::StreamExt;
use souk_event_log::{
    AppendError, Direction, EventLog, Expected, Filter, KurrentLog, Message, NewEvent, StreamName,
};
use souk_tests::{Server, free_address};
use tokio::io::{AsyncBufReadExt, BufReader};
use uuid::Uuid;

const SERVICE: &str = "roles:0123456789abcdef";
const ANALYST: &str = "ana%40example.com:correct%20horse%20battery";

async fn connect(credentials: &str, address: &str) -> Result<Arc<KurrentLog>, String> {
    let address = format!("kurrentdb://{credentials}@{address}?tls=false");
    KurrentLog::connect(address.parse().unwrap()).await.map_err(|error| error.to_string())
}

fn note(number: u128, data: &[u8]) -> NewEvent {
    NewEvent {
        id: Uuid::from_u128(number),
        event_type: "NoteTaken".into(),
        data: data.to_vec(),
        metadata: b"{}".to_vec().into(),
    }
}

async fn streams(log: &KurrentLog) -> Vec<String> {
    let events = log.read_all(0, Filter::all(), Direction::Forward, 100);
    events.map(|event| event.unwrap().stream.to_string()).collect().await
}

#[tokio::test]
async fn analysts_read_and_the_markets_processes_append() {
    let address = free_address();
    let arguments =
        ["--event-server-listen", &address, "--allow-append", "--event-server-credential", SERVICE];
    let mut server = Server::with("{}", &arguments).await;
    let analyst = server.staff("ana", "analyst").await;
    server.buyer("ben").await;

    for nobody in
        ["", "ana%40example.com:wrong", "nobody%40example.com:correct%20horse%20battery", "roles:wrong"]
    {
        assert!(connect(nobody, &address).await.err().unwrap().contains("denies access"), "{nobody}");
    }
    let buyer = connect("ben%40example.com:correct%20horse%20battery", &address).await;
    assert!(buyer.err().unwrap().contains("denies access"), "a buyer does not read the log");

    let stream = StreamName::new("note", 1);
    let service = connect(SERVICE, &address).await.unwrap();
    let reader = connect(ANALYST, &address).await.unwrap();
    assert!(streams(&reader).await.iter().all(|stream| stream.starts_with("account-")));
    let refused = reader.append(&stream, Expected::NoStream, vec![note(1, b"{}")]).await;
    assert!(matches!(refused, Err(AppendError::Unavailable(_))), "{refused:?}");
    let events = vec![note(1, br#"{"text":"hello"}"#), note(2, b"\xff\x00 is no JSON")];
    let appended = service.append(&stream, Expected::NoStream, events).await.unwrap();
    let read = reader.read_stream(&stream, 0, Direction::Forward, 10).map(Result::unwrap);
    let data: Vec<_> = read.map(|event| event.data.clone()).collect().await;
    assert_eq!(data, [&br#"{"text":"hello"}"#[..], b"\xff\x00 is no JSON"]);

    // What is no JSON is shown as base64, here and over HTTP.
    let lines = server.run(&["events", "read", "--stream", "note-1", "--json"]).await;
    assert!(lines.contains(r#""data":"/wAgaXMgbm8gSlNPTg==""#), "{lines}");
    let over_http = analyst.get("/v1/events?stream=note-1").await.text;
    assert!(over_http.contains("/wAgaXMgbm8gSlNPTg=="), "{over_http}");
    server.run(&["events", "verify"]).await;

    // The log alone, beside the market, for the same accounts.
    let mut alone = server.command(&["events", "serve", "--listen", "127.0.0.1:0"]);
    let mut alone = alone.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(alone.stdout.take().unwrap()).lines();
    let line = lines.next_line().await.unwrap().unwrap();
    let beside = connect(ANALYST, line.rsplit(' ').next().unwrap()).await.unwrap();
    assert_eq!(streams(&beside).await, streams(&reader).await);
    assert!(connect("", line.rsplit(' ').next().unwrap()).await.is_err());
    alone.kill().await.unwrap();

    // An open subscription does not keep the market from draining.
    let mut following = reader.subscribe(Some(appended.position), Filter::all());
    while !matches!(following.next().await, Some(Ok(Message::CaughtUp))) {}
    assert_eq!(server.stop().await, Some(0));
}
