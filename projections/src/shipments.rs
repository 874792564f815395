//! What shipment events of one batch change, for the two read models that show shipments.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use souk_domain::{
    AccountId, OrderId, ShipmentId,
    shipment::{ParcelLine, ShipmentEvent, ShipmentStatus},
};
use sqlx::{AssertSqlSafe, PgConnection, Row, postgres::PgRow, types::Json};

use crate::query::{self, json, name_of};

/// The shipments touched by a batch.
#[derive(Default)]
pub(crate) struct Shipments(BTreeMap<ShipmentId, Change>);

#[derive(Default)]
struct Change {
    status: String,
    carrier: Option<String>,
    tracking_number: Option<String>,
    reason: Option<String>,
    requested_at: Option<DateTime<Utc>>,
    ready_at: Option<DateTime<Utc>>,
    dispatched_at: Option<DateTime<Utc>>,
    delivered_at: Option<DateTime<Utc>>,
    ended_at: Option<DateTime<Utc>>,
    parcels: Vec<ParcelNews>,
}

/// What happened to parcels, as it is kept: each adds to the list, since nothing is read back.
#[derive(Serialize, Deserialize)]
#[serde(tag = "told", rename_all = "camelCase")]
enum ParcelNews {
    Dispatched(ParcelView),
    Delivered { parcels: Vec<u32>, at: DateTime<Utc> },
}

impl Shipments {
    pub(crate) fn push(&mut self, id: ShipmentId, event: &ShipmentEvent, at: DateTime<Utc>) {
        let change = self.0.entry(id).or_default();
        match event {
            ShipmentEvent::ShipmentRequested(_) => {
                "requested".clone_into(&mut change.status);
                change.requested_at = Some(at);
            }
            ShipmentEvent::ShipmentReady(event) => {
                "ready".clone_into(&mut change.status);
                change.carrier = Some(event.carrier.clone());
                change.ready_at = Some(at);
            }
            ShipmentEvent::ShipmentRefused(event) => {
                "refused".clone_into(&mut change.status);
                change.reason = Some(event.reason.clone());
                change.ended_at = Some(at);
            }
            ShipmentEvent::ShipmentDispatched(event) => {
                change.status = name_of(&event.status);
                change.carrier = event.carrier.clone().or_else(|| change.carrier.take());
                change.tracking_number.clone_from(&event.tracking_number);
                change.dispatched_at = Some(at);
                change.parcels.push(ParcelNews::Dispatched(ParcelView {
                    parcel: event.parcel,
                    lines: event.lines.clone(),
                    carrier: event.carrier.clone(),
                    tracking_number: event.tracking_number.clone(),
                    dispatched_at: at,
                    delivered_at: None,
                }));
            }
            ShipmentEvent::ShipmentDelivered(event) => {
                change.status = name_of(&event.status);
                if event.status == ShipmentStatus::Delivered {
                    change.delivered_at = Some(at);
                }
                change.parcels.push(ParcelNews::Delivered { parcels: event.parcels.clone(), at });
            }
            ShipmentEvent::UnitsGivenUp(event) => {
                change.status = name_of(&event.status);
                if event.status == ShipmentStatus::Cancelled {
                    change.ended_at = Some(at);
                }
            }
            ShipmentEvent::ShipmentCancelled(_) => {
                "cancelled".clone_into(&mut change.status);
                change.ended_at = Some(at);
            }
        }
    }

    /// Writes to a table of the shape that `order_shipments` has.
    pub(crate) async fn write(
        &self,
        tables: &mut PgConnection,
        table: &'static str,
    ) -> Result<(), sqlx::Error> {
        if self.0.is_empty() {
            return Ok(());
        }
        let statement = format!(
            "INSERT INTO {table} AS s (order_id, seller_id, status, carrier, tracking_number, reason,
                                       requested_at, ready_at, dispatched_at, delivered_at, ended_at, parcels)
             SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[],
                                  $7::timestamptz[], $8::timestamptz[], $9::timestamptz[], $10::timestamptz[],
                                  $11::timestamptz[], $12::text[]::jsonb[])
             ON CONFLICT (order_id, seller_id) DO UPDATE SET
                status = excluded.status,
                carrier = coalesce(excluded.carrier, s.carrier),
                tracking_number = coalesce(excluded.tracking_number, s.tracking_number),
                reason = coalesce(excluded.reason, s.reason),
                requested_at = coalesce(excluded.requested_at, s.requested_at),
                ready_at = coalesce(excluded.ready_at, s.ready_at),
                dispatched_at = coalesce(excluded.dispatched_at, s.dispatched_at),
                delivered_at = coalesce(excluded.delivered_at, s.delivered_at),
                ended_at = coalesce(excluded.ended_at, s.ended_at),
                parcels = s.parcels || excluded.parcels"
        );
        let times = |of: fn(&Change) -> Option<DateTime<Utc>>| self.0.values().map(of).collect::<Vec<_>>();
        // The table's name is one of the two that call this.
        sqlx::query(AssertSqlSafe(statement))
            .bind(self.0.keys().map(|id| id.order_id.0).collect::<Vec<_>>())
            .bind(self.0.keys().map(|id| id.seller_id.0).collect::<Vec<_>>())
            .bind(self.0.values().map(|change| change.status.as_str()).collect::<Vec<_>>())
            .bind(self.0.values().map(|change| change.carrier.as_deref()).collect::<Vec<_>>())
            .bind(self.0.values().map(|change| change.tracking_number.as_deref()).collect::<Vec<_>>())
            .bind(self.0.values().map(|change| change.reason.as_deref()).collect::<Vec<_>>())
            .bind(times(|change| change.requested_at))
            .bind(times(|change| change.ready_at))
            .bind(times(|change| change.dispatched_at))
            .bind(times(|change| change.delivered_at))
            .bind(times(|change| change.ended_at))
            .bind(self.0.values().map(|change| json(&change.parcels)).collect::<Vec<_>>())
            .execute(tables)
            .await?;
        Ok(())
    }
}

/// A shipment as buyers and sellers see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShipmentView {
    pub shipment_id: ShipmentId,
    pub status: ShipmentStatus,
    pub carrier: Option<String>,
    pub tracking_number: Option<String>,
    /// Of a refusal.
    pub reason: Option<String>,
    pub requested_at: DateTime<Utc>,
    pub ready_at: Option<DateTime<Utc>>,
    pub dispatched_at: Option<DateTime<Utc>>,
    pub delivered_at: Option<DateTime<Utc>>,
    /// When it was refused or cancelled.
    pub ended_at: Option<DateTime<Utc>>,
    /// In the order of their numbers.
    pub parcels: Vec<ParcelView>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ParcelView {
    pub parcel: u32,
    /// Empty: everything.
    pub lines: Vec<ParcelLine>,
    /// Not told: who the shipment was booked with.
    pub carrier: Option<String>,
    pub tracking_number: Option<String>,
    pub dispatched_at: DateTime<Utc>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub delivered_at: Option<DateTime<Utc>>,
}

/// The parcels as they stand after all that was told.
fn parcels(told: Vec<ParcelNews>) -> Vec<ParcelView> {
    let mut views = Vec::<ParcelView>::new();
    for news in told {
        match news {
            ParcelNews::Dispatched(parcel) => views.push(parcel),
            ParcelNews::Delivered { parcels, at } => {
                for view in views.iter_mut().filter(|view| parcels.contains(&view.parcel)) {
                    view.delivered_at = Some(at);
                }
            }
        }
    }
    views
}

impl ShipmentView {
    /// Of a row of such a table. None of a shipment that was cancelled before it was requested: it never was.
    pub(crate) fn read(row: &PgRow) -> Result<Option<Self>, sqlx::Error> {
        let Some(requested_at) = row.try_get("requested_at")? else { return Ok(None) };
        Ok(Some(Self {
            shipment_id: ShipmentId {
                order_id: OrderId(row.try_get("order_id")?),
                seller_id: AccountId(row.try_get("seller_id")?),
            },
            status: query::named(row, "status")?,
            carrier: row.try_get("carrier")?,
            tracking_number: row.try_get("tracking_number")?,
            reason: row.try_get("reason")?,
            requested_at,
            ready_at: row.try_get("ready_at")?,
            dispatched_at: row.try_get("dispatched_at")?,
            delivered_at: row.try_get("delivered_at")?,
            ended_at: row.try_get("ended_at")?,
            parcels: {
                let Json(told) = row.try_get("parcels")?;
                parcels(told)
            },
        }))
    }
}
