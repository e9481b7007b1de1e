//! What is kept of a run outside of Redis: put there before the record refers
//! to it, and brought back for whoever goes on with the run.

use std::{
    collections::BTreeSet,
    error::Error,
    io::{self, Seek},
    time::Duration,
};

use futures::{StreamExt, stream};
use millstream_shared::{
    artifacts::{ArtifactError, Artifacts},
    byte_size::ByteSize,
    flow::Step,
    id::StepId,
    run::{Artifact, Holds, RunOutput},
    store::{Checkpoints, Lease},
};
use serde_json::Value;
use tokio::{
    fs::File,
    io::AsyncWriteExt,
    sync::mpsc,
    time::{Instant, sleep},
};

use crate::{
    Shared,
    steps::{StepError, StepOutput},
    tables::{self, Table, TableError},
};

/// What is larger leaves Redis for the artifact store, where there is one.
const INLINE_BYTES_MAX: usize = 64 * 1024;

/// How large the value of a step and the output of a run may be where Redis has
/// to hold them.
const VALUE_BYTES_MAX: ByteSize = ByteSize::of(1024 * 1024);
const OUTPUT_BYTES_MAX: ByteSize = ByteSize::of(256 * 1024);

/// How long to wait before the artifact store is asked again.
const PAUSE: Duration = Duration::from_secs(1);

/// How many pieces of a table wait to be taken by the artifact store.
const CHUNKS_WAITING: usize = 4;

/// Where parts of what a step handed on are kept.
#[derive(Clone, Debug, Default)]
pub(super) struct Kept {
    pub(super) value: Option<Artifact>,
    pub(super) table: Option<Artifact>,
}

/// Why something could not be kept or brought back.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeepError {
    /// This worker has no artifact store.
    #[error("{0}, and this worker was started without MILLSTREAM_ARTIFACTS")]
    NoStore(String),
    /// The artifact store failed.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    /// The table could not be written or read.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The table could not be put down in the work folder.
    #[error("--work-folder cannot hold a table that was kept: {0}")]
    WorkFolder(#[from] io::Error),
    /// What was kept is not what it should be.
    #[error("`{0}` in the artifact store is not the value of a step")]
    NoValue(String),
}

impl KeepError {
    fn is_passing(&self) -> bool {
        match self {
            Self::Artifact(error) => error.is_passing(),
            Self::Table(error) => matches!(error, TableError::Full { .. }),
            Self::WorkFolder(_) => true,
            Self::NoStore(_) | Self::NoValue(_) => false,
        }
    }

    /// Whether it has to be made again.
    pub(super) fn is_lost(&self) -> bool {
        match self {
            Self::Artifact(error) => error.is_lost(),
            Self::NoValue(_) => true,
            Self::NoStore(_) | Self::Table(_) | Self::WorkFolder(_) => false,
        }
    }

    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::NoStore(_) => "no_artifact_store",
            Self::Artifact(ArtifactError::Unavailable { .. }) => "artifact_store_unavailable",
            Self::Artifact(ArtifactError::Full { .. }) => "artifact_store_full",
            Self::Artifact(ArtifactError::Refused { .. }) => "artifact_store_refused",
            Self::Artifact(_) | Self::NoValue(_) => "artifact_lost",
            Self::Table(error) => error.code(),
            Self::WorkFolder(_) => "work_folder_failed",
        }
    }
}

impl From<KeepError> for StepError {
    /// The step did what it should, so another attempt would not help.
    fn from(error: KeepError) -> Self {
        Self::permanent(error.code(), error.to_string())
    }
}

/// Keeps of what a step hands on what does not fit into Redis, and what may not
/// be made again.
pub(super) async fn keep(
    step: &Step,
    lease: &Lease,
    attempt: u32,
    output: &StepOutput,
    shared: &Shared,
) -> Result<Kept, StepError> {
    let mut kept = Kept::default();
    let json = output.value.to_string();
    let store = shared.artifacts.as_ref();
    let (limit, setting) = match store {
        Some(_) => (shared.config.value_size, "--value-size"),
        None => (VALUE_BYTES_MAX, "a worker without MILLSTREAM_ARTIFACTS"),
    };
    if json.len() as u64 > limit.bytes() {
        let message = format!(
            "the value of the step has more than the {limit} of JSON that {setting} allows"
        );
        return Err(StepError::permanent("value_too_large", message));
    }
    let Some(store) = store else {
        return Ok(kept);
    };
    let step_id = &step.id;
    if json.len() > INLINE_BYTES_MAX {
        let holds = Holds::Value {
            step: step_id,
            attempt,
        };
        let name = holds.name(lease.run, &lease.epoch);
        kept.value = Some(put_json(store, &name, json, shared).await?);
    }
    if let Some(table) = output.table.as_ref().filter(|_| step.keeps_table()) {
        let holds = Holds::Table {
            step: step_id,
            attempt,
        };
        let name = holds.name(lease.run, &lease.epoch);
        let put = || put_table(store, &name, table, shared);
        kept.table = Some(with_patience(shared, put).await?);
    }
    Ok(kept)
}

/// Where the output of a run goes: into its record, or into the artifact store.
pub(super) async fn keep_output(
    json: String,
    lease: &Lease,
    shared: &Shared,
) -> Result<RunOutput, KeepError> {
    let store = shared.artifacts.as_ref();
    match store.filter(|_| json.len() > INLINE_BYTES_MAX) {
        None => Ok(RunOutput::Json(json)),
        Some(store) => {
            let name = Holds::Output.name(lease.run, &lease.epoch);
            let artifact = put_json(store, &name, json, shared).await?;
            Ok(RunOutput::Kept(artifact))
        }
    }
}

/// How large an output may be, and what says so.
pub(super) fn output_limit(shared: &Shared) -> (ByteSize, &'static str) {
    match shared.artifacts {
        Some(_) => (shared.config.output_size, "--output-size"),
        None => (OUTPUT_BYTES_MAX, "a worker without MILLSTREAM_ARTIFACTS"),
    }
}

/// Brings back the values of steps that are kept outside of their records. Those
/// that are lost stay missing, and are named.
pub(super) async fn bring_values(
    checkpoints: &mut Checkpoints,
    shared: &Shared,
) -> Result<BTreeSet<StepId>, KeepError> {
    let mut lost = BTreeSet::new();
    for (step, record) in &mut checkpoints.ended {
        let Some(artifact) = &record.value_at else {
            continue;
        };
        match value(artifact, shared).await {
            Ok(value) => record.value = value,
            Err(error) if error.is_lost() => {
                tracing::warn!(%step, %error, "the value of a step is lost, it is executed again");
                lost.insert(step.clone());
            }
            Err(error) => return Err(error),
        }
    }
    Ok(lost)
}

/// A value that is kept.
pub(super) async fn value(artifact: &Artifact, shared: &Shared) -> Result<Value, KeepError> {
    let store = store_of(artifact, shared)?;
    let read = || async { Ok(store.read(artifact).await?) };
    let json = with_patience(shared, read).await?;
    serde_json::from_slice(&json).map_err(|_| KeepError::NoValue(artifact.name.clone()))
}

/// A table that is kept.
pub(super) async fn table(artifact: &Artifact, shared: &Shared) -> Result<Table, KeepError> {
    let store = store_of(artifact, shared)?;
    with_patience(shared, || get_table(store, artifact, shared)).await
}

fn store_of<'s>(artifact: &Artifact, shared: &'s Shared) -> Result<&'s Artifacts, KeepError> {
    let lacking = || {
        let name = &artifact.name;
        KeepError::NoStore(format!(
            "the run needs `{name}` out of the artifact store to go on"
        ))
    };
    shared.artifacts.as_ref().ok_or_else(lacking)
}

async fn put_json(
    store: &Artifacts,
    name: &str,
    json: String,
    shared: &Shared,
) -> Result<Artifact, KeepError> {
    let json = bytes::Bytes::from(json);
    let put = || async {
        let whole = stream::iter([Ok(json.clone())]);
        Ok(store.put(name.to_owned(), whole).await?)
    };
    with_patience(shared, put).await
}

async fn put_table(
    store: &Artifacts,
    name: &str,
    table: &Table,
    shared: &Shared,
) -> Result<Artifact, KeepError> {
    let (sender, receiver) = mpsc::channel(CHUNKS_WAITING);
    let table = table.clone();
    let engine = &shared.services.tables;
    let writing = engine.on_files(move |work| tables::to_chunks(&table, sender, work));
    let chunks = stream::unfold(receiver, async |mut receiver| {
        let chunk = receiver.recv().await?;
        Some((chunk, receiver))
    });
    let putting = store.put(name.to_owned(), chunks);
    match tokio::join!(writing, putting) {
        (Ok(()), Ok(artifact)) => Ok(artifact),
        // What was to be put there is at fault, or else the one that took it.
        (Err(error), Ok(_) | Err(ArtifactError::Source(_))) => Err(error.into()),
        (_, Err(error)) => Err(error.into()),
    }
}

/// The artifact is put down on the disk first, and looked at only when it is
/// known to be whole: what is damaged could say that it takes any memory.
async fn get_table(
    store: &Artifacts,
    artifact: &Artifact,
    shared: &Shared,
) -> Result<Table, KeepError> {
    let mut chunks = store.get(artifact).await?;
    let mut file = File::from_std(shared.services.work_folder.for_table()?);
    while let Some(chunk) = chunks.next().await {
        file.write_all(&chunk?).await?;
    }
    file.flush().await?;
    let mut file = file.into_std().await;
    file.rewind()?;
    let engine = &shared.services.tables;
    let table = engine.on_files(move |work| tables::from_file(file, work));
    Ok(table.await?)
}

/// Asks until it goes well, as long as a failure may pass and the patience of
/// this worker lasts. The lease of the run is kept meanwhile.
async fn with_patience<T, F>(shared: &Shared, ask: impl Fn() -> F) -> Result<T, KeepError>
where
    F: Future<Output = Result<T, KeepError>>,
{
    let until = Instant::now() + shared.config.artifacts_patience;
    loop {
        match ask().await {
            Err(error) if error.is_passing() && Instant::now() + PAUSE < until => {
                let cause = cause_of(&error);
                tracing::warn!(%error, cause, "an artifact cannot be kept or had, trying again");
                sleep(PAUSE).await;
            }
            answer => return answer,
        }
    }
}

/// What an error came from at last: for the log only, since it may name what is
/// nobody else's business.
fn cause_of(error: &dyn Error) -> Option<String> {
    let mut cause = error.source()?;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    Some(cause.to_string())
}
