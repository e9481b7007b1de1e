//! What the owner of a run does with it, in time or too late.

use std::time::Duration;

use millstream_shared::{
    run::{RunOutput, RunState, StepRecord, StepState},
    store::{Beat, Checkpointed, Lease, StoreError},
};
use serde_json::json;

use crate::{operations::RETENTION, world::World};

impl World {
    /// Some lease that was ever given, and whether it should still be good.
    pub(crate) fn some_lease(&mut self) -> Option<(Lease, bool)> {
        let claimed = self.runs_where(|known| !known.leases.is_empty() && !known.destroyed);
        let run = *self.random.pick(&claimed)?;
        let stale = self.random.once_in(3);
        let known = &self.runs[&run];
        let newest = known.leases.last().unwrap();
        let lease = if stale {
            self.random.pick(&known.leases).unwrap()
        } else {
            newest
        };
        let good = known.state == Some(RunState::Running) && lease.epoch == known.epoch.to_string();
        Some((lease.clone(), good))
    }

    pub(crate) async fn finish(&mut self) -> &'static str {
        let Some((lease, good)) = self.some_lease() else {
            return "finish nothing";
        };
        let state = [RunState::Succeeded, RunState::Failed][self.random.below(2)];
        let before = self.runs[&lease.run].state;
        let newest = self.runs[&lease.run].epoch.to_string() == lease.epoch;
        let output = RunOutput::Json("{}".to_owned());
        let finished = self
            .store
            .finish(&lease, state, Some(&output), None, RETENTION)
            .await;
        match finished {
            Ok(()) if good => {
                let known = self.known(lease.run);
                known.finished += 1;
                known.held_by = None;
                "finish"
            }
            // The same word again, as after a lost answer.
            Ok(()) => {
                assert!(
                    newest && before == Some(state),
                    "a stale finish went through"
                );
                "finish again"
            }
            Err(StoreError::LeaseLost) => {
                assert!(!good, "a good finish was fenced");
                "finish fenced"
            }
            Err(error) => panic!("{error}"),
        }
    }

    pub(crate) async fn requeue(&mut self) -> &'static str {
        let Some((lease, good)) = self.some_lease() else {
            return "requeue nothing";
        };
        let delay = [Duration::ZERO, Duration::from_millis(1)][self.random.below(2)];
        match self.store.requeue(&lease, delay, RETENTION).await {
            Ok(()) => {
                assert!(good, "a stale requeue went through");
                let (_, state) = self.store.run_state(lease.run).await.unwrap().unwrap();
                let known = self.known(lease.run);
                known.held_by = None;
                let cancelled = state == RunState::Cancelled;
                assert_eq!(cancelled, known.cancelling, "a wish was passed over");
                "requeue"
            }
            Err(StoreError::LeaseLost) => {
                assert!(!good, "a good requeue was fenced");
                "requeue fenced"
            }
            Err(error) => panic!("{error}"),
        }
    }

    pub(crate) async fn checkpoint(&mut self) -> &'static str {
        let Some((lease, good)) = self.some_lease() else {
            return "checkpoint nothing";
        };
        let step = format!("step{}", self.random.below(3));
        let mark = self.random.next();
        let record = StepRecord {
            state: StepState::Succeeded,
            attempts: 1,
            started_at: 1,
            ended_at: 2,
            value: json!(mark),
            value_at: None,
            table_at: None,
            rows: None,
            rows_in: None,
            bytes: None,
            error: None,
        };
        let stored = self
            .store
            .checkpoint(&lease, &step.parse().unwrap(), &record)
            .await;
        let text = serde_json::to_string(&record).unwrap();
        let steps = &mut self.known(lease.run).steps;
        match stored {
            Ok(Checkpointed::Stored | Checkpointed::CancelRequested) => {
                assert!(good, "a stale checkpoint went through");
                assert_eq!(steps.insert(step, text), None, "a step was stored twice");
                "checkpoint"
            }
            Ok(Checkpointed::Already(earlier)) => {
                assert!(good);
                assert_eq!(steps.get(&step), Some(&earlier));
                "checkpoint already"
            }
            Err(StoreError::LeaseLost) => {
                assert!(!good, "a good checkpoint was fenced");
                "checkpoint fenced"
            }
            Err(error) => panic!("{error}"),
        }
    }

    pub(crate) async fn beat(&mut self) -> &'static str {
        let (_, worker) = self.worker();
        let Some((lease, good)) = self.some_lease() else {
            return "beat nothing";
        };
        let owner = self.runs[&lease.run].held_by;
        // Only the owner beats with a lease that is good.
        let worker = owner.map_or(worker, |owner| self.workers[owner]);
        if good && owner.is_none() {
            return "beat nothing";
        }
        let beats = self
            .store
            .beat(std::slice::from_ref(&lease), worker)
            .await
            .unwrap();
        assert_eq!(
            beats[0] != Beat::Lost,
            good,
            "a beat of a lease that is good: {good}"
        );
        if good {
            self.known(lease.run).aged = false;
        }
        if good { "beat" } else { "beat fenced" }
    }
}
