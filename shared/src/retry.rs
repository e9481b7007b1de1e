//! When a failed attempt of a step is tried again.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::duration::Span;

/// How often a step is tried, and how long to wait in between.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RetryPolicy {
    /// How many attempts in all, the first one included: 1 to 100.
    #[schemars(range(min = 1, max = 100))]
    pub attempts: u32,
    /// How the wait grows from attempt to attempt.
    #[serde(default)]
    pub backoff: Backoff,
    /// The wait before the second attempt.
    #[serde(default = "RetryPolicy::default_initial")]
    pub initial: Span,
    /// No wait is longer than this.
    #[serde(default = "RetryPolicy::default_max")]
    pub max: Span,
}

/// How the wait between attempts grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Backoff {
    /// The same wait each time.
    Constant,
    /// Each wait is twice the one before.
    #[default]
    Exponential,
}

impl RetryPolicy {
    /// The most attempts that a flow may ask for.
    pub const ATTEMPTS_MAX: u32 = 100;

    fn default_initial() -> Span {
        "1s".parse().expect("`1s` is a duration")
    }

    fn default_max() -> Span {
        "1m".parse().expect("`1m` is a duration")
    }

    /// How many milliseconds to wait after attempt number `attempt` (from 1)
    /// failed, or `None` if it was the last one.
    ///
    /// `jitter` is a number from 0 to 1 drawn by the caller: the wait is that
    /// share of its upper half, so that many runs that failed together do not
    /// come back together.
    pub fn delay_after(&self, attempt: u32, jitter: f64) -> Option<u64> {
        if attempt >= self.attempts {
            return None;
        }
        let initial = self.initial.as_millis();
        let grown = match self.backoff {
            Backoff::Constant => initial,
            Backoff::Exponential => initial.saturating_mul(1 << attempt.saturating_sub(1).min(40)),
        };
        let longest = grown.min(self.max.as_millis());
        let half = longest / 2;
        Some(longest - half + (half as f64 * jitter.clamp(0.0, 1.0)) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(backoff: Backoff) -> RetryPolicy {
        RetryPolicy {
            attempts: 5,
            backoff,
            initial: "1s".parse().unwrap(),
            max: "5s".parse().unwrap(),
        }
    }

    #[test]
    fn the_wait_doubles_up_to_the_limit_and_ends_with_the_last_attempt() {
        let policy = policy(Backoff::Exponential);
        let waits: Vec<_> = (1..=5).map(|n| policy.delay_after(n, 1.0)).collect();
        assert_eq!(
            waits,
            [Some(1000), Some(2000), Some(4000), Some(5000), None]
        );
    }

    #[test]
    fn jitter_takes_at_most_half_of_the_wait() {
        let policy = policy(Backoff::Constant);
        assert_eq!(policy.delay_after(3, 0.0), Some(500));
        assert_eq!(policy.delay_after(3, 0.5), Some(750));
        assert_eq!(policy.delay_after(3, 1.0), Some(1000));
    }
}
