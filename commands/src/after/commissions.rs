//! What the market takes of a sale, by the category of what is sold. An operator gives it as a file:
//! `{"default": 500, "categories": {"Home": 800, "Home/Kitchen": 700}}`, in basis points (500 is 5 %). Of several that fit
//! the longest counts.

use std::{collections::BTreeMap, io, path::Path};

use serde::Deserialize;
use souk_domain::pricing::WHOLE;

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Commissions {
    /// Of what no category says.
    #[serde(default)]
    default: u32,
    /// By path, its parts joined by slashes.
    #[serde(default)]
    categories: BTreeMap<String, u32>,
}

#[derive(Debug, thiserror::Error)]
pub enum CommissionsError {
    #[error("the file cannot be read: {0}")]
    File(#[from] io::Error),
    #[error("the file is not understood: {0}")]
    Syntax(#[from] serde_json::Error),
    #[error("{0}: a commission is 0 to {WHOLE} basis points")]
    Rate(String),
}

impl Commissions {
    pub fn read(file: &Path) -> Result<Self, CommissionsError> {
        Self::parse(&std::fs::read_to_string(file)?)
    }

    pub fn parse(text: &str) -> Result<Self, CommissionsError> {
        let read: Self = serde_json::from_str(text)?;
        let wrong = |rate: &u32| *rate > WHOLE;
        if wrong(&read.default) {
            return Err(CommissionsError::Rate("default".to_owned()));
        }
        match read.categories.iter().find(|(_, rate)| wrong(rate)) {
            Some((name, _)) => Err(CommissionsError::Rate(name.clone())),
            None => Ok(read),
        }
    }

    /// Whether it depends on the category at all.
    pub fn is_flat(&self) -> bool {
        self.categories.is_empty()
    }

    /// In basis points.
    pub fn rate(&self, category: &[String]) -> u32 {
        let mut paths = (1..=category.len()).rev().map(|depth| category[..depth].join("/"));
        paths.find_map(|path| self.categories.get(&path)).copied().unwrap_or(self.default)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_path_counts() {
        let text = r#"{"default": 500, "categories": {"Home": 800, "Home/Kitchen": 700}}"#;
        let commissions = Commissions::parse(text).unwrap();
        let rate =
            |path: &[&str]| commissions.rate(&path.iter().map(|&part| part.to_owned()).collect::<Vec<_>>());
        assert_eq!(rate(&["Home", "Kitchen", "Pots"]), 700);
        assert_eq!(rate(&["Home", "Garden"]), 800);
        assert_eq!((rate(&["Books"]), rate(&[])), (500, 500));
        assert_eq!(Commissions::default().rate(&[]), 0);
    }

    #[test]
    fn a_wrong_file_says_what_is_wrong() {
        for (text, says) in [
            (r#"{"categories": {"Home": 10001}}"#, "Home"),
            (r#"{"defualt": 5}"#, "defualt"),
            (r#"{"default": -1}"#, "-1"),
        ] {
            let error = Commissions::parse(text).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
