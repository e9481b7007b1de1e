//! The `command` step: runs a program in a group of processes and a folder of
//! its own, with an environment that holds nothing of the worker's.
//!
//! How long it may take is the step's `timeout`. Memory and the number of
//! processes are those of the worker's service or container.

mod group;
mod invocation;
mod output;
#[cfg(test)]
mod tests;

use std::{os::unix::process::ExitStatusExt, process::ExitStatus, time::Duration};

use millstream_shared::flow::step::CommandStep;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use self::{
    group::{GRACE, Group, feed},
    invocation::Invocation,
    output::{Lines, Printed},
};
use super::{StepContext, StepError, StepOutput};

/// Where programs are found unless the worker says otherwise.
const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How long output may still come in after the group was killed. Only a
/// process that left the group can hold it open.
const DRAIN: Duration = Duration::from_secs(1);

/// Whether `command` steps run, and where their programs are found.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Commands {
    /// Whether `command` steps may run: they do what the user of this process
    /// may do.
    #[arg(
        long = "commands",
        env = "MILLSTREAM_COMMANDS",
        value_name = "POLICY",
        default_value = "deny"
    )]
    pub(crate) commands: CommandPolicy,

    /// The folders in which `command` steps find their programs.
    #[arg(
        long = "command-path",
        env = "PATH",
        value_name = "FOLDERS",
        default_value = SEARCH_PATH
    )]
    pub(crate) search_path: String,
}

/// Whether `command` steps may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum CommandPolicy {
    /// They run.
    Allow,
    /// They fail.
    Deny,
}

/// Runs the program of a step and hands on what it printed:
/// `{exit_code, stdout, truncated, json}`, see [`CommandStep`].
///
/// Where the run is cancelled, and also where this future is dropped, the
/// program and everything that it started are asked to end, and two seconds
/// later they are killed.
pub(crate) async fn run(
    step: &CommandStep,
    context: &StepContext,
) -> Result<StepOutput, StepError> {
    let commands = &context.services.commands;
    if commands.commands == CommandPolicy::Deny {
        return Err(StepError::permanent(
            "commands_denied",
            "this worker runs no `command` steps: MILLSTREAM_COMMANDS=allow permits them",
        ));
    }
    let mut invocation = Invocation::of_step(step, &context.scope, &commands.search_path)?;
    invocation.mask = context.mask.clone();
    let span = tracing::info_span!(
        "command",
        run = %context.run,
        flow = %context.flow,
        step = %context.step,
        attempt = context.attempt,
    );
    let folder = context.services.work_folder.for_command();
    let folder = folder.map_err(|error| {
        StepError::transient(
            "command_start",
            format!("no folder could be made for the command: {error}"),
        )
    })?;
    execute(&invocation, folder, &context.cancelled)
        .instrument(span)
        .await
}

async fn execute(
    invocation: &Invocation,
    folder: TempDir,
    cancelled: &CancellationToken,
) -> Result<StepOutput, StepError> {
    let command = invocation.command(folder.path());
    let mut group = Group::start(command, folder)
        .await
        .map_err(|error| invocation.not_started(&error))?;
    let mut printed = Printed::default();
    let mut lines = Lines::new(invocation.mask.clone());
    let pipes = (
        group.program.stdin.take(),
        group.program.stdout.take(),
        group.program.stderr.take(),
    );
    let mut exchange = Box::pin(async {
        let (stdin, stdout, stderr) = pipes;
        tokio::join!(
            feed(stdin, &invocation.stdin),
            read_printed(&mut printed, stdout),
            read_lines(&mut lines, stderr),
        )
    });
    let mut open = true;
    let ended = loop {
        tokio::select! {
            biased;
            () = cancelled.cancelled() => break None,
            status = group.program.wait() => break Some(status),
            _ = &mut exchange, if open => open = false,
        }
    };
    if ended.is_none() {
        group.ask_to_end();
        let all_ended = async {
            // An error would only mean that there is nothing to wait for.
            let _ = group.program.wait().await;
            if open {
                exchange.as_mut().await;
                open = false;
            }
        };
        // Those that are late are killed with the rest.
        let _ = timeout(GRACE, all_ended).await;
    }
    group.kill();
    if open {
        let _ = timeout(DRAIN, &mut exchange).await;
    }
    drop(exchange);
    lines.finish();
    group.clear_away().await;

    match ended {
        None => Err(StepError::cancelled()),
        Some(Ok(status)) => outcome(invocation, status, &printed, &lines),
        Some(Err(error)) => Err(StepError::transient(
            "command_start",
            format!(
                "program `{}` could not be waited for: {error}",
                invocation.program
            ),
        )),
    }
}

async fn read_printed(printed: &mut Printed, stdout: Option<tokio::process::ChildStdout>) {
    if let Some(stdout) = stdout {
        printed.read(stdout).await;
    }
}

async fn read_lines(lines: &mut Lines, stderr: Option<tokio::process::ChildStderr>) {
    if let Some(stderr) = stderr {
        lines.read(stderr).await;
    }
}

fn outcome(
    invocation: &Invocation,
    status: ExitStatus,
    printed: &Printed,
    lines: &Lines,
) -> Result<StepOutput, StepError> {
    if !status.success() {
        return Err(StepError::transient(
            "exit_status",
            failure_message(&invocation.program, status, lines),
        ));
    }
    let stdout = printed.text(&invocation.mask);
    let json = if printed.is_truncated() {
        Value::Null
    } else {
        serde_json::from_str(&stdout).unwrap_or(Value::Null)
    };
    Ok(StepOutput {
        value: json!({
            "exit_code": 0,
            "stdout": stdout,
            "truncated": printed.is_truncated(),
            "json": json,
        }),
        bytes: Some(printed.bytes),
        ..StepOutput::default()
    })
}

/// Names the program and how it ended; then the last line of its standard
/// error, and on lines of their own those before it.
fn failure_message(program: &str, status: ExitStatus, lines: &Lines) -> String {
    let how = match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(number)) => match Signal::try_from(number) {
            Ok(signal) => format!("signal {signal}"),
            Err(_) => format!("signal {number}"),
        },
        (None, None) => status.to_string(),
    };
    let mut message = format!("program `{program}` ended with {how}");
    let last: Vec<_> = lines.last().collect();
    if let Some((last, before)) = last.split_last() {
        message.push_str(": ");
        message.push_str(last);
        if !before.is_empty() {
            message.push_str("\nbefore that on standard error:\n");
            message.push_str(&before.join("\n"));
        }
    }
    message
}
