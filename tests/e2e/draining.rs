//! Workers that are replaced one after the other under load: nobody's runs are
//! taken away, and no step is executed twice.

use std::{collections::HashMap, fs, time::Duration};

use harness::{Passage, Proxy, SOON, Service, Setup, eventually};
use nix::sys::signal::Signal;

use crate::flows::{quick, shell};

const RUNS: usize = 150;

#[tokio::test]
async fn a_rolling_restart_costs_no_lease_and_repeats_no_step() {
    let mut service = Service::start(Setup {
        workers: 3,
        worker: &[("MILLSTREAM_SLOTS", "4")],
        ..Setup::default()
    })
    .await;
    let admin = service.admin();
    let file = service.folder().join("steps");
    let note = |step: &str| format!("echo {step} >> '{}'; sleep 0.02", file.display());
    let scripts = ["one", "two", "three"].map(|step| (step, note(step)));
    let steps: Vec<_> = scripts
        .iter()
        .map(|(id, script)| (*id, &**script))
        .collect();
    admin.publish(&shell("three", &steps)).await;
    let mut runs = Vec::new();
    for _ in 0..RUNS {
        runs.push(admin.start("three").await);
    }
    for old in 0..3 {
        service.add_worker().await;
        service.workers[old].signal(Signal::SIGTERM);
        assert!(service.workers[old].ended().await.success());
    }
    for run in &runs {
        assert_eq!(admin.end("three", run).await, "Succeeded");
    }
    let mut counts: HashMap<String, usize> = HashMap::new();
    for line in fs::read_to_string(file).unwrap().lines() {
        *counts.entry(line.to_owned()).or_default() += 1;
    }
    assert_eq!(counts.values().sum::<usize>(), 3 * RUNS, "{counts:?}");
    for worker in &service.workers[3..] {
        let reclaimed = worker.counted("millstream_runs_reclaimed_total").await;
        assert_eq!(reclaimed, 0, "a run was left to its lease");
    }
    for worker in &service.workers {
        let log = worker.log();
        assert!(!log.contains("took over runs of a silent worker"), "{log}");
    }
}

/// Redis has delivered it, and the worker has not heard of it when it is asked
/// to stop.
#[tokio::test]
async fn what_was_on_its_way_to_a_worker_that_stops_goes_to_another_at_once() {
    let mut service = Service::start(Setup {
        workers: 0,
        // Far longer than anything here takes.
        worker: &[("MILLSTREAM_LEASE", "5m")],
        ..Setup::default()
    })
    .await;
    let way = Proxy::to(&service.redis).await;
    let through = [("MILLSTREAM_REDIS_URL", way.url())];
    service.add_worker_with(&through).await;
    let admin = service.admin();
    admin.publish(&quick("hello")).await;
    eventually(SOON, "the worker to wait for a run", || async {
        let clients: String = service.redis.command(&["CLIENT", "LIST"]).await;
        let blocked = |line: &str| line.contains("flags=b") && line.contains("cmd=xreadgroup");
        clients.lines().any(blocked).then_some(())
    })
    .await;
    way.set(Passage::Slow(Duration::from_secs(1)));
    let run = admin.start("hello").await;
    eventually(SOON, "the run to be delivered", || async {
        let pending = ["XPENDING", "ms:{0}:queue:default:normal", "workers"];
        let pending: Vec<redis::Value> = service.redis.command(&pending).await;
        (pending[0] == redis::Value::Int(1)).then_some(())
    })
    .await;
    service.workers[0].signal(Signal::SIGTERM);
    assert!(service.workers[0].ended().await.success());
    assert_eq!(admin.status("hello", &run).await, "Pending");
    service.add_worker().await;
    assert_eq!(admin.end("hello", &run).await, "Succeeded");
}
