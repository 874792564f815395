//! What to show beside an item and on the home page. Asks the book and the search index alone; what is shown is listed, and
//! what can be had comes first.
//!
//! Few buy what is new or rare, so of that the book knows little: there items that say the same of themselves stand in.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use souk_domain::{AccountId, ItemId};
use souk_recommendations::{Book, BookError, Pick};
use souk_search::{CATEGORY_SEPARATOR, Hit, SearchError, SearchIndex};
use uuid::Uuid;

/// Candidates for each place on a page: some are no longer listed, some out of stock.
const CANDIDATES: usize = 3;
/// Items like one that few have bought, whose company is looked at.
const LIKE_IT: usize = 5;
/// How much a habit of buyers moves an item that is like another.
const HABIT: f32 = 0.5;
/// Of what a buyer bought, the latest that categories are taken from, and how many of these.
const LATEST: usize = 20;
const CATEGORIES: usize = 3;
/// How long what is popular stays as it was found: it takes a look at every item.
const POPULAR_FOR: Duration = Duration::from_secs(2);
/// As many as a page and whoever had some of them need.
const POPULAR: usize = 200;

pub struct Recommender {
    book: Arc<Book>,
    index: Arc<SearchIndex>,
    popular: Mutex<Option<(Instant, Arc<Vec<Hit>>)>>,
}

#[derive(Debug, thiserror::Error)]
pub enum RecommendationError {
    #[error(transparent)]
    Book(#[from] BookError),
    #[error(transparent)]
    Search(#[from] SearchError),
}

#[derive(Debug, Default)]
pub struct Related {
    /// What is bought in one order with the item, or with items like it.
    pub bought_together: Vec<Hit>,
    pub similar: Vec<Hit>,
}

/// Why an item is recommended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Because {
    /// It is bought with this one, which the buyer bought or has in the cart.
    BoughtTogether(Uuid),
    /// It is like this one.
    Similar(Uuid),
    /// It sells well in a category that he bought from: the path.
    PopularInCategory(Vec<String>),
    /// It sells well.
    Popular,
}

#[derive(Debug)]
pub struct Recommendation {
    pub hit: Hit,
    pub because: Because,
}

impl Recommender {
    pub fn new(book: Arc<Book>, index: Arc<SearchIndex>) -> Self {
        Self { book, index, popular: Mutex::default() }
    }

    /// What to show beside the item; `None` of one that is not listed. Blocks for some milliseconds.
    pub fn related(&self, item: ItemId, size: usize) -> Result<Option<Related>, RecommendationError> {
        let Some(similar) = self.index.similar(item.0, size * CANDIDATES)? else { return Ok(None) };
        let together = self.book.together(item.0, size * CANDIDATES)?;
        let mut ids: Vec<Uuid> = together.iter().map(|pick| pick.item).collect();
        let mut known: BTreeSet<Uuid> = ids.iter().copied().chain([item.0]).collect();
        if ids.len() < size {
            for (like_it, _) in similar.iter().take(LIKE_IT) {
                let picks = self.book.together(like_it.item_id, size)?;
                ids.extend(picks.iter().map(|pick| pick.item).filter(|other| known.insert(*other)));
            }
        }
        let bought_together = stocked(self.index.hits_of(ids)?, size, |hit| hit.in_stock);
        let mut similar = fused(similar, &together);
        if similar.len() < size
            && let Some(listed) = self.index.get(item.0)?
        {
            let mut known: BTreeSet<Uuid> = similar.iter().map(|hit| hit.item_id).chain([item.0]).collect();
            for length in (1..=listed.category.len()).rev() {
                if similar.len() >= size {
                    break;
                }
                let path = listed.category[..length].join(CATEGORY_SEPARATOR);
                let popular = self.index.popular(Some(&path), size + known.len())?;
                similar.extend(popular.into_iter().filter(|hit| known.insert(hit.item_id)));
            }
        }
        let similar = stocked(similar, size, |hit| hit.in_stock);
        Ok(Some(Related { bought_together, similar }))
    }

    /// What to show to a buyer with this in the cart, or to somebody who is not known. Blocks for some milliseconds.
    pub fn home(
        &self,
        buyer: Option<AccountId>,
        cart: &[ItemId],
        now: DateTime<Utc>,
        size: usize,
    ) -> Result<Vec<Recommendation>, RecommendationError> {
        let wanted = size * CANDIDATES;
        let cart: Vec<Uuid> = cart.iter().map(|item| item.0).collect();
        let taste = self.book.taste(buyer.map(|buyer| buyer.0), &cart, now, wanted)?;
        let mut page = Page { wanted, known: taste.had, found: Vec::new() };

        let because: BTreeMap<Uuid, Uuid> =
            taste.picks.iter().map(|pick| (pick.item, pick.because)).collect();
        let picks = self.index.hits_of(taste.picks.iter().map(|pick| pick.item))?;
        page.add(picks, |hit| {
            because.get(&hit.item_id).map_or(Because::Popular, |of| Because::BoughtTogether(*of))
        });

        let latest: Vec<Uuid> = cart.iter().chain(&taste.bought).copied().take(LATEST).collect();
        if page.in_stock() < size {
            // What he bought is new or rare: what is like it.
            for item in latest.iter().take(LIKE_IT) {
                let similar = self.index.similar(*item, size)?.unwrap_or_default();
                page.add(similar.into_iter().map(|(hit, _)| hit), |_| Because::Similar(*item));
            }
        }
        if page.in_stock() < size {
            for category in self.categories(latest)? {
                let popular = self.index.popular(Some(&category.join(CATEGORY_SEPARATOR)), wanted)?;
                page.add(popular, |_| Because::PopularInCategory(category.clone()));
            }
        }
        if page.in_stock() < size {
            page.add(self.popular()?.iter().cloned(), |_| Because::Popular);
        }
        Ok(stocked(page.found, size, |recommendation| recommendation.hit.in_stock))
    }

    /// Those that most of these items are of, the first of them first where as many are.
    fn categories(&self, items: Vec<Uuid>) -> Result<Vec<Vec<String>>, SearchError> {
        let mut counted: Vec<(usize, Vec<String>)> = Vec::new();
        for hit in self.index.hits_of(items)? {
            match counted.iter_mut().find(|(_, category)| *category == hit.category) {
                Some((count, _)) => *count += 1,
                None if hit.category.is_empty() => {}
                None => counted.push((1, hit.category)),
            }
        }
        counted.sort_by_key(|(count, _)| std::cmp::Reverse(*count));
        Ok(counted.into_iter().take(CATEGORIES).map(|(_, category)| category).collect())
    }

    fn popular(&self) -> Result<Arc<Vec<Hit>>, SearchError> {
        let mut popular = self.popular.lock();
        if let Some((_, hits)) = popular.as_ref().filter(|(found, _)| found.elapsed() < POPULAR_FOR) {
            return Ok(Arc::clone(hits));
        }
        let hits = Arc::new(self.index.popular(None, POPULAR)?);
        *popular = Some((Instant::now(), Arc::clone(&hits)));
        Ok(hits)
    }
}

/// What is like an item, and of that first what also goes with it.
fn fused(similar: Vec<(Hit, f32)>, together: &[Pick]) -> Vec<Hit> {
    let most = together.first().map_or(0.0, |pick| pick.score).max(f64::MIN_POSITIVE);
    let habits: BTreeMap<Uuid, f32> =
        together.iter().map(|pick| (pick.item, (pick.score / most) as f32)).collect();
    let best = similar.first().map_or(0.0, |(_, score)| *score).max(f32::MIN_POSITIVE);
    let mut fused: Vec<(f32, Hit)> = similar
        .into_iter()
        .map(|(hit, score)| {
            let habit = habits.get(&hit.item_id).copied().unwrap_or_default();
            (score / best + HABIT * habit, hit)
        })
        .collect();
    fused.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    fused.into_iter().map(|(_, hit)| hit).collect()
}

/// A home page as it fills up.
struct Page {
    wanted: usize,
    /// What is on it, and what shall not be.
    known: BTreeSet<Uuid>,
    found: Vec<Recommendation>,
}

impl Page {
    fn add(&mut self, hits: impl IntoIterator<Item = Hit>, because: impl Fn(&Hit) -> Because) {
        for hit in hits {
            // However many there are that cannot be had, there is room for what can.
            let room = self.found.len() < 2 * self.wanted || hit.in_stock;
            if room && self.known.insert(hit.item_id) {
                self.found.push(Recommendation { because: because(&hit), hit });
            }
        }
    }

    fn in_stock(&self) -> usize {
        self.found.iter().filter(|recommendation| recommendation.hit.in_stock).count()
    }
}

/// What can be had first, otherwise in the order they come in.
fn stocked<T>(mut found: Vec<T>, size: usize, in_stock: impl Fn(&T) -> bool) -> Vec<T> {
    found.sort_by_key(|one| !in_stock(one));
    found.truncate(size);
    found
}
