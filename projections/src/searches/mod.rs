//! What people search for, by query and day: for suggestions, and for admins who want to know what is not found. Follows
//! `search-*`. Days that are long past are dropped: by the days of the log, so that a rebuild drops the same.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use chrono::{DateTime, Days, NaiveDate, Utc};
use souk_domain::search::{CATEGORY, Facet, SearchEvent};
use souk_event_log::{Filter, Recorded};
use sqlx::{PgConnection, PgPool, Row, postgres::PgRow};

use crate::{
    event,
    query::{self, Page, QueryError},
    runner::{ApplyError, Projector},
};

/// Days that are kept.
pub const KEPT_DAYS: u32 = 90;
/// When a search counts half, in days.
const HALF_LIFE: f64 = 30.0;
/// Whoever clicks has found something: so many searches is a click worth.
const CLICK: f64 = 2.0;

pub struct Searches;

/// What a batch says of a query on a day.
#[derive(Default)]
struct Told {
    searches: i64,
    clicks: i64,
    /// Of the last search without filters: with them it says nothing of the query.
    hits: Option<i64>,
    corrected: Option<String>,
    fewer_words: bool,
    leads_to: Option<Facet>,
    last_at: DateTime<Utc>,
}

#[async_trait]
impl Projector for Searches {
    fn name(&self) -> &'static str {
        "searches"
    }

    fn version(&self) -> u32 {
        3
    }

    fn filter(&self) -> Filter {
        Filter::categories([CATEGORY])
    }

    fn migration(&self) -> &'static str {
        include_str!("migration.sql")
    }

    async fn apply(&self, tables: &mut PgConnection, events: &[Arc<Recorded>]) -> Result<(), ApplyError> {
        let mut told: BTreeMap<(String, NaiveDate), Told> = BTreeMap::new();
        for event in events {
            let (search_event, _) = event::read::<SearchEvent>(event)?;
            let at = event.recorded_at;
            let query = match &search_event {
                SearchEvent::SearchMade(made) => made.query.clone(),
                SearchEvent::ResultClicked(clicked) => clicked.query.clone(),
            };
            let told = told.entry((query, at.date_naive())).or_default();
            told.last_at = at;
            match search_event {
                SearchEvent::SearchMade(made) => {
                    told.searches += 1;
                    if made.filters.is_empty() {
                        told.hits = Some(made.hits.try_into().unwrap_or(i64::MAX));
                        told.corrected = made.corrected_query;
                        told.fewer_words = made.fewer_words;
                        told.leads_to = made.leads_to.or(told.leads_to.take());
                    }
                }
                SearchEvent::ResultClicked(_) => told.clicks += 1,
            }
        }
        if !told.is_empty() {
            add(&mut *tables, &told).await?;
            drop_past(tables).await?;
        }
        Ok(())
    }
}

async fn add(
    tables: &mut PgConnection,
    told: &BTreeMap<(String, NaiveDate), Told>,
) -> Result<(), sqlx::Error> {
    let facet = |part: fn(&Facet) -> &String| -> Vec<Option<&str>> {
        told.values().map(|told| told.leads_to.as_ref().map(|facet| part(facet).as_str())).collect()
    };
    sqlx::query(
        "INSERT INTO searches (query, day, searches, clicks, hits, corrected, fewer_words, facet_name,
            facet_value, last_at)
         SELECT * FROM unnest($1::text[], $2::date[], $3::bigint[], $4::bigint[], $5::bigint[], $6::text[],
            $7::boolean[], $8::text[], $9::text[], $10::timestamptz[])
         ON CONFLICT (query, day) DO UPDATE SET
            searches = searches.searches + excluded.searches,
            clicks = searches.clicks + excluded.clicks,
            hits = coalesce(excluded.hits, searches.hits),
            corrected = CASE WHEN excluded.hits IS NULL THEN searches.corrected ELSE excluded.corrected END,
            fewer_words = CASE WHEN excluded.hits IS NULL THEN searches.fewer_words ELSE excluded.fewer_words END,
            facet_name = coalesce(excluded.facet_name, searches.facet_name),
            facet_value = coalesce(excluded.facet_value, searches.facet_value),
            last_at = excluded.last_at",
    )
    .bind(told.keys().map(|(query, _)| query.as_str()).collect::<Vec<_>>())
    .bind(told.keys().map(|(_, day)| *day).collect::<Vec<_>>())
    .bind(told.values().map(|told| told.searches).collect::<Vec<_>>())
    .bind(told.values().map(|told| told.clicks).collect::<Vec<_>>())
    .bind(told.values().map(|told| told.hits).collect::<Vec<_>>())
    .bind(told.values().map(|told| told.corrected.as_deref()).collect::<Vec<_>>())
    .bind(told.values().map(|told| told.fewer_words).collect::<Vec<_>>())
    .bind(facet(|facet| &facet.name))
    .bind(facet(|facet| &facet.value))
    .bind(told.values().map(|told| told.last_at).collect::<Vec<_>>())
    .execute(tables)
    .await?;
    Ok(())
}

async fn drop_past(tables: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM searches WHERE day <= (SELECT max(day) FROM searches) - $1")
        .bind(KEPT_DAYS as i32)
        .execute(tables)
        .await?;
    Ok(())
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryView {
    pub query: String,
    pub searches: u64,
    /// Hits of the last search; `None` where only clicks are known.
    pub last_hits: Option<u64>,
    /// What that one searched for instead.
    pub corrected_query: Option<String>,
    /// Whether it found items only that have some of the words.
    pub fewer_words: bool,
    pub clicks: u64,
    pub last_at: DateTime<Utc>,
}

#[derive(Clone, Copy, Debug)]
pub struct QueryFilter {
    /// Only those whose last search found nothing, or nothing that was asked for: other words, or fewer of them.
    pub without_results: bool,
    /// Today and the days before, so many together.
    pub days: u32,
}

/// The most frequent ones first.
pub async fn queries(
    pool: &PgPool,
    filter: QueryFilter,
    today: NaiveDate,
    cursor: Option<&str>,
    size: u32,
) -> Result<Page<QueryView>, QueryError> {
    let (searches, after) = match cursor {
        Some(cursor) => query::decode(cursor)?,
        None => (i64::MAX, String::new()),
    };
    let rows = sqlx::query(
        "SELECT * FROM (
            SELECT query, sum(searches)::bigint AS searches, sum(clicks)::bigint AS clicks, max(last_at) AS last_at,
                (array_agg(hits ORDER BY day DESC) FILTER (WHERE hits IS NOT NULL))[1] AS hits,
                (array_agg(corrected ORDER BY day DESC) FILTER (WHERE hits IS NOT NULL))[1] AS corrected,
                coalesce((array_agg(fewer_words ORDER BY day DESC) FILTER (WHERE hits IS NOT NULL))[1], false)
                    AS fewer_words
            FROM views.searches WHERE day > $1 GROUP BY query) q
         WHERE (NOT $2 OR hits = 0 OR corrected IS NOT NULL OR fewer_words) AND (searches < $3 OR (searches = $3 AND query > $4))
         ORDER BY searches DESC, query LIMIT $5",
    )
    .bind(today.checked_sub_days(Days::new(filter.days.into())).unwrap_or(NaiveDate::MIN))
    .bind(filter.without_results)
    .bind(searches)
    .bind(after)
    .bind(query::limit(size))
    .fetch_all(pool)
    .await?;
    query::page_by(
        &rows,
        size,
        |row| Ok((row.try_get::<i64, _>("searches")?, row.try_get::<String, _>("query")?)),
        read,
    )
}

fn read(row: &PgRow) -> Result<QueryView, sqlx::Error> {
    let count = |number: i64| number.max(0) as u64;
    Ok(QueryView {
        query: row.try_get("query")?,
        searches: count(row.try_get("searches")?),
        last_hits: row.try_get::<Option<i64>, _>("hits")?.map(count),
        corrected_query: row.try_get("corrected")?,
        fewer_words: row.try_get("fewer_words")?,
        clicks: count(row.try_get("clicks")?),
        last_at: row.try_get("last_at")?,
    })
}

/// A query that finds something, to be suggested.
#[derive(Clone, Debug, PartialEq)]
pub struct PopularQuery {
    pub query: String,
    pub leads_to: Option<Facet>,
}

/// The most popular first: what was searched lately counts most, and clicks more.
pub async fn popular(pool: &PgPool, today: NaiveDate, most: u32) -> Result<Vec<PopularQuery>, QueryError> {
    let rows = sqlx::query(
        "SELECT * FROM (
            SELECT query,
                sum((searches + $2 * clicks) * power(0.5::float8, ($1 - day)::float8 / $3)) AS popularity,
                (array_agg(hits ORDER BY day DESC) FILTER (WHERE hits IS NOT NULL))[1] AS hits,
                (array_agg(facet_name ORDER BY day DESC) FILTER (WHERE facet_name IS NOT NULL))[1] AS facet_name,
                (array_agg(facet_value ORDER BY day DESC) FILTER (WHERE facet_name IS NOT NULL))[1] AS facet_value
            FROM views.searches GROUP BY query) q
         WHERE hits > 0 ORDER BY popularity DESC, query LIMIT $4",
    )
    .bind(today)
    .bind(CLICK)
    .bind(HALF_LIFE)
    .bind(i64::from(most))
    .fetch_all(pool)
    .await?;
    let read = |row: &PgRow| {
        let facet = |column: &str| row.try_get::<Option<String>, _>(column);
        let leads_to = facet("facet_name")?.zip(facet("facet_value")?);
        Ok(PopularQuery {
            query: row.try_get("query")?,
            leads_to: leads_to.map(|(name, value)| Facet { name, value }),
        })
    };
    Ok(rows.iter().map(read).collect::<Result<_, sqlx::Error>>()?)
}
