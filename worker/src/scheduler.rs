//! Queues runs when they are due. Every worker does it; a run is queued once.

use std::time::Duration;

use millstream_shared::store::Store;
use tokio_util::sync::CancellationToken;

/// How late a run may be queued that was delayed after the last look.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Queues runs that are due until `stopping`. The record of one that ends then
/// for want of room is kept for `retention`.
pub(crate) async fn promote_until_stopped(
    store: &Store,
    retention: Duration,
    stopping: CancellationToken,
) {
    loop {
        let mut pause = LOOK_EVERY;
        for partition in 0..store.partitions() {
            match store.promote(partition as u8, retention).await {
                Ok((due, next)) => {
                    if due > 0 {
                        tracing::debug!(due, "queued runs that were due");
                    }
                    pause = next.map_or(pause, |next| next.min(pause));
                }
                Err(error) => tracing::warn!(%error, "cannot queue runs that are due"),
            }
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stopping.cancelled() => return,
        }
    }
}
