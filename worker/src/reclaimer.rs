//! Takes runs away from workers that fell silent. Every worker does it, with
//! no lock and no leader: each move is one script.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::Shared;

/// How long a consumer without runs is remembered.
pub(crate) const CONSUMERS_KEPT: Duration = Duration::from_secs(3600);

/// How often forgotten consumers are looked for.
const FORGET_EVERY: Duration = Duration::from_secs(60);

/// Sweeps the queues until `stopping`.
pub(crate) async fn reclaim_until_stopped(shared: &Shared, stopping: CancellationToken) {
    let config = &shared.config;
    let every = (config.lease / 10).clamp(Duration::from_millis(50), Duration::from_secs(2));
    let mut cursors = HashMap::new();
    let mut forget_at = Instant::now();
    loop {
        for tag in &config.tags {
            let cursor = cursors.entry(tag).or_insert_with(|| "0-0".to_owned());
            let sweep = shared.store.reap(
                tag,
                shared.worker,
                config.lease,
                cursor,
                config.max_claims,
                config.retention,
            );
            match sweep.await {
                Ok(reaped) => {
                    note(reaped.queued, reaped.dead);
                    *cursor = reaped.cursor;
                }
                Err(error) => tracing::warn!(%error, "cannot look for lost runs"),
            }
        }
        if Instant::now() >= forget_at {
            forget_at = Instant::now() + FORGET_EVERY;
            let forget = shared
                .store
                .forget_consumers(&config.tags, CONSUMERS_KEPT, None);
            if let Err(error) = forget.await {
                tracing::warn!(%error, "cannot look for workers that have gone");
            }
        }
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            () = stopping.cancelled() => return,
        }
    }
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
