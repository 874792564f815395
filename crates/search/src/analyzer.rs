//! How product text becomes tokens. One function, [`Analyzer::words`], cuts a text into words with their variants; the index
//! writes every variant, a query asks for any of them, a highlight marks whichever matched.
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

/// The analyzer as the index takes it: the parts one position after another, the joined form beside the first.
#[derive(Clone)]
pub(crate) struct ProductTokenizer(pub(crate) Analyzer);

/// Tokens that were all made at once.
pub(crate) struct Tokens {
    tokens: std::vec::IntoIter<Token>,
    current: Token,
}

impl Tokens {
    pub(crate) fn new(tokens: Vec<Token>) -> Self {
        Self { tokens: tokens.into_iter(), current: Token::default() }
    }
}

impl Tokenizer for ProductTokenizer {
    type TokenStream<'a> = Tokens;

    fn token_stream(&mut self, text: &str) -> Tokens {
        let mut tokens = Vec::new();
        let mut position = 0;
        for word in self.0.words(text) {
            let whole =
                (word.parts.first().map_or(0, |part| part.from), word.parts.last().map_or(0, |p| p.to));
            let mut joined = word.joined;
            for part in word.parts {
                tokens.push(token(part.text, position, part.from, part.to));
                if let Some(joined) = joined.take() {
                    tokens.push(token(joined, position, whole.0, whole.1));
                }
                position += 1;
            }
        }
        Tokens::new(tokens)
    }
}

fn token(text: String, position: usize, offset_from: usize, offset_to: usize) -> Token {
    Token { text, position, offset_from, offset_to, position_length: 1 }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(text: &str) -> Vec<String> {
        let mut tokenizer = ProductTokenizer(Analyzer::new());
        let mut stream = tokenizer.token_stream(text);
        let mut tokens = Vec::new();
        stream.process(&mut |token| tokens.push(token.text.clone()));
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

    proptest::proptest! {
        #[test]
        fn any_text_gives_bounded_tokens_at_rising_positions(
            text in r#"(x|in|inch|'s|"|\.|-|/|×|[0-9]|é|ß|İ|½|🦀| |\PC)*"#
        ) {
            let mut tokenizer = ProductTokenizer(Analyzer::new());
            let mut stream = tokenizer.token_stream(&text);
            let mut last = 0;
            while stream.advance() {
                let token = stream.token();
                proptest::prop_assert!(token.text.len() <= 2 * LONGEST_TOKEN + 1);
                proptest::prop_assert!(token.position >= last);
                proptest::prop_assert!(text.get(token.offset_from..token.offset_to).is_some());
                last = token.position;
            }
        }
    }
}
