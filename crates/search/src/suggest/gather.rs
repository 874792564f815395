//! Gathers what is popular: from the columns of the index how much is sold of what, and from the documents of the items
//! that sell best what they are called. So the memory has a bound, whatever the size of the shop; the others are found by
//! the keys of the index.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;

use tantivy::columnar::StrColumn;
use tantivy::{DocAddress, Searcher, TantivyDocument, Term};

use super::fresh::Names;
use super::popular::Popular;
use super::{FoundQuery, SuggestedFacet, Suggestion, SuggestionKind, path, shown};
use crate::analyzer::Analyzer;
use crate::availability::Availability;
use crate::document::CATEGORY_SEPARATOR;
use crate::index::source;
use crate::query::SearchError;
use crate::schema::{Fields, column};
use crate::terms;

/// The most popular items, so many of them, are suggested by their titles.
const TITLES: usize = 100_000;
/// And so many brands, categories and queries.
const MOST: usize = 50_000;
/// What an item counts for its brand and category although it was not sold lately, in units.
const BEING_THERE: f64 = 0.01;

pub(crate) struct Sources<'a> {
    pub(crate) searcher: &'a Searcher,
    pub(crate) fields: &'a Fields,
    pub(crate) availability: &'a Availability,
    pub(crate) analyzer: &'a Analyzer,
    /// The most popular first.
    pub(crate) queries: &'a [FoundQuery],
}

pub(crate) fn gather(sources: &Sources<'_>) -> Result<Popular, SearchError> {
    let Sources { searcher, availability, .. } = sources;
    let (mut brands, mut categories) = (HashMap::new(), HashMap::new());
    // The least popular is on top, to be replaced by one that is more so.
    let mut best: BinaryHeap<Reverse<(u32, u32, u32)>> = BinaryHeap::new();
    for (ordinal, segment) in (0..).zip(searcher.segment_readers()) {
        let columns = segment.fast_fields();
        let slots = columns.u64(column::SLOT)?;
        let mut of_brand = Weights::of(columns.str(column::BRAND)?);
        let mut of_category = Weights::of(columns.str(column::CATEGORY)?);
        for document in segment.doc_ids_alive() {
            let slot = slots.first(document).map(|slot| slot as u32);
            let popularity = slot.map_or(0.0, |slot| availability.slot_popularity(slot));
            of_brand.add(document, popularity);
            of_category.add(document, popularity);
            // Floats that are not negative are in the order of their bits; of those nobody bought the newest.
            let item = Reverse((popularity.max(0.0).to_bits(), ordinal, document));
            if best.len() < TITLES {
                best.push(item);
            } else if best.peek().is_some_and(|least| item < *least) {
                best.pop();
                best.push(item);
            }
        }
        of_brand.sum(&mut brands)?;
        of_category.sum(&mut categories)?;
    }
    let mut facets = Facets::default();
    let brands = most(brands).into_iter().map(|brand| Suggestion {
        text: shown(&brand),
        kind: SuggestionKind::Brand,
        facet: Some(facets.of("brand", &brand)),
    });
    let brands = brands.collect();
    let categories = most(categories).into_iter().map(|path| Suggestion {
        text: shown(path.rsplit(CATEGORY_SEPARATOR).next().unwrap_or_default()),
        kind: SuggestionKind::Category,
        facet: Some(facets.of("category", &path)),
    });
    let categories = categories.collect();
    let titles = titles(sources, best.into_vec(), &mut facets)?;
    Popular::new([queries(sources)?, brands, categories, titles])
}

/// What others search for: in words that the shop knows, so that neither typos, half-written words nor what was sold out
/// long ago come back.
fn queries(sources: &Sources<'_>) -> Result<Vec<Suggestion>, SearchError> {
    let mut known: HashMap<String, bool> = HashMap::new();
    let mut is_known = |word: &String| -> tantivy::Result<bool> {
        if let Some(known) = known.get(word) {
            return Ok(*known);
        }
        let there = sources.searcher.doc_freq(&Term::from_field_text(sources.fields.all, word))? > 0;
        known.insert(word.clone(), there);
        Ok(there)
    };
    let mut suggestions = Vec::new();
    'queries: for query in sources.queries.iter().take(MOST) {
        let groups = terms::parse(sources.analyzer, &query.text);
        for group in &groups {
            let mut said = false;
            for alternative in &group.alternatives {
                let mut all = true;
                for word in &alternative.words {
                    all = all && is_known(word)?;
                }
                said = said || all;
            }
            if !said {
                continue 'queries;
            }
        }
        // One that is cut would be another query.
        if !groups.is_empty() && shown(&query.text) == query.text {
            let (text, facet) = (query.text.clone(), query.facet.clone());
            suggestions.push(Suggestion { text, kind: SuggestionKind::Query, facet });
        }
    }
    Ok(suggestions)
}

/// What the most popular items are called.
fn titles(
    sources: &Sources<'_>,
    mut best: Vec<Reverse<(u32, u32, u32)>>,
    facets: &mut Facets,
) -> Result<Vec<Suggestion>, SearchError> {
    // As they lie, so that each block is read once.
    best.sort_unstable_by_key(|Reverse((_, ordinal, document))| (*ordinal, *document));
    let mut titles = Vec::with_capacity(best.len());
    for Reverse((popularity, ordinal, document)) in best {
        let document: TantivyDocument = sources.searcher.doc(DocAddress::new(ordinal, document))?;
        let names: Names = serde_json::from_slice(source(&document, sources.fields))?;
        let facet = (!names.category.is_empty()).then(|| facets.of("category", &path(&names.category)));
        let text = shown(&names.name);
        titles.push((popularity, Suggestion { text, kind: SuggestionKind::Title, facet }));
    }
    titles.sort_by(|(a, one), (b, other)| {
        b.cmp(a).then_with(|| one.text.len().cmp(&other.text.len())).then_with(|| one.text.cmp(&other.text))
    });
    Ok(titles.into_iter().map(|(_, title)| title).collect())
}

/// Sums by the values of a column, in one segment.
struct Weights {
    column: Option<StrColumn>,
    sums: Vec<f64>,
}

impl Weights {
    fn of(column: Option<StrColumn>) -> Self {
        let sums = vec![0.0; column.as_ref().map_or(0, |column| column.num_terms())];
        Self { column, sums }
    }

    fn add(&mut self, document: u32, popularity: f32) {
        for ordinal in self.column.iter().flat_map(|column| column.term_ords(document)) {
            self.sums[ordinal as usize] += f64::from(popularity) + BEING_THERE;
        }
    }

    fn sum(self, into: &mut HashMap<String, f64>) -> Result<(), SearchError> {
        let Some(column) = self.column else { return Ok(()) };
        let mut value = String::new();
        for (ordinal, sum) in (0..).zip(self.sums).filter(|(_, sum)| *sum > 0.0) {
            value.clear();
            if column.ord_to_str(ordinal, &mut value)? {
                *into.entry(value.clone()).or_default() += sum;
            }
        }
        Ok(())
    }
}

fn most(sums: HashMap<String, f64>) -> Vec<String> {
    let mut sums: Vec<(String, f64)> = sums.into_iter().collect();
    sums.sort_unstable_by(|(one, a), (other, b)| b.total_cmp(a).then_with(|| one.cmp(other)));
    sums.truncate(MOST);
    sums.into_iter().map(|(value, _)| value).collect()
}

/// Many titles lead to the same category.
#[derive(Default)]
struct Facets(HashMap<(&'static str, String), SuggestedFacet>);

impl Facets {
    fn of(&mut self, name: &'static str, value: &str) -> SuggestedFacet {
        if let Some(known) = self.0.get(&(name, value.to_owned())) {
            return known.clone();
        }
        let facet = SuggestedFacet { name: Arc::from(name), value: Arc::from(value) };
        self.0.insert((name, value.to_owned()), facet.clone());
        facet
    }
}
