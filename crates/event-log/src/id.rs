//! Ids of events, derived so that the same command makes the same ones each time it runs.

use uuid::Uuid;

/// The id of a command's `index`-th event: UUIDv5 of the command id and the index as decimal text.
pub fn event_id(command_id: Uuid, index: usize) -> Uuid {
    Uuid::new_v5(&command_id, index.to_string().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_derived_and_differ() {
        let (one, two) = (Uuid::from_u128(1), Uuid::from_u128(2));
        assert_eq!(event_id(one, 0), event_id(one, 0));
        assert_ne!(event_id(one, 0), event_id(one, 1));
        assert_ne!(event_id(one, 0), event_id(two, 0));
        // A change of the derivation would let a repeated command append its events again.
        assert_eq!(event_id(one, 10).to_string(), Uuid::new_v5(&one, b"10").to_string());
    }
}
