//! A worker: what it knows, what it asks of Redis next, and what an answer
//! changes in it.

use crate::{
    mutation::{Mutation, Mutations},
    scripts::{Answer, Call},
    store::{Consumer, End, Entry, Lease, STEPS},
};

/// A run that the worker executes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Execution {
    pub(crate) lease: Lease,
    /// How many steps have ended.
    pub(crate) done: u8,
    /// The worker heard that somebody asked to cancel the run.
    pub(crate) cancelling: bool,
}

/// A worker. It may at any time do nothing for as long as it takes others to do
/// whatever they can: no action is needed for it to stand still.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Worker {
    /// The name of its process.
    pub(crate) name: Consumer,
    /// What a read brought and nobody began yet.
    pub(crate) delivered: Vec<Entry>,
    /// What it executes, sorted.
    pub(crate) executions: Vec<Execution>,
}

impl Worker {
    /// Its first process.
    pub(crate) fn new(worker: usize) -> Self {
        Self {
            name: Consumer { worker, process: 0 },
            delivered: Vec::new(),
            executions: Vec::new(),
        }
    }

    /// What state it is in, whichever worker it is.
    pub(crate) fn without_its_name(&self) -> impl Ord {
        (self.name.process, &self.delivered, &self.executions)
    }

    /// Whether there is something for it to lose.
    pub(crate) fn is_busy(&self) -> bool {
        !(self.delivered.is_empty() && self.executions.is_empty())
    }

    /// Whether it executes the run, with a lease that is current or not.
    pub(crate) fn holds(&self, run: usize) -> bool {
        self.executions.iter().any(|of| of.lease.run == run)
    }

    /// Whether it executes the run or is about to.
    pub(crate) fn knows(&self, run: usize) -> bool {
        self.holds(run) || self.delivered.iter().any(|entry| entry.run == run)
    }

    /// What it may ask next. A claim brings nothing while it has not begun what
    /// it was delivered.
    pub(crate) fn calls(&self, gives_back: bool) -> Vec<Call> {
        let mut calls = Vec::new();
        if self.delivered.is_empty() {
            calls.extend([Call::Claim, Call::Read]);
        }
        for entry in &self.delivered {
            calls.push(Call::Begin(*entry));
            if gives_back {
                calls.push(Call::HandBack(*entry));
            }
        }
        for execution in &self.executions {
            let lease = execution.lease;
            if execution.done == STEPS {
                calls.push(Call::Finish(lease, End::Succeeded));
                continue;
            }
            // A step that ends just when the worker hears of the wish to cancel
            // may still be stored, and a worker that stops may give it back.
            calls.push(Call::Checkpoint(lease, execution.done));
            if execution.cancelling {
                calls.push(Call::Finish(lease, End::Cancelled));
            }
            if gives_back {
                calls.push(Call::Requeue(lease));
            }
        }
        calls
    }

    /// Takes in what Redis answered.
    pub(crate) fn hear(&mut self, call: Call, answer: Answer, mutations: Mutations) {
        let lost = answer == Answer::Lost && !mutations.contains(&Mutation::LossIgnored);
        match call {
            Call::Claim => self.took(answer, mutations),
            Call::Read => {
                if let Answer::Delivered(entry) = answer {
                    // Entries of runs that it executes are left out.
                    if !self.holds(entry.run) {
                        self.delivered.push(entry);
                    }
                }
            }
            Call::Begin(entry) => {
                self.forget(entry);
                self.took(answer, mutations);
            }
            Call::HandBack(entry) => self.forget(entry),
            Call::Beat(lease) | Call::Checkpoint(lease, _) if !lost => {
                for execution in &mut self.executions {
                    if execution.lease == lease {
                        execution.done += u8::from(matches!(call, Call::Checkpoint(..)));
                        execution.cancelling |= answer == Answer::CancelRequested;
                    }
                }
            }
            Call::Beat(lease)
            | Call::Checkpoint(lease, _)
            | Call::Finish(lease, _)
            | Call::Requeue(lease) => {
                self.executions.retain(|execution| execution.lease != lease);
            }
        }
    }

    fn took(&mut self, answer: Answer, mutations: Mutations) {
        let Answer::Claimed(lease, done) = answer else {
            return;
        };
        if !mutations.contains(&Mutation::OlderExecutionGoesOn) {
            self.executions.retain(|of| of.lease.run != lease.run);
        }
        self.executions.push(Execution {
            lease,
            done,
            cancelling: false,
        });
        self.executions.sort_unstable();
    }

    /// The worker does not know of the entry any more.
    pub(crate) fn forget(&mut self, entry: Entry) {
        self.delivered.retain(|delivered| *delivered != entry);
    }
}
