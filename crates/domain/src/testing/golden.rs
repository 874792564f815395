//! Golden files: one per event type and version, `<Type>.v<version>.json`, holding an event as it was written when
//! that version was current. A file is never changed: the log is full of events like it.

use std::{collections::BTreeSet, env, fmt::Debug, fs, path::Path};

use super::stored;
use crate::{DomainEvent, UnreadableEvent};

/// Checks one category against `dir`, given one example of each of its types, and gives the names of its files.
/// With `SOUK_WRITE_GOLDEN=1` in the environment a missing file is written instead of missed.
#[track_caller]
pub fn check<E: DomainEvent + Debug + PartialEq>(dir: &Path, examples: &[E]) -> BTreeSet<String> {
    let mut files = BTreeSet::new();
    for &(event_type, current) in E::TYPES {
        let example = examples
            .iter()
            .find(|event| event.event_type() == event_type)
            .unwrap_or_else(|| panic!("{event_type} has no example"));
        assert_eq!(example.version(), current);
        for version in 1..=current {
            let name = format!("{event_type}.v{version}.json");
            let path = dir.join(&name);
            if version == current && !path.exists() && env::var_os("SOUK_WRITE_GOLDEN").is_some() {
                fs::write(&path, stored(example) + "\n").unwrap_or_else(|error| panic!("{name}: {error}"));
            }
            let golden = read(&path);
            let event = E::from_json(event_type, version, golden.as_bytes())
                .unwrap_or_else(|error| panic!("{name} does not read any more: {error}"));
            if version == current {
                assert_eq!(event, *example, "{name}");
                assert_eq!(stored(example), golden, "{name} is written differently now: raise its version");
            }
            files.insert(name);
        }
        match E::from_json(event_type, current + 1, b"{}") {
            Err(error @ UnreadableEvent::Newer { .. }) => {
                let message = error.to_string();
                assert!(message.contains("upgrade") && message.contains(event_type), "{message}");
            }
            other => panic!("{event_type} of a newer version reads as {other:?}"),
        }
    }
    files
}

/// A golden file without the newline at its end.
#[track_caller]
pub fn read(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.trim_end().to_owned()
}
