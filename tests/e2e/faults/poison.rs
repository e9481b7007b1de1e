//! A run that kills whoever executes it, beside runs that do not, and workers
//! that differ in how long they may be silent.

use std::fs;

use harness::{SOON, Service, Setup, eventually};

use super::{answered, assert_all_succeed, waiting_starts};
use crate::flows::{gated, quick, shell};

/// All of them were on their way each time when a worker was lost.
#[tokio::test]
async fn a_run_that_kills_its_workers_takes_none_of_those_beside_it_along() {
    let mut service = Service::start(Setup {
        workers: 0,
        ..Setup::default()
    })
    .await;
    let admin = service.admin();
    let noted = service.folder().join("noted");
    let deadly = format!(
        "echo x >> '{}'; kill -KILL $(cut -d ' ' -f 4 /proc/$PPID/stat); sleep 60",
        noted.display()
    );
    admin.publish(&shell("deadly", &[("kill", &deadly)])).await;
    admin.publish(&shell("slow", &[("sleep", "sleep 2")])).await;
    let mut innocent = waiting_starts(&admin, "slow", "", 3);
    service.open_runs(3).await;
    let mut poison = waiting_starts(&admin, "deadly", "", 1);
    service.open_runs(4).await;
    innocent.extend(waiting_starts(&admin, "slow", "", 2));
    service.open_runs(6).await;
    // Somebody starts a new worker whenever one has ended.
    for lost in 1..=3 {
        let worker = service.start_worker(&[]).await;
        worker.ended().await;
        let executions = fs::read_to_string(&noted).unwrap().lines().count();
        assert_eq!(executions, lost);
    }
    service.add_worker().await;
    let dead = answered(poison.remove(0)).await;
    assert_eq!(dead.run_status(), "Failed");
    assert_eq!(
        service.run_error(&dead.run_id()).await["code"],
        "workers_lost"
    );
    assert_all_succeed(innocent).await;
    assert_eq!(fs::read_to_string(&noted).unwrap().lines().count(), 3);
}

#[tokio::test]
async fn a_run_that_was_executed_alone_takes_its_turn_with_others_again() {
    let mut service = Service::start(Setup {
        workers: 0,
        worker: &[("MILLSTREAM_MAX_CLAIMS", "2")],
        ..Setup::default()
    })
    .await;
    let admin = service.admin();
    let (first, second) = (service.gate("first"), service.gate("second"));
    let steps = [("one", &*first.script()), ("two", &*second.script())];
    admin.publish(&shell("slow", &steps)).await;
    admin.publish(&quick("hello")).await;
    let waits = waiting_starts(&admin, "slow", "", 1);
    service.add_worker().await;
    first.reached_by(1).await;
    service.workers[0].kill();
    service.add_worker().await;
    first.reached_by(2).await;
    // Nothing is executed beside it before one of its steps has ended.
    let beside = admin.start("hello").await;
    let alone: u64 = service
        .redis
        .command(&["XLEN", "ms:{0}:queue:default:alone"])
        .await;
    assert_eq!(alone, 1);
    assert_eq!(admin.status("hello", &beside).await, "Pending");
    first.open();
    second.reached_by(1).await;
    assert_eq!(admin.end("hello", &beside).await, "Succeeded");
    second.open();
    assert_all_succeed(waits).await;
}

#[tokio::test]
async fn the_lease_of_its_worker_is_what_counts_for_a_run() {
    let mut service = Service::start(Setup {
        workers: 0,
        ..Setup::default()
    })
    .await;
    let admin = service.admin();
    let gate = service.gate("gate");
    admin.publish(&gated("slow", &gate)).await;
    admin.publish(&quick("hello")).await;
    let patient = [("MILLSTREAM_LEASE", "5m".to_owned())];
    service.add_worker_with(&patient).await;
    let waits = waiting_starts(&admin, "slow", "", 1);
    gate.reached_by(1).await;
    let hasty = [("MILLSTREAM_LEASE", "300ms".to_owned())];
    service.add_worker_with(&hasty).await;
    // It has looked for silent workers many times meanwhile.
    let delayed = waiting_starts(&admin, "hello", "&delay=2", 1);
    assert_all_succeed(delayed).await;
    assert_eq!(gate.arrivals().len(), 1);
    gate.open();
    assert_all_succeed(waits).await;
    let hasty = &service.workers[1];
    assert_eq!(hasty.counted("millstream_runs_reclaimed_total").await, 0);
    eventually(SOON, "nothing to be left", || async {
        let open: u64 = service.redis.command(&["ZCARD", "ms:{0}:open"]).await;
        (open == 0).then_some(())
    })
    .await;
}
