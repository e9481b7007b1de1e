//! How steps begin: which may, which end without being executed, and what an
//! attempt is given.

use std::sync::Arc;

use millstream_shared::{
    flow::{Step, StepKind, expression, step::OnCrash},
    id::StepId,
    run::{StepRecord, StepState},
    store::StoreError,
};
use tokio::time::Instant;

use super::{
    super::{
        attempt::{self, without_attempt},
        patiently,
    },
    Carrying,
};
use crate::{
    mask::Mask,
    steps::{Offer, StepContext, StepError},
};

impl Carrying<'_> {
    /// Starts every step that may start. Steps that are skipped end here, and
    /// let others start.
    pub(super) async fn start_what_may(&mut self) -> Result<(), StoreError> {
        loop {
            let startable = self.progress.startable();
            let mut ended = false;
            for id in startable {
                if self
                    .waiting
                    .get(&id)
                    .is_some_and(|due| *due > Instant::now())
                {
                    continue;
                }
                if self.waits_with_taker(&id) {
                    continue;
                }
                if self.remake_lost(&id) {
                    // Other steps may start instead.
                    ended = true;
                    continue;
                }
                self.waiting.remove(&id);
                let step = self.steps[&id];
                if self.restoring.contains(&id) {
                    self.restore(step);
                } else if self.handles.get(&id).is_some_and(|of| !self.has_failed(of)) {
                    let record = without_attempt(step, None);
                    self.end(step, record);
                    ended = true;
                } else if let Some(record) = self.ends_unstarted(step) {
                    self.store(step, record).await?;
                    ended = true;
                } else {
                    ended |= !self.begin(step).await?;
                }
            }
            if !ended || self.failure.is_some() {
                return Ok(());
            }
        }
    }

    /// Executes a step again for its table, unless that must not be done.
    fn restore(&mut self, step: &Step) {
        match &step.kind {
            StepKind::Command(command) if command.on_crash == OnCrash::Hold => {
                let message = format!(
                    "the table of the step `{}` was lost with a worker, and the step is declared \
                     to be held then",
                    step.id
                );
                self.fail_with("held", message);
            }
            _ => self.start(step),
        }
    }

    fn has_failed(&self, step: &StepId) -> bool {
        self.progress.state_of(step) == Some(StepState::Failed)
    }

    /// The record of a step that ends without being executed: its condition
    /// does not hold, what it needs was skipped, or a table is missing.
    fn ends_unstarted(&self, step: &Step) -> Option<StepRecord> {
        let state = |id: &StepId| self.progress.state_of(id);
        let skipped = |id: &StepId| state(id) == Some(StepState::Skipped);
        let takes = &self.takes[&step.id];
        if takes.iter().any(skipped) {
            return Some(without_attempt(step, None));
        }
        let upstream = self.upstream.get(&step.id);
        let follows_skipped = upstream.is_some_and(|upstream| upstream.iter().any(skipped));
        match &step.when {
            None if follows_skipped => return Some(without_attempt(step, None)),
            None => {}
            Some(when) => match expression::is_true(when, &self.scope.for_step(step)) {
                Ok(true) => {}
                Ok(false) => return Some(without_attempt(step, None)),
                Err(error) => {
                    let message = format!("`when` has no value: {error}");
                    let error = StepError::permanent("expression", message);
                    return Some(without_attempt(step, Some(error)));
                }
            },
        }
        let missing = takes
            .iter()
            .find(|table| !self.feeds.contains_key(*table))?;
        let message = format!("the step `{missing}` has made no table");
        Some(without_attempt(
            step,
            Some(StepError::permanent("no_table", message)),
        ))
    }

    /// Starts the next attempt of a step, or ends the step where it is declared
    /// to be held and a lost worker had begun the attempt. Says whether it
    /// started.
    async fn begin(&mut self, step: &Step) -> Result<bool, StoreError> {
        let held = match &step.kind {
            StepKind::Command(command) if command.on_crash == OnCrash::Hold => {
                let lease = &self.around.hold.lease;
                let store = &self.around.shared.store;
                let attempt = self.attempts.get(&step.id).copied().unwrap_or(0) + 1;
                !patiently(|| store.mark_started(lease, &step.id, attempt)).await?
            }
            _ => false,
        };
        if held {
            let message =
                "a worker was lost while it executed the step, which is declared to be held then";
            let error = StepError::permanent("held", message);
            self.store(step, without_attempt(step, Some(error))).await?;
        } else {
            self.start(step);
        }
        Ok(!held)
    }

    /// Starts an attempt of a step.
    fn start(&mut self, step: &Step) {
        let attempts = self.attempts.entry(step.id.clone()).or_default();
        *attempts += 1;
        let attempt = *attempts;
        let stop = self.giving_up.child_token();
        let offers = self.streams.contains_key(&step.id);
        let offer = offers.then(|| Offer::new(step.id.clone(), self.offer.clone()));
        let context = StepContext {
            run: self.around.hold.lease.run,
            flow: self.around.flow.clone(),
            step: step.id.clone(),
            attempt,
            scope: self.scope.for_step(step),
            mask: Mask::default(),
            feeds: self.feeds_of(&step.id),
            offer,
            cancelled: stop.clone(),
            services: Arc::clone(&self.around.shared.services),
        };
        self.progress.start(step.id.clone());
        self.stops.insert(step.id.clone(), stop);
        tracing::debug!(step = %step.id, attempt, "step starts");
        let step = step.clone();
        let shared = Arc::clone(self.around.shared);
        self.tasks.spawn(async move {
            let attempted = attempt::attempt(&step, context, &shared).await;
            (step.id, attempted)
        });
    }
}
