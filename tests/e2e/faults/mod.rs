//! Everything that can go wrong around one Redis server, one module for each
//! theme and one test for each fault: what was accepted ends, and nothing is
//! lost, doubled or silent.

mod clock;
mod disk;
mod entries;
mod memory;
mod messages;
mod network;
mod operator;
mod poison;
mod server;
mod sharing;
mod wedged;

use harness::{Answer, Client, Gate, PrivateRedis, Process, RedisSetup, SOON, Service, Setup};
use tokio::{task::JoinHandle, time::timeout};

use crate::flows::{gated, quick};

/// Asserts that a start is refused for now, in words that a caller can act on.
async fn assert_refused(caller: &Client, flow: &str) {
    let refused = Answer::of(caller.start_request(flow, "")).await;
    assert_unavailable(&refused);
}

/// Asserts that an answer says that it can be had later.
fn assert_unavailable(answer: &Answer) {
    assert_eq!((answer.status, &*answer.code()), (500, "unavailable"));
    let seconds: u64 = answer.header("retry-after").parse().unwrap();
    assert!((1..=60).contains(&seconds), "{answer:?}");
}

/// Starts so many runs of a flow, each with a caller that waits for its end.
fn waiting_starts(
    caller: &Client,
    flow: &str,
    query: &str,
    count: usize,
) -> Vec<JoinHandle<Answer>> {
    let query = format!("?await=true{query}");
    let start = |_| tokio::spawn(Answer::of(caller.start_request(flow, &query)));
    (0..count).map(start).collect()
}

/// What a caller that waits is answered, sooner or later.
async fn answered(wait: JoinHandle<Answer>) -> Answer {
    let answer = timeout(SOON, wait).await;
    answer.expect("a caller was not answered").unwrap()
}

/// Asserts that every one of these callers is told of a success.
async fn assert_all_succeed(waits: impl IntoIterator<Item = JoinHandle<Answer>>) {
    for wait in waits {
        let answer = answered(wait).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.run_status(), "Succeeded", "{answer:?}");
    }
}

/// The setting of a worker that executes one run at a time.
const ONE_SLOT: &[(&str, &str)] = &[("MILLSTREAM_SLOTS", "1")];

/// A service in which one run executes a step that waits, and five are queued.
async fn busy(
    worker: &'static [(&'static str, &'static str)],
    redis: RedisSetup,
) -> (Service, Gate, Vec<JoinHandle<Answer>>) {
    let service = Service::start(Setup {
        worker,
        redis,
        ..Setup::default()
    })
    .await;
    let admin = service.admin();
    let gate = service.gate("gate");
    admin.publish(&gated("slow", &gate)).await;
    admin.publish(&quick("hello")).await;
    let mut waits = waiting_starts(&admin, "slow", "", 1);
    gate.reached_by(1).await;
    waits.extend(waiting_starts(&admin, "hello", "", 5));
    service.open_runs(waits.len()).await;
    (service, gate, waits)
}

/// API and worker on a Redis that nothing else uses, as they start.
fn starting_programs(redis: &PrivateRedis) -> [Process; 2] {
    ["millstream-api", "millstream-worker"].map(|program| {
        let settings = [
            ("MILLSTREAM_REDIS_URL", redis.url()),
            ("MILLSTREAM_LISTEN", "127.0.0.1:0".to_owned()),
            ("MILLSTREAM_OPS_LISTEN", "127.0.0.1:0".to_owned()),
        ];
        Process::start(program, program, redis.folder(), &[], &settings)
    })
}

/// Asserts that API and worker end at their start, and returns what each has
/// logged of it.
async fn refused_at_start(redis: &PrivateRedis) -> Vec<String> {
    let mut logs = Vec::new();
    for mut process in starting_programs(redis) {
        assert_eq!(process.ended().await.code(), Some(1));
        logs.push(process.log());
    }
    logs
}
