//! Product search on Tantivy: text, filters, facets, sorts, cursors, suggestions. It takes documents and answers queries;
//! where the documents come from, and who asks, it does not know.
//!
//! - [`SearchIndex::open`] finds or makes the index; [`SearchIndex::position`] says where its feeder goes on.
//! - [`IndexWriter`] takes documents and commits them with a position.
//! - [`Availability`] takes stock, which no document holds: a sale rewrites none.
//! - [`SearchIndex::search`] answers a [`Query`] with [`Hits`], [`SearchIndex::suggest`] completes a prefix.
//! - [`SearchIndex::similar`], [`SearchIndex::popular`] and [`SearchIndex::hits_of`] find items that nobody typed words for.
//!
//! The way of a query: `terms` (groups of alternatives) → `synonyms` and `expansion` (further ones) → `matching` and `filters` (which documents) → `collector` (one
//! pass: facets, total) → `best` (by score) → `ranking` (the best ones again) → `search` (the page), `highlight`.

mod all_of;
mod analyzer;
mod availability;
mod best;
mod collector;
mod cursor;
mod document;
pub mod evaluation;
mod expansion;
mod facets;
mod filters;
mod fnv;
mod highlight;
mod index;
mod matching;
mod query;
mod ranking;
mod schema;
mod search;
mod similar;
mod statistics;
mod suggest;
mod synonyms;
mod terms;
mod text;
mod together;
mod values;
mod variants;
mod writer;

pub use availability::{Availability, Quantities, clicked, worth};
pub use document::{CATEGORY_SEPARATOR, ItemDocument, VariantDocument};
pub use facets::FACET_VALUES;
pub use index::{Config, Origin, SearchIndex, SynonymSource};
pub use query::{FacetCount, Hit, Hits, LARGEST_PAGE, Query, SearchError, Sort, VariantHit};
pub use suggest::{FoundQuery, SuggestedFacet, Suggestion, SuggestionKind};
pub use synonyms::{SynonymError, Synonyms};
pub use text::squash as normalised;
pub use writer::IndexWriter;
