//! Takes runs away from workers that fell silent. Every worker does it, with
//! no lock and no leader: each move is one script.

use std::{collections::HashMap, time::Duration};

use millstream_shared::{
    run::Priority,
    store::{StoreError, Sweep},
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::Shared;

/// How long a consumer without runs is remembered.
const CONSUMERS_KEPT: Duration = Duration::from_secs(3600);

/// How often forgotten consumers are looked for.
const FORGET_EVERY: Duration = Duration::from_secs(60);

/// Sweeps the queues until `stopping`.
pub(crate) async fn reclaim_until_stopped(shared: &Shared, stopping: CancellationToken) {
    let config = &shared.config;
    let every = (config.lease / 10).clamp(Duration::from_millis(50), Duration::from_secs(2));
    let mut cursors = HashMap::new();
    let mut forget_at = Instant::now();
    loop {
        for sweep in sweeps(shared) {
            let queue = (sweep.partition, sweep.tag.clone(), sweep.priority);
            let cursor = cursors.entry(queue).or_insert_with(|| "0-0".to_owned());
            match shared.store.reap(&sweep, cursor).await {
                Ok(reaped) => {
                    note(reaped.queued, reaped.dead);
                    *cursor = reaped.cursor;
                }
                Err(error) => tracing::warn!(%error, "cannot look for lost runs"),
            }
        }
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

/// One look at each queue.
fn sweeps(shared: &Shared) -> impl Iterator<Item = Sweep<'_>> {
    let config = &shared.config;
    let partitions = 0..shared.store.partitions();
    let queues = partitions.flat_map(move |partition| {
        let tags = config.tags.iter();
        tags.flat_map(move |tag| Priority::ALL.map(|priority| (partition, tag, priority)))
    });
    queues.map(move |(partition, tag, priority)| Sweep {
        partition: partition as u8,
        tag,
        priority,
        worker: shared.worker,
        lease: config.lease,
        claims_max: config.max_claims,
        retention: config.retention,
    })
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
