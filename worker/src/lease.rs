//! The runs that this worker holds, and the thread that keeps them.
//!
//! A lease that is not renewed in time goes to another worker, whatever this
//! one is busy with. So the beats have a thread, a runtime and a connection of
//! their own, which no step can hold up.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;
use millstream_shared::{
    id::{ProcessId, RunId},
    process::RedisSettings,
    store::{Beat, Lease, Store, StoreError},
};
use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};
use tokio_util::sync::CancellationToken;

/// The runs that this worker holds.
pub(crate) struct Leases {
    held: Mutex<HashMap<RunId, Held>>,
    /// When Redis last took a beat.
    last_beat: watch::Sender<Instant>,
    /// How old the last beat may be when something new is started.
    beat_age_max: Duration,
}

struct Held {
    lease: Lease,
    since: Instant,
    signals: Signals,
}

/// What can happen to a run from outside while it is executed.
#[derive(Clone, Default)]
pub(crate) struct Signals {
    /// Another worker has the run: stop at once, and write nothing.
    pub(crate) lost: CancellationToken,
    /// Somebody asked to cancel it.
    pub(crate) cancelled: CancellationToken,
}

/// A run that is held until this is dropped.
pub(crate) struct Hold {
    pub(crate) lease: Lease,
    pub(crate) signals: Signals,
    leases: Arc<Leases>,
    others: KeptOff,
}

/// The slots that nothing else may have while a run is executed alone.
#[derive(Clone, Default)]
pub(crate) struct KeptOff(Arc<Mutex<Option<OwnedSemaphorePermit>>>);

impl KeptOff {
    /// Lets other runs have the slots.
    pub(crate) fn release(&self) {
        self.slots().take();
    }

    fn slots(&self) -> MutexGuard<'_, Option<OwnedSemaphorePermit>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hold {
    /// Keeps other runs off these slots until one of its steps has ended.
    pub(crate) fn keep(&self, slots: OwnedSemaphorePermit) -> KeptOff {
        *self.others.slots() = Some(slots);
        self.others.clone()
    }

    /// Notes that a step has ended: the run does not kill its worker.
    pub(crate) fn made_progress(&self) {
        self.others.release();
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut held = self.leases.held();
        // After a claim that was lost and made anew, the entry is the newer one's.
        if held
            .get(&self.lease.run)
            .is_some_and(|held| held.lease == self.lease)
        {
            held.remove(&self.lease.run);
        }
    }
}

impl Leases {
    pub(crate) fn new(lease: Duration) -> Arc<Self> {
        Arc::new(Self {
            held: Mutex::default(),
            last_beat: watch::Sender::new(Instant::now()),
            beat_age_max: lease * 2 / 3,
        })
    }

    /// Holds a run that was just claimed.
    pub(crate) fn hold(self: &Arc<Self>, lease: Lease) -> Hold {
        let signals = Signals::default();
        let held = Held {
            lease: lease.clone(),
            since: Instant::now(),
            signals: signals.clone(),
        };
        let older = self.held().insert(lease.run, held);
        if let Some(older) = older {
            // Taken away and claimed anew before a beat could tell: no beat will
            // any more, and the steps of the older claim must not go on beside.
            older.signals.lost.cancel();
        }
        Hold {
            lease,
            signals,
            leases: Arc::clone(self),
            others: KeptOff::default(),
        }
    }

    /// Whether the run is held.
    pub(crate) fn holds(&self, run: RunId) -> bool {
        self.held().contains_key(&run)
    }

    /// Waits until the worker is sure enough of its leases to start something
    /// that has effects. A matter of margin: correctness lies in the epochs.
    pub(crate) async fn fresh(&self) {
        let recent = |at: &Instant| at.elapsed() < self.beat_age_max;
        if !recent(&self.last_beat.borrow()) {
            // The sender lives as long as `self`, so this ends with a beat.
            drop(self.last_beat.subscribe().wait_for(recent).await);
        }
    }

    /// For how long Redis has taken no beat.
    pub(crate) fn silent_for(&self) -> Duration {
        self.last_beat.borrow().elapsed()
    }

    fn held(&self) -> MutexGuard<'_, HashMap<RunId, Held>> {
        // The map is whole after every statement that changes it.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn older_than(&self, age: Duration) -> Vec<Lease> {
        let held = self.held();
        let old = held.values().filter(|held| held.since.elapsed() >= age);
        old.map(|held| held.lease.clone()).collect()
    }

    fn note(&self, lease: &Lease, beat: Beat) {
        let held = self.held();
        let Some(held) = held.get(&lease.run).filter(|held| held.lease == *lease) else {
            return;
        };
        match beat {
            Beat::Renewed => {}
            Beat::CancelRequested => held.signals.cancelled.cancel(),
            Beat::Lost => {
                metrics::counter!("millstream_leases_lost_total").increment(1);
                held.signals.lost.cancel();
            }
        }
    }
}

/// Starts the thread that renews the leases every third of `lease` until
/// `ended`.
///
/// # Errors
/// Fails where the thread or its connection cannot be made.
pub(crate) async fn start_heart(
    leases: Arc<Leases>,
    settings: RedisSettings,
    worker: ProcessId,
    lease: Duration,
    ended: CancellationToken,
) -> anyhow::Result<()> {
    let (connected, connecting) = oneshot::channel();
    let beating = move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(error) => return drop(connected.send(Err(error.into()))),
        };
        runtime.block_on(async move {
            match Store::connect(&settings).await {
                Err(error) => drop(connected.send(Err(anyhow::Error::from(error)))),
                Ok(store) => {
                    drop(connected.send(Ok(())));
                    tokio::select! {
                        () = beat_for_ever(&leases, &store, worker, lease) => {}
                        () = ended.cancelled() => {}
                    }
                }
            }
        });
    };
    thread::Builder::new()
        .name("heart".into())
        .spawn(beating)
        .context("cannot start the thread that renews leases")?;
    connecting
        .await
        .context("the thread that renews leases ended")?
}

async fn beat_for_ever(leases: &Leases, store: &Store, worker: ProcessId, lease: Duration) {
    let every = lease / 3;
    let mut pause = every;
    loop {
        tokio::time::sleep(pause).await;
        // A run that is over within a third of the lease costs no beat at all.
        let due = leases.older_than(every);
        match beat(leases, store, worker, &due).await {
            Ok(()) => {
                leases.last_beat.send_replace(Instant::now());
                pause = every;
            }
            Err(error) => {
                tracing::warn!(%error, "cannot renew leases");
                // Soon enough for several more tries before the lease is over.
                pause = every / 4;
            }
        }
    }
}

async fn beat(
    leases: &Leases,
    store: &Store,
    worker: ProcessId,
    due: &[Lease],
) -> Result<(), StoreError> {
    if due.is_empty() {
        return store.ping().await;
    }
    let beats = store.beat(due, worker).await?;
    for (lease, beat) in due.iter().zip(beats) {
        leases.note(lease, beat);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_run_that_is_claimed_anew_stops_what_was_executed_of_it_before() {
        let leases = Leases::new(Duration::from_secs(1));
        let run = RunId::new();
        let lease = |epoch: &str| Lease {
            run,
            epoch: epoch.to_owned(),
        };
        let older = leases.hold(lease("1"));
        let newer = leases.hold(lease("2"));
        assert!(older.signals.lost.is_cancelled());
        drop(older);
        assert!(leases.holds(run) && !newer.signals.lost.is_cancelled());
    }
}
