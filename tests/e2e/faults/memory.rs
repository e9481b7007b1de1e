//! A Redis whose memory is full, or that would rather forget than be full.

use harness::{Answer, PrivateRedis, RedisSetup, SOON, Service, Setup, eventually};
use serde_json::json;

use super::{
    assert_all_succeed, assert_refused, assert_unavailable, refused_at_start, waiting_starts,
};
use crate::flows::{gated, quick, shell};

/// How many runs are queued when memory runs out, and how long the input of
/// each is: together far more than anything else in Redis.
const QUEUED: usize = 30;
const INPUT_BYTES: usize = 200_000;

/// A flow whose input only takes up room.
const BULKY: &str = "id: bulky
inputs:
  text: { type: string }
steps:
  - id: one
    set: { done: true }
  - id: two
    needs: [one]
    set: { done: true }
";

async fn set_room(service: &Service, bytes: u64) {
    let set = ["CONFIG", "SET", "maxmemory", &bytes.to_string()];
    service.redis.command::<String>(&set).await;
}

async fn used_memory(service: &Service) -> u64 {
    let info: String = service.redis.command(&["INFO", "memory"]).await;
    let used = info
        .lines()
        .find_map(|line| line.strip_prefix("used_memory:"));
    used.unwrap().trim().parse().unwrap()
}

#[tokio::test]
async fn a_full_memory_refuses_starts_and_drains_by_itself() {
    let service = Service::start(Setup {
        worker: &[("MILLSTREAM_SLOTS", "1"), ("MILLSTREAM_RETENTION", "1s")],
        ..Setup::default()
    })
    .await;
    let admin = service.admin();
    let gate = service.gate("gate");
    admin.publish(&gated("slow", &gate)).await;
    admin.publish(BULKY).await;
    let mut waits = waiting_starts(&admin, "slow", "", 1);
    gate.reached_by(1).await;
    for _ in 0..QUEUED {
        let body = json!({ "inputs": { "text": "x".repeat(INPUT_BYTES) } });
        let start = admin.start_request("bulky", "?await=true").json(&body);
        waits.push(tokio::spawn(Answer::of(start)));
    }
    service.open_runs(waits.len()).await;

    let room = used_memory(&service).await - (QUEUED * INPUT_BYTES / 2) as u64;
    set_room(&service, room).await;
    let keys: u64 = service.redis.command(&["DBSIZE"]).await;
    let start = admin
        .start_request("slow", "")
        .header("Idempotency-Key", "once");
    assert_unavailable(&Answer::of(start).await);
    assert_refused(&admin, "bulky").await;
    let keys_after: u64 = service.redis.command(&["DBSIZE"]).await;
    assert_eq!(keys, keys_after, "a refused start left something behind");
    gate.open();
    assert_all_succeed(waits).await;
    eventually(SOON, "the room to be enough again", || async {
        let start = admin.start_request("slow", "?await=true");
        let answer = Answer::of(start).await;
        (answer.status == 200).then(|| assert_eq!(answer.run_status(), "Succeeded"))
    })
    .await;
}

#[tokio::test]
async fn a_run_that_becomes_due_while_memory_is_full_is_executed() {
    let service = Service::start(Setup::default()).await;
    let admin = service.admin();
    admin
        .publish(&shell("two", &[("one", "true"), ("two", "true")]))
        .await;
    let waits = waiting_starts(&admin, "two", "&delay=1", 3);
    eventually(SOON, "all runs to be delayed", || async {
        let delayed: usize = service.redis.command(&["ZCARD", "ms:{0}:delayed"]).await;
        (delayed == waits.len()).then_some(())
    })
    .await;
    set_room(&service, 1).await;
    // The worker has nothing to do, so what becomes due comes to it through its
    // blocking read.
    assert_all_succeed(waits).await;
    assert_refused(&admin, "two").await;
    assert_eq!(
        service.workers[0]
            .counted("millstream_runs_reclaimed_total")
            .await,
        0
    );
}

#[tokio::test]
async fn a_worker_that_dies_while_memory_is_full_is_replaced() {
    let mut service = Service::start(Setup::default()).await;
    let admin = service.admin();
    let gate = service.gate("gate");
    admin.publish(&gated("slow", &gate)).await;
    let waits = waiting_starts(&admin, "slow", "", 1);
    gate.reached_by(1).await;
    service.add_worker().await;
    set_room(&service, 1).await;
    service.workers[0].kill();
    gate.reached_by(2).await;
    gate.open();
    assert_all_succeed(waits).await;
}

#[tokio::test]
async fn a_run_can_be_waited_for_while_memory_is_full() {
    let service = Service::start(Setup::default()).await;
    let admin = service.admin();
    let gate = service.gate("gate");
    admin.publish(&gated("slow", &gate)).await;
    let run = admin.start("slow").await;
    gate.reached_by(1).await;
    set_room(&service, 1).await;
    let wait = Answer::of(admin.status_request("slow", &run, "?await=true&timeout=0.1")).await;
    assert_eq!((wait.status, &*wait.run_status()), (200, "Running"));
    gate.open();
    assert_eq!(admin.end("slow", &run).await, "Succeeded");
}

#[tokio::test]
async fn a_redis_that_may_forget_runs_is_refused_in_one_line() {
    for policy in ["allkeys-lru", "volatile-lru"] {
        let redis = PrivateRedis::start_as(RedisSetup::with(&["--maxmemory-policy", policy]));
        for log in refused_at_start(&redis).await {
            let told: Vec<_> = log.lines().filter(|line| line.contains(policy)).collect();
            assert!(
                matches!(told[..], [line] if line.starts_with("error: ") && line.contains("noeviction")),
                "{log}"
            );
        }
        let keys: u64 = redis.command(&["DBSIZE"]).await;
        assert_eq!(keys, 0, "something was stored where it may be forgotten");
    }
}

#[tokio::test]
async fn a_service_whose_first_flow_came_before_the_memory_was_full_still_answers() {
    let service = Service::start(Setup::default()).await;
    let admin = service.admin();
    admin.publish(&quick("hello")).await;
    let run = admin.start("hello").await;
    assert_eq!(admin.end("hello", &run).await, "Succeeded");
    set_room(&service, 1).await;
    assert_eq!(admin.status("hello", &run).await, "Succeeded");
    assert!(service.apis[0].is_ready().await && service.workers[0].is_ready().await);
}
