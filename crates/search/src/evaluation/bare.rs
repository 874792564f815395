//! The same question asked of Tantivy without Souk: every word in the catch-all, the best twenty by BM25, their number, and
//! three facets by Tantivy's own aggregations. What a search costs is compared with it.

use serde_json::json;
use tantivy::aggregation::{AggContextParams, AggregationCollector};
use tantivy::collector::{Count, TopDocs};
use tantivy::query::{BooleanQuery, Query as IndexQuery, TermQuery};
use tantivy::schema::IndexRecordOption;
use tantivy::{TantivyDocument, Term};

use super::EvaluationError;
use crate::index::{SearchIndex, source};
use crate::query::SearchError;
use crate::schema::column;
use crate::terms;

impl SearchIndex {
    /// Searches with nothing between; the answer is how many items match.
    pub fn search_bare(&self, term: &str, size: usize) -> Result<usize, EvaluationError> {
        let words = terms::parse(&self.analyzer, term)
            .into_iter()
            .flat_map(|mut group| group.alternatives.swap_remove(0).words);
        let all = words
            .map(|word| -> Box<dyn IndexQuery> {
                let term = Term::from_field_text(self.fields.all, &word);
                Box::new(TermQuery::new(term, IndexRecordOption::WithFreqs))
            })
            .collect();
        let steps = [0, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000];
        let ranges: Vec<_> = steps.windows(2).map(|ends| json!({"from": ends[0], "to": ends[1]})).collect();
        let facets = json!({
            "brand": {"terms": {"field": column::BRAND, "size": 100}},
            "category": {"terms": {"field": column::CATEGORY, "size": 100}},
            "price": {"range": {"field": column::PRICES, "ranges": ranges}},
        });
        let facets = serde_json::from_value(facets).map_err(SearchError::from)?;
        let collector = (
            TopDocs::with_limit(size).order_by_score(),
            Count,
            AggregationCollector::from_aggs(facets, AggContextParams::default()),
        );
        let searcher = self.searcher();
        let (best, total, _) = searcher.search(&BooleanQuery::intersection(all), &collector)?;
        for (_, address) in best {
            // Reading what is shown is part of the question.
            let document: TantivyDocument = searcher.doc(address)?;
            std::hint::black_box(source(&document, &self.fields));
        }
        Ok(total)
    }
}
