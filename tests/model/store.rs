//! What Redis holds, as far as the protocol goes, and beside it what only the
//! model knows: who owns a run by right, and what was done to it.

/// How many runs there are.
pub(crate) const RUNS: usize = 2;

/// How many steps a run has, one after the other.
pub(crate) const STEPS: u8 = 2;

/// After so many claims without progress a run is set aside.
pub(crate) const CLAIMS_MAX: u8 = 2;

/// The name of one process of a worker, new for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Consumer {
    /// The worker.
    pub(crate) worker: usize,
    /// Tells the process from those that the worker had before.
    pub(crate) process: u8,
}

/// A final state. `failed` is left out: it comes about as `succeeded` does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum End {
    Succeeded,
    Cancelled,
    Dead,
}

/// Where a run stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum RunState {
    #[default]
    Absent,
    Queued,
    Running,
    Ended(End),
}

/// An entry of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Entry {
    /// The run that it names.
    pub(crate) run: usize,
    /// Tells it from other entries of the run.
    pub(crate) number: u8,
}

/// An entry that was delivered and not acknowledged. Its idle time is the lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Pending {
    pub(crate) entry: Entry,
    pub(crate) consumer: Consumer,
    /// It has been idle for longer than the lease.
    pub(crate) expired: bool,
}

/// A worker's right to a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Lease {
    pub(crate) run: usize,
    /// The fencing number that every write carries.
    pub(crate) epoch: u8,
    /// Which claim of the run it comes from. No script compares it: it is how
    /// the model knows what a fence should have kept out.
    pub(crate) claim: u8,
}

/// The hash of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Record {
    pub(crate) state: RunState,
    pub(crate) epoch: u8,
    /// The number of the entry that stands for the run, or 0.
    pub(crate) entry: u8,
    pub(crate) worker: Option<Consumer>,
    pub(crate) claims: u8,
    /// The API process wants to hear of its end.
    pub(crate) waiter: bool,
    pub(crate) cancel: bool,
    /// How many of its steps are stored.
    pub(crate) steps: u8,
    pub(crate) truth: Truth,
}

/// What only the model knows of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Truth {
    /// How many entries were made for it.
    pub(crate) entries: u8,
    /// How many claims of it there were.
    pub(crate) claims: u8,
    /// The claim that owns it by right, or 0.
    pub(crate) owner: u8,
    /// How often each step was stored.
    pub(crate) stored: [u8; STEPS as usize],
    /// How often it was ended.
    pub(crate) ends: u8,
    /// How it ended first.
    pub(crate) first_end: Option<End>,
    /// How often it was taken away from a worker since a step was stored.
    pub(crate) losses: u8,
    /// How many workers crashed that owned it since a step was stored.
    pub(crate) crashes: u8,
}

/// What the last action brought to light.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Noted {
    /// A write of a worker that does not own the run took effect.
    pub(crate) stale_write: bool,
    /// Such a write was refused.
    pub(crate) refused: bool,
    /// A worker began a run with a lease that was over.
    pub(crate) begun_late: bool,
    /// A run succeeded before its steps were stored.
    pub(crate) ended_early: bool,
    /// A run was set aside before it had cost so many workers.
    pub(crate) dead_early: bool,
}

/// Redis.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Store {
    pub(crate) runs: [Record; RUNS],
    /// Entries that were not delivered, in their order.
    pub(crate) queue: Vec<Entry>,
    /// Entries that were, sorted.
    pub(crate) pending: Vec<Pending>,
    /// The API process is subscribed to its channel.
    pub(crate) subscribed: bool,
    /// Messages on their way to it.
    pub(crate) messages: [Option<End>; RUNS],
    pub(crate) noted: Noted,
}

impl Store {
    /// How the run ended, if it has.
    pub(crate) fn end_of(&self, run: usize) -> Option<End> {
        match self.runs[run].state {
            RunState::Ended(end) => Some(end),
            RunState::Absent | RunState::Queued | RunState::Running => None,
        }
    }

    /// Whether every run has been started and has ended.
    pub(crate) fn all_ended(&self) -> bool {
        (0..RUNS).all(|run| self.end_of(run).is_some())
    }

    /// The entry that stands for the run. Where there is none, nothing in the
    /// stream is equal to it.
    pub(crate) fn entry_of(&self, run: usize) -> Entry {
        let number = self.runs[run].entry;
        Entry { run, number }
    }

    /// Whether the entry of a run is where its state says: with a worker, or
    /// with none yet.
    pub(crate) fn has_its_entry(&self, run: usize) -> bool {
        let entry = self.entry_of(run);
        let pending = || self.pending.iter().any(|pending| pending.entry == entry);
        match self.runs[run].state {
            RunState::Absent | RunState::Ended(_) => true,
            RunState::Queued => self.queue.contains(&entry) || pending(),
            RunState::Running => pending(),
        }
    }

    /// Takes an entry out of the stream, delivered or not.
    pub(crate) fn drop_entry(&mut self, entry: Entry) {
        self.queue.retain(|queued| *queued != entry);
        self.pending.retain(|pending| pending.entry != entry);
    }

    /// Puts a run at the end of the queue.
    pub(crate) fn ready(&mut self, run: usize) {
        let record = &mut self.runs[run];
        record.truth.entries += 1;
        record.truth.owner = 0;
        record.entry = record.truth.entries;
        record.state = RunState::Queued;
        self.queue.push(self.entry_of(run));
    }

    /// Ends a run for good, and tells who waits.
    pub(crate) fn settle(&mut self, run: usize, end: End) {
        let record = &mut self.runs[run];
        record.state = RunState::Ended(end);
        record.entry = 0;
        record.cancel = false;
        record.truth.owner = 0;
        record.truth.ends += 1;
        record.truth.first_end.get_or_insert(end);
        if std::mem::take(&mut record.waiter) {
            self.notify(run, end);
        }
    }

    /// Tells the API process that the run has ended. Where that is not
    /// subscribed at this moment, it never gets the message.
    pub(crate) fn notify(&mut self, run: usize, end: End) {
        if self.subscribed {
            self.messages[run] = Some(end);
        }
    }
}
