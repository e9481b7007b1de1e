//! Finds runs that are not where their state says, and puts them where they can
//! go on. Nothing of ours loses a run; but a person can delete a stream, a
//! group or a consumer, and a server that took over may lack the last writes.

use std::time::Duration;

use millstream_shared::store::{OpenRuns, Store};
use tokio_util::sync::CancellationToken;

/// How long to wait between two looks at some of the runs.
const PAUSE: Duration = Duration::from_millis(50);

/// Looks at all runs that have not ended, some at a time, again and again with
/// a pause of `every` in between, until `stopping`. Any number of workers may.
pub(crate) async fn heal_until_stopped(
    store: &Store,
    every: Duration,
    stopping: CancellationToken,
) {
    let mut place = OpenRuns::default();
    let mut pause = every;
    while stopping
        .run_until_cancelled(tokio::time::sleep(pause))
        .await
        .is_some()
    {
        match store.heal_some(&mut place).await {
            Ok((faults, round)) => {
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
