//! What came of the invoices, checked against the log and against the view of orders: the file's sales are what was
//! placed, what was refused and what was skipped, to the penny.

use std::{collections::BTreeMap, collections::HashMap, time::Duration};

use futures::StreamExt;
use souk_commands::Market;
use souk_domain::{
    DomainEvent, OrderId,
    order::{OrderEvent, OrderPlaced},
};
use souk_event_log::{Direction, Filter};
use sqlx::{PgPool, Row};
use uuid::Uuid;

use super::{
    End, must,
    sheet::{Exact, SaleInvoice, Sheet, Tally},
};
use crate::progress::grouped;

/// Refused invoices that are shown one by one.
const SHOWN: usize = 20;

#[derive(Default)]
pub(super) struct Outcome {
    pub(super) sheet: Sheet,
    pub(super) returns_new: u64,
    /// What each order that was placed comes to, in pennies.
    orders: HashMap<OrderId, i64>,
    new: u64,
    placed_rows: u64,
    ends: BTreeMap<End, u64>,
    refused: Vec<String>,
    refused_sales: Tally,
}

impl Outcome {
    pub(super) fn count(&mut self, invoice: &SaleInvoice, order: OrderId, end: End, new: bool) {
        self.orders.insert(order, invoice.pennies());
        self.new += u64::from(new);
        self.placed_rows += invoice.rows;
        *self.ends.entry(end).or_default() += 1;
    }

    pub(super) fn refuse(&mut self, invoice: &SaleInvoice, error: &anyhow::Error) {
        self.refused.push(format!("invoice {}: {error:#}", invoice.number));
        self.refused_sales.rows += invoice.rows;
        self.refused_sales.money.0 += Exact::of_pennies(invoice.pennies()).0;
    }

    fn placed(&self) -> Exact {
        Exact(self.orders.values().map(|pennies| Exact::of_pennies(*pennies).0).sum())
    }
}

/// The outcome, with what the log and the view say of the same orders.
pub(super) struct Checked {
    outcome: Outcome,
    in_log: Found,
    in_view: Found,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Found {
    orders: u64,
    completed: u64,
    pennies: i128,
}

pub(super) async fn check(market: &Market, pool: &PgPool, outcome: Outcome) -> anyhow::Result<Checked> {
    let in_log = in_log(market, &outcome).await?;
    let in_view = in_view(pool, &outcome).await?;
    Ok(Checked { outcome, in_log, in_view })
}

async fn in_log(market: &Market, outcome: &Outcome) -> anyhow::Result<Found> {
    let filter = Filter::event_types(["OrderPlaced", "OrderCompleted"]);
    let mut events = market.log.read_all(0, filter, Direction::Forward, usize::MAX);
    let mut found = Found::default();
    while let Some(event) = events.next().await {
        let event = event?;
        let Ok(order) = event.stream.id().parse::<OrderId>() else { continue };
        if !outcome.orders.contains_key(&order) {
            continue;
        }
        match OrderEvent::from_json(&event.event_type, event.schema_version(), &event.data)? {
            OrderEvent::OrderPlaced(OrderPlaced { lines, total, .. }) => {
                let sum: i64 =
                    lines.iter().map(|line| line.unit_price.amount * i64::from(line.quantity)).sum();
                must(sum == total.amount, &format!("the lines of order {order}"))?;
                found.orders += 1;
                found.pennies += i128::from(sum);
            }
            OrderEvent::OrderCompleted(_) => found.completed += 1,
            _ => {}
        }
    }
    Ok(found)
}

async fn in_view(pool: &PgPool, outcome: &Outcome) -> anyhow::Result<Found> {
    let orders: Vec<Uuid> = outcome.orders.keys().map(|order| order.0).collect();
    let row = sqlx::query(
        "SELECT count(*) AS orders, count(*) FILTER (WHERE s.status = 'completed') AS completed,
                coalesce(sum(o.total), 0)::bigint AS pennies
           FROM views.orders o JOIN views.order_states s USING (order_id)
          WHERE o.order_id = ANY ($1)",
    )
    .bind(orders)
    .fetch_one(pool)
    .await?;
    Ok(Found {
        orders: row.try_get::<i64, _>("orders")? as u64,
        completed: row.try_get::<i64, _>("completed")? as u64,
        pennies: row.try_get::<i64, _>("pennies")?.into(),
    })
}

impl Checked {
    /// Fails if the figures do not add up, after it has shown them.
    pub(super) fn print(&self, took: Duration) -> anyhow::Result<()> {
        let Self { outcome, in_log, in_view } = self;
        let sheet = &outcome.sheet;
        let line =
            |what: &str, rows: u64, money: Exact| println!("{what:<34}{:>10} {money:>18}", grouped(rows));
        println!("{:<34}{:>10} {:>18}", format!("read in {:.1} s", took.as_secs_f64()), "rows", "GBP");
        println!("{:<34}{:>10}", "file", grouped(sheet.rows));
        line("  sales", sheet.sales.rows, sheet.sales.money);
        line("    placed", outcome.placed_rows, outcome.placed());
        line("    refused", outcome.refused_sales.rows, outcome.refused_sales.money);
        let mut other_rows = 0;
        for (reason, tally) in &sheet.skipped {
            line(&format!("    skipped: {}", reason.name()), tally.rows, tally.money);
            other_rows += tally.rows;
        }
        println!("{:<34}{:>10}", "  returns taken back into stock", grouped(sheet.returns.len() as u64));
        println!("{:<34}{:>10}", "    of them new", grouped(outcome.returns_new));
        println!();
        let invoices = outcome.orders.len() + outcome.refused.len();
        println!("{:<34}{:>10}", "invoices with something to place", grouped(invoices as u64));
        println!("{:<34}{:>10}", "  placed", grouped(outcome.orders.len() as u64));
        println!("{:<34}{:>10}", "    of them new", grouped(outcome.new));
        for (end, count) in &outcome.ends {
            let name = match end {
                End::Completed => "    completed".to_owned(),
                End::Cancelled(reason) => format!("    cancelled ({reason})"),
                End::Parked => "    parked: an operator has to look".to_owned(),
            };
            println!("{name:<34}{:>10}", grouped(*count));
        }
        println!("{:<34}{:>10}", "  refused", grouped(outcome.refused.len() as u64));
        for refused in outcome.refused.iter().take(SHOWN) {
            println!("    {refused}");
        }
        println!();
        for (name, found) in [("in the event log", in_log), ("in the view of orders", in_view)] {
            let money = Exact(found.pennies * 10_000);
            println!(
                "{name:<34}{:>10} {money:>18}  {} completed",
                grouped(found.orders),
                grouped(found.completed)
            );
        }
        let sum = outcome.placed().0 + outcome.refused_sales.money.0 + sheet.skipped_sales().0;
        println!("{:<34}{:>10} {:>18}", "placed + refused + skipped", "", Exact(sum));

        let rows = outcome.placed_rows + outcome.refused_sales.rows + other_rows + sheet.returns.len() as u64;
        must(
            rows == sheet.rows,
            "the rows of the file are not those that were placed, refused, skipped and returned",
        )?;
        must(
            sum == sheet.sales.money.0,
            "the money of the file's sales is not what was placed, refused and skipped",
        )?;
        let placed = Found {
            orders: outcome.orders.len() as u64,
            completed: outcome.ends.get(&End::Completed).copied().unwrap_or(0),
            pennies: outcome.orders.values().map(|pennies| i128::from(*pennies)).sum(),
        };
        must(*in_log == placed, "the event log has other orders than were placed")?;
        must(*in_view == placed, "the view of orders has other orders than were placed")
    }
}
