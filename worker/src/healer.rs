//! Finds runs that are not where their state says, and puts them where they can
//! go on. Nothing of ours loses a run; but a person can delete a stream, a
//! group or a consumer, and a server that took over may lack the last writes.

use std::time::Duration;

use millstream_shared::{
    id::ProcessId,
    store::{Fault, RunsLookedAt, Store, StoreError},
};
use tokio_util::sync::CancellationToken;

/// How long to wait between two looks at some of the runs.
const PAUSE: Duration = Duration::from_millis(50);

/// Looks at all runs that have not ended, some at a time, again and again with
/// a pause of `every` in between, until `stopping`. One worker does it at a time.
pub(crate) async fn heal_until_stopped(
    store: &Store,
    worker: ProcessId,
    every: Duration,
    stopping: CancellationToken,
) {
    let mut place = RunsLookedAt::default();
    let mut pause = every;
    while stopping
        .run_until_cancelled(tokio::time::sleep(pause))
        .await
        .is_some()
    {
        match heal(store, worker, every, &mut place).await {
            Ok(None) => pause = every,
            Ok(Some((faults, round))) => {
                pause = if round { every } else { PAUSE };
                for fault in &faults {
                    tracing::warn!(run = fault.subject, what = fault.what, "mended a run");
                }
                metrics::counter!("millstream_runs_mended_total").increment(faults.len() as u64);
            }
            Err(error) => {
                pause = every;
                tracing::warn!(%error, "cannot look after open runs");
            }
        }
    }
}

/// What was mended, and whether all was looked at, where it is this worker's turn.
async fn heal(
    store: &Store,
    worker: ProcessId,
    every: Duration,
    place: &mut RunsLookedAt,
) -> Result<Option<(Vec<Fault>, bool)>, StoreError> {
    // Twice the pause, so that whoever does it goes on doing it.
    if !store.take_turn(0, "heal", worker, every * 2).await? {
        return Ok(None);
    }
    store.heal_some(place).await.map(Some)
}
