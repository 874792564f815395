//! How good the hits are: what people judged against what is found, for Souk and for a baseline to compare it with. Used by
//! `souk bench search` and by the test that holds the figure; a search has no use for it.

mod bare;
mod baseline;
mod judgements;
mod products;

pub use baseline::Baseline;
pub use judgements::{Judgements, QueryRelevance, Relevance};
pub use products::{item_id, products};

use uuid::Uuid;

use crate::index::SearchIndex;
use crate::query::{Query, SearchError};

#[derive(Debug, thiserror::Error)]
pub enum EvaluationError {
    #[error("{path}: {error}")]
    File { path: String, error: std::io::Error },
    #[error("{path}, line {line}: {reason}")]
    Line { path: String, line: usize, reason: String },
    #[error("{0} holds no query that anything good is known for")]
    NothingJudged(String),
    #[error(transparent)]
    Search(#[from] SearchError),
}

impl From<tantivy::TantivyError> for EvaluationError {
    fn from(error: tantivy::TantivyError) -> Self {
        Self::Search(error.into())
    }
}

impl SearchIndex {
    /// The ids of the best items for a term.
    pub fn best(&self, term: &str, size: usize) -> Result<Vec<Uuid>, SearchError> {
        let found = self.search(&Query { term: Some(term.to_owned()), size, ..Query::default() })?;
        Ok(found.hits.into_iter().map(|hit| hit.item_id).collect())
    }
}
