//! The queue's protocol against a real Redis: thousands of random operations,
//! valid ones and stale ones, with every invariant checked after each.
//!
//! A failure prints its seed; `MILLSTREAM_TEST_SEED=<seed>` replays it.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]
#![expect(clippy::print_stdout, reason = "the seed is how a failure is replayed")]

mod fsck;
mod interference;
mod operations;
mod owner;
mod trouble;
mod vault;
mod world;

use std::{
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use harness::{PrivateRedis, Random, RedisSetup, redis_servers, setting};
use millstream_shared::{process::RedisSettings, store::Store};

use world::World;

/// Operations in one round.
const STEPS: u32 = 1500;

/// Rounds on each server, each from a seed of its own.
const ROUNDS: u64 = 1;

#[tokio::test]
async fn whatever_happens_in_whatever_order_every_invariant_holds() {
    let asked = setting("MILLSTREAM_TEST_SEED");
    let asked = asked.map(|seed| seed.parse().expect("a seed is a number"));
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let first = since.as_micros() as u64;
    // One after the other: they would only get in one another's way.
    for server in redis_servers() {
        match asked {
            Some(seed) => round(&server, seed).await,
            None => {
                for seed in first..first + ROUNDS {
                    round(&server, seed).await;
                }
            }
        }
    }
}

async fn round(server: &Path, seed: u64) {
    println!("MILLSTREAM_TEST_SEED={seed} on {}", server.display());
    let redis = PrivateRedis::start_as(RedisSetup {
        program: Some(server.to_owned()),
        ..RedisSetup::default()
    });
    let settings = RedisSettings {
        url: redis.url(),
        timeout: Duration::from_secs(10),
        partitions: None,
    };
    let store = Store::connect(&settings).await.unwrap();
    let mut world = World::new(store, &redis, Random::new(seed)).await;
    for step in 0..STEPS {
        let what = world.act().await;
        if let Err(broken) = fsck::check(&mut world).await {
            panic!("seed {seed}, step {step}, after {what}: {broken}");
        }
    }
    world.drain().await;
    if let Err(broken) = fsck::check_empty(&mut world).await {
        panic!("seed {seed}, after everything has ended: {broken}");
    }
    world.check_notices(seed).await;
    println!("{}", world.tally());
}
