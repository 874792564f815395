//! Reads the event catalogue, `docs/events.md`, and checks it against the code.
//!
//! A stream is a heading ``## `category-…` ``, an event under it a heading `### EventType · version 1`, and below that
//! come the rows of a table whose first cell is a field in backticks and whose second is its type; the type of a field
//! that may be absent ends in `optional`.

use std::{collections::BTreeMap, fmt::Debug};

use serde_json::{Map, Value};

use super::stored;
use crate::{Decider, DomainEvent};

/// An event as the catalogue describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    pub event_type: String,
    pub version: u32,
    /// By name, with what the second cell says.
    pub fields: BTreeMap<String, String>,
}

/// All events of the page by the category of their stream.
pub fn parse(page: &str) -> BTreeMap<String, Vec<Described>> {
    let mut catalogue = BTreeMap::<String, Vec<Described>>::new();
    let mut events = &mut Vec::new();
    for line in page.lines() {
        if let Some((stream, _)) = line.strip_prefix("## `").and_then(|rest| rest.split_once('`')) {
            let category = stream.split_once('-').map_or(stream, |(category, _)| category);
            events = catalogue.entry(category.to_owned()).or_default();
        } else if let Some(heading) = line.strip_prefix("### ") {
            let (event_type, version) = heading
                .split_once(" · version ")
                .and_then(|(event_type, version)| Some((event_type.to_owned(), version.parse().ok()?)))
                .unwrap_or_else(|| panic!("not `### EventType · version 1`: {line}"));
            events.push(Described { event_type, version, fields: BTreeMap::new() });
        } else if let (Some(row), Some(event)) = (line.strip_prefix("| `"), events.last_mut())
            && let [name, kind, ..] = *row.split('|').collect::<Vec<_>>()
        {
            event.fields.insert(name.trim().trim_matches('`').to_owned(), kind.trim().to_owned());
        }
    }
    catalogue
}

/// Every type of the category stands on the page with its version and exactly its fields, and no other does.
#[track_caller]
pub fn check<D: Decider>(page: &str, examples: &[D::Event])
where
    D::Event: Debug,
{
    check_category(page, D::CATEGORY, examples);
}

/// As [`check`], for events that no [`Decider`] stands behind.
#[track_caller]
pub fn check_category<E: DomainEvent + Debug>(page: &str, category: &str, examples: &[E]) {
    let described =
        parse(page).remove(category).unwrap_or_else(|| panic!("no section for {category} streams"));
    let types: Vec<_> = described.iter().map(|event| (event.event_type.as_str(), event.version)).collect();
    assert_eq!(types, E::TYPES, "{category}: the page (left) and the code (right) list different events");
    for event in described {
        let example = examples
            .iter()
            .find(|example| example.event_type() == event.event_type)
            .unwrap_or_else(|| panic!("{} has no example", event.event_type));
        check_fields(&event, example);
    }
}

fn check_fields<E: DomainEvent + Debug>(event: &Described, example: &E) {
    let name = &event.event_type;
    let fields: Map<String, Value> =
        serde_json::from_str(&stored(example)).unwrap_or_else(|error| panic!("{name}: {error}"));
    let described: Vec<_> = event.fields.keys().collect();
    assert!(
        described.iter().copied().eq(fields.keys()),
        "{name}: described {described:?}, written {fields:?}"
    );
    for (field, kind) in &event.fields {
        assert!(describes(kind, &fields[field]), "{name}.{field} is no {kind}: {}", fields[field]);
        let mut without = fields.clone();
        without.remove(field);
        let reads = E::from_json(name, event.version, Value::from(without).to_string().as_bytes()).is_ok();
        assert_eq!(
            reads,
            kind.ends_with("optional"),
            "{name} without {field} reads: {reads}, but it is a {kind}"
        );
    }
}

/// Does the word fit what is written?
fn describes(kind: &str, value: &Value) -> bool {
    match kind.split([' ', ',']).next().unwrap_or_default() {
        "UUID" | "text" | "word" | "time" => value.is_string(),
        "integer" => value.is_i64(),
        "boolean" => value.is_boolean(),
        "list" => value.is_array(),
        "sealed" => value.get("sealed").is_some(),
        "Money" => value.get("amount").is_some() && value.get("currency").is_some(),
        _ => value.is_object(),
    }
}
