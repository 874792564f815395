//! What a default Elasticsearch would find: the `standard` analyzer (words by the rules of Unicode, in lower case, not stemmed),
//! one field per kind of text, `multi_match` of type `best_fields` (the best field's score counts) with the operator `or`, and
//! BM25 with k1 1.2 and b 0.75, which are Tantivy's as well.

use tantivy::collector::TopDocs;
use tantivy::indexer::IndexWriterOptions;
use tantivy::query::{BooleanQuery, DisjunctionMaxQuery, Query as IndexQuery, TermQuery};
use tantivy::schema::{Field, IndexRecordOption, STORED, Schema, TextFieldIndexing, TextOptions, Value};
use tantivy::tokenizer::{TextAnalyzer, Token, TokenStream, Tokenizer};
use tantivy::{Index, TantivyDocument, Term};
use uuid::Uuid;

use super::EvaluationError;
use crate::document::ItemDocument;
use crate::text::strip_html;

const STANDARD: &str = "standard";
const HEAP: usize = 50_000_000;

/// An index in memory.
pub struct Baseline {
    index: Index,
    id: Field,
    fields: [Field; 5],
    writer: Option<tantivy::IndexWriter>,
}

impl Baseline {
    pub fn new() -> Result<Self, EvaluationError> {
        let mut schema = Schema::builder();
        let id = schema.add_bytes_field("id", STORED);
        let text = TextOptions::default().set_indexing_options(
            TextFieldIndexing::default()
                .set_tokenizer(STANDARD)
                .set_index_option(IndexRecordOption::WithFreqs),
        );
        let fields = ["title", "name", "brand", "description", "attributes"]
            .map(|name| schema.add_text_field(name, text.clone()));
        let index = Index::create_in_ram(schema.build());
        index.tokenizers().register(STANDARD, TextAnalyzer::builder(Standard).build());
        // One segment, so that words are as rare for one document as for another.
        let options =
            IndexWriterOptions::builder().num_worker_threads(1).memory_budget_per_thread(HEAP).build();
        let writer = Some(index.writer_with_options(options)?);
        Ok(Self { index, id, fields, writer })
    }

    pub fn add(&mut self, item: &ItemDocument) -> Result<(), EvaluationError> {
        let mut document = TantivyDocument::new();
        document.add_bytes(self.id, item.item_id.as_bytes());
        let attributes = item.attributes.values().map(String::as_str).collect::<Vec<_>>().join("\n");
        let description = strip_html(&item.description);
        let texts =
            [&item.name, &item.sku, item.brand.as_deref().unwrap_or_default(), &*description, &attributes];
        for (field, text) in self.fields.iter().zip(texts) {
            document.add_text(*field, text);
        }
        if let Some(writer) = &self.writer {
            writer.add_document(document)?;
        }
        Ok(())
    }

    /// Makes everything added findable; nothing is added after it.
    pub fn finish(&mut self) -> Result<(), EvaluationError> {
        if let Some(mut writer) = self.writer.take() {
            writer.commit()?;
        }
        Ok(())
    }

    /// The best items for a term, in order.
    pub fn search(&self, term: &str, size: usize) -> Result<Vec<Uuid>, EvaluationError> {
        let mut words: Vec<String> = Vec::new();
        let mut stream = Standard.token_stream(term);
        stream.process(&mut |token| words.push(token.text.clone()));
        let of_field = |field: &Field| -> Box<dyn IndexQuery> {
            let word = |word: &String| -> Box<dyn IndexQuery> {
                Box::new(TermQuery::new(Term::from_field_text(*field, word), IndexRecordOption::WithFreqs))
            };
            Box::new(BooleanQuery::union(words.iter().map(word).collect()))
        };
        let query = DisjunctionMaxQuery::new(self.fields.iter().map(of_field).collect());
        let searcher = self.index.reader()?.searcher();
        let found = searcher.search(&query, &TopDocs::with_limit(size).order_by_score())?;
        let mut ids = Vec::with_capacity(found.len());
        for (_, address) in found {
            let document: TantivyDocument = searcher.doc(address)?;
            let id = document.get_first(self.id).and_then(|value| value.as_bytes());
            ids.extend(id.and_then(|bytes| Uuid::from_slice(bytes).ok()));
        }
        Ok(ids)
    }
}

/// Tokens that were all made at once.
struct Tokens {
    tokens: std::vec::IntoIter<Token>,
    current: Token,
}

impl TokenStream for Tokens {
    fn advance(&mut self) -> bool {
        self.tokens.next().map(|token| self.current = token).is_some()
    }

    fn token(&self) -> &Token {
        &self.current
    }

    fn token_mut(&mut self) -> &mut Token {
        &mut self.current
    }
}

/// Runs of letters, digits and underscores; a point or apostrophe between two letters and a point or comma between two
/// digits do not part them (UAX #29, as far as product text in Latin script goes).
#[derive(Clone)]
struct Standard;

impl Tokenizer for Standard {
    type TokenStream<'a> = Tokens;

    fn token_stream(&mut self, text: &str) -> Tokens {
        let characters: Vec<(usize, char)> = text.char_indices().collect();
        let joins = |at: usize| {
            let (Some((_, before)), Some((_, after))) =
                (at.checked_sub(1).and_then(|at| characters.get(at)), characters.get(at + 1))
            else {
                return false;
            };
            let letters = before.is_alphabetic() && after.is_alphabetic();
            let digits = before.is_numeric() && after.is_numeric();
            match characters[at].1 {
                '.' | '\'' | '’' => letters || digits,
                ',' => digits,
                _ => false,
            }
        };
        let mut tokens: Vec<Token> = Vec::new();
        let mut inside = false;
        for (at, (offset, character)) in characters.iter().enumerate() {
            let part_of_word = character.is_alphanumeric() || *character == '_' || (inside && joins(at));
            if part_of_word && !inside {
                let position = tokens.len();
                tokens.push(Token { position, offset_from: *offset, offset_to: *offset, ..Token::default() });
            }
            inside = part_of_word;
            if let Some(token) = tokens.last_mut().filter(|_| inside) {
                token.text.extend(character.to_lowercase());
                token.offset_to = offset + character.len_utf8();
            }
        }
        Tokens { tokens: tokens.into_iter(), current: Token::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_parted_as_the_standard_analyzer_parts_them() {
        let mut words = Vec::new();
        Standard
            .token_stream("Wi-Fi 15.6\" l'Oréal's 1,000 dv7-1211ea a_b x. ½")
            .process(&mut |token| words.push(token.text.clone()));
        assert_eq!(words, ["wi", "fi", "15.6", "l'oréal's", "1,000", "dv7", "1211ea", "a_b", "x", "½"]);
    }
}
