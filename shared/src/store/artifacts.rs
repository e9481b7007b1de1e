//! What the records of runs say of artifacts: which output is kept where, and
//! whether anything refers to an artifact.

use redis::{Value, from_redis_value};

use super::{Store, StoreError, keys};
use crate::{
    id::{FlowId, RunId},
    run::{Artifact, RunOutput, RunState, StepRecord, Written},
};

/// What is known of a run that somebody asks the output of.
#[derive(Clone, Debug)]
pub struct Handed {
    /// Its flow.
    pub flow: FlowId,
    /// Where it stands.
    pub state: RunState,
    /// What it handed back, if it has.
    pub output: Option<RunOutput>,
}

impl Store {
    /// What a run handed back; nothing where there is no such run.
    ///
    /// # Errors
    /// Fails where Redis does, or where the record is not one of a run.
    pub async fn output(&self, run: RunId) -> Result<Option<Handed>, StoreError> {
        let key = self.of(run).run(run);
        let corrupt = || StoreError::corrupt(&*key, "the record of a run");
        let found = self.fields(run, &["state", "flow", "output", "output_at"]);
        let [Some(state), Some(flow), output, output_at] = &found.await?[..] else {
            return Ok(None);
        };
        let kept = output_at.as_deref().map(serde_json::from_str).transpose();
        let kept: Option<Artifact> = kept.map_err(|_| corrupt())?;
        let output = output.clone().map(RunOutput::Json);
        Ok(Some(Handed {
            flow: flow.parse().map_err(|_| corrupt())?,
            state: state.parse().map_err(|_| corrupt())?,
            output: output.or(kept.map(RunOutput::Kept)),
        }))
    }

    /// Whether Redis still holds what it held at the start: one that was emptied
    /// or exchanged knows nothing of what is kept elsewhere.
    ///
    /// # Errors
    /// Fails where Redis does.
    pub async fn is_same_service(&self) -> Result<bool, StoreError> {
        let mut read = redis::cmd("HGET");
        read.arg(keys::META).arg("service");
        let service: Option<String> = self.registry().link().ask(&read).await?;
        Ok(service.as_deref() == Some(self.service()))
    }

    /// Whether nothing refers to the artifact `name`, and nothing will: its run is
    /// gone, or whoever wrote it lost the run before it stored a reference.
    ///
    /// # Errors
    /// Fails where Redis does. A record that does not read counts as one that may
    /// refer to it.
    pub async fn is_orphan(&self, name: &str, written: &Written) -> Result<bool, StoreError> {
        // In this order: once the run is another one's or has ended, no reference
        // is stored any more, so that the record of the step is the last word.
        let found = self.fields(written.run, &["state", "epoch", "output_at"]);
        let [state, epoch, output_at] = &found.await?[..] else {
            return Ok(false);
        };
        let run = match (state, epoch) {
            (None, None) => return Ok(true),
            (Some(state), Some(epoch)) => state.parse().ok().zip(epoch.parse().ok()),
            _ => None,
        };
        let Some(run) = run else {
            return Ok(false);
        };
        if written.may_be_referred_to(Some(run)) {
            return Ok(false);
        }
        let is_it = |artifact: &Artifact| artifact.name == name;
        let Some(step) = &written.step else {
            let output: Option<Artifact> = output_at
                .as_deref()
                .and_then(|text| serde_json::from_str(text).ok());
            return Ok(!output.is_some_and(|output| is_it(&output)));
        };
        let partition = self.of(written.run);
        let mut read = redis::cmd("HGET");
        read.arg(partition.steps(written.run)).arg(step.as_str());
        let record: Option<String> = partition.link().ask(&read).await?;
        let Some(record) = record else {
            return Ok(true);
        };
        let Ok(record) = serde_json::from_str::<StepRecord>(&record) else {
            return Ok(false);
        };
        let referred_to = [&record.value_at, &record.table_at];
        Ok(!referred_to.into_iter().flatten().any(is_it))
    }

    async fn fields(&self, run: RunId, names: &[&str]) -> Result<Vec<Option<String>>, StoreError> {
        let partition = self.of(run);
        let key = partition.run(run);
        let mut read = redis::cmd("HMGET");
        read.arg(&key).arg(names);
        let corrupt = || StoreError::corrupt(&*key, "the record of a run");
        let answer: Value = match partition.link().ask(&read).await {
            Err(error) if error.code() == Some("WRONGTYPE") => return Err(corrupt()),
            answer => answer?,
        };
        from_redis_value(answer).map_err(|_| corrupt())
    }
}

/// A reference to an artifact, as records hold it.
pub(super) fn reference(artifact: &Artifact) -> String {
    serde_json::json!(artifact).to_string()
}
