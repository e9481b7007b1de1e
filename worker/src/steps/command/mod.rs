//! The `command` step: runs a program in a folder of its own, with an
//! environment that holds nothing of the worker's, within limits, and with an
//! end to all that it started.

mod invocation;
mod limits;
mod output;
mod running;
mod supervised;
mod supervisor;
mod tables;
#[cfg(test)]
mod tests;

use std::{os::unix::process::ExitStatusExt, path::Path, process::ExitStatus};

use millstream_shared::flow::step::CommandStep;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

pub use supervisor::supervise_if_told;

/// The program by which commands are started: this one. Tests are another one.
#[cfg(not(test))]
use supervisor::this_program as launcher;
#[cfg(test)]
use tests::launcher;

use self::{
    invocation::Invocation,
    limits::{LimitSettings, Limits},
    output::{Lines, Printed},
    running::{Ended, Running, Said},
    tables::{Exchange, Input, Output},
};
use super::{StepContext, StepError, StepOutput};
use crate::tables::Table;

/// Where programs are found unless the worker says otherwise.
const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Added to the number of a signal where a shell tells how a program ended.
const SHELL_SIGNAL: i32 = 128;

/// Whether `command` steps run, where their programs are found, and what they
/// may use.
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

    /// What a command may use; a step can ask for less.
    #[command(flatten)]
    pub(crate) limits: LimitSettings,
}

/// Whether `command` steps may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum CommandPolicy {
    /// They run.
    Allow,
    /// They fail.
    Deny,
}

/// Runs the program of a step and hands on its table, if it makes one, and what
/// it printed: `{exit_code, stdout, truncated, json}`, see [`CommandStep`].
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
    let place = folder.path().to_owned();
    let exchange = step.tables.as_ref();
    let exchange = exchange.map(|tables| Exchange::new(tables, context, &place));
    let scope = match &exchange {
        Some(exchange) => exchange.scope(&context.scope),
        None => context.scope.clone(),
    };
    let mut invocation = Invocation::of_step(step, &scope, &commands.search_path)?;
    invocation.mask = context.mask.clone();
    let command = Command {
        launcher: &launcher().map_err(|error| invocation.not_started(&error))?,
        limits: &Limits::new(&commands.limits, &step.limits),
        cancelled: &context.cancelled,
        exchange: exchange.as_ref(),
    };
    command.execute(invocation, folder).instrument(span).await
}

/// All that a program is executed with, besides itself.
struct Command<'a> {
    /// This very program.
    launcher: &'a Path,
    limits: &'a Limits,
    cancelled: &'a CancellationToken,
    exchange: Option<&'a Exchange<'a>>,
}

impl Command<'_> {
    async fn execute(
        &self,
        mut invocation: Invocation,
        folder: TempDir,
    ) -> Result<StepOutput, StepError> {
        let (mut input, mut output, mut rows_in) = (Input::Given, Output::Value, None);
        if let Some(exchange) = self.exchange {
            invocation.tables = exchange.variables();
            input = exchange.hand_over().await?;
            output = exchange.output()?;
            rows_in = Some(exchange.rows_in());
        }
        let mut running = Running::start(self, &invocation, folder, input, output).await?;
        let (ended, mut said) = running.follow(self, &invocation).await;
        let outcome = match outcome(&invocation, self.limits, ended, &mut said) {
            Ok(table) => self.table(table).await,
            Err(error) => Err(error),
        };
        running.clear_away().await;
        let table = outcome?;
        Ok(StepOutput {
            value: value(&said.printed, &invocation),
            rows: table.as_ref().map(Table::rows),
            rows_in: rows_in.filter(|_| !invocation.tables.is_empty()),
            bytes: Some(said.printed.bytes),
            table,
        })
    }

    /// The table of the program: the one that it has printed, or left.
    async fn table(&self, printed: Option<Table>) -> Result<Option<Table>, StepError> {
        match (printed, self.exchange) {
            (None, Some(exchange)) => exchange.take_back().await,
            (printed, _) => Ok(printed),
        }
    }
}

/// What a step hands on of a program that has succeeded.
fn value(printed: &Printed, invocation: &Invocation) -> Value {
    // Before it is read as JSON, which writes numbers in its own way.
    let stdout = invocation.mask.text(&printed.text(&invocation.mask));
    let json = if printed.is_truncated() {
        Value::Null
    } else {
        serde_json::from_str(&stdout).unwrap_or(Value::Null)
    };
    json!({
        "exit_code": 0,
        "stdout": stdout,
        "truncated": printed.is_truncated(),
        "json": json,
    })
}

/// The table that the program has printed, if it was to print one, or why the
/// step fails.
fn outcome(
    invocation: &Invocation,
    limits: &Limits,
    ended: Ended,
    said: &mut Said,
) -> Result<Option<Table>, StepError> {
    let program = &invocation.program;
    let status = match ended {
        Ended::Cancelled => return Err(StepError::cancelled()),
        Ended::TookLong => return Err(limits.took_long(program)),
        Ended::PrintedMuch => return Err(limits.printed_much(program)),
        Ended::NotStarted(error) => return Err(invocation.not_started(&error)),
        Ended::Passed(what) => return Err(limits.passed(program, what)),
        Ended::Lost(error) => {
            let message = format!("program `{program}` could not be waited for: {error}");
            return Err(StepError::transient("command_start", message));
        }
        Ended::Itself(status) => status,
    };
    if is_ended_by(status, Signal::SIGXFSZ) {
        return Err(limits.wrote_much(program));
    }
    if !status.success() {
        let message = failure_message(program, status, &said.lines, limits);
        return Err(StepError::transient("exit_status", message));
    }
    said.table.take().transpose()
}

/// Whether a signal has ended a program, or one that it is the shell of.
fn is_ended_by(status: ExitStatus, signal: Signal) -> bool {
    let signal = signal as i32;
    status.signal() == Some(signal) || status.code() == Some(SHELL_SIGNAL + signal)
}

/// Names the program and how it ended; then the last line of its standard
/// error, and on lines of their own those before it.
fn failure_message(program: &str, status: ExitStatus, lines: &Lines, limits: &Limits) -> String {
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
        if let Some(limit) = limits.spoken_of(last) {
            message.push_str(&format!(" ({limit})"));
        }
        if !before.is_empty() {
            message.push_str("\nbefore that on standard error:\n");
            message.push_str(&before.join("\n"));
        }
    }
    message
}
