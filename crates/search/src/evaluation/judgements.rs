//! What people judged, and what a search is worth by it.
//!
//! The figure is NDCG@10: the gains of the first ten hits, each 2^grade − 1 divided by log₂(rank + 1), over those of the best
//! ten that are known (K. Järvelin and J. Kekäläinen, ACM TOIS 20 (2002); the exponential gain is that of C. Burges and
//! others, ICML 2005). What nobody judged counts as useless, so finding good things that were not judged does not help.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;

use uuid::Uuid;

use super::{EvaluationError, item_id};

const DEPTH: usize = 10;

/// Grades by item, by query.
#[derive(Debug, Clone)]
pub struct Judgements(BTreeMap<String, HashMap<Uuid, f64>>);

#[derive(Debug, Clone)]
pub struct QueryRelevance {
    pub query: String,
    pub ndcg: f64,
}

/// The mean over all queries, and each by itself.
#[derive(Debug, Clone)]
pub struct Relevance {
    pub mean: f64,
    pub queries: Vec<QueryRelevance>,
}

impl Judgements {
    /// Lines of query, product id and grade, apart by tabs, below a line of their names. Of a query that nothing good is
    /// known for nothing can be said: it is left out.
    pub fn read(path: &Path) -> Result<Self, EvaluationError> {
        let shown = path.display().to_string();
        let text =
            fs::read_to_string(path).map_err(|error| EvaluationError::File { path: shown.clone(), error })?;
        let mut grades: BTreeMap<String, HashMap<Uuid, f64>> = BTreeMap::new();
        for (at, line) in text.lines().enumerate().skip(1).filter(|(_, line)| !line.is_empty()) {
            let mut columns = line.split('\t');
            let columns = [columns.next(), columns.next(), columns.next()];
            let grade = columns[2].and_then(|grade| grade.trim().parse().ok());
            let (Some(query), Some(product), Some(grade)) = (columns[0], columns[1], grade) else {
                let reason = "this is no query, product and grade".to_owned();
                return Err(EvaluationError::Line { path: shown, line: at + 1, reason });
            };
            grades.entry(query.to_owned()).or_default().insert(item_id(product), grade);
        }
        grades.retain(|_, judged| judged.values().any(|grade| *grade > 0.0));
        if grades.is_empty() {
            return Err(EvaluationError::NothingJudged(shown));
        }
        Ok(Self(grades))
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Every other query by a hash of its text: what is tuned on one half is checked on the other.
    #[must_use]
    pub fn half(&self, second: bool) -> Self {
        let mine = |query: &str| {
            let hash = Uuid::new_v5(&Uuid::NAMESPACE_OID, query.as_bytes());
            (hash.as_u128() & 1 == 1) == second
        };
        Self(self.0.iter().filter(|(query, _)| mine(query)).map(|(q, g)| (q.clone(), g.clone())).collect())
    }

    /// Asks every query, and rates the ids that come back, best first.
    pub fn rate<E>(&self, mut search: impl FnMut(&str) -> Result<Vec<Uuid>, E>) -> Result<Relevance, E> {
        let mut queries = Vec::with_capacity(self.0.len());
        for (query, grades) in &self.0 {
            let found = search(query)?;
            queries.push(QueryRelevance { query: query.clone(), ndcg: ndcg(grades, &found) });
        }
        let mean = queries.iter().map(|query| query.ndcg).sum::<f64>() / queries.len().max(1) as f64;
        Ok(Relevance { mean, queries })
    }
}

fn ndcg(grades: &HashMap<Uuid, f64>, found: &[Uuid]) -> f64 {
    let gained = gains(found.iter().map(|id| grades.get(id).copied().unwrap_or(0.0)));
    let mut best: Vec<f64> = grades.values().copied().collect();
    best.sort_by(|a, b| b.total_cmp(a));
    gained / gains(best.into_iter())
}

fn gains(grades: impl Iterator<Item = f64>) -> f64 {
    grades.take(DEPTH).zip(2_u32..).map(|(grade, rank)| (grade.exp2() - 1.0) / f64::from(rank).log2()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_order_is_worth_one_and_the_unjudged_nothing() {
        let grades: HashMap<Uuid, f64> =
            [("a", 3.0), ("b", 1.0), ("c", 0.0)].map(|(id, grade)| (item_id(id), grade)).into();
        let of = |ids: &[&str]| ndcg(&grades, &ids.iter().map(|id| item_id(id)).collect::<Vec<_>>());
        assert!((of(&["a", "b"]) - 1.0).abs() < 1e-9);
        assert!(of(&["unjudged", "c"]).abs() < 1e-9);
        // By hand: (1 + 7 / log₂ 3) / (7 + 1 / log₂ 3).
        assert!((of(&["b", "a"]) - 0.709_8).abs() < 1e-4, "{}", of(&["b", "a"]));
        assert!((of(&["x", "a", "b"]) - 0.644_9).abs() < 1e-3, "{}", of(&["x", "a", "b"]));
    }

    #[test]
    fn halves_share_no_query_and_leave_none_out() {
        let all = Judgements((0..40).map(|n| (format!("query {n}"), HashMap::new())).collect());
        let (first, second) = (all.half(false), all.half(true));
        assert_eq!(first.len() + second.len(), 40);
        assert!(first.0.keys().all(|query| !second.0.contains_key(query)));
        assert!(first.len() > 10 && second.len() > 10);
    }
}
