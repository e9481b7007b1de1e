//! Everything that can go wrong around one Redis server, one module for each
//! theme and one test for each fault: what was accepted ends, and nothing is
//! lost, doubled or silent.

mod disk;
mod memory;
mod messages;
mod network;
mod operator;
mod server;
mod sharing;

use harness::{Answer, Client, SOON, Service, eventually};

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
) -> Vec<tokio::task::JoinHandle<Answer>> {
    let query = format!("?await=true{query}");
    let start = |_| tokio::spawn(Answer::of(caller.start_request(flow, &query)));
    (0..count).map(start).collect()
}

/// Asserts that every one of these callers is told of a success.
async fn assert_all_succeed(waits: impl IntoIterator<Item = tokio::task::JoinHandle<Answer>>) {
    for wait in waits {
        let answer = wait.await.unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.run_status(), "Succeeded", "{answer:?}");
    }
}

/// Waits until so many runs are accepted and have not ended.
async fn open_runs(service: &Service, count: usize) {
    let what = format!("{count} open runs");
    eventually(SOON, &what, || async {
        let open: usize = service.redis.command(&["ZCARD", "ms:{0}:open"]).await;
        (open == count).then_some(())
    })
    .await;
}
