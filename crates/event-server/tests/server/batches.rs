//! Batch appends: each is answered under its own id, in pieces or whole, and a conflict is one append's own.

use futures::StreamExt;
use prost::Message;
use souk_event_server::wire::{
    StreamDeleted, Uuid as WireUuid, WrongExpectedVersion,
    streams::{
        BatchAppendReq, BatchAppendResp, ProposedMessage, batch_append_resp::Result as Outcome,
        target::Expected,
    },
    uuid::Value,
    wrong_expected_version::{Current, Expected as Believed},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Code, Status, Streaming};
use uuid::Uuid;

use crate::support::{ANY, Client, EXISTS, NO_STREAM, Server, event, stream, target};

fn id(number: u128) -> WireUuid {
    WireUuid { value: Some(Value::String(Uuid::from_u128(number).to_string())) }
}

fn request(
    number: u128,
    options: Option<(&str, Expected)>,
    events: impl IntoIterator<Item = ProposedMessage>,
    is_final: bool,
) -> BatchAppendReq {
    BatchAppendReq {
        correlation_id: Some(id(number)),
        options: options.map(|(stream, expected)| target(stream, expected)),
        proposed_messages: events.into_iter().collect(),
        is_final,
    }
}

async fn open(client: &mut Client) -> (mpsc::UnboundedSender<BatchAppendReq>, Streaming<BatchAppendResp>) {
    let (requests, received) = mpsc::unbounded_channel();
    let answers = client.0.batch_append(UnboundedReceiverStream::new(received)).await.unwrap();
    (requests, answers.into_inner())
}

async fn answer(answers: &mut Streaming<BatchAppendResp>) -> BatchAppendResp {
    answers.next().await.unwrap().unwrap()
}

/// Code and detail of a refusal.
fn refused(answer: BatchAppendResp) -> (Code, String, Vec<u8>) {
    let Some(Outcome::Error(status)) = answer.result else { panic!("{answer:?}") };
    let details = status.details.unwrap();
    let name = details.type_url.rsplit('.').next().unwrap().to_owned();
    (Code::from(status.code), name, details.value)
}

#[tokio::test]
async fn appends_are_answered_each_under_its_own_id() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let (requests, mut answers) = open(&mut client).await;
    // Each expects what the one before leaves, and none waits for the answer.
    for number in 0..20_u128 {
        let expected = number.checked_sub(1).map_or(NO_STREAM, |before| Expected::Revision(before as u64));
        requests.send(request(number, Some(("a-1", expected)), [event(number)], true)).unwrap();
    }
    let mut answered = Vec::new();
    for _ in 0..20 {
        let answer = answer(&mut answers).await;
        assert!(matches!(answer.result, Some(Outcome::Success(_))), "{answer:?}");
        assert_eq!(answer.stream_identifier.unwrap().stream_name, b"a-1");
        assert!(answer.expected.is_some());
        answered.push(answer.correlation_id.unwrap());
    }
    assert!((0..20).all(|number| answered.contains(&id(number))));
    assert_eq!(client.numbers(stream("a-1")).await, (0..20).collect::<Vec<u64>>());
    drop(requests);
    assert!(answers.next().await.is_none());
}

#[tokio::test]
async fn an_append_may_come_in_pieces() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let (requests, mut answers) = open(&mut client).await;
    requests.send(request(1, Some(("a-1", NO_STREAM)), [event(1)], false)).unwrap();
    requests.send(request(2, Some(("b-1", NO_STREAM)), [event(2)], true)).unwrap();
    assert_eq!(answer(&mut answers).await.correlation_id, Some(id(2)));
    requests.send(request(1, None, [event(3)], true)).unwrap();
    assert_eq!(answer(&mut answers).await.correlation_id, Some(id(1)));
    assert_eq!(client.numbers(stream("a-1")).await, [1, 3]);
}

#[tokio::test]
async fn a_refusal_is_one_appends_own() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.add("a-1", [1]).await;
    client.add("gone-1", [2]).await;
    client.tombstone("gone-1", ANY).await.unwrap();
    let (requests, mut answers) = open(&mut client).await;

    requests.send(request(1, Some(("a-1", NO_STREAM)), [event(3)], true)).unwrap();
    let (code, name, detail) = refused(answer(&mut answers).await);
    assert_eq!((code, &*name), (Code::AlreadyExists, "WrongExpectedVersion"));
    let conflict = WrongExpectedVersion::decode(&*detail).unwrap();
    assert_eq!(conflict.current, Some(Current::CurrentRevision(0)));
    assert_eq!(conflict.expected, Some(Believed::ExpectedNoStream(())));

    requests.send(request(2, Some(("b-1", EXISTS)), [event(3)], true)).unwrap();
    let (_, _, detail) = refused(answer(&mut answers).await);
    let conflict = WrongExpectedVersion::decode(&*detail).unwrap();
    assert_eq!(conflict.current, Some(Current::CurrentNoStream(())));

    requests.send(request(3, Some(("gone-1", ANY)), [event(3)], true)).unwrap();
    let (code, name, detail) = refused(answer(&mut answers).await);
    assert_eq!((code, &*name), (Code::NotFound, "StreamDeleted"));
    let deleted = StreamDeleted::decode(&*detail).unwrap();
    assert_eq!(deleted.stream_identifier.unwrap().stream_name, b"gone-1");

    let mut unnamed = event(3);
    unnamed.metadata.clear();
    requests.send(request(4, Some(("a-1", ANY)), [unnamed], true)).unwrap();
    let (code, name, _) = refused(answer(&mut answers).await);
    assert_eq!((code, &*name), (Code::InvalidArgument, "BadRequest"));

    requests.send(request(5, Some(("$$order-1", ANY)), [event(3)], true)).unwrap();
    let (code, name, _) = refused(answer(&mut answers).await);
    assert_eq!((code, &*name), (Code::PermissionDenied, "AccessDenied"));

    requests.send(request(6, Some(("", ANY)), [event(3)], true)).unwrap();
    assert_eq!(refused(answer(&mut answers).await).0, Code::InvalidArgument);

    requests.send(request(7, Some(("a-1", ANY)), [event(3)], true)).unwrap();
    assert!(matches!(answer(&mut answers).await.result, Some(Outcome::Success(_))));
    assert_eq!(client.numbers(stream("a-1")).await, [1, 3]);
}

#[tokio::test]
async fn a_server_that_stops_answers_what_it_took() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let (requests, mut answers) = open(&mut client).await;
    requests.send(request(1, Some(("a-1", NO_STREAM)), [event(1)], true)).unwrap();
    assert!(matches!(answer(&mut answers).await.result, Some(Outcome::Success(_))));
    let ((), ended): ((), Option<Result<BatchAppendResp, Status>>) =
        tokio::join!(server.stop(), answers.next());
    assert_eq!(ended.unwrap().unwrap_err().code(), Code::Unavailable);
    drop(requests);
}
