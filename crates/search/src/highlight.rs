//! The passage of an item's text that shows best why it was found, as HTML with the matches in `<em>`. It asks the analyzer
//! and not the typed text, so whatever the index matched is marked: stems, joined forms, corrections.

use std::collections::HashSet;
use std::ops::Range;

use crate::analyzer::Analyzer;
use crate::terms::Group;
use crate::text::{clip, escape_html, strip_html};

/// The length of a passage, in bytes of text.
const PASSAGE: usize = 180;
/// How much of it comes before the first match.
const LEAD: usize = 40;
/// More of a description than this is not looked through.
const LONGEST_TEXT: usize = 8192;

struct Mark {
    range: Range<usize>,
    token: String,
}

/// The passage with most different words; of the name only where the description has fewer.
pub(crate) fn highlight(
    analyzer: &Analyzer,
    groups: &[Group],
    name: &str,
    description: &str,
) -> Option<String> {
    let wanted: HashSet<&str> = groups.iter().flat_map(Group::words).map(String::as_str).collect();
    let plain = strip_html(clip(description, LONGEST_TEXT));
    let from_description = passage(analyzer, &wanted, &plain);
    let from_name = passage(analyzer, &wanted, name);
    match (from_description, from_name) {
        (Some((matches, html)), Some((in_name, _))) if matches >= in_name => Some(html),
        (_, Some((_, html))) | (Some((_, html)), None) => Some(html),
        (None, None) => None,
    }
}

/// The best passage and how many different words it holds.
fn passage(analyzer: &Analyzer, wanted: &HashSet<&str>, text: &str) -> Option<(usize, String)> {
    let marks = marks(analyzer, wanted, text);
    let mut best: Option<(usize, usize, &[Mark])> = None;
    for at in 0..marks.len() {
        let start = marks[at].range.start;
        let inside = marks[at..].iter().take_while(|mark| mark.range.end <= start + PASSAGE - LEAD).count();
        let inside = &marks[at..at + inside.max(1)];
        let different = inside.iter().map(|mark| mark.token.as_str()).collect::<HashSet<_>>().len();
        if best.is_none_or(|(most, count, _)| (different, inside.len()) > (most, count)) {
            best = Some((different, inside.len(), inside));
        }
    }
    let (different, _, inside) = best?;
    Some((different, render(text, inside)))
}

fn marks(analyzer: &Analyzer, wanted: &HashSet<&str>, text: &str) -> Vec<Mark> {
    let mut marks: Vec<Mark> = Vec::new();
    for word in analyzer.words(text) {
        let whole = word.parts[0].from..word.parts.last().map_or(0, |part| part.to);
        match word.joined {
            Some(joined) if wanted.contains(joined.as_str()) => {
                marks.push(Mark { range: whole, token: joined });
            }
            _ => {
                for part in word.parts.into_iter().filter(|part| wanted.contains(part.text.as_str())) {
                    // The parts of `iphone6` lie in the same place.
                    if marks.last().is_none_or(|last| last.range.end <= part.from) {
                        marks.push(Mark { range: part.from..part.to, token: part.text });
                    }
                }
            }
        }
    }
    marks
}

fn render(text: &str, marks: &[Mark]) -> String {
    let (first, last) = (marks[0].range.start, marks[marks.len() - 1].range.end);
    let mut start = 0;
    if text.len() > PASSAGE && first > LEAD {
        let near = text.ceil_char_boundary(first - LEAD);
        start = text[near..first].find(char::is_whitespace).map_or(first, |space| near + space);
    }
    let mut end = text.len();
    if end - start > PASSAGE {
        let near = text.floor_char_boundary((start + PASSAGE).max(last));
        end = text[last..near].rfind(char::is_whitespace).map_or(last, |space| last + space);
    }

    let mut html = String::with_capacity(PASSAGE + 64);
    if start > 0 {
        html.push('…');
    }
    let mut at = start;
    for mark in marks.iter().filter(|mark| mark.range.start >= start && mark.range.end <= end) {
        escape_html(&text[at..mark.range.start], &mut html);
        html.push_str("<em>");
        escape_html(&text[mark.range.clone()], &mut html);
        html.push_str("</em>");
        at = mark.range.end;
    }
    escape_html(&text[at..end], &mut html);
    if end < text.len() {
        html.push('…');
    }
    html.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::terms::parse;

    fn marked(term: &str, name: &str, description: &str) -> Option<String> {
        let analyzer = Analyzer::new();
        highlight(&analyzer, &parse(&analyzer, term), name, description)
    }

    #[test]
    fn matches_are_marked_and_the_rest_is_escaped() {
        assert_eq!(
            marked("printers", "x", "<b>A <i>printer</i></b> & \"more\"").unwrap(),
            "A <em>printer</em> &amp; &quot;more&quot;"
        );
        assert_eq!(marked("wifi", "Wi-Fi <stick>", "").unwrap(), "<em>Wi-Fi</em> &lt;stick&gt;");
        assert_eq!(marked("iphone", "iPhone6 case", "").unwrap(), "<em>iPhone6</em> case");
        assert_eq!(marked("camera", "printer", "nothing of it"), None);
    }

    #[test]
    fn the_passage_with_most_words_is_taken() {
        let filler = "lorem ipsum dolor sit amet ".repeat(20);
        let text = format!("A cable. {filler} a black usb cable here {filler}");
        let html = marked("black usb cable", "name", &text).unwrap();
        assert!(html.contains("<em>black</em> <em>usb</em> <em>cable</em>"), "{html}");
        assert!(html.starts_with('…') && html.ends_with('…'), "{html}");
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_marked_without_a_panic(text in r"(usb|é| |-|[a-z]{1,30}|🦀|<b>|&amp;|\PC){0,120}") {
            let _ = marked("usb é", &text, &text);
        }
    }
}
