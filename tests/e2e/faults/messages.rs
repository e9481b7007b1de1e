//! Messages that are lost while callers wait.

use std::time::{Duration, Instant};

use harness::{Service, Setup};

use super::{assert_all_succeed, waiting_starts};
use crate::flows::{gated, quick};

#[tokio::test]
async fn an_api_that_stood_still_while_runs_ended_tells_all_who_waited() {
    let service = Service::start(Setup::default()).await;
    // Redis cuts a subscriber off that does not take its messages.
    let limit = "pubsub 1 1 1";
    let set = ["CONFIG", "SET", "client-output-buffer-limit", limit];
    let _: String = service.redis.command(&set).await;
    let admin = service.admin();
    let gate = service.gate("gate");
    admin.publish(&gated("slow", &gate)).await;
    let waits = waiting_starts(&admin, "slow", "", 20);
    gate.reached_by(20).await;
    service.apis[0].freeze();
    gate.open();
    service.open_runs(0).await;
    let thawed = Instant::now();
    service.apis[0].thaw();
    assert_all_succeed(waits).await;
    assert!(thawed.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn scripts_that_are_forgotten_all_the_time_cost_nothing() {
    let service = Service::start(Setup::default()).await;
    let admin = service.admin();
    admin.publish(&quick("hello")).await;
    let mut connection = service.redis.connection().await;
    let forgetting = tokio::spawn(async move {
        loop {
            let mut forget = redis::cmd("SCRIPT");
            forget
                .arg("FLUSH")
                .exec_async(&mut connection)
                .await
                .unwrap();
            tokio::task::yield_now().await;
        }
    });
    assert_all_succeed(waiting_starts(&admin, "hello", "", 200)).await;
    forgetting.abort();
}
