//! A search from end to end: text to groups, groups and filters to a pass over the index, the best candidates rescored,
//! the page cut and its hits filled in.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;
use tantivy::query::Query as IndexQuery;
use tantivy::{Searcher, TantivyDocument};
use uuid::Uuid;

use crate::best::Ranked;
use crate::collector::{Best, Candidate, Order, Outcome, Pass, Rank};
use crate::cursor::{self, Cursor};
use crate::facets::{self, Counts, Facet};
use crate::filters::{self, Filter};
use crate::highlight::highlight;
use crate::index::{SearchIndex, source};
use crate::query::{Hit, Hits, LARGEST_PAGE, Query, SearchError, Sort};
use crate::schema::column;
use crate::statistics::Statistics;
use crate::terms::{self, Group};
use crate::together::Together;
use crate::variants::{self, CardVariant};
use crate::{expansion, matching, ranking};

/// How many of the first phase's best the second phase looks at: more than a page.
const WINDOW: usize = 200;
/// On later pages items may have been added among them; so many are looked at then.
const LATER_WINDOW: usize = 1_000;
/// With fewer hits than this, not every group of the term has to be found. In other orders than by relevance what has less
/// of the term could come first, so only finding nothing counts as few there.
const FEW: usize = 25;

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

pub(crate) struct Search<'a> {
    index: &'a SearchIndex,
    query: &'a Query,
    pub(crate) searcher: Searcher,
    term: Option<&'a str>,
    groups: Vec<Group>,
    /// Whether groups hold what was not typed.
    expanded: bool,
    corrected: Option<String>,
    filters: Vec<Filter>,
    together: Together,
    facets: Vec<Facet>,
    sort: Sort,
    cursor: Option<Cursor>,
    size: usize,
}

/// Each with the facet that ignores it.
type Checks = Vec<(Filter, Option<usize>)>;

#[derive(Default)]
struct Page {
    candidates: Vec<Candidate>,
    next: Option<Cursor>,
    total: usize,
    facets: Vec<Counts>,
    fewer_words: bool,
}

impl<'a> Search<'a> {
    pub(crate) fn new(index: &'a SearchIndex, query: &'a Query) -> Result<Self, SearchError> {
        let term = query.term.as_deref().map(str::trim).filter(|term| !term.is_empty());
        let searcher = index.searcher();
        let cursor = query.cursor.as_deref().map(Cursor::decode).transpose()?;
        let mut groups = term.map(|term| terms::parse(&index.analyzer, term)).unwrap_or_default();
        let (mut expanded, mut corrected) = (false, None);
        if let Some(cursor) = &cursor {
            if cursor.term != cursor::fingerprint(term.unwrap_or_default()) {
                return Err(SearchError::Cursor);
            }
            corrected.clone_from(&cursor.corrected);
            if !cursor.groups.is_empty() {
                (groups, expanded) = (cursor.groups.clone(), true);
            }
        } else if !groups.is_empty() {
            let typed = groups.clone();
            groups = index.synonyms().apply(groups);
            // A word may go on as long as nothing follows it, not even a space.
            let given = query.term.as_deref().unwrap_or_default();
            if given.ends_with(char::is_whitespace) {
                for group in &mut groups {
                    group.typed.unfinished = false;
                }
            }
            let term = term.unwrap_or_default();
            corrected = expansion::expand(&searcher, &index.fields, &index.analyzer, term, &mut groups)?;
            expanded = groups
                .iter()
                .map(|group| &group.alternatives)
                .ne(typed.iter().map(|group| &group.alternatives));
        }
        let sort = match query.sort {
            Sort::Relevance if groups.is_empty() => Sort::Newest,
            other => other,
        };
        if cursor.as_ref().is_some_and(|cursor| cursor.sort != sort || cursor.required > groups.len()) {
            return Err(SearchError::Cursor);
        }
        let filters = filters::of_query(query, &index.fields);
        Ok(Self {
            index,
            query,
            searcher,
            term,
            groups,
            expanded,
            corrected,
            together: filters::together(&filters),
            filters,
            facets: facets::parse(&query.facets)?,
            sort,
            cursor,
            size: query.size.clamp(1, LARGEST_PAGE),
        })
    }

    fn by_column(&self, order: Order) -> Result<Hits, SearchError> {
        let plan = |required, after| Plan { required, order, limit: self.size + 1, after };
        let Relaxed { required, outcome, fewer_words } = match &self.cursor {
            Some(cursor) => Relaxed {
                required: cursor.required,
                outcome: self.pass(&plan(cursor.required, Some(cursor.after.into())))?,
                fewer_words: cursor.required < self.groups.len(),
            },
            None => self.relaxing(1, |required| self.pass(&plan(required, None)))?,
        };
        let Outcome { total, best, facets } = outcome;
        let (candidates, more) = cut(best, self.size);
        let next = candidates.last().filter(|_| more).map(|last| self.next(required, last.rank));
        self.hits(Page { candidates, next, total, facets, fewer_words })
    }

    fn by_relevance(&self) -> Result<Hits, SearchError> {
        let fields = &self.index.fields;
        let counted = |required, limit| self.pass(&Plan { required, order: Order::Any, limit, after: None });
        let Some(cursor) = &self.cursor else {
            let statistics = Statistics::measure(&self.searcher, fields, &self.groups)?;
            let Relaxed { required, mut outcome, fewer_words } =
                self.relaxing(FEW, |required| counted(required, WINDOW))?;
            let mut floor = None;
            if outcome.total > WINDOW {
                outcome.best = self.best(required, &statistics, Best::new(WINDOW, None, None))?;
                floor = outcome.best.last().map(|last| last.rank);
            }
            let ranked = ranking::rescore(
                &self.searcher,
                fields,
                &statistics,
                &self.index.availability,
                &self.groups,
                self.term.unwrap_or_default(),
                &outcome.best,
            )?;
            let order = cursor::pack(ranked.iter().map(|candidate| candidate.rank.tie()));
            let ranked = (1..).zip(ranked).collect();
            let hits = self.window(required, &statistics, outcome, ranked, order, floor)?;
            return Ok(Hits { fewer_words, ..hits });
        };

        let statistics = Statistics::from_numbers(&cursor.statistics, fields, &self.groups);
        let statistics = statistics.ok_or(SearchError::Cursor)?;
        let after: Rank = cursor.after.into();
        let floor = cursor.floor.map(Rank::from);
        let mut outcome = counted(cursor.required, 0)?;
        if let Some(shown) = cursor.shown {
            let order = cursor::unpack(&cursor.order)?;
            let best = self.best(cursor.required, &statistics, Best::new(LATER_WINDOW, None, floor))?;
            let mut there: HashMap<_, _> =
                best.into_iter().map(|candidate| (cursor::mark(candidate.rank.tie()), candidate)).collect();
            let mut ranked = Vec::with_capacity(there.len());
            for (shown_then, mark) in (1..).zip(&order) {
                ranked.extend(
                    there.remove(mark).filter(|_| shown_then > shown).map(|found| (shown_then, found)),
                );
            }
            // What came in since the first page comes after what was there then.
            let mut others: Vec<_> = there.into_values().filter(|other| other.rank < after).collect();
            others.sort_unstable_by_key(|other| std::cmp::Reverse(other.rank));
            ranked.extend(others.into_iter().map(|other| (order.len() + 1, other)));
            return self.window(cursor.required, &statistics, outcome, ranked, cursor.order.clone(), floor);
        }
        outcome.best =
            self.best(cursor.required, &statistics, Best::new(self.size + 1, Some(after), None))?;
        let Outcome { total, best, facets } = outcome;
        let (candidates, more) = cut(best, self.size);
        let next = candidates
            .last()
            .filter(|_| more)
            .map(|last| Cursor { statistics: statistics.numbers(), ..self.next(cursor.required, last.rank) });
        self.hits(Page { candidates, next, total, facets, ..Page::default() })
    }

    /// A page of the second phase's order, where each candidate comes with how many have been shown with it; where it
    /// ends, first-phase order goes on below `floor`.
    fn window(
        &self,
        required: usize,
        statistics: &Statistics,
        outcome: Outcome,
        mut ranked: Vec<(usize, Candidate)>,
        order: String,
        floor: Option<Rank>,
    ) -> Result<Hits, SearchError> {
        let Outcome { total, best: _, facets } = outcome;
        let more = ranked.len() > self.size;
        ranked.truncate(self.size);
        let length = order.len();
        let mut next = ranked.last().filter(|_| more).map(|(shown, last)| {
            // Only among what came in later does a rank say where the page ended.
            let late = length < 8 * shown;
            Cursor {
                statistics: statistics.numbers(),
                floor: floor.map(Into::into),
                shown: Some(*shown),
                order,
                ..self.next(required, if late { last.rank } else { Rank::FIRST })
            }
        });
        let mut candidates: Vec<Candidate> = ranked.into_iter().map(|(_, candidate)| candidate).collect();
        if let Some(floor) = floor.filter(|_| !more) {
            let room = self.size - candidates.len();
            let best = Best::new(room + 1, Some(floor), None);
            let (tail, more) = cut(self.best(required, statistics, best)?, room);
            let last = tail.last().map_or(floor, |last| last.rank);
            next = more.then(|| Cursor { statistics: statistics.numbers(), ..self.next(required, last) });
            candidates.extend(tail);
        }
        self.hits(Page { candidates, next, total, facets, ..Page::default() })
    }

    /// Goes on after a rank of the pass.
    fn next(&self, required: usize, after: Rank) -> Cursor {
        Cursor {
            sort: self.sort,
            required,
            after: after.into(),
            statistics: Vec::new(),
            floor: None,
            shown: None,
            order: String::new(),
            term: cursor::fingerprint(self.term.unwrap_or_default()),
            groups: if self.expanded { self.groups.clone() } else { Vec::new() },
            corrected: self.corrected.clone(),
        }
    }

    /// Runs a pass that wants all groups; while it finds fewer than `few`, again with less wanted.
    fn relaxing(
        &self,
        few: usize,
        pass: impl Fn(usize) -> Result<Outcome, SearchError>,
    ) -> Result<Relaxed, SearchError> {
        let mut required = self.groups.len();
        let mut outcome = pass(required)?;
        let none = outcome.total == 0;
        for fewer in [self.groups.len() * 2 / 3, 1] {
            let enough = if required == self.groups.len() { few } else { 1 };
            if outcome.total >= enough || fewer >= required || fewer == 0 {
                continue;
            }
            required = fewer;
            outcome = pass(required)?;
        }
        Ok(Relaxed { required, fewer_words: none && outcome.total > 0, outcome })
    }

    fn pass(&self, plan: &Plan) -> Result<Outcome, SearchError> {
        let (query, filters) = self.matching(plan.required, &self.facets);
        let pass = Pass {
            filters,
            together: self.together.clone(),
            facets: self.facets.clone(),
            availability: self.index.availability.clone(),
            values: self.index.values.clone(),
            order: plan.order,
            limit: plan.limit,
            after: plan.after,
        };
        Ok(self.searcher.search(query.as_ref(), &pass)?)
    }

    /// What `best` takes of all that match, by the score of the first phase.
    fn best(
        &self,
        required: usize,
        statistics: &Statistics,
        best: Best,
    ) -> Result<Vec<Candidate>, SearchError> {
        let (query, filters) = self.matching(required, &[]);
        let ranked = Ranked {
            searcher: &self.searcher,
            fields: &self.index.fields,
            statistics,
            filters: filters.into_iter().map(|(filter, _)| filter).collect(),
            together: self.together.clone(),
            availability: &self.index.availability,
        };
        Ok(ranked.best(query.as_ref(), best)?)
    }

    /// The query, and filters that are no part of it: each document has to be looked at, or a facet ignores its own.
    fn matching(&self, required: usize, facets: &[Facet]) -> (Box<dyn IndexQuery>, Checks) {
        let mut clauses = Vec::new();
        let mut checks = Vec::new();
        for filter in &self.filters {
            let facet = facets.iter().position(|facet| facet.dimension == filter.dimension);
            match filter.as_query().filter(|_| facet.is_none()) {
                Some(clause) => clauses.push(clause),
                None => checks.push((filter.clone(), facet)),
            }
        }
        let query = matching::query(&self.index.fields, &self.groups, required, clauses.into_iter());
        (query, checks)
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
            .map(|facet| (facet.name.clone(), counts.next().unwrap_or_default().ordered(&self.index.values)))
            .collect();
        let next_cursor = page.next.map(|cursor| cursor.encode()).transpose()?;
        Ok(Hits {
            hits,
            total: page.total,
            next_cursor,
            facets,
            corrected_term: self.corrected.clone(),
            fewer_words: page.fewer_words,
        })
    }

    pub(crate) fn hit(&self, candidate: &Candidate) -> Result<Hit, SearchError> {
        let document: TantivyDocument = self.searcher.doc(candidate.address)?;
        let card: Card<'_> = serde_json::from_slice(source(&document, &self.index.fields))?;
        let index = self.index;
        let variant =
            variants::matching(&card.variants, self.query, &index.analyzer, &self.groups, |place| {
                let own = card.skus.get(place).filter(|_| card.skus.len() == card.variants.len());
                own.and_then(|sku| index.availability.available(*sku)).is_some_and(|units| units > 0)
            });
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
            variant,
        })
    }
}

/// What was found with as many groups as had to be.
struct Relaxed {
    required: usize,
    outcome: Outcome,
    /// No document has all of them.
    fewer_words: bool,
}

struct Plan {
    required: usize,
    order: Order,
    limit: usize,
    after: Option<Rank>,
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
    skus: Vec<Uuid>,
    variants: Vec<CardVariant>,
}
