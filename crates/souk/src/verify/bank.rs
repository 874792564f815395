//! Money against the books of the sandbox's bank: what it charged and gave back, order by order.

use std::{collections::HashMap, path::Path};

use anyhow::Context;
use rusqlite::{Connection, OpenFlags};
use souk_audit::{Audit, Findings, Order};
use souk_commands::checkout::charge_key;
use souk_domain::{OrderId, order::OrderStatus};
use uuid::Uuid;

/// How many charges there are; `None` if nothing was ever asked of this bank: then it is not the market's.
pub(super) fn compare(path: &Path, audit: &Audit, findings: &mut Findings) -> anyhow::Result<Option<u64>> {
    let bank = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)
        .with_context(|| format!("the sandbox {}", path.display()))?;
    let asked: i64 = bank.query_row("SELECT count(*) FROM charges", [], |row| row.get(0))?;
    if asked == 0 {
        return Ok(None);
    }
    // What the bank did later than that may not be in the part of the log that was read.
    let until = audit.time().map_or(i64::MAX, |time| time.timestamp_millis());
    let mut by_key: HashMap<Uuid, (OrderId, &Order)> =
        audit.orders().map(|(id, order)| (charge_key(id), (id, order))).collect();
    let mut reading = bank.prepare(
        "SELECT key, amount, currency, coalesce(back, 0), at FROM charges
         LEFT JOIN (SELECT charge, sum(amount) AS back FROM refunds WHERE at < ?1 GROUP BY charge) ON charge = key
         WHERE outcome = 'charged'",
    )?;
    let mut rows = reading.query([until])?;
    while let Some(row) = rows.next()? {
        let key = Uuid::from_bytes(row.get(0)?);
        let charged = Charged { amount: row.get(1)?, currency: row.get(2)?, refunded: row.get(3)? };
        let at: i64 = row.get(4)?;
        match by_key.remove(&key) {
            Some((id, order)) => {
                if let Err(problem) = charged.is_booked(order) {
                    findings.push(format!("payment-{id}"), Some(order.position), problem);
                }
            }
            None if at < until => {
                let problem =
                    format!("the bank has charged {} {} for no order", charged.amount, charged.currency);
                findings.push(format!("ch_{}", key.simple()), None, problem);
            }
            None => {}
        }
    }
    // What is left was never charged there.
    for (key, (id, order)) in by_key {
        let name = format!("ch_{}", key.simple());
        if order.money.charge_id.as_deref() == Some(&*name) {
            let problem = format!("expected the bank to have charged {}, found nothing", order.money.charged);
            findings.push(format!("payment-{id}"), Some(order.position), problem);
        }
    }
    Ok(Some(asked as u64))
}

struct Charged {
    amount: i64,
    currency: String,
    refunded: i64,
}

impl Charged {
    fn is_booked(&self, order: &Order) -> Result<(), String> {
        let Self { amount, currency, refunded } = self;
        let (money, ended) = (&order.money, order.status.is_some_and(OrderStatus::is_final));
        // By hand the operator is believed, who may have been at the bank or not.
        if money.is_by_hand() || (!ended && money.charged == 0) {
            return Ok(());
        }
        let due = money.due.map(|due| due.currency.to_string()).unwrap_or_default();
        if (money.charged, &due) != (*amount, currency) {
            return Err(format!(
                "expected a charge of {} {due} at the bank, found {amount} {currency}",
                money.charged
            ));
        }
        let at_the_bank = money.refunded - money.refunded_by_hand;
        // What the bank has given back already may be yet to be recorded; and an operator who has settled a refund may have
        // done so at the bank.
        if (at_the_bank..=money.asked_back.max(at_the_bank)).contains(refunded) {
            return Ok(());
        }
        Err(format!("expected {at_the_bank} given back at the bank, found {refunded}"))
    }
}
