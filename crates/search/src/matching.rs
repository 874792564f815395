//! Which documents match, and their score in the first phase: every group of the term in the catch-all (or so many of
//! them, where all would find too little), with words of the title counting more.

use tantivy::Term;
use tantivy::query::{
    AllQuery, BooleanQuery, BoostQuery, DisjunctionMaxQuery, Occur, PhraseQuery, Query as IndexQuery,
    TermQuery,
};
use tantivy::schema::{Field, IndexRecordOption};

use crate::schema::Fields;
use crate::terms::{Alternative, Group};

/// How much more a word in the title counts in the first phase.
const TITLE_BOOST: f32 = 1.0;

/// Documents that match `required` of the groups and all of the filters. Without scores (`scored` false) it does less.
pub(crate) fn query(
    fields: &Fields,
    groups: &[Group],
    required: usize,
    scored: bool,
    filters: impl Iterator<Item = Box<dyn IndexQuery>>,
) -> Box<dyn IndexQuery> {
    let mut clauses: Vec<(Occur, Box<dyn IndexQuery>)> = Vec::new();
    let found = groups.iter().map(|group| any_of(fields.all, group, true));
    if required >= groups.len() {
        clauses.extend(found.map(|query| (Occur::Must, query)));
    } else {
        let some = BooleanQuery::union_with_minimum_required_clauses(found.collect(), required);
        clauses.push((Occur::Must, Box::new(some)));
    }
    clauses.extend(filters.map(|filter| (Occur::Must, filter)));
    if clauses.is_empty() {
        return Box::new(AllQuery);
    }
    if scored {
        for group in groups {
            let query = BoostQuery::new(any_of(fields.title, group, false), TITLE_BOOST);
            clauses.push((Occur::Should, Box::new(query)));
        }
    }
    Box::new(BooleanQuery::new(clauses))
}

fn any_of(field: Field, group: &Group, phrases: bool) -> Box<dyn IndexQuery> {
    let mut queries: Vec<Box<dyn IndexQuery>> =
        group.alternatives.iter().map(|alternative| one_of(field, alternative, phrases)).collect();
    if queries.len() == 1 {
        return queries.remove(0);
    }
    Box::new(DisjunctionMaxQuery::new(queries))
}

fn one_of(field: Field, alternative: &Alternative, phrases: bool) -> Box<dyn IndexQuery> {
    let term = |word: &String| Term::from_field_text(field, word);
    let query: Box<dyn IndexQuery> = match alternative.words.as_slice() {
        [word] => Box::new(TermQuery::new(term(word), IndexRecordOption::WithFreqs)),
        words if phrases && alternative.phrase => {
            Box::new(PhraseQuery::new(words.iter().map(term).collect()))
        }
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
