//! Programs take tables and hand one back, within limits, and end with all
//! that they started.

use std::fs;

use harness::{SOON, Service, Setup, eventually};
use serde_json::{Value, json};

use crate::{crash::has_ended, flows::quick};

const ORDERS: &str = "id,country,amount\n1,NO,10.5\n2,SE,7.0\n3,,3.25\n";

/// A flow that reads `orders.csv` and hands it to a program, whose table it
/// writes.
fn exchange(id: &str, command: Value, written: &str) -> Value {
    json!({ "id": id, "steps": [
        { "id": "orders", "read": { "path": "orders.csv" } },
        { "id": "copy", "command": command },
        { "id": "write", "write": { "path": written, "from": "copy" } },
    ], "output": "{{ [steps.copy.rows_in, steps.copy.rows, steps.copy.value.stdout] }}" })
}

async fn with_orders(setup: Setup) -> Service {
    let service = Service::start(setup).await;
    fs::write(service.files().join("orders.csv"), ORDERS).unwrap();
    service
}

/// Why the run of a flow failed, with its code.
async fn failure(service: &Service, flow: &Value) -> (String, String) {
    let admin = service.admin();
    let id = flow["id"].as_str().unwrap();
    admin.publish_json(flow).await;
    let run = admin.start(id).await;
    assert_eq!(admin.end(id, &run).await, "Failed", "{id}");
    let error = service.run_error(&run).await;
    let text = |member: &str| error[member].as_str().unwrap().to_owned();
    (text("code"), text("message"))
}

#[tokio::test]
async fn a_table_passes_through_a_program_in_every_format_and_way() {
    let service = with_orders(Setup::default()).await;
    let admin = service.admin();
    for format in [
        "csv",
        "json",
        "ndjson",
        "parquet",
        "arrow",
        "arrow-stream",
        "excel",
    ] {
        for (taken, made, script) in [
            (
                "file",
                "file",
                "cp \"$MILLSTREAM_TABLE_ORDERS\" \"$MILLSTREAM_TABLE_COPY\"",
            ),
            ("stdin", "stdout", "cat"),
            ("file", "stdout", "cat \"$0\""),
            ("stdin", "file", "cat > \"$1\""),
        ] {
            let id = format!("{format}-{taken}-{made}");
            let written = format!("{id}.csv");
            let command = json!({
                "program": "sh",
                "args": ["-c", script, "{{ tables.orders }}", "{{ tables.copy }}"],
                "tables": { "in": { "orders": { "format": format, "via": taken } },
                            "out": { "format": format, "via": made } },
            });
            admin.publish_json(&exchange(&id, command, &written)).await;
            let run = admin.start(&id).await;
            let status = admin.end(&id, &run).await;
            if status != "Succeeded" {
                panic!("{id}: {}", service.run_error(&run).await);
            }
            assert_eq!(
                fs::read_to_string(service.files().join(&written)).unwrap(),
                ORDERS,
                "{id}"
            );
            assert_eq!(service.run_output(&run).await, json!([3, 3, ""]), "{id}");
        }
    }
}

/// What a program does instead of making its table, with what its step says of
/// the table and how it fails then.
fn ill_made() -> Vec<(
    &'static str,
    &'static str,
    Value,
    &'static str,
    &'static str,
)> {
    vec![
        (
            "missing",
            "true",
            json!({ "format": "csv" }),
            "no_output_table",
            "has left no file `copy.csv`",
        ),
        (
            "link",
            "ln -s /etc/passwd copy.csv",
            json!({ "format": "csv" }),
            "no_output_table",
            "`copy.csv` is no plain file",
        ),
        (
            "pipe",
            "mkfifo copy.csv",
            json!({ "format": "csv" }),
            "no_output_table",
            "`copy.csv` is no plain file",
        ),
        (
            "row",
            "printf 'a,b\\n1,2\\n3\\n' > copy.csv",
            json!({ "format": "csv" }),
            "bad_row",
            "copy.csv, line 3: expected 2 fields",
        ),
        (
            "type",
            "printf 'a\\nx\\n'",
            json!({ "format": "csv", "via": "stdout", "columns": { "a": "integer" } }),
            "bad_row",
            "copy.csv, line 2",
        ),
        (
            "parquet",
            "echo no > copy.parquet",
            json!({ "format": "parquet" }),
            "bad_file",
            "copy.parquet is not a readable Parquet file",
        ),
        (
            "stream",
            "echo nothing of that kind",
            json!({ "format": "arrow-stream", "via": "stdout" }),
            "bad_file",
            "standard output is not a readable Arrow stream",
        ),
        (
            "empty",
            "true",
            json!({ "format": "arrow-stream", "via": "stdout" }),
            "bad_file",
            "standard output is not a readable Arrow stream",
        ),
        (
            "status",
            "echo half; echo why >&2; exit 3",
            json!({ "format": "arrow-stream", "via": "stdout" }),
            "exit_status",
            "exit code 3: why",
        ),
    ]
}

#[tokio::test]
async fn a_table_that_a_program_does_not_make_well_is_an_error_that_names_it() {
    let service = with_orders(Setup::default()).await;
    for (id, script, made, code, told) in ill_made() {
        let command = json!({ "program": "sh", "args": ["-c", script],
            "tables": { "in": { "orders": { "format": "csv" } }, "out": made } });
        let (found, message) = failure(&service, &exchange(id, command, "out.csv")).await;
        assert_eq!(found, code, "{id}: {message}");
        assert!(message.contains(told), "{id}: {message}");
    }
    assert!(!service.files().join("out.csv").exists());
}

#[tokio::test]
async fn a_program_need_not_read_the_stream_that_it_is_given() {
    let service = with_orders(Setup::default()).await;
    let admin = service.admin();
    let rows: String = (0..200_000)
        .map(|n| format!("{n},a text to fill the pipe\n"))
        .collect();
    fs::write(
        service.files().join("orders.csv"),
        format!("id,text\n{rows}"),
    )
    .unwrap();
    let command = json!({ "program": "sh", "args": ["-c", "head -c 10 > /dev/null; echo 'a\n1' > copy.csv"],
        "tables": { "in": { "orders": { "format": "arrow-stream", "via": "stdin" } },
                    "out": { "format": "csv" } } });
    admin
        .publish_json(&exchange("lazy", command, "out.csv"))
        .await;
    assert_eq!(admin.run("lazy").await, "Succeeded");
    assert_eq!(
        fs::read_to_string(service.files().join("out.csv")).unwrap(),
        "a\n1\n"
    );
}

/// What the operator allows is what there is, and the worker goes on.
#[tokio::test]
async fn a_program_keeps_within_what_its_operator_allows() {
    let service = Service::start(Setup {
        worker: &[
            ("MILLSTREAM_COMMAND_TIME", "6s"),
            ("MILLSTREAM_COMMAND_MEMORY", "64MiB"),
            ("MILLSTREAM_COMMAND_PROCESSES", "20"),
            ("MILLSTREAM_COMMAND_OUTPUT", "2MiB"),
        ],
        ..Setup::default()
    })
    .await;
    let admin = service.admin();
    admin.publish(&quick("hello")).await;
    for (id, script, setting) in [
        ("time", "sleep 600", "--command-time"),
        (
            "memory",
            "head -c 400000000 /dev/zero | tail -c 400000000",
            "--command-memory",
        ),
        (
            "processes",
            "f() { setsid sleep 600 & f; }; f",
            "--command-processes",
        ),
        ("output", "yes >&2", "--command-output"),
    ] {
        let flow = json!({ "id": id, "steps": [
            { "id": "run", "command": { "program": "sh", "args": ["-c", script] } }] });
        let (code, message) = failure(&service, &flow).await;
        assert_eq!(code, "command_limit", "{message}");
        assert!(message.contains(setting), "{message}");
        assert_eq!(admin.run("hello").await, "Succeeded");
    }
}

#[tokio::test]
async fn a_daemon_of_a_program_ends_with_its_worker() {
    let mut service = Service::start(Setup::default()).await;
    let admin = service.admin();
    let noted = service.folder().join("daemon");
    let script = format!(
        "setsid sh -c \"trap '' TERM; sleep 600 & echo \\$! > '{}'\" > /dev/null 2>&1; sleep 600",
        noted.display()
    );
    let flow = json!({ "id": "leaves", "steps": [
        { "id": "run", "command": { "program": "sh", "args": ["-c", script] } }] });
    admin.publish_json(&flow).await;
    admin.start("leaves").await;
    let daemon = eventually(SOON, "the daemon to run", || async {
        let text = fs::read_to_string(&noted).ok()?;
        text.strip_suffix('\n')?.parse::<i32>().ok()
    })
    .await;
    assert!(!has_ended(daemon));
    service.workers[0].kill();
    eventually(SOON, "the daemon to end", || async {
        has_ended(daemon).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_a_program_says_is_in_the_log_of_its_worker() {
    let service = Service::start(Setup::default()).await;
    let admin = service.admin();
    let script = "echo plain >&2; echo '{\"level\":\"error\",\"message\":\"odd\"}' >&2; echo value";
    let flow = json!({ "id": "speaks", "steps": [
        { "id": "says", "command": { "program": "sh", "args": ["-c", script] } }] });
    admin.publish_json(&flow).await;
    let run = admin.start("speaks").await;
    assert_eq!(admin.end("speaks", &run).await, "Succeeded");
    let log = service.workers[0].log();
    let line = |text: &str| {
        log.lines()
            .find(|line| line.contains(text))
            .unwrap()
            .to_owned()
    };
    for (text, level) in [("plain", "INFO"), ("odd", "ERROR")] {
        let line = line(text);
        for expected in [level, "stderr", &run, "says"] {
            assert!(line.contains(expected), "{expected}: {line}");
        }
    }
    assert!(
        !log.contains("\"line\":\"value\""),
        "the value is in the log"
    );
}
