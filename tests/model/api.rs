//! The API process: callers that wait for runs, and what they were answered.

use crate::{
    mutation::{Mutation, Mutations},
    store::{End, RUNS, Store},
};

/// The run whose caller waits from the start. The caller of the other starts it
/// without waiting, and attaches to it later.
const AWAITED: usize = 0;

/// A caller. There is one for each run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Caller {
    /// The run is not started.
    #[default]
    Idle,
    /// The start is in Redis, its answer is under way, and the wait is noted.
    Starting { heard: Option<End>, recheck: bool },
    /// The start was accepted, and nobody waits.
    Started,
    /// Has read the state, and is not registered yet. Only a mutation does it.
    Registering,
    /// Waits for a message.
    Waiting { recheck: bool },
    /// Was told how the run ended.
    Answered(End),
}

/// What the API process does for the caller of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Serve {
    /// Sends the start to Redis.
    Start,
    /// Sends it again, although it arrived.
    StartAgain,
    /// Hears that it was accepted.
    Accepted,
    /// Waits for the end from now on.
    Attach,
    /// Registers, having read the state before.
    Register,
    /// Takes in the message that says how the run ended.
    Message,
    /// Looks at the run, after a new subscription.
    Recheck,
    /// Looks at the run, after ten seconds.
    Poll,
}

/// The API process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Api {
    pub(crate) callers: [Caller; RUNS],
}

impl Api {
    /// Whether every caller was answered.
    pub(crate) fn all_answered(&self) -> bool {
        let answered = |caller: &Caller| matches!(caller, Caller::Answered(_));
        self.callers.iter().all(answered)
    }

    /// What may be done for the caller of a run next.
    pub(crate) fn next(&self, run: usize, store: &Store, mutations: Mutations) -> Vec<Serve> {
        let mut next = Vec::new();
        match self.callers[run] {
            Caller::Idle => next.push(Serve::Start),
            Caller::Starting { .. } => next.push(Serve::Accepted),
            Caller::Started => next.push(Serve::Attach),
            Caller::Registering => next.push(Serve::Register),
            Caller::Waiting { recheck: true } => next.push(Serve::Recheck),
            Caller::Waiting { recheck: false } => {
                // Before the end such a look changes nothing.
                let ended = store.end_of(run).is_some();
                if ended && !mutations.contains(&Mutation::NoPoll) {
                    next.push(Serve::Poll);
                }
            }
            Caller::Answered(_) => {}
        }
        if store.messages[run].is_some() {
            next.push(Serve::Message);
        }
        next
    }

    /// Does it.
    pub(crate) fn serve(
        &mut self,
        run: usize,
        serve: Serve,
        store: &mut Store,
        mutations: Mutations,
    ) {
        let waits = Caller::Waiting { recheck: false };
        let caller = &mut self.callers[run];
        match serve {
            Serve::Start => {
                store.enqueue(run, run == AWAITED);
                *caller = if run == AWAITED {
                    let (heard, recheck) = (None, false);
                    Caller::Starting { heard, recheck }
                } else {
                    Caller::Started
                };
            }
            Serve::StartAgain => store.enqueue(run, run == AWAITED),
            Serve::Accepted => {
                if let Caller::Starting { heard, recheck } = *caller {
                    *caller = heard.map_or(Caller::Waiting { recheck }, Caller::Answered);
                }
            }
            Serve::Attach if mutations.contains(&Mutation::ReadBeforeRegister) => {
                let end = store.end_of(run);
                *caller = end.map_or(Caller::Registering, Caller::Answered);
            }
            Serve::Register => {
                store.runs[run].waiter = true;
                *caller = waits;
            }
            Serve::Attach | Serve::Recheck | Serve::Poll => {
                *caller = store.watch(run).map_or(waits, Caller::Answered);
            }
            Serve::Message => {
                if let Some(end) = store.messages[run].take() {
                    caller.heard(end, mutations);
                }
            }
        }
    }

    /// Messages come in again; some may have been missed.
    pub(crate) fn subscribed(&mut self, mutations: Mutations) {
        if mutations.contains(&Mutation::NoRecheck) {
            return;
        }
        for caller in &mut self.callers {
            if let Caller::Starting { recheck, .. } | Caller::Waiting { recheck } = caller {
                *recheck = true;
            }
        }
    }
}

impl Caller {
    /// Takes in how the run ended.
    fn heard(&mut self, end: End, mutations: Mutations) {
        match self {
            Self::Starting { heard, .. } if !mutations.contains(&Mutation::WaitNotedLate) => {
                heard.get_or_insert(end);
            }
            Self::Waiting { .. } => *self = Self::Answered(end),
            // Nobody waits: the message is dropped.
            Self::Idle
            | Self::Starting { .. }
            | Self::Started
            | Self::Registering
            | Self::Answered(_) => {}
        }
    }
}
