//! As many items as are wanted out of few, or out of none: words of a product are changed for words of others, so that the
//! dictionary and the lists of the index grow as those of a larger shop would. The same number gives the same items.

use std::{collections::BTreeMap, path::Path};

use chrono::{DateTime, TimeDelta};
use souk_search::{ItemDocument, evaluation::products};
use uuid::Uuid;

/// Bytes of a description that are kept: what a seller writes.
const LONGEST_DESCRIPTION: usize = 600;
const CATEGORIES: u64 = 400;

pub(super) struct Catalogue {
    base: Vec<ItemDocument>,
    /// Words to change others for.
    words: Vec<String>,
}

/// SplitMix64 (Steele, Lea and Flood, 2014): numbers that look random and are always the same.
pub(super) struct Numbers(pub(super) u64);

impl Numbers {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    /// Small numbers far more often than large ones, as words are used.
    fn skewed(&mut self, end: usize) -> usize {
        let (a, b) = (self.below(end), self.below(end));
        a * b / end.max(1)
    }
}

impl Catalogue {
    pub(super) fn open(file: Option<&Path>) -> anyhow::Result<Self> {
        let base: Vec<ItemDocument> = match file {
            Some(file) => products(file)?.collect::<Result<_, _>>()?,
            None => (0..2_000).map(made_up).collect(),
        };
        anyhow::ensure!(!base.is_empty(), "there are no products");
        let words = base.iter().flat_map(|item| item.name.split_whitespace()).map(str::to_owned).collect();
        Ok(Self { base, words })
    }

    /// The item of this number: a product as it is, and from then on as none is.
    pub(super) fn item(&self, number: usize) -> ItemDocument {
        let mut item = self.base[number % self.base.len()].clone();
        let mut numbers = Numbers(number as u64);
        let copy = number / self.base.len();
        if copy > 0 {
            item.item_id = Uuid::new_v5(&item.item_id, &copy.to_le_bytes());
            item.skus = vec![item.item_id];
            item.sku = format!("{}-{}", item.sku, numbers.below(100_000));
            item.name = self.varied(&item.name, &mut numbers);
            item.description = self.varied(&item.description, &mut numbers);
            item.price = item.price * (50 + numbers.below(100) as i64) / 100 + 1;
            if numbers.below(4) == 0 {
                item.brand.clone_from(&self.base[numbers.below(self.base.len())].brand);
            }
            item.listed_at += TimeDelta::seconds(numbers.below(100_000_000) as i64);
        }
        item.description.truncate(item.description.floor_char_boundary(LONGEST_DESCRIPTION));
        let leaf = numbers.next() % CATEGORIES;
        item.category = [leaf / 100, leaf / 10, leaf]
            .iter()
            .zip(["Department", "Aisle", "Shelf"])
            .map(|(number, name)| format!("{name} {number}"))
            .collect();
        item
    }

    /// One word of five becomes another, one number of two becomes another.
    fn varied(&self, text: &str, numbers: &mut Numbers) -> String {
        let mut varied = String::with_capacity(text.len());
        for word in text.split_whitespace() {
            if !varied.is_empty() {
                varied.push(' ');
            }
            let digits = word.bytes().any(|byte| byte.is_ascii_digit());
            if digits && numbers.below(2) == 0 {
                varied.push_str(&word.replace(|c: char| c.is_ascii_digit(), &numbers.below(10).to_string()));
            } else if !digits && numbers.below(5) == 0 {
                varied.push_str(&self.words[numbers.below(self.words.len())]);
            } else {
                varied.push_str(word);
            }
        }
        varied
    }

    /// Terms that people could type: two words of a name in a row; of each a second one with two letters exchanged.
    pub(super) fn terms(&self, count: usize) -> Vec<(String, String)> {
        let mut numbers = Numbers(1);
        let mut terms = Vec::with_capacity(count);
        // Names without two such words are passed over; so many tries find enough in any catalogue worth measuring.
        for _ in 0..count * 100 {
            if terms.len() == count {
                break;
            }
            let name = &self.base[numbers.below(self.base.len())].name;
            let words: Vec<&str> = name.split_whitespace().collect();
            let plain = |word: &str| word.len() > 2 && word.bytes().all(|byte| byte.is_ascii_alphabetic());
            let pairs: Vec<_> = words.windows(2).filter(|pair| pair.iter().all(|word| plain(word))).collect();
            if pairs.is_empty() {
                continue;
            }
            let pair = pairs[numbers.below(pairs.len())];
            let (first, second) = (pair[0].to_lowercase(), pair[1].to_lowercase());
            if first.len() < 6 && second.len() < 6 {
                continue;
            }
            let wrong = |word: &str| match word.len() {
                length if length >= 6 => {
                    format!("{}{}{}{}", &word[..2], &word[3..4], &word[2..3], &word[4..])
                }
                _ => word.to_owned(),
            };
            let misspelt = if first.len() >= 6 {
                format!("{} {second}", wrong(&first))
            } else {
                format!("{first} {}", wrong(&second))
            };
            terms.push((format!("{first} {second}"), misspelt));
        }
        terms
    }
}

fn made_up(number: u64) -> ItemDocument {
    let mut numbers = Numbers(number);
    let syllables = ["ka", "lo", "mi", "ren", "tus", "bel", "dor", "vin", "sha", "quo", "pra", "zel"];
    let mut word = |of: usize| {
        let mut spelled = Numbers(numbers.skewed(of) as u64);
        (0..3).map(|_| syllables[spelled.below(syllables.len())]).collect::<String>()
    };
    let name = (0..6).map(|_| word(2_000)).collect::<Vec<_>>().join(" ");
    let description = (0..40).map(|_| word(20_000)).collect::<Vec<_>>().join(" ");
    let (brand, colour) = (word(200), word(12));
    let item_id = Uuid::new_v5(&Uuid::NAMESPACE_OID, &number.to_le_bytes());
    ItemDocument {
        item_id,
        seller_id: Uuid::from_u128(1),
        sku: format!("M-{number}"),
        name,
        description,
        brand: Some(brand),
        category: Vec::new(),
        tags: Vec::new(),
        attributes: BTreeMap::from([("colour".to_owned(), colour)]),
        price: 100 + numbers.below(100_000) as i64,
        currency: "USD".to_owned(),
        image: None,
        listed_at: DateTime::UNIX_EPOCH,
        rating: None,
        skus: vec![item_id],
        variants: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn items_differ_and_come_the_same_again() {
        let catalogue = Catalogue::open(None).expect("made up");
        let items: Vec<_> = (0..6_000).map(|number| catalogue.item(number)).collect();
        let ids: HashSet<_> = items.iter().map(|item| item.item_id).collect();
        let names: HashSet<_> = items.iter().map(|item| &item.name).collect();
        assert_eq!(ids.len(), 6_000);
        assert!(names.len() > 4_500, "{} names", names.len());
        assert_eq!(items[4_321], catalogue.item(4_321));
        let terms = catalogue.terms(50);
        assert_eq!(terms.len(), 50);
        assert!(terms.iter().all(|(right, wrong)| right.len() == wrong.len()));
    }
}
