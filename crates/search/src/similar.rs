//! Items for an item or a category rather than for words: those that say the same of themselves, those that sell most, and
//! any by id. Recommendations are made of them.

use std::collections::{BTreeMap, BTreeSet};

use tantivy::query::{BooleanQuery, BoostQuery, ConstScoreQuery, Occur, Query as IndexQuery, TermQuery};
use tantivy::schema::{Field, IndexRecordOption};
use tantivy::{Searcher, Term};
use uuid::Uuid;

use crate::best::Ranked;
use crate::collector::{Best, Candidate, Order, Outcome, Pass, Rank};
use crate::document::{CATEGORY_SEPARATOR, ItemDocument, id_text};
use crate::index::{SearchIndex, find};
use crate::matching;
use crate::query::{Hit, Query, SearchError};
use crate::schema::Key;
use crate::search::Search;
use crate::together::Together;

/// Words of an item that are looked for in others: those that tell most.
const TELLING: usize = 12;
/// A word that more than one item in so many has tells nothing, once there are some.
const COMMON: u64 = 20;
const SOME: u64 = 1_000;
/// What a word of the title counts against one that stands elsewhere.
const TITLE: f32 = 3.0;
/// What the same category and the same brand count, against words that count up to ten or so each.
const SAME_CATEGORY: f32 = 8.0;
const SAME_BRAND: f32 = 3.0;

type Clauses = Vec<(Occur, Box<dyn IndexQuery>)>;

impl SearchIndex {
    /// The items most like this one in title, category, brand and attributes, the best first, with scores that can be
    /// compared with one another; `None` if there is no such item. It blocks for some milliseconds.
    pub fn similar(&self, item_id: Uuid, size: usize) -> Result<Option<Vec<(Hit, f32)>>, SearchError> {
        let Some(item) = self.get(item_id)? else { return Ok(None) };
        let shown = Query::default();
        let search = Search::new(self, &shown)?;
        let mut clauses = self.telling(&search.searcher, &item)?;
        let mut same = |key: Key, value: &str, weight| {
            let query = TermQuery::new(key.term(&self.fields, value), IndexRecordOption::Basic);
            clauses.push((Occur::Should, Box::new(ConstScoreQuery::new(Box::new(query), weight)) as _));
        };
        if !item.category.is_empty() {
            same(Key::Category, &item.category.join(CATEGORY_SEPARATOR), SAME_CATEGORY);
        }
        if let Some(brand) = item.brand.as_deref().filter(|brand| !brand.trim().is_empty()) {
            same(Key::Brand, brand, SAME_BRAND);
        }
        if clauses.is_empty() {
            return Ok(Some(Vec::new()));
        }
        // The item itself is the most like it.
        let ranked = Ranked {
            searcher: &search.searcher,
            fields: &self.fields,
            statistics: &search.searcher,
            filters: Vec::new(),
            together: Together::default(),
            availability: &self.availability,
        };
        let best = ranked.best(&BooleanQuery::new(clauses), Best::new(size + 1, None, None))?;
        let mut similar = Vec::with_capacity(best.len());
        for candidate in best {
            let hit = search.hit(&candidate)?;
            if hit.item_id != item_id {
                similar.push((hit, candidate.rank.parts().0 as f32));
            }
        }
        similar.truncate(size);
        Ok(Some(similar))
    }

    /// What sold most lately, of all or of a category (a path joined by ` > `, or a name in one); what can be had comes
    /// first.
    pub fn popular(&self, category: Option<&str>, size: usize) -> Result<Vec<Hit>, SearchError> {
        let filter = category.map(|path| {
            let term = Key::Category.term(&self.fields, path);
            Box::new(TermQuery::new(term, IndexRecordOption::Basic)) as Box<dyn IndexQuery>
        });
        let query = matching::query(&self.fields, &[], 0, filter.into_iter());
        let shown = Query::default();
        let search = Search::new(self, &shown)?;
        let pass = Pass {
            filters: Vec::new(),
            together: Together::default(),
            facets: Vec::new(),
            availability: self.availability.clone(),
            values: self.values.clone(),
            order: Order::Popular,
            limit: size,
            after: None,
        };
        let Outcome { best, .. } = search.searcher.search(query.as_ref(), &pass)?;
        best.iter().map(|candidate| search.hit(candidate)).collect()
    }

    /// These items as a search would show them, in this order; what is not listed is left out.
    pub fn hits_of(&self, items: impl IntoIterator<Item = Uuid>) -> Result<Vec<Hit>, SearchError> {
        let shown = Query::default();
        let search = Search::new(self, &shown)?;
        let mut hits = Vec::new();
        for item in items {
            let id = Key::Id.term(&self.fields, &id_text(item));
            if let Some(address) = find(&search.searcher, &id)? {
                hits.push(search.hit(&Candidate { rank: Rank::FIRST, address })?);
            }
        }
        Ok(hits)
    }

    /// The words that tell this item from others, where others may have them.
    fn telling(&self, searcher: &Searcher, item: &ItemDocument) -> Result<Clauses, SearchError> {
        let words = |texts: &mut dyn Iterator<Item = &String>| -> BTreeSet<String> {
            let words = texts.flat_map(|text| self.analyzer.words(text));
            words.flat_map(|word| word.parts).map(|part| part.text).collect()
        };
        let mut weights: BTreeMap<(Field, String), f32> = BTreeMap::new();
        let mut weigh = |field: Field, words: BTreeSet<String>, weight: f32| {
            for word in words {
                weights.entry((field, word)).or_insert(weight);
            }
        };
        weigh(self.fields.title, words(&mut std::iter::once(&item.name)), TITLE);
        weigh(self.fields.category_text, words(&mut item.category.iter().chain(&item.tags)), 1.0);
        weigh(self.fields.attribute_text, words(&mut item.attributes.values()), 1.0);

        let documents = searcher.num_docs();
        let mut telling = Vec::with_capacity(weights.len());
        for ((field, word), weight) in weights {
            let having = searcher.doc_freq(&Term::from_field_text(self.fields.all, &word))?;
            if having > 1 && (documents < SOME || having <= documents / COMMON) {
                let rarity = (1.0 + documents as f32 / having as f32).ln();
                telling.push((weight * rarity, field, word, weight));
            }
        }
        telling.sort_by(|a, b| b.0.total_cmp(&a.0));
        telling.truncate(TELLING);
        let clause = |(_, field, word, weight): (f32, Field, String, f32)| {
            let query = TermQuery::new(Term::from_field_text(field, &word), IndexRecordOption::WithFreqs);
            (Occur::Should, Box::new(BoostQuery::new(Box::new(query), weight)) as Box<dyn IndexQuery>)
        };
        Ok(telling.into_iter().map(clause).collect())
    }
}
