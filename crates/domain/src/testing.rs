//! What tests of the rules need, here and in the crates that build on them: given/when/then over any [`Decider`],
//! [`examples`] of every event, and the checks that keep golden files ([`golden`]) and `docs/events.md`
//! ([`catalogue`]) honest. Behind the feature `testing`; everything panics when an expectation fails.

pub mod catalogue;
pub mod examples;
pub mod golden;

use std::fmt::Debug;

use chrono::DateTime;

use crate::{Decider, DomainEvent};

/// A stream as it stands: `Given::<Inventory>::events([…]).when(command).then([…])`.
pub struct Given<D: Decider> {
    state: D::State,
}

/// What came of a command. Each `then…` gives the stream back as it stands after it, so that a story can go on.
#[must_use = "say what is expected: then, then_nothing or then_refused"]
pub struct When<D: Decider> {
    state: D::State,
    decided: Result<Vec<D::Event>, D::Error>,
}

impl<D: Decider> Given<D> {
    pub fn nothing() -> Self {
        Self::events([])
    }

    pub fn events(events: impl IntoIterator<Item = D::Event>) -> Self {
        Self { state: fold::<D>(D::State::default(), &events.into_iter().collect::<Vec<_>>()) }
    }

    pub fn when(self, command: D::Command) -> When<D> {
        let decided = decide::<D>(&self.state, &command);
        When { state: self.state, decided }
    }

    pub fn state(&self) -> &D::State {
        &self.state
    }
}

impl<D: Decider> When<D>
where
    D::Event: Debug + PartialEq,
    D::Error: PartialEq,
{
    #[track_caller]
    pub fn then(self, expected: impl IntoIterator<Item = D::Event>) -> Given<D> {
        let expected: Vec<_> = expected.into_iter().collect();
        assert_eq!(self.decided, Ok(expected.clone()), "decided (left) and expected (right) differ");
        Given { state: fold::<D>(self.state, &expected) }
    }

    #[track_caller]
    pub fn then_nothing(self) -> Given<D> {
        self.then([])
    }

    #[track_caller]
    pub fn then_refused(self, expected: D::Error) -> Given<D> {
        assert_eq!(self.decided, Err(expected), "decided (left) and expected (right) differ");
        Given { state: self.state }
    }
}

/// Decides at a fixed time.
pub fn decide<D: Decider>(state: &D::State, command: &D::Command) -> Result<Vec<D::Event>, D::Error> {
    D::decide(state, command, DateTime::UNIX_EPOCH)
}

pub fn fold<D: Decider>(state: D::State, events: &[D::Event]) -> D::State {
    events.iter().fold(state, D::evolve)
}

/// Obeys the commands one after another; refused ones change nothing. Gives the state and all that happened.
pub fn obey<D: Decider>(commands: &[D::Command]) -> (D::State, Vec<D::Event>) {
    let mut history = Vec::new();
    let state = commands.iter().fold(D::State::default(), |state, command| {
        let events = decide::<D>(&state, command).unwrap_or_default();
        let state = fold::<D>(state, &events);
        history.extend(events);
        state
    });
    (state, history)
}

/// An event as it is stored, for reading and comparing.
fn stored(event: &impl DomainEvent) -> String {
    String::from_utf8_lossy(&event.to_json()).into_owned()
}
