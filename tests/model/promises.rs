//! What is promised, as the checker asks for it.
//!
//! The three promises that something comes about hold for good once they hold,
//! and nothing goes round in circles. So it is enough for the checker to look
//! at them where nothing more can happen: `eventually` is exact here, although
//! the checker does not tell a circle from two ways to one state.

use stateright::{Model, Property};

use crate::{
    api::Caller,
    mutation::Mutations,
    store::{CLAIMS_MAX, End, RUNS, RunState},
    world::{Action, Budget, World},
};

/// The protocol, with so many faults and these mistakes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Protocol {
    pub(crate) budget: Budget,
    pub(crate) mutations: Mutations,
}

pub(crate) const EVERY_RUN_ENDS: &str = "every run that was started ends";
pub(crate) const EVERY_CALLER_IS_ANSWERED: &str = "every caller is answered";
pub(crate) const NOTHING_IS_LEFT: &str = "no entry is left when every run has ended";
pub(crate) const A_RUN_HAS_ITS_ENTRY: &str = "a run that has not ended has its entry";
pub(crate) const A_LEASE_BEGINS_FRESH: &str = "a lease is not over when it begins";
pub(crate) const AN_END_STAYS: &str = "a final state never changes";
pub(crate) const A_RUN_ENDS_ONCE: &str = "a run ends once";
pub(crate) const SUCCESS_IS_COMPLETE: &str = "a run succeeds with all its steps stored";
pub(crate) const ONLY_THE_OWNER_WRITES: &str = "only the owner of a run writes";
pub(crate) const A_STEP_IS_STORED_ONCE: &str = "a step is stored once";
pub(crate) const ONE_EXECUTION: &str = "a worker executes a run once at a time";
pub(crate) const ANSWERS_ARE_TRUE: &str = "a caller hears the state that is stored";
pub(crate) const NO_RUN_COSTS_MORE: &str = "no run costs more workers than it may";
pub(crate) const NONE_IS_DEAD_EARLY: &str = "no run is set aside earlier";

pub(crate) const A_STALE_WRITE_IS_REFUSED: &str = "a stale write is refused";
pub(crate) const ANOTHER_FINISHES: &str = "a run ends at one worker while the other executes it";
pub(crate) const ONE_GOES_ON: &str = "a run that was lost is queued with a step stored";
pub(crate) const ONE_IS_DEAD: &str = "a run is dead";
pub(crate) const ONE_IS_CANCELLED: &str = "a run is cancelled";
pub(crate) const A_MESSAGE_IS_LOST: &str = "a caller waits for a message that is lost";

impl Model for Protocol {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(self.budget)]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        actions.extend(world.choices(self.mutations));
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let next = world.after(action, self.mutations);
        (next != *world).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut all = what_comes_about();
        all.extend(what_always_holds());
        all.extend(what_is_possible());
        all
    }
}

fn what_comes_about() -> Vec<Property<Protocol>> {
    vec![
        Property::eventually(EVERY_RUN_ENDS, |_, world: &World| world.store.all_ended()),
        Property::eventually(EVERY_CALLER_IS_ANSWERED, |_, world: &World| {
            world.api.all_answered()
        }),
        Property::eventually(NOTHING_IS_LEFT, |_, world: &World| {
            let store = &world.store;
            store.all_ended() && store.queue.is_empty() && store.pending.is_empty()
        }),
    ]
}

fn what_always_holds() -> Vec<Property<Protocol>> {
    vec![
        // So there is nothing to heal while nobody interferes from outside.
        Property::always(A_RUN_HAS_ITS_ENTRY, |_, world: &World| {
            (0..RUNS).all(|run| world.store.has_its_entry(run))
        }),
        Property::always(A_LEASE_BEGINS_FRESH, |_, world: &World| {
            !world.store.noted.begun_late
        }),
        Property::always(AN_END_STAYS, |_, world: &World| {
            world.store.runs.iter().all(|record| {
                let first = record.truth.first_end;
                first.is_none_or(|end| record.state == RunState::Ended(end))
            })
        }),
        Property::always(A_RUN_ENDS_ONCE, |_, world: &World| {
            world.store.runs.iter().all(|record| record.truth.ends <= 1)
        }),
        Property::always(SUCCESS_IS_COMPLETE, |_, world: &World| {
            !world.store.noted.ended_early
        }),
        Property::always(ONLY_THE_OWNER_WRITES, |_, world: &World| {
            !world.store.noted.stale_write
        }),
        Property::always(A_STEP_IS_STORED_ONCE, |_, world: &World| {
            let records = world.store.runs.iter();
            let mut stored = records.flat_map(|record| record.truth.stored);
            stored.all(|times| times <= 1)
        }),
        Property::always(ONE_EXECUTION, |_, world: &World| {
            world.workers.iter().all(|worker| {
                let mut pairs = worker.executions.windows(2);
                pairs.all(|pair| pair[0].lease.run != pair[1].lease.run)
            })
        }),
        Property::always(ANSWERS_ARE_TRUE, |_, world: &World| {
            (0..RUNS).all(|run| match world.api.callers[run] {
                Caller::Answered(end) => world.store.end_of(run) == Some(end),
                _ => true,
            })
        }),
        Property::always(NO_RUN_COSTS_MORE, |_, world: &World| {
            let mut records = world.store.runs.iter();
            records.all(|record| record.truth.crashes <= CLAIMS_MAX)
        }),
        Property::always(NONE_IS_DEAD_EARLY, |_, world: &World| {
            !world.store.noted.dead_early
        }),
    ]
}

fn what_is_possible() -> Vec<Property<Protocol>> {
    vec![
        Property::sometimes(A_STALE_WRITE_IS_REFUSED, |_, world: &World| {
            world.store.noted.refused
        }),
        Property::sometimes(ANOTHER_FINISHES, |_, world: &World| {
            let executions = world.workers.iter().flat_map(|worker| &worker.executions);
            let mut older = executions
                .map(|execution| execution.lease)
                .filter(|lease| lease.epoch < world.store.runs[lease.run].epoch);
            older.any(|lease| world.store.end_of(lease.run) == Some(End::Succeeded))
        }),
        Property::sometimes(ONE_GOES_ON, |_, world: &World| {
            let mut records = world.store.runs.iter();
            records.any(|record| {
                record.state == RunState::Queued && record.steps > 0 && record.truth.losses > 0
            })
        }),
        Property::sometimes(ONE_IS_DEAD, |_, world: &World| one_ended(world, End::Dead)),
        Property::sometimes(ONE_IS_CANCELLED, |_, world: &World| {
            one_ended(world, End::Cancelled)
        }),
        // That it is answered all the same is one of the promises.
        Property::sometimes(A_MESSAGE_IS_LOST, |_, world: &World| {
            let waits = |run: usize| matches!(world.api.callers[run], Caller::Waiting { .. });
            let lost =
                |run| world.store.end_of(run).is_some() && world.store.messages[run].is_none();
            (0..RUNS).any(|run| waits(run) && lost(run))
        }),
    ]
}

fn one_ended(world: &World, end: End) -> bool {
    (0..RUNS).any(|run| world.store.end_of(run) == Some(end))
}
