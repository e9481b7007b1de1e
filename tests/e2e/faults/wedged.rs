//! A worker that may not ask for runs any more, although Redis answers.

use std::time::Duration;

use harness::{SOON, Service, Setup, eventually};

use super::{assert_all_succeed, waiting_starts};
use crate::flows::{gated, quick};

/// Allows or forbids everybody who gives no name to read the queues.
async fn set_reading(service: &Service, rule: &str) {
    let set = ["ACL", "SETUSER", "default", rule];
    let _: String = service.redis.command(&set).await;
}

async fn says_that_it_is_stuck(service: &Service) {
    let worker = &service.workers[0];
    eventually(SOON, "the worker to say that it gets nowhere", || async {
        let told = worker.readiness().await;
        told.contains("no run could be asked for").then_some(())
    })
    .await;
    assert!(!worker.is_ready().await);
}

#[tokio::test]
async fn a_worker_that_gets_nowhere_says_so_and_ends_itself() {
    let mut service = Service::start(Setup {
        worker: &[("MILLSTREAM_WEDGED_AFTER", "2s")],
        ..Setup::default()
    })
    .await;
    let admin = service.admin();
    let gate = service.gate("gate");
    admin.publish(&gated("slow", &gate)).await;
    admin.publish(&quick("hello")).await;
    let mut waits = waiting_starts(&admin, "slow", "", 1);
    gate.reached_by(1).await;
    set_reading(&service, "-xreadgroup").await;
    waits.extend(waiting_starts(&admin, "hello", "", 5));
    says_that_it_is_stuck(&service).await;
    // What it executes it carries through.
    eventually(SOON, "the worker to end itself", || async {
        service.workers[0]
            .log()
            .contains("ending myself")
            .then_some(())
    })
    .await;
    gate.open();
    let ended = service.workers[0].ended().await;
    assert_eq!(ended.code(), Some(1));
    let log = service.workers[0].log();
    let why = log.lines().find(|line| line.starts_with("error: "));
    let why = why.unwrap_or_else(|| panic!("{log}"));
    assert!(why.contains("no run could be asked for") && why.contains("although redis answers"));

    let other = [
        "ACL", "SETUSER", "other", "on", ">word", "~*", "&*", "+@all",
    ];
    let _: String = service.redis.command(&other).await;
    let url = format!("{}?user=other&pass=word", service.redis.url());
    let named = [("MILLSTREAM_REDIS_URL", url)];
    service.add_worker_with(&named).await;
    assert_all_succeed(waits).await;
    assert_eq!(gate.arrivals().len(), 1);
}

#[tokio::test]
async fn a_worker_that_gets_on_again_in_time_goes_on() {
    let mut service = Service::start(Setup {
        worker: &[("MILLSTREAM_WEDGED_AFTER", "4s")],
        ..Setup::default()
    })
    .await;
    let admin = service.admin();
    admin.publish(&quick("hello")).await;
    set_reading(&service, "-xreadgroup").await;
    let waits = waiting_starts(&admin, "hello", "", 5);
    says_that_it_is_stuck(&service).await;
    set_reading(&service, "+xreadgroup").await;
    assert_all_succeed(waits).await;
    let worker = &mut service.workers[0];
    eventually(Duration::from_secs(5), "the worker to be ready", || async {
        worker.is_ready().await.then_some(())
    })
    .await;
    assert!(worker.is_running());
}
