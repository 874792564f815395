//! The sellers' ledgers: entries, balances and payouts. Follows `ledger-*`.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use souk_domain::{
    AccountId, Currency, Decider, Money, OrderId, PayoutId,
    ledger::{CommissionRate, Ledger, LedgerAccount, LedgerEvent, PayoutStatus, Posting},
};
use souk_event_log::{Filter, Recorded};
use sqlx::{PgConnection, PgPool, Row, postgres::PgRow, types::Json};
use uuid::Uuid;

use crate::{
    event,
    query::{self, Page, QueryError, json, name_of},
    runner::{ApplyError, Projector},
};

pub struct Ledgers;

#[async_trait]
impl Projector for Ledgers {
    fn name(&self) -> &'static str {
        "ledger"
    }

    fn version(&self) -> u32 {
        2
    }

    fn filter(&self) -> Filter {
        Filter::categories([Ledger::CATEGORY])
    }

    fn migration(&self) -> &'static str {
        include_str!("migration.sql")
    }

    async fn apply(&self, tables: &mut PgConnection, events: &[Arc<Recorded>]) -> Result<(), ApplyError> {
        let mut entries = Vec::with_capacity(events.len());
        let mut balances = BTreeMap::<(AccountId, Currency, LedgerAccount), i64>::new();
        let mut payouts = BTreeMap::<PayoutId, Payout>::new();
        for event in events {
            let (told, at) = event::read::<LedgerEvent>(event)?;
            let entry = Entry::of(event, &told, at)?;
            for posting in &entry.postings {
                let key = (entry.seller_id, posting.amount.currency, posting.account);
                *balances.entry(key).or_default() += posting.amount.amount;
            }
            if let Some((id, change)) = Payout::of(told, at) {
                let payout = payouts.entry(id).or_default();
                *payout = Payout { requested: payout.requested.or(change.requested), ..change };
            }
            entries.push(entry);
        }
        insert(tables, &entries).await?;
        add(tables, &balances).await?;
        write_payouts(tables, &payouts).await?;
        Ok(())
    }
}

struct Entry {
    seller_id: AccountId,
    revision: i64,
    at: DateTime<Utc>,
    kind: String,
    order_id: Option<OrderId>,
    payout_id: Option<PayoutId>,
    rates: Vec<CommissionRate>,
    postings: Vec<Posting>,
}

impl Entry {
    fn of(recorded: &Recorded, event: &LedgerEvent, at: DateTime<Utc>) -> Result<Self, ApplyError> {
        let (kind, order_id, payout_id, rates) = match event {
            LedgerEvent::EntryPosted(event) => {
                (name_of(&event.kind), Some(event.order_id), None, event.rates.clone())
            }
            LedgerEvent::PayoutRequested(event) => ("payout".into(), None, Some(event.payout_id), vec![]),
            LedgerEvent::PayoutSettled(event) => {
                ("payoutSettled".into(), None, Some(event.payout_id), vec![])
            }
            LedgerEvent::PayoutFailed(event) => ("payoutFailed".into(), None, Some(event.payout_id), vec![]),
        };
        Ok(Self {
            seller_id: event::id(recorded)?,
            revision: recorded.revision as i64,
            at,
            kind,
            order_id,
            payout_id,
            rates,
            postings: event.postings(),
        })
    }
}

#[derive(Default)]
struct Payout {
    requested: Option<(Money, DateTime<Utc>)>,
    status: String,
    note: Option<String>,
    ended_at: Option<DateTime<Utc>>,
}

impl Payout {
    fn of(event: LedgerEvent, at: DateTime<Utc>) -> Option<(PayoutId, Self)> {
        let (id, requested, status, note) = match event {
            LedgerEvent::EntryPosted(_) => return None,
            LedgerEvent::PayoutRequested(event) => {
                (event.payout_id, Some((event.amount, at)), PayoutStatus::Requested, None)
            }
            LedgerEvent::PayoutSettled(event) => {
                (event.payout_id, None, PayoutStatus::Settled, Some(event.reference))
            }
            LedgerEvent::PayoutFailed(event) => {
                (event.payout_id, None, PayoutStatus::Failed, Some(event.reason))
            }
        };
        let ended_at = (status != PayoutStatus::Requested).then_some(at);
        Some((id, Self { requested, status: name_of(&status), note, ended_at }))
    }
}

async fn insert(tables: &mut PgConnection, entries: &[Entry]) -> Result<(), sqlx::Error> {
    if entries.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO ledger_entries (seller_id, revision, at, kind, order_id, payout_id, rates, postings)
         SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::timestamptz[], $4::text[], $5::uuid[], $6::text[],
                              $7::text[]::json[], $8::text[]::json[])",
    )
    .bind(entries.iter().map(|entry| entry.seller_id.0).collect::<Vec<_>>())
    .bind(entries.iter().map(|entry| entry.revision).collect::<Vec<_>>())
    .bind(entries.iter().map(|entry| entry.at).collect::<Vec<_>>())
    .bind(entries.iter().map(|entry| entry.kind.as_str()).collect::<Vec<_>>())
    .bind(entries.iter().map(|entry| entry.order_id.map(|id| id.0)).collect::<Vec<_>>())
    .bind(entries.iter().map(|entry| entry.payout_id.map(|id| id.to_string())).collect::<Vec<_>>())
    .bind(entries.iter().map(|entry| json(&entry.rates)).collect::<Vec<_>>())
    .bind(entries.iter().map(|entry| json(&entry.postings)).collect::<Vec<_>>())
    .execute(tables)
    .await?;
    Ok(())
}

async fn add(
    tables: &mut PgConnection,
    balances: &BTreeMap<(AccountId, Currency, LedgerAccount), i64>,
) -> Result<(), sqlx::Error> {
    if balances.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO ledger_balances AS b (seller_id, currency, account, amount)
         SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::bigint[])
         ON CONFLICT (seller_id, currency, account) DO UPDATE SET amount = b.amount + excluded.amount",
    )
    .bind(balances.keys().map(|(seller, ..)| seller.0).collect::<Vec<_>>())
    .bind(balances.keys().map(|(_, currency, _)| currency.to_string()).collect::<Vec<_>>())
    .bind(balances.keys().map(|(.., account)| name_of(account)).collect::<Vec<_>>())
    .bind(balances.values().copied().collect::<Vec<_>>())
    .execute(tables)
    .await?;
    Ok(())
}

async fn write_payouts(
    tables: &mut PgConnection,
    payouts: &BTreeMap<PayoutId, Payout>,
) -> Result<(), sqlx::Error> {
    let (new, known): (Vec<_>, Vec<_>) = payouts.iter().partition(|(_, payout)| payout.requested.is_some());
    if !new.is_empty() {
        let requested = || new.iter().filter_map(|(_, payout)| payout.requested);
        sqlx::query(
            "INSERT INTO payouts (payout_id, seller_id, requested_at, amount, currency, status, note, ended_at)
             SELECT * FROM unnest($1::text[], $2::uuid[], $3::timestamptz[], $4::bigint[], $5::text[], $6::text[],
                                  $7::text[], $8::timestamptz[])",
        )
        .bind(new.iter().map(|(id, _)| id.to_string()).collect::<Vec<_>>())
        .bind(new.iter().map(|(id, _)| id.seller_id.0).collect::<Vec<_>>())
        .bind(requested().map(|(_, at)| at).collect::<Vec<_>>())
        .bind(requested().map(|(amount, _)| amount.amount).collect::<Vec<_>>())
        .bind(requested().map(|(amount, _)| amount.currency.to_string()).collect::<Vec<_>>())
        .bind(new.iter().map(|(_, payout)| payout.status.as_str()).collect::<Vec<_>>())
        .bind(new.iter().map(|(_, payout)| payout.note.as_deref()).collect::<Vec<_>>())
        .bind(new.iter().map(|(_, payout)| payout.ended_at).collect::<Vec<_>>())
        .execute(&mut *tables)
        .await?;
    }
    if !known.is_empty() {
        sqlx::query(
            "UPDATE payouts p SET status = c.status, note = c.note, ended_at = c.ended_at
             FROM unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[]) AS c (payout_id, status, note, ended_at)
             WHERE p.payout_id = c.payout_id",
        )
        .bind(known.iter().map(|(id, _)| id.to_string()).collect::<Vec<_>>())
        .bind(known.iter().map(|(_, payout)| payout.status.as_str()).collect::<Vec<_>>())
        .bind(known.iter().map(|(_, payout)| payout.note.as_deref()).collect::<Vec<_>>())
        .bind(known.iter().map(|(_, payout)| payout.ended_at).collect::<Vec<_>>())
        .execute(tables)
        .await?;
    }
    Ok(())
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryView {
    /// Of the seller's ledger.
    pub revision: u64,
    pub at: DateTime<Utc>,
    pub kind: String,
    pub order_id: Option<OrderId>,
    pub payout_id: Option<PayoutId>,
    pub rates: Vec<CommissionRate>,
    pub postings: Vec<Posting>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PayoutView {
    pub payout_id: PayoutId,
    pub amount: Money,
    pub status: PayoutStatus,
    /// The bank's reference, or why it failed.
    pub note: Option<String>,
    pub requested_at: DateTime<Utc>,
    pub ended_at: Option<DateTime<Utc>>,
}

/// Each account of a seller, by currency.
pub async fn balances(
    pool: &PgPool,
    seller: AccountId,
) -> Result<BTreeMap<Currency, BTreeMap<LedgerAccount, i64>>, QueryError> {
    let rows = sqlx::query("SELECT * FROM views.ledger_balances WHERE seller_id = $1")
        .bind(seller.0)
        .fetch_all(pool)
        .await?;
    let mut balances = BTreeMap::<Currency, BTreeMap<LedgerAccount, i64>>::new();
    for row in &rows {
        let Money { amount, currency } = query::money(row, "amount")?;
        balances.entry(currency).or_default().insert(query::named(row, "account")?, amount);
    }
    Ok(balances)
}

/// Newest first, in the order of the ledger.
pub async fn entries(
    pool: &PgPool,
    seller: AccountId,
    cursor: Option<&str>,
    size: u32,
) -> Result<Page<EntryView>, QueryError> {
    let before = cursor.map_or(Ok(i64::MAX), query::decode::<i64>)?;
    let rows = sqlx::query(
        "SELECT * FROM views.ledger_entries WHERE seller_id = $1 AND revision < $2 ORDER BY revision DESC LIMIT $3",
    )
    .bind(seller.0)
    .bind(before)
    .bind(query::limit(size))
    .fetch_all(pool)
    .await?;
    query::page_by(&rows, size, |row| row.try_get::<i64, _>("revision"), entry)
}

fn entry(row: &PgRow) -> Result<EntryView, sqlx::Error> {
    let Json(rates) = row.try_get("rates")?;
    let Json(postings) = row.try_get("postings")?;
    Ok(EntryView {
        revision: row.try_get::<i64, _>("revision")? as u64,
        at: row.try_get("at")?,
        kind: row.try_get("kind")?,
        order_id: row.try_get::<Option<Uuid>, _>("order_id")?.map(OrderId),
        payout_id: payout_id(row)?,
        rates,
        postings,
    })
}

fn payout_id(row: &PgRow) -> Result<Option<PayoutId>, sqlx::Error> {
    let id: Option<&str> = row.try_get("payout_id")?;
    id.map(str::parse).transpose().map_err(|error: uuid::Error| query::malformed("payout_id", error))
}

/// Newest first; of one seller, or of all.
pub async fn payouts(
    pool: &PgPool,
    seller: Option<AccountId>,
    status: Option<PayoutStatus>,
    cursor: Option<&str>,
    size: u32,
) -> Result<Page<PayoutView>, QueryError> {
    let (at, id) = query::after(cursor)?;
    let rows = sqlx::query(
        "SELECT *, md5(payout_id)::uuid AS key FROM views.payouts
         WHERE (requested_at, md5(payout_id)::uuid) < ($1, $2) AND ($3::uuid IS NULL OR seller_id = $3)
           AND ($4::text IS NULL OR status = $4)
         ORDER BY requested_at DESC, key DESC LIMIT $5",
    )
    .bind(at)
    .bind(id)
    .bind(seller.map(|seller| seller.0))
    .bind(status.as_ref().map(name_of))
    .bind(query::limit(size))
    .fetch_all(pool)
    .await?;
    let key = |row: &PgRow| Ok((row.try_get("requested_at")?, row.try_get::<Uuid, _>("key")?));
    query::page(&rows, size, key, payout)
}

fn payout(row: &PgRow) -> Result<PayoutView, sqlx::Error> {
    Ok(PayoutView {
        payout_id: payout_id(row)?.ok_or_else(|| query::malformed("payout_id", "it is null"))?,
        amount: query::money(row, "amount")?,
        status: query::named(row, "status")?,
        note: row.try_get("note")?,
        requested_at: row.try_get("requested_at")?,
        ended_at: row.try_get("ended_at")?,
    })
}
