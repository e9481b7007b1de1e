//! How steps end: what an attempt came to, whether it is tried again, and what
//! is kept.

use std::time::Duration;

use millstream_shared::{
    flow::Step,
    id::StepId,
    run::{StepRecord, StepState},
    store::{Checkpointed, FailedAttempt, StoreError},
};
use tokio::time::Instant;

use super::{
    super::{attempt::Attempted, patiently},
    Carrying, fatal,
};
use crate::tables::Feed;

impl Carrying<'_> {
    /// Notes how an attempt went.
    pub(super) async fn note(
        &mut self,
        id: StepId,
        mut attempted: Attempted,
    ) -> Result<(), StoreError> {
        let step = self.steps[&id];
        let stop = self.stops.remove(&id);
        if attempted.result.is_err() {
            if self.giving_up.is_cancelled() {
                // It was told to give up: it has not failed.
                return Ok(());
            }
            self.stop_makers(&id);
            let is_stopped = stop.is_some_and(|stop| stop.is_cancelled());
            if is_stopped || attempted.is_interrupted() {
                self.starts_over(&id);
                return Ok(());
            }
        }
        if let Some(delay) = attempted.retry_after(step) {
            return self.wait_for_retry(step, &attempted, delay).await;
        }
        let record = attempted.record(step);
        let ended = id.clone();
        let restoring = self.restoring.remove(&id);
        if let Ok(output) = &mut attempted.result
            && let Some(table) = output.table.take()
        {
            self.feeds.insert(id.clone(), Feed::Table(table));
        }
        match &record.error {
            None if restoring => {
                if self.around.lost_values.contains(&id) {
                    self.scope.end(&id, &record);
                }
                self.progress.end(id, StepState::Succeeded);
            }
            Some(error) if restoring => {
                let message = format!(
                    "what step `{id}` handed on had to be made again, since a worker or the attempt of another step was lost: {}",
                    error.message
                );
                self.fail_with(&error.code, message);
            }
            _ => self.store(step, record).await?,
        }
        self.stop_restored(&ended);
        self.drop_feeds();
        Ok(())
    }

    async fn wait_for_retry(
        &mut self,
        step: &Step,
        attempted: &Attempted,
        delay: Duration,
    ) -> Result<(), StoreError> {
        let message = attempted
            .result
            .as_ref()
            .err()
            .map(|error| error.message.as_str());
        tracing::warn!(step = %step.id, attempt = attempted.number, ?delay, message, "step failed, to be tried again");
        let lease = &self.around.hold.lease;
        let store = &self.around.shared.store;
        let failed = FailedAttempt {
            number: attempted.number,
            next_at: self.around.clock.after(delay),
        };
        patiently(|| store.note_attempt(lease, &step.id, failed)).await?;
        self.progress.pause(&step.id);
        self.drop_flow(&step.id);
        self.waiting.insert(step.id.clone(), Instant::now() + delay);
        Ok(())
    }

    /// Stores what a step came to, and goes by what is stored.
    pub(super) async fn store(
        &mut self,
        step: &Step,
        record: StepRecord,
    ) -> Result<(), StoreError> {
        let lease = &self.around.hold.lease;
        let store = &self.around.shared.store;
        let record = match patiently(|| store.checkpoint(lease, &step.id, &record)).await? {
            Checkpointed::Stored => record,
            Checkpointed::CancelRequested => {
                self.around.hold.signals.cancelled.cancel();
                record
            }
            // An answer that was lost: nobody else can store one under this lease.
            Checkpointed::Already(_) => record,
        };
        self.around.hold.made_progress();
        self.end(step, record);
        Ok(())
    }

    pub(super) fn end(&mut self, step: &Step, record: StepRecord) {
        tracing::debug!(step = %step.id, state = ?record.state, rows = record.rows, "step ended");
        if let Some(error) = fatal(step, &record) {
            self.giving_up.cancel();
            self.failure.get_or_insert(error);
        }
        self.scope.end(&step.id, &record);
        self.progress.end(step.id.clone(), record.state);
    }
}
