//! Promotions, for admins: their terms, and how often each is claimed and redeemed. Follows `promotion-*`.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use souk_domain::{
    Decider, OrderId, PromotionId,
    promotion::{Promotion, PromotionCreated, PromotionEvent},
};
use souk_event_log::{Filter, Recorded};
use sqlx::{PgConnection, PgPool, Row, postgres::PgRow, types::Json};
use uuid::Uuid;

use crate::{
    event,
    query::{self, Page, QueryError, json},
    runner::{ApplyError, Projector},
};

pub struct Promotions;

/// What a batch changes about a promotion.
#[derive(Default)]
struct Change {
    created: Option<(DateTime<Utc>, String)>,
    ended: bool,
    redeemed: i64,
    /// How each order stands with it at the end of the batch: whether it holds a claim.
    claims: BTreeMap<OrderId, bool>,
}

impl Change {
    fn hear(&mut self, event: PromotionEvent, at: DateTime<Utc>) {
        match event {
            PromotionEvent::PromotionCreated(event) => self.created = Some((at, json(&event))),
            PromotionEvent::PromotionEnded(_) => self.ended = true,
            PromotionEvent::CouponClaimed(event) => drop(self.claims.insert(event.order_id, true)),
            PromotionEvent::CouponReleased(event) => drop(self.claims.insert(event.order_id, false)),
            PromotionEvent::CouponRedeemed(event) => {
                self.claims.insert(event.order_id, false);
                self.redeemed += 1;
            }
            PromotionEvent::CouponRejected(_) => {}
        }
    }

    fn claims(&self, held: bool) -> impl Iterator<Item = OrderId> {
        self.claims.iter().filter(move |(_, holds)| **holds == held).map(|(order, _)| *order)
    }
}

#[async_trait]
impl Projector for Promotions {
    fn name(&self) -> &'static str {
        "promotions"
    }

    fn version(&self) -> u32 {
        1
    }

    fn filter(&self) -> Filter {
        Filter::categories([Promotion::CATEGORY])
    }

    fn migration(&self) -> &'static str {
        include_str!("migration.sql")
    }

    async fn apply(&self, tables: &mut PgConnection, events: &[Arc<Recorded>]) -> Result<(), ApplyError> {
        let mut changes: BTreeMap<PromotionId, Change> = BTreeMap::new();
        for event in events {
            let (promotion_event, at) = event::read::<PromotionEvent>(event)?;
            changes.entry(event::id(event)?).or_default().hear(promotion_event, at);
        }
        insert(tables, &changes).await?;
        claim(tables, &changes).await?;
        count(tables, &changes).await?;
        Ok(())
    }
}

type Changes = BTreeMap<PromotionId, Change>;

async fn insert(tables: &mut PgConnection, changes: &Changes) -> Result<(), sqlx::Error> {
    let created: Vec<_> =
        changes.iter().filter_map(|(id, change)| Some((id.0, change.created.as_ref()?))).collect();
    if created.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO promotions (promotion_id, created_at, terms, ended, claimed, redeemed)
         SELECT id, at, terms, false, 0, 0
         FROM unnest($1::uuid[], $2::timestamptz[], $3::text[]::json[]) AS c (id, at, terms)",
    )
    .bind(created.iter().map(|(id, _)| *id).collect::<Vec<_>>())
    .bind(created.iter().map(|(_, (at, _))| *at).collect::<Vec<_>>())
    .bind(created.iter().map(|(_, (_, terms))| terms.as_str()).collect::<Vec<_>>())
    .execute(tables)
    .await?;
    Ok(())
}

async fn claim(tables: &mut PgConnection, changes: &Changes) -> Result<(), sqlx::Error> {
    const CLAIM: &str = "INSERT INTO coupon_claims (promotion_id, order_id)
         SELECT * FROM unnest($1::uuid[], $2::uuid[]) ON CONFLICT DO NOTHING";
    const GIVE_UP: &str =
        "DELETE FROM coupon_claims c USING unnest($1::uuid[], $2::uuid[]) AS g (promotion_id, order_id)
         WHERE c.promotion_id = g.promotion_id AND c.order_id = g.order_id";
    for (held, statement) in [(true, CLAIM), (false, GIVE_UP)] {
        let (promotions, orders): (Vec<Uuid>, Vec<Uuid>) = changes
            .iter()
            .flat_map(|(id, change)| change.claims(held).map(move |order| (id.0, order.0)))
            .unzip();
        if !promotions.is_empty() {
            sqlx::query(statement).bind(promotions).bind(orders).execute(&mut *tables).await?;
        }
    }
    Ok(())
}

async fn count(tables: &mut PgConnection, changes: &Changes) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE promotions p SET ended = p.ended OR c.ended, redeemed = p.redeemed + c.redeemed,
            claimed = (SELECT count(*) FROM coupon_claims h WHERE h.promotion_id = p.promotion_id)
         FROM unnest($1::uuid[], $2::boolean[], $3::bigint[]) AS c (promotion_id, ended, redeemed)
         WHERE p.promotion_id = c.promotion_id",
    )
    .bind(changes.keys().map(|id| id.0).collect::<Vec<_>>())
    .bind(changes.values().map(|change| change.ended).collect::<Vec<_>>())
    .bind(changes.values().map(|change| change.redeemed).collect::<Vec<_>>())
    .execute(tables)
    .await?;
    Ok(())
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PromotionView {
    pub promotion_id: PromotionId,
    pub created_at: DateTime<Utc>,
    pub terms: PromotionCreated,
    /// By hand.
    pub ended: bool,
    /// By orders under way.
    pub claimed: u64,
    pub redeemed: u64,
}

/// Newest first.
pub async fn promotions(
    pool: &PgPool,
    cursor: Option<&str>,
    size: u32,
) -> Result<Page<PromotionView>, QueryError> {
    let (at, id) = query::after(cursor)?;
    let rows = sqlx::query(
        "SELECT * FROM views.promotions WHERE (created_at, promotion_id) < ($1, $2)
         ORDER BY created_at DESC, promotion_id DESC LIMIT $3",
    )
    .bind(at)
    .bind(id)
    .bind(query::limit(size))
    .fetch_all(pool)
    .await?;
    query::page(&rows, size, |row| Ok((row.try_get("created_at")?, row.try_get("promotion_id")?)), read)
}

pub async fn promotion(pool: &PgPool, id: PromotionId) -> Result<Option<PromotionView>, QueryError> {
    let row = sqlx::query("SELECT * FROM views.promotions WHERE promotion_id = $1")
        .bind(id.0)
        .fetch_optional(pool)
        .await?;
    Ok(row.as_ref().map(read).transpose()?)
}

fn read(row: &PgRow) -> Result<PromotionView, sqlx::Error> {
    let Json(terms) = row.try_get("terms")?;
    let count = |column: &str| Ok::<_, sqlx::Error>(row.try_get::<i64, _>(column)?.max(0) as u64);
    Ok(PromotionView {
        promotion_id: PromotionId(row.try_get("promotion_id")?),
        created_at: row.try_get("created_at")?,
        terms,
        ended: row.try_get("ended")?,
        claimed: count("claimed")?,
        redeemed: count("redeemed")?,
    })
}
