//! Steps that outlive their worker or their lease, and runs that pause.

use std::{
    fs,
    time::{Duration, Instant},
};

use harness::{SOON, Service, Setup, eventually};
use serde_json::json;

use crate::flows::{gated, quick};

/// The lease of the workers of a test that does not say another one.
const LEASE: Duration = Duration::from_secs(1);

const QUEUE: &str = "ms:{0}:queue:default:normal";

/// A table that a lost worker had in its memory is made again, and only that.
#[tokio::test]
async fn a_table_of_a_killed_worker_is_made_again() {
    let mut service = Service::start(Setup::default()).await;
    let admin = service.admin();
    let gate = service.gate("gate");
    let notes = service.folder().join("notes");
    fs::write(service.files().join("numbers.csv"), "n\n1\n2\n3\n").unwrap();
    let note =
        json!({ "program": "sh", "args": ["-c", format!("echo x >> '{}'", notes.display())] });
    let wait = json!({ "program": "sh", "args": ["-c", gate.script()] });
    admin
        .publish(&format!(
            "id: tables
steps:
  - id: numbers
    read: {{ path: numbers.csv }}
  - id: total
    sql: select sum(n) as total from numbers
  - id: note
    needs: [total]
    command: {note}
  - id: hold_on
    needs: [note]
    command: {wait}
  - id: result
    needs: [hold_on]
    write: {{ from: total, path: result.csv }}
"
        ))
        .await;
    let run = admin.start("tables").await;
    gate.reached_by(1).await;
    // What is there now goes into the table that is made anew.
    fs::write(service.files().join("numbers.csv"), "n\n1\n2\n3\n4\n").unwrap();
    service.add_worker().await;
    service.workers[0].kill();
    gate.reached_by(2).await;
    gate.open();
    assert_eq!(admin.end("tables", &run).await, "Succeeded");
    let result = fs::read_to_string(service.files().join("result.csv")).unwrap();
    assert_eq!(result, "total\n10\n");
    assert_eq!(fs::read_to_string(&notes).unwrap(), "x\n");
}

/// A query that keeps every core busy for several leases stays with its
/// worker: the beats do not starve behind it.
#[tokio::test]
async fn a_step_that_outlives_its_lease_on_every_core_stays_with_its_worker() {
    let service = Service::start(Setup {
        workers: 2,
        ..Setup::default()
    })
    .await;
    let admin = service.admin();
    let mut rows = 3_000;
    loop {
        let numbers: String = (0..rows).map(|n| format!("{n}\n")).collect();
        fs::write(service.files().join("numbers.csv"), format!("n\n{numbers}")).unwrap();
        admin
            .publish(&format!(
                "id: busy
description: '{rows}'
steps:
  - id: numbers
    read: {{ path: numbers.csv }}
  - id: pairs
    sql: select count(*) as pairs from numbers a join numbers b on (a.n * b.n) % 7 < 3
"
            ))
            .await;
        let began = Instant::now();
        let run = admin.start("busy").await;
        assert_eq!(admin.end("busy", &run).await, "Succeeded");
        let key = format!("ms:{{0}}:run:{run}");
        let claims: String = service.redis.command(&["HGET", &key, "claims"]).await;
        assert_eq!(claims, "1", "the run was taken away from its worker");
        if began.elapsed() > LEASE * 3 {
            return;
        }
        rows *= 2;
    }
}

/// While a run waits for the next attempt of a step, others have its slot.
#[tokio::test]
async fn a_pause_before_another_attempt_holds_no_slot() {
    let service = Service::start(Setup {
        worker: &[("MILLSTREAM_SLOTS", "1")],
        ..Setup::default()
    })
    .await;
    let admin = service.admin();
    let script = format!(
        "[ -e '{0}' ] || {{ : > '{0}'; exit 1; }}",
        gate_file(&service)
    );
    let command = json!({ "program": "sh", "args": ["-c", script] });
    admin
        .publish(&format!(
            "id: pausing
steps:
  - id: twice
    command: {command}
    retry: {{ attempts: 2, backoff: constant, initial: 6s, max: 6s }}
"
        ))
        .await;
    admin.publish(&quick("hello")).await;
    let began = Instant::now();
    let run = admin.start("pausing").await;
    eventually(Duration::from_secs(20), "the run to pause", || async {
        let failed_once = std::path::Path::new(&gate_file(&service)).exists();
        (failed_once && admin.status("pausing", &run).await == "Pending").then_some(())
    })
    .await;
    assert_eq!(admin.run("hello").await, "Succeeded");
    assert!(
        began.elapsed() < Duration::from_secs(3),
        "the slot was held"
    );
    assert_eq!(admin.end("pausing", &run).await, "Succeeded");
}

fn gate_file(service: &Service) -> String {
    service.folder().join("failed-once").display().to_string()
}

/// A run of a held command that made a table, whose worker was killed behind it.
async fn paid_and_killed() -> (Service, String, std::path::PathBuf) {
    let mut service = Service::start(Setup::default()).await;
    let admin = service.admin();
    let gate = service.gate("gate");
    let made = service.folder().join("made");
    let script = format!("echo x >> '{}'; echo a; echo 1", made.display());
    let flow = json!({ "id": "held", "steps": [
        { "id": "pay", "command": { "program": "sh", "args": ["-c", script], "on_crash": "hold",
            "tables": { "out": { "format": "csv", "via": "stdout" } } } },
        { "id": "wait", "needs": ["pay"],
          "command": { "program": "sh", "args": ["-c", gate.script()] } },
        { "id": "keep", "needs": ["wait"], "write": { "from": "pay", "path": "paid.csv" } },
    ] });
    admin.publish_json(&flow).await;
    let run = admin.start("held").await;
    gate.reached_by(1).await;
    service.workers[0].kill();
    gate.open();
    (service, run, made)
}

/// The table of a command is kept, so its run goes on with it.
#[tokio::test]
async fn the_table_of_a_command_that_is_to_be_held_outlives_its_worker() {
    let (mut service, run, made) = paid_and_killed().await;
    service.add_worker().await;
    assert_eq!(service.admin().end("held", &run).await, "Succeeded");
    let paid = fs::read_to_string(service.files().join("paid.csv"));
    assert_eq!(paid.unwrap(), "a\n1\n");
    assert_eq!(fs::read_to_string(made).unwrap(), "x\n");
}

/// Where the table is gone, it is not made again blindly.
#[tokio::test]
async fn the_table_of_a_command_that_is_to_be_held_is_not_made_again() {
    let (mut service, run, made) = paid_and_killed().await;
    fs::remove_dir_all(service.artifacts()).unwrap();
    service.add_worker().await;
    assert_eq!(service.admin().end("held", &run).await, "Failed");
    let error = service.run_error(&run).await;
    assert_eq!(error["code"], "held", "{error}");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("the step `pay`"), "{error}");
    assert_eq!(fs::read_to_string(made).unwrap(), "x\n");
}

/// A command that must not be repeated blindly fails its run instead.
#[tokio::test]
async fn a_command_that_is_to_be_held_is_not_repeated() {
    let mut service = Service::start(Setup::default()).await;
    let admin = service.admin();
    let gate = service.gate("gate");
    let command = json!({ "program": "sh", "args": ["-c", gate.script()], "on_crash": "hold" });
    admin
        .publish(&format!(
            "id: held\nsteps:\n  - id: pay\n    command: {command}\n"
        ))
        .await;
    let run = admin.start("held").await;
    gate.reached_by(1).await;
    service.add_worker().await;
    service.workers[0].kill();
    assert_eq!(admin.end("held", &run).await, "Failed");
    let error = service.run_error(&run).await;
    assert_eq!(
        (&error["code"], &error["step"]),
        (&json!("held"), &json!("pay"))
    );
    assert_eq!(gate.arrivals().len(), 1);
}

/// Redis stood still for longer than the lease, several times: that is no loss
/// of a worker.
#[tokio::test]
async fn a_redis_that_stands_still_costs_a_run_no_worker() {
    let service = Service::start(Setup {
        workers: 2,
        ..Setup::default()
    })
    .await;
    let admin = service.admin();
    let gate = service.gate("gate");
    admin.publish(&gated("long", &gate)).await;
    let run = admin.start("long").await;
    gate.reached_by(1).await;
    for _ in 0..3 {
        service.redis.freeze();
        // It is the standing still that is tested.
        tokio::time::sleep(LEASE * 2).await;
        service.redis.thaw();
        eventually(SOON, "the lease to be renewed", || async {
            let pending: Vec<(String, String, u64, u64)> = service
                .redis
                .command(&["XPENDING", QUEUE, "workers", "-", "+", "10"])
                .await;
            let renewed = |idle_ms: u64| Duration::from_millis(idle_ms) < LEASE / 2;
            pending.iter().any(|entry| renewed(entry.2)).then_some(())
        })
        .await;
    }
    gate.open();
    assert_eq!(admin.end("long", &run).await, "Succeeded");
    assert_eq!(gate.arrivals().len(), 1, "the step was executed again");
}

/// Runs within a limit whose records somebody destroyed leave their places.
#[tokio::test]
async fn a_destroyed_record_does_not_keep_its_place() {
    let service = Service::start(Setup::default()).await;
    let admin = service.admin();
    let gate = service.gate("gate");
    let flow = gated("one", &gate).replacen('\n', "\nconcurrency: { limit: 1 }\n", 1);
    admin.publish(&flow).await;
    let lost = admin.start("one").await;
    gate.reached_by(1).await;
    let key = format!("ms:{{0}}:run:{lost}");
    let _: u64 = service.redis.command(&["DEL", &key]).await;
    gate.open();
    assert_eq!(admin.run("one").await, "Succeeded");
}

/// What waits for its next attempt does so on another worker, too, and another
/// step's shorter pause does not cut it short.
#[tokio::test]
async fn each_step_keeps_its_own_pause() {
    let service = Service::start(Setup::default()).await;
    let admin = service.admin();
    let tried = service.folder().join("tried");
    let command = |script: &str| json!({ "program": "sh", "args": ["-c", script] });
    let slow = command(&format!("date +%s%N >> '{}'; exit 1", tried.display()));
    let retry = |pause: &str| json!({ "attempts": 2, "backoff": "constant", "initial": pause, "max": pause });
    admin
        .publish(&format!(
            "id: two
steps:
  - {{ id: quick, command: {}, retry: {}, on_error: continue }}
  - {{ id: slow, command: {slow}, retry: {}, on_error: continue }}
",
            command("exit 1"),
            retry("2500ms"),
            retry("8s"),
        ))
        .await;
    assert_eq!(admin.run("two").await, "Succeeded");
    let tried = fs::read_to_string(&tried).unwrap();
    let times: Vec<u64> = tried.lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(times.len(), 2);
    let pause = Duration::from_nanos(times[1] - times[0]);
    assert!(pause >= Duration::from_secs(4), "{pause:?}");
}

/// The time of a run is over when it is, also while a step waits to be tried
/// again.
#[tokio::test]
async fn a_pause_ends_with_the_time_of_the_run() {
    let service = Service::start(Setup::default()).await;
    let admin = service.admin();
    admin
        .publish(
            "id: late
timeout: 3s
steps:
  - id: fail
    command: { program: 'false' }
    retry: { attempts: 3, backoff: constant, initial: 1m }
",
        )
        .await;
    let began = Instant::now();
    let run = admin.start("late").await;
    assert_eq!(admin.end("late", &run).await, "Failed");
    assert_eq!(service.run_error(&run).await["code"], "timeout");
    assert!(began.elapsed() < Duration::from_secs(15));
}

/// A step that takes rows and pauses before its next attempt finds them made
/// again when the run goes on: it fails for the same reason as before, not for
/// want of the rows.
#[tokio::test]
async fn rows_are_there_again_after_a_pause() {
    let service = Service::start(Setup {
        worker: &[
            ("MILLSTREAM_MEMORY", "1MiB"),
            ("MILLSTREAM_SPILL_SIZE", "1MiB"),
        ],
        ..Setup::default()
    })
    .await;
    let admin = service.admin();
    let numbers: String = (0..1000).map(|n| format!("{n}\n")).collect();
    fs::write(service.files().join("numbers.csv"), format!("n\n{numbers}")).unwrap();
    admin
        .publish(
            "id: again
steps:
  - id: numbers
    read: { path: numbers.csv }
  - id: pairs
    sql: select a.n, b.n as m from numbers a cross join numbers b
    retry: { attempts: 2, backoff: constant, initial: 3s, max: 3s }
",
        )
        .await;
    let run = admin.start("again").await;
    assert_eq!(admin.end("again", &run).await, "Failed");
    assert_eq!(service.run_error(&run).await["code"], "memory_full");
    let steps = format!("ms:{{0}}:run:{run}:steps");
    let noted: u64 = service
        .redis
        .command(&["HEXISTS", &steps, "pairs:attempt:1"])
        .await;
    assert_eq!(noted, 1, "the step was not tried again");
}
