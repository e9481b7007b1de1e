//! A command as its worker sees it: a supervisor that reports what became of
//! it, and a leash that ends it.

use std::{io, path::Path, process::Stdio, time::Duration};

use command_fds::{CommandFdExt, FdMapping};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::unix::pipe,
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command},
    time::timeout,
};

use super::supervisor::{GRACE, LEASH, Order, REPORT, Report, SUPERVISE};

/// How long a supervisor may take to be there.
const START_MAX: Duration = Duration::from_secs(30);

/// How long it may take to end processes that were asked to, and itself.
pub(super) const END_MAX: Duration = Duration::from_secs(10).saturating_add(GRACE);

/// A running command with all that it started, and the folder it works in.
#[derive(Debug)]
pub(super) struct Supervised {
    supervisor: Child,
    /// Held until the command is to end.
    leash: Option<pipe::Sender>,
    folder: Option<TempDir>,
}

/// Where the streams of a command lead.
pub(super) struct Streams {
    pub(super) stdin: Stdio,
    pub(super) stdout: Stdio,
}

/// The worker's ends of a command's streams, where they are pipes of its own.
pub(super) struct Pipes {
    pub(super) stdin: Option<ChildStdin>,
    pub(super) stdout: Option<ChildStdout>,
    pub(super) stderr: Option<ChildStderr>,
}

/// What the supervisor will say.
pub(super) struct Reports(BufReader<pipe::Receiver>);

impl Reports {
    /// Waits for what became of the command.
    pub(super) async fn next(&mut self) -> io::Result<Report> {
        let mut line = String::new();
        if self.0.read_line(&mut line).await? == 0 {
            return Err(io::Error::other("its supervisor has ended before it"));
        }
        Ok(serde_json::from_str(&line)?)
    }
}

impl Supervised {
    /// Has `program`, which is this program again, start what `order` says.
    /// `folder` is removed when the command is let go.
    pub(super) async fn start(
        program: &Path,
        order: &Order,
        streams: Streams,
        folder: TempDir,
    ) -> io::Result<(Self, Pipes, Reports)> {
        let (mut leash, leash_end) = pipe::pipe()?;
        let (report_end, report) = pipe::pipe()?;
        let mut command = std::process::Command::new(program);
        let ends = vec![
            FdMapping {
                parent_fd: leash_end.into_blocking_fd()?,
                child_fd: LEASH,
            },
            FdMapping {
                parent_fd: report_end.into_blocking_fd()?,
                child_fd: REPORT,
            },
        ];
        command.fd_mappings(ends).map_err(io::Error::other)?;
        let mut command = Command::from(command);
        let spawned = command
            .arg(SUPERVISE)
            .env_clear()
            .current_dir("/")
            .stdin(streams.stdin)
            .stdout(streams.stdout)
            .stderr(Stdio::piped())
            .spawn();
        // It holds the other ends of the pipes.
        drop(command);
        let mut supervisor = spawned?;
        let pipes = Pipes {
            stdin: supervisor.stdin.take(),
            stdout: supervisor.stdout.take(),
            stderr: supervisor.stderr.take(),
        };
        let mut line = serde_json::to_vec(order)?;
        line.push(b'\n');
        let late = |_| io::Error::other("its supervisor did not start");
        let ordered = timeout(START_MAX, leash.write_all(&line)).await;
        ordered.map_err(late)??;
        let supervised = Self {
            supervisor,
            leash: Some(leash),
            folder: Some(folder),
        };
        Ok((supervised, pipes, Reports(BufReader::new(report))))
    }

    /// Asks all processes to end. Those that have not after the grace are
    /// killed.
    pub(super) fn ask_to_end(&mut self) {
        self.leash = None;
    }

    /// Waits until all processes have ended and their folder is gone.
    pub(super) async fn clear_away(mut self) {
        self.ask_to_end();
        if timeout(END_MAX, self.supervisor.wait()).await.is_err() {
            tracing::warn!("a command could not be ended");
        }
        // The supervisor has removed it, unless somebody ended that.
        if let Some(folder) = self.folder.take()
            && folder.path().exists()
        {
            let removed = tokio::task::spawn_blocking(move || folder.close()).await;
            if let Ok(Err(error)) = removed {
                tracing::warn!(%error, "the folder of a command could not be removed");
            }
        }
    }
}

impl Drop for Supervised {
    /// Here the step was given up in the middle: its leash closes, and the
    /// supervisor sees to the rest, the folder included.
    fn drop(&mut self) {
        if let Some(folder) = self.folder.take() {
            let _removed_by_the_supervisor = folder.keep();
        }
    }
}
