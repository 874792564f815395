//! What benchmarks need of a market: sellers with items, buyers with accounts, and how far the views are.

use std::time::{Duration, Instant};

use anyhow::Context;
use futures::{StreamExt, TryStreamExt, stream};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::sleep;
use uuid::Uuid;

use crate::{
    client::{Client, Session},
    progress::Progress,
};

/// Long enough for every order that was acknowledged to end …
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// … and for the views to follow.
pub(super) const VIEWS: Duration = Duration::from_mins(2);
const PASSWORD: &str = "measured, not guessed";

/// Of the projector that is furthest behind.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Lag {
    pub(super) events: u64,
    pub(super) seconds: f64,
    pub(super) projector: Option<String>,
    /// From the end of the run until every view held everything.
    pub(super) caught_up_after_seconds: Option<f64>,
}

/// Names that no other run used.
pub(super) fn run_id() -> String {
    format!("{}-{}", crate::wiring::now().timestamp_micros(), std::process::id())
}

pub(super) fn card_that_pays() -> Value {
    json!({ "paymentType": "card", "cardNo": "4242424242424242", "expiry": "12/39", "cvc": "123" })
}

pub(super) async fn sellers(client: &Client, run: &str, count: usize) -> anyhow::Result<Vec<Session>> {
    let mut sessions = Vec::with_capacity(count);
    for index in 0..count {
        let email = format!("seller-{index}-{run}@bench.example");
        client.register(&email, PASSWORD, "Bench seller", "seller").await?;
        sessions.push(client.sign_in(&email, PASSWORD).await?);
    }
    Ok(sessions)
}

/// Items that take turns among so many sellers.
pub(super) async fn items(
    client: &Client,
    run: &str,
    sellers: usize,
    count: usize,
    stock: u32,
) -> anyhow::Result<Vec<Uuid>> {
    let sessions = self::sellers(client, run, sellers).await?;
    let each = (0..count).map(|index| {
        let seller = sessions[index % sellers].clone();
        let item = json!({
            "sku": format!("bench-{index}"), "name": format!("Measured thing {index}"), "description": "To be measured.",
            "price": { "amount": 1_999, "currency": "USD" }, "quantity": stock,
        });
        async move { seller.list_item(&item).await }
    });
    stream::iter(each).buffered(16).try_collect().await
}

/// Accounts of buyers.
pub(super) struct Accounts {
    emails: Vec<String>,
}

impl Accounts {
    pub(super) async fn make(client: &Client, run: &str, count: usize) -> anyhow::Result<Self> {
        let emails: Vec<_> = (0..count).map(|index| format!("buyer-{index}-{run}@bench.example")).collect();
        let progress = Progress::new("accounts", count as u64);
        let each = emails.iter().map(|email| async {
            client.register(email, PASSWORD, "Bench buyer", "buyer").await?;
            progress.add(1);
            anyhow::Ok(())
        });
        // Each takes a password's hash, which is meant to be slow.
        stream::iter(each).buffer_unordered(4).try_collect::<()>().await.context("the buyers' accounts")?;
        progress.finish();
        Ok(Self { emails })
    }

    /// A token is good for a quarter of an hour: whoever goes on for longer signs in again.
    pub(super) async fn sign_in(&self, client: &Client) -> anyhow::Result<Vec<Session>> {
        let each = self.emails.iter().map(|email| client.sign_in(email, PASSWORD));
        stream::iter(each).buffer_unordered(4).try_collect().await
    }
}

pub(super) fn position(ready: &Value) -> u64 {
    ready["log"]["position"].as_u64().map_or(0, |position| position + 1)
}

pub(super) fn lag(ready: &Value) -> Lag {
    let projectors = ready["projectors"].as_array().into_iter().flatten();
    let lags = projectors.map(|projector| Lag {
        events: projector["lagEvents"].as_u64().unwrap_or(0),
        seconds: projector["lagSeconds"].as_f64().unwrap_or(0.0),
        projector: projector["name"].as_str().map(str::to_owned),
        caught_up_after_seconds: None,
    });
    lags.max_by(|a, b| {
        (a.seconds, a.events).partial_cmp(&(b.seconds, b.events)).unwrap_or(std::cmp::Ordering::Equal)
    })
    .unwrap_or_default()
}

/// How long after that the views held everything; `None` if they took longer than `patience`.
pub(super) async fn caught_up(
    client: &Client,
    since: Instant,
    patience: Duration,
) -> anyhow::Result<Option<f64>> {
    let head = position(&client.ready().await?);
    let progress = Progress::new("views", head);
    let mut after = None;
    while after.is_none() && since.elapsed() < patience {
        let ready = client.ready().await?;
        let projectors = ready["projectors"].as_array().into_iter().flatten();
        let slowest = projectors
            .map(|projector| projector["position"].as_u64().map_or(0, |position| position + 1))
            .min()
            .unwrap_or(head);
        progress.set(slowest.min(head));
        if slowest >= head {
            after = Some(since.elapsed().as_secs_f64());
        } else {
            sleep(Duration::from_millis(20)).await;
        }
    }
    progress.finish();
    Ok(after)
}
