//! A bounded wait answers 200 with the status of that moment.

use std::time::{Duration, Instant};

use harness::{Answer, SOON, Service, Setup};

use crate::flows::gated;

#[tokio::test]
async fn a_wait_that_ends_early_tells_the_status_of_that_moment() {
    let service = Service::start(Setup::default()).await;
    let admin = service.admin();
    let gate = service.gate("gate");
    admin.publish(&gated("slow", &gate)).await;

    let began = Instant::now();
    let started = Answer::of(admin.start_request("slow", "?await=true&timeout=0.5")).await;
    assert!(began.elapsed() >= Duration::from_millis(500));
    assert!(began.elapsed() < SOON);
    assert_eq!(started.status, 200, "{started:?}");
    let run = started.run_id();
    gate.reached_by(1).await;

    let preferring = admin
        .status_request("slow", &run, "?await=true")
        .header("Prefer", "respond-async, wait=1");
    let began = Instant::now();
    let preferred = Answer::of(preferring).await;
    assert!(began.elapsed() >= Duration::from_secs(1));
    assert_eq!(preferred.run_status(), "Running");

    let query = "?AWAIT=True&TIMEOUT=0";
    let at_once = Answer::of(admin.status_request("slow", &run, query)).await;
    assert_eq!(at_once.run_status(), "Running");

    gate.open();
    let query = "?await=true&timeout=60";
    let ended = Answer::of(admin.status_request("slow", &run, query)).await;
    assert_eq!(ended.run_status(), "Succeeded");
}
