//! Filters over `$all`: by name of stream or by type, each by regular expression or by prefixes. As much of a filter as
//! the port knows (categories, types) is left to the log, which then does not even read the others.

use fancy_regex::Regex;
use souk_event_log::{Filter, Recorded};

use crate::{
    refusal::Refusal,
    wire::streams::read_req::{Expression, FilterOptions, filter_options},
};

/// Events in a window if the client does not say.
const WINDOW: u64 = 32;

#[derive(Debug)]
pub(crate) struct EventFilter {
    subject: Subject,
    test: Test,
    window: u64,
    multiplier: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Subject {
    Stream,
    EventType,
}

#[derive(Debug)]
enum Test {
    Regex(Box<Regex>),
    Prefixes(Vec<String>),
}

impl EventFilter {
    pub(crate) fn new(options: FilterOptions) -> Result<Self, Refusal> {
        use filter_options::Subject as On;
        let (subject, Expression { regex, prefix }) = match options.subject {
            Some(On::StreamIdentifier(expression)) => (Subject::Stream, expression),
            Some(On::EventType(expression)) => (Subject::EventType, expression),
            None => return Err(Refusal::Invalid("a filter is by stream_identifier or by event_type".into())),
        };
        let test = match (regex.as_str(), prefix.is_empty()) {
            ("", true) => return Err(Refusal::Invalid("a filter needs a regex or prefixes".into())),
            ("", false) => Test::Prefixes(prefix),
            (regex, _) => Test::Regex(Box::new(
                Regex::new(regex)
                    .map_err(|error| Refusal::Invalid(format!("the filter's regex: {error}")))?,
            )),
        };
        let window = match options.window {
            Some(filter_options::Window::Max(max)) => max.into(),
            Some(filter_options::Window::Count(())) | None => WINDOW,
        };
        Ok(Self { subject, test, window, multiplier: options.checkpoint_interval_multiplier.into() })
    }

    /// After how many events, matching or not, a subscriber hears how far it is.
    pub(crate) fn checkpoint_interval(&self) -> Result<u64, Refusal> {
        match self.window * self.multiplier {
            0 => Err(Refusal::Invalid(
                "checkpointIntervalMultiplier, and the window, must be 1 or more".into(),
            )),
            interval => Ok(interval),
        }
    }

    pub(crate) fn matches(&self, event: &Recorded) -> Result<bool, Refusal> {
        let text = match self.subject {
            Subject::Stream => event.stream.as_str(),
            Subject::EventType => &event.event_type,
        };
        match &self.test {
            Test::Prefixes(prefixes) => Ok(prefixes.iter().any(|prefix| text.starts_with(prefix))),
            Test::Regex(regex) => regex
                .is_match(text)
                .map_err(|error| Refusal::Invalid(format!("the filter's regex, on {text:?}: {error}"))),
        }
    }

    /// What the log itself can leave out: everything that matches gets through, and perhaps more.
    pub(crate) fn narrowed(&self) -> Filter {
        match (self.subject, &self.test) {
            // Streams that begin with `order-` are of the category `order`.
            (Subject::Stream, Test::Prefixes(prefixes)) => {
                let categories: Option<Vec<&str>> = prefixes
                    .iter()
                    .map(|prefix| prefix.split_once('-').map(|(category, _)| category))
                    .collect();
                categories.map_or_else(Filter::all, Filter::categories)
            }
            (Subject::EventType, Test::Regex(regex)) => {
                alternatives(regex.as_str()).map_or_else(Filter::all, Filter::event_types)
            }
            (Subject::Stream, Test::Regex(_)) | (Subject::EventType, Test::Prefixes(_)) => Filter::all(),
        }
    }
}

/// The words of `^(?:One|Other)$`, of `^(One|Other)$` and of `^One$`.
fn alternatives(regex: &str) -> Option<Vec<&str>> {
    let inner = regex.strip_prefix('^')?.strip_suffix('$')?;
    let group = inner.strip_prefix("(?:").or_else(|| inner.strip_prefix('('));
    let words: Vec<_> = match group {
        Some(group) => group.strip_suffix(')')?.split('|').collect(),
        None => vec![inner],
    };
    let is_word = |word: &&str| {
        !word.is_empty() && word.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
    };
    words.iter().all(is_word).then_some(words)
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use souk_event_log::StreamName;
    use uuid::Uuid;

    use super::*;

    fn event(stream: &str, event_type: &str) -> Recorded {
        Recorded {
            id: Uuid::nil(),
            stream: StreamName::parse(stream).unwrap(),
            revision: 0,
            position: 0,
            event_type: event_type.into(),
            recorded_at: DateTime::UNIX_EPOCH,
            data: vec![],
            metadata: vec![].into(),
            hash: None,
        }
    }

    fn filter(
        subject: fn(Expression) -> filter_options::Subject,
        regex: &str,
        prefix: &[&str],
    ) -> EventFilter {
        let prefix = prefix.iter().map(|&prefix| prefix.to_owned()).collect();
        let subject = Some(subject(Expression { regex: regex.to_owned(), prefix }));
        EventFilter::new(FilterOptions { subject, window: None, checkpoint_interval_multiplier: 2 }).unwrap()
    }

    #[test]
    fn filters_match_and_what_the_log_does_of_them_leaves_no_match_out() {
        use filter_options::Subject::{EventType, StreamIdentifier};
        let cases = [
            (filter(StreamIdentifier, "", &["order-", "item-1"]), [true, false, false, true, false]),
            (filter(StreamIdentifier, "", &["or"]), [true, true, false, false, false]),
            (filter(StreamIdentifier, "^order-|^\\$", &[]), [true, false, true, false, false]),
            (filter(EventType, "", &["Order", "Item"]), [true, true, false, true, false]),
            (filter(EventType, "^(?!\\$).*", &[]), [true, true, false, true, true]),
            (filter(EventType, "^(OrderPlaced|ItemListed)$", &[]), [true, false, false, true, false]),
            (filter(EventType, "^(?:OrderPaid)$", &[]), [false, true, false, false, false]),
            (filter(EventType, "^Stock.*$", &[]), [false, false, false, false, true]),
        ];
        let events = [
            event("order-1", "OrderPlaced"),
            event("orders", "OrderPaid"),
            event("$$order-1", "$metadata"),
            event("item-12", "ItemListed"),
            event("inventory-1", "StockReceived"),
        ];
        for (filter, expected) in cases {
            let matching = events.each_ref().map(|event| filter.matches(event).unwrap());
            assert_eq!(matching, expected, "{filter:?}");
            for (event, matches) in events.iter().zip(matching) {
                assert!(!matches || filter.narrowed().matches(event), "{filter:?} {event:?}");
            }
        }
    }

    #[test]
    fn what_the_log_can_do_is_left_to_it() {
        use filter_options::Subject::{EventType, StreamIdentifier};
        let narrowed = filter(StreamIdentifier, "", &["order-", "item-1"]).narrowed();
        assert_eq!(narrowed, Filter::categories(["order", "item"]));
        let narrowed = filter(EventType, "^(?:OrderPlaced|ItemListed)$", &[]).narrowed();
        assert_eq!(narrowed, Filter::event_types(["OrderPlaced", "ItemListed"]));
        assert_eq!(filter(EventType, "^(Order.*|Item)$", &[]).narrowed(), Filter::all());
    }

    #[test]
    fn a_filter_that_cannot_be_is_refused() {
        let on = |regex: &str| {
            let expression = Expression { regex: regex.to_owned(), prefix: vec![] };
            Some(filter_options::Subject::EventType(expression))
        };
        for subject in [None, on(""), on("(")] {
            let options = FilterOptions { subject, window: None, checkpoint_interval_multiplier: 1 };
            assert!(EventFilter::new(options).is_err());
        }
        for (window, multiplier, interval) in [
            (None, 1, Some(32)),
            (Some(filter_options::Window::Max(10)), 3, Some(30)),
            (Some(filter_options::Window::Max(0)), 3, None),
            (Some(filter_options::Window::Count(())), 0, None),
        ] {
            let options =
                FilterOptions { subject: on("."), window, checkpoint_interval_multiplier: multiplier };
            assert_eq!(EventFilter::new(options).unwrap().checkpoint_interval().ok(), interval);
        }
    }
}
