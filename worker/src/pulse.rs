//! Whether a loop that must not stand still gets on.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// After so long without progress a worker is not ready.
const STUCK_AFTER: Duration = Duration::from_secs(15);

/// The signs of life of a loop.
pub(crate) struct Pulse {
    start: Instant,
    /// Milliseconds from `start` to the last sign of life; `RESTING` while the
    /// loop has nothing to do.
    last: AtomicU64,
}

const RESTING: u64 = u64::MAX;

impl Pulse {
    pub(crate) fn new() -> Self {
        Self {
            start: Instant::now(),
            last: AtomicU64::new(0),
        }
    }

    /// The loop has got on.
    pub(crate) fn beat(&self) {
        let now = self.start.elapsed().as_millis() as u64;
        self.last.store(now, Ordering::Relaxed);
    }

    /// The loop has nothing to do until its next beat.
    pub(crate) fn rest(&self) {
        self.last.store(RESTING, Ordering::Relaxed);
    }

    /// For how long the loop has not got on.
    pub(crate) fn silent_for(&self) -> Duration {
        let last = self.last.load(Ordering::Relaxed);
        let now = self.start.elapsed().as_millis() as u64;
        Duration::from_millis(now.saturating_sub(last))
    }
}

/// How long a worker may get nowhere before it says so, where it ends itself
/// after `wedged_after`.
pub(crate) fn stuck_after(wedged_after: Duration) -> Duration {
    STUCK_AFTER.min(wedged_after / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_that_rests_is_not_silent() {
        let pulse = Pulse::new();
        pulse.rest();
        assert_eq!(pulse.silent_for(), Duration::ZERO);
        pulse.beat();
        assert!(pulse.silent_for() < Duration::from_secs(10));
    }

    #[test]
    fn a_worker_says_that_it_is_stuck_before_it_ends_itself() {
        assert_eq!(stuck_after(Duration::from_secs(60)), STUCK_AFTER);
        assert!(stuck_after(Duration::from_secs(2)) < Duration::from_secs(2));
    }
}
