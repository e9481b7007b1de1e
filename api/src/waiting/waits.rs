//! Who waits for which run, and when to ask the store for it. Pure: the time
//! comes in as an argument.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use millstream_shared::{
    id::{KeyId, RunId},
    run::RunState,
};
use tokio::sync::watch;

/// After so long without news of a run, a fifth less or more, the store is
/// asked: nobody is told later than ten seconds after the end.
pub(super) const RECHECK: Duration = Duration::from_secs(8);
/// So soon again where the store did not answer, or where news were missed once
/// more: a connection that is cut all the time must not make the store busy.
const RECHECK_AGAIN: Duration = Duration::from_secs(1);

/// How much waiting there may be at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WaitLimits {
    /// Runs that are waited for.
    pub(crate) runs: u64,
    /// Waits of the bearers of one key.
    pub(crate) of_key: u64,
}

/// All runs that somebody waits for.
#[derive(Debug)]
pub(super) struct Waits {
    limits: WaitLimits,
    runs: HashMap<RunId, Watched>,
    /// How many waits the bearers of each key have.
    of_keys: HashMap<KeyId, u64>,
    /// Counts the subscriptions. Between two of them anything may be missed.
    generation: u64,
}

/// A run that at least one caller waits for.
#[derive(Debug)]
struct Watched {
    state: watch::Sender<RunState>,
    waits: usize,
    /// The store knows the run, so that it makes sense to ask for it.
    known: bool,
    /// The subscription under which the first wait began.
    generation: u64,
    recheck_at: Instant,
    asked_at: Option<Instant>,
}

impl Waits {
    pub(super) fn new(limits: WaitLimits) -> Self {
        Self {
            limits,
            runs: HashMap::new(),
            of_keys: HashMap::new(),
            generation: 0,
        }
    }

    /// Begins a wait for the bearer of a key, unless there are too many.
    pub(super) fn begin(
        &mut self,
        run: RunId,
        key: &KeyId,
        now: Instant,
    ) -> Option<watch::Receiver<RunState>> {
        let new = !self.runs.contains_key(&run);
        if new && self.runs.len() as u64 >= self.limits.runs {
            return None;
        }
        let of_key = self.of_keys.get(key).copied().unwrap_or_default();
        if of_key >= self.limits.of_key {
            return None;
        }
        self.of_keys.insert(key.clone(), of_key + 1);
        let generation = self.generation;
        let watched = self.runs.entry(run).or_insert_with(|| Watched {
            state: watch::Sender::new(RunState::Queued),
            waits: 0,
            known: false,
            generation,
            recheck_at: now + RECHECK,
            asked_at: None,
        });
        watched.waits += 1;
        Some(watched.state.subscribe())
    }

    /// Ends a wait. The last one takes the run with it.
    pub(super) fn end(&mut self, run: RunId, key: &KeyId) {
        if let Some(of_key) = self.of_keys.get_mut(key) {
            *of_key -= 1;
            if *of_key == 0 {
                self.of_keys.remove(key);
            }
        }
        if let Some(watched) = self.runs.get_mut(&run) {
            watched.waits -= 1;
            if watched.waits == 0 {
                self.runs.remove(&run);
            }
        }
    }

    /// Notes that the store knows a run, and in what state it was.
    pub(super) fn accepted(&mut self, run: RunId, state: RunState, now: Instant) {
        let generation = self.generation;
        if let Some(watched) = self.runs.get_mut(&run) {
            watched.known = true;
            watched.learn(state);
            if watched.generation != generation {
                // There was a gap in the news while the run was registered.
                watched.recheck_at = now;
            }
        }
    }

    /// Notes that nobody will send news of a run: it has to be asked for.
    pub(super) fn unregistered(&mut self, run: RunId, now: Instant) {
        if let Some(watched) = self.runs.get_mut(&run) {
            watched.recheck_at = now + RECHECK_AGAIN;
        }
    }

    /// Tells who waits for a run that it has ended.
    pub(super) fn ended(&mut self, run: RunId, state: RunState) {
        if let Some(watched) = self.runs.get(&run) {
            watched.learn(state);
        }
    }

    /// Makes every run whose news may have been missed one to ask for.
    pub(super) fn news_missed(&mut self, missed: impl Fn(RunId) -> bool, now: Instant) {
        self.generation += 1;
        for (_, watched) in self.runs.iter_mut().filter(|(run, _)| missed(**run)) {
            let again_at = watched.asked_at.map(|asked_at| asked_at + RECHECK_AGAIN);
            watched.recheck_at = again_at.map_or(now, |again_at| again_at.max(now));
        }
    }

    /// The runs to ask for at `now`. They are asked for again soon, unless the
    /// store answers.
    pub(super) fn due(&mut self, now: Instant) -> Vec<RunId> {
        let due = self.runs.iter_mut().filter(|(_, watched)| {
            watched.known && watched.recheck_at <= now && !watched.state.borrow().is_final()
        });
        due.map(|(run, watched)| {
            watched.recheck_at = now + RECHECK_AGAIN;
            watched.asked_at = Some(now);
            *run
        })
        .collect()
    }

    /// Notes what the store said about a run, and when to ask it again.
    pub(super) fn checked(&mut self, run: RunId, state: Option<RunState>, again_at: Instant) {
        let Some(watched) = self.runs.get_mut(&run) else {
            return;
        };
        watched.recheck_at = again_at;
        if state.is_none() {
            tracing::warn!(%run, "the record of a run is gone");
        }
        // A run that the store knew and has lost cannot end any other way.
        watched.learn(state.unwrap_or(RunState::Dead));
    }
}

impl Watched {
    /// A state that was read earlier may come later: a final one stays.
    fn learn(&self, state: RunState) {
        self.state.send_if_modified(|known| {
            let news = !known.is_final() && *known != state;
            if news {
                *known = state;
            }
            news
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: WaitLimits = WaitLimits {
        runs: 1000,
        of_key: 999,
    };

    fn waits() -> (Waits, Instant) {
        (Waits::new(LIMITS), Instant::now())
    }

    fn key() -> KeyId {
        "a".parse().unwrap()
    }

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn all_who_wait_for_a_run_hear_of_its_end_and_nobody_else() {
        let (mut waits, now) = waits();
        let (run, other) = (RunId::new(), RunId::new());
        let first = waits.begin(run, &key(), now).unwrap();
        let second = waits.begin(run, &key(), now).unwrap();
        let third = waits.begin(other, &key(), now).unwrap();
        waits.ended(run, RunState::Succeeded);
        assert_eq!(*first.borrow(), RunState::Succeeded);
        assert_eq!(*second.borrow(), RunState::Succeeded);
        assert_eq!(*third.borrow(), RunState::Queued);
    }

    #[test]
    fn an_end_that_comes_before_the_start_was_answered_stays() {
        let (mut waits, now) = waits();
        let run = RunId::new();
        let state = waits.begin(run, &key(), now).unwrap();
        waits.ended(run, RunState::Failed);
        waits.accepted(run, RunState::Queued, now);
        waits.checked(run, Some(RunState::Running), now);
        assert_eq!(*state.borrow(), RunState::Failed);
    }

    #[test]
    fn a_run_without_news_is_asked_for_again_and_again() {
        let (mut waits, now) = waits();
        let run = RunId::new();
        let _state = waits.begin(run, &key(), now);
        waits.accepted(run, RunState::Queued, now);
        assert!(waits.due(now + seconds(7)).is_empty());
        assert_eq!(waits.due(now + seconds(8)), [run]);
        waits.checked(run, Some(RunState::Running), now + seconds(20));
        assert!(waits.due(now + seconds(19)).is_empty());
        assert_eq!(waits.due(now + seconds(20)), [run]);
    }

    #[test]
    fn news_that_are_missed_all_the_time_do_not_make_the_store_busy() {
        let (mut waits, now) = waits();
        let run = RunId::new();
        let _state = waits.begin(run, &key(), now);
        waits.accepted(run, RunState::Queued, now);
        waits.news_missed(|_| true, now);
        assert_eq!(waits.due(now), [run]);
        waits.checked(run, Some(RunState::Queued), now + seconds(8));
        for tenth in 1..10 {
            let now = now + seconds(1) * tenth / 10;
            waits.news_missed(|_| true, now);
            assert!(waits.due(now).is_empty());
        }
        assert_eq!(waits.due(now + seconds(1)), [run]);
    }

    #[test]
    fn a_run_is_asked_for_again_soon_where_the_store_did_not_answer() {
        let (mut waits, now) = waits();
        let run = RunId::new();
        let _state = waits.begin(run, &key(), now);
        waits.accepted(run, RunState::Queued, now);
        waits.news_missed(|_| true, now);
        assert_eq!(waits.due(now), [run]);
        assert!(waits.due(now).is_empty());
        assert_eq!(waits.due(now + seconds(1)), [run]);
    }

    #[test]
    fn a_run_is_not_asked_for_before_the_store_can_know_it_or_after_its_end() {
        let (mut waits, now) = waits();
        let run = RunId::new();
        let _state = waits.begin(run, &key(), now);
        waits.news_missed(|_| true, now);
        assert!(waits.due(now + seconds(60)).is_empty());
        waits.accepted(run, RunState::Queued, now);
        waits.ended(run, RunState::Succeeded);
        assert!(waits.due(now + seconds(60)).is_empty());
    }

    #[test]
    fn a_run_that_was_registered_during_a_gap_in_the_news_is_asked_for_at_once() {
        let (mut waits, now) = waits();
        let run = RunId::new();
        let _state = waits.begin(run, &key(), now);
        waits.news_missed(|_| true, now);
        waits.accepted(run, RunState::Queued, now + seconds(1));
        assert_eq!(waits.due(now + seconds(1)), [run]);
    }

    #[test]
    fn a_run_whose_record_is_gone_counts_as_failed() {
        let (mut waits, now) = waits();
        let run = RunId::new();
        let state = waits.begin(run, &key(), now).unwrap();
        waits.accepted(run, RunState::Running, now);
        waits.checked(run, None, now);
        assert!(state.borrow().is_final());
    }

    #[test]
    fn nothing_is_left_when_the_last_wait_is_over() {
        let (mut waits, now) = waits();
        let run = RunId::new();
        let _state = (waits.begin(run, &key(), now), waits.begin(run, &key(), now));
        waits.end(run, &key());
        assert_eq!(waits.runs.len(), 1);
        waits.end(run, &key());
        assert!(waits.runs.is_empty() && waits.of_keys.is_empty());
        waits.end(run, &key());
    }

    #[test]
    fn there_is_a_most_that_one_process_waits_for() {
        let (mut waits, now) = waits();
        let (run, other) = (RunId::new(), "b".parse().unwrap());
        waits.begin(run, &other, now).unwrap();
        for _ in 1..LIMITS.runs {
            waits.begin(RunId::new(), &key(), now).unwrap();
        }
        assert!(waits.begin(RunId::new(), &other, now).is_none());
        assert!(waits.begin(run, &other, now).is_some());
    }

    #[test]
    fn the_bearers_of_a_key_cannot_take_every_wait() {
        let (mut waits, now) = waits();
        let run = RunId::new();
        for _ in 0..LIMITS.of_key {
            waits.begin(run, &key(), now).unwrap();
        }
        assert!(waits.begin(run, &key(), now).is_none());
        assert!(waits.begin(run, &"b".parse().unwrap(), now).is_some());
        waits.end(run, &key());
        assert!(waits.begin(run, &key(), now).is_some());
    }
}
