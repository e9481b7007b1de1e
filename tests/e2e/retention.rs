//! What is kept of runs, and for how long: nothing grows with their number.

use harness::{Answer, Service, Setup};
use serde_json::json;

use crate::flows::{failing, quick};

/// What is kept for good, whatever has run: one for each flow, key and queue.
const KEPT: &[&str] = &[
    "ms:meta",
    "ms:{0}:flow:",
    "ms:{0}:key:",
    "ms:{0}:queue:",
    "ms:{0}:turn:",
    "ms:{0}:sweeps",
];

/// How long records are kept here, in milliseconds.
const RETENTION_MS: i64 = 60_000;

/// How long an idempotency key is remembered, in milliseconds.
const IDEMPOTENCY_MS: i64 = 24 * 3_600_000;

#[tokio::test]
async fn whatever_was_written_for_a_run_is_gone_in_time() {
    let service = Service::start(Setup {
        api: &[("MILLSTREAM_RETENTION", "1m")],
        worker: &[("MILLSTREAM_RETENTION", "1m")],
        ..Setup::default()
    })
    .await;
    let admin = service.admin();
    admin.publish(&quick("hello")).await;
    admin.publish(&failing("fails")).await;
    for (flow, when_full) in [("queues", "queue"), ("skips", "skip")] {
        let limit = format!("\nconcurrency: {{ limit: 1, when_full: {when_full} }}\n");
        admin.publish(&quick(flow).replacen('\n', &limit, 1)).await;
    }
    let mut starts = Vec::new();
    for (number, flow) in ["hello", "fails", "queues", "skips"]
        .repeat(8)
        .iter()
        .enumerate()
    {
        let query = ["?await=true", "?await=true&delay=1&priority=low"][number / 4 % 2];
        let start = admin.start_request(flow, query).json(&json!({}));
        let start = start.header("idempotency-key", number.to_string());
        starts.push(tokio::spawn(Answer::of(start)));
    }
    for start in starts {
        assert_eq!(start.await.unwrap().status, 200);
    }

    let keys: Vec<String> = service.redis.command(&["KEYS", "*"]).await;
    let of_runs: Vec<_> = keys
        .iter()
        .filter(|key| !KEPT.iter().any(|kept| key.starts_with(kept)))
        .collect();
    assert!(of_runs.len() > 2 * 32, "{of_runs:?}");
    for key in of_runs {
        let lives: i64 = service.redis.command(&["PTTL", key]).await;
        let most = if key.contains(":idempotency:") {
            IDEMPOTENCY_MS
        } else {
            RETENTION_MS
        };
        // -2: it has just expired.
        assert!(
            lives == -2 || (0..=most).contains(&lives),
            "{key} lives {lives} ms"
        );
    }
    for priority in ["high", "normal", "low"] {
        let queue = format!("ms:{{0}}:queue:default:{priority}");
        let entries: u64 = service.redis.command(&["XLEN", &queue]).await;
        assert_eq!(entries, 0, "{queue}");
    }
}
