//! Takes runs off the queues, never more than there are free slots. Each
//! partition has a claimer of its own, and all of them share the slots.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use millstream_shared::{
    run::Turns,
    store::{Claimed, Delivered, QueueReader, StoreError},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{Shared, executor, isolation, pulse::Pulse};

/// How long one read of the queue waits for a run at most.
const BLOCK_MAX: Duration = Duration::from_secs(2);

/// How many runs are claimed in one script, so that it stays short.
const CLAIMED_MAX: usize = 64;

/// How long to wait after Redis failed, at first and at most.
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// Claims runs and executes them until `stopping`; returns when what was
/// claimed has ended or was given back.
pub(crate) async fn claim_until_stopped(shared: Arc<Shared>, stopping: CancellationToken) {
    let slots = Arc::new(Semaphore::new(shared.config.slots));
    let running = TaskTracker::new();
    let claiming = (0..shared.store.partitions()).map(|partition| {
        let claimer = Claimer::new(&shared, partition as u8, &slots, &running);
        claimer.claim(&stopping)
    });
    let alone = isolation::execute_alone_until_stopped(&shared, &slots, &running, &stopping);
    tokio::join!(join_all(claiming), alone);
    running.close();
    running.wait().await;
}

/// Claims the runs of one partition.
struct Claimer<'w> {
    shared: &'w Arc<Shared>,
    partition: u8,
    pulse: &'w Pulse,
    reader: QueueReader,
    turns: Turns,
    /// Whether this worker may have been given runs that it does not know of.
    unsure: bool,
    slots: &'w Arc<Semaphore>,
    running: &'w TaskTracker,
}

impl<'w> Claimer<'w> {
    fn new(
        shared: &'w Arc<Shared>,
        partition: u8,
        slots: &'w Arc<Semaphore>,
        running: &'w TaskTracker,
    ) -> Self {
        let config = &shared.config;
        // A read that outlives the lease could be handed a run after this worker
        // froze, just when others have taken that run away from it.
        let block = BLOCK_MAX.min(config.lease / 2);
        Self {
            partition,
            pulse: &shared.pulses[usize::from(partition)],
            reader: shared
                .store
                .queue_reader(partition, &config.tags, shared.worker, block),
            turns: Turns::default(),
            unsure: false,
            shared,
            slots,
            running,
        }
    }

    async fn claim(mut self, stopping: &CancellationToken) {
        let mut pause = PAUSE;
        loop {
            // Wait for room before asking for work: a run that is claimed and
            // then kept waiting here is a run that no other worker can take.
            let slots = tokio::select! {
                () = stopping.cancelled() => break,
                slots = self.free_slots() => slots,
            };
            let claimed = tokio::select! {
                () = stopping.cancelled() => break,
                claimed = self.next_runs(slots) => claimed,
            };
            match claimed {
                Ok(()) => pause = PAUSE,
                Err(error) => {
                    tracing::warn!(%error, source = ?std::error::Error::source(&error), "cannot claim runs");
                    // It may have claimed some, and only the answer got lost.
                    self.reader.disconnect();
                    self.unsure = true;
                    tokio::select! {
                        () = stopping.cancelled() => break,
                        () = tokio::time::sleep(pause) => {}
                    }
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
        }
        self.hand_back_unbegun().await;
    }

    /// At least one slot, and those that are free beside it.
    async fn free_slots(&self) -> OwnedSemaphorePermit {
        if let Some(slots) = self.slots_free_now(CLAIMED_MAX) {
            return slots;
        }
        self.pulse.rest();
        let slot = Arc::clone(self.slots).acquire_owned().await;
        self.pulse.beat();
        let mut slots = slot.expect("the semaphore is never closed");
        if let Some(more) = self.slots_free_now(CLAIMED_MAX - 1) {
            slots.merge(more);
        }
        slots
    }

    fn slots_free_now(&self, most: usize) -> Option<OwnedSemaphorePermit> {
        let free = self.slots.available_permits().min(most);
        if free == 0 {
            return None;
        }
        let slots = Arc::clone(self.slots);
        slots.try_acquire_many_owned(free as u32).ok()
    }

    /// Begins runs that wait, at once; otherwise the first that comes while the
    /// reader waits.
    async fn next_runs(&mut self, slots: OwnedSemaphorePermit) -> Result<(), StoreError> {
        if self.unsure {
            drop(slots);
            let delivered = self.reader.next().await?;
            self.pulse.beat();
            self.begin(delivered).await?;
            self.unsure = false;
            return Ok(());
        }
        let (partition, consumer) = (self.partition, self.shared.consumer());
        let store = &self.shared.store;
        let (order, rotation) = self.turns.take();
        let mut tags = self.shared.config.tags.clone();
        let rotation = rotation % tags.len();
        tags.rotate_left(rotation);
        let room = slots.num_permits();
        let waiting = store.claim(partition, &tags, order, consumer, room).await?;
        self.pulse.beat();
        if !waiting.is_empty() {
            self.start(waiting, slots);
            return Ok(());
        }
        // While this claimer waits, others may need the slots.
        drop(slots);
        let delivered = self.reader.next().await?;
        self.pulse.beat();
        self.begin(delivered).await
    }

    /// Begins what was delivered, as far as there is room.
    async fn begin(&self, delivered: Vec<Delivered>) -> Result<(), StoreError> {
        let (partition, consumer) = (self.partition, self.shared.consumer());
        let store = &self.shared.store;
        let mut delivered = self.unbegun(delivered);
        if delivered.is_empty() {
            return Ok(());
        }
        // What is to be executed alone cannot be begun beside others.
        delivered.sort_by_key(Delivered::is_for_one_alone);
        let alone = delivered.partition_point(|entry| !entry.is_for_one_alone());
        let slots = self.slots_free_now(alone);
        let room = slots.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let too_many = delivered.split_off(room);
        if !too_many.is_empty() {
            store.hand_back(partition, &too_many, consumer).await?;
        }
        if let Some(slots) = slots {
            let claimed = store.begin(partition, &delivered, consumer).await?;
            self.start(claimed, slots);
        }
        Ok(())
    }

    /// What was delivered, without what is being executed.
    fn unbegun(&self, mut delivered: Vec<Delivered>) -> Vec<Delivered> {
        let leases = &self.shared.leases;
        let executed = |entry: &Delivered| entry.run().is_some_and(|run| leases.holds(run));
        delivered.retain(|entry| !executed(entry));
        delivered
    }

    /// Executes runs, no more than there are slots.
    fn start(&self, claimed: Vec<Claimed>, mut slots: OwnedSemaphorePermit) {
        for claimed in claimed {
            let slot = slots.split(1);
            let hold = self.shared.leases.hold(claimed.lease.clone());
            let shared = Arc::clone(self.shared);
            self.running.spawn(async move {
                executor::execute(shared, claimed, hold).await;
                drop(slot);
            });
        }
    }

    /// Gives back what Redis has delivered to this worker and nobody has begun:
    /// the read that was under way when the worker was asked to stop.
    async fn hand_back_unbegun(&mut self) {
        self.reader.disconnect();
        let delivered = self.reader.next().await;
        let handed_back = match delivered.map(|delivered| self.unbegun(delivered)) {
            Ok(delivered) if delivered.is_empty() => Ok(()),
            Ok(delivered) => {
                let (partition, consumer) = (self.partition, self.shared.consumer());
                let store = &self.shared.store;
                store.hand_back(partition, &delivered, consumer).await
            }
            Err(error) => Err(error),
        };
        if let Err(error) = handed_back {
            tracing::warn!(%error, "cannot give runs back; they go on when their leases expire");
        }
    }
}
