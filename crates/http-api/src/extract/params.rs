//! Query parameters. One that cannot be understood (no number, no such value) is malformed, one out of bounds invalid; all
//! of either kind are named at once.

use std::{convert::Infallible, ops::RangeInclusive, str::FromStr};

use axum::{extract::FromRequestParts, http::request::Parts};

use crate::problem::{FieldError, Problem};

/// The most rows on a page.
const LARGEST_PAGE: i64 = 100;
const USUAL_PAGE: u32 = 20;

#[derive(Debug, Default)]
pub(crate) struct Params {
    given: Vec<(String, String)>,
    malformed: Vec<FieldError>,
    invalid: Vec<FieldError>,
}

impl<S: Send + Sync> FromRequestParts<S> for Params {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::parse(parts.uri.query().unwrap_or_default()))
    }
}

impl Params {
    pub(crate) fn parse(query: &str) -> Self {
        Self { given: form_urlencoded::parse(query.as_bytes()).into_owned().collect(), ..Self::default() }
    }

    /// The last one of that name, unless it is empty: forms send what was left blank.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        self.given
            .iter()
            .rfind(|(key, _)| key == name)
            .map(|(_, value)| value.clone())
            .filter(|value| !value.is_empty())
    }

    /// All of that name, in order.
    pub(crate) fn all(&self, name: &str) -> Vec<String> {
        self.given
            .iter()
            .filter(|(key, value)| key == name && !value.is_empty())
            .map(|(_, value)| value.clone())
            .collect()
    }

    pub(crate) fn parsed<T: FromStr>(&mut self, name: &str, expected: &str) -> Option<T> {
        self.read(name, |text| text.parse().ok(), expected)
    }

    pub(crate) fn read<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&str) -> Option<T>,
        expected: &str,
    ) -> Option<T> {
        let value = read(&self.text(name)?);
        if value.is_none() {
            self.malformed(name, format!("This must be {expected}."));
        }
        value
    }

    /// A whole number within bounds.
    pub(crate) fn number(&mut self, name: &str, bounds: RangeInclusive<i64>) -> Option<i64> {
        let number = self.parsed(name, "a whole number")?;
        if bounds.contains(&number) {
            return Some(number);
        }
        self.invalid(name, format!("This is between {} and {}.", bounds.start(), bounds.end()));
        None
    }

    /// `cursor` and `size`.
    pub(crate) fn page(&mut self) -> (Option<String>, u32) {
        let size = self.number("size", 1..=LARGEST_PAGE).map_or(USUAL_PAGE, |size| size as u32);
        (self.text("cursor"), size)
    }

    pub(crate) fn malformed(&mut self, name: &str, message: impl Into<String>) {
        self.malformed.push(FieldError::new(name, message));
    }

    pub(crate) fn invalid(&mut self, name: &str, message: impl Into<String>) {
        self.invalid.push(FieldError::new(name, message));
    }

    /// To be called when everything was read.
    pub(crate) fn finish(self) -> Result<(), Problem> {
        match (self.malformed.is_empty(), self.invalid.is_empty()) {
            (true, true) => Ok(()),
            (true, false) => Err(Problem::invalid_fields(self.invalid)),
            (false, _) => {
                Err(Problem::malformed_fields(self.malformed.into_iter().chain(self.invalid).collect()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::Kind;

    #[test]
    fn parameters_are_decoded_and_may_repeat() {
        let mut params = Params::parse("a=1+2%C3%A9&b=x&b=y&c=&d=7");
        assert_eq!(params.text("a").as_deref(), Some("1 2é"));
        assert_eq!(params.all("b"), ["x", "y"]);
        assert_eq!((params.text("c"), params.all("c").len()), (None, 0));
        assert_eq!(params.number("d", 0..=9), Some(7));
        assert_eq!(params.page(), (None, 20));
        assert!(params.finish().is_ok());
    }

    #[test]
    fn malformed_goes_before_invalid_and_both_are_named() {
        let mut params = Params::parse("size=101&after=x");
        params.page();
        assert_eq!(params.parsed::<u64>("after", "a position"), None);
        let problem = params.finish().unwrap_err();
        assert_eq!((problem.kind(), problem.errors().len()), (Kind::Malformed, 2));
        for query in ["size=0", "size=101", "size=-1"] {
            let mut params = Params::parse(query);
            params.page();
            let problem = params.finish().unwrap_err();
            assert_eq!(
                (problem.kind(), problem.errors()[0].field.as_str()),
                (Kind::InvalidParameters, "size")
            );
        }
    }
}
