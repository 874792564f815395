//! Where gateways speak to us: Stripe's webhooks, and the page of a bank that the sandbox plays.
//!
//! Both are open to everybody: an event is believed by its signature, and then only as far as that something has changed;
//! what it is, Stripe is asked. That an event comes twice does no harm, since all it leads to are commands that may be
//! repeated. The ids remembered here (bounded, and gone with the process) only spare the asking.

use std::{collections::VecDeque, sync::Arc};

use axum::{
    Json,
    body::Bytes,
    extract::{DefaultBodyLimit, FromRequest, Request, State},
    http::{HeaderMap, StatusCode},
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use souk_commands::checkout::take_notice;
use souk_gateways::{
    Charge,
    sandbox::SandboxBank,
    stripe::{Stripe, WebhookError},
};
use utoipa::ToSchema;

use crate::{
    Api,
    extract::Body,
    problem::{Kind, Problem, ProblemBody},
};

/// Ids of events that were taken in.
const REMEMBERED: usize = 10_000;
/// Events are small; the largest that Stripe sends are tens of kilobytes.
const EVENT_LIMIT: usize = 256 << 10;
const TAKEN: &str = "souk_payment_webhooks_total";

pub(crate) struct Payments {
    stripe: Option<Stripe>,
    sandbox: Option<SandboxBank>,
    seen: Mutex<VecDeque<String>>,
}

impl Payments {
    pub(crate) fn new(stripe: Option<Stripe>, sandbox: Option<SandboxBank>) -> Self {
        metrics::describe_counter!(TAKEN, "Webhooks of the payment gateway by outcome");
        Self { stripe, sandbox, seen: Mutex::default() }
    }

    fn has_seen(&self, event: &str) -> bool {
        self.seen.lock().iter().any(|seen| seen == event)
    }

    fn remember(&self, event: String) {
        let mut seen = self.seen.lock();
        if seen.len() == REMEMBERED {
            seen.pop_front();
        }
        seen.push_back(event);
    }
}

fn count(outcome: &'static str) {
    metrics::counter!(TAKEN, "outcome" => outcome).increment(1);
}

/// Stripe tells that something has changed.
///
/// `Stripe-Signature` is checked over the body as it came. Events that are not ours are answered 200, too.
#[utoipa::path(post, path = "/v1/webhooks/stripe", tag = "Operations", request_body = Object,
    params(("Stripe-Signature" = String, Header)),
    responses((status = 200, description = "Taken in, now or before."),
        (status = 400, description = "The signature is missing, wrong or too old, or this is no event.", body = ProblemBody),
        (status = 404, description = "Payments do not go through Stripe here.", body = ProblemBody),
        (status = 503, description = "To be sent again.", body = ProblemBody)))]
pub(crate) async fn stripe(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    mut request: Request,
) -> Result<StatusCode, Problem> {
    let stripe = api.payments.stripe.clone().ok_or_else(|| Problem::not_found("webhook"))?;
    DefaultBodyLimit::max(EVENT_LIMIT).apply(&mut request);
    let body = Bytes::from_request(request, &api).await.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Problem::new(Kind::BodyTooLarge),
        _ => Problem::malformed("The body could not be read."),
    })?;
    let signature = headers.get("stripe-signature").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let event = stripe.verify(signature, &body).map_err(|error| {
        count("refused");
        match error {
            WebhookError::NotConfigured => Problem::not_found("webhook"),
            WebhookError::Signature | WebhookError::Stale | WebhookError::Malformed => {
                Problem::malformed(format_args!("Not taken: {error}."))
            }
        }
    })?;
    if api.payments.has_seen(&event.id) {
        count("repeated");
        return Ok(StatusCode::OK);
    }
    let market = Arc::clone(&api.market);
    let asked = event.clone();
    let taken = api
        .run(async move {
            let Some(notice) = stripe.notice(&asked).await.map_err(Problem::from)? else { return Ok(false) };
            take_notice(&market, notice).await.map_err(Problem::unavailable)?;
            Ok::<_, Problem>(true)
        })
        .await?;
    match taken {
        Ok(ours) => {
            count(if ours { "taken" } else { "ignored" });
            api.payments.remember(event.id);
            Ok(StatusCode::OK)
        }
        Err(problem) => {
            count("failed");
            // Whatever it is, Stripe sends it again.
            Err(if problem.kind() == Kind::InvalidParameters {
                Problem::unavailable("Stripe refuses to say more")
            } else {
                problem
            })
        }
    }
}

#[derive(Deserialize, ToSchema)]
pub(crate) struct Answered {
    /// Whether the buyer pays.
    confirm: bool,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct Settled {
    /// `charged`, `failed` or `actionRequired`.
    outcome: &'static str,
}

/// Play the buyer before his bank: of the sandbox alone.
#[utoipa::path(post, path = "/v1/sandbox/charges/{chargeId}", tag = "Operations", request_body = Answered,
    params(("chargeId" = String, Path)),
    responses((status = 200, body = Settled), (status = 404, body = ProblemBody)))]
pub(crate) async fn answer_sandbox(
    State(api): State<Arc<Api>>,
    axum::extract::Path(charge): axum::extract::Path<String>,
    body: Body<Answered>,
) -> Result<Json<Settled>, Problem> {
    let bank = api.payments.sandbox.clone().ok_or_else(|| Problem::not_found("charge"))?;
    let confirm = body.value.confirm;
    let settled = api.run(async move { bank.answer(&charge, confirm).await }).await??;
    let outcome = match settled.ok_or_else(|| Problem::not_found("charge"))? {
        Charge::Charged { .. } => "charged",
        Charge::Failed(_) => "failed",
        Charge::ActionRequired { .. } => "actionRequired",
    };
    Ok(Json(Settled { outcome }))
}
