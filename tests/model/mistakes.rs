//! Each mistake is found, as the broken promise that it should be found as.
//! And what is double protection in the scripts turns out to be that.

use stateright::{Checker, HasDiscoveries, Model};

use crate::{
    assert_kept,
    circles::circle,
    mutation::{
        Mutation::{
            BeatUnfenced, BeginKeepsEpoch, BeginRenewsNothing, BeginWithoutLook, CancelKeepsEntry,
            CancelOverEnd, CheckpointKeepsClaims, CheckpointOverwrites, CheckpointUnfenced,
            EnqueueAgain, FinishKeepsEntry, FinishOverEnd, FinishTellsFirst, FinishUnfenced,
            ForgetHolders, LeaseUnrenewed, LossIgnored, NoPoll, NoRecheck, OlderExecutionGoesOn,
            ReadBeforeRegister, ReapForEver, ReapForgetsToQueue, ReapKeepsEpoch, RestartKeepsName,
            WaitNotedLate,
        },
        Mutations,
    },
    promises::{
        A_LEASE_BEGINS_FRESH, A_RUN_ENDS_ONCE, A_RUN_HAS_ITS_ENTRY, A_STEP_IS_STORED_ONCE,
        AN_END_STAYS, ANSWERS_ARE_TRUE, EVERY_CALLER_IS_ANSWERED, EVERY_RUN_ENDS,
        NO_RUN_COSTS_MORE, NONE_IS_DEAD_EARLY, ONE_EXECUTION, ONE_IS_DEAD, ONLY_THE_OWNER_WRITES,
        Protocol, SUCCESS_IS_COMPLETE,
    },
    world::Budget,
};

/// Nothing goes wrong.
const NO_FAULT: Budget = Budget {
    faults: 0,
    crashes: 0,
    stalls: 0,
    astray: 0,
    messages: 0,
    disconnects: 0,
    cancels: 0,
    returns: 0,
};

const ONE_STALL: Budget = Budget {
    faults: 1,
    stalls: 1,
    ..NO_FAULT
};

const ONE_ASTRAY: Budget = Budget {
    faults: 1,
    astray: 1,
    ..NO_FAULT
};

const ONE_CRASH: Budget = Budget {
    faults: 1,
    crashes: 1,
    ..NO_FAULT
};

const THREE_CRASHES: Budget = Budget {
    faults: 3,
    crashes: 3,
    ..NO_FAULT
};

const ONE_CANCELLED: Budget = Budget {
    cancels: 1,
    ..NO_FAULT
};

/// Fails unless the mistakes break the promise. Without them it is kept: other
/// tests look at all that the same faults can lead to.
fn assert_broken(promise: &'static str, budget: Budget, mutations: Mutations) {
    let checker = Protocol { budget, mutations }.checker();
    let checker = checker.finish_when(HasDiscoveries::AllOf([promise].into()));
    let checker = checker.spawn_bfs().join();
    let way = checker.discovery(promise).map(|way| way.into_actions());
    let way = way.unwrap_or_else(|| panic!("with {mutations:?} it is still so that {promise}"));
    eprintln!("with {mutations:?} it is not so that {promise}: {way:#?}");
}

#[test]
fn without_the_fence_of_a_checkpoint_a_stale_worker_writes() {
    assert_broken(ONLY_THE_OWNER_WRITES, ONE_STALL, &[CheckpointUnfenced]);
}

#[test]
fn without_the_fence_of_the_end_a_stale_worker_ends_the_run() {
    assert_broken(ONLY_THE_OWNER_WRITES, ONE_STALL, &[FinishUnfenced]);
}

#[test]
fn without_the_fence_of_a_beat_a_stale_worker_takes_the_run_back() {
    assert_broken(ONLY_THE_OWNER_WRITES, ONE_STALL, &[BeatUnfenced]);
}

#[test]
fn without_a_higher_epoch_there_is_no_fence() {
    let mutations = &[BeginKeepsEpoch, ReapKeepsEpoch];
    assert_broken(ONLY_THE_OWNER_WRITES, ONE_STALL, mutations);
}

#[test]
fn a_claim_that_keeps_the_epoch_lets_in_what_the_last_owner_sent_late() {
    let budget = Budget {
        returns: 1,
        ..ONE_ASTRAY
    };
    assert_broken(ONLY_THE_OWNER_WRITES, budget, &[BeginKeepsEpoch]);
}

#[test]
fn a_sweep_that_keeps_the_epoch_harms_nothing_since_the_next_claim_raises_it() {
    let budget = Budget {
        cancels: 1,
        ..ONE_STALL
    };
    assert_kept(budget, &[ReapKeepsEpoch], &[]);
}

#[test]
fn a_checkpoint_that_overwrites_stores_a_step_twice() {
    assert_broken(A_STEP_IS_STORED_ONCE, ONE_ASTRAY, &[CheckpointOverwrites]);
}

#[test]
fn a_worker_that_goes_on_after_a_loss_ends_a_run_that_is_not_done() {
    let mutations = &[LossIgnored, FinishUnfenced];
    assert_broken(SUCCESS_IS_COMPLETE, ONE_STALL, mutations);
}

#[test]
fn a_worker_must_stop_what_it_lost_before_it_claims_it_anew() {
    assert_broken(ONE_EXECUTION, ONE_STALL, &[OlderExecutionGoesOn]);
}

#[test]
fn an_end_that_looks_at_nothing_replaces_another() {
    let budget = Budget {
        cancels: 1,
        ..ONE_STALL
    };
    let mutations = &[FinishUnfenced, FinishOverEnd];
    assert_broken(AN_END_STAYS, budget, mutations);
}

#[test]
fn a_cancel_that_looks_at_nothing_replaces_an_end() {
    assert_broken(A_RUN_ENDS_ONCE, ONE_CANCELLED, &[CancelOverEnd]);
}

#[test]
fn a_start_that_is_sent_twice_must_be_known() {
    assert_broken(AN_END_STAYS, ONE_ASTRAY, &[EnqueueAgain]);
}

#[test]
fn a_delivery_that_was_overtaken_must_not_begin() {
    assert_broken(AN_END_STAYS, ONE_STALL, &[BeginWithoutLook]);
}

#[test]
fn a_run_that_is_begun_long_after_its_delivery_needs_a_fresh_lease() {
    assert_broken(A_LEASE_BEGINS_FRESH, ONE_STALL, &[BeginRenewsNothing]);
}

#[test]
fn a_message_before_the_end_tells_what_never_comes() {
    assert_broken(ANSWERS_ARE_TRUE, ONE_STALL, &[FinishTellsFirst]);
}

#[test]
fn a_sweep_that_only_acknowledges_loses_the_run() {
    assert_broken(EVERY_RUN_ENDS, ONE_CRASH, &[ReapForgetsToQueue]);
}

#[test]
fn a_consumer_that_is_deleted_with_what_it_holds_loses_the_run() {
    assert_broken(A_RUN_HAS_ITS_ENTRY, ONE_CRASH, &[ForgetHolders]);
    assert_broken(EVERY_RUN_ENDS, ONE_CRASH, &[ForgetHolders]);
}

#[test]
fn an_entry_that_stands_for_no_run_is_cleared_away_by_the_sweep() {
    let mutations = &[FinishKeepsEntry, CancelKeepsEntry];
    assert_kept(ONE_CANCELLED, mutations, &[]);
}

#[test]
fn a_run_that_kills_its_workers_must_be_set_aside() {
    assert_kept(THREE_CRASHES, &[], &[ONE_IS_DEAD]);
    assert_broken(NO_RUN_COSTS_MORE, THREE_CRASHES, &[ReapForEver]);
}

#[test]
fn a_worker_with_an_old_name_hides_that_it_died() {
    assert_broken(NO_RUN_COSTS_MORE, THREE_CRASHES, &[RestartKeepsName]);
}

#[test]
fn a_step_that_ended_must_count_as_progress() {
    let budget = Budget {
        faults: 2,
        crashes: 2,
        ..NO_FAULT
    };
    assert_broken(NONE_IS_DEAD_EARLY, budget, &[CheckpointKeepsClaims]);
}

#[test]
fn who_waits_must_be_noted_before_the_start() {
    let mutations = &[WaitNotedLate, NoPoll];
    assert_broken(EVERY_CALLER_IS_ANSWERED, NO_FAULT, mutations);
}

#[test]
fn who_reads_before_registering_misses_an_end_in_between() {
    let mutations = &[ReadBeforeRegister, NoPoll];
    assert_broken(EVERY_CALLER_IS_ANSWERED, NO_FAULT, mutations);
}

#[test]
fn a_new_subscription_must_be_followed_by_a_look() {
    let budget = Budget {
        faults: 1,
        disconnects: 1,
        ..NO_FAULT
    };
    let mutations = &[NoRecheck, NoPoll];
    assert_broken(EVERY_CALLER_IS_ANSWERED, budget, mutations);
    // That look alone is enough where only connections are lost.
    assert_kept(budget, &[NoPoll], &[]);
}

#[test]
fn a_message_that_got_lost_is_made_up_for_by_the_look_every_ten_seconds() {
    let budget = Budget {
        faults: 1,
        messages: 1,
        ..NO_FAULT
    };
    assert_broken(EVERY_CALLER_IS_ANSWERED, budget, &[NoPoll]);
}

#[test]
fn a_run_that_is_taken_away_for_ever_goes_round_in_circles() {
    let protocol = |mutations| Protocol {
        budget: NO_FAULT,
        mutations,
    };
    assert!(circle(&protocol(&[LeaseUnrenewed, ReapForEver])).is_some());
}
