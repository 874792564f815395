//! Subscriptions: catching up, live, from any place, with checkpoints; and how they end.

use souk_event_server::wire::streams::{
    read_req::{Expression, FilterOptions, filter_options},
    read_resp::{CaughtUp, Checkpoint, Content},
};
use tonic::{Code, Streaming};

use crate::support::{
    Changed, FromPosition, FromRevision, Server, all, all_from, at, next, number, stream, stream_from,
};

type Subscription = Streaming<souk_event_server::wire::streams::ReadResp>;

/// Short for each message: numbers of events, and what else is said.
async fn hear(subscription: &mut Subscription, messages: usize) -> Vec<String> {
    let mut heard = Vec::new();
    for _ in 0..messages {
        let content = next(subscription).await.unwrap();
        heard.push(match &content {
            Content::Confirmation(_) => "confirmed".to_owned(),
            Content::Checkpoint(Checkpoint { commit_position, .. }) => {
                format!("checkpoint {commit_position}")
            }
            Content::CaughtUp(CaughtUp { stream_revision: Some(revision), .. }) => {
                format!("caught up at revision {revision}")
            }
            Content::CaughtUp(CaughtUp { position: Some(position), .. }) => {
                format!("caught up at {}", position.commit_position)
            }
            Content::CaughtUp(_) => "caught up".to_owned(),
            event => number(event).unwrap().to_string(),
        });
    }
    heard
}

#[tokio::test]
async fn everything_from_anywhere() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let mut empty = client.open(all().live()).await.unwrap();
    assert_eq!(hear(&mut empty, 2).await, ["confirmed", "caught up"]);
    client.add("a-1", 0..3).await;
    assert_eq!(hear(&mut empty, 3).await, ["0", "1", "2"]);
    let mut from_start = client.open(all().live()).await.unwrap();
    assert_eq!(hear(&mut from_start, 5).await, ["confirmed", "0", "1", "2", "caught up at 2"]);
    // After the position, also after the very first.
    let mut from_first = client.open(all_from(at(0)).live()).await.unwrap();
    assert_eq!(hear(&mut from_first, 4).await, ["confirmed", "1", "2", "caught up at 2"]);
    let mut from_end = client.open(all_from(FromPosition::End(())).live()).await.unwrap();
    assert_eq!(hear(&mut from_end, 2).await, ["confirmed", "caught up at 2"]);
    client.add("b-1", [3]).await;
    for subscription in [&mut empty, &mut from_start, &mut from_first, &mut from_end] {
        assert_eq!(hear(subscription, 1).await, ["3"]);
    }
    let beyond = client.open(all_from(at(4)).live()).await.unwrap_err();
    assert_eq!(beyond.code(), Code::InvalidArgument, "that reader followed another log");
    assert!(client.open(all().live().backwards()).await.is_err());
}

#[tokio::test]
async fn a_stream_from_anywhere() {
    let server = Server::start().await;
    let mut client = server.client().await;
    // It need not be there yet.
    let mut early = client.open(stream("a-1").live()).await.unwrap();
    assert_eq!(hear(&mut early, 2).await, ["confirmed", "caught up"]);
    client.add("a-1", 0..2).await;
    client.add("other-1", [100]).await;
    client.add("a-1", [2]).await;
    assert_eq!(hear(&mut early, 3).await, ["0", "1", "2"]);
    let mut from_start = client.open(stream("a-1").live()).await.unwrap();
    assert_eq!(hear(&mut from_start, 5).await, ["confirmed", "0", "1", "2", "caught up at revision 2"]);
    let after = |revision| stream_from("a-1", FromRevision::Revision(revision)).live();
    let mut from_first = client.open(after(0)).await.unwrap();
    assert_eq!(hear(&mut from_first, 4).await, ["confirmed", "1", "2", "caught up at revision 2"]);
    let mut from_end = client.open(stream_from("a-1", FromRevision::End(())).live()).await.unwrap();
    assert_eq!(hear(&mut from_end, 2).await, ["confirmed", "caught up at revision 2"]);
    client.add("other-1", [101]).await;
    client.add("a-1", [3]).await;
    for subscription in [&mut early, &mut from_start, &mut from_first, &mut from_end] {
        assert_eq!(hear(subscription, 1).await, ["3"]);
    }
    client.describe("a-1", r#"{"$maxCount":1}"#).await;
    let mut short = client.open(stream("a-1").live()).await.unwrap();
    assert_eq!(hear(&mut short, 3).await, ["confirmed", "3", "caught up at revision 3"]);
    client.delete("a-1", crate::support::ANY).await.unwrap();
    let mut hidden = client.open(stream("a-1").live()).await.unwrap();
    assert_eq!(hear(&mut hidden, 2).await, ["confirmed", "caught up at revision 3"]);
    client.add("a-1", [4]).await;
    assert_eq!(hear(&mut hidden, 1).await, ["4"]);
}

fn only(prefix: &str, window: u32, multiplier: u32) -> FilterOptions {
    let expression = Expression { regex: String::new(), prefix: vec![prefix.to_owned()] };
    FilterOptions {
        subject: Some(filter_options::Subject::StreamIdentifier(expression)),
        window: Some(filter_options::Window::Max(window)),
        checkpoint_interval_multiplier: multiplier,
    }
}

#[tokio::test]
async fn checkpoints_tell_how_far_a_filtered_subscription_is() {
    let server = Server::start().await;
    let mut client = server.client().await;
    for round in 0..3 {
        client.add("noise-1", [100 + round * 2, 101 + round * 2]).await;
        client.add("a-1", [round]).await;
    }
    // Positions 2, 5 and 8 match; every fourth is told, and where it goes live.
    let mut subscription = client.open(all().live().filtered(only("a-", 2, 2))).await.unwrap();
    let heard = hear(&mut subscription, 7).await;
    let events: Vec<_> = heard.iter().filter(|heard| heard.len() == 1).collect();
    assert_eq!(events, ["0", "1", "2"]);
    assert_eq!((&*heard[0], &*heard[6]), ("confirmed", "caught up at 8"));
    assert_eq!(heard.iter().filter(|heard| heard.starts_with("checkpoint")).count(), 2, "{heard:?}");
    assert_eq!(heard[5], "checkpoint 8", "{heard:?}");
    // Live, too, though nothing of it matches.
    let last = client.add("noise-1", 200..204).await;
    assert_eq!(hear(&mut subscription, 1).await, [format!("checkpoint {last}")]);
    let mut resumed = client.open(all_from(at(last)).live().filtered(only("a-", 2, 2))).await.unwrap();
    assert_eq!(hear(&mut resumed, 2).await, ["confirmed".to_owned(), format!("caught up at {last}")]);
    for (window, multiplier) in [(2, 0), (0, 2)] {
        let refused = client.open(all().live().filtered(only("a-", window, multiplier))).await;
        assert_eq!(refused.unwrap_err().code(), Code::InvalidArgument);
    }
}

#[tokio::test]
async fn a_server_that_stops_ends_subscriptions_so_that_clients_come_again() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.add("a-1", [1]).await;
    let mut everything = client.open(all().live()).await.unwrap();
    let mut one = client.open(stream("a-1").live()).await.unwrap();
    hear(&mut everything, 3).await;
    hear(&mut one, 3).await;
    drop(client);
    let ((), everything, one) = tokio::join!(server.stop(), next(&mut everything), next(&mut one));
    assert_eq!(everything.unwrap_err().code(), Code::Unavailable);
    assert_eq!(one.unwrap_err().code(), Code::Unavailable);
}
