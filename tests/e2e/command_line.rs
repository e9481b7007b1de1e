//! What a person types: `millstream up` and the commands that talk to it.

use std::{
    fs,
    io::Write,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use harness::{Process, SOON, built_program, eventually};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::flows::{failing, quick};

/// A folder in which `millstream up` runs.
struct OneMachine {
    up: Process,
    folder: TempDir,
}

impl OneMachine {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let up = start_up(folder.path());
        let machine = Self { up, folder };
        machine.serves().await;
        machine
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    async fn serves(&self) {
        let address = self.path().join(".millstream/up.json");
        eventually(SOON, "`millstream up` to serve", || async {
            let written = address.exists() && self.up.log().contains("the API listens");
            written.then_some(())
        })
        .await;
    }

    fn flow(&self, name: &str, text: &str) -> String {
        let path = self.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Runs a command to its end.
    fn millstream(&self, arguments: &[&str]) -> Ended {
        millstream(self.path(), arguments)
    }
}

impl Drop for OneMachine {
    /// Stops it in good order, so that its Redis ends as well.
    fn drop(&mut self) {
        if !self.up.is_running() {
            return;
        }
        self.up.signal(Signal::SIGTERM);
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.up.is_running() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn start_up(folder: &Path) -> Process {
    let free = "127.0.0.1:0";
    let ports = [
        "--listen",
        free,
        "--ops-listen",
        free,
        "--worker-ops-listen",
        free,
    ];
    let arguments = [&["up"][..], &ports[..]].concat();
    Process::start("millstream", "up", folder, &arguments, &[])
}

/// How a command ended: its exit code, and what it printed.
#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Ended {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

fn millstream(folder: &Path, arguments: &[&str]) -> Ended {
    fed(folder, arguments, "")
}

/// Runs a command that reads this on standard input.
fn fed(folder: &Path, arguments: &[&str], input: &str) -> Ended {
    let mut command = Command::new(built_program("millstream"));
    for (variable, _) in std::env::vars_os() {
        if variable.to_string_lossy().starts_with("MILLSTREAM_") {
            command.env_remove(variable);
        }
    }
    let mut running = command
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that reads nothing may have ended by now.
    let _ = running.stdin.take().unwrap().write_all(input.as_bytes());
    let Output {
        status,
        stdout,
        stderr,
    } = running.wait_with_output().unwrap();
    Ended {
        code: status.code(),
        out: String::from_utf8(stdout).unwrap(),
        err: String::from_utf8(stderr).unwrap(),
    }
}

#[tokio::test]
async fn what_was_published_and_run_is_there_after_a_kill() {
    let mut machine = OneMachine::start().await;
    let flow = machine.flow("hello.yaml", &quick("hello"));
    let applied = machine.millstream(&["apply", "-f", &flow]);
    assert_eq!(
        (applied.code, &*applied.out),
        (Some(0), "hello 1\n"),
        "{applied:?}"
    );

    let started = machine.millstream(&["start", "hello", "--input", "name=Ada", "--await"]);
    assert_eq!(started.code, Some(0), "{started:?}");
    let answer = started.json();
    assert_eq!(answer.as_object().unwrap().len(), 2);
    assert_eq!(answer["status"], "Succeeded");
    let run = answer["runId"].as_str().unwrap();

    machine.up.kill();
    // The address that it leaves behind is not the one of the next.
    fs::remove_file(machine.path().join(".millstream/up.json")).unwrap();
    machine.up = start_up(machine.path());
    machine.serves().await;
    let status = machine.millstream(&["status", "hello", run]);
    assert_eq!(
        (status.code, &status.json()["status"]),
        (Some(0), &Value::from("Succeeded"))
    );
    let again = machine.millstream(&["start", "hello", "--await"]);
    assert_eq!(again.code, Some(0), "{again:?}");
}

#[tokio::test]
async fn what_a_run_handed_back_is_printed_or_written_however_large() {
    let machine = OneMachine::start().await;
    let flow = "id: large
inputs: { times: { type: integer, default: 1 } }
steps:
  - { id: make, set: { text: \"{{ 'x' * inputs.times }}\" } }
output: \"{{ steps.make.value.text }}\"
";
    let flow = machine.flow("large.yaml", flow);
    machine.millstream(&["apply", "-f", &flow]);
    let kept = machine.path().join(".millstream/artifacts");
    for (times, is_kept) in [(5, false), (500_000, true)] {
        let times_input = format!("times={times}");
        let started = machine.millstream(&["start", "large", "--await", "--input", &times_input]);
        let run = started.json()["runId"].as_str().unwrap().to_owned();
        let expected = format!("\"{}\"", "x".repeat(times));
        let printed = machine.millstream(&["output", "large", &run]);
        assert_eq!(printed.code, Some(0), "{}", printed.err);
        assert!(printed.out.trim_end() == expected);
        machine.millstream(&["output", "large", &run, "--file", "out.json"]);
        let written = fs::read_to_string(machine.path().join("out.json"));
        assert!(written.unwrap() == expected);
        let of_service = fs::read_dir(&kept).unwrap().next().unwrap().unwrap();
        let runs = fs::read_dir(of_service.path()).unwrap().count();
        assert_eq!(runs > 0, is_kept);
    }
    let unknown = "018f0e7a-0000-7000-8000-000000000000";
    let refused = machine.millstream(&["output", "large", unknown, "--file", "none.json"]);
    assert_eq!(refused.code, Some(3));
    assert!(refused.err.contains(unknown), "{}", refused.err);
    assert!(!machine.path().join("none.json").exists());
    let nowhere = machine.millstream(&["output", "large", unknown, "--file", "no/such/x"]);
    assert!(nowhere.err.contains("no/such/x"), "{}", nowhere.err);
}

#[tokio::test]
async fn the_exit_code_says_how_it_went() {
    let machine = OneMachine::start().await;
    let flow = machine.flow("fails.yaml", &failing("fails"));
    assert_eq!(machine.millstream(&["apply", "-f", &flow]).code, Some(0));

    let failed = machine.millstream(&["start", "fails", "--await"]);
    assert_eq!(
        (failed.code, &failed.json()["status"]),
        (Some(1), &Value::from("Failed"))
    );
    let started = machine.millstream(&["start", "fails"]);
    assert_eq!(
        (started.code, &started.json()["status"]),
        (Some(0), &Value::from("Pending"))
    );
    for (arguments, code, told) in [
        (
            &["start", "fails", "--input", "nonsense"][..],
            2,
            "nonsense",
        ),
        (&["start"], 2, "ID"),
        (&["start", "nowhere"], 3, "nowhere"),
        (
            &["start", "fails", "--url", "http://127.0.0.1:1"],
            3,
            "127.0.0.1:1",
        ),
        (
            &["start", "fails", "--api-key", "not-a-key-of-theirs"],
            3,
            "key",
        ),
    ] {
        let ended = machine.millstream(arguments);
        assert_eq!(ended.code, Some(code), "{arguments:?} {ended:?}");
        assert!(ended.err.contains(told), "{arguments:?} {ended:?}");
        assert_eq!(ended.err.lines().count(), 1, "one clear line: {ended:?}");
        assert_eq!(ended.out, "", "{arguments:?}");
    }
}

#[tokio::test]
async fn a_key_works_from_its_creation_to_its_deletion() {
    let machine = OneMachine::start().await;
    let flow = machine.flow("hello.yaml", &quick("hello"));
    assert_eq!(machine.millstream(&["apply", "-f", &flow]).code, Some(0));

    let created = machine.millstream(&["keys", "create", "--name", "nightly", "--flow", "hello"]);
    assert_eq!(created.code, Some(0), "{created:?}");
    let created = created.json();
    let (id, key) = (
        created["id"].as_str().unwrap(),
        created["key"].as_str().unwrap(),
    );
    let start = ["start", "hello", "--await", "--api-key", key];
    assert_eq!(machine.millstream(&start).code, Some(0));

    assert_eq!(machine.millstream(&["keys", "delete", id]).code, Some(0));
    let refused = machine.millstream(&start);
    assert_eq!(refused.code, Some(3), "{refused:?}");
}

#[tokio::test]
async fn a_connection_is_kept_without_setting_anything_up() {
    let machine = OneMachine::start().await;
    let path = machine.path();
    let key = path.join(".millstream/secrets-key");
    assert_eq!(
        fs::metadata(&key).unwrap().permissions().mode() & 0o777,
        0o600
    );

    let crm = "kind: postgres\nhost: db\ndatabase: d\nuser: u\npassword: hush-hush\n";
    let made = fed(path, &["connections", "set", "crm", "-f", "-"], crm);
    assert_eq!(
        (made.code, &*made.out),
        (Some(0), "crm created\n"),
        "{made:?}"
    );
    let file = machine.flow("crm.yaml", crm);
    let again = ["connections", "set", "crm", "-f", &file, "--output", "json"];
    assert_eq!(
        machine.millstream(&again).json()["secrets"],
        json!(["password"])
    );
    assert_eq!(
        machine.millstream(&["connections", "list"]).out,
        "crm postgres\n"
    );
    let shown = machine.millstream(&["connections", "show", "crm"]);
    assert!(
        shown.out.contains("host: db\n") && !shown.out.contains("hush"),
        "{shown:?}"
    );
    let deleted = machine.millstream(&["connections", "delete", "crm"]);
    assert_eq!(deleted.code, Some(0), "{deleted:?}");
    assert_eq!(machine.millstream(&["connections", "list"]).out, "");
}

#[tokio::test]
async fn a_secret_comes_on_standard_input_and_reaches_a_program() {
    let machine = OneMachine::start().await;
    let path = machine.path();
    let made = fed(path, &["secrets", "set", "token"], "canary-value\n");
    assert_eq!(
        (made.code, &*made.out),
        (Some(0), "token created\n"),
        "{made:?}"
    );
    assert_eq!(machine.millstream(&["secrets", "list"]).out, "token\n");
    let resealed = machine.millstream(&["secrets", "reseal", "--output", "json"]);
    assert_eq!(resealed.json(), json!({ "resealed": 0 }));
    let given = path.join("given");
    let command = json!({ "program": "sh", "env": { "TOKEN": "{{ secrets.token }}" },
                          "args": ["-c", format!("printf %s $TOKEN > '{}'", given.display())] });
    let flow = format!("id: f\nsteps:\n  - id: a\n    command: {command}\n");
    let flow = machine.flow("f.yaml", &flow);
    assert_eq!(machine.millstream(&["apply", "-f", &flow]).code, Some(0));
    assert_eq!(machine.millstream(&["start", "f", "--await"]).code, Some(0));
    assert_eq!(fs::read_to_string(given).unwrap(), "canary-value");
    let deleted = machine.millstream(&["secrets", "delete", "token"]);
    assert_eq!(deleted.code, Some(0), "{deleted:?}");
    assert_eq!(machine.millstream(&["secrets", "list"]).out, "");
    let new = millstream(path, &["secrets", "new-key"]);
    assert_eq!((new.code, new.out.trim().len()), (Some(0), 44), "{new:?}");
}

#[tokio::test]
async fn what_is_wrong_with_a_connection_or_secret_is_one_line_without_its_text() {
    let machine = OneMachine::start().await;
    for (arguments, input, code, told) in [
        (
            &["connections", "show", "nope"][..],
            "",
            3,
            "no connection `nope`",
        ),
        (
            &["connections", "set", "c", "-f", "-"],
            "kind: [canary",
            2,
            "line 1",
        ),
        (
            &["connections", "set", "c", "-f", "-"],
            "kind: canary",
            3,
            "`kind` must be",
        ),
        (
            &["connections", "set", "c", "-f", "nofile"],
            "",
            2,
            "nofile",
        ),
        (&["secrets", "set", "a-b"], "canary", 2, "a-b"),
        (&["secrets", "set", "s"], "cnr\n", 2, "at least 4"),
        (&["secrets", "delete", "nope"], "", 3, "no secret `nope`"),
    ] {
        let ended = fed(machine.path(), arguments, input);
        assert_eq!(ended.code, Some(code), "{arguments:?} {ended:?}");
        assert!(ended.err.contains(told), "{arguments:?} {ended:?}");
        assert!(!ended.err.contains("canary"), "{arguments:?} {ended:?}");
        assert_eq!(ended.err.lines().count(), 1, "{arguments:?} {ended:?}");
    }
}

#[test]
fn a_flow_that_is_not_valid_is_named_with_file_line_and_column() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(
        folder.path().join("bad.yaml"),
        "id: bad\nsteps:\n  - id: a\n    sets: {}\n",
    )
    .unwrap();
    fs::write(folder.path().join("good.yaml"), quick("good")).unwrap();
    let ended = millstream(folder.path(), &["validate", "bad.yaml", "good.yaml"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let printed = format!("{}{}", ended.out, ended.err);
    assert!(printed.contains("bad.yaml:4:5: "), "{ended:?}");
    assert_eq!(
        millstream(folder.path(), &["validate", "good.yaml"]).code,
        Some(0)
    );
}

#[test]
fn the_schema_is_printed_as_json() {
    let folder = tempfile::tempdir().unwrap();
    let ended = millstream(folder.path(), &["schema"]);
    assert_eq!(ended.code, Some(0));
    assert!(ended.json()["$schema"].is_string());
}

#[tokio::test]
async fn two_cannot_share_a_data_folder() {
    let machine = OneMachine::start().await;
    let second = machine.millstream(&["up", "--listen", "127.0.0.1:0"]);
    assert_eq!(second.code, Some(1), "{second:?}");
    assert!(second.err.contains(".millstream"), "{second:?}");
}
