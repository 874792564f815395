//! The fields of the index, and how a document is laid out in them.
//!
//! Text lies in one field per kind, for weights, and once more in a catch-all, which every query term must be found in.
//! Filters ask inverted fields of folded values; facets count fast columns of the values as written; sorting reads fast
//! columns. Change anything here, or in the analyzer, and [`FORMAT`] must rise: an index of another format is rebuilt.

use tantivy::schema::{
    FAST, Field, IndexRecordOption, JsonObjectOptions, STORED, Schema, TextFieldIndexing, TextOptions,
};
use tantivy::tokenizer::{RAW_TOKENIZER_NAME, TextAnalyzer, TokenizerManager};

use crate::analyzer::{Analyzer, ProductTokenizer};
use crate::text::folding_analyzer;

/// Version of everything that decides what is in the index.
pub(crate) const FORMAT: u32 = 1;

const PRODUCT_TOKENIZER: &str = "product";
const FOLDED_TOKENIZER: &str = "folded";

#[derive(Clone)]
pub(crate) struct Fields {
    /// The item id as text: what deletes and look-ups go by.
    pub(crate) id: Field,
    /// The document as JSON.
    pub(crate) source: Field,
    pub(crate) all: Field,
    pub(crate) title: Field,
    pub(crate) model: Field,
    pub(crate) brand_text: Field,
    pub(crate) category_text: Field,
    pub(crate) attribute_text: Field,
    pub(crate) description: Field,
    /// Folded name and SKUs as wholes.
    pub(crate) exact: Field,
    /// Keys of suggestions, see `suggest`.
    pub(crate) suggestion: Field,
    pub(crate) brand: Field,
    /// Each prefix of the category's path, as written: counted.
    pub(crate) category: Field,
    /// Each prefix and each name of the path: filtered by.
    pub(crate) category_filter: Field,
    pub(crate) seller: Field,
    /// One column per attribute key.
    pub(crate) attributes: Field,
    /// `key=value`.
    pub(crate) attribute_filter: Field,
    /// The lowest price.
    pub(crate) price: Field,
    /// The prices of all variants.
    pub(crate) prices: Field,
    /// In hundredths.
    pub(crate) rating: Field,
    /// Listed at, in milliseconds since 1970.
    pub(crate) listed: Field,
    /// Decides between equal sort keys; the same for an item in every index.
    pub(crate) tie: Field,
    /// The item's place in the availability table.
    pub(crate) slot: Field,
    /// Pairs of halves of UUIDs: the item's, then those of its SKUs.
    pub(crate) ids: Field,
}

/// Names of the columns, as they are opened per segment.
pub(crate) mod column {
    pub(crate) const BRAND: &str = "brand";
    pub(crate) const CATEGORY: &str = "category";
    pub(crate) const SELLER: &str = "seller";
    pub(crate) const ATTRIBUTES: &str = "attributes";
    pub(crate) const PRICE: &str = "price";
    pub(crate) const PRICES: &str = "prices";
    pub(crate) const RATING: &str = "rating";
    pub(crate) const LISTED: &str = "listed";
    pub(crate) const TIE: &str = "tie";
    pub(crate) const SLOT: &str = "slot";
    pub(crate) const IDS: &str = "ids";
}

pub(crate) fn build() -> (Schema, Fields) {
    let indexed = |tokenizer: &str, option: IndexRecordOption, norms: bool| {
        TextOptions::default().set_indexing_options(
            TextFieldIndexing::default()
                .set_tokenizer(tokenizer)
                .set_index_option(option)
                .set_fieldnorms(norms),
        )
    };
    let prose = || indexed(PRODUCT_TOKENIZER, IndexRecordOption::WithFreqs, true);
    let raw = || indexed(RAW_TOKENIZER_NAME, IndexRecordOption::Basic, false);
    let folded = || indexed(FOLDED_TOKENIZER, IndexRecordOption::Basic, false);

    let mut schema = Schema::builder();
    let fields = Fields {
        id: schema.add_text_field("id", raw()),
        source: schema.add_bytes_field("source", STORED),
        all: schema.add_text_field(
            "all",
            indexed(PRODUCT_TOKENIZER, IndexRecordOption::WithFreqsAndPositions, true),
        ),
        title: schema.add_text_field("title", prose()),
        model: schema.add_text_field("model", prose()),
        brand_text: schema.add_text_field("brand_text", prose()),
        category_text: schema.add_text_field("category_text", prose()),
        attribute_text: schema.add_text_field("attribute_text", prose()),
        description: schema.add_text_field("description", prose()),
        exact: schema.add_text_field("exact", raw()),
        suggestion: schema.add_text_field("suggestion", raw()),
        brand: schema.add_text_field(column::BRAND, folded().set_fast(RAW_TOKENIZER_NAME)),
        category: schema
            .add_text_field(column::CATEGORY, TextOptions::default().set_fast(RAW_TOKENIZER_NAME)),
        category_filter: schema.add_text_field("category_filter", folded()),
        seller: schema.add_text_field(column::SELLER, raw().set_fast(RAW_TOKENIZER_NAME)),
        attributes: schema
            .add_json_field(column::ATTRIBUTES, JsonObjectOptions::default().set_fast(RAW_TOKENIZER_NAME)),
        attribute_filter: schema.add_text_field("attribute_filter", folded()),
        price: schema.add_i64_field(column::PRICE, FAST),
        prices: schema.add_i64_field(column::PRICES, FAST),
        rating: schema.add_i64_field(column::RATING, FAST),
        listed: schema.add_i64_field(column::LISTED, FAST),
        tie: schema.add_u64_field(column::TIE, FAST),
        slot: schema.add_u64_field(column::SLOT, FAST),
        ids: schema.add_u64_field(column::IDS, FAST),
    };
    (schema.build(), fields)
}

pub(crate) fn tokenizers(analyzer: &Analyzer) -> TokenizerManager {
    let tokenizers = TokenizerManager::default();
    tokenizers.register(PRODUCT_TOKENIZER, TextAnalyzer::builder(ProductTokenizer(analyzer.clone())).build());
    tokenizers.register(FOLDED_TOKENIZER, folding_analyzer());
    tokenizers
}

impl Fields {
    /// The fields that tell kinds of text apart, in the order of the weights in `ranking`.
    pub(crate) fn text(&self) -> [Field; TEXT_FIELDS] {
        [self.title, self.model, self.brand_text, self.category_text, self.attribute_text, self.description]
    }
}

pub(crate) const TEXT_FIELDS: usize = 6;
