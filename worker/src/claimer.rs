//! Takes runs off the queue, never more than there are free slots.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use millstream_shared::store::{Claimed, Delivered, QueueReader, StoreError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{Shared, executor};

/// How long one read of the queue waits for a run at most.
const BLOCK_MAX: Duration = Duration::from_secs(2);

/// How long to wait after Redis failed, at first and at most.
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// How long the claimer may get nowhere before the worker counts as stuck.
const STUCK_AFTER: Duration = Duration::from_secs(15);

/// Whether the claimer gets on: what readiness asks for.
pub(crate) struct Pulse {
    start: Instant,
    /// Milliseconds from `start` to the last sign of life; `WAITING` while
    /// every slot is taken.
    last: AtomicU64,
}

const WAITING: u64 = u64::MAX;

impl Pulse {
    pub(crate) fn new() -> Self {
        Self {
            start: Instant::now(),
            last: AtomicU64::new(0),
        }
    }

    fn beat(&self) {
        let now = self.start.elapsed().as_millis() as u64;
        self.last.store(now, Ordering::Relaxed);
    }

    fn wait(&self) {
        self.last.store(WAITING, Ordering::Relaxed);
    }

    /// Why the claimer seems stuck, if it does.
    pub(crate) fn stuck(&self) -> Option<String> {
        let last = self.last.load(Ordering::Relaxed);
        let now = self.start.elapsed().as_millis() as u64;
        let silent = Duration::from_millis(now.saturating_sub(last));
        (silent > STUCK_AFTER)
            .then(|| format!("no read of the queue has ended for {} s", silent.as_secs()))
    }
}

/// Claims runs and executes them until `stopping`; returns when what was
/// claimed has ended or was given back.
pub(crate) async fn claim_until_stopped(shared: Arc<Shared>, stopping: CancellationToken) {
    let slots = Arc::new(Semaphore::new(shared.config.slots));
    let running = TaskTracker::new();
    let config = &shared.config;
    // A read that outlives the lease could be handed a run after this worker
    // froze, just when others have taken that run away from it.
    let block = BLOCK_MAX.min(config.lease / 2);
    let mut reader = shared
        .store
        .queue_reader(&config.tags, shared.worker, block);
    let mut pause = PAUSE;
    loop {
        // Wait for room before asking for work: a run that is claimed and then
        // kept waiting here is a run that no other worker can take.
        shared.pulse.wait();
        let slot = tokio::select! {
            () = stopping.cancelled() => break,
            slot = Arc::clone(&slots).acquire_owned() => slot.expect("the semaphore is never closed"),
        };
        shared.pulse.beat();
        let room = 1 + slots.available_permits();
        let claimed = tokio::select! {
            () = stopping.cancelled() => break,
            claimed = next_runs(&shared, &mut reader, room) => claimed,
        };
        match claimed {
            Ok(claimed) => {
                pause = PAUSE;
                start(&shared, claimed, slot, &slots, &running);
            }
            Err(error) => {
                tracing::warn!(%error, source = ?std::error::Error::source(&error), "cannot claim runs");
                tokio::select! {
                    () = stopping.cancelled() => break,
                    () = tokio::time::sleep(pause) => {}
                }
                pause = (pause * 2).min(PAUSE_MAX);
            }
        }
    }
    hand_back_unbegun(&shared, &mut reader).await;
    running.close();
    running.wait().await;
}

/// Runs that wait, at once; otherwise the first that comes while the reader
/// waits.
async fn next_runs(
    shared: &Shared,
    reader: &mut QueueReader,
    room: usize,
) -> Result<Vec<Claimed>, StoreError> {
    let tags = &shared.config.tags;
    let waiting = shared.store.claim(tags, shared.worker, room).await?;
    shared.pulse.beat();
    if !waiting.is_empty() {
        return Ok(waiting);
    }
    let mut delivered = unbegun(shared, reader.next().await?);
    shared.pulse.beat();
    if delivered.is_empty() {
        return Ok(Vec::new());
    }
    let too_many = delivered.split_off(delivered.len().min(room));
    if !too_many.is_empty() {
        shared.store.hand_back(&too_many, shared.worker).await?;
    }
    shared.store.begin(&delivered, shared.worker).await
}

/// What was delivered, without what is being executed.
fn unbegun(shared: &Shared, mut delivered: Vec<Delivered>) -> Vec<Delivered> {
    let executed = |entry: &Delivered| entry.run().is_some_and(|run| shared.leases.holds(run));
    delivered.retain(|entry| !executed(entry));
    delivered
}

fn start(
    shared: &Arc<Shared>,
    claimed: Vec<Claimed>,
    slot: OwnedSemaphorePermit,
    slots: &Arc<Semaphore>,
    running: &TaskTracker,
) {
    let mut free = Some(slot);
    for claimed in claimed {
        // Only this task takes permits, and it asked for no more runs than
        // there were.
        let slot = free
            .take()
            .or_else(|| Arc::clone(slots).try_acquire_owned().ok());
        let hold = shared.leases.hold(claimed.lease.clone());
        let shared = Arc::clone(shared);
        running.spawn(async move {
            executor::execute(shared, claimed, hold).await;
            drop(slot);
        });
    }
}

/// Gives back what Redis has delivered to this worker and nobody has begun:
/// the read that was under way when the worker was asked to stop.
async fn hand_back_unbegun(shared: &Shared, reader: &mut QueueReader) {
    reader.disconnect();
    let handed_back = async {
        let delivered = unbegun(shared, reader.next().await?);
        if delivered.is_empty() {
            return Ok(());
        }
        shared.store.hand_back(&delivered, shared.worker).await
    };
    if let Err(error) = handed_back.await {
        let error: StoreError = error;
        tracing::warn!(%error, "cannot give runs back; they go on when their leases expire");
    }
}
