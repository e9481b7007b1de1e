//! What flows say of their steps is what happens: order, retry, time limits,
//! conditions, what follows a failure.

use std::{fs, path::Path};

use harness::{Answer, SOON, Service, Setup, eventually};
use nix::{errno::Errno, sys::signal::kill, unistd::Pid};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::flows::{gated, quick, shell};

/// A step that writes its name into a file.
fn note(file: &Path, step: &str, further: &str) -> String {
    let script = json!(["-c", format!("echo {step} >> '{}'", file.display())]);
    format!("  - {{ id: {step}, command: {{ program: sh, args: {script} }}{further} }}\n")
}

fn lines(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn a_failed_step_is_tried_again_as_often_as_it_says() {
    let service = Service::start(Setup::default()).await;
    let admin = service.admin();
    let file = service.folder().join("tries");
    let third = format!(
        "echo try >> '{0}'; [ $(wc -l < '{0}') -ge 3 ]",
        file.display()
    );
    let retry = "    retry: { attempts: 3, backoff: constant, initial: 20ms }\n";
    admin
        .publish(&format!("{}{retry}", shell("stubborn", &[("try", &third)])))
        .await;
    assert_eq!(admin.run("stubborn").await, "Succeeded");
    assert_eq!(lines(&file).len(), 3);

    fs::remove_file(&file).unwrap();
    let never = format!("echo try >> '{}'; false", file.display());
    admin
        .publish(&format!("{}{retry}", shell("hopeless", &[("try", &never)])))
        .await;
    assert_eq!(admin.run("hopeless").await, "Failed");
    assert_eq!(lines(&file).len(), 3);
}

#[tokio::test]
async fn a_step_that_takes_too_long_is_stopped_with_all_that_it_started() {
    let service = Service::start(Setup::default()).await;
    let admin = service.admin();
    let file = service.folder().join("processes");
    let script = format!(
        "sleep 600 & printf '%s\\n' $$ $! > '{}'; wait",
        file.display()
    );
    let flow = shell("endless", &[("sleep", &script)]);
    admin.publish(&format!("{flow}    timeout: 1s\n")).await;
    let run = admin.start("endless").await;
    assert_eq!(admin.end("endless", &run).await, "Failed");
    assert_eq!(service.run_error(&run).await["code"], "timeout");
    for process in lines(&file) {
        let process = Pid::from_raw(process.parse().unwrap());
        eventually(SOON, "the process to end", || async {
            (kill(process, None) == Err(Errno::ESRCH)).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn steps_that_do_not_depend_on_one_another_run_in_parallel() {
    let service = Service::start(Setup::default()).await;
    let admin = service.admin();
    let gate = service.gate("gate");
    let script = json!(["-c", gate.script()]);
    let step =
        |id: &str| format!("  - {{ id: {id}, command: {{ program: sh, args: {script} }} }}\n");
    let steps: String = ["a", "b", "c"].map(step).concat();
    admin.publish(&format!("id: wide\nsteps:\n{steps}")).await;
    let run = admin.start("wide").await;
    gate.reached_by(3).await;
    gate.open();
    assert_eq!(admin.end("wide", &run).await, "Succeeded");
}

#[tokio::test]
async fn conditions_and_failures_lead_where_the_flow_says() {
    let service = Service::start(Setup::default()).await;
    let admin = service.admin();
    let file = service.folder().join("noted");
    let fail = "command: { program: sh, args: [\"-c\", \"echo why >&2; exit 3\"] }";
    let text = format!(
        "id: paths\nsteps:\n{}{}  - {{ id: fails, {fail}, on_error: continue }}\n{}{}{}",
        note(&file, "skipped", ", when: \"1 > 2\""),
        note(&file, "taken", ", when: \"1 < 2\""),
        note(
            &file,
            "after",
            ", needs: [fails], when: \"steps.fails.state == 'failed'\""
        ),
        format_args!("  - {{ id: ends, needs: [after, taken], {fail} }}\n"),
        note(&file, "never", ", needs: [ends]"),
    );
    let text = format!(
        "{text}on_failure:\n{}",
        note(&file, "alarm", ", when: \"'code 3' in run.error.message\"")
    );
    admin.publish(&text).await;
    let run = admin.start("paths").await;
    assert_eq!(admin.end("paths", &run).await, "Failed");
    let mut noted = lines(&file);
    noted.sort();
    assert_eq!(noted, ["after", "alarm", "taken"]);
    let error = service.run_error(&run).await;
    assert_eq!(error["code"], "exit_status");
    assert_eq!(error["step"], "ends");
    assert!(
        error["message"].as_str().unwrap().contains("why"),
        "{error}"
    );
}

#[tokio::test]
async fn no_more_runs_of_a_flow_execute_at_once_than_it_says() {
    let service = Service::start(Setup {
        workers: 2,
        ..Setup::default()
    })
    .await;
    let admin = service.admin();
    let gate = service.gate("gate");
    let flow = gated("narrow", &gate);
    admin
        .publish(&format!("{flow}concurrency: {{ limit: 1 }}\n"))
        .await;
    admin.publish(&quick("hello")).await;
    let runs = [admin.start("narrow").await, admin.start("narrow").await];
    gate.reached_by(1).await;
    // Both workers have looked at the queue when they have done other work.
    for _ in 0..10 {
        assert_eq!(admin.run("hello").await, "Succeeded");
    }
    assert_eq!(gate.arrivals().len(), 1);
    assert_eq!(admin.status("narrow", &runs[1]).await, "Pending");
    gate.open();
    for run in &runs {
        assert_eq!(admin.end("narrow", run).await, "Succeeded");
    }
    assert_eq!(gate.arrivals().len(), 2);
}

#[tokio::test]
async fn every_attempt_of_an_http_step_shows_the_same_idempotency_key() {
    let service = Service::start(Setup::default()).await;
    let admin = service.admin();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    admin
        .publish(&format!(
            "id: hook
steps:
  - id: tell
    http: {{ method: POST, url: \"http://{address}/hook\", json: {{ rows: 3 }} }}
    retry: {{ attempts: 2, backoff: constant, initial: 20ms }}
"
        ))
        .await;
    let waiting = tokio::spawn(Answer::of(admin.start_request("hook", "?await=true")));
    let mut keys = Vec::new();
    for status in ["503 Service Unavailable", "200 OK"] {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = String::new();
        while !request.ends_with("{\"rows\":3}") {
            let mut buffer = [0; 1024];
            let count = stream.read(&mut buffer).await.unwrap();
            assert!(count > 0, "the request broke off: {request}");
            request += std::str::from_utf8(&buffer[..count]).unwrap();
        }
        let reply = format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
        stream.write_all(reply.as_bytes()).await.unwrap();
        let key = request
            .lines()
            .find_map(|line| line.strip_prefix("idempotency-key: "));
        keys.push(key.unwrap().to_owned());
    }
    let answer = waiting.await.unwrap();
    assert_eq!(answer.run_status(), "Succeeded");
    let key = format!("{}-tell", answer.run_id());
    assert_eq!(keys, [key.clone(), key]);
}

#[tokio::test]
async fn a_worker_refuses_what_its_operator_has_not_allowed() {
    let service = Service::start(Setup {
        worker: &[
            ("MILLSTREAM_COMMANDS", "deny"),
            ("MILLSTREAM_HTTP_ALLOW", "10.0.0.0/8"),
        ],
        ..Setup::default()
    })
    .await;
    let admin = service.admin();
    admin.publish(&shell("command", &[("run", "true")])).await;
    let address = service.apis[0].address();
    admin
        .publish(&format!(
            "id: inward\nsteps:\n  - {{ id: ask, http: {{ url: \"http://{address}/\" }} }}\n"
        ))
        .await;
    for (flow, code, setting) in [
        ("command", "commands_denied", "MILLSTREAM_COMMANDS"),
        ("inward", "http_forbidden", "MILLSTREAM_HTTP_ALLOW"),
    ] {
        let run = admin.start(flow).await;
        assert_eq!(admin.end(flow, &run).await, "Failed");
        let error = service.run_error(&run).await;
        assert_eq!(error["code"], code, "{error}");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(setting), "{error}");
    }
}

#[tokio::test]
async fn a_value_that_nests_too_deep_fails_its_step_and_not_the_record() {
    let service = Service::start(Setup::default()).await;
    let admin = service.admin();
    let deep = format!("{}{}", "[".repeat(100), "]".repeat(100));
    let command = json!({ "program": "echo", "args": [deep] });
    admin
        .publish(&format!(
            "id: deep\nsteps:\n  - id: deep\n    command: {command}\n"
        ))
        .await;
    let run = admin.start("deep").await;
    assert_eq!(admin.end("deep", &run).await, "Failed");
    assert_eq!(service.run_error(&run).await["code"], "value_too_deep");
}

#[tokio::test]
async fn an_output_without_a_value_fails_the_run_like_a_step() {
    let service = Service::start(Setup::default()).await;
    let admin = service.admin();
    let noted = service.folder().join("noted");
    let note =
        json!({ "program": "sh", "args": ["-c", format!("echo x > '{}'", noted.display())] });
    admin
        .publish(&format!(
            "id: out
steps:
  - {{ id: skipped, when: 'false', set: {{ x: 1 }} }}
output: {{ v: \"{{{{ steps.skipped.value.x }}}}\" }}
on_failure:
  - {{ id: alarm, command: {note} }}
"
        ))
        .await;
    assert_eq!(admin.run("out").await, "Failed");
    assert!(noted.exists(), "the run failed without its on_failure");
}

#[tokio::test]
async fn the_largest_query_that_a_flow_may_hold_harms_no_worker() {
    let service = Service::start(Setup::default()).await;
    let admin = service.admin();
    fs::write(service.files().join("one.csv"), "a\n1\n").unwrap();
    let sum = vec!["a"; 1000].join(" + ");
    let mut chain = "with t0 as (select * from one)".to_owned();
    for n in 1..98 {
        chain += &format!(", t{n} as (select * from t{})", n - 1);
    }
    for (id, sql) in [
        ("sum", format!("select {sum} as x from one")),
        ("chain", format!("{chain} select * from t97")),
    ] {
        let flow = json!({ "id": id, "steps": [
            { "id": "one", "read": { "path": "one.csv" } },
            { "id": "query", "sql": sql },
        ] });
        admin.publish_json(&flow).await;
        assert_eq!(admin.run(id).await, "Succeeded", "{id}");
    }
    let sum = vec!["a"; 1100].join(" + ");
    let flow = json!({ "id": "sum", "steps": [
        { "id": "one", "read": { "path": "one.csv" } },
        { "id": "query", "sql": format!("select {sum} as x from one") },
    ] });
    let refused = admin.put_flow("sum", &flow.to_string()).await;
    assert_eq!(refused.status, 422);
}
