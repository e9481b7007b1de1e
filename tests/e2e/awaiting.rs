//! Every waiting caller is answered, whatever happens in between.

use std::time::{Duration, Instant};

use futures::{FutureExt, future::join_all};
use harness::{Answer, Client, SOON, Service, Setup, eventually};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::flows::{gated, quick};

/// A wait that goes on while the test does something else.
fn waiting(caller: &Client, flow: &str, run: &str) -> tokio::task::JoinHandle<Answer> {
    tokio::spawn(Answer::of(caller.status_request(flow, run, "?await=true")))
}

#[tokio::test]
async fn a_wait_ends_with_the_run_and_not_before() {
    let service = Service::start(Setup::default()).await;
    let admin = service.admin();
    let gate = service.gate("gate");
    admin.publish(&gated("slow", &gate)).await;
    let mut starting = tokio::spawn(Answer::of(admin.start_request("slow", "?await=true")));
    gate.reached_by(1).await;
    assert!((&mut starting).now_or_never().is_none());
    gate.open();
    let answer = starting.await.unwrap();
    assert_eq!((answer.status, &*answer.run_status()), (200, "Succeeded"));
}

#[tokio::test]
async fn an_idle_service_answers_without_a_polling_interval() {
    let service = Service::start(Setup::default()).await;
    let admin = service.admin();
    admin.publish(&quick("hello")).await;
    let mut took = Vec::new();
    for _ in 0..15 {
        let began = Instant::now();
        assert_eq!(admin.run("hello").await, "Succeeded");
        took.push(began.elapsed());
    }
    took.sort();
    // Far more than it takes, and far less than any interval of polling, so
    // that a machine under load does not make the test fail.
    let median = took[took.len() / 2];
    assert!(median < Duration::from_millis(250), "{took:?}");
}

#[tokio::test]
async fn a_run_started_at_one_api_is_awaited_at_another() {
    let service = Service::start(Setup {
        apis: 2,
        ..Setup::default()
    })
    .await;
    let (one, other) = (service.admin_at(0), service.admin_at(1));
    let gate = service.gate("gate");
    one.publish(&gated("slow", &gate)).await;
    let run = one.start("slow").await;
    let waits = [
        waiting(&one, "slow", &run),
        waiting(&other, "slow", &run),
        waiting(&other, "slow", &run),
    ];
    gate.reached_by(1).await;
    gate.open();
    for answer in join_all(waits).await {
        assert_eq!(answer.unwrap().run_status(), "Succeeded");
    }
    assert_eq!(other.end("slow", &run).await, "Succeeded");
}

#[tokio::test]
async fn a_long_wait_is_kept_alive_by_spaces_before_the_json() {
    let service = Service::start(Setup {
        api: &[("MILLSTREAM_AWAIT_KEEPALIVE", "200ms")],
        ..Setup::default()
    })
    .await;
    let admin = service.admin();
    let gate = service.gate("gate");
    admin.publish(&gated("slow", &gate)).await;

    let request = admin.start_request("slow", "?await=true");
    let mut response = request.send().await.unwrap();
    // The head is here although the run has not ended.
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "application/json");
    let run = response.headers()["x-run-id"].to_str().unwrap().to_owned();
    assert!(response.headers().contains_key("location"));
    gate.reached_by(1).await;
    assert_eq!(admin.status("slow", &run).await, "Running");

    let mut body = Vec::new();
    while body.len() < 3 {
        body.extend(response.chunk().await.unwrap().unwrap());
    }
    assert!(body.iter().all(|byte| *byte == b' '), "{body:?}");
    gate.open();
    while let Some(chunk) = response.chunk().await.unwrap() {
        body.extend(chunk);
    }
    let told: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(told["runId"], *run);
    assert_eq!(told["status"], "Succeeded");
    assert_eq!(told.as_object().unwrap().len(), 2);
}

#[tokio::test]
async fn an_api_that_stops_answers_every_open_wait() {
    let mut service = Service::start(Setup {
        apis: 2,
        api: &[("MILLSTREAM_AWAIT_KEEPALIVE", "500ms")],
        ..Setup::default()
    })
    .await;
    let (stopping, staying) = (service.admin_at(0), service.admin_at(1));
    let gate = service.gate("gate");
    stopping.publish(&gated("slow", &gate)).await;
    let run = stopping.start("slow").await;
    gate.reached_by(1).await;
    let mut waits: Vec<_> = (0..20).map(|_| waiting(&stopping, "slow", &run)).collect();
    let start = stopping.start_request("slow", "?await=true");
    waits.push(tokio::spawn(Answer::of(start)));
    // The last one has been accepted when its run has begun.
    gate.reached_by(2).await;

    service.apis[0].signal(Signal::SIGTERM);
    for answer in join_all(waits).await {
        let answer = answer.unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.run_status(), "Running");
    }
    assert!(service.apis[0].ended().await.success());

    gate.open();
    assert_eq!(staying.end("slow", &run).await, "Succeeded");
}

#[tokio::test]
async fn a_subscription_that_breaks_hangs_nobody() {
    let service = Service::start(Setup::default()).await;
    let admin = service.admin();
    for round in 0..5 {
        let id = format!("slow{round}");
        let gate = service.gate(&id);
        admin.publish(&gated(&id, &gate)).await;
        let wait = tokio::spawn(Answer::of(admin.start_request(&id, "?await=true")));
        gate.reached_by(1).await;
        let kill = ["CLIENT", "KILL", "TYPE", "pubsub"];
        let killed: i64 = service.redis.command(&kill).await;
        assert!(killed >= 1, "the API has no subscription");
        gate.open();
        let began = Instant::now();
        assert_eq!(wait.await.unwrap().run_status(), "Succeeded");
        assert!(began.elapsed() < Duration::from_secs(15));
    }
}

#[tokio::test]
async fn a_caller_that_goes_away_does_not_cancel_its_run() {
    let service = Service::start(Setup::default()).await;
    let admin = service.admin();
    let gate = service.gate("gate");
    admin.publish(&gated("slow", &gate)).await;
    let request = admin
        .start_request("slow", "?await=true")
        .header("Idempotency-Key", "once");
    let gone = tokio::spawn(Answer::of(request));
    gate.reached_by(1).await;
    gone.abort();
    let again = admin
        .start_request("slow", "?await=true&timeout=0")
        .header("Idempotency-Key", "once");
    let again = Answer::of(again).await;
    assert_eq!(again.run_status(), "Running");
    gate.open();
    assert_eq!(admin.end("slow", &again.run_id()).await, "Succeeded");
}

#[tokio::test]
async fn waits_survive_a_redis_that_is_killed_and_comes_back() {
    let mut service = Service::start(Setup::default()).await;
    let admin = service.admin();
    let gate = service.gate("gate");
    admin.publish(&gated("slow", &gate)).await;
    admin.publish(&quick("hello")).await;
    let running = tokio::spawn(Answer::of(admin.start_request("slow", "?await=true")));
    gate.reached_by(1).await;
    let delayed = admin.start_request("hello", "?await=true&delay=2");
    let delayed = tokio::spawn(Answer::of(delayed));
    // The append-only file is written once a second; a start that was answered
    // a moment before the kill is what `appendfsync always` is for.
    let saved = ["WAITAOF", "1", "0", "5000"];
    eventually(SOON, "both runs to be in Redis", || async {
        let runs: Vec<String> = service.redis.command(&["KEYS", "ms:{0}:run:*"]).await;
        let runs = runs.iter().filter(|key| !key.ends_with(":steps"));
        (runs.count() == 2).then_some(())
    })
    .await;
    let mut connection = service.redis.connection().await;
    let waited: Result<Vec<i64>, _> = redis_command(&saved).query_async(&mut connection).await;
    if waited.is_err() {
        // Redis before 7.2 has no WAITAOF; rewriting the file saves as well.
        let _: String = service.redis.command(&["BGREWRITEAOF"]).await;
    }
    service.redis.kill();
    gate.open();
    service.redis.restart();
    for wait in [running, delayed] {
        assert_eq!(wait.await.unwrap().run_status(), "Succeeded");
    }
}

fn redis_command(words: &[&str]) -> redis::Cmd {
    let mut command = redis::Cmd::new();
    for word in words {
        command.arg(*word);
    }
    command
}
