//! What the queries of all read models share: pages by keyset, opaque cursors, and what can go wrong.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use serde::{Serialize, de::DeserializeOwned};
use souk_domain::{Currency, Money};
use sqlx::{Row, postgres::PgRow};
use uuid::Uuid;

/// The most rows on a page.
pub const LARGEST_PAGE: u32 = 100;

/// One page of a list, newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    pub rows: Vec<T>,
    /// Asks for the page after this one; `None` on the last.
    pub next_cursor: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    #[error("the cursor is not one of this list")]
    Cursor,
    /// Worth another try soon: the view is being built for the first time, or again from nothing.
    #[error("the view is still being built")]
    Building,
    #[error("the database does not answer: {0}")]
    Unavailable(#[source] sqlx::Error),
    #[error("the view cannot be read: {0}")]
    Failed(#[source] sqlx::Error),
}

impl From<sqlx::Error> for QueryError {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Database(inner) => match inner.code().as_deref() {
                // undefined_table, invalid_schema_name
                Some("42P01" | "3F000") => Self::Building,
                // connection exceptions, insufficient resources, operator intervention
                Some(code) if ["08", "53", "57"].iter().any(|class| code.starts_with(class)) => {
                    Self::Unavailable(error)
                }
                _ => Self::Failed(error),
            },
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => Self::Unavailable(error),
            _ => Self::Failed(error),
        }
    }
}

/// Where a page ended: the sort key and id of its last row.
pub(crate) type Key = (DateTime<Utc>, Uuid);

/// The key that a page begins after; without a cursor one that stands before every row.
pub(crate) fn after(cursor: Option<&str>) -> Result<Key, QueryError> {
    let Some(cursor) = cursor else { return Ok((DateTime::<Utc>::MAX_UTC, Uuid::max())) };
    let (micros, id): (i64, Uuid) = decode(cursor)?;
    Ok((DateTime::from_timestamp_micros(micros).ok_or(QueryError::Cursor)?, id))
}

/// How many rows to ask for: one more than the page holds says whether there is another page.
pub(crate) fn limit(size: u32) -> i64 {
    i64::from(size.clamp(1, LARGEST_PAGE)) + 1
}

/// Makes a page of up to `limit(size)` rows.
pub(crate) fn page<T>(
    rows: &[PgRow],
    size: u32,
    key: impl Fn(&PgRow) -> Result<Key, sqlx::Error>,
    read: impl Fn(&PgRow) -> Result<T, sqlx::Error>,
) -> Result<Page<T>, QueryError> {
    page_by(rows, size, |row| key(row).map(|(at, id)| (at.timestamp_micros(), id)), read)
}

/// As [`page`], of a list in an order of its own: the cursor holds its sort key.
pub(crate) fn page_by<T, K: Serialize>(
    rows: &[PgRow],
    size: u32,
    key: impl Fn(&PgRow) -> Result<K, sqlx::Error>,
    read: impl Fn(&PgRow) -> Result<T, sqlx::Error>,
) -> Result<Page<T>, QueryError> {
    let size = size.clamp(1, LARGEST_PAGE) as usize;
    let shown = &rows[..rows.len().min(size)];
    let next_cursor = match shown.last() {
        Some(last) if rows.len() > size => Some(encode(&key(last)?)),
        _ => None,
    };
    let rows = shown.iter().map(read).collect::<Result<_, _>>()?;
    Ok(Page { rows, next_cursor })
}

fn encode(key: &impl Serialize) -> String {
    // A pair of a number and an id always serializes.
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(key).unwrap_or_default())
}

pub(crate) fn decode<K: DeserializeOwned>(cursor: &str) -> Result<K, QueryError> {
    let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| QueryError::Cursor)?;
    serde_json::from_slice(&bytes).map_err(|_| QueryError::Cursor)
}

/// Reads what was written with [`name_of`].
pub(crate) fn named<T: DeserializeOwned>(row: &PgRow, column: &str) -> Result<T, sqlx::Error> {
    optional(row, column)?.ok_or_else(|| malformed(column, "it is null"))
}

/// As [`named`], of a column that may be null.
pub(crate) fn optional<T: DeserializeOwned>(row: &PgRow, column: &str) -> Result<Option<T>, sqlx::Error> {
    let name: Option<String> = row.try_get(column)?;
    name.map(|name| serde_json::from_value(name.into()).map_err(|error| malformed(column, error))).transpose()
}

/// An amount in minor units, with the currency beside it.
pub(crate) fn money(row: &PgRow, column: &str) -> Result<Money, sqlx::Error> {
    let currency: Currency =
        row.try_get::<&str, _>("currency")?.parse().map_err(|error| malformed("currency", error))?;
    Ok(Money::new(row.try_get(column)?, currency))
}

pub(crate) fn malformed(
    column: &str,
    error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> sqlx::Error {
    sqlx::Error::ColumnDecode { index: column.to_owned(), source: error.into() }
}

/// A document for an array of texts that PostgreSQL casts to JSON: cheaper than an array of `jsonb`.
pub(crate) fn json(document: &impl Serialize) -> String {
    // What read models keep are structs, lists and maps with string keys: they always serialize.
    serde_json::to_string(document).unwrap_or_else(|_| "null".to_owned())
}

/// The name that an enum without fields has in JSON.
pub fn name_of(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(name)) => name,
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_that_nobody_gave_out_is_refused() {
        let key = (1_600_000_000_000_000_i64, Uuid::from_u128(7));
        assert_eq!(decode::<(i64, Uuid)>(&encode(&key)).unwrap(), key);
        for cursor in ["", "!", "e30", "WzEsMl0", "W10"] {
            assert!(matches!(after(Some(cursor)), Err(QueryError::Cursor)), "{cursor:?}");
        }
        let far = encode(&(i64::MAX, Uuid::nil()));
        assert!(matches!(after(Some(&far)), Err(QueryError::Cursor)));
    }
}
