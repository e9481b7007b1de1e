//! Messages that are lost while callers wait: everybody is answered all the
//! same.

use std::time::{Duration, Instant};

use harness::{SOON, Service, Setup, eventually};

use super::{assert_all_succeed, waiting_starts};
use crate::flows::quick;

const CALLERS: usize = 200;

/// Far less than the ten seconds after which every wait looks for itself.
const FEW_SECONDS: Duration = Duration::from_secs(6);

/// How long the subscriptions are left alone, time and again.
const PAUSE: Duration = Duration::from_millis(20);

#[tokio::test]
async fn a_subscription_that_is_cut_again_and_again_delays_nobody() {
    let service = Service::start(Setup::default()).await;
    let admin = service.admin();
    admin.publish(&quick("hello")).await;
    // All of them wait before the first run can end.
    let began = Instant::now();
    let waits = waiting_starts(&admin, "hello", "&delay=1", CALLERS);
    let cut = async {
        loop {
            let kill = ["CLIENT", "KILL", "TYPE", "pubsub"];
            let _: i64 = service.redis.command(&kill).await;
            tokio::time::sleep(PAUSE).await;
        }
    };
    tokio::select! {
        () = assert_all_succeed(waits) => {}
        () = cut => {}
    }
    assert!(began.elapsed() < FEW_SECONDS, "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_subscriber_that_is_too_slow_misses_messages_and_answers_everybody() {
    let mut service = Service::start(Setup {
        workers: 0,
        ..Setup::default()
    })
    .await;
    let admin = service.admin();
    admin.publish(&quick("hello")).await;
    let limit = [
        "CONFIG",
        "SET",
        "client-output-buffer-limit",
        "pubsub 1k 1k 1",
    ];
    let _: String = service.redis.command(&limit).await;
    let waits = waiting_starts(&admin, "hello", "", CALLERS);
    service.open_runs(CALLERS).await;

    service.apis[0].freeze();
    // What the sockets hold does not count, so there has to be more than that,
    // and some systems let them grow to 32 MiB.
    let noise = "x".repeat(8 << 20);
    eventually(SOON, "Redis to give the subscriber up", || async {
        let publish = ["PUBLISH", "ms:{0}:changes", &noise];
        let heard_by: u64 = service.redis.command(&publish).await;
        (heard_by == 0).then_some(())
    })
    .await;
    service.add_worker().await;
    service.open_runs(0).await;
    service.apis[0].thaw();
    let began = Instant::now();
    assert_all_succeed(waits).await;
    assert!(began.elapsed() < FEW_SECONDS, "{:?}", began.elapsed());
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
