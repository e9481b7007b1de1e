//! A Redis that is another server's replica for a while, or still reads what
//! it had stored.

use std::time::Duration;

use harness::{PrivateRedis, RedisSetup, SOON, Service, Setup, eventually};

use super::{ONE_SLOT, assert_all_succeed, assert_refused, busy, refused_at_start, waiting_starts};
use crate::flows::gated;

/// How many things are stored besides, so that loading takes a while.
const FILLERS: u32 = 20_000;
/// How long it takes to load each.
const LOADS_EACH: Duration = Duration::from_micros(100);

async fn make_replica(redis: &PrivateRedis) {
    // Nobody answers there, so that it keeps the data that it has.
    let _: String = redis.command(&["REPLICAOF", "127.0.0.1", "1"]).await;
}

#[tokio::test]
async fn a_master_that_becomes_a_replica_for_a_while_loses_nothing() {
    let (service, gate, waits) = busy(ONE_SLOT, RedisSetup::default()).await;
    let admin = service.admin();
    make_replica(&service.redis).await;
    assert_refused(&admin, "hello").await;
    gate.open();
    eventually(SOON, "the worker to see that it cannot write", || async {
        let log = service.workers[0].log();
        log.contains("redis did not take it").then_some(())
    })
    .await;
    let _: String = service.redis.command(&["REPLICAOF", "NO", "ONE"]).await;
    assert_all_succeed(waits).await;
    assert_eq!(gate.arrivals().len(), 1);
    assert_eq!(admin.run("hello").await, "Succeeded");
}

#[tokio::test]
async fn a_replica_is_refused_in_one_line() {
    let redis = PrivateRedis::start();
    make_replica(&redis).await;
    for log in refused_at_start(&redis).await {
        let told = log.lines().filter(|line| line.contains("replica"));
        assert_eq!(told.count(), 1, "{log}");
        assert!(log.contains("name its master"), "{log}");
    }
}

/// Kills a Redis and starts it again, and returns while it loads.
async fn reload(redis: &mut PrivateRedis) {
    redis.kill();
    redis.restart_loading(LOADS_EACH);
    let client = redis::Client::open(redis.url()).unwrap();
    eventually(SOON, "redis to be loading", || async {
        let mut connection = client.get_multiplexed_async_connection().await.ok()?;
        let pong: Result<String, _> = redis::cmd("PING").query_async(&mut connection).await;
        let error = pong.err()?;
        (error.code() == Some("LOADING")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn programs_wait_for_a_redis_that_loads() {
    let mut service = Service::start(Setup {
        // What was answered is on the disk, so that a kill loses nothing.
        redis: RedisSetup::with(&["--appendfsync", "always"]),
        ..Setup::default()
    })
    .await;
    let admin = service.admin();
    let gate = service.gate("gate");
    admin.publish(&gated("slow", &gate)).await;
    let waits = waiting_starts(&admin, "slow", "", 1);
    gate.reached_by(1).await;
    let mut fill = redis::pipe();
    for number in 0..FILLERS {
        fill.set(format!("filler:{number}"), number).ignore();
    }
    let mut connection = service.redis.connection().await;
    fill.exec_async(&mut connection).await.unwrap();

    let waited = |log: String| assert!(log.contains("still reads its data"), "{log}");
    reload(&mut service.redis).await;
    assert_refused(&admin, "slow").await;
    waited(service.add_api().await.log());
    reload(&mut service.redis).await;
    waited(service.add_worker().await.log());

    gate.open();
    assert_all_succeed(waits).await;
    assert_eq!(gate.arrivals().len(), 1);
    for api in 0..2 {
        assert_eq!(service.admin_at(api).run("slow").await, "Succeeded");
    }
}
