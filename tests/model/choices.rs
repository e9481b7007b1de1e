//! What can happen next. What would change nothing is left out where that is
//! easily seen.

use crate::{
    api::Serve,
    mutation::{Mutation, Mutations},
    scripts::Call,
    store::{Pending, RUNS, RunState},
    world::{Action, Deed, Fault, WORKERS, World},
};

impl World {
    /// Everything that can happen next.
    pub(crate) fn choices(&self, mutations: Mutations) -> Vec<Action> {
        let mut choices = Vec::new();
        for run in 0..RUNS {
            self.choices_for_caller(run, mutations, &mut choices);
        }
        if !self.store.subscribed {
            choices.push(Action::Subscribe);
        } else if self.left.allows(Fault::Disconnect) && !self.api.all_answered() {
            choices.push(Action::Disconnect);
        }
        for worker in 0..WORKERS {
            self.choices_of_worker(worker, &mut choices);
        }
        let unrenewed = mutations.contains(&Mutation::LeaseUnrenewed);
        for pending in &self.store.pending {
            if unrenewed || self.is_over(*pending) {
                choices.push(Action::Reap(pending.entry));
            }
            // Of consumers that hold nothing, a model need not know.
            let died = self.workers[pending.consumer.worker].name != pending.consumer;
            if died && mutations.contains(&Mutation::ForgetHolders) {
                choices.push(Action::Forget(pending.consumer));
            }
        }
        for (consumer, call) in &self.astray {
            // Where there is nothing to take, it had better not arrived.
            if !(call.takes() && self.store.queue.is_empty()) {
                choices.push(Action::Arrive(*consumer, *call));
            }
        }
        choices
    }

    fn choices_for_caller(&self, run: usize, mutations: Mutations, choices: &mut Vec<Action>) {
        for serve in self.api.next(run, &self.store, mutations) {
            choices.push(Action::Serve(run, serve));
        }
        let record = &self.store.runs[run];
        if record.state == RunState::Absent {
            return;
        }
        // The script knows the run and does nothing, unless it is broken.
        let again = mutations.contains(&Mutation::EnqueueAgain);
        if again && self.left.allows(Fault::Astray) {
            choices.push(Action::Serve(run, Serve::StartAgain));
        }
        if self.left.cancels > 0 && !record.cancel {
            choices.push(Action::Cancel(run));
        }
        if self.store.messages[run].is_some() && self.left.allows(Fault::Message) {
            choices.push(Action::LoseMessage(run));
        }
    }

    /// Whether a lease is over: it ran out while its worker stood still, or
    /// nobody is there to renew it.
    fn is_over(&self, pending: Pending) -> bool {
        let worker = &self.workers[pending.consumer.worker];
        // A worker that executes the run with an older lease hears from its
        // beats that it has lost it, before a lease is over that it does not
        // know of.
        let renewed = worker.name == pending.consumer && worker.knows(pending.entry.run);
        pending.expired || !renewed
    }

    fn choices_of_worker(&self, index: usize, choices: &mut Vec<Action>) {
        let worker = &self.workers[index];
        let mut may = |deed| choices.push(Action::Worker(index, deed));
        for call in worker.calls(self.left.returns > 0) {
            if !(call.takes() && self.store.queue.is_empty()) {
                may(Deed::Ask(call));
            }
            let moot = call.takes() && self.store.all_ended();
            if self.left.allows(Fault::Astray) && !moot {
                may(Deed::AskInVain(call));
            }
        }
        // A beat that goes astray does no more than one that does not.
        for execution in &worker.executions {
            may(Deed::Ask(Call::Beat(execution.lease)));
        }
        let unknown = |of: &Pending| of.consumer == worker.name && !worker.holds(of.entry.run);
        if worker.delivered.is_empty() && self.store.pending.iter().any(unknown) {
            may(Deed::ReadAgain);
        }
        self.faults_of_worker(index, choices);
    }

    fn faults_of_worker(&self, index: usize, choices: &mut Vec<Action>) {
        let worker = &self.workers[index];
        let pending = self.store.pending.iter();
        let its_own: Vec<_> = pending.filter(|of| of.consumer == worker.name).collect();
        let renewed: Vec<_> = its_own.iter().filter(|of| !self.is_over(***of)).collect();
        if self.left.allows(Fault::Stall) {
            for pending in &renewed {
                let run = Some(pending.entry.run);
                choices.push(Action::Worker(index, Deed::Stall(run)));
            }
            if renewed.len() > 1 {
                choices.push(Action::Worker(index, Deed::Stall(None)));
            }
        }
        let mut astray = self.astray.iter();
        let traces = !its_own.is_empty() || astray.any(|(of, _)| *of == worker.name);
        // Who has nothing to lose only changes its name.
        if self.left.allows(Fault::Crash) && (worker.is_busy() || traces) {
            choices.push(Action::Worker(index, Deed::Crash));
        }
    }
}
