//! Executes alone what may have killed its workers.
//!
//! A run that was on its way when several workers were lost may be what killed
//! them, or it may only have been beside it. Its last chance it gets on a worker
//! that executes nothing else, until one of its steps has ended or a minute is
//! over: then only the one at fault is set aside.

use std::{sync::Arc, time::Duration};

use millstream_shared::store::StoreError;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{Shared, executor};

/// The turn to make room for a run, which one worker at a time takes.
const TURN: &str = "alone";
const TURN_LASTING: Duration = Duration::from_secs(30);

/// How long a worker executes nothing beside a run at most. One that was only
/// beside what killed its workers may take hours.
const ALONE_MAX: Duration = Duration::from_secs(60);

/// How long to wait after Redis failed, or before looking whether the turn is
/// another worker's still.
const PAUSE: Duration = Duration::from_secs(1);

/// Executes runs that are to be executed alone, one after the other, until
/// `stopping`.
pub(crate) async fn execute_alone_until_stopped(
    shared: &Arc<Shared>,
    slots: &Arc<Semaphore>,
    running: &TaskTracker,
    stopping: &CancellationToken,
) {
    let executing = async {
        let mut waiting = shared.alone.subscribe();
        loop {
            let some = waiting.wait_for(|alone| alone.iter().any(|count| *count > 0));
            let partition = match some.await {
                Ok(alone) => alone.iter().position(|count| *count > 0),
                // The sender lives as long as `shared`.
                Err(_) => None,
            };
            let Some(partition) = partition else {
                return;
            };
            match execute_one(shared, slots, running, partition).await {
                Ok(true) => {}
                Ok(false) => tokio::time::sleep(PAUSE).await,
                Err(error) => {
                    tracing::warn!(%error, "cannot claim runs that are to be executed alone");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    };
    stopping.run_until_cancelled(executing).await;
}

/// Says whether one was there and begun.
async fn execute_one(
    shared: &Arc<Shared>,
    slots: &Arc<Semaphore>,
    running: &TaskTracker,
    partition: usize,
) -> Result<bool, StoreError> {
    let Some(mut all) = all_slots(shared, slots, partition as u8).await? else {
        return Ok(false);
    };
    let (tags, consumer) = (&shared.config.tags, shared.consumer());
    let claimed = shared
        .store
        .claim_alone(partition as u8, tags, consumer)
        .await?;
    // What the last sweep counted is out of date now.
    shared.alone.send_modify(|alone| alone[partition] = 0);
    let Some(claimed) = claimed else {
        return Ok(false);
    };
    tracing::warn!(
        run = %claimed.lease.run,
        claims = claimed.claims,
        "executes a run alone, which was on its way when workers were lost"
    );
    let slot = all.split(1);
    let hold = shared.leases.hold(claimed.lease.clone());
    let others = hold.keep(all);
    let shared = Arc::clone(shared);
    running.spawn(async move {
        let mut executing = std::pin::pin!(executor::execute(shared, claimed, hold));
        if timeout(ALONE_MAX, executing.as_mut()).await.is_err() {
            others.release();
            executing.await;
        }
        drop(slot);
    });
    Ok(true)
}

/// All slots of the worker, at once where it is idle; otherwise when its runs
/// have ended, where it is this worker's turn to wait for that: the others go
/// on taking runs meanwhile.
async fn all_slots(
    shared: &Shared,
    slots: &Arc<Semaphore>,
    partition: u8,
) -> Result<Option<OwnedSemaphorePermit>, StoreError> {
    let all = shared.config.slots as u32;
    if let Ok(permits) = Arc::clone(slots).try_acquire_many_owned(all) {
        return Ok(Some(permits));
    }
    let mut waiting = std::pin::pin!(Arc::clone(slots).acquire_many_owned(all));
    // A worker that is idle may have taken what waits meanwhile.
    while shared.alone.borrow()[usize::from(partition)] > 0 {
        let (store, worker) = (&shared.store, shared.worker);
        if !store
            .take_turn(partition, TURN, worker, TURN_LASTING)
            .await?
        {
            return Ok(None);
        }
        if let Ok(permits) = timeout(TURN_LASTING / 3, waiting.as_mut()).await {
            return Ok(Some(permits.expect("the semaphore is never closed")));
        }
    }
    Ok(None)
}
