//! Which events a reader wants.

use crate::{Recorded, StreamName};

/// Every condition must hold; an empty list, or `None`, holds for all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    pub stream: Option<StreamName>,
    pub categories: Vec<String>,
    pub event_types: Vec<String>,
}

impl Filter {
    pub fn all() -> Self {
        Self::default()
    }

    pub fn categories<S: Into<String>>(categories: impl IntoIterator<Item = S>) -> Self {
        Self { categories: categories.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    pub fn event_types<S: Into<String>>(types: impl IntoIterator<Item = S>) -> Self {
        Self { event_types: types.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    pub fn matches(&self, event: &Recorded) -> bool {
        self.stream.as_ref().is_none_or(|stream| *stream == event.stream)
            && self.matches_kind(event.stream.category(), &event.event_type)
    }

    /// The part of the filter that asks for nothing but the category and the type.
    pub fn matches_kind(&self, category: &str, event_type: &str) -> bool {
        (self.categories.is_empty() || self.categories.iter().any(|c| c == category))
            && (self.event_types.is_empty() || self.event_types.iter().any(|t| t == event_type))
    }
}
