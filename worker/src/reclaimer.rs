//! Takes runs away from workers that fell silent. Every worker does it, with
//! no lock and no leader: each move is one script.

use std::time::Duration;

use futures::{StreamExt, stream};
use millstream_shared::store::{StoreError, Sweep};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::Shared;

/// How long a consumer without runs is remembered.
const CONSUMERS_KEPT: Duration = Duration::from_secs(3600);

/// How often forgotten consumers are looked for.
const FORGET_EVERY: Duration = Duration::from_secs(60);

/// How many partitions are swept at once.
const SWEEPS_AT_ONCE: usize = 16;

/// Sweeps the queues until `stopping`.
pub(crate) async fn reclaim_until_stopped(shared: &Shared, stopping: CancellationToken) {
    let config = &shared.config;
    let every = (config.lease / 10).clamp(Duration::from_millis(50), Duration::from_secs(2));
    let mut forget_at = Instant::now();
    loop {
        let partitions = stream::iter(0..shared.store.partitions());
        partitions
            .for_each_concurrent(SWEEPS_AT_ONCE, |partition| sweep(shared, partition as u8))
            .await;
        if Instant::now() >= forget_at {
            forget_at = Instant::now() + FORGET_EVERY;
            if let Err(error) = forget_consumers(shared, false).await {
                tracing::warn!(%error, "cannot look for workers that have gone");
            }
        }
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            () = stopping.cancelled() => return,
        }
    }
}

/// One look at all queues of a partition.
async fn sweep(shared: &Shared, partition: u8) {
    let config = &shared.config;
    let sweep = Sweep {
        partition,
        tags: &config.tags,
        lease: config.lease,
        claims_max: config.max_claims,
        retention: config.retention,
    };
    match shared.store.reap(&sweep).await {
        Ok(reaped) => {
            note(reaped.queued, reaped.dead);
            shared.alone.send_if_modified(|alone| {
                let known = &mut alone[usize::from(partition)];
                let is_news = *known != reaped.alone;
                *known = reaped.alone;
                is_news
            });
        }
        Err(error) => tracing::warn!(%error, "cannot look for lost runs"),
    }
}

/// Forgets workers that have gone, and this one where it is `leaving`.
pub(crate) async fn forget_consumers(shared: &Shared, leaving: bool) -> Result<(), StoreError> {
    let tags = &shared.config.tags;
    let leaving = leaving.then_some(shared.worker);
    for partition in 0..shared.store.partitions() {
        let store = &shared.store;
        store
            .forget_consumers(partition as u8, tags, CONSUMERS_KEPT, leaving)
            .await?;
    }
    Ok(())
}

fn note(queued: u64, dead: u64) {
    if queued > 0 {
        tracing::warn!(runs = queued, "took over runs of a silent worker");
        metrics::counter!("millstream_runs_reclaimed_total").increment(queued);
    }
    if dead > 0 {
        tracing::error!(runs = dead, "set runs aside whose workers were lost");
        metrics::counter!("millstream_runs_dead_total").increment(dead);
    }
}
