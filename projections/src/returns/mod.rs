//! Returns, for buyers, sellers and operators. Follows `return-*`.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use souk_domain::{
    AccountId, Decider, Money, OrderId, ReturnId,
    returns::{ReturnAccepted, ReturnEvent, ReturnRequested, ReturnStatus, Returns as ReturnsDecider},
};
use souk_event_log::{Filter, Recorded};
use sqlx::{PgConnection, PgPool, Row, postgres::PgRow, types::Json};
use uuid::Uuid;

use crate::{
    event,
    query::{self, Page, QueryError, json, name_of},
    runner::{ApplyError, Projector},
};

pub struct Returns;

#[async_trait]
impl Projector for Returns {
    fn name(&self) -> &'static str {
        "returns"
    }

    fn version(&self) -> u32 {
        2
    }

    fn filter(&self) -> Filter {
        Filter::categories([ReturnsDecider::CATEGORY])
    }

    fn migration(&self) -> &'static str {
        include_str!("migration.sql")
    }

    async fn apply(&self, tables: &mut PgConnection, events: &[Arc<Recorded>]) -> Result<(), ApplyError> {
        let mut changes: BTreeMap<ReturnId, Change> = BTreeMap::new();
        for event in events {
            let (told, at) = event::read::<ReturnEvent>(event)?;
            changes.entry(told.return_id()).or_default().hear(told, at);
        }
        let (new, known): (Vec<_>, Vec<_>) =
            changes.iter().partition(|(_, change)| change.requested.is_some());
        insert(tables, &new).await?;
        update(tables, &known).await?;
        Ok(())
    }
}

/// What a batch changes about a return.
#[derive(Default)]
struct Change {
    requested: Option<(ReturnRequested, DateTime<Utc>)>,
    status: Option<ReturnStatus>,
    accepted: Option<ReturnAccepted>,
    reason: Option<String>,
    decided_at: Option<DateTime<Utc>>,
    refunded: Option<Money>,
    completed_at: Option<DateTime<Utc>>,
}

impl Change {
    fn hear(&mut self, event: ReturnEvent, at: DateTime<Utc>) {
        let status = match event {
            ReturnEvent::ReturnRequested(event) => {
                self.requested = Some((event, at));
                ReturnStatus::Requested
            }
            ReturnEvent::ReturnAccepted(event) => {
                self.accepted = Some(event);
                self.decided_at = Some(at);
                ReturnStatus::Accepted
            }
            ReturnEvent::ReturnDeclined(event) => {
                self.reason = Some(event.reason);
                self.decided_at = Some(at);
                ReturnStatus::Declined
            }
            ReturnEvent::ReturnParked(event) => {
                self.reason = Some(event.reason);
                ReturnStatus::Parked
            }
            ReturnEvent::ReturnResumed(_) | ReturnEvent::ReturnSettled(_) => {
                self.reason = None;
                ReturnStatus::Accepted
            }
            ReturnEvent::ReturnCompleted(event) => {
                self.reason = None;
                self.refunded = Some(event.refunded);
                self.completed_at = Some(at);
                ReturnStatus::Completed
            }
        };
        self.status = Some(status);
    }
}

async fn insert(tables: &mut PgConnection, changes: &[(&ReturnId, &Change)]) -> Result<(), sqlx::Error> {
    if changes.is_empty() {
        return Ok(());
    }
    let requested = || changes.iter().filter_map(|(_, change)| change.requested.as_ref());
    sqlx::query(
        "INSERT INTO returns (return_id, order_id, seller_id, requested_at, request, status, accepted, reason, decided_at,
                              completed_at, refunded)
         SELECT * FROM unnest($1::text[], $2::uuid[], $3::uuid[], $4::timestamptz[], $5::text[]::json[], $6::text[],
                              $7::text[]::json[], $8::text[], $9::timestamptz[], $10::timestamptz[],
                              $11::text[]::json[])",
    )
    .bind(changes.iter().map(|(id, _)| id.to_string()).collect::<Vec<_>>())
    .bind(changes.iter().map(|(id, _)| id.returns.order_id.0).collect::<Vec<_>>())
    .bind(changes.iter().map(|(id, _)| id.returns.seller_id.0).collect::<Vec<_>>())
    .bind(requested().map(|(_, at)| *at).collect::<Vec<_>>())
    .bind(requested().map(|(event, _)| json(event)).collect::<Vec<_>>())
    .bind(changes.iter().map(|(_, change)| change.status.as_ref().map(name_of)).collect::<Vec<_>>())
    .bind(changes.iter().map(|(_, change)| change.accepted.as_ref().map(json)).collect::<Vec<_>>())
    .bind(changes.iter().map(|(_, change)| change.reason.as_deref()).collect::<Vec<_>>())
    .bind(changes.iter().map(|(_, change)| change.decided_at).collect::<Vec<_>>())
    .bind(changes.iter().map(|(_, change)| change.completed_at).collect::<Vec<_>>())
    .bind(changes.iter().map(|(_, change)| change.refunded.as_ref().map(json)).collect::<Vec<_>>())
    .execute(tables)
    .await?;
    Ok(())
}

async fn update(tables: &mut PgConnection, changes: &[(&ReturnId, &Change)]) -> Result<(), sqlx::Error> {
    if changes.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "UPDATE returns r SET
            status = c.status,
            accepted = coalesce(c.accepted, r.accepted),
            reason = c.reason,
            decided_at = coalesce(c.decided_at, r.decided_at),
            completed_at = coalesce(c.completed_at, r.completed_at),
            refunded = coalesce(c.refunded, r.refunded)
         FROM unnest($1::text[], $2::text[], $3::text[]::json[], $4::text[], $5::timestamptz[], $6::timestamptz[],
                     $7::text[]::json[])
              AS c (return_id, status, accepted, reason, decided_at, completed_at, refunded)
         WHERE r.return_id = c.return_id",
    )
    .bind(changes.iter().map(|(id, _)| id.to_string()).collect::<Vec<_>>())
    .bind(changes.iter().map(|(_, change)| change.status.as_ref().map(name_of)).collect::<Vec<_>>())
    .bind(changes.iter().map(|(_, change)| change.accepted.as_ref().map(json)).collect::<Vec<_>>())
    .bind(changes.iter().map(|(_, change)| change.reason.as_deref()).collect::<Vec<_>>())
    .bind(changes.iter().map(|(_, change)| change.decided_at).collect::<Vec<_>>())
    .bind(changes.iter().map(|(_, change)| change.completed_at).collect::<Vec<_>>())
    .bind(changes.iter().map(|(_, change)| change.refunded.as_ref().map(json)).collect::<Vec<_>>())
    .execute(tables)
    .await?;
    Ok(())
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReturnView {
    pub return_id: ReturnId,
    pub requested: ReturnRequested,
    pub requested_at: DateTime<Utc>,
    pub status: ReturnStatus,
    pub accepted: Option<ReturnAccepted>,
    /// Why it was declined, or is parked.
    pub reason: Option<String>,
    pub decided_at: Option<DateTime<Utc>>,
    /// What went back: less than was agreed on if the buyer's bank had taken back more than was left.
    pub refunded: Option<Money>,
    pub completed_at: Option<DateTime<Utc>>,
}

/// What the events of one stream, from its beginning, have made of its returns.
pub fn told(events: impl IntoIterator<Item = (ReturnEvent, DateTime<Utc>)>) -> Vec<ReturnView> {
    let mut changes: BTreeMap<ReturnId, Change> = BTreeMap::new();
    for (event, at) in events {
        changes.entry(event.return_id()).or_default().hear(event, at);
    }
    let view = |(return_id, change): (ReturnId, Change)| {
        let (requested, requested_at) = change.requested?;
        Some(ReturnView {
            return_id,
            requested,
            requested_at,
            status: change.status?,
            accepted: change.accepted,
            reason: change.reason,
            decided_at: change.decided_at,
            refunded: change.refunded,
            completed_at: change.completed_at,
        })
    };
    changes.into_iter().filter_map(view).collect()
}

/// Which of all returns somebody wants to see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReturnFilter {
    pub seller: Option<AccountId>,
    pub status: Option<ReturnStatus>,
}

/// Of one order, oldest first.
pub async fn of_order(pool: &PgPool, order: OrderId) -> Result<Vec<ReturnView>, QueryError> {
    let rows =
        sqlx::query("SELECT * FROM views.returns WHERE order_id = $1 ORDER BY requested_at, return_id")
            .bind(order.0)
            .fetch_all(pool)
            .await?;
    Ok(rows.iter().map(read).collect::<Result<_, _>>()?)
}

/// Newest first.
pub async fn returns(
    pool: &PgPool,
    filter: ReturnFilter,
    cursor: Option<&str>,
    size: u32,
) -> Result<Page<ReturnView>, QueryError> {
    let (at, id) = query::after(cursor)?;
    let rows = sqlx::query(
        "SELECT *, md5(return_id)::uuid AS key FROM views.returns
         WHERE (requested_at, md5(return_id)::uuid) < ($1, $2) AND ($3::uuid IS NULL OR seller_id = $3)
           AND ($4::text IS NULL OR status = $4)
         ORDER BY requested_at DESC, key DESC LIMIT $5",
    )
    .bind(at)
    .bind(id)
    .bind(filter.seller.map(|seller| seller.0))
    .bind(filter.status.as_ref().map(name_of))
    .bind(query::limit(size))
    .fetch_all(pool)
    .await?;
    let key = |row: &PgRow| Ok((row.try_get("requested_at")?, row.try_get::<Uuid, _>("key")?));
    query::page(&rows, size, key, read)
}

fn read(row: &PgRow) -> Result<ReturnView, sqlx::Error> {
    let return_id = row.try_get::<&str, _>("return_id")?.parse();
    let Json(requested) = row.try_get("request")?;
    let accepted: Option<Json<ReturnAccepted>> = row.try_get("accepted")?;
    let refunded: Option<Json<Money>> = row.try_get("refunded")?;
    Ok(ReturnView {
        return_id: return_id.map_err(|error| query::malformed("return_id", error))?,
        requested,
        requested_at: row.try_get("requested_at")?,
        status: query::named(row, "status")?,
        accepted: accepted.map(|Json(accepted)| accepted),
        reason: row.try_get("reason")?,
        decided_at: row.try_get("decided_at")?,
        refunded: refunded.map(|Json(refunded)| refunded),
        completed_at: row.try_get("completed_at")?,
    })
}
