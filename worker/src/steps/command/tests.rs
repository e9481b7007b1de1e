//! Real programs: what they get, what they print, and that none of them
//! outlives its step.

use std::{
    io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use nix::{errno::Errno, sys::signal, unistd::Pid};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{
    Command, Invocation, SEARCH_PATH, StepError, StepOutput, limits::tests::limits,
    output::STDOUT_BYTES_MAX,
};

/// The program that supervises commands, beside the one that these tests are
/// in: `cargo build --workspace --bins` builds it.
pub(super) fn launcher() -> io::Result<PathBuf> {
    let tests = std::env::current_exe()?;
    let folder = tests.parent().and_then(Path::parent).unwrap();
    let worker = folder.join("millstream-worker");
    assert!(worker.exists(), "{} has not been built", worker.display());
    Ok(worker)
}

fn invocation(step: Value) -> Invocation {
    Invocation::new(&serde_json::from_value(step).unwrap(), SEARCH_PATH).unwrap()
}

fn shell(script: &str) -> Value {
    json!({ "program": "sh", "args": ["-c", script] })
}

/// With a secret that JSON would write in its own way.
fn hiding(invocation: Invocation) -> Invocation {
    invocation.mask.add(["1234567890.10"]);
    invocation
}

/// Runs a step in a folder of its own.
async fn execute(step: Value, cancelled: &CancellationToken) -> Result<StepOutput, StepError> {
    let own_limits = step["limits"].clone();
    let own_limits = if own_limits.is_null() {
        json!({})
    } else {
        own_limits
    };
    let command = Command {
        launcher: &launcher().unwrap(),
        limits: &limits(&[], own_limits),
        cancelled,
        exchange: None,
    };
    command
        .execute(hiding(invocation(step)), tempfile::tempdir().unwrap())
        .await
}

async fn run(step: Value) -> Result<StepOutput, StepError> {
    execute(step, &CancellationToken::new()).await
}

async fn stdout(step: Value) -> String {
    let output = run(step).await.unwrap();
    output.value["stdout"].as_str().unwrap().to_owned()
}

/// Waits until `holds`, at most ten seconds.
async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain for: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The process numbers that a script wrote into a file, one a line.
async fn numbers(file: &Path, count: usize) -> Vec<Pid> {
    let read = || {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let complete = text.ends_with('\n');
        let lines = text
            .lines()
            .map(|line| Pid::from_raw(line.parse().unwrap()));
        if complete {
            lines.collect()
        } else {
            Vec::new()
        }
    };
    eventually("the script to start", || read().len() == count).await;
    read()
}

fn has_ended(pid: Pid) -> bool {
    // A process that nobody has reaped yet has ended, too.
    let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let zombie = state
        .rsplit(')')
        .next()
        .is_some_and(|rest| rest.starts_with(" Z"));
    zombie || signal::kill(pid, None) == Err(Errno::ESRCH)
}

#[tokio::test]
async fn what_a_program_prints_is_its_value() {
    let output = run(shell("echo '{\"rows\": 3}'; echo note >&2"))
        .await
        .unwrap();
    assert_eq!(
        output.value,
        json!({ "exit_code": 0, "stdout": "{\"rows\": 3}\n", "truncated": false,
                "json": { "rows": 3 } })
    );
    assert_eq!(output.bytes, Some(12));
    let plain = run(shell("printf plain")).await.unwrap();
    assert_eq!(plain.value["stdout"], "plain");
    assert_eq!(plain.value["json"], Value::Null);
}

#[tokio::test]
async fn a_secret_number_is_hidden_before_json_writes_it_in_its_own_way() {
    let output = run(shell("echo '{\"n\": 1234567890.10}'")).await.unwrap();
    assert_eq!(output.value["stdout"], "{\"n\": ***}\n");
    assert_eq!(output.value["json"], Value::Null);
}

#[tokio::test]
async fn large_input_and_output_pass_at_once() {
    let large = "0123456789abcde\n".repeat(16_000);
    let echoed = stdout(json!({ "program": "cat", "stdin": large })).await;
    assert_eq!(echoed, large);
}

#[tokio::test]
async fn a_program_need_not_read_its_input() {
    let large = "x".repeat(1_000_000);
    let step = json!({ "program": "true", "stdin": large });
    assert_eq!(run(step).await.unwrap().value["exit_code"], 0);
}

#[tokio::test]
async fn output_beyond_the_limit_is_dropped_and_said_so() {
    let output = run(shell(
        "head -c 5000000 /dev/zero | tr '\\0' x; head -c 300000 /dev/zero >&2",
    ))
    .await
    .unwrap();
    assert_eq!(output.value["truncated"], true);
    assert_eq!(output.value["json"], Value::Null);
    assert_eq!(
        output.value["stdout"].as_str().unwrap().len(),
        STDOUT_BYTES_MAX
    );
    assert_eq!(output.bytes, Some(5_000_000));
}

#[tokio::test]
async fn the_environment_holds_nothing_of_the_workers() {
    let mut step = shell("env; pwd; ls -A | wc -l");
    step["env"] = json!({ "OWN": "value" });
    let printed = stdout(step).await;
    let mut names: Vec<_> = printed
        .lines()
        .filter_map(|line| Some(line.split_once('=')?.0))
        .collect();
    names.sort_unstable();
    // `sh` adds `PWD`, and some shells `OLDPWD`, `SHLVL` and `_`.
    names.retain(|name| !["PWD", "OLDPWD", "SHLVL", "_"].contains(name));
    assert_eq!(names, ["HOME", "LANG", "OWN", "PATH", "TMPDIR"]);

    let lines: Vec<_> = printed.lines().rev().collect();
    assert_eq!(lines[0].trim(), "0");
    let folder = lines[1];
    assert!(printed.contains(&format!("HOME={folder}\n")), "{printed}");
    assert!(!Path::new(folder).exists(), "{folder} is still there");
}

#[tokio::test]
async fn a_failure_names_program_status_and_last_words() {
    let error = run(shell("echo first >&2; echo the reason >&2; exit 3"))
        .await
        .unwrap_err();
    assert_eq!((error.code, error.retriable), ("exit_status", true));
    assert_eq!(
        error.message,
        "program `sh` ended with exit code 3: the reason\nbefore that on standard error:\nfirst"
    );
    let error = run(shell("kill -KILL $$")).await.unwrap_err();
    assert_eq!(error.message, "program `sh` ended with signal SIGKILL");
}

#[tokio::test]
async fn a_program_that_is_not_there_is_named() {
    for program in ["no-such-program", "/no/such/program"] {
        let error = run(json!({ "program": program, "args": ["hush"] }))
            .await
            .unwrap_err();
        assert_eq!((error.code, error.retriable), ("command_program", false));
        assert!(error.message.contains(program), "{error}");
        assert!(!error.message.contains("hush"), "{error}");
    }
    let error = run(json!({ "program": "/etc/passwd" })).await.unwrap_err();
    assert!(error.message.contains("may not be executed"), "{error}");
    let error = run(json!({ "program": "echo", "args": ["a\u{0}b"] }))
        .await
        .unwrap_err();
    assert!(error.message.contains("NUL"), "{error}");
}

#[tokio::test]
async fn what_a_program_left_behind_neither_holds_its_step_nor_survives() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pids");
    let script = format!("sleep 600 & echo $! > {}; echo done", file.display());
    let started = Instant::now();
    assert_eq!(stdout(shell(&script)).await, "done\n");
    assert!(started.elapsed() < Duration::from_secs(5));
    let left = numbers(&file, 1).await;
    eventually("the grandchild to end", || has_ended(left[0])).await;
}

#[tokio::test]
async fn a_daemon_that_left_group_and_session_ends_with_its_command() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pids");
    let daemon = format!("sleep 600 & echo $! > {}", file.display());
    let script = format!("setsid sh -c '{daemon}' > /dev/null 2>&1; echo done");
    let started = Instant::now();
    assert_eq!(stdout(shell(&script)).await, "done\n");
    assert!(started.elapsed() < Duration::from_secs(6));
    let left = numbers(&file, 1).await;
    assert!(has_ended(left[0]), "{} is alive", left[0]);
}

#[tokio::test]
async fn a_limit_that_is_passed_ends_the_program_and_is_named() {
    let filling = "head -c 400000000 /dev/zero | tail -c 400000000 > /dev/null; sleep 600";
    for (script, limits, expected) in [
        (
            filling,
            json!({ "memory": "64MiB" }),
            "took more than the 64 MiB of memory that `limits: { memory }`",
        ),
        (
            "while :; do :; done",
            json!({ "cpu_time": "300ms" }),
            "took more than the 300ms on processors that `limits: { cpu_time }`",
        ),
        (
            "for n in 1 2 3 4 5 6 7 8 9; do setsid sleep 600 & done; wait",
            json!({ "processes": 5 }),
            "was more than the 5 processes that `limits: { processes }`",
        ),
        (
            "yes",
            json!({ "output": "1MiB" }),
            "printed more than the 1 MiB that `limits: { output }`",
        ),
        (
            "exec head -c 2000000 /dev/zero > big",
            json!({ "file_size": "1MiB" }),
            "wrote more into a file than the 1 MiB that `limits: { file_size }`",
        ),
    ] {
        let mut step = shell(script);
        step["limits"] = limits;
        let started = Instant::now();
        let error = run(step).await.unwrap_err();
        assert_eq!(
            (error.code, error.retriable),
            ("command_limit", false),
            "{error}"
        );
        assert!(error.message.contains(expected), "{error}");
        assert!(started.elapsed() < Duration::from_secs(20), "{script}");
    }
}

#[tokio::test]
async fn a_limit_that_only_makes_something_fail_is_explained() {
    let open = (3..40)
        .map(|n| format!("exec {n}< /dev/null"))
        .collect::<Vec<_>>()
        .join("\n");
    let mut step = json!({ "program": "bash", "args": ["-c", format!("set -e\n{open}")] });
    step["limits"] = json!({ "open_files": 16 });
    let error = run(step).await.unwrap_err();
    let expected = "(it may have 16 files open, as `limits: { open_files }` of the step allows)";
    assert!(error.message.contains(expected), "{error}");
}

#[tokio::test]
async fn a_program_inherits_nothing_and_gets_no_more_rights() {
    let printed = stdout(shell("ls /proc/self/fd; ulimit -c; ulimit -n")).await;
    // The last of the descriptors is that of the list itself.
    assert_eq!(
        printed.lines().collect::<Vec<_>>(),
        ["0", "1", "2", "3", "0", "1024"]
    );
    let step =
        json!({ "program": "grep", "args": ["-hE", "^(SigBlk|NoNewPrivs)", "/proc/self/status"] });
    let printed = stdout(step).await;
    let told: Vec<_> = printed
        .lines()
        .filter_map(|line| line.split('\t').nth(1))
        .collect();
    assert_eq!(told, ["0000000000000000", "1"], "{printed}");
}

#[tokio::test]
async fn a_folder_that_a_program_locked_is_removed() {
    let printed = stdout(shell(
        "pwd; mkdir -p a/b; touch a/b/c; chmod 500 a/b; chmod 0 a",
    ))
    .await;
    assert!(
        !Path::new(printed.trim()).exists(),
        "{printed} is still there"
    );
}

#[tokio::test]
async fn a_cancelled_program_may_clean_up_and_ends_with_its_children() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pids");
    let cleaned = folder.path().join("cleaned");
    let script = format!(
        "trap 'touch {}; exit 0' TERM; sleep 600 & printf '%s\\n' $$ $! > {}; wait",
        cleaned.display(),
        file.display(),
    );
    let cancelled = CancellationToken::new();
    let running = execute(shell(&script), &cancelled);
    let cancelling = async {
        let pids = numbers(&file, 2).await;
        cancelled.cancel();
        pids
    };
    let (result, pids) = tokio::join!(running, cancelling);
    let error = result.unwrap_err();
    assert_eq!((error.code, error.retriable), ("cancelled", false));
    assert!(cleaned.exists());
    for pid in pids {
        assert!(has_ended(pid), "{pid} is alive");
    }
}

#[tokio::test]
async fn a_cancelled_program_that_will_not_end_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pids");
    let script = format!(
        "trap '' TERM; sleep 600 & printf '%s\\n' $$ $! > {}; while :; do sleep 600; done",
        file.display(),
    );
    let cancelled = CancellationToken::new();
    let running = execute(shell(&script), &cancelled);
    let cancelling = async {
        let pids = numbers(&file, 2).await;
        cancelled.cancel();
        (pids, Instant::now())
    };
    let (result, (pids, asked)) = tokio::join!(running, cancelling);
    assert_eq!(result.unwrap_err().code, "cancelled");
    assert!(asked.elapsed() < Duration::from_secs(5));
    for pid in pids {
        eventually("a process to end", || has_ended(pid)).await;
    }
}

#[tokio::test]
async fn a_program_whose_step_is_dropped_ends_with_its_children() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pids");
    let script = format!(
        "trap '' TERM; pwd > {}; sleep 600 & printf '%s\\n' $$ $! > {}; wait; sleep 600",
        folder.path().join("pwd").display(),
        file.display(),
    );
    let cancelled = CancellationToken::new();
    let pids = tokio::select! {
        result = execute(shell(&script), &cancelled) => panic!("the step ended: {result:?}"),
        pids = numbers(&file, 2) => pids,
    };
    for pid in pids {
        eventually("a process to end", || has_ended(pid)).await;
    }
    let own = std::fs::read_to_string(folder.path().join("pwd")).unwrap();
    let own = Path::new(own.trim());
    eventually("the folder to be removed", || !own.exists()).await;
}
