//! Queues runs when they are due. Every worker does it; a run is queued once.

use std::time::Duration;

use millstream_shared::store::Store;
use tokio_util::sync::CancellationToken;

/// How late a run may be queued that was delayed after the last look.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Queues runs that are due until `stopping`.
pub(crate) async fn promote_until_stopped(store: Store, stopping: CancellationToken) {
    loop {
        let pause = match store.promote().await {
            Ok((due, next)) => {
                if due > 0 {
                    tracing::debug!(due, "queued runs that were due");
                }
                next.map_or(LOOK_EVERY, |next| next.min(LOOK_EVERY))
            }
            Err(error) => {
                tracing::warn!(%error, "cannot queue runs that are due");
                LOOK_EVERY
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stopping.cancelled() => return,
        }
    }
}
