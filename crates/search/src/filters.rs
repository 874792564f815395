//! What narrows a search besides its text. A filter is looked up in the inverted index where it can be; where its own
//! facet is counted as well, it is a check per document instead, so that the facet can ignore it.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use tantivy::columnar::Column;
use tantivy::postings::SegmentPostings;
use tantivy::query::{BooleanQuery, ConstScoreQuery, Query as IndexQuery, TermQuery};
use tantivy::schema::IndexRecordOption;
use tantivy::{DocId, DocSet, SegmentReader, Term};

use crate::availability::Availability;
use crate::document::{attribute, attribute_key};
use crate::query::Query;
use crate::schema::{Fields, Key, column};
use crate::together::{self, Together, Wanted};

/// What a filter or facet is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Dimension {
    Brand,
    Category,
    Price,
    Seller,
    Rating,
    InStock,
    Attribute(String),
}

#[derive(Debug, Clone)]
pub(crate) struct Filter {
    pub(crate) dimension: Dimension,
    test: Test,
}

#[derive(Debug, Clone)]
enum Test {
    AnyTerm(Vec<Term>),
    Price(RangeInclusive<i64>),
    /// In hundredths.
    RatingFrom(i64),
    InStock(bool),
}

/// The filters of a query; blank ones filter nothing.
pub(crate) fn of_query(query: &Query, fields: &Fields) -> Vec<Filter> {
    let mut filters = Vec::new();
    let mut add = |dimension, test| filters.push(Filter { dimension, test });

    let brands = query.brand.iter().filter(|brand| !brand.trim().is_empty());
    let brands: Vec<Term> = brands.map(|brand| Key::Brand.term(fields, brand)).collect();
    if !brands.is_empty() {
        add(Dimension::Brand, Test::AnyTerm(brands));
    }
    if let Some(category) = query.category.as_deref().filter(|category| !category.trim().is_empty()) {
        add(Dimension::Category, Test::AnyTerm(vec![Key::Category.term(fields, category)]));
    }
    if let Some(seller) = query.seller {
        let term = Key::Seller.term(fields, &seller.to_string());
        add(Dimension::Seller, Test::AnyTerm(vec![term]));
    }
    let mut attributes: BTreeMap<String, Vec<Term>> = BTreeMap::new();
    for (key, value) in &query.attributes {
        let key = attribute_key(key);
        let term = Key::Attribute.term(fields, &attribute(&key, value.trim()));
        attributes.entry(key).or_default().push(term);
    }
    for (key, terms) in attributes {
        add(Dimension::Attribute(key), Test::AnyTerm(terms));
    }
    if query.min_price.is_some() || query.max_price.is_some() {
        let range = query.min_price.unwrap_or(i64::MIN)..=query.max_price.unwrap_or(i64::MAX);
        add(Dimension::Price, Test::Price(range));
    }
    if let Some(rating) = query.min_rating.filter(|rating| *rating > 0.0) {
        add(Dimension::Rating, Test::RatingFrom((rating * 100.0).round() as i64));
    }
    if let Some(in_stock) = query.in_stock {
        add(Dimension::InStock, Test::InStock(in_stock));
    }
    filters
}

/// What of this one variant has to meet.
pub(crate) fn together(filters: &[Filter]) -> Together {
    let wanted = filters.iter().filter_map(|Filter { dimension, test }| {
        let wanted = match (dimension, test) {
            (Dimension::Attribute(_), Test::AnyTerm(terms)) => {
                let keys = terms.iter().filter_map(|term| term.value().as_str().map(together::name_of_key));
                Wanted::AnyOf(keys.collect())
            }
            (_, Test::Price(range)) => Wanted::Price(range.clone()),
            _ => return None,
        };
        Some((dimension.clone(), wanted))
    });
    Together::new(wanted.collect())
}

impl Filter {
    /// As a clause of the query, for those that the inverted index answers.
    pub(crate) fn as_query(&self) -> Option<Box<dyn IndexQuery>> {
        let Test::AnyTerm(terms) = &self.test else { return None };
        let term = |term: &Term| -> Box<dyn IndexQuery> {
            Box::new(TermQuery::new(term.clone(), IndexRecordOption::Basic))
        };
        let any: Box<dyn IndexQuery> = match terms.as_slice() {
            [one] => term(one),
            many => Box::new(BooleanQuery::union(many.iter().map(term).collect())),
        };
        Some(Box::new(ConstScoreQuery::new(any, 0.0)))
    }

    /// Whether variants differ in it.
    pub(crate) fn is_of_variants(&self) -> bool {
        matches!(self.dimension, Dimension::Attribute(_) | Dimension::Price)
    }

    /// As a check of one document after another.
    pub(crate) fn open(
        &self,
        segment: &SegmentReader,
        availability: &Arc<Availability>,
    ) -> tantivy::Result<Check> {
        let columns = segment.fast_fields();
        Ok(match &self.test {
            Test::AnyTerm(terms) => {
                let mut postings = Vec::new();
                for term in terms {
                    let inverted = segment.inverted_index(term.field())?;
                    postings.extend(inverted.read_postings(term, IndexRecordOption::Basic)?);
                }
                Check::AnyPosting(postings)
            }
            Test::Price(range) => Check::Number(columns.column_opt(column::PRICES)?, range.clone()),
            Test::RatingFrom(least) => Check::Number(columns.column_opt(column::RATING)?, *least..=i64::MAX),
            Test::InStock(wanted) => Check::InStock {
                slots: columns.u64(column::SLOT)?,
                availability: Arc::clone(availability),
                wanted: *wanted,
            },
        })
    }
}

/// A filter on one segment. Documents must come in ascending order.
pub(crate) enum Check {
    AnyPosting(Vec<SegmentPostings>),
    /// Any value of the column in the range. A segment where no document has one lacks the column.
    Number(Option<Column<i64>>, RangeInclusive<i64>),
    InStock {
        slots: Column<u64>,
        availability: Arc<Availability>,
        wanted: bool,
    },
}

impl Check {
    pub(crate) fn passes(&mut self, document: DocId) -> bool {
        match self {
            Self::AnyPosting(postings) => postings.iter_mut().any(|postings| {
                let at = postings.doc();
                at == document || at < document && postings.seek(document) == document
            }),
            Self::Number(column, range) => column
                .as_ref()
                .is_some_and(|column| column.values_for_doc(document).any(|value| range.contains(&value))),
            Self::InStock { slots, availability, wanted } => {
                slots.first(document).is_some_and(|slot| availability.slot_in_stock(slot as u32)) == *wanted
            }
        }
    }
}
