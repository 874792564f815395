//! Moments in the life of the log, as people name them.

use std::str::FromStr;

use chrono::{DateTime, Utc};

use crate::{Position, Recorded};

/// As of when somebody wants to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// When the log ended with that position.
    Position(Position),
    Time(DateTime<Utc>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("neither a position nor a time like 2026-11-22T08:00:00Z")]
pub struct NoMoment;

impl FromStr for At {
    type Err = NoMoment;

    fn from_str(text: &str) -> Result<Self, NoMoment> {
        if let Ok(position) = text.parse() {
            // Nothing that counts events goes beyond.
            return if position <= i64::MAX as Position {
                Ok(Self::Position(position))
            } else {
                Err(NoMoment)
            };
        }
        DateTime::parse_from_rfc3339(text).map(|time| Self::Time(time.to_utc())).map_err(|_| NoMoment)
    }
}

impl At {
    /// Whether the log had taken the event by then.
    pub fn has(self, event: &Recorded) -> bool {
        match self {
            Self::Position(position) => event.position <= position,
            Self::Time(time) => event.recorded_at <= time,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_position_or_a_time() {
        assert_eq!("17".parse(), Ok(At::Position(17)));
        let eight = DateTime::from_timestamp(1_795_334_400, 0).unwrap();
        assert_eq!("2026-11-22T08:00:00Z".parse(), Ok(At::Time(eight)));
        assert_eq!("2026-11-22T09:00:00+01:00".parse(), Ok(At::Time(eight)));
        for text in
            ["", "-1", "1.5", "yesterday", "2026-11-22", "9223372036854775808", "99999999999999999999"]
        {
            assert_eq!(text.parse::<At>(), Err(NoMoment), "{text}");
        }
    }
}
