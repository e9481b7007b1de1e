//! Which steps of a run may start now.

use std::collections::{BTreeSet, HashMap, HashSet};

use indexmap::IndexMap;

use super::StepState;
use crate::{
    flow::{Step, graph, step::OnError},
    id::StepId,
};

/// How far a run has come through the graph of its steps.
#[derive(Clone, Debug)]
pub struct Progress {
    waits_for: IndexMap<StepId, BTreeSet<StepId>>,
    ended: HashMap<StepId, StepState>,
    running: HashSet<StepId>,
    /// For each step that is making rows, the step that can take them already.
    flowing: HashMap<StepId, StepId>,
}

/// For each of `steps` and of the steps that handle their errors, which ones
/// must have ended before it starts. What handles the errors of a step comes
/// behind it, one after the other, and before everything that waits for it.
pub fn waits_for(steps: &[Step]) -> IndexMap<StepId, BTreeSet<StepId>> {
    let mut waits_for = graph::upstream(steps);
    for step in steps {
        let OnError::Steps(handlers) = &step.on_error else {
            continue;
        };
        let Some(last) = handlers.last() else {
            continue;
        };
        for upstream in waits_for.values_mut() {
            if upstream.contains(&step.id) {
                upstream.insert(last.id.clone());
            }
        }
        let mut before = step.id.clone();
        for handler in handlers {
            waits_for.insert(handler.id.clone(), BTreeSet::from([before]));
            before = handler.id.clone();
        }
    }
    waits_for
}

impl Progress {
    /// The progress of a run whose steps wait for one another as `waits_for`
    /// says. Acyclic, as validation has it; a step that waits for one that is
    /// not in the graph never starts.
    pub fn new(waits_for: IndexMap<StepId, BTreeSet<StepId>>) -> Self {
        Self {
            waits_for,
            ended: HashMap::new(),
            running: HashSet::new(),
            flowing: HashMap::new(),
        }
    }

    /// The steps that may start now, in the order of the flow's text.
    pub fn startable(&self) -> Vec<StepId> {
        let may_start = |(step, upstream): &(&StepId, &BTreeSet<StepId>)| {
            let is_there = |before: &StepId| {
                self.ended.contains_key(before) || self.flowing.get(before) == Some(*step)
            };
            !self.running.contains(*step)
                && !self.ended.contains_key(*step)
                && upstream.iter().all(is_there)
        };
        let startable = self.waits_for.iter().filter(may_start);
        startable.map(|(step, _)| step.clone()).collect()
    }

    /// Notes that a step was started. It takes what flows to it.
    pub fn start(&mut self, step: StepId) {
        self.flowing.retain(|_, taker| *taker != step);
        self.running.insert(step);
    }

    /// Notes that a step is making rows, which `taker` can take from now on.
    pub fn flow(&mut self, step: StepId, taker: StepId) {
        self.flowing.insert(step, taker);
    }

    /// Whether a step is being executed.
    pub fn is_running(&self, step: &StepId) -> bool {
        self.running.contains(step)
    }

    /// Notes that a step which has ended is to be started again.
    pub fn reopen(&mut self, step: &StepId) {
        self.ended.remove(step);
    }

    /// Notes that a step was started and is to be started again.
    pub fn pause(&mut self, step: &StepId) {
        self.running.remove(step);
        self.flowing.remove(step);
    }

    /// Notes how a step ended, now or before a crash.
    pub fn end(&mut self, step: StepId, state: StepState) {
        self.running.remove(&step);
        self.flowing.remove(&step);
        self.ended.insert(step, state);
    }

    /// How a step ended, if it has.
    pub fn state_of(&self, step: &StepId) -> Option<StepState> {
        self.ended.get(step).copied()
    }

    /// Whether every step has ended.
    pub fn is_done(&self) -> bool {
        self.ended.len() == self.waits_for.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> StepId {
        name.parse().unwrap()
    }

    /// `a` and `b` first, `c` after both, `d` after `c`.
    fn diamond() -> Progress {
        let needs = |names: &[&str]| names.iter().map(|name| id(name)).collect();
        Progress::new(IndexMap::from([
            (id("a"), needs(&[])),
            (id("b"), needs(&[])),
            (id("c"), needs(&["a", "b"])),
            (id("d"), needs(&["c"])),
        ]))
    }

    #[test]
    fn what_does_not_depend_on_one_another_starts_together() {
        let mut progress = diamond();
        assert_eq!(progress.startable(), [id("a"), id("b")]);
        progress.start(id("a"));
        assert_eq!(progress.startable(), [id("b")]);
        progress.end(id("a"), StepState::Succeeded);
        assert_eq!(progress.startable(), [id("b")], "c waits for b");
        progress.end(id("b"), StepState::Failed);
        assert_eq!(progress.startable(), [id("c")]);
    }

    #[test]
    fn a_step_that_takes_rows_starts_while_they_are_made() {
        let mut progress = diamond();
        progress.start(id("a"));
        progress.flow(id("a"), id("c"));
        assert_eq!(progress.startable(), [id("b")], "c waits for b");
        progress.end(id("b"), StepState::Succeeded);
        assert_eq!(progress.startable(), [id("c")]);
        progress.start(id("c"));
        progress.pause(&id("c"));
        assert!(progress.startable().is_empty(), "the rows are taken");
        progress.pause(&id("a"));
        assert_eq!(progress.startable(), [id("a")]);
    }

    #[test]
    fn what_was_lost_is_made_again_before_what_needs_it() {
        let mut progress = diamond();
        for step in ["a", "b"] {
            progress.end(id(step), StepState::Succeeded);
        }
        progress.reopen(&id("a"));
        assert_eq!(progress.startable(), [id("a")]);
        progress.end(id("a"), StepState::Succeeded);
        assert_eq!(progress.startable(), [id("c")]);
    }

    #[test]
    fn a_run_that_was_taken_over_goes_on_behind_what_had_ended() {
        let mut progress = diamond();
        for step in ["a", "b", "c"] {
            progress.end(id(step), StepState::Succeeded);
        }
        assert_eq!(progress.startable(), [id("d")]);
        assert!(!progress.is_done());
        progress.end(id("d"), StepState::Succeeded);
        assert!(progress.is_done());
    }
}
