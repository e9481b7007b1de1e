//! Callers that wait for a run to end.
//!
//! All of them share one subscription. A message is only a hint: whenever one
//! may have been lost (after every new subscription, and every few seconds in
//! any case) the store is asked, for many runs at once. No waiting caller holds
//! a connection to Redis.

mod waits;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use millstream_shared::{
    id::{KeyId, ProcessId, RunId},
    run::RunState,
    store::Store,
};
use tokio::{
    sync::{Notify, watch},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

pub(crate) use self::waits::WaitLimits;
use self::waits::{RECHECK, Waits};
use crate::{
    error::{ApiError, causes},
    measure,
};

/// How many runs are asked for in one round trip.
const BATCH: usize = 500;
/// How often somebody looks whether a run is to be asked for.
const LOOK: Duration = Duration::from_millis(500);
/// How long a wait that is over may look for the latest state.
const LATEST: Duration = Duration::from_secs(2);

/// All waits of this process.
pub(crate) struct Waiting {
    store: Store,
    instance: ProcessId,
    stopping: CancellationToken,
    waits: Mutex<Waits>,
    missed: Notify,
}

impl Waiting {
    pub(crate) fn new(
        store: Store,
        instance: ProcessId,
        limits: WaitLimits,
        stopping: CancellationToken,
    ) -> Self {
        Self {
            store,
            instance,
            stopping,
            waits: Mutex::new(Waits::new(limits)),
            missed: Notify::new(),
        }
    }

    /// Begins to wait for a run, which need not exist yet: who starts one does
    /// this first, so that its end cannot come before anybody listens. The wait
    /// counts for the key that the caller showed.
    pub(crate) fn begin(self: &Arc<Self>, run: RunId, key: &KeyId) -> Result<Wait, ApiError> {
        let began = Instant::now();
        let state = self.lock().begin(run, key, began);
        let state = state.ok_or(ApiError::TooManyWaits)?;
        measure::wait_begun();
        Ok(Wait {
            run,
            key: key.clone(),
            state,
            began,
            waiting: Arc::clone(self),
        })
    }

    /// Tells who waits that the run has ended.
    pub(crate) fn ended(&self, run: RunId, state: RunState) {
        self.lock().ended(run, state);
    }

    /// Says that news of a partition may have been missed: every run in it is
    /// asked for at once.
    pub(crate) fn news_missed(&self, partition: u8) {
        let partitions = self.store.partitions();
        let missed = |run: RunId| run.partition(partitions) == partition;
        self.lock().news_missed(missed, Instant::now());
        self.missed.notify_one();
    }

    /// Asks the store for runs without news, until stopped.
    pub(crate) async fn recheck_until_stopped(&self) {
        loop {
            tokio::select! {
                () = self.stopping.cancelled() => return,
                () = self.missed.notified() => {}
                () = sleep(LOOK) => {}
            }
            let due = self.lock().due(Instant::now());
            for batch in due.chunks(BATCH) {
                self.recheck(batch).await;
            }
        }
    }

    async fn recheck(&self, runs: &[RunId]) {
        match self.store.watch_many(runs, self.instance).await {
            Ok(states) => {
                let now = Instant::now();
                let mut waits = self.lock();
                for (run, state) in states {
                    waits.checked(run, state, now + with_jitter(RECHECK));
                }
            }
            Err(error) => {
                tracing::warn!(error = causes(&error), "callers wait on without news");
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waits> {
        // Nothing panics while holding it; if it did, the map is still whole.
        self.waits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The time, a fifth less or more, so that waits which began together are not
/// asked for together for ever.
fn with_jitter(time: Duration) -> Duration {
    let drawn = getrandom::u32().unwrap_or(u32::MAX / 2);
    time.mul_f64(0.8 + 0.4 * f64::from(drawn) / f64::from(u32::MAX))
}

/// One caller's wait. Dropping it, as happens when the caller goes away, ends
/// the wait and nothing else.
pub(crate) struct Wait {
    run: RunId,
    key: KeyId,
    state: watch::Receiver<RunState>,
    began: Instant,
    waiting: Arc<Waiting>,
}

impl Wait {
    /// Says that the store knows the run, and in what state it was.
    pub(crate) fn accepted(&self, state: RunState) {
        let mut waits = self.waiting.lock();
        waits.accepted(self.run, state, Instant::now());
    }

    /// Says that the store could not take note of the wait.
    pub(crate) fn unregistered(&self) {
        self.waiting.lock().unregistered(self.run, Instant::now());
    }

    /// Waits until the run has ended, or `limit` is over, or the process stops,
    /// and answers with its state at that moment.
    pub(crate) async fn end(&mut self, limit: Option<Duration>) -> RunState {
        let over = async {
            match limit {
                Some(limit) => sleep(limit).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            ended = self.state.wait_for(|state| state.is_final()) => match ended {
                Ok(state) => return *state,
                // The sender lives as long as this wait does.
                Err(_) => tracing::error!("a wait lost its run"),
            },
            () = self.waiting.stopping.cancelled() => {}
            () = over => {}
        }
        self.latest().await
    }

    /// The state in the store, or the last one heard of where it cannot say.
    async fn latest(&self) -> RunState {
        let heard = *self.state.borrow();
        match timeout(LATEST, self.waiting.store.run_state(self.run)).await {
            Ok(Ok(Some((_, state)))) => state,
            Ok(Ok(None)) | Err(_) => heard,
            Ok(Err(error)) => {
                let error = causes(&error);
                tracing::warn!(error, run = %self.run, "the last known state is the answer");
                heard
            }
        }
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        measure::wait_ended(self.began.elapsed());
        self.waiting.lock().end(self.run, &self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_is_at_most_a_fifth() {
        for _ in 0..1000 {
            let time = with_jitter(RECHECK);
            assert!(time >= RECHECK * 4 / 5 && time <= Duration::from_secs(10));
        }
    }
}
