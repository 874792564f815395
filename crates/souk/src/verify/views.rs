//! The views, as they were in one moment, against what the log comes to at the position of each.

use std::{
    collections::{HashMap, HashSet},
    str::FromStr,
    time::Duration,
};

use anyhow::bail;
use futures::TryStreamExt;
use souk_audit::{Audit, Findings};
use souk_domain::{AccountId, Currency, OrderId, PromotionId, ReturnId, SkuId};
use souk_event_log::Position;
use souk_projections::query::name_of;
use sqlx::{PgPool, Postgres, Row, Transaction, postgres::PgRow};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::progress::Progress;

/// How long no view may move before nobody is taken to write them.
const PATIENCE: Duration = Duration::from_mins(1);

/// What is compared, by the view's name.
const VIEWS: [&str; 9] = [
    "accounts",
    "catalogue",
    "checkouts",
    "ledger",
    "orders",
    "promotions",
    "returns",
    "seller_orders",
    "stock",
];

/// All views in one moment.
pub(super) struct Snapshot {
    database: Transaction<'static, Postgres>,
    /// Up to where each has applied the log; of those that are still to be compared.
    waiting: Vec<(&'static str, Position)>,
    compared: Vec<(&'static str, Position)>,
}

impl Snapshot {
    /// As soon as every view holds everything up to the position.
    pub(super) async fn at(pool: &PgPool, head: Position) -> anyhow::Result<Self> {
        let progress = Progress::new("views", head + 1);
        let (mut slowest, mut moved) = (None, Instant::now());
        loop {
            let mut database = pool.begin().await?;
            sqlx::query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
                .execute(&mut *database)
                .await?;
            let waiting = positions(&mut database).await?;
            let now =
                waiting.iter().map(|(_, position)| *position).min().filter(|_| waiting.len() == VIEWS.len());
            if now >= Some(head) {
                progress.finish();
                return Ok(Self { database, waiting, compared: vec![] });
            }
            database.rollback().await?;
            if now > slowest {
                (slowest, moved) = (now, Instant::now());
                progress.set(now.map_or(0, |position| position + 1));
            }
            if moved.elapsed() > PATIENCE {
                bail!("the views do not get on: see `souk views status`");
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// The last position that any of them has.
    pub(super) fn end(&self) -> Position {
        self.waiting.iter().map(|(_, position)| *position).max().unwrap_or_default()
    }

    /// Compares those that have everything before the position, and no more.
    pub(super) async fn compare_before(
        &mut self,
        position: Position,
        audit: &mut Audit,
    ) -> anyhow::Result<()> {
        while let Some(place) = self.waiting.iter().position(|(_, at)| *at < position) {
            let (name, at) = self.waiting.swap_remove(place);
            self.compare(name, at, audit).await?;
        }
        Ok(())
    }

    pub(super) async fn compare_rest(&mut self, audit: &mut Audit) -> anyhow::Result<()> {
        self.compare_before(Position::MAX, audit).await
    }

    pub(super) fn compared(mut self) -> Vec<(&'static str, Position)> {
        self.compared.sort_unstable();
        self.compared
    }

    async fn compare(&mut self, name: &'static str, at: Position, audit: &mut Audit) -> anyhow::Result<()> {
        let database = &mut self.database;
        let mut findings = std::mem::take(&mut audit.findings);
        let told = &mut Told { view: name, at, findings: &mut findings };
        match name {
            "accounts" => {
                count(database, "SELECT count(*) FROM views.accounts", audit.accounts, told).await?;
            }
            "catalogue" => count(database, "SELECT count(*) FROM views.items", audit.items, told).await?,
            "checkouts" => checkouts(database, audit, told).await?,
            "ledger" => ledger(database, audit, told).await?,
            "orders" => orders(database, audit, told).await?,
            "promotions" => promotions(database, audit, told).await?,
            "returns" => returns(database, audit, told).await?,
            "seller_orders" => seller_orders(database, audit, told).await?,
            "stock" => stock(database, audit, told).await?,
            other => bail!("nothing is known of how to compare the view {other}"),
        }
        audit.findings = findings;
        self.compared.push((name, at));
        Ok(())
    }
}

async fn positions(
    database: &mut Transaction<'static, Postgres>,
) -> anyhow::Result<Vec<(&'static str, Position)>> {
    // On a database that is new nobody has written anything yet.
    let there: bool = sqlx::query_scalar("SELECT to_regclass('views.projections') IS NOT NULL")
        .fetch_one(&mut **database)
        .await?;
    if !there {
        return Ok(vec![]);
    }
    let rows = sqlx::query("SELECT name, state, position, error FROM views.projections WHERE served")
        .fetch_all(&mut **database)
        .await?;
    let mut positions = Vec::new();
    for row in rows {
        let name: String = row.try_get("name")?;
        let Some(name) = VIEWS.into_iter().find(|view| *view == name) else { continue };
        if row.try_get::<String, _>("state")? == "stopped" {
            let error: Option<String> = row.try_get("error")?;
            bail!("the view {name} has stopped: {}", error.unwrap_or_default());
        }
        if let Some(position) = row.try_get::<Option<i64>, _>("position")? {
            positions.push((name, position as Position));
        }
    }
    Ok(positions)
}

/// Where what is found goes.
struct Told<'a> {
    view: &'static str,
    at: Position,
    findings: &'a mut Findings,
}

impl Told<'_> {
    fn differs(
        &mut self,
        stream: impl std::fmt::Display,
        expected: impl std::fmt::Display,
        found: impl std::fmt::Display,
    ) {
        let problem = format!("view {}: expected {expected}, found {found}", self.view);
        self.findings.push(stream, Some(self.at), problem);
    }
}

async fn count(
    database: &mut Transaction<'static, Postgres>,
    query: &'static str,
    expected: u64,
    told: &mut Told<'_>,
) -> anyhow::Result<()> {
    let found = sqlx::query_scalar::<_, i64>(query).fetch_one(&mut **database).await?;
    if found as u64 != expected {
        told.differs("-", format!("{expected} rows"), found);
    }
    Ok(())
}

/// Reads a view row by row, and compares each with what there should be under its key; then looks for what is missing.
async fn each<K, V>(
    database: &mut Transaction<'static, Postgres>,
    query: &'static str,
    read: impl Fn(&PgRow) -> Result<(K, V), sqlx::Error>,
    (stream, expected): (impl Fn(&K) -> String, impl Fn(&K) -> Option<V>),
    all: impl Iterator<Item = K>,
    told: &mut Told<'_>,
) -> anyhow::Result<()>
where
    K: Eq + std::hash::Hash,
    V: PartialEq + std::fmt::Debug,
{
    let mut seen = HashSet::new();
    let mut rows = sqlx::query(query).fetch(&mut **database);
    while let Some(row) = rows.try_next().await? {
        let (key, found) = read(&row)?;
        match expected(&key) {
            Some(expected) if expected == found => {}
            Some(expected) => told.differs(stream(&key), format!("{expected:?}"), format!("{found:?}")),
            None => told.differs(stream(&key), "nothing", format!("{found:?}")),
        }
        seen.insert(key);
    }
    for key in all.filter(|key| !seen.contains(key)) {
        if let Some(expected) = expected(&key) {
            told.differs(stream(&key), format!("{expected:?}"), "nothing");
        }
    }
    Ok(())
}

#[derive(Debug, PartialEq)]
struct Level {
    on_hand: i64,
    reserved: i64,
}

async fn stock(
    database: &mut Transaction<'static, Postgres>,
    audit: &Audit,
    told: &mut Told<'_>,
) -> anyhow::Result<()> {
    let read = |row: &PgRow| {
        let level = Level { on_hand: row.try_get("on_hand")?, reserved: row.try_get("reserved")? };
        Ok((SkuId(row.try_get("sku_id")?), level))
    };
    // What nobody ever received is no SKU; a reservation of it was refused.
    let of = |sku: &SkuId| {
        let stock = audit
            .sku(*sku)
            .filter(|stock| stock.received > 0 || stock.on_hand() != 0 || stock.reserved != 0)?;
        Some(Level { on_hand: stock.on_hand(), reserved: stock.reserved })
    };
    let expected =
        |sku: &SkuId| of(sku).or_else(|| audit.sku(*sku).map(|_| Level { on_hand: 0, reserved: 0 }));
    let all = audit.skus().map(|(sku, _)| sku).filter(|sku| of(sku).is_some());
    let query = "SELECT sku_id, on_hand, reserved FROM views.stock";
    each(database, query, read, (|sku: &SkuId| format!("inventory-{sku}"), expected), all, told).await
}

fn text(row: &PgRow, column: &str) -> Result<String, sqlx::Error> {
    Ok(row.try_get::<Option<String>, _>(column)?.unwrap_or_default())
}

fn order_of(row: &PgRow) -> Result<OrderId, sqlx::Error> {
    row.try_get("order_id").map(OrderId)
}

async fn orders(
    database: &mut Transaction<'static, Postgres>,
    audit: &Audit,
    told: &mut Told<'_>,
) -> anyhow::Result<()> {
    let stream = |id: &OrderId| format!("order-{id}");
    let read = |row: &PgRow| {
        let found =
            (text(row, "status")?, text(row, "reason")?, row.try_get("total")?, text(row, "currency")?);
        Ok((order_of(row)?, found))
    };
    let expected = |id: &OrderId| {
        let order = audit.order(*id)?;
        let total = order.total?;
        Some((
            name_of(&order.status?),
            order.reason.as_ref().map(name_of).unwrap_or_default(),
            total.amount,
            total.currency.to_string(),
        ))
    };
    let query = "SELECT order_id, status, reason, total, currency FROM views.orders LEFT JOIN views.order_states USING (order_id)";
    each(database, query, read, (stream, expected), audit.orders().map(|(id, _)| id), told).await?;
    shipments(database, "SELECT order_id, seller_id, status FROM views.order_shipments", audit, told).await
}

async fn seller_orders(
    database: &mut Transaction<'static, Postgres>,
    audit: &Audit,
    told: &mut Told<'_>,
) -> anyhow::Result<()> {
    let stream = |id: &OrderId| format!("order-{id}");
    let read = |row: &PgRow| {
        let found =
            (text(row, "status")?, row.try_get::<i64, _>("sellers")? as u32, row.try_get::<i64, _>("goods")?);
        Ok((order_of(row)?, found))
    };
    let expected = |id: &OrderId| {
        let order = audit.order(*id)?;
        Some((name_of(&order.status?), order.sellers, order.goods))
    };
    let query = "SELECT order_id, min(status) AS status, count(*) AS sellers, sum(total)::bigint AS goods
         FROM views.seller_orders LEFT JOIN views.seller_order_states USING (order_id) GROUP BY order_id";
    each(database, query, read, (stream, expected), audit.orders().map(|(id, _)| id), told).await?;
    shipments(database, "SELECT order_id, seller_id, status FROM views.seller_shipments", audit, told).await
}

async fn shipments(
    database: &mut Transaction<'static, Postgres>,
    query: &'static str,
    audit: &Audit,
    told: &mut Told<'_>,
) -> anyhow::Result<()> {
    type Key = (OrderId, AccountId);
    let read = |row: &PgRow| {
        Ok(((order_of(row)?, AccountId(row.try_get::<Uuid, _>("seller_id")?)), text(row, "status")?))
    };
    let expected = |(id, seller): &Key| {
        let order = audit.order(*id)?;
        audit.shipments(order).find(|(of, _)| of == seller).map(|(_, status)| name_of(&status))
    };
    let all =
        audit.orders().flat_map(|(id, order)| audit.shipments(order).map(move |(seller, _)| (id, seller)));
    each(database, query, read, (|(id, seller): &Key| format!("shipment-{id}-{seller}"), expected), all, told)
        .await
}

async fn checkouts(
    database: &mut Transaction<'static, Postgres>,
    audit: &Audit,
    told: &mut Told<'_>,
) -> anyhow::Result<()> {
    let state = |parked| if parked { "parked" } else { "in flight" };
    let read = |row: &PgRow| Ok((order_of(row)?, state(row.try_get("parked")?)));
    let expected = |id: &OrderId| audit.order(*id)?.checkout().map(state);
    let all = audit.orders().map(|(id, _)| id);
    let query = "SELECT order_id, parked FROM views.checkouts";
    each(database, query, read, (|id: &OrderId| format!("checkout-{id}"), expected), all, told).await
}

async fn returns(
    database: &mut Transaction<'static, Postgres>,
    audit: &Audit,
    told: &mut Told<'_>,
) -> anyhow::Result<()> {
    let read = |row: &PgRow| Ok((parsed::<ReturnId>(row, "return_id")?, text(row, "status")?));
    let expected = |id: &ReturnId| audit.returns().get(id).map(name_of);
    let all = audit.returns().keys().copied();
    let query = "SELECT return_id, status FROM views.returns";
    each(database, query, read, (|id: &ReturnId| format!("return-{}", id.returns), expected), all, told).await
}

async fn ledger(
    database: &mut Transaction<'static, Postgres>,
    audit: &Audit,
    told: &mut Told<'_>,
) -> anyhow::Result<()> {
    type Key = (AccountId, Currency, String);
    let balances: HashMap<Key, i64> = audit
        .balances()
        .iter()
        .map(|((seller, currency, account), amount)| ((*seller, *currency, name_of(account)), *amount))
        .collect();
    let read = |row: &PgRow| {
        let seller = AccountId(row.try_get("seller_id")?);
        Ok(((seller, parsed(row, "currency")?, text(row, "account")?), row.try_get::<i64, _>("amount")?))
    };
    let expected = |key: &Key| balances.get(key).copied();
    let all = balances.iter().filter(|(_, amount)| **amount != 0).map(|(key, _)| key.clone());
    let stream = |(seller, ..): &Key| format!("ledger-{seller}");
    let query = "SELECT seller_id, currency, account, amount FROM views.ledger_balances";
    each(database, query, read, (stream, expected), all, told).await
}

async fn promotions(
    database: &mut Transaction<'static, Postgres>,
    audit: &Audit,
    told: &mut Told<'_>,
) -> anyhow::Result<()> {
    let uses: HashMap<PromotionId, (u64, u64)> = audit.promotions().collect();
    let read = |row: &PgRow| {
        let count = |column| row.try_get::<i64, _>(column).map(|count| count as u64);
        Ok((PromotionId(row.try_get("promotion_id")?), (count("claimed")?, count("redeemed")?)))
    };
    let expected = |id: &PromotionId| uses.get(id).copied();
    let query = "SELECT promotion_id, claimed, redeemed FROM views.promotions";
    let stream = |id: &PromotionId| format!("promotion-{id}");
    each(database, query, read, (stream, expected), uses.keys().copied(), told).await
}

fn parsed<T: FromStr<Err: std::error::Error + Send + Sync + 'static>>(
    row: &PgRow,
    column: &str,
) -> Result<T, sqlx::Error> {
    let text: &str = row.try_get(column)?;
    text.parse()
        .map_err(|error| sqlx::Error::ColumnDecode { index: column.to_owned(), source: Box::new(error) })
}
