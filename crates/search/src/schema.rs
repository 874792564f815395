//! The fields of the index, and how a document is laid out in them.
//!
//! Text lies in one field per kind, for weights, and once more in a catch-all, which every query term must be found in.
//! Whatever is looked up whole (ids, filters, suggestions) shares one field, told apart by a letter, because each inverted
//! field costs milliseconds in every commit. Facets count fast columns of the values as written; sorting reads fast columns.
//! Change anything here, or in the analyzer, and [`FORMAT`] must rise: an index of another format is built anew. A field that
//! is new comes last, so that an earlier format can be read until that is done.

use tantivy::Term;
use tantivy::schema::{
    FAST, Field, IndexRecordOption, JsonObjectOptions, STORED, Schema, TextFieldIndexing, TextOptions,
};
use tantivy::tokenizer::{RAW_TOKENIZER_NAME, TextAnalyzer, TokenizerManager};

use crate::analyzer::WrittenTokenizer;
use crate::fnv::hash;
use crate::text::{clip, squash};

/// Version of everything that decides what is in the index.
pub(crate) const FORMAT: u32 = 4;

const WRITTEN: &str = "written";
/// Keys are cut here; the index takes no more than 64 KiB.
const LONGEST_KEY: usize = 256;

#[derive(Clone)]
pub(crate) struct Fields {
    /// See [`Key`].
    pub(crate) keys: Field,
    /// The document as JSON.
    pub(crate) source: Field,
    pub(crate) all: Field,
    pub(crate) title: Field,
    pub(crate) model: Field,
    pub(crate) brand_text: Field,
    pub(crate) category_text: Field,
    pub(crate) attribute_text: Field,
    pub(crate) description: Field,
    pub(crate) brand: Field,
    /// Each prefix of the category's path.
    pub(crate) category: Field,
    pub(crate) seller: Field,
    /// One column per attribute key.
    pub(crate) attributes: Field,
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
    /// Which variants have what: see `together`.
    pub(crate) variants: Field,
}

/// What a document can be looked up by. Cases, accents and white space do not matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    Id,
    /// Its name or a SKU, as a whole: a number made of it, as they are long and nothing is read from them.
    Exact,
    Brand,
    /// A prefix of the category's path, or a name in it.
    Category,
    Seller,
    /// `key=value`
    Attribute,
    /// What `suggest` completes.
    BrandSuggestion,
    CategorySuggestion,
    TitleSuggestion,
}

impl Key {
    fn letter(self) -> char {
        match self {
            Self::Id => 'i',
            Self::Exact => 'e',
            Self::Brand => 'b',
            Self::Category => 'c',
            Self::Seller => 's',
            Self::Attribute => 'a',
            Self::BrandSuggestion => 'B',
            Self::CategorySuggestion => 'C',
            Self::TitleSuggestion => 'T',
        }
    }

    pub(crate) fn text(self, value: &str) -> String {
        let value = squash(value);
        match self {
            Self::Exact => format!("{}{:x}", self.letter(), hash(&value)),
            _ => format!("{}{}", self.letter(), clip(&value, LONGEST_KEY)),
        }
    }

    pub(crate) fn term(self, fields: &Fields, value: &str) -> Term {
        Term::from_field_text(fields.keys, &self.text(value))
    }
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
    pub(crate) const VARIANTS: &str = "variants";
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
    let prose = || indexed(WRITTEN, IndexRecordOption::WithFreqs, true);
    let column = || TextOptions::default().set_fast(RAW_TOKENIZER_NAME);

    let mut schema = Schema::builder();
    let fields = Fields {
        keys: schema.add_text_field("keys", indexed(RAW_TOKENIZER_NAME, IndexRecordOption::Basic, false)),
        source: schema.add_bytes_field("source", STORED),
        all: schema.add_text_field("all", indexed(WRITTEN, IndexRecordOption::WithFreqsAndPositions, true)),
        title: schema.add_text_field("title", prose()),
        model: schema.add_text_field("model", prose()),
        brand_text: schema.add_text_field("brand_text", prose()),
        category_text: schema.add_text_field("category_text", prose()),
        attribute_text: schema.add_text_field("attribute_text", prose()),
        description: schema.add_text_field("description", prose()),
        brand: schema.add_text_field(column::BRAND, column()),
        category: schema.add_text_field(column::CATEGORY, column()),
        seller: schema.add_text_field(column::SELLER, column()),
        attributes: schema
            .add_json_field(column::ATTRIBUTES, JsonObjectOptions::default().set_fast(RAW_TOKENIZER_NAME)),
        price: schema.add_i64_field(column::PRICE, FAST),
        prices: schema.add_i64_field(column::PRICES, FAST),
        rating: schema.add_i64_field(column::RATING, FAST),
        listed: schema.add_i64_field(column::LISTED, FAST),
        tie: schema.add_u64_field(column::TIE, FAST),
        slot: schema.add_u64_field(column::SLOT, FAST),
        ids: schema.add_u64_field(column::IDS, FAST),
        variants: schema.add_u64_field(column::VARIANTS, FAST),
    };
    (schema.build(), fields)
}

pub(crate) fn tokenizers() -> TokenizerManager {
    let tokenizers = TokenizerManager::default();
    tokenizers.register(WRITTEN, TextAnalyzer::builder(WrittenTokenizer::default()).build());
    tokenizers
}

impl Fields {
    /// The fields that tell kinds of text apart, in the order of the weights in `ranking`.
    pub(crate) fn text(&self) -> [Field; TEXT_FIELDS] {
        [self.title, self.model, self.brand_text, self.category_text, self.attribute_text, self.description]
    }
}

pub(crate) const TEXT_FIELDS: usize = 6;
