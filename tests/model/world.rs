//! The whole system in one state, and what is after something has happened.

use crate::{
    api::{Api, Serve},
    mutation::{Mutation, Mutations},
    scripts::Call,
    store::{Consumer, Entry, Lease, Store},
    worker::Worker,
};

/// How many workers there are.
pub(crate) const WORKERS: usize = 2;

/// How much may go wrong, and how much may be wished for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Budget {
    /// How many faults there may be in all, of the kinds below.
    pub(crate) faults: u8,
    /// Workers that are killed.
    pub(crate) crashes: u8,
    /// Workers that stand still for longer than their leases.
    pub(crate) stalls: u8,
    /// Calls whose answer is lost, and which arrive at any later time.
    pub(crate) astray: u8,
    /// Messages that are lost although the API is subscribed.
    pub(crate) messages: u8,
    /// Times that the API loses its subscription.
    pub(crate) disconnects: u8,
    /// Wishes to cancel a run. No fault.
    pub(crate) cancels: u8,
    /// Runs that a worker gives back. No fault.
    pub(crate) returns: u8,
}

/// Something that can go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Crash,
    Stall,
    Astray,
    Message,
    Disconnect,
}

impl Budget {
    /// Whether such a fault may happen.
    pub(crate) fn allows(mut self, fault: Fault) -> bool {
        self.faults > 0 && *self.of(fault) > 0
    }

    fn of(&mut self, fault: Fault) -> &mut u8 {
        match fault {
            Fault::Crash => &mut self.crashes,
            Fault::Stall => &mut self.stalls,
            Fault::Astray => &mut self.astray,
            Fault::Message => &mut self.messages,
            Fault::Disconnect => &mut self.disconnects,
        }
    }

    fn spend(&mut self, fault: Fault) {
        self.faults -= 1;
        *self.of(fault) -= 1;
    }

    /// Each kind of fault can happen as often as faults can, and no oftener.
    pub(crate) fn within_reach(mut self) -> Self {
        use Fault::{Astray, Crash, Disconnect, Message, Stall};
        for fault in [Crash, Stall, Astray, Message, Disconnect] {
            let faults = self.faults;
            let part = self.of(fault);
            *part = faults.min(*part);
        }
        self
    }
}

/// Something that happens, in one go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// The API does something for the caller of a run.
    Serve(usize, Serve),
    /// Somebody asks to cancel a run.
    Cancel(usize),
    /// A message is lost on its way.
    LoseMessage(usize),
    /// The API loses its subscription, and what was on its way.
    Disconnect,
    Subscribe,
    /// A worker sweeps, and finds that a lease is over.
    Reap(Entry),
    /// A consumer is deleted, and what it holds.
    Forget(Consumer),
    /// A call whose sender waits no longer arrives.
    Arrive(Consumer, Call),
    /// A worker does something, or something is done to it.
    Worker(usize, Deed),
}

/// What a worker does, and what is done to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    /// It asks, Redis does it, it hears the answer.
    Ask(Call),
    /// It asks and hears nothing. What it asked arrives later or never.
    AskInVain(Call),
    /// It reads on a new connection, and gets what it holds and does not know.
    ReadAgain,
    /// It stands still until the lease of this run is over, or until all are.
    Stall(Option<usize>),
    /// It is killed, and starts again knowing nothing.
    Crash,
}

/// Everything there is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) workers: [Worker; WORKERS],
    pub(crate) api: Api,
    /// Calls that were sent and not answered, sorted.
    pub(crate) astray: Vec<(Consumer, Call)>,
    pub(crate) left: Budget,
}

impl World {
    /// Nothing has happened yet.
    pub(crate) fn new(budget: Budget) -> Self {
        Self {
            store: Store {
                subscribed: true,
                ..Store::default()
            },
            workers: std::array::from_fn(Worker::new),
            api: Api::default(),
            astray: Vec::new(),
            left: budget.within_reach(),
        }
    }

    /// What is when the action has happened.
    pub(crate) fn after(&self, action: Action, mutations: Mutations) -> Self {
        let mut next = self.clone();
        let Self {
            store,
            api,
            astray,
            left,
            ..
        } = &mut next;
        store.noted = Default::default();
        match action {
            Action::Serve(run, serve) => {
                if serve == Serve::StartAgain {
                    left.spend(Fault::Astray);
                }
                api.serve(run, serve, store, mutations);
            }
            Action::Cancel(run) => {
                left.cancels -= 1;
                store.cancel(run, mutations);
            }
            Action::LoseMessage(run) => {
                left.spend(Fault::Message);
                store.messages[run] = None;
            }
            Action::Disconnect => {
                left.spend(Fault::Disconnect);
                store.subscribed = false;
                store.messages = Default::default();
            }
            Action::Subscribe => {
                store.subscribed = true;
                api.subscribed(mutations);
            }
            Action::Reap(entry) => store.reap(entry, mutations),
            Action::Forget(consumer) => store.pending.retain(|of| of.consumer != consumer),
            Action::Arrive(consumer, call) => {
                let found = astray.iter().position(|of| *of == (consumer, call));
                astray.remove(found.expect("only what is astray arrives"));
                store.perform(consumer, call, mutations);
            }
            Action::Worker(index, deed) => next.worker_after(index, deed, mutations),
        }
        next.forget_what_is_over();
        next.renumber();
        next
    }

    fn worker_after(&mut self, index: usize, deed: Deed, mutations: Mutations) {
        let worker = &mut self.workers[index];
        match deed {
            Deed::Ask(call) => {
                self.left.returns -= u8::from(call.gives_back());
                let answer = self.store.perform(worker.name, call, mutations);
                worker.hear(call, answer, mutations);
            }
            Deed::AskInVain(call) => {
                self.left.returns -= u8::from(call.gives_back());
                self.left.spend(Fault::Astray);
                self.astray.push((worker.name, call));
                self.astray.sort_unstable();
                // After an error a worker knows nothing of what it was
                // delivered; for a run that it executes it asks again.
                if let Call::Begin(entry) | Call::HandBack(entry) = call {
                    worker.forget(entry);
                }
            }
            Deed::ReadAgain => {
                for pending in &mut self.store.pending {
                    if pending.consumer == worker.name && !worker.holds(pending.entry.run) {
                        pending.expired = false;
                        worker.delivered.push(pending.entry);
                    }
                }
            }
            Deed::Stall(run) => {
                self.left.spend(Fault::Stall);
                for pending in &mut self.store.pending {
                    let meant = run.is_none_or(|run| run == pending.entry.run);
                    pending.expired |= meant && pending.consumer == worker.name;
                }
            }
            Deed::Crash => {
                self.left.spend(Fault::Crash);
                for Lease { run, claim, .. } in worker.executions.drain(..).map(|of| of.lease) {
                    let truth = &mut self.store.runs[run].truth;
                    truth.crashes += u8::from(truth.owner == claim);
                }
                worker.delivered.clear();
                worker.name.process += u8::from(!mutations.contains(&Mutation::RestartKeepsName));
            }
        }
    }
}
