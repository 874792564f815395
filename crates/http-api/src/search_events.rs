//! What people search for, and which hits they open: recorded beside the answers, so that suggestions, the order of hits and
//! the admins' report come of it. What is taken here is written to the log a moment later.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use axum::{Json, extract::State, http::StatusCode};
use moka::sync::Cache;
use serde::{Deserialize, Serialize};
use souk_commands::{clock::fresh_id, searches::Noted};
use souk_domain::{
    ItemId,
    search::{Facet, MAX_QUERY_LENGTH, ResultClicked, SearchEvent, SearchMade, is_harmless},
};
use souk_search::{CATEGORY_SEPARATOR, Hit, Hits, Query, normalised};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    Api,
    auth::{Origin, Visitor},
    extract::Body,
    problem::{Kind, Problem, ProblemBody},
    validation::{Refusal, Validation},
};

const WINDOW: Duration = Duration::from_mins(1);
/// Events from one place in a window.
const MOST_OF_ONE_PLACE: u32 = 1_000;
/// A click that comes again within this time is the same.
const SAME_CLICK: Duration = Duration::from_mins(10);
/// Places, and clicks, that are remembered at most.
const CAPACITY: u64 = 100_000;
type IsSet = fn(&Query) -> bool;
/// Of a search, and whether one has them. Nothing else is taken for a name: free text could be anything.
const FILTERS: [(&str, IsSet); 8] = [
    ("category", |query| query.category.is_some()),
    ("brand", |query| !query.brand.is_empty()),
    ("minPrice", |query| query.min_price.is_some()),
    ("maxPrice", |query| query.max_price.is_some()),
    ("minRating", |query| query.min_rating.is_some()),
    ("seller", |query| query.seller.is_some()),
    ("inStock", |query| query.in_stock.is_some()),
    ("attribute", |query| !query.attributes.is_empty()),
];

/// What keeps a few from counting for many.
pub(crate) struct Measure {
    places: Cache<IpAddr, Arc<AtomicU32>>,
    /// By search and item.
    clicks: Cache<(Uuid, Uuid), ()>,
}

impl Default for Measure {
    fn default() -> Self {
        Self {
            places: Cache::builder().max_capacity(CAPACITY).time_to_live(WINDOW).build(),
            clicks: Cache::builder().max_capacity(CAPACITY).time_to_live(SAME_CLICK).build(),
        }
    }
}

impl Measure {
    fn is_too_much(&self, origin: Origin) -> bool {
        origin.place().is_some_and(|place| {
            self.places.get_with(place, Arc::default).fetch_add(1, Ordering::Relaxed) >= MOST_OF_ONE_PLACE
        })
    }

    fn is_first(&self, click: (Uuid, Uuid)) -> bool {
        self.clicks.entry(click).or_insert(()).is_fresh()
    }

    /// It was not recorded, and may come again.
    fn forget(&self, click: Option<(Uuid, Uuid)>) {
        click.inspect(|click| self.clicks.invalidate(click));
    }
}

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SearchEventBody {
    /// `click`, or `search` of a client that had the answer already.
    #[serde(rename = "type")]
    #[schema(value_type = String, example = "click")]
    kind: Option<String>,
    /// As the search answered it.
    search_id: Option<Uuid>,
    /// The term.
    #[schema(value_type = String, example = "red lantern")]
    query: Option<String>,
    /// Of a click.
    item_id: Option<Uuid>,
    /// Of a click: the place of the item, 1 is the first.
    position: Option<i64>,
    /// Of a search: the `total` that was answered.
    hits: Option<i64>,
    /// Of a search: the names of those that were set.
    filters: Option<Vec<String>>,
    /// The person who is logged in agrees that this is kept as theirs.
    consent: Option<bool>,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SearchEventTaken {
    search_id: Uuid,
}

impl SearchEventBody {
    fn parse(self) -> Result<SearchEvent, Problem> {
        let mut check = Validation::default();
        let query = check.required("query", self.query, query);
        let event = match self.kind.as_deref() {
            Some("click") => {
                let search_id = check.present("searchId", self.search_id);
                let item_id = check.present("itemId", self.item_id);
                let position = check.required("position", self.position, position);
                search_id.zip(item_id).zip(query.zip(position)).map(
                    |((search_id, item), (query, position))| {
                        ResultClicked { search_id, query, item_id: ItemId(item), position, searcher: None }
                            .into()
                    },
                )
            }
            Some("search") => {
                let hits = check.required("hits", self.hits, hits);
                let filters = check.optional("filters", self.filters, filters);
                let search_id = self.search_id.unwrap_or_else(fresh_id);
                query.zip(hits).map(|(query, hits)| {
                    let filters = filters.unwrap_or_default();
                    SearchMade { search_id, query, hits, filters, ..SearchMade::default() }.into()
                })
            }
            Some(_) => {
                check.fail("type", "A type is click or search.");
                None
            }
            None => check.present("type", None),
        };
        match event {
            Some(event) if check.is_clean() => Ok(event),
            _ => Err(check.into()),
        }
    }
}

fn query(text: String) -> Result<String, Refusal> {
    match normalised(&text) {
        query if query.is_empty() => Err("This must not be empty.".into()),
        query if query.chars().count() > MAX_QUERY_LENGTH => {
            Err(format!("This has {MAX_QUERY_LENGTH} characters at most.").into())
        }
        query if !is_harmless(&query) => Err("Addresses and numbers of cards are not recorded.".into()),
        query => Ok(query),
    }
}

fn position(value: i64) -> Result<u32, Refusal> {
    match u32::try_from(value) {
        Ok(position @ 1..=1_000_000) => Ok(position),
        _ => Err("A position is between 1 and 1000000.".into()),
    }
}

fn hits(value: i64) -> Result<u64, Refusal> {
    u64::try_from(value).map_err(|_| "This is not negative.".into())
}

fn filters(names: Vec<String>) -> Result<Vec<String>, Refusal> {
    let known = FILTERS.map(|(name, _)| name);
    if names.len() > known.len() || !names.iter().all(|name| known.contains(&name.as_str())) {
        return Err(format!("These are names of filters: {}.", known.join(", ")).into());
    }
    Ok(names)
}

/// Record a click on a hit, or a search that was answered from a cache.
#[utoipa::path(post, path = "/v1/search-events", tag = "Catalogue", request_body = SearchEventBody, security((), ("bearer" = [])),
    responses((status = 202, body = SearchEventTaken, description = "It will be recorded in a moment."), (status = 400, body = ProblemBody),
        (status = 422, body = ProblemBody), (status = 429, body = ProblemBody), (status = 503, body = ProblemBody)))]
pub(crate) async fn record(
    Visitor(visitor): Visitor,
    origin: Origin,
    State(api): State<Arc<Api>>,
    body: Body<SearchEventBody>,
) -> Result<(StatusCode, Json<SearchEventTaken>), Problem> {
    if api.measure.is_too_much(origin) {
        return Err(Problem::new(Kind::TooManyRequests).retry_after(WINDOW.as_secs() as u32));
    }
    let consents = body.value.consent == Some(true);
    let event = body.value.parse()?;
    let (search_id, clicked) = match &event {
        SearchEvent::SearchMade(made) => (made.search_id, None),
        SearchEvent::ResultClicked(click) => {
            let item = click.item_id.0;
            if let Some(index) = api.search.as_ref().filter(|index| index.is_ready())
                && !index.has(item)?
            {
                return Err(Problem::invalid("itemId", "There is no such item."));
            }
            (click.search_id, Some((click.search_id, item)))
        }
    };
    let again = clicked.is_some_and(|click| !api.measure.is_first(click));
    let searcher = visitor.filter(|_| consents).map(|person| person.account);
    let noted = Noted { event, at: api.market.clock.now(), searcher };
    if !again && !api.noted.note(noted) {
        api.measure.forget(clicked);
        return Err(Problem::unavailable("too many searches wait to be recorded"));
    }
    Ok((StatusCode::ACCEPTED, Json(SearchEventTaken { search_id })))
}

impl Api {
    /// Records the first page of a search that somebody typed; the answer does not wait for it. `None`: it is none.
    pub(crate) fn note_search(&self, query: &Query, hits: &Hits) -> Option<Uuid> {
        let text = normalised(query.term.as_deref()?);
        let recorded = !text.is_empty() && text.chars().count() <= MAX_QUERY_LENGTH && is_harmless(&text);
        if query.cursor.is_some() || !recorded {
            return None;
        }
        let search_id = fresh_id();
        let made = SearchMade {
            search_id,
            query: text,
            hits: hits.total as u64,
            corrected_query: hits.corrected_term.as_deref().map(normalised),
            fewer_words: hits.fewer_words,
            filters: filters_of(query),
            leads_to: in_common(&hits.hits),
            searcher: None,
        };
        let at = self.market.clock.now();
        self.noted.note(Noted { event: made.into(), at, searcher: None }).then_some(search_id)
    }
}

fn filters_of(query: &Query) -> Vec<String> {
    FILTERS.iter().filter(|(_, is_set)| is_set(query)).map(|(name, _)| (*name).to_owned()).collect()
}

/// The category, or else the brand, of more than half of the hits.
fn in_common(hits: &[Hit]) -> Option<Facet> {
    let most = |value: fn(&Hit) -> Option<String>| {
        let values: Vec<_> = hits.iter().filter_map(value).collect();
        // Where one has the majority it stands in the middle of all in order.
        let mut sorted = values.clone();
        sorted.sort_unstable();
        let middle = sorted.get(sorted.len() / 2)?.clone();
        (2 * values.iter().filter(|value| **value == middle).count() > hits.len()).then_some(middle)
    };
    let category = most(|hit| (!hit.category.is_empty()).then(|| hit.category.join(CATEGORY_SEPARATOR)));
    let facet = |name: &str, value| Facet { name: name.to_owned(), value };
    category
        .map(|value| facet("category", value))
        .or_else(|| most(|hit| hit.brand.clone()).map(|value| facet("brand", value)))
}
