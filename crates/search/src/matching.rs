//! Which documents match, and their score in the first phase: every group of the term in the catch-all, or so many of
//! them, where all would find too little. The catch-all holds a title several times, so that its words count more.

use tantivy::Term;
use tantivy::query::{
    AllQuery, BooleanQuery, BoostQuery, DisjunctionMaxQuery, PhraseQuery, Query as IndexQuery, TermQuery,
};
use tantivy::schema::{Field, IndexRecordOption};

use crate::all_of::AllOf;
use crate::schema::Fields;
use crate::terms::{Alternative, Group};

/// Documents that match `required` of the groups and all of the filters.
pub(crate) fn query(
    fields: &Fields,
    groups: &[Group],
    required: usize,
    filters: impl Iterator<Item = Box<dyn IndexQuery>>,
) -> Box<dyn IndexQuery> {
    let found: Vec<_> = groups.iter().map(|group| any_of(fields.all, group)).collect();
    let mut clauses: Vec<Box<dyn IndexQuery>> = if required >= groups.len() {
        found
    } else {
        vec![Box::new(BooleanQuery::union_with_minimum_required_clauses(found, required))]
    };
    clauses.extend(filters);
    match clauses.len() {
        0 => Box::new(AllQuery),
        1 => clauses.remove(0),
        _ => Box::new(AllOf::new(clauses)),
    }
}

fn any_of(field: Field, group: &Group) -> Box<dyn IndexQuery> {
    let mut queries: Vec<Box<dyn IndexQuery>> =
        group.alternatives.iter().map(|alternative| one_of(field, alternative)).collect();
    if queries.len() == 1 {
        return queries.remove(0);
    }
    Box::new(DisjunctionMaxQuery::new(queries))
}

fn one_of(field: Field, alternative: &Alternative) -> Box<dyn IndexQuery> {
    let term = |word: &String| Term::from_field_text(field, word);
    let query: Box<dyn IndexQuery> = match alternative.words.as_slice() {
        [word] => Box::new(TermQuery::new(term(word), IndexRecordOption::WithFreqs)),
        words if alternative.phrase => Box::new(PhraseQuery::new(words.iter().map(term).collect())),
        words => Box::new(BooleanQuery::intersection(
            words
                .iter()
                .map(|word| -> Box<dyn IndexQuery> {
                    Box::new(TermQuery::new(term(word), IndexRecordOption::WithFreqs))
                })
                .collect(),
        )),
    };
    if (alternative.weight - 1.0).abs() < f32::EPSILON {
        query
    } else {
        Box::new(BoostQuery::new(query, alternative.weight))
    }
}
