//! The process manager's record: which checkouts are on their way and until when, and which are parked. It is not the
//! domain's, so it is read loosely.

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::Value;
use souk_domain::OrderId;
use souk_event_log::{Position, Recorded};

use crate::{At, Audit};

/// A checkout that waits for an operator.
#[derive(Clone, Debug)]
pub struct Parked {
    pub position: Position,
    pub since: DateTime<Utc>,
    /// What could not be done.
    pub effect: String,
    pub reason: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Told {
    deadline: Option<DateTime<Utc>>,
    effect: Option<Value>,
    reason: Option<String>,
}

impl Audit {
    pub(crate) fn checkout(&mut self, at: At<'_>, event: &Recorded) -> Result<(), String> {
        let id: OrderId =
            event.stream.id().parse().map_err(|error| format!("a checkout of no order: {error}"))?;
        let told: Told = serde_json::from_slice(&event.data).map_err(|error| error.to_string())?;
        let Some(order) = self.orders.get_mut(&id) else {
            return Err("expected a cart that was checked out as this order, found none".into());
        };
        // What is said after the end changes nothing any more.
        let Some(live) = &mut order.live else { return Ok(()) };
        match &*event.event_type {
            "CheckoutStarted" => live.deadline = Some(told.deadline.unwrap_or(at.time)),
            "CheckoutParked" => {
                let effect = told.effect.as_ref().and_then(|effect| effect["effect"].as_str());
                live.parked = Some(Parked {
                    position: at.position,
                    since: at.time,
                    effect: effect.unwrap_or_default().to_owned(),
                    reason: told.reason.unwrap_or_default(),
                });
            }
            "CheckoutResumed" | "CheckoutSettled" => live.parked = None,
            _ => {}
        }
        Ok(())
    }
}
