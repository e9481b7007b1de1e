//! Which states count as one: those that differ only in what can make no
//! difference any more, in numbers that stand for the same, or in which of the
//! workers is which. There are several times as many otherwise.

use std::cmp::Ordering;

use crate::{
    api::Caller,
    scripts::Call,
    store::{Consumer, RUNS, Record, RunState, Truth},
    worker::Worker,
    world::{WORKERS, World},
};

impl World {
    /// Leaves out what can make no difference any more.
    pub(crate) fn forget_what_is_over(&mut self) {
        self.left = self.left.within_reach();
        for run in 0..RUNS {
            if self.store.runs[run].state != RunState::Running {
                self.store.runs[run].worker = None;
            }
            if self.store.end_of(run).is_some() && !self.is_referred_to(run) {
                let record = &mut self.store.runs[run];
                *record = Record {
                    state: record.state,
                    truth: Truth {
                        ends: record.truth.ends,
                        first_end: record.truth.first_end,
                        ..Truth::default()
                    },
                    ..Record::default()
                };
            }
            if matches!(self.api.callers[run], Caller::Answered(_)) {
                self.store.messages[run] = None;
            }
        }
    }

    /// Whether anything still refers to the run.
    fn is_referred_to(&self, run: usize) -> bool {
        let about = |mut call: Call| {
            call.entry_mut().is_some_and(|entry| entry.run == run)
                || call.lease_mut().is_some_and(|lease| lease.run == run)
        };
        self.workers.iter().any(|worker| worker.knows(run))
            || self.store.queue.iter().any(|entry| entry.run == run)
            || self.store.pending.iter().any(|of| of.entry.run == run)
            || self.astray.iter().any(|(_, call)| about(*call))
    }

    /// Numbers entries, epochs, claims and processes anew, from the lowest that
    /// anything refers to: of these numbers it matters only which are equal and
    /// which is the highest.
    pub(crate) fn renumber(&mut self) {
        for run in 0..RUNS {
            let Record { epoch, truth, .. } = self.store.runs[run];
            if epoch.max(truth.entries).max(truth.claims) > 1 {
                self.renumber_entries(run);
                self.renumber_leases(run);
            }
        }
        for worker in 0..WORKERS {
            if self.workers[worker].name.process > 0 {
                self.renumber_processes(worker);
            }
        }
    }

    fn renumber_entries(&mut self, run: usize) {
        let record = &mut self.store.runs[run];
        let mut numbers = vec![&mut record.entry];
        for entry in &mut self.store.queue {
            if entry.run == run {
                numbers.push(&mut entry.number);
            }
        }
        for pending in &mut self.store.pending {
            if pending.entry.run == run {
                numbers.push(&mut pending.entry.number);
            }
        }
        for worker in &mut self.workers {
            for entry in &mut worker.delivered {
                if entry.run == run {
                    numbers.push(&mut entry.number);
                }
            }
        }
        for (_, call) in &mut self.astray {
            if let Some(entry) = call.entry_mut()
                && entry.run == run
            {
                numbers.push(&mut entry.number);
            }
        }
        record.truth.entries = close_gaps(numbers, 1);
    }

    fn renumber_leases(&mut self, run: usize) {
        let record = &mut self.store.runs[run];
        let mut epochs = vec![&mut record.epoch];
        let mut claims = vec![&mut record.truth.owner];
        for worker in &mut self.workers {
            for execution in &mut worker.executions {
                if execution.lease.run == run {
                    epochs.push(&mut execution.lease.epoch);
                    claims.push(&mut execution.lease.claim);
                }
            }
        }
        for (_, call) in &mut self.astray {
            if let Some(lease) = call.lease_mut()
                && lease.run == run
            {
                epochs.push(&mut lease.epoch);
                claims.push(&mut lease.claim);
            }
        }
        let first = u8::from(epochs.len() > 1);
        close_gaps(epochs, first);
        record.truth.claims = close_gaps(claims, 1);
    }

    fn renumber_processes(&mut self, worker: usize) {
        let mut named = self.consumers_mut();
        named.retain(|consumer| consumer.worker == worker);
        let processes = named.into_iter().map(|consumer| &mut consumer.process);
        close_gaps(processes.collect(), 0);
    }

    /// The same state with the workers in a certain order.
    pub(crate) fn representative(&self) -> Self {
        let [first, second] = self.workers.each_ref().map(Worker::without_its_name);
        match first.cmp(&second) {
            Ordering::Less => self.clone(),
            Ordering::Greater => self.exchanged(),
            Ordering::Equal => {
                let other = self.exchanged();
                if other.order() < self.order() {
                    other
                } else {
                    self.clone()
                }
            }
        }
    }

    /// The same state with each worker in the place of the other.
    fn exchanged(&self) -> Self {
        let mut other = self.clone();
        other.workers.reverse();
        for consumer in other.consumers_mut() {
            consumer.worker = WORKERS - 1 - consumer.worker;
        }
        other.store.pending.sort_unstable();
        other.astray.sort_unstable();
        other
    }

    /// What the order of workers that are in the same state follows from.
    fn order(&self) -> impl Ord {
        let owners = self.store.runs.map(|record| record.worker);
        (&self.store.pending, &self.astray, owners)
    }

    /// Every mention of a process by its name.
    fn consumers_mut(&mut self) -> Vec<&mut Consumer> {
        let workers = self.workers.iter_mut().map(|worker| &mut worker.name);
        let owners = self
            .store
            .runs
            .iter_mut()
            .filter_map(|record| record.worker.as_mut());
        let pending = self
            .store
            .pending
            .iter_mut()
            .map(|pending| &mut pending.consumer);
        let astray = self.astray.iter_mut().map(|(consumer, _)| consumer);
        workers.chain(owners).chain(pending).chain(astray).collect()
    }
}

/// Makes the lowest of the numbers `first`, and each that is higher than another
/// higher by one. A number below `first` stands for none and stays. Says which is
/// the highest then, or 0.
fn close_gaps(mut numbers: Vec<&mut u8>, first: u8) -> u8 {
    numbers.retain(|number| **number >= first);
    numbers.sort_unstable();
    let mut before = None;
    let mut now = 0;
    for number in numbers {
        now = match before {
            None => first,
            Some(before) if before == *number => now,
            Some(_) => now + 1,
        };
        before = Some(*number);
        *number = now;
    }
    now
}
