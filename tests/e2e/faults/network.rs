//! A worker that Redis is cut off from, and one that Redis was told to forget.

use std::fs;

use harness::{Passage, Proxy, SOON, Service, Setup, eventually};

use super::{assert_all_succeed, waiting_starts};
use crate::flows::{gated, shell};

/// The worker stays alive, and so do its steps, until it hears that it has lost
/// its lease; then it writes nothing more.
#[tokio::test]
async fn a_worker_that_is_cut_off_loses_its_run_and_changes_nothing_afterwards() {
    let mut service = Service::start(Setup {
        workers: 0,
        ..Setup::default()
    })
    .await;
    let way = Proxy::to(&service.redis).await;
    let settings = [
        ("MILLSTREAM_REDIS_URL", way.url()),
        ("MILLSTREAM_REDIS_TIMEOUT", "500ms".to_owned()),
    ];
    service.add_worker_with(&settings).await;
    let admin = service.admin();
    let gate = service.gate("gate");
    let file = service.folder().join("lines");
    let note = format!("echo done >> '{}'", file.display());
    let flow = shell("two", &[("wait", &gate.script()), ("note", &note)]);
    admin.publish(&flow).await;
    let waits = waiting_starts(&admin, "two", "", 1);
    gate.reached_by(1).await;

    way.set(Passage::Silent);
    service.add_worker().await;
    gate.reached_by(2).await;
    gate.open();
    assert_all_succeed(waits).await;
    way.set(Passage::Open);
    let cut_off = &service.workers[0];
    eventually(SOON, "the worker to hear of its loss", || async {
        cut_off.log().contains("lease").then_some(())
    })
    .await;
    eventually(SOON, "the worker to be ready again", || async {
        cut_off.is_ready().await.then_some(())
    })
    .await;
    assert_eq!(fs::read_to_string(&file).unwrap(), "done\n");
}

/// Redis then has no lease of what the worker executes, until it is made anew.
#[tokio::test]
async fn a_worker_that_redis_forgot_keeps_its_run_and_can_still_be_replaced() {
    let mut service = Service::start(Setup {
        worker: &[("MILLSTREAM_HEAL_EVERY", "300ms")],
        ..Setup::default()
    })
    .await;
    let admin = service.admin();
    let gate = service.gate("gate");
    admin.publish(&gated("slow", &gate)).await;
    let waits = waiting_starts(&admin, "slow", "", 1);
    gate.reached_by(1).await;
    let queue = "ms:{0}:queue:default:normal";
    let run: Vec<String> = service
        .redis
        .command(&["ZRANGE", "ms:{0}:open", "0", "0"])
        .await;
    let (run, _) = run[0].split_once(' ').unwrap();
    let key = format!("ms:{{0}}:run:{run}");
    let owner: String = service.redis.command(&["HGET", &key, "worker"]).await;
    let forget = ["XGROUP", "DELCONSUMER", queue, "workers", &owner];
    let lost: u64 = service.redis.command(&forget).await;
    assert_eq!(lost, 1, "the run was not pending");
    eventually(SOON, "the lease to be there again", || async {
        let pending = ["XPENDING", queue, "workers"];
        let pending: (u64, redis::Value, redis::Value, redis::Value) =
            service.redis.command(&pending).await;
        (pending.0 == 1).then_some(())
    })
    .await;
    service.add_worker().await;
    service.workers[0].kill();
    gate.reached_by(2).await;
    gate.open();
    assert_all_succeed(waits).await;
}
