//! Plain text out of what sellers paste: HTML removed, case and accents folded. Relies on nothing of the index, so
//! that documents, queries and highlights all go through the same functions.

use std::borrow::Cow;

use tantivy::tokenizer::{AsciiFoldingFilter, LowerCaser, RawTokenizer, TextAnalyzer, TokenStream};

/// Lower case without accents, for comparing. `Café` and `CAFE` fold to the same text.
pub(crate) fn fold(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    let mut analyzer = folding_analyzer();
    let mut stream = analyzer.token_stream(text);
    let mut folded = String::with_capacity(text.len());
    stream.process(&mut |token| folded.push_str(&token.text));
    folded
}

/// The same folding for the index's filter fields: the whole value is one token.
pub(crate) fn folding_analyzer() -> TextAnalyzer {
    TextAnalyzer::builder(RawTokenizer::default()).filter(LowerCaser).filter(AsciiFoldingFilter).build()
}

/// Folded, with runs of white space made one space: two spellings of a whole title or value compare equal.
pub fn squash(text: &str) -> String {
    fold(text).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// At most `limit` bytes of `text`, cut where a character begins.
pub(crate) fn clip(text: &str, limit: usize) -> &str {
    if text.len() <= limit {
        return text;
    }
    &text[..text.floor_char_boundary(limit)]
}

/// Text without tags, comments, scripts and styles, with the common entities decoded. A `<` that opens no tag stays.
pub(crate) fn strip_html(text: &str) -> Cow<'_, str> {
    if !text.contains(['<', '&']) {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['<', '&']) {
        plain.push_str(&rest[..at]);
        rest = &rest[at..];
        let skipped = if rest.starts_with('<') { skip_tag(rest) } else { None };
        if let Some((after, inline)) = skipped {
            rest = after;
            if !inline {
                rest = rest.trim_start();
                if !plain.is_empty() && !plain.ends_with(char::is_whitespace) {
                    plain.push(' ');
                }
            }
        } else if let Some((character, after)) = entity(rest) {
            plain.push(character);
            rest = after;
        } else {
            plain.push_str(&rest[..1]);
            rest = &rest[1..];
        }
    }
    plain.push_str(rest);
    Cow::Owned(plain)
}

/// What comes after a tag, and whether the tag leaves the words around it joined.
fn skip_tag(text: &str) -> Option<(&str, bool)> {
    if let Some(comment) = text.strip_prefix("<!--") {
        return Some((comment.find("-->").map_or("", |end| &comment[end + 3..]), false));
    }
    let first = text[1..].chars().next()?;
    if !(first.is_ascii_alphabetic() || first == '/' || first == '!') {
        return None;
    }
    let (tag, after) = text[1..].split_once('>')?;
    let name =
        tag.trim_start_matches('/').split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default();
    let name = name.to_ascii_lowercase();
    if first != '/' && matches!(name.as_str(), "script" | "style") {
        let end = after.to_ascii_lowercase().find(&format!("</{name}")).unwrap_or(after.len());
        return Some((after[end..].split_once('>').map_or("", |(_, tail)| tail), false));
    }
    Some((after, INLINE.contains(&name.as_str())))
}

const INLINE: &[&str] = &["a", "b", "em", "font", "i", "small", "span", "strong", "sub", "sup", "u"];

fn entity(text: &str) -> Option<(char, &str)> {
    let body = text.strip_prefix('&')?;
    // The longest that is decoded here is `&#x10FFFF;`.
    let end = body.bytes().take(10).position(|byte| byte == b';')?;
    let (name, after) = (&body[..end], &body[end + 1..]);
    let character = match name {
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "apos" => '\'',
        "nbsp" => ' ',
        _ => {
            let number = name.strip_prefix('#')?;
            let code = match number.strip_prefix(['x', 'X']) {
                Some(hex) => u32::from_str_radix(hex, 16),
                None => number.parse(),
            };
            char::from_u32(code.ok()?)?
        }
    };
    Some((character, after))
}

/// For HTML text and attribute values alike.
pub(crate) fn escape_html(text: &str, into: &mut String) {
    for character in text.chars() {
        match character {
            '&' => into.push_str("&amp;"),
            '<' => into.push_str("&lt;"),
            '>' => into.push_str("&gt;"),
            '"' => into.push_str("&quot;"),
            '\'' => into.push_str("&#39;"),
            other => into.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn html_is_stripped_and_entities_decoded() {
        assert_eq!(strip_html("<p>Fish &amp; chips<br/>\n<b>n</b>ow</p>"), "Fish & chips now ");
        assert_eq!(strip_html("a<script>var x = '<b>';</script>b<!-- c -->d"), "a b d");
        assert_eq!(
            strip_html("under < 5 ms & cheap &#8364;&nope; &#xZZ; <"),
            "under < 5 ms & cheap €&nope; &#xZZ; <"
        );
        assert_eq!(strip_html("<style>unclosed"), "");
        assert_eq!(strip_html("a <unclosed"), "a <unclosed");
    }

    #[test]
    fn folding_removes_case_and_accents() {
        assert_eq!(fold("CAFÉ Ünïcode"), "cafe unicode");
        assert_eq!(squash("  Home \t Théâtre "), "home theatre");
    }

    #[test]
    fn clipping_never_splits_a_character() {
        assert_eq!(clip("aé", 2), "a");
        assert_eq!(clip("abc", 3), "abc");
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_stripped_without_a_panic(text in r"(<|>|&|;|#|x|!|-|script|é|🦀|\PC)*") {
            let _ = strip_html(&text);
        }
    }
}
