//! Workers whose clocks are wrong: only the clock of Redis counts.

use std::{
    fs,
    process::Command,
    time::{Duration, Instant},
};

use harness::{RedisSetup, SOON, Service, Setup, eventually, redis_servers};

use super::{assert_all_succeed, waiting_starts};
use crate::flows::{gated, quick};

/// How long runs are delayed.
const DELAY: Duration = Duration::from_secs(2);

/// The library that tells programs another time.
fn faketime() -> String {
    let told = Command::new("faketime")
        .args(["-m", "-f", "+0", "sh", "-c", "echo $LD_PRELOAD"])
        .output()
        .expect("faketime must be there: `apt-get install faketime` brings it");
    let library = String::from_utf8(told.stdout).unwrap().trim().to_owned();
    assert!(!library.is_empty(), "{:?}", told.stderr);
    library
}

/// The settings that make a program believe that it is so much earlier or later.
fn shifted_by(hours: &str) -> Vec<(&'static str, String)> {
    vec![
        ("LD_PRELOAD", faketime()),
        ("FAKETIME", hours.to_owned()),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
    ]
}

#[tokio::test]
async fn workers_an_hour_ahead_and_behind_keep_leases_and_delays() {
    let mut service = Service::start(Setup {
        workers: 0,
        worker: &[("MILLSTREAM_SLOTS", "2")],
        ..Setup::default()
    })
    .await;
    for hours in ["+1h", "-1h"] {
        service.add_worker_with(&shifted_by(hours)).await;
    }
    assert_shifted(&service);
    let admin = service.admin();
    let gate = service.gate("gate");
    admin.publish(&gated("slow", &gate)).await;
    admin.publish(&quick("hello")).await;
    // Each worker has one slot left, so both have to look after both kinds.
    let slow = waiting_starts(&admin, "slow", "", 2);
    gate.reached_by(2).await;
    let began = Instant::now();
    let query = format!("&delay={}", DELAY.as_secs());
    let delayed = waiting_starts(&admin, "hello", &query, 10);
    assert_all_succeed(delayed).await;
    assert!(began.elapsed() >= DELAY, "{:?}", began.elapsed());
    assert!(began.elapsed() < DELAY * 3, "{:?}", began.elapsed());
    gate.open();
    assert_all_succeed(slow).await;
    // They were held for two leases.
    assert_eq!(gate.arrivals().len(), 2);
    for worker in &service.workers {
        assert_eq!(worker.counted("millstream_runs_reclaimed_total").await, 0);
        assert_eq!(worker.counted("millstream_leases_lost_total").await, 0);
    }
}

/// The clocks of the workers are as wrong as they should be.
fn assert_shifted(service: &Service) {
    let hour = |worker: usize| {
        let lines = service.workers[worker].log_lines();
        let time = lines[0]["timestamp"].as_str().unwrap().to_owned();
        chrono::DateTime::parse_from_rfc3339(&time).unwrap()
    };
    assert!(hour(0) - hour(1) > chrono::TimeDelta::minutes(110));
}

#[tokio::test]
async fn a_worker_with_a_wrong_clock_takes_over_when_the_lease_is_over() {
    let mut service = Service::start(Setup {
        workers: 0,
        ..Setup::default()
    })
    .await;
    service.add_worker_with(&shifted_by("+1h")).await;
    let admin = service.admin();
    let gate = service.gate("gate");
    admin.publish(&gated("slow", &gate)).await;
    let waits = waiting_starts(&admin, "slow", "", 1);
    gate.reached_by(1).await;
    service.add_worker_with(&shifted_by("-1h")).await;
    service.workers[0].kill();
    let lease_and_five = Duration::from_secs(1 + 5);
    eventually(lease_and_five, "the other worker to go on", || async {
        (gate.arrivals().len() == 2).then_some(())
    })
    .await;
    gate.open();
    assert_all_succeed(waits).await;
}

/// All leases look expired then. Whoever sweeps finds that nobody has swept for
/// an hour and gives the workers time to show that they are alive.
///
/// Not everywhere: the library and the allocator of Debian's own server get in
/// one another's way.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[tokio::test]
async fn a_clock_of_redis_that_jumps_takes_no_run_from_its_worker() {
    let folder = tempfile::tempdir().unwrap();
    let clock = folder.path().join("clock");
    fs::write(&clock, "+0").unwrap();
    let launcher = [
        "env".to_owned(),
        format!("LD_PRELOAD={}", faketime()),
        format!("FAKETIME_TIMESTAMP_FILE={}", clock.display()),
        "FAKETIME_NO_CACHE=1".to_owned(),
        "FAKETIME_DONT_FAKE_MONOTONIC=1".to_owned(),
    ];
    let service = Service::start(Setup {
        workers: 2,
        redis: RedisSetup {
            launcher: launcher.into(),
            program: redis_servers().pop(),
            ..RedisSetup::default()
        },
        ..Setup::default()
    })
    .await;
    let admin = service.admin();
    let gate = service.gate("gate");
    admin.publish(&gated("slow", &gate)).await;
    admin.publish(&quick("hello")).await;
    let slow = waiting_starts(&admin, "slow", "", 4);
    gate.reached_by(4).await;
    let time = async || -> (u64, u64) { service.redis.command(&["TIME"]).await };
    let (before, _) = time().await;
    // At once: a file that is being written says anything.
    let later = folder.path().join("later");
    fs::write(&later, "+1h").unwrap();
    fs::rename(&later, &clock).unwrap();
    // The server may answer once more with the time that it has looked up.
    eventually(SOON, "the clock to jump", || async {
        (time().await.0 > before + 3000).then_some(())
    })
    .await;
    // Several sweeps come and go meanwhile.
    for _ in 0..3 {
        let delayed = waiting_starts(&admin, "hello", "&delay=1", 5);
        assert_all_succeed(delayed).await;
    }
    gate.open();
    assert_all_succeed(slow).await;
    assert_eq!(gate.arrivals().len(), 4);
    for worker in &service.workers {
        assert_eq!(worker.counted("millstream_runs_reclaimed_total").await, 0);
        assert_eq!(worker.counted("millstream_leases_lost_total").await, 0);
    }
}
