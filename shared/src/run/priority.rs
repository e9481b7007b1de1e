//! Which runs go first, and how the others still get their turn.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// How urgent a run is. Runs of a higher priority go first, but not always:
/// see [`Turns`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// Before all others.
    High,
    /// As everything that does not say otherwise.
    #[default]
    Normal,
    /// When there is time.
    Low,
}

impl Priority {
    /// Every priority, the most urgent first.
    pub const ALL: [Self; 3] = [Self::High, Self::Normal, Self::Low];

    /// The priority's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::High => "high",
            Self::Normal => "normal",
            Self::Low => "low",
        }
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that is no priority.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a priority: it must be `low`, `normal` or `high`")]
pub struct UnknownPriority(String);

impl FromStr for Priority {
    type Err = UnknownPriority;

    fn from_str(word: &str) -> Result<Self, UnknownPriority> {
        let known = Self::ALL.into_iter().find(|known| known.as_str() == word);
        known.ok_or_else(|| UnknownPriority(word.to_owned()))
    }
}

/// Whose turn it is, claim after claim: of seven claims four begin with the
/// runs of high priority, two with those of normal and one with those of low
/// priority. What the first ones leave free goes to the others, the more urgent
/// first. So while runs of all priorities wait they are served 4 : 2 : 1, and
/// no priority can starve another.
#[derive(Clone, Copy, Debug, Default)]
pub struct Turns(usize);

impl Turns {
    /// Who begins, in a cycle that spreads each priority as evenly as it can.
    const CYCLE: [Priority; 7] = [
        Priority::High,
        Priority::Normal,
        Priority::High,
        Priority::Low,
        Priority::High,
        Priority::Normal,
        Priority::High,
    ];

    /// The order in which the next claim looks at the queues, and how far the
    /// worker tags are to be rotated, so that none of them is always first.
    pub fn take(&mut self) -> ([Priority; 3], usize) {
        let turn = self.0;
        self.0 = turn.wrapping_add(1);
        let first = Self::CYCLE[turn % Self::CYCLE.len()];
        let others = Priority::ALL.into_iter().filter(|other| *other != first);
        let mut order = [first; 3];
        for (place, other) in order[1..].iter_mut().zip(others) {
            *place = other;
        }
        (order, turn / Self::CYCLE.len() + turn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_priority_reads_as_it_is_written() {
        for priority in Priority::ALL {
            assert_eq!(priority.as_str().parse(), Ok(priority));
        }
        assert!("urgent".parse::<Priority>().is_err());
    }

    #[test]
    fn of_seven_claims_four_begin_with_high_two_with_normal_and_one_with_low() {
        let mut turns = Turns::default();
        let firsts: Vec<_> = (0..70).map(|_| turns.take().0[0]).collect();
        let count = |wanted| firsts.iter().filter(|first| **first == wanted).count();
        let counts = Priority::ALL.map(count);
        assert_eq!(counts, [40, 20, 10]);
    }

    #[test]
    fn each_claim_looks_at_every_priority_the_more_urgent_of_the_others_first() {
        let mut turns = Turns::default();
        let orders: Vec<_> = (0..4).map(|_| turns.take().0).collect();
        use Priority::{High, Low, Normal};
        assert_eq!(orders[0], [High, Normal, Low]);
        assert_eq!(orders[1], [Normal, High, Low]);
        assert_eq!(orders[3], [Low, High, Normal]);
    }
}
