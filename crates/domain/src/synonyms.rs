//! Words that mean the same to the shop's buyers: one list, replaced as a whole. What a rule looks like is for the search to
//! say; here they are lines.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{Decider, SynonymsId, domain_events};

/// Rules at most.
pub const MAX_RULES: usize = 2_000;
/// Characters of one rule at most.
pub const MAX_RULE_LENGTH: usize = 500;

domain_events! {
    pub enum SynonymsEvent {
        SynonymsReplaced = 1,
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SynonymsReplaced {
    pub rules: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SynonymsState {
    pub rules: Vec<String>,
}

#[derive(Clone, Debug)]
pub enum SynonymsCommand {
    Replace { rules: Vec<String> },
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SynonymsError {
    #[error("there are {MAX_RULES} rules at most")]
    TooMany,
    #[error("a rule has {MAX_RULE_LENGTH} characters at most")]
    TooLong,
}

pub struct Synonyms;

impl Decider for Synonyms {
    type Id = SynonymsId;
    type Command = SynonymsCommand;
    type Event = SynonymsEvent;
    type State = SynonymsState;
    type Error = SynonymsError;

    const CATEGORY: &'static str = "synonyms";

    fn evolve(_state: SynonymsState, event: &SynonymsEvent) -> SynonymsState {
        match event {
            SynonymsEvent::SynonymsReplaced(SynonymsReplaced { rules }) => {
                SynonymsState { rules: rules.clone() }
            }
        }
    }

    fn decide(
        state: &SynonymsState,
        command: &SynonymsCommand,
        _now: DateTime<Utc>,
    ) -> Result<Vec<SynonymsEvent>, SynonymsError> {
        let SynonymsCommand::Replace { rules } = command;
        if rules.len() > MAX_RULES {
            return Err(SynonymsError::TooMany);
        }
        if rules.iter().any(|rule| rule.chars().count() > MAX_RULE_LENGTH) {
            return Err(SynonymsError::TooLong);
        }
        if *rules == state.rules {
            return Ok(vec![]);
        }
        Ok(vec![SynonymsReplaced { rules: rules.clone() }.into()])
    }
}
