//! The numbers that scores are made of, taken once per search: how many documents, how long fields are, how rare words
//! are. A word is as rare in every field as it is over all of them. A cursor carries these numbers along, so that an item
//! keeps its score, and with it its place, on all pages, whatever is indexed in between.

use std::collections::BTreeMap;

use tantivy::query::Bm25StatisticsProvider;
use tantivy::schema::Field;
use tantivy::{Searcher, Term};

use crate::schema::{Fields, TEXT_FIELDS};
use crate::terms::{Alternative, Group};

/// Numbers beyond this are no index's: a cursor that holds them was made up.
const LARGEST: u64 = 1 << 48;

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Statistics {
    pub(crate) documents: u64,
    /// Tokens in the catch-all.
    pub(crate) tokens: u64,
    pub(crate) field_tokens: [u64; TEXT_FIELDS],
    /// Documents that hold a word, by word.
    pub(crate) frequencies: BTreeMap<String, u64>,
    fields: [Field; TEXT_FIELDS],
}

impl Statistics {
    pub(crate) fn measure(searcher: &Searcher, fields: &Fields, groups: &[Group]) -> tantivy::Result<Self> {
        let mut frequencies = BTreeMap::new();
        for word in groups.iter().flat_map(Group::words) {
            if !frequencies.contains_key(word) {
                frequencies
                    .insert(word.clone(), searcher.doc_freq(&Term::from_field_text(fields.all, word))?);
            }
        }
        // What was not typed is as common as the commonest that means the same: else who writes a word wrong, as few do,
        // would come first.
        for group in groups {
            let one = |alternative: &Alternative| match alternative.words.as_slice() {
                [word] => Some(word.clone()),
                _ => None,
            };
            let words: Vec<String> = group.alternatives.iter().filter_map(one).collect();
            let most = words.iter().filter_map(|word| frequencies.get(word)).max().copied().unwrap_or(0);
            let others =
                group.alternatives.iter().filter(|alternative| alternative.weight < 1.0).filter_map(one);
            for word in others {
                frequencies.insert(word, most);
            }
        }
        let mut documents = 0;
        let mut tokens = 0;
        let mut field_tokens = [0; TEXT_FIELDS];
        for segment in searcher.segment_readers() {
            documents += u64::from(segment.max_doc());
            tokens += segment.inverted_index(fields.all)?.total_num_tokens();
            for (sum, field) in field_tokens.iter_mut().zip(fields.text()) {
                *sum += segment.inverted_index(field)?.total_num_tokens();
            }
        }
        Ok(Self { documents, tokens, field_tokens, frequencies, fields: fields.text() })
    }

    /// As a cursor carries it: the words are known from the query.
    pub(crate) fn numbers(&self) -> Vec<u64> {
        let mut numbers = vec![self.documents, self.tokens];
        numbers.extend(self.field_tokens);
        numbers.extend(self.frequencies.values());
        numbers
    }

    /// Back from a cursor; `None` if these numbers cannot be of a search for these groups.
    pub(crate) fn from_numbers(numbers: &[u64], fields: &Fields, groups: &[Group]) -> Option<Self> {
        let (documents, rest) = numbers.split_first()?;
        let (tokens, rest) = rest.split_first()?;
        let (field_tokens, rest) = rest.split_first_chunk::<TEXT_FIELDS>()?;
        let words: BTreeMap<String, u64> =
            groups.iter().flat_map(Group::words).map(|word| (word.clone(), 0)).collect();
        let sound = words.len() == rest.len()
            && *documents > 0
            && numbers.iter().all(|number| *number < LARGEST)
            && rest.iter().all(|frequency| frequency <= documents);
        sound.then(|| Self {
            documents: *documents,
            tokens: *tokens,
            field_tokens: *field_tokens,
            frequencies: words.into_keys().zip(rest.iter().copied()).collect(),
            fields: fields.text(),
        })
    }

    pub(crate) fn frequency(&self, word: &str) -> u64 {
        self.frequencies.get(word).copied().unwrap_or(0)
    }

    /// The mean length of a text field, in tokens.
    pub(crate) fn mean_length(&self, field: usize) -> f32 {
        self.field_tokens[field] as f32 / self.documents.max(1) as f32
    }

    /// How much a word tells: BM25's inverse document frequency.
    pub(crate) fn rarity(&self, word: &str) -> f32 {
        let (documents, frequency) = (self.documents as f32, self.frequency(word) as f32);
        (1.0 + (documents - frequency + 0.5) / (frequency + 0.5)).ln()
    }
}

impl Bm25StatisticsProvider for Statistics {
    fn total_num_tokens(&self, field: Field) -> tantivy::Result<u64> {
        let of_field = self.fields.iter().position(|known| *known == field);
        Ok(of_field.map_or(self.tokens, |at| self.field_tokens[at]))
    }

    fn total_num_docs(&self) -> tantivy::Result<u64> {
        Ok(self.documents)
    }

    fn doc_freq(&self, term: &Term) -> tantivy::Result<u64> {
        Ok(term.value().as_str().map_or(0, |word| self.frequency(word)))
    }
}
