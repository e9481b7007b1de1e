//! A Redis that is another server's replica for a while, or still reads what
//! it had stored.

use std::time::{Duration, Instant};

use harness::{Answer, PrivateRedis, RedisSetup, SOON, Service, Setup, eventually};
use nix::sys::signal::Signal;

use super::{
    ONE_SLOT, assert_all_succeed, assert_refused, assert_unavailable, busy, refused_at_start,
    starting_programs, waiting_starts,
};
use crate::flows::{gated, quick};

/// How many things are stored besides, so that loading takes two seconds.
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

/// Stores so much that loading it takes so many times two seconds.
async fn fill(redis: &PrivateRedis, times: u32) {
    let mut connection = redis.connection().await;
    for time in 0..times {
        let mut fill = redis::pipe();
        for number in 0..FILLERS {
            fill.set(format!("filler:{time}:{number}"), number).ignore();
        }
        fill.exec_async(&mut connection).await.unwrap();
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
    fill(&service.redis, 1).await;

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

#[tokio::test]
async fn programs_that_wait_for_a_redis_stop_when_they_are_asked_to() {
    let mut redis = PrivateRedis::start_as(RedisSetup::with(&["--appendfsync", "always"]));
    // Loading takes longer than anybody waits here.
    fill(&redis, 20).await;
    reload(&mut redis).await;
    for mut process in starting_programs(&redis) {
        eventually(SOON, "the program to wait", || async {
            process.log().contains("still reads its data").then_some(())
        })
        .await;
        process.signal(Signal::SIGTERM);
        assert!(process.ended().await.success());
        // It has not waited to the end.
        let client = redis::Client::open(redis.url()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let pong: Result<String, _> = redis::cmd("PING").query_async(&mut connection).await;
        assert_eq!(pong.unwrap_err().code(), Some("LOADING"));
    }
}

/// Nobody waits for the attempts of others to connect.
#[tokio::test]
async fn a_redis_that_stands_still_lets_nobody_wait_for_long() {
    let service = Service::start(Setup {
        api: &[("MILLSTREAM_REDIS_TIMEOUT", "1s")],
        worker: &[("MILLSTREAM_REDIS_TIMEOUT", "1s")],
        ..Setup::default()
    })
    .await;
    let admin = service.admin();
    admin.publish(&quick("hello")).await;
    assert_eq!(admin.run("hello").await, "Succeeded");
    service.redis.freeze();
    let began = Instant::now();
    let starts = (0..50).map(|_| tokio::spawn(Answer::of(admin.start_request("hello", ""))));
    for start in starts.collect::<Vec<_>>() {
        assert_unavailable(&start.await.unwrap());
    }
    let (api, worker) = (&service.apis[0], &service.workers[0]);
    assert!(!api.is_ready().await && !worker.is_ready().await);
    assert!(
        began.elapsed() < Duration::from_secs(8),
        "{:?}",
        began.elapsed()
    );
    service.redis.thaw();
    eventually(SOON, "a start to be accepted", || async {
        let answer = Answer::of(admin.start_request("hello", "?await=true")).await;
        (answer.status == 200).then_some(())
    })
    .await;
}
