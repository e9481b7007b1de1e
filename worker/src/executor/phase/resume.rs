//! How a set of steps goes on from where it was left: what had ended stays, and
//! what was handed on is brought back or made again.

use millstream_shared::{
    flow::Step,
    id::StepId,
    run::{Artifact, StepState},
};

use super::{
    super::kept::{self, KeepError},
    Came, Carrying, fatal,
};
use crate::tables::{Feed, Table};

impl Carrying<'_> {
    /// Takes over what had ended before.
    pub(super) fn resume(&mut self) {
        let around = self.around;
        let ended = &around.checkpoints.ended;
        for (id, failed) in &around.checkpoints.attempts {
            let on_its_way = self.steps.contains_key(id) && !ended.contains_key(id);
            if on_its_way {
                self.attempts.insert(id.clone(), failed.number);
                let next_at = around.clock.at(failed.next_at);
                self.waiting.insert(id.clone(), next_at);
            }
        }
        let mut wanted = Vec::new();
        for (id, step) in &self.steps {
            let Some(record) = ended.get(id) else {
                wanted.extend(self.takes[id].iter().cloned());
                continue;
            };
            self.progress.end(id.clone(), record.state);
            if self.failure.is_none() {
                self.failure = fatal(step, record);
            }
        }
        for id in around.lost_values {
            if self.steps.contains_key(id) {
                self.make_again(id);
            }
        }
        for table in wanted {
            self.bring_back(table);
        }
    }

    /// Has the table of a step that had ended brought back from where it is kept,
    /// or made again with those that it is made of.
    fn bring_back(&mut self, table: StepId) {
        let Some(record) = self.around.checkpoints.ended.get(&table) else {
            return;
        };
        let is_there = self.feeds.contains_key(&table);
        let is_coming = self.restoring.contains(&table) || self.bringing.contains_key(&table);
        if is_there || is_coming || record.state != StepState::Succeeded {
            return;
        }
        match &record.table_at {
            Some(artifact) => {
                self.progress.reopen(&table);
                self.bringing.insert(table, artifact.clone());
            }
            None => self.make_again(&table),
        }
    }

    /// Has a step that had ended executed again.
    pub(super) fn make_again(&mut self, step: &StepId) {
        self.progress.reopen(step);
        self.restoring.insert(step.clone());
        // No deeper than the graph of the flow is long.
        for table in self.takes[step].clone() {
            self.bring_back(table);
        }
    }

    /// Starts to bring the table of a step back.
    pub(super) fn bring(&mut self, step: &Step, artifact: Artifact) {
        self.progress.start(step.id.clone());
        tracing::debug!(step = %step.id, artifact = artifact.name, "brings a table back");
        let (id, shared) = (step.id.clone(), self.around.shared.clone());
        self.tasks.spawn(async move {
            let table = kept::table(&artifact, &shared).await;
            (id, Came::Brought(table))
        });
    }

    /// Notes what came of that. What is lost is made again.
    pub(super) fn note_brought(&mut self, id: StepId, table: Result<Table, KeepError>) {
        self.bringing.remove(&id);
        match table {
            Ok(table) => {
                self.feeds.insert(id.clone(), Feed::Table(table));
                self.progress.end(id, StepState::Succeeded);
                self.drop_feeds();
            }
            Err(error) if error.is_lost() => {
                tracing::warn!(step = %id, %error, "the table of a step is lost, it is executed again");
                self.progress.pause(&id);
                self.make_again(&id);
            }
            Err(error) => {
                self.progress.pause(&id);
                let message = format!("the table of step `{id}` cannot be brought back: {error}");
                self.fail_with(error.code(), message);
            }
        }
    }
}
