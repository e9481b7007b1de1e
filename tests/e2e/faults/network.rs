//! A worker that Redis is cut off from, and one that Redis was told to forget.

use std::{fs, time::Duration};

use harness::{Answer, Passage, Proxy, SOON, Service, Setup, eventually};

use super::{assert_all_succeed, waiting_starts};
use crate::{
    crash::has_ended,
    flows::{gated, quick, shell},
};

/// Two leases, which a worker is cut off for.
const CUT_OFF: Duration = Duration::from_secs(2);

/// A service with one worker that reaches Redis through a proxy.
async fn behind_a_proxy(lease: &str) -> (Service, Proxy) {
    let mut service = Service::start(Setup {
        workers: 0,
        worker: &[("MILLSTREAM_REDIS_TIMEOUT", "500ms")],
        ..Setup::default()
    })
    .await;
    let proxy = Proxy::to(&service.redis).await;
    let through = [
        ("MILLSTREAM_REDIS_URL", proxy.url()),
        ("MILLSTREAM_LEASE", lease.to_owned()),
    ];
    service.add_worker_with(&through).await;
    (service, proxy)
}

/// Whatever way a worker is cut off, another one goes on with its run, and it
/// stops what it does and writes nothing when it is back.
async fn cut_off(passage: Passage) {
    let (mut service, proxy) = behind_a_proxy("1s").await;
    let admin = service.admin();
    let gate = service.gate("gate");
    let lines = service.folder().join("lines");
    let note = format!("echo two >> '{}'", lines.display());
    let steps = [("one", &*gate.script()), ("two", &*note)];
    admin.publish(&shell("slow", &steps)).await;
    admin.publish(&quick("hello")).await;
    let waits = waiting_starts(&admin, "slow", "", 1);
    let processes = gate.reached_by(1).await;
    service.add_worker().await;

    proxy.set(passage);
    gate.reached_by(2).await;
    // The other worker has it; this one is to be cut off for some time more.
    tokio::time::sleep(CUT_OFF).await;
    proxy.set(Passage::Open);
    eventually(SOON, "the worker to stop its step", || async {
        has_ended(processes[0]).then_some(())
    })
    .await;
    gate.open();
    assert_all_succeed(waits).await;
    assert_eq!(fs::read_to_string(&lines).unwrap(), "two\n");
    let keys: Vec<String> = service.redis.command(&["KEYS", "ms:{0}:run:*"]).await;
    let record = [
        "HGETALL",
        keys.iter().find(|key| !key.ends_with(":steps")).unwrap(),
    ];
    let before: Vec<String> = service.redis.command(&record).await;

    // It is sound: it is the only one that can take this.
    service.workers[1].kill();
    assert_eq!(admin.run("hello").await, "Succeeded");
    let after: Vec<String> = service.redis.command(&record).await;
    assert_eq!(before, after);
    assert_eq!(gate.arrivals().len(), 2);
    assert_eq!(
        service.workers[0]
            .counted("millstream_leases_lost_total")
            .await,
        1
    );
}

#[tokio::test]
async fn a_worker_that_hears_nothing_of_redis_loses_its_run_to_another() {
    cut_off(Passage::Silent).await;
}

#[tokio::test]
async fn a_worker_that_cannot_connect_to_redis_loses_its_run_to_another() {
    cut_off(Passage::Cut).await;
}

#[tokio::test]
async fn a_worker_that_is_cut_off_starts_no_further_step() {
    let (service, proxy) = behind_a_proxy("1s").await;
    let admin = service.admin();
    let gate = service.gate("gate");
    let lines = service.folder().join("lines");
    let note = format!("echo two >> '{}'", lines.display());
    let steps = [("one", &*gate.script()), ("two", &*note)];
    admin.publish(&shell("slow", &steps)).await;
    let waits = waiting_starts(&admin, "slow", "", 1);
    gate.reached_by(1).await;
    proxy.set(Passage::Silent);
    gate.open();
    let worker = &service.workers[0];
    eventually(SOON, "the worker to see that it cannot write", || async {
        worker.log().contains("redis did not take it").then_some(())
    })
    .await;
    eventually(SOON, "the worker to say that it gets nowhere", || async {
        (!worker.is_ready().await).then_some(())
    })
    .await;
    assert!(!lines.exists(), "a step was started");
    proxy.set(Passage::Open);
    assert_all_succeed(waits).await;
    assert_eq!(fs::read_to_string(&lines).unwrap(), "two\n");
}

/// Its lease is over before the next attempt is due, so it waits for a sign that it is not.
#[tokio::test]
async fn a_worker_that_is_cut_off_tries_no_step_again() {
    let (mut service, proxy) = behind_a_proxy("400ms").await;
    let admin = service.admin();
    let (tries, good) = (
        service.folder().join("tries"),
        service.folder().join("good"),
    );
    let script = format!(
        "echo x >> '{}'; [ -e '{}' ]",
        tries.display(),
        good.display()
    );
    let flow = shell("slow", &[("one", &script)]);
    admin
        .publish(&(flow + "    retry: { attempts: 3, initial: 900ms, backoff: constant }\n"))
        .await;
    let waits = waiting_starts(&admin, "slow", "", 1);
    eventually(SOON, "the first attempt to fail", || async {
        let log = service.workers[0].log();
        log.contains("to be tried again").then_some(())
    })
    .await;
    proxy.set(Passage::Silent);
    fs::write(&good, "").unwrap();
    service.add_worker().await;
    assert_all_succeed(waits).await;
    let tries = fs::read_to_string(&tries).unwrap();
    assert_eq!(tries.lines().count(), 2, "both workers tried it again");
    proxy.set(Passage::Open);
}

#[tokio::test]
async fn a_slow_network_costs_time_and_nothing_else() {
    let (service, proxy) = behind_a_proxy("1s").await;
    let admin = service.admin();
    admin.publish(&quick("hello")).await;
    proxy.set(Passage::Slow(Duration::from_millis(100)));
    assert_all_succeed(waiting_starts(&admin, "hello", "", 20)).await;
    let worker = &service.workers[0];
    assert_eq!(worker.counted("millstream_runs_reclaimed_total").await, 0);
    assert_eq!(worker.counted("millstream_leases_lost_total").await, 0);
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

/// What the worker does not know of it takes up at once: it does not wait for
/// its own lease to be over, and nothing counts as lost.
#[tokio::test]
async fn a_run_whose_claim_was_answered_to_nobody_is_executed_at_once() {
    let mut service = Service::start(Setup {
        workers: 0,
        // Far longer than anything here takes.
        worker: &[("MILLSTREAM_LEASE", "5m")],
        ..Setup::default()
    })
    .await;
    let way = Proxy::to(&service.redis).await;
    let through = [("MILLSTREAM_REDIS_URL", way.url())];
    service.add_worker_with(&through).await;
    let admin = service.admin();
    admin.publish(&quick("hello")).await;
    for _ in 0..3 {
        let start = admin.start_request("hello", "?delay=1");
        let run = Answer::of(start).await.run_id();
        way.lose_the_answer_to(&run);
        assert_eq!(admin.end("hello", &run).await, "Succeeded");
        assert!(way.has_lost_it());
    }
}
