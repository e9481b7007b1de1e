//! A program that runs: its streams are served until it has ended, or until it
//! is to end.

use std::{io, os::unix::process::ExitStatusExt, process::ExitStatus, time::Duration};

use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncWriteExt},
    process::ChildStdin,
    time::{sleep, timeout},
};

use super::{
    Command, Invocation,
    output::{Lines, Printed, Quota},
    supervised::{END_MAX, Pipes, Reports, Streams, Supervised},
    supervisor::{Passed, Report},
    tables::{Catch, Feed, Input, Output},
};
use crate::{
    steps::StepError,
    tables::{Table, TableError},
};

/// How long output may still come in after all processes have ended.
const DRAIN: Duration = Duration::from_secs(1);

/// A program, its supervisor and the worker's ends of its streams.
pub(super) struct Running {
    supervised: Supervised,
    reports: Reports,
    pipes: Option<Pipes>,
    feed: Option<Feed>,
    catch: Option<Catch>,
}

/// How a program came to its end.
pub(super) enum Ended {
    /// By itself, or by a signal that it got.
    Itself(ExitStatus),
    /// It never started.
    NotStarted(io::Error),
    /// It used more than it may.
    Passed(Passed),
    /// It took longer than it may.
    TookLong,
    /// It printed more than it may.
    PrintedMuch,
    /// Its step was told to give up.
    Cancelled,
    /// Nobody knows.
    Lost(io::Error),
}

/// What a program has said.
pub(super) struct Said {
    pub(super) printed: Printed,
    /// Its standard error.
    pub(super) lines: Lines,
    /// The table that it was to print.
    pub(super) table: Option<Result<Table, StepError>>,
}

impl Running {
    /// Starts the program. `folder` is removed with it.
    pub(super) async fn start(
        command: &Command<'_>,
        invocation: &Invocation,
        folder: TempDir,
        input: Input,
        output: Output,
    ) -> Result<Self, StepError> {
        let order = invocation.order(folder.path(), command.limits)?;
        let (stdin, feed) = input.into_stream(!invocation.stdin.is_empty());
        let (stdout, catch) = output.into_stream();
        let streams = Streams { stdin, stdout };
        let started = Supervised::start(command.launcher, &order, streams, folder).await;
        let (supervised, pipes, reports) = started.map_err(|error| {
            let program = &invocation.program;
            let message = format!("program `{program}` could not be watched over: {error}");
            StepError::transient("command_start", message)
        })?;
        Ok(Self {
            supervised,
            reports,
            pipes: Some(pipes),
            feed,
            catch,
        })
    }

    /// Serves the program until it has ended with all that it started.
    pub(super) async fn follow(
        &mut self,
        command: &Command<'_>,
        invocation: &Invocation,
    ) -> (Ended, Said) {
        let mask = &invocation.mask;
        let (mut printed, mut rest) = (Printed::default(), Lines::new("stdout", mask.clone()));
        let mut lines = Lines::new("stderr", mask.clone());
        let (mut fed, mut caught) = (Ok(()), None);
        let quota = Quota::new(command.limits.output.most.bytes());
        let (pipes, feed, catch) = (self.pipes.take(), self.feed.take(), self.catch.take());
        let (stdin, stdout, stderr) = match pipes {
            Some(pipes) => (pipes.stdin, pipes.stdout, pipes.stderr),
            None => (None, None, None),
        };
        let mut exchange = Box::pin(async {
            tokio::join!(
                give(stdin, &invocation.stdin),
                async { fed = feeding(feed).await },
                async { caught = catching(catch).await },
                read_printed(&mut printed, &mut rest, stdout, &quota),
                read_lines(&mut lines, stderr, &quota),
            )
        });
        let mut report = Box::pin(self.reports.next());
        let mut is_open = true;
        let mut time = Box::pin(sleep(command.limits.time.most));
        let ended = loop {
            tokio::select! {
                biased;
                () = command.cancelled.cancelled() => break Ended::Cancelled,
                report = &mut report => break Ended::of(report),
                () = quota.passed.cancelled() => break Ended::PrintedMuch,
                () = &mut time => break Ended::TookLong,
                _ = &mut exchange, if is_open => is_open = false,
            }
        };
        if matches!(
            ended,
            Ended::Cancelled | Ended::PrintedMuch | Ended::TookLong
        ) {
            self.supervised.ask_to_end();
            let all_ended = async {
                // Nothing more is known of it in any case.
                let _ = report.await;
                if is_open {
                    exchange.as_mut().await;
                    is_open = false;
                }
            };
            let _ = timeout(END_MAX, all_ended).await;
        }
        if is_open {
            let _ = timeout(DRAIN, &mut exchange).await;
        }
        drop(exchange);
        let table = match (fed, caught) {
            (Err(error), _) => Some(Err(error.into())),
            (Ok(()), caught) => caught.map(|table| table.map_err(StepError::from)),
        };
        let said = Said {
            printed,
            lines,
            table,
        };
        (ended, said)
    }

    /// Waits until all of it is gone, its folder included.
    pub(super) async fn clear_away(self) {
        self.supervised.clear_away().await;
    }
}

impl Ended {
    fn of(report: io::Result<Report>) -> Self {
        match report {
            Err(error) => Self::Lost(error),
            Ok(Report::NotStarted {
                errno: Some(errno), ..
            }) => Self::NotStarted(io::Error::from_raw_os_error(errno)),
            Ok(Report::NotStarted { reason, .. }) => Self::NotStarted(io::Error::other(reason)),
            Ok(Report::Ended {
                passed: Some(passed),
                ..
            }) => Self::Passed(passed),
            Ok(Report::Ended { status, .. }) => Self::Itself(ExitStatus::from_raw(status)),
        }
    }
}

/// Gives a program all of its standard input and closes it.
async fn give(into: Option<ChildStdin>, bytes: &[u8]) {
    if let Some(mut into) = into {
        // A program need not read what it is given.
        let _ = into.write_all(bytes).await;
    }
}

async fn feeding(feed: Option<Feed>) -> Result<(), TableError> {
    match feed {
        Some(feed) => feed.run().await,
        None => Ok(()),
    }
}

async fn catching(catch: Option<Catch>) -> Option<Result<Table, TableError>> {
    match catch {
        Some(catch) => Some(catch.run().await),
        None => None,
    }
}

async fn read_printed(
    printed: &mut Printed,
    rest: &mut Lines,
    stdout: Option<impl AsyncRead + Unpin>,
    quota: &Quota,
) {
    if let Some(stdout) = stdout {
        printed.read(stdout, rest, quota).await;
    }
}

async fn read_lines(lines: &mut Lines, stderr: Option<impl AsyncRead + Unpin>, quota: &Quota) {
    if let Some(stderr) = stderr {
        lines.read(stderr, quota).await;
    }
}
