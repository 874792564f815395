//! A search from end to end: text to groups, groups and filters to a pass over the index, the best candidates rescored,
//! the page cut and its hits filled in.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;
use tantivy::{Searcher, TantivyDocument};
use uuid::Uuid;

use crate::collector::{Candidate, Order, Outcome, Pass, Rank};
use crate::cursor::Cursor;
use crate::facets::{self, Counts, Facet};
use crate::filters::{self, Filter};
use crate::highlight::highlight;
use crate::index::{SearchIndex, source};
use crate::query::{Hit, Hits, LARGEST_PAGE, Query, SearchError, Sort};
use crate::schema::column;
use crate::statistics::Statistics;
use crate::terms::{self, Group};
use crate::{matching, ranking};

/// How many of the first phase's best the second phase looks at: more than a page.
const WINDOW: usize = 200;
/// On later pages items may have been added among them; so many are looked at then.
const LATER_WINDOW: usize = 1_000;
/// With fewer hits than this, not every group of the term has to be found. In other orders than by relevance what has less
/// of the term could come first, so only finding nothing counts as few there.
const FEW: usize = 10;

impl SearchIndex {
    /// Answers a query on what was committed last. It blocks for as long as it works, a few milliseconds.
    pub fn search(&self, query: &Query) -> Result<Hits, SearchError> {
        let search = Search::new(self, query)?;
        match search.sort {
            // A term of signs alone asks for something, and there is nothing like it.
            _ if search.groups.is_empty() && search.term.is_some() => search.hits(Page::default()),
            Sort::Relevance => search.by_relevance(),
            Sort::Price => search.by_column(Order::Ascending(column::PRICE)),
            Sort::PriceDesc => search.by_column(Order::Descending(column::PRICE)),
            Sort::Newest => search.by_column(Order::Descending(column::LISTED)),
            Sort::Rating => search.by_column(Order::Descending(column::RATING)),
        }
    }
}

struct Search<'a> {
    index: &'a SearchIndex,
    searcher: Searcher,
    term: Option<&'a str>,
    groups: Vec<Group>,
    filters: Vec<Filter>,
    facets: Vec<Facet>,
    sort: Sort,
    cursor: Option<Cursor>,
    size: usize,
}

#[derive(Default)]
struct Page {
    candidates: Vec<Candidate>,
    next: Option<Cursor>,
    total: usize,
    facets: Vec<Counts>,
}

impl<'a> Search<'a> {
    fn new(index: &'a SearchIndex, query: &'a Query) -> Result<Self, SearchError> {
        let term = query.term.as_deref().map(str::trim).filter(|term| !term.is_empty());
        let groups = term.map(|term| terms::parse(&index.analyzer, term)).unwrap_or_default();
        let sort = match query.sort {
            Sort::Relevance if groups.is_empty() => Sort::Newest,
            other => other,
        };
        let cursor = query.cursor.as_deref().map(Cursor::decode).transpose()?;
        if cursor.as_ref().is_some_and(|cursor| cursor.sort != sort || cursor.required > groups.len()) {
            return Err(SearchError::Cursor);
        }
        Ok(Self {
            index,
            searcher: index.searcher(),
            term,
            groups,
            filters: filters::of_query(query, &index.fields),
            facets: facets::parse(&query.facets)?,
            sort,
            cursor,
            size: query.size.clamp(1, LARGEST_PAGE),
        })
    }

    fn by_column(&self, order: Order) -> Result<Hits, SearchError> {
        let plan = |required, after| Plan { required, order, limit: self.size + 1, after, until: None };
        let (required, outcome) = match &self.cursor {
            Some(cursor) => {
                let plan = plan(cursor.required, Some(cursor.after.into()));
                (cursor.required, self.pass(&plan, true, None)?)
            }
            None => self.relaxing(1, |required| self.pass(&plan(required, None), true, None))?,
        };
        let Outcome { total, best, facets } = outcome;
        let (candidates, more) = cut(best, self.size);
        let next = candidates.last().filter(|_| more).map(|last| Cursor {
            sort: self.sort,
            required,
            after: last.rank.into(),
            statistics: Vec::new(),
            floor: None,
            rescored: false,
        });
        self.hits(Page { candidates, next, total, facets })
    }

    fn by_relevance(&self) -> Result<Hits, SearchError> {
        let fields = &self.index.fields;
        let Some(cursor) = &self.cursor else {
            let statistics = Statistics::measure(&self.searcher, fields, &self.groups)?;
            let plan =
                |required| Plan { required, order: Order::Score, limit: WINDOW, after: None, until: None };
            let (required, outcome) =
                self.relaxing(FEW, |required| self.pass(&plan(required), true, Some(&statistics)))?;
            let all = outcome.best.len() == outcome.total;
            let floor = outcome.best.last().filter(|_| !all).map(|last| last.rank);
            return self.window(required, &statistics, outcome, floor, None);
        };

        let statistics = Statistics::from_numbers(&cursor.statistics, fields, &self.groups);
        let statistics = statistics.ok_or(SearchError::Cursor)?;
        let after: Rank = cursor.after.into();
        let mut plan = Plan {
            required: cursor.required,
            order: Order::Score,
            limit: LATER_WINDOW,
            after: None,
            until: cursor.floor.map(Rank::from),
        };
        if cursor.rescored {
            let outcome = self.pass(&plan, true, Some(&statistics))?;
            return self.window(cursor.required, &statistics, outcome, plan.until, Some(after));
        }
        plan = Plan { limit: self.size + 1, after: Some(after), until: None, ..plan };
        let Outcome { total, best, facets } = self.pass(&plan, true, Some(&statistics))?;
        let (candidates, more) = cut(best, self.size);
        let next = candidates
            .last()
            .filter(|_| more)
            .map(|last| self.relevance_cursor(cursor.required, &statistics, None, last.rank, false));
        self.hits(Page { candidates, next, total, facets })
    }

    /// A page out of the rescored candidates, those after a rank; where they end, first-phase order goes on below `floor`.
    fn window(
        &self,
        required: usize,
        statistics: &Statistics,
        outcome: Outcome,
        floor: Option<Rank>,
        after: Option<Rank>,
    ) -> Result<Hits, SearchError> {
        let Outcome { total, best, facets } = outcome;
        let term = self.term.unwrap_or_default();
        let mut ranked =
            ranking::rescore(&self.searcher, &self.index.fields, statistics, &self.groups, term, &best)?;
        if let Some(after) = after {
            ranked.retain(|candidate| candidate.rank < after);
        }
        let (mut candidates, more) = cut(ranked, self.size);
        let mut next = candidates
            .last()
            .filter(|_| more)
            .map(|last| self.relevance_cursor(required, statistics, floor, last.rank, true));
        if let Some(floor) = floor.filter(|_| !more) {
            let room = self.size - candidates.len();
            let plan =
                Plan { required, order: Order::Score, limit: room + 1, after: Some(floor), until: None };
            let (tail, more) = cut(self.pass(&plan, false, Some(statistics))?.best, room);
            let last = tail.last().map_or(floor, |last| last.rank);
            next = more.then(|| self.relevance_cursor(required, statistics, None, last, false));
            candidates.extend(tail);
        }
        self.hits(Page { candidates, next, total, facets })
    }

    fn relevance_cursor(
        &self,
        required: usize,
        statistics: &Statistics,
        floor: Option<Rank>,
        after: Rank,
        rescored: bool,
    ) -> Cursor {
        Cursor {
            sort: self.sort,
            required,
            after: after.into(),
            statistics: statistics.numbers(),
            floor: floor.map(Into::into),
            rescored,
        }
    }

    /// Runs a pass that wants all groups; while it finds fewer than `few`, again with less wanted.
    fn relaxing(
        &self,
        few: usize,
        pass: impl Fn(usize) -> Result<Outcome, SearchError>,
    ) -> Result<(usize, Outcome), SearchError> {
        let mut required = self.groups.len();
        let mut outcome = pass(required)?;
        for fewer in [self.groups.len() * 2 / 3, 1] {
            let enough = if required == self.groups.len() { few } else { 1 };
            if outcome.total >= enough || fewer >= required || fewer == 0 {
                continue;
            }
            required = fewer;
            outcome = pass(required)?;
        }
        Ok((required, outcome))
    }

    fn pass(
        &self,
        plan: &Plan,
        with_facets: bool,
        statistics: Option<&Statistics>,
    ) -> Result<Outcome, SearchError> {
        let facets = if with_facets { self.facets.clone() } else { Vec::new() };
        let mut clauses = Vec::new();
        let mut checks = Vec::new();
        for filter in &self.filters {
            let facet = facets.iter().position(|facet| facet.dimension == filter.dimension);
            match filter.as_query().filter(|_| facet.is_none()) {
                Some(clause) => clauses.push(clause),
                None => checks.push((filter.clone(), facet)),
            }
        }
        let scored = statistics.is_some();
        let query =
            matching::query(&self.index.fields, &self.groups, plan.required, scored, clauses.into_iter());
        let pass = Pass {
            filters: checks,
            facets,
            availability: self.index.availability.clone(),
            order: plan.order,
            limit: plan.limit,
            after: plan.after,
            until: plan.until,
        };
        Ok(match statistics {
            Some(statistics) => {
                self.searcher.search_with_statistics_provider(query.as_ref(), &pass, statistics)?
            }
            None => self.searcher.search(query.as_ref(), &pass)?,
        })
    }

    fn hits(&self, page: Page) -> Result<Hits, SearchError> {
        let mut hits = Vec::with_capacity(page.candidates.len());
        for candidate in &page.candidates {
            hits.push(self.hit(candidate)?);
        }
        let mut counts = page.facets.into_iter();
        let facets: BTreeMap<_, _> = self
            .facets
            .iter()
            .map(|facet| (facet.name.clone(), facets::ordered(counts.next().unwrap_or_default())))
            .collect();
        let next_cursor = page.next.map(|cursor| cursor.encode()).transpose()?;
        Ok(Hits { hits, total: page.total, next_cursor, facets, corrected_term: None })
    }

    fn hit(&self, candidate: &Candidate) -> Result<Hit, SearchError> {
        let document: TantivyDocument = self.searcher.doc(candidate.address)?;
        let card: Card<'_> = serde_json::from_slice(source(&document, &self.index.fields))?;
        let highlight = if self.groups.is_empty() {
            None
        } else {
            highlight(&self.index.analyzer, &self.groups, &card.name, &card.description)
        };
        Ok(Hit {
            item_id: card.item_id,
            sku: card.sku,
            name: card.name,
            brand: card.brand,
            category: card.category,
            price: card.variants.iter().map(|variant| variant.price).min().unwrap_or(card.price),
            currency: card.currency,
            rating: card.rating,
            in_stock: self.index.availability.in_stock(card.item_id),
            image: card.image,
            highlight,
        })
    }
}

struct Plan {
    required: usize,
    order: Order,
    limit: usize,
    after: Option<Rank>,
    until: Option<Rank>,
}

/// The first `size`, and whether there are more.
fn cut(mut candidates: Vec<Candidate>, size: usize) -> (Vec<Candidate>, bool) {
    let more = candidates.len() > size;
    candidates.truncate(size);
    (candidates, more)
}

/// The part of a stored document that a hit shows; the rest is skipped in reading.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Card<'a> {
    item_id: Uuid,
    sku: String,
    name: String,
    #[serde(borrow)]
    description: Cow<'a, str>,
    brand: Option<String>,
    category: Vec<String>,
    price: i64,
    currency: String,
    image: Option<String>,
    rating: Option<f32>,
    variants: Vec<VariantPrice>,
}

#[derive(Deserialize)]
struct VariantPrice {
    price: i64,
}
