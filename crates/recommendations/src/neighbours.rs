//! The items that were bought with one item, and how often: only so many, whoever comes. Those that came least go as others
//! come; since later orders weigh more, what comes in now gets in.

/// So many stay …
const KEPT: usize = 96;
/// … of as many as may gather, so that who is new has some time to come again.
const LARGEST: usize = 2 * KEPT;
const ENTRY: usize = 12;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Neighbour {
    /// Of the item.
    pub(crate) number: u32,
    pub(crate) weight: f64,
}

/// In the order of their numbers.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Neighbours(Vec<Neighbour>);

impl Neighbours {
    pub(crate) fn iter(&self) -> impl Iterator<Item = Neighbour> {
        self.0.iter().copied()
    }

    /// Adds to their weights; `more` in the order of their numbers, each once.
    pub(crate) fn gather(&mut self, more: impl IntoIterator<Item = Neighbour>) {
        let mut known = std::mem::take(&mut self.0).into_iter().peekable();
        for new in more {
            while let Some(before) = known.next_if(|before| before.number < new.number) {
                self.0.push(before);
            }
            let weight = known.next_if(|same| same.number == new.number).map_or(0.0, |same| same.weight);
            self.0.push(Neighbour { weight: weight + new.weight, ..new });
        }
        self.0.extend(known);
        if self.0.len() > LARGEST {
            self.0.select_nth_unstable_by(KEPT, |a, b| {
                b.weight.total_cmp(&a.weight).then(a.number.cmp(&b.number))
            });
            self.0.truncate(KEPT);
            self.0.sort_unstable_by_key(|neighbour| neighbour.number);
        }
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.0.len() * ENTRY);
        for Neighbour { number, weight } in &self.0 {
            bytes.extend(number.to_le_bytes());
            bytes.extend(weight.to_le_bytes());
        }
        bytes
    }

    /// What is too short for an entry counts for nothing.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Self {
        let (entries, _) = bytes.as_chunks::<ENTRY>();
        let read = |entry: &[u8; ENTRY]| {
            let (number, rest) = entry.split_first_chunk()?;
            let weight = rest.first_chunk()?;
            Some(Neighbour { number: u32::from_le_bytes(*number), weight: f64::from_le_bytes(*weight) })
        };
        Self(entries.iter().filter_map(read).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(u32, f64)]) -> Vec<Neighbour> {
        pairs.iter().map(|(number, weight)| Neighbour { number: *number, weight: *weight }).collect()
    }

    #[test]
    fn weights_add_up_and_survive_the_file() {
        let mut known = Neighbours::default();
        known.gather(of(&[(3, 1.0), (7, 1.0)]));
        known.gather(of(&[(1, 0.5), (7, 2.0), (9, 1.0)]));
        assert_eq!(known.0, of(&[(1, 0.5), (3, 1.0), (7, 3.0), (9, 1.0)]));
        assert_eq!(Neighbours::from_bytes(&known.to_bytes()), known);
        assert_eq!(Neighbours::from_bytes(b"short"), Neighbours::default());
    }

    #[test]
    fn however_many_come_few_stay_and_those_are_the_ones_that_came_most() {
        let mut known = Neighbours::default();
        for round in 0..1_000_u32 {
            known.gather(of(&[(5, 1.0), (1_000 + round, 1.0)]));
            assert!(known.0.len() <= LARGEST);
        }
        let best = known.iter().max_by(|a, b| a.weight.total_cmp(&b.weight)).unwrap();
        assert_eq!(best, Neighbour { number: 5, weight: 1_000.0 });
    }
}
