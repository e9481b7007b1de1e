//! The protocol between API, Redis and workers as a model, looked at in every
//! interleaving: two workers, two runs of two steps, one API process.
//!
//! In the model are claims, beats, sweeps, checkpoints, ends, cancelling, giving
//! back, and waiting for an end. Workers are killed, stand still and go on with
//! leases that are over, calls go astray, messages and subscriptions are lost.
//! Left out are limits of flows, delays, and what is lost or deleted in Redis.

mod api;
mod choices;
mod circles;
mod mistakes;
mod mutation;
mod promises;
mod sameness;
mod scripts;
mod store;
mod worker;
mod world;

use std::time::Instant;

use stateright::{Checker, Model, Property};

use circles::circle;
use mutation::Mutations;
use promises::{
    A_MESSAGE_IS_LOST, A_STALE_WRITE_IS_REFUSED, ANOTHER_FINISHES, ONE_GOES_ON, ONE_IS_CANCELLED,
    ONE_IS_DEAD, Protocol,
};
use world::{Budget, World};

/// Any two faults.
const TWO_FAULTS: Budget = Budget {
    faults: 2,
    crashes: 2,
    stalls: 2,
    astray: 2,
    messages: 2,
    disconnects: 2,
    cancels: 0,
    returns: 0,
};

/// Any one fault, while one run is cancelled and one given back.
const ONE_FAULT_AND_WISHES: Budget = Budget {
    faults: 1,
    cancels: 1,
    returns: 1,
    ..TWO_FAULTS
};

/// Looks at every state, and fails where a promise is broken or one of the
/// `possible` never comes about.
fn assert_kept(budget: Budget, mutations: Mutations, possible: &[&'static str]) {
    let protocol = Protocol { budget, mutations };
    let began = Instant::now();
    let checker = protocol.checker().threads(2);
    let checker = checker
        .symmetry_fn(World::representative)
        .spawn_dfs()
        .join();
    eprintln!(
        "{} states, {} transitions, the longest way {} actions, {:?}",
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth(),
        began.elapsed()
    );
    assert!(checker.is_done());
    for Property {
        name, expectation, ..
    } in protocol.properties()
    {
        let found = checker.discovery(name).map(|path| path.into_actions());
        if expectation.discovery_is_failure() {
            assert_eq!(found, None, "it is not so that {name}");
        } else if possible.contains(&name) {
            assert!(found.is_some(), "it never happens that {name}");
        }
    }
}

#[test]
fn the_protocol_keeps_its_promises_in_every_interleaving() {
    let possible = [
        A_STALE_WRITE_IS_REFUSED,
        ANOTHER_FINISHES,
        ONE_GOES_ON,
        ONE_IS_DEAD,
        A_MESSAGE_IS_LOST,
    ];
    assert_kept(TWO_FAULTS, &[], &possible);
}

#[test]
fn it_keeps_them_where_runs_are_cancelled_and_given_back() {
    let possible = [
        A_STALE_WRITE_IS_REFUSED,
        ANOTHER_FINISHES,
        ONE_GOES_ON,
        ONE_IS_CANCELLED,
    ];
    assert_kept(ONE_FAULT_AND_WISHES, &[], &possible);
}
#[test]
fn nothing_goes_round_in_circles() {
    let budget = Budget {
        faults: 1,
        ..TWO_FAULTS
    };
    let mutations = &[];
    let found = circle(&Protocol { budget, mutations });
    assert!(found.is_none(), "this state can follow itself: {found:#?}");
}
