//! The script of the sandbox: how each step is to misbehave.
//!
//! A JSON object with a rule per step; steps and fields that are left out behave well, unknown ones are errors:
//!
//! ```
//! # use souk_gateways::sandbox::Script;
//! let script = Script::parse(r#"{
//!     "charge": { "delayMs": 500, "unknownFirst": 1 },
//!     "book":   { "failFirst": 2 },
//!     "refund": { "unknownLost": 1 }
//! }"#)?;
//! assert_eq!(script.charge.unknown_first, 1);
//! # Ok::<(), souk_gateways::sandbox::ScriptError>(())
//! ```
//!
//! Attempts are counted per step and key, in the sandbox's file. The counts follow one another: with `failFirst: 2,
//! unknownLost: 1, unknownFirst: 1` the attempts 1 and 2 are unavailable, 3 is lost, 4 is carried out unseen, and from 5
//! on all is well.

use std::{fmt, io, path::Path, time::Duration};

use serde::Deserialize;

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Script {
    pub tokenize: Rule,
    pub charge: Rule,
    pub find: Rule,
    pub cancel: Rule,
    pub refund: Rule,
    pub book: Rule,
    pub cancel_booking: Rule,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Rule {
    /// Milliseconds to wait before every attempt.
    pub delay_ms: u64,
    /// So many attempts per key are answered "unavailable", and nothing happens.
    pub fail_first: u32,
    /// So many attempts per key are answered "unknown", and nothing happens.
    pub unknown_lost: u32,
    /// So many attempts per key are carried out, and yet answered "unknown".
    pub unknown_first: u32,
    /// Say no: `tokenize` finds the details invalid, `charge` declines, `book` refuses. Other steps can't be refused.
    pub refuse: bool,
}

impl Rule {
    pub(super) fn counts_attempts(&self) -> bool {
        self.fail_first > 0 || self.unknown_lost > 0 || self.unknown_first > 0
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Tokenize,
    Charge,
    Find,
    Cancel,
    Refund,
    Book,
    CancelBooking,
}

impl Step {
    /// As the script and the metrics name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tokenize => "tokenize",
            Self::Charge => "charge",
            Self::Find => "find",
            Self::Cancel => "cancel",
            Self::Refund => "refund",
            Self::Book => "book",
            Self::CancelBooking => "cancelBooking",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ScriptError {
    #[error("the sandbox script can't be read: {0}")]
    Io(#[from] io::Error),
    #[error("the sandbox script is wrong at `{path}`: {cause}")]
    Json { path: String, cause: serde_json::Error },
    #[error("the sandbox script is wrong at `{0}.refuse`: only tokenize, charge and book can be refused")]
    NotRefusable(Step),
}

impl Script {
    pub fn parse(json: &str) -> Result<Self, ScriptError> {
        let mut deserializer = serde_json::Deserializer::from_str(json);
        let script: Self = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
            ScriptError::Json { path: error.path().to_string(), cause: error.into_inner() }
        })?;
        deserializer.end().map_err(|cause| ScriptError::Json { path: ".".to_owned(), cause })?;
        for step in [Step::Find, Step::Cancel, Step::Refund, Step::CancelBooking] {
            if script.rule(step).refuse {
                return Err(ScriptError::NotRefusable(step));
            }
        }
        Ok(script)
    }

    pub fn read(file: &Path) -> Result<Self, ScriptError> {
        Self::parse(&std::fs::read_to_string(file)?)
    }

    /// What is waited before the slowest of all steps.
    pub fn longest_delay(&self) -> Duration {
        let Self { tokenize, charge, find, cancel, refund, book, cancel_booking } = self;
        let rules = [tokenize, charge, find, cancel, refund, book, cancel_booking];
        Duration::from_millis(rules.map(|rule| rule.delay_ms).into_iter().max().unwrap_or(0))
    }

    pub fn rule(&self, step: Step) -> Rule {
        match step {
            Step::Tokenize => self.tokenize,
            Step::Charge => self.charge,
            Step::Find => self.find,
            Step::Cancel => self.cancel,
            Step::Refund => self.refund,
            Step::Book => self.book,
            Step::CancelBooking => self.cancel_booking,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn error(json: &str) -> String {
        Script::parse(json).expect_err("the script is wrong").to_string()
    }

    #[test]
    fn an_empty_script_leaves_everything_well() {
        assert_eq!(Script::parse("{}").unwrap(), Script::default());
    }

    #[test]
    fn every_field_of_every_step_is_read() {
        let rule = r#"{"delayMs": 1, "failFirst": 2, "unknownLost": 3, "unknownFirst": 4, "refuse": false}"#;
        let expected = Rule { delay_ms: 1, fail_first: 2, unknown_lost: 3, unknown_first: 4, refuse: false };
        let steps = [
            Step::Tokenize,
            Step::Charge,
            Step::Find,
            Step::Cancel,
            Step::Refund,
            Step::Book,
            Step::CancelBooking,
        ];
        for step in steps {
            let script = Script::parse(&format!(r#"{{"{step}": {rule}}}"#)).unwrap();
            assert_eq!(script.rule(step), expected, "{step}");
            assert_eq!(
                steps.iter().filter(|other| script.rule(**other) == expected).count(),
                1,
                "{step} alone"
            );
        }
    }

    #[test]
    fn errors_name_the_field() {
        assert!(error(r#"{"chrage": {}}"#).contains("unknown field `chrage`"));
        let unknown = error(r#"{"charge": {"delay": 5}}"#);
        assert!(unknown.contains("`charge") && unknown.contains("unknown field `delay`"), "{unknown}");
        assert!(error(r#"{"book": {"failFirst": "twice"}}"#).contains("`book.failFirst`"));
        assert!(error(r#"{"book": {"failFirst": -1}}"#).contains("`book.failFirst`"));
        assert!(error(r#"{"refund": {"refuse": true}}"#).contains("`refund.refuse`"));
        assert!(error("{} {}").contains("trailing characters"));
        assert!(error("").contains("EOF"));
    }

    #[test]
    fn a_file_that_is_not_there_says_so() {
        assert!(matches!(Script::read(Path::new("no/such/file.json")), Err(ScriptError::Io(_))));
    }
}
