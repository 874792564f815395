//! An event as a row: the columns that CSV and Parquet have in common, which are those of the view `events` in the
//! SQLite file, too. docs/analysts.md tells what is in them.

use std::{borrow::Cow, collections::HashMap};

use chrono::{DateTime, Utc};
use serde_json::value::RawValue;
use souk_domain::Money;
use souk_event_log::{EventLine, Recorded, json_text};
use uuid::Uuid;

pub(super) struct Row<'a> {
    event: &'a Recorded,
    line: EventLine<'a>,
    data: Cow<'a, str>,
    metadata: Cow<'a, str>,
    money: Option<Money>,
}

pub(super) struct Column {
    pub(super) name: &'static str,
    pub(super) value: Value,
}

/// What is in a column, and how a row's is found. Optional values are null where there is nothing to say.
#[derive(Clone, Copy)]
pub(super) enum Value {
    Long(fn(&Row) -> i64),
    Short(fn(&Row) -> i32),
    Time(fn(&Row) -> DateTime<Utc>),
    Text(TextOf),
    Json(TextOf),
    OptionalLong(fn(&Row) -> Option<i64>),
    OptionalText(for<'a> fn(&'a Row) -> Option<Cow<'a, str>>),
}

type TextOf = for<'a> fn(&'a Row) -> Cow<'a, str>;

#[rustfmt::skip]
pub(super) const COLUMNS: [Column; 19] = [
    column("position", Value::Long(|row| row.line.position as i64)),
    column("stream", Value::Text(|row| row.line.stream.into())),
    column("category", Value::Text(|row| row.event.stream.category().into())),
    column("stream_id", Value::Text(|row| row.event.stream.id().into())),
    column("revision", Value::Long(|row| row.line.revision as i64)),
    column("type", Value::Text(|row| row.line.event_type.into())),
    column("version", Value::Short(|row| row.line.version as i32)),
    column("recorded_at", Value::Time(|row| row.line.recorded_at)),
    column("occurred_at", Value::Time(|row| row.line.occurred_at)),
    column("actor", Value::OptionalText(|row| row.line.actor.map(Cow::from))),
    column("amount", Value::OptionalLong(|row| row.money.map(|money| money.amount))),
    column("currency", Value::OptionalText(|row| row.money.map(|money| money.currency.to_string().into()))),
    column("correlation_id", Value::OptionalText(|row| row.line.correlation_id.map(id))),
    column("causation_id", Value::OptionalText(|row| row.line.causation_id.map(id))),
    column("command_id", Value::OptionalText(|row| row.line.command_id.map(id))),
    column("data", Value::Json(|row| Cow::Borrowed(&row.data))),
    column("metadata", Value::Json(|row| Cow::Borrowed(&row.metadata))),
    column("id", Value::Text(|row| id(row.line.id))),
    column("hash", Value::OptionalText(|row| {
        row.event.hash.map(|hash| blake3::Hash::from_bytes(hash).to_hex().to_string().into())
    })),
];

const fn column(name: &'static str, value: Value) -> Column {
    Column { name, value }
}

fn id(id: Uuid) -> Cow<'static, str> {
    id.to_string().into()
}

impl<'a> Row<'a> {
    pub(super) fn of(event: &'a Recorded) -> Self {
        Self {
            event,
            line: event.into(),
            data: json_text(&event.data),
            metadata: json_text(&event.metadata),
            money: money(&event.data),
        }
    }
}

/// What the event comes to, where it says so: its total, its amount, or its price.
fn money(data: &[u8]) -> Option<Money> {
    // Most events have nothing to do with money, and need not be taken apart.
    memchr::memmem::find(data, b"\"currency\"")?;
    let fields: HashMap<&str, &RawValue> = serde_json::from_slice(data).ok()?;
    let names = ["total", "amount", "price"];
    names.iter().filter_map(|name| fields.get(name)).find_map(|field| serde_json::from_str(field.get()).ok())
}

#[cfg(test)]
mod tests {
    use souk_domain::Currency;

    use super::*;

    #[test]
    fn an_event_comes_to_its_total_its_amount_or_its_price() {
        let usd = |amount| Some(Money::new(amount, Currency::USD));
        for (data, expected) in [
            (
                r#"{"lines":[{"unitPrice":{"amount":1,"currency":"USD"}}],"total":{"amount":2,"currency":"USD"}}"#,
                usd(2),
            ),
            (r#"{"amount":{"amount":-3,"currency":"USD"},"chargeId":"x"}"#, usd(-3)),
            (r#"{"skuId":"x","price":{"amount":4,"currency":"USD"}}"#, usd(4)),
            (r#"{"variant":{"price":{"amount":5,"currency":"USD"}}}"#, None),
            (r#"{"amount":6,"currency":"USD"}"#, None),
            (r#"{"total":"\"currency\""}"#, None),
            ("[\"currency\"]", None),
            ("", None),
        ] {
            assert_eq!(money(data.as_bytes()), expected, "{data}");
        }
    }
}
