//! How product text becomes tokens. One function, [`Analyzer::words`], cuts a text into words with their variants; the index
//! writes every variant, a query asks for any of them, a highlight marks whichever matched. The index takes a text as
//! [`Analyzer::written`]: analysed once, for all fields that hold it.
//!
//! Rules: case and accents folded, English stems (alphabetic words only, so that model numbers stay whole), compounds by
//! hyphen, slash, dot, ampersand or underscore both split and joined (`wi-fi` → `wi`, `fi`, `wifi`), a number with its unit
//! as one token (`15"`, `15 inch`, `15in` → `15inch`), sizes as one token (`1440 x 900` → `1440x900`), a name that ends in
//! digits split as well (`iphone6` → `iphone`, `6`).

use std::borrow::Cow;
use std::sync::Arc;

use frostem::{Algorithm, Stemmer};
use tantivy::tokenizer::{Token, TokenStream, Tokenizer};

use crate::text::{clip, fold};

/// Longer tokens are cut here, in documents and queries alike.
const LONGEST_TOKEN: usize = 64;
/// A chain of more parts than this (a path, a list of standards) is cut into several words.
const MOST_PARTS: usize = 6;

/// A word of a text: what it is made of, and what it is as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Word {
    pub(crate) parts: Vec<Part>,
    /// The whole in one token, where it differs from its only part.
    pub(crate) joined: Option<String>,
}

/// A part with its byte range in the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) text: String,
    pub(crate) from: usize,
    pub(crate) to: usize,
}

#[derive(Clone)]
pub(crate) struct Analyzer {
    stemmer: Arc<Stemmer>,
}

/// A maximal run of letters and digits, decimals and possessives taken together.
struct Atom {
    folded: String,
    from: usize,
    to: usize,
}

impl Atom {
    fn extend(&mut self, folded: &str, to: usize) {
        let room = LONGEST_TOKEN.saturating_sub(self.folded.len());
        self.folded.push_str(clip(folded, room));
        self.to = to;
    }

    fn is_number(&self) -> bool {
        self.folded.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
    }
}

impl Analyzer {
    pub(crate) fn new() -> Self {
        Self { stemmer: Arc::new(Stemmer::new(Algorithm::English)) }
    }

    /// The words of a text, in order.
    pub(crate) fn words(&self, text: &str) -> Vec<Word> {
        let atoms = atoms(text);
        let mut words = Vec::with_capacity(atoms.len());
        let mut at = 0;
        while at < atoms.len() {
            let (word, used) = self
                .measure(text, &atoms[at..])
                .or_else(|| size(text, &atoms[at..]))
                .unwrap_or_else(|| self.compound(text, &atoms[at..]));
            words.push(word);
            at += used;
        }
        words
    }

    /// The tokens of a text, one after another: the parts of its words, what they are joined beside the first of them.
    pub(crate) fn written(&self, text: &str) -> String {
        let mut written = String::with_capacity(text.len() + text.len() / 4);
        for word in self.words(text) {
            let mut joined = word.joined;
            for part in word.parts {
                written.push_str(&part.text);
                written.push(' ');
                if let Some(joined) = joined.take() {
                    written.push(BESIDE);
                    written.push_str(&joined);
                    written.push(' ');
                }
            }
        }
        written
    }

    /// A number and its unit, attached or apart.
    fn measure(&self, text: &str, atoms: &[Atom]) -> Option<(Word, usize)> {
        let first = &atoms[0];
        let (number, unit, used) = if first.is_number() {
            let gap_end = atoms.get(1).map_or(text.len(), |next| next.from);
            let gap = &text[first.to..gap_end];
            if gap.starts_with(['"', '″', '”']) || gap.starts_with("''") {
                return Some((self.measured(first, &first.folded, "inch", None), 1));
            }
            let next = atoms.get(1).filter(|_| gap == " " || gap == "-" || gap == "\u{a0}")?;
            (first.folded.as_str(), spaced_unit(&next.folded)?, 2)
        } else {
            let digits = first.folded.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
            let (number, unit) = first.folded.split_at(digits);
            if number.is_empty() {
                return None;
            }
            (number, attached_unit(unit)?, 1)
        };
        Some((self.measured(first, number, unit, atoms.get(used - 1)), used))
    }

    fn measured(&self, first: &Atom, number: &str, unit: &str, last: Option<&Atom>) -> Word {
        let number = number.trim_end_matches('.');
        let whole = number.strip_suffix(".0").unwrap_or(number);
        let to = last.map_or(first.to, |atom| atom.to);
        Word {
            parts: vec![
                Part { text: whole.to_owned(), from: first.from, to: first.to },
                Part { text: self.normal(unit), from: first.from, to },
            ],
            joined: Some(format!("{whole}{unit}")),
        }
    }

    /// Atoms held together by a single joining character, or one atom alone.
    fn compound(&self, text: &str, atoms: &[Atom]) -> (Word, usize) {
        let mut used = 1;
        while used < atoms.len().min(MOST_PARTS) {
            let gap = &text[atoms[used - 1].to..atoms[used].from];
            if !matches!(gap, "-" | "/" | "_" | "." | "&" | "+" | "‐" | "‑") {
                break;
            }
            used += 1;
        }
        let atoms = &atoms[..used];
        let whole = atoms.iter().map(|atom| atom.folded.as_str()).collect::<String>();
        if let [atom] = atoms {
            return (self.single(atom), 1);
        }
        let parts =
            atoms.iter().map(|atom| Part { text: self.normal(&atom.folded), from: atom.from, to: atom.to });
        (Word { parts: parts.collect(), joined: Some(self.normal(&whole)) }, used)
    }

    fn single(&self, atom: &Atom) -> Word {
        let text = self.normal(&atom.folded);
        let letters = atom.folded.find(|c: char| c.is_ascii_digit()).unwrap_or(0);
        let (name, number) = atom.folded.split_at(letters);
        if name.chars().count() >= 3 && number.bytes().all(|byte| byte.is_ascii_digit()) {
            let part = |text: String| Part { text, from: atom.from, to: atom.to };
            return Word {
                parts: vec![part(self.normal(name)), part(number.to_owned())],
                joined: Some(text),
            };
        }
        Word { parts: vec![Part { text, from: atom.from, to: atom.to }], joined: None }
    }

    /// The stem of a word of letters; anything else as it is.
    fn normal(&self, word: &str) -> String {
        let stem =
            if word.chars().all(char::is_alphabetic) { self.stemmer.stem(word) } else { Cow::Borrowed(word) };
        clip(&stem, LONGEST_TOKEN).to_owned()
    }
}

fn atoms(text: &str) -> Vec<Atom> {
    let mut atoms: Vec<Atom> = Vec::new();
    let mut from = None;
    let ends = text.char_indices().chain([(text.len(), ' ')]);
    for (at, character) in ends {
        match (character.is_alphanumeric(), from) {
            (true, None) => from = Some(at),
            (false, Some(start)) => {
                push_atom(text, &mut atoms, start, at);
                from = None;
            }
            _ => {}
        }
    }
    atoms
}

/// Adds a run, or lengthens the run before it by a decimal point (`15.6`, `802.11b`) or an apostrophe (`men's`, `l'oreal`).
fn push_atom(text: &str, atoms: &mut Vec<Atom>, from: usize, to: usize) {
    let folded = fold(&text[from..to]);
    if folded.is_empty() {
        return;
    }
    if let Some(last) = atoms.last_mut() {
        match &text[last.to..from] {
            "." if last.folded.ends_with(|c: char| c.is_ascii_digit())
                && folded.starts_with(|c: char| c.is_ascii_digit()) =>
            {
                last.extend(&format!(".{folded}"), to);
                return;
            }
            "'" | "’" if last.folded.chars().all(char::is_alphabetic) => {
                last.extend(if folded == "s" { "" } else { &folded }, to);
                return;
            }
            _ => {}
        }
    }
    let mut atom = Atom { folded: String::new(), from, to };
    atom.extend(&folded, to);
    atoms.push(atom);
}

/// `1440 x 900`, `1440x900`, `1440×900`.
fn size(text: &str, atoms: &[Atom]) -> Option<(Word, usize)> {
    let first = &atoms[0];
    let (width, height, last, used) = if first.is_number() {
        let second = atoms.get(1)?;
        if second.folded == "x" {
            let third = atoms.get(2).filter(|third| third.is_number())?;
            (first.folded.as_str(), third.folded.as_str(), third, 3)
        } else if second.is_number() && text[first.to..second.from].trim() == "×" {
            (first.folded.as_str(), second.folded.as_str(), second, 2)
        } else {
            return None;
        }
    } else {
        let (width, height) = first.folded.split_once('x')?;
        let digits = |side: &str| !side.is_empty() && side.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        if !digits(width) || !digits(height) {
            return None;
        }
        (width, height, first, 1)
    };
    let (left, right) = (width.to_owned(), height.to_owned());
    let joined = Some(format!("{left}x{right}"));
    let parts = vec![
        Part { text: left, from: first.from, to: first.to },
        Part { text: right, from: last.from, to: last.to },
    ];
    Some((Word { parts, joined }, used))
}

/// A unit written after a space: only names that mean nothing else.
fn spaced_unit(word: &str) -> Option<&'static str> {
    Some(match word {
        "inch" | "inches" => "inch",
        "cm" => "cm",
        "mm" => "mm",
        "kb" => "kb",
        "mb" => "mb",
        "gb" | "gbyte" | "gigabyte" | "gigabytes" => "gb",
        "tb" | "tbyte" | "terabyte" | "terabytes" => "tb",
        "hz" => "hz",
        "khz" => "khz",
        "mhz" => "mhz",
        "ghz" => "ghz",
        "watt" | "watts" => "w",
        "volt" | "volts" => "v",
        "mah" => "mah",
        "wh" => "wh",
        "kg" => "kg",
        "lb" | "lbs" => "lb",
        "oz" => "oz",
        "ml" => "ml",
        "mp" | "megapixel" | "megapixels" | "mpix" => "mp",
        "dpi" => "dpi",
        "rpm" => "rpm",
        "mbps" => "mbps",
        "gbps" => "gbps",
        _ => return None,
    })
}

/// A unit written right behind its number, where single letters are clear as well.
fn attached_unit(word: &str) -> Option<&'static str> {
    Some(match word {
        "in" => "inch",
        "w" => "w",
        "v" => "v",
        "g" => "g",
        "l" => "l",
        "m" => "m",
        other => return spaced_unit(other),
    })
}

/// Before a token that stands where the one before it does.
const BESIDE: char = '|';

/// Takes apart what [`Analyzer::written`] wrote.
#[derive(Clone, Default)]
pub(crate) struct WrittenTokenizer(Token);

pub(crate) struct WrittenTokens<'a> {
    rest: std::str::Split<'a, char>,
    token: &'a mut Token,
}

impl Tokenizer for WrittenTokenizer {
    type TokenStream<'a> = WrittenTokens<'a>;

    fn token_stream<'a>(&'a mut self, written: &'a str) -> WrittenTokens<'a> {
        self.0.reset();
        WrittenTokens { rest: written.split(' '), token: &mut self.0 }
    }
}

impl TokenStream for WrittenTokens<'_> {
    fn advance(&mut self) -> bool {
        let Some(next) = self.rest.find(|token| !token.is_empty()) else { return false };
        let text = next.strip_prefix(BESIDE);
        if text.is_none() {
            self.token.position = self.token.position.wrapping_add(1);
        }
        self.token.text.clear();
        self.token.text.push_str(text.unwrap_or(next));
        true
    }

    fn token(&self) -> &Token {
        self.token
    }

    fn token_mut(&mut self) -> &mut Token {
        self.token
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(text: &str) -> Vec<String> {
        positions(text).into_iter().map(|(token, _)| token).collect()
    }

    fn positions(text: &str) -> Vec<(String, usize)> {
        let written = Analyzer::new().written(text);
        let mut tokenizer = WrittenTokenizer::default();
        let mut stream = tokenizer.token_stream(&written);
        let mut tokens = Vec::new();
        stream.process(&mut |token| tokens.push((token.text.clone(), token.position)));
        tokens
    }

    #[test]
    fn words_are_folded_and_stemmed() {
        assert_eq!(tokens("Running CAFÉS, printers!"), ["run", "cafe", "printer"]);
        assert_eq!(tokens("men's l'Oréal"), ["men", "loreal"]);
    }

    #[test]
    fn compounds_are_split_and_joined() {
        assert_eq!(tokens("Wi-Fi"), ["wi", "wifi", "fi"]);
        assert_eq!(tokens("802.11b/g"), ["802.11b", "802.11bg", "g"]);
        assert_eq!(tokens("AT&T"), ["at", "att", "t"]);
    }

    #[test]
    fn model_numbers_stay_whole() {
        assert_eq!(tokens("dv7-1211ea"), ["dv7", "dv71211ea", "1211ea"]);
        assert_eq!(tokens("006R90321"), ["006r90321"]);
        assert_eq!(tokens("iPhone6 CT50"), ["iphon", "iphone6", "6", "ct50"]);
    }

    #[test]
    fn units_are_one_token_however_they_are_written() {
        for text in ["15\"", "15 inch", "15-inch", "15in", "15 inches", "15.0 inch", "15”", "15''"] {
            assert_eq!(tokens(text), ["15", "15inch", "inch"], "{text}");
        }
        for text in ["4GB", "4 GB", "4 gigabytes", "4-GB"] {
            assert_eq!(tokens(text), ["4", "4gb", "gb"], "{text}");
        }
        assert_eq!(tokens("2 in 1"), ["2", "in", "1"]);
    }

    #[test]
    fn sizes_are_one_token_however_they_are_written() {
        for text in ["1440 x 900", "1440x900", "1440 × 900", "1440×900"] {
            assert_eq!(tokens(text), ["1440", "1440x900", "900"], "{text}");
        }
    }

    #[test]
    fn offsets_point_into_the_text() {
        let text = "Ünï Wi-Fi";
        for word in Analyzer::new().words(text) {
            for part in word.parts {
                assert!(text.get(part.from..part.to).is_some_and(|slice| !slice.is_empty()));
            }
        }
    }

    #[test]
    fn what_is_joined_stands_beside_its_first_part() {
        let at = |text: &str| positions(text).into_iter().map(|(_, position)| position).collect::<Vec<_>>();
        assert_eq!(at("a wi-fi router"), [0, 1, 1, 2, 3]);
        assert_eq!(at(""), Vec::<usize>::new());
    }

    proptest::proptest! {
        #[test]
        fn any_text_gives_bounded_tokens_which_the_index_takes_as_they_are(
            text in r#"(x|in|inch|'s|"|\.|-|/|\||×|[0-9]|é|ß|İ|½|⑴|🦀| |\PC)*"#
        ) {
            let mut expected = Vec::new();
            let mut position = 0;
            for word in Analyzer::new().words(&text) {
                let mut joined = word.joined;
                for part in word.parts {
                    proptest::prop_assert!(text.get(part.from..part.to).is_some());
                    expected.push((part.text, position));
                    expected.extend(joined.take().map(|joined| (joined, position)));
                    position += 1;
                }
            }
            for (token, _) in &expected {
                proptest::prop_assert!(!token.is_empty() && token.len() <= 2 * LONGEST_TOKEN + 1);
            }
            proptest::prop_assert_eq!(positions(&text), expected);
        }
    }
}
