//! The scripts of `shared/src/store/scripts`, one method each. Redis executes
//! one at a time, so that each is one action of the model.

use crate::{
    mutation::{Mutation, Mutations},
    store::{CLAIMS_MAX, Consumer, End, Entry, Lease, Pending, RunState, STEPS, Store},
};

/// What a worker asks of Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Call {
    /// Take the first run of the queue.
    Claim,
    /// The blocking read: deliver the first entry, and no more than that.
    Read,
    /// Take the run of an entry that was delivered.
    Begin(Entry),
    /// Put the run of such an entry back.
    HandBack(Entry),
    /// Renew the lease.
    Beat(Lease),
    /// Store what the step of this number came to.
    Checkpoint(Lease, u8),
    /// End the run.
    Finish(Lease, End),
    /// Give the run back.
    Requeue(Lease),
}

/// What Redis answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Nothing,
    Delivered(Entry),
    /// The run is the worker's, and so many of its steps are stored.
    Claimed(Lease, u8),
    Done,
    /// Done, and somebody asked to cancel the run.
    CancelRequested,
    /// The run is not the worker's any more.
    Lost,
}

impl Call {
    /// Whether it takes what comes first in the queue.
    pub(crate) fn takes(self) -> bool {
        matches!(self, Self::Claim | Self::Read)
    }

    /// Whether it gives a run back.
    pub(crate) fn gives_back(self) -> bool {
        matches!(self, Self::HandBack(_) | Self::Requeue(_))
    }

    /// The entry that it is about.
    pub(crate) fn entry_mut(&mut self) -> Option<&mut Entry> {
        match self {
            Self::Begin(entry) | Self::HandBack(entry) => Some(entry),
            _ => None,
        }
    }

    /// The lease that it carries.
    pub(crate) fn lease_mut(&mut self) -> Option<&mut Lease> {
        match self {
            Self::Beat(lease)
            | Self::Checkpoint(lease, _)
            | Self::Finish(lease, _)
            | Self::Requeue(lease) => Some(lease),
            Self::Claim | Self::Read | Self::Begin(_) | Self::HandBack(_) => None,
        }
    }
}

impl Store {
    /// Does what a worker asks.
    pub(crate) fn perform(&mut self, by: Consumer, call: Call, mutations: Mutations) -> Answer {
        match call {
            Call::Claim => match self.deliver(by) {
                Some(entry) => self.begin(by, entry, mutations),
                None => Answer::Nothing,
            },
            Call::Read => self.deliver(by).map_or(Answer::Nothing, Answer::Delivered),
            Call::Begin(entry) => {
                if !mutations.contains(&Mutation::BeginRenewsNothing) {
                    self.pass_to(by, entry);
                }
                self.begin(by, entry, mutations)
            }
            Call::HandBack(entry) => self.hand_back(by, entry),
            Call::Beat(lease) => self.beat(by, lease, mutations),
            Call::Checkpoint(lease, step) => self.checkpoint(lease, step, mutations),
            Call::Finish(lease, end) => self.finish(lease, end, mutations),
            Call::Requeue(lease) => self.requeue(lease),
        }
    }

    /// `enqueue`, for a run that somebody waits for or not.
    pub(crate) fn enqueue(&mut self, run: usize, waiter: bool) {
        self.ready(run);
        self.runs[run].waiter |= waiter;
    }

    fn deliver(&mut self, by: Consumer) -> Option<Entry> {
        if self.queue.is_empty() {
            return None;
        }
        let entry = self.queue.remove(0);
        self.pending.push(Pending {
            entry,
            consumer: by,
            expired: false,
        });
        self.pending.sort_unstable();
        Some(entry)
    }

    /// XCLAIM with no idle time: an entry that is pending is the consumer's now,
    /// and its lease begins anew.
    fn pass_to(&mut self, to: Consumer, entry: Entry) {
        for pending in &mut self.pending {
            if pending.entry == entry {
                pending.consumer = to;
                pending.expired = false;
            }
        }
        self.pending.sort_unstable();
    }

    fn begin(&mut self, by: Consumer, entry: Entry, mutations: Mutations) -> Answer {
        let record = &mut self.runs[entry.run];
        let current = record.entry == entry.number;
        let running = record.state == RunState::Running;
        let lost_claim = running && record.worker == Some(by);
        let takes = current && (record.state == RunState::Queued || lost_claim);
        if !takes && !mutations.contains(&Mutation::BeginWithoutLook) {
            match record.worker {
                Some(owner) if running && current => self.pass_to(owner, entry),
                _ => self.drop_entry(entry),
            }
            return Answer::Nothing;
        }
        let mut pending = self.pending.iter();
        self.noted.begun_late = pending.any(|of| of.entry == entry && of.expired);
        if !lost_claim {
            record.claims += 1;
        }
        if !mutations.contains(&Mutation::BeginKeepsEpoch) {
            record.epoch += 1;
        }
        record.state = RunState::Running;
        record.worker = Some(by);
        record.truth.claims += 1;
        record.truth.owner = record.truth.claims;
        let lease = Lease {
            run: entry.run,
            epoch: record.epoch,
            claim: record.truth.claims,
        };
        Answer::Claimed(lease, record.steps)
    }

    fn hand_back(&mut self, by: Consumer, entry: Entry) -> Answer {
        let record = &mut self.runs[entry.run];
        let current = record.entry == entry.number;
        match (record.state, record.worker) {
            (RunState::Running, Some(owner)) if current && owner != by => {
                self.pass_to(owner, entry);
                return Answer::Done;
            }
            (RunState::Running, _) if current => {
                record.epoch += 1;
                record.claims = record.claims.saturating_sub(1);
            }
            (RunState::Queued, _) if current => {}
            _ => {
                self.drop_entry(entry);
                return Answer::Done;
            }
        }
        self.drop_entry(entry);
        self.ready(entry.run);
        Answer::Done
    }

    fn beat(&mut self, by: Consumer, lease: Lease, mutations: Mutations) -> Answer {
        let entry = self.entry_of(lease.run);
        let record = &self.runs[lease.run];
        let fenced = record.epoch != lease.epoch && !mutations.contains(&Mutation::BeatUnfenced);
        if fenced || record.state != RunState::Running {
            return Answer::Lost;
        }
        self.noted.stale_write |= record.truth.owner != lease.claim;
        let cancel = record.cancel;
        self.pass_to(by, entry);
        done(cancel)
    }

    fn checkpoint(&mut self, lease: Lease, step: u8, mutations: Mutations) -> Answer {
        let record = &mut self.runs[lease.run];
        let stale = record.truth.owner != lease.claim;
        let fenced =
            record.epoch != lease.epoch && !mutations.contains(&Mutation::CheckpointUnfenced);
        if fenced || record.state != RunState::Running {
            self.noted.refused |= stale;
            return Answer::Lost;
        }
        if record.steps > step && !mutations.contains(&Mutation::CheckpointOverwrites) {
            return Answer::Done;
        }
        self.noted.stale_write |= stale;
        record.steps = record.steps.max(step + 1);
        record.truth.stored[usize::from(step)] += 1;
        record.truth.losses = 0;
        record.truth.crashes = 0;
        if !mutations.contains(&Mutation::CheckpointKeepsClaims) {
            record.claims = 1;
        }
        done(record.cancel)
    }

    fn finish(&mut self, lease: Lease, end: End, mutations: Mutations) -> Answer {
        if mutations.contains(&Mutation::FinishTellsFirst) && self.runs[lease.run].waiter {
            self.notify(lease.run, end);
        }
        let entry = self.entry_of(lease.run);
        let record = &self.runs[lease.run];
        let stale = record.truth.owner != lease.claim;
        if record.epoch != lease.epoch && !mutations.contains(&Mutation::FinishUnfenced) {
            self.noted.refused |= stale;
            return Answer::Lost;
        }
        if record.state == RunState::Ended(end) {
            return Answer::Done;
        }
        if record.state != RunState::Running && !mutations.contains(&Mutation::FinishOverEnd) {
            self.noted.refused |= stale;
            return Answer::Lost;
        }
        self.noted.stale_write |= stale;
        self.noted.ended_early |= end == End::Succeeded && record.steps < STEPS;
        if !mutations.contains(&Mutation::FinishKeepsEntry) {
            self.drop_entry(entry);
        }
        self.settle(lease.run, end);
        Answer::Done
    }

    fn requeue(&mut self, lease: Lease) -> Answer {
        let entry = self.entry_of(lease.run);
        let record = &mut self.runs[lease.run];
        let stale = record.truth.owner != lease.claim;
        if record.epoch != lease.epoch || record.state != RunState::Running {
            self.noted.refused |= stale;
            return Answer::Lost;
        }
        self.noted.stale_write |= stale;
        record.claims = record.claims.saturating_sub(1);
        let cancel = record.cancel;
        self.drop_entry(entry);
        if cancel {
            self.settle(lease.run, End::Cancelled);
        } else {
            self.ready(lease.run);
        }
        Answer::Done
    }

    /// `reap`, for one entry whose lease is over.
    pub(crate) fn reap(&mut self, entry: Entry, mutations: Mutations) {
        let record = &mut self.runs[entry.run];
        let executed = record.state == RunState::Running;
        let open = executed || record.state == RunState::Queued;
        if !(open && record.entry == entry.number) {
            return self.drop_entry(entry);
        }
        if !mutations.contains(&Mutation::ReapKeepsEpoch) {
            record.epoch += 1;
        }
        record.truth.owner = 0;
        record.truth.losses += u8::from(executed);
        let Self { runs, noted, .. } = self;
        let record = &runs[entry.run];
        let too_often = record.claims >= CLAIMS_MAX && !mutations.contains(&Mutation::ReapForEver);
        let end = if record.cancel {
            Some(End::Cancelled)
        } else if executed && too_often {
            noted.dead_early |= record.truth.losses < CLAIMS_MAX;
            Some(End::Dead)
        } else {
            None
        };
        self.drop_entry(entry);
        match end {
            Some(end) => self.settle(entry.run, end),
            None if mutations.contains(&Mutation::ReapForgetsToQueue) => {}
            None => self.ready(entry.run),
        }
    }

    /// `cancel`: at once where nobody executes the run.
    pub(crate) fn cancel(&mut self, run: usize, mutations: Mutations) {
        match self.runs[run].state {
            RunState::Running => self.runs[run].cancel = true,
            RunState::Queued => {
                if !mutations.contains(&Mutation::CancelKeepsEntry) {
                    self.drop_entry(self.entry_of(run));
                }
                self.settle(run, End::Cancelled);
            }
            RunState::Ended(_) if mutations.contains(&Mutation::CancelOverEnd) => {
                self.settle(run, End::Cancelled);
            }
            RunState::Absent | RunState::Ended(_) => {}
        }
    }

    /// `watch`: registers who waits, unless the run has ended, and says how.
    pub(crate) fn watch(&mut self, run: usize) -> Option<End> {
        let end = self.end_of(run);
        if end.is_none() {
            self.runs[run].waiter = true;
        }
        end
    }
}

fn done(cancel_requested: bool) -> Answer {
    if cancel_requested {
        Answer::CancelRequested
    } else {
        Answer::Done
    }
}
