//! Deletes artifacts that no run refers to: those of runs whose records have
//! expired, and what workers left behind that were killed or lost a run.

use std::time::Duration;

use futures::{StreamExt, stream::BoxStream};
use millstream_shared::{
    artifacts::{ArtifactError, Artifacts},
    run::Written,
    store::StoreError,
};
use tokio_util::sync::CancellationToken;

use crate::Shared;

/// How many artifacts are looked at in one go, and how long to wait before more.
const LOOKED_AT_PER_ROUND: usize = 500;
const PAUSE: Duration = Duration::from_millis(200);

/// The names of artifacts that are still to be looked at.
type Names = BoxStream<'static, Result<String, ArtifactError>>;

/// Why a round broke off.
#[derive(Debug, thiserror::Error)]
enum SweepError {
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl SweepError {
    fn is_passing(&self) -> bool {
        match self {
            Self::Artifact(error) => error.is_passing(),
            Self::Store(error) => error.is_passing(),
        }
    }
}

/// Looks at all artifacts, some at a time, again and again with a pause in
/// between, until `stopping`. One worker does it at a time.
pub(crate) async fn sweep_until_stopped(shared: &Shared, stopping: CancellationToken) {
    let Some(artifacts) = &shared.artifacts else {
        return;
    };
    let every = shared.config.artifacts_sweep_every;
    let mut names = None;
    let mut pause = every;
    while stopping
        .run_until_cancelled(tokio::time::sleep(pause))
        .await
        .is_some()
    {
        let round = sweep(shared, artifacts, &mut names);
        let Some(swept) = stopping.run_until_cancelled(round).await else {
            return;
        };
        match swept {
            Ok(deleted) if deleted > 0 => {
                tracing::info!(artifacts = deleted, "deleted what no run refers to");
                metrics::counter!("millstream_artifacts_swept_total").increment(deleted);
            }
            Ok(_) => {}
            Err(error) => {
                names = None;
                tracing::warn!(%error, "cannot look after artifacts");
            }
        }
        pause = if names.is_some() { PAUSE } else { every };
    }
}

/// Looks at some of the artifacts, and says how many were deleted. Leaves in
/// `names` what is still to be looked at; nothing where all were, or where it is
/// another worker's turn.
async fn sweep(
    shared: &Shared,
    artifacts: &Artifacts,
    names: &mut Option<Names>,
) -> Result<u64, SweepError> {
    // Twice the pause, so that whoever does it goes on doing it.
    let lasting = shared.config.artifacts_sweep_every * 2;
    let store = &shared.store;
    if !store.take_turn(0, "sweep", shared.worker, lasting).await? {
        *names = None;
        return Ok(0);
    }
    if !store.is_same_service().await? {
        tracing::warn!("redis was emptied or exchanged: what is kept is not judged by it");
        *names = None;
        return Ok(0);
    }
    let mut left = names.take().unwrap_or_else(|| artifacts.list());
    let mut deleted = 0;
    for _ in 0..LOOKED_AT_PER_ROUND {
        let Some(name) = left.next().await else {
            return Ok(deleted);
        };
        let name = name?;
        // What somebody else put there is left alone.
        let Some(written) = Written::by(&name) else {
            continue;
        };
        match delete_orphan(shared, artifacts, &name, &written).await {
            Ok(was_one) => deleted += u64::from(was_one),
            Err(error) if error.is_passing() => return Err(error),
            // One that stays must not keep the others.
            Err(error) => tracing::warn!(name, %error, "an artifact cannot be judged or deleted"),
        }
    }
    *names = Some(left);
    Ok(deleted)
}

/// Deletes an artifact that no run refers to, and says whether it was one.
async fn delete_orphan(
    shared: &Shared,
    artifacts: &Artifacts,
    name: &str,
    written: &Written,
) -> Result<bool, SweepError> {
    let is_orphan = shared.store.is_orphan(name, written).await?;
    if is_orphan {
        artifacts.delete(name).await?;
        tracing::debug!(name, "deleted an artifact");
    }
    Ok(is_orphan)
}
