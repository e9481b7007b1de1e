//! A person with access to Redis takes away what is not his.

use harness::{RedisSetup, SOON, Service, Setup, eventually};

use super::{assert_all_succeed, busy, waiting_starts};
use crate::flows::quick;

const QUEUE: &str = "ms:{0}:queue:default:normal";

/// The settings of a worker that looks after runs all the time.
const HEALING: &[(&str, &str)] = &[
    ("MILLSTREAM_SLOTS", "1"),
    ("MILLSTREAM_HEAL_EVERY", "300ms"),
];

async fn healing_service() -> Service {
    Service::start(Setup {
        worker: HEALING,
        ..Setup::default()
    })
    .await
}

/// One run that executes a step, and five that are queued, when `take` comes.
async fn all_end_although(take: &[&str]) {
    let (service, gate, waits) = busy(HEALING, RedisSetup::default()).await;
    let mut connection = service.redis.connection().await;
    let _: redis::Value = redis::cmd(take[0])
        .arg(&take[1..])
        .query_async(&mut connection)
        .await
        .unwrap();
    gate.open();
    assert_all_succeed(waits).await;
    assert!(gate.arrivals().len() <= 2, "{:?}", gate.arrivals());
    let left: usize = service.redis.command(&["ZCARD", "ms:{0}:open"]).await;
    assert_eq!(left, 0);
}

#[tokio::test]
async fn a_deleted_queue_is_filled_again() {
    all_end_although(&["DEL", QUEUE]).await;
}

#[tokio::test]
async fn a_deleted_group_is_made_again_and_nothing_runs_twice_for_it() {
    all_end_although(&["XGROUP", "DESTROY", QUEUE, "workers"]).await;
}

#[tokio::test]
async fn what_is_delayed_comes_in_time_although_the_list_of_it_was_deleted() {
    let service = healing_service().await;
    let admin = service.admin();
    admin.publish(&quick("hello")).await;
    let waits = waiting_starts(&admin, "hello", "&delay=2", 3);
    eventually(SOON, "all runs to be delayed", || async {
        let delayed: usize = service.redis.command(&["ZCARD", "ms:{0}:delayed"]).await;
        (delayed == 3).then_some(())
    })
    .await;
    let _: u64 = service.redis.command(&["DEL", "ms:{0}:delayed"]).await;
    assert_all_succeed(waits).await;
}

#[tokio::test]
async fn a_redis_that_was_emptied_serves_what_comes_after() {
    let service = healing_service().await;
    let admin = service.admin();
    admin.publish(&quick("hello")).await;
    assert_eq!(admin.run("hello").await, "Succeeded");
    let _: String = service.redis.command(&["FLUSHALL"]).await;
    // Keys and flows are gone as well, so they are made again.
    let mut service = service;
    service.add_api().await;
    let admin = service.admin_at(1);
    admin.publish(&quick("hello")).await;
    assert_eq!(admin.run("hello").await, "Succeeded");
}

/// A worker that may not read any more says so, and ends itself.
#[tokio::test]
async fn a_worker_that_cannot_read_its_queue_ends_itself() {
    let mut service = Service::start(Setup {
        worker: &[("MILLSTREAM_WEDGED_AFTER", "2s")],
        ..Setup::default()
    })
    .await;
    let forbid = ["ACL", "SETUSER", "default", "-xreadgroup"];
    let _: String = service.redis.command(&forbid).await;
    let worker = &service.workers[0];
    eventually(SOON, "the worker to be unready", || async {
        (!worker.is_ready().await).then_some(())
    })
    .await;
    let ended = service.workers[0].ended().await;
    assert_eq!(ended.code(), Some(1));
    let log = service.workers[0].log();
    assert!(log.contains("ended itself"), "{log}");
    let allow = ["ACL", "SETUSER", "default", "+xreadgroup"];
    let _: String = service.redis.command(&allow).await;
    service.add_worker().await;
    let admin = service.admin();
    admin.publish(&quick("hello")).await;
    assert_eq!(admin.run("hello").await, "Succeeded");
}
