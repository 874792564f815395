//! One request: an event, signed as Standard Webhooks 1.0.0 has it, and what its answer means.
//! (<https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>, sections "Webhook headers"
//! and "Delivery success and failure".)

use std::{error::Error, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use chrono::{DateTime, Utc};
use reqwest::{Client, Response, StatusCode, header, redirect::Policy};
use souk_event_log::{Recorded, line};
use souk_vault::{SigningSecrets, WebhookSecret};

use crate::address::{Reach, Resolver, Target};

/// What is read of an answer at most, so that its connection can be used again. Nobody looks at it.
const ANSWER: usize = 64 << 10;
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A receiver cannot ask to be left alone for longer.
const LONGEST_RETRY_AFTER: u64 = 3_600;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Delivered,
    /// 410: it wants no more.
    Gone,
    /// To be tried again, not before so long.
    Failed {
        retry_after: Option<Duration>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) outcome: Outcome,
    pub(crate) status: Option<u16>,
    /// For the owner; of the outcome alone, without a word of what the receiver said.
    pub(crate) error: Option<String>,
}

/// Sends to any receiver.
#[derive(Clone, Debug)]
pub(crate) struct Poster {
    client: Client,
    reach: Reach,
}

impl Poster {
    pub(crate) fn new(reach: Reach, timeout: Duration) -> Result<Self, reqwest::Error> {
        let client = Client::builder()
            .user_agent(concat!("Souk/", env!("CARGO_PKG_VERSION")))
            .dns_resolver(Resolver(reach))
            // Either would lead around the check of addresses.
            .redirect(Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(timeout)
            .build()?;
        Ok(Self { client, reach })
    }

    pub(crate) async fn post(
        &self,
        target: &Target,
        event: &Recorded,
        secrets: &SigningSecrets,
        now: DateTime<Utc>,
    ) -> Answer {
        // Addresses are not looked up, so the resolver does not see them.
        if !target.is_within(self.reach) {
            return Answer::failed("its address is not public".to_owned());
        }
        let mut body = line(event);
        body.truncate(body.trim_end().len());
        let (id, timestamp) = (event.id.to_string(), now.timestamp().to_string());
        let request = self
            .client
            .post(target.url())
            .header(header::CONTENT_TYPE, "application/json")
            .header("webhook-signature", signatures(secrets, &id, &timestamp, &body, now))
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp)
            .body(body);
        match request.send().await {
            Ok(response) => Answer::of(response).await,
            Err(error) => Answer::none(&error),
        }
    }
}

/// `v1,` and the signature in base64; during a change of secrets one of each, separated by a space.
fn signatures(secrets: &SigningSecrets, id: &str, timestamp: &str, body: &str, now: DateTime<Utc>) -> String {
    let parts = [id, ".", timestamp, ".", body].map(str::as_bytes);
    let sign = |secret: &WebhookSecret| format!("v1,{}", STANDARD.encode(secret.sign(&parts)));
    let former = secrets.former.as_ref().filter(|(_, until)| now < *until);
    match former {
        Some((former, _)) => format!("{} {}", sign(&secrets.current), sign(former)),
        None => sign(&secrets.current),
    }
}

impl Answer {
    async fn of(mut response: Response) -> Self {
        let status = response.status();
        let outcome = match status {
            _ if status.is_success() => Outcome::Delivered,
            StatusCode::GONE => Outcome::Gone,
            _ => Outcome::Failed { retry_after: retry_after(&response) },
        };
        let error = (outcome != Outcome::Delivered).then(|| format!("the receiver answered {status}"));
        // The status is what counts; whatever goes wrong from here on changes nothing.
        let reading = async {
            let mut read = 0;
            while read < ANSWER
                && let Ok(Some(piece)) = response.chunk().await
            {
                read += piece.len();
            }
        };
        let _ = tokio::time::timeout(ANSWER_TIMEOUT, reading).await;
        Self { outcome, status: Some(status.as_u16()), error }
    }

    fn none(error: &reqwest::Error) -> Self {
        let root = root(error);
        Self::failed(if error.is_timeout() {
            "no answer in time".to_owned()
        } else if error.is_connect() {
            format!("no connection: {root}")
        } else {
            format!("the connection broke off: {root}")
        })
    }

    fn failed(error: String) -> Self {
        Self { outcome: Outcome::Failed { retry_after: None }, status: None, error: Some(error) }
    }
}

/// In seconds; a date is not looked at.
fn retry_after(response: &Response) -> Option<Duration> {
    let value = response.headers().get(header::RETRY_AFTER)?.to_str().ok()?;
    let seconds: u64 = value.trim().parse().ok()?;
    Some(Duration::from_secs(seconds.min(LONGEST_RETRY_AFTER)))
}

/// What is at the bottom of an error: the layers above it say where, which is known.
fn root(error: &reqwest::Error) -> String {
    let mut root: &dyn Error = error;
    while let Some(source) = root.source() {
        root = source;
    }
    root.to_string()
}
