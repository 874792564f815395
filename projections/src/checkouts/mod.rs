//! Checkouts that have not ended, with what they learnt and decided, for operators: above all the parked ones. Follows
//! `checkout-*`, and `order-*` for how they end.
//!
//! The process manager's own record is not the domain's, so its events are read loosely: what is known is shown, and
//! the rest is passed over.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use souk_domain::{
    AccountId, Decider, OrderId,
    order::{OrderEvent, Orders},
};
use souk_event_log::{Filter, Recorded};
use sqlx::{PgConnection, PgPool, Row, postgres::PgRow, types::Json};
use uuid::Uuid;

use crate::{
    event,
    query::{self, Page, QueryError, json},
    runner::{ApplyError, Pace, Projector},
};

const CATEGORY: &str = "checkout";

pub struct Checkouts;

#[async_trait]
impl Projector for Checkouts {
    fn name(&self) -> &'static str {
        "checkouts"
    }

    fn version(&self) -> u32 {
        2
    }

    fn filter(&self) -> Filter {
        Filter::categories([CATEGORY, Orders::CATEGORY])
    }

    fn migration(&self) -> &'static str {
        include_str!("migration.sql")
    }

    fn pace(&self) -> Pace {
        Pace::every(Duration::from_millis(500))
    }

    /// Most checkouts begin and end within a moment, and so within a batch: those leave nothing to write.
    async fn apply(&self, tables: &mut PgConnection, events: &[Arc<Recorded>]) -> Result<(), ApplyError> {
        let mut changes: BTreeMap<OrderId, Change> = BTreeMap::new();
        for event in events {
            let id: OrderId = event::id(event)?;
            if event.stream.category() == CATEGORY {
                let told = Told::read(event)?;
                changes.entry(id).or_default().hear(event, told);
            } else {
                event::check::<OrderEvent>(event)?;
                if matches!(&*event.event_type, "OrderCompleted" | "OrderCancelled") {
                    changes.entry(id).or_default().ended = true;
                }
            }
        }
        let ended: Vec<Uuid> = changes
            .iter()
            .filter(|(_, change)| change.ended && change.started.is_none())
            .map(|(id, _)| id.0)
            .collect();
        changes.retain(|_, change| !change.ended);
        let (started, advanced): (Vec<_>, Vec<_>) =
            changes.iter().partition(|(_, change)| change.started.is_some());
        insert(tables, &started).await?;
        update(tables, &advanced).await?;
        if !ended.is_empty() {
            sqlx::query("DELETE FROM checkouts WHERE order_id = ANY($1)").bind(ended).execute(tables).await?;
        }
        Ok(())
    }
}

/// What we make of an event of the process manager.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Told {
    buyer_id: Option<Uuid>,
    deadline: Option<DateTime<Utc>>,
    reason: Option<String>,
    learnt: Vec<Value>,
    decided: Vec<Value>,
    effect: Option<Value>,
    outcome: Option<String>,
    attempts: Option<u32>,
}

impl Told {
    fn read(event: &Recorded) -> Result<Self, ApplyError> {
        serde_json::from_slice(&event::without_nul(&event.data))
            .map_err(|error| ApplyError::event(event, error))
    }

    /// What the checkout is at, going by the first thing that it decided to do.
    fn phase(&self) -> Option<&'static str> {
        self.decided.iter().find_map(|effect| {
            Some(match effect.get("effect")?.as_str()? {
                "placeOrder" => "placing",
                "reserve" | "claim" | "markStockReserved" => "reserving",
                "requestPayment" | "markPaid" => "paying",
                "requestShipment" | "markReadyToShip" => "shipping",
                "commit" | "commitClaim" | "completeOrder" => "completing",
                "release" | "releaseClaim" | "refund" | "cancelShipment" | "restoreCart" | "cancelOrder" => {
                    "compensating"
                }
                _ => return None,
            })
        })
    }
}

/// One step in the story of a checkout.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// The type of the event.
    pub event: String,
    pub at: DateTime<Utc>,
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub learnt: Vec<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub decided: Vec<Value>,
    /// What could not be done.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub effect: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// How often it was tried before it was parked.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub attempts: Option<u32>,
    /// What an operator said of it who settled it by hand: `done` or `notNeeded`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub outcome: Option<String>,
    /// Who: the process manager, or the operator who sent it on or settled it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub actor: Option<String>,
}

/// What a batch changes about a checkout.
#[derive(Default)]
struct Change {
    started: Option<DateTime<Utc>>,
    updated: Option<DateTime<Utc>>,
    buyer_id: Option<Uuid>,
    deadline: Option<DateTime<Utc>>,
    phase: Option<&'static str>,
    parked: Option<bool>,
    reason: Option<String>,
    story: Vec<Step>,
    ended: bool,
}

impl Change {
    fn hear(&mut self, event: &Recorded, told: Told) {
        // When it was done, not when the order it is about was placed: an operator watches the clock on the wall.
        let at = event.recorded_at;
        match &*event.event_type {
            "CheckoutStarted" => {
                self.started = Some(at);
                self.buyer_id = told.buyer_id;
                self.deadline = told.deadline;
            }
            "CheckoutParked" => {
                self.parked = Some(true);
                self.reason.clone_from(&told.reason);
            }
            "CheckoutResumed" | "CheckoutSettled" => {
                self.parked = Some(false);
                self.reason = None;
            }
            _ => {}
        }
        self.updated = Some(at);
        self.phase = told.phase().or(self.phase);
        let Told { learnt, decided, effect, reason, attempts, outcome, .. } = told;
        let event_type = event.event_type.to_string();
        let actor = event.metadata().actor.as_deref().map(|actor| actor.replace('\0', "\u{fffd}"));
        let step = Step { event: event_type, at, learnt, decided, effect, reason, attempts, outcome, actor };
        self.story.push(step);
    }
}

async fn insert(tables: &mut PgConnection, started: &[(&OrderId, &Change)]) -> Result<(), sqlx::Error> {
    const STATEMENT: &str = "INSERT INTO checkouts (order_id, buyer_id, phase, parked, reason, started_at, updated_at, deadline, story)
         SELECT order_id, buyer_id, coalesce(phase, 'placing'), coalesce(parked, false), reason, started_at, updated_at,
                deadline, story
         FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::boolean[], $5::text[], $6::timestamptz[], $7::timestamptz[],
                     $8::timestamptz[], $9::text[]::jsonb[])
              AS c (order_id, buyer_id, phase, parked, reason, started_at, updated_at, deadline, story)";
    write(tables, STATEMENT, started).await
}

/// Of a checkout that has ended already nothing is left to update: what its process manager says last is passed over.
async fn update(tables: &mut PgConnection, advanced: &[(&OrderId, &Change)]) -> Result<(), sqlx::Error> {
    const STATEMENT: &str = "UPDATE checkouts s SET
            buyer_id = coalesce(c.buyer_id, s.buyer_id),
            phase = coalesce(c.phase, s.phase),
            parked = coalesce(c.parked, s.parked),
            reason = CASE WHEN c.parked IS NULL THEN s.reason ELSE c.reason END,
            started_at = coalesce(c.started_at, s.started_at),
            updated_at = c.updated_at,
            deadline = coalesce(c.deadline, s.deadline),
            story = s.story || c.story
         FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::boolean[], $5::text[], $6::timestamptz[], $7::timestamptz[],
                     $8::timestamptz[], $9::text[]::jsonb[])
              AS c (order_id, buyer_id, phase, parked, reason, started_at, updated_at, deadline, story)
         WHERE s.order_id = c.order_id";
    write(tables, STATEMENT, advanced).await
}

async fn write(
    tables: &mut PgConnection,
    statement: &'static str,
    changes: &[(&OrderId, &Change)],
) -> Result<(), sqlx::Error> {
    if changes.is_empty() {
        return Ok(());
    }
    let each = || changes.iter().map(|(_, change)| *change);
    sqlx::query(statement)
        .bind(changes.iter().map(|(id, _)| id.0).collect::<Vec<_>>())
        .bind(each().map(|change| change.buyer_id).collect::<Vec<_>>())
        .bind(each().map(|change| change.phase).collect::<Vec<_>>())
        .bind(each().map(|change| change.parked).collect::<Vec<_>>())
        .bind(each().map(|change| change.reason.as_deref()).collect::<Vec<_>>())
        .bind(each().map(|change| change.started).collect::<Vec<_>>())
        .bind(each().map(|change| change.updated).collect::<Vec<_>>())
        .bind(each().map(|change| change.deadline).collect::<Vec<_>>())
        .bind(each().map(|change| json(&change.story)).collect::<Vec<_>>())
        .execute(tables)
        .await?;
    Ok(())
}

/// A checkout in flight, or parked until an operator sends it on.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckoutView {
    pub order_id: OrderId,
    pub buyer_id: Option<AccountId>,
    /// `placing`, `reserving`, `paying`, `shipping`, `completing` or `compensating`.
    pub phase: String,
    pub parked: bool,
    /// Why it is parked.
    pub reason: Option<String>,
    pub started_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    pub deadline: Option<DateTime<Utc>>,
    /// Oldest first.
    pub story: Vec<Step>,
}

pub async fn checkout(pool: &PgPool, order: OrderId) -> Result<Option<CheckoutView>, QueryError> {
    let row = sqlx::query("SELECT * FROM views.checkouts WHERE order_id = $1")
        .bind(order.0)
        .fetch_optional(pool)
        .await?;
    Ok(row.as_ref().map(read).transpose()?)
}

/// Checkouts that have not ended, newest first; with `parked` only those that are, or are not.
pub async fn checkouts(
    pool: &PgPool,
    parked: Option<bool>,
    cursor: Option<&str>,
    size: u32,
) -> Result<Page<CheckoutView>, QueryError> {
    let (at, id) = query::after(cursor)?;
    let rows = sqlx::query(
        "SELECT * FROM views.checkouts
         WHERE (started_at, order_id) < ($1, $2) AND ($3::boolean IS NULL OR parked = $3)
         ORDER BY started_at DESC, order_id DESC LIMIT $4",
    )
    .bind(at)
    .bind(id)
    .bind(parked)
    .bind(query::limit(size))
    .fetch_all(pool)
    .await?;
    query::page(&rows, size, |row| Ok((row.try_get("started_at")?, row.try_get("order_id")?)), read)
}

/// How many are in flight (parked or not), and how many of them are parked.
pub async fn counts(pool: &PgPool) -> Result<(u64, u64), QueryError> {
    let row =
        sqlx::query("SELECT count(*) AS all, count(*) FILTER (WHERE parked) AS parked FROM views.checkouts")
            .fetch_one(pool)
            .await?;
    Ok((row.try_get::<i64, _>("all")? as u64, row.try_get::<i64, _>("parked")? as u64))
}

fn read(row: &PgRow) -> Result<CheckoutView, sqlx::Error> {
    let Json(story) = row.try_get("story")?;
    Ok(CheckoutView {
        order_id: OrderId(row.try_get("order_id")?),
        buyer_id: row.try_get::<Option<Uuid>, _>("buyer_id")?.map(AccountId),
        phase: row.try_get("phase")?,
        parked: row.try_get("parked")?,
        reason: row.try_get("reason")?,
        started_at: row.try_get("started_at")?,
        updated_at: row.try_get("updated_at")?,
        deadline: row.try_get("deadline")?,
        story,
    })
}
