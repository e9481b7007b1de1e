//! A person with access to Redis takes away what is not his.

use harness::{RedisSetup, SOON, Service, Setup, eventually};

use super::{answered, assert_all_succeed, busy, waiting_starts};
use crate::flows::{gated, quick};

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
async fn what_is_parked_keeps_its_limit_although_the_list_of_it_was_deleted() {
    let service = Service::start(Setup {
        worker: &[("MILLSTREAM_HEAL_EVERY", "300ms")],
        ..Setup::default()
    })
    .await;
    let admin = service.admin();
    let gate = service.gate("gate");
    let flow = gated("one", &gate).replacen('\n', "\nconcurrency: { limit: 1 }\n", 1);
    admin.publish(&flow).await;
    let waits = waiting_starts(&admin, "one", "", 4);
    let line = "ms:{0}:parked:one";
    eventually(SOON, "all other runs to be parked", || async {
        let parked: usize = service.redis.command(&["ZCARD", line]).await;
        (parked == 3).then_some(())
    })
    .await;
    let deleted: u64 = service.redis.command(&["DEL", line]).await;
    assert_eq!(deleted, 1);
    eventually(SOON, "all of them to be parked again", || async {
        let parked: usize = service.redis.command(&["ZCARD", line]).await;
        (parked == 3).then_some(())
    })
    .await;
    assert_eq!(gate.arrivals().len(), 1, "the limit was not kept");
    gate.open();
    assert_all_succeed(waits).await;
    assert_eq!(gate.arrivals().len(), 4);
}

#[tokio::test]
async fn a_worker_with_room_does_not_take_its_own_run_again_from_a_new_group() {
    let service = Service::start(Setup::default()).await;
    let admin = service.admin();
    let gate = service.gate("gate");
    admin.publish(&gated("slow", &gate)).await;
    admin.publish(&quick("hello")).await;
    let waits = waiting_starts(&admin, "slow", "", 3);
    gate.reached_by(3).await;
    for _ in 0..5 {
        let destroy = ["XGROUP", "DESTROY", QUEUE, "workers"];
        let destroyed: u64 = service.redis.command(&destroy).await;
        assert_eq!(destroyed, 1);
        assert_eq!(admin.run("hello").await, "Succeeded");
    }
    // Somebody else would find them if this worker died now.
    let pending: Vec<redis::Value> = service.redis.command(&["XPENDING", QUEUE, "workers"]).await;
    assert_eq!(pending[0], redis::Value::Int(3));
    gate.open();
    assert_all_succeed(waits).await;
    assert_eq!(gate.arrivals().len(), 3);
}

/// Nobody holds what it executed, and the queue does not name it either.
#[tokio::test]
async fn runs_of_a_dead_worker_go_on_although_their_queue_was_deleted() {
    let (mut service, gate, waits) = busy(HEALING, RedisSetup::default()).await;
    service.workers[0].kill();
    let _: u64 = service.redis.command(&["DEL", QUEUE]).await;
    service.add_worker().await;
    gate.reached_by(2).await;
    gate.open();
    assert_all_succeed(waits).await;
    assert_eq!(gate.arrivals().len(), 2);
}

#[tokio::test]
async fn programs_survive_that_everything_is_deleted() {
    let mut service = Service::start(Setup::default()).await;
    let admin = service.admin();
    let gate = service.gate("gate");
    admin.publish(&gated("slow", &gate)).await;
    let lost = waiting_starts(&admin, "slow", "", 2);
    gate.reached_by(2).await;
    let _: String = service.redis.command(&["FLUSHALL"]).await;
    // Who waits looks for the run after a new subscription, and finds nothing.
    let kill = ["CLIENT", "KILL", "TYPE", "pubsub"];
    let _: i64 = service.redis.command(&kill).await;
    for wait in lost {
        assert_eq!(answered(wait).await.run_status(), "Failed");
    }
    // The keys are gone, too: a program that starts brings the first one.
    service.add_api().await;
    admin.publish(&quick("hello")).await;
    for api in 0..2 {
        assert_eq!(service.admin_at(api).run("hello").await, "Succeeded");
    }
    gate.open();
    let worker = &service.workers[0];
    eventually(SOON, "the worker to give up what is gone", || async {
        let ended = worker.log().matches("\"ended\":\"lost\"").count();
        (ended == 2).then_some(())
    })
    .await;
    assert!(worker.is_ready().await && service.apis[0].is_ready().await);
}

/// What is wrong with one run keeps nobody from mending the others.
#[tokio::test]
async fn a_damaged_record_stops_nobody_else() {
    let (service, gate, mut waits) = busy(HEALING, RedisSetup::default()).await;
    let entries: Vec<(String, Vec<String>)> =
        service.redis.command(&["XRANGE", QUEUE, "-", "+"]).await;
    let damaged = &entries.last().unwrap().1[1];
    let key = format!("ms:{{0}}:run:{damaged}");
    let _: u64 = service.redis.command(&["HDEL", &key, "queue"]).await;
    let _: u64 = service.redis.command(&["DEL", QUEUE]).await;
    gate.open();
    service.open_runs(1).await;
    let left: Vec<String> = service
        .redis
        .command(&["ZRANGE", "ms:{0}:open", "0", "-1"])
        .await;
    assert!(left[0].starts_with(damaged.as_str()), "{left:?}");
    let log = service.workers[0].log();
    assert!(log.contains("its record lacks what it needs"), "{log}");
    waits.iter_mut().for_each(|wait| wait.abort());
}

#[tokio::test]
async fn keys_of_another_type_stop_nobody() {
    let service = healing_service().await;
    let admin = service.admin();
    let gate = service.gate("gate");
    admin.publish(&gated("slow", &gate)).await;
    let limited = quick("limited").replacen('\n', "\nconcurrency: { limit: 1 }\n", 1);
    admin.publish(&limited).await;
    admin.publish(&quick("hello")).await;
    let slow = waiting_starts(&admin, "slow", "", 1);
    gate.reached_by(1).await;
    for key in ["ms:{0}:group:limited", "ms:{0}:parked:limited"] {
        let _: String = service.redis.command(&["SET", key, "x"]).await;
    }
    let mut waits = waiting_starts(&admin, "limited", "", 5);
    waits.extend(waiting_starts(&admin, "hello", "", 5));
    service.open_runs(11).await;
    gate.open();
    assert_all_succeed(slow).await;
    assert_all_succeed(waits).await;
}

#[tokio::test]
async fn runs_that_no_longer_count_as_open_are_counted_again() {
    let service = healing_service().await;
    let admin = service.admin();
    let gate = service.gate("gate");
    let flow = gated("slow", &gate).replacen('\n', "\nqueue_limit: 3\n", 1);
    admin.publish(&flow).await;
    let mut waits = waiting_starts(&admin, "slow", "", 2);
    waits.extend(waiting_starts(&admin, "slow", "&delay=1", 1));
    service.open_runs(3).await;
    let _: u64 = service
        .redis
        .command(&["DEL", "ms:{0}:open", "ms:{0}:delayed"])
        .await;
    service.open_runs(3).await;
    let counted = async || -> Option<u64> {
        let read = ["HGET", "ms:{0}:open:flows", "slow"];
        service.redis.command(&read).await
    };
    eventually(SOON, "three to count", || async {
        (counted().await == Some(3)).then_some(())
    })
    .await;
    gate.open();
    assert_all_succeed(waits).await;
    eventually(SOON, "none to count", || async {
        counted().await.is_none().then_some(())
    })
    .await;
    assert_eq!(admin.run("slow").await, "Succeeded");
}
