//! A program and everything that it starts, as one group of processes that
//! ends together.
//!
//! The group is led by a *keeper*: a small shell that waits for the pipe to
//! the worker to close. It closes when the group is dropped and also when the
//! worker is killed, so a command never outlives its worker. As long as the
//! keeper has not been reaped, the number of the group cannot come to mean
//! other processes, so that a signal never meets a stranger.
//!
//! A program that starts a session of its own (`setsid`) leaves the group and
//! is not followed.

use std::{path::Path, process::Stdio, time::Duration};

use nix::{
    errno::Errno,
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

/// How long processes that were asked to end may take.
pub(super) const GRACE: Duration = Duration::from_secs(2);

/// Ends its group when the pipe to the worker closes: politely, and after the
/// grace by force, itself included. The folder in `$1` goes in between, since
/// nobody may be left who could remove it. It says when it has become deaf to
/// the polite signals, since the ones for the group meet it too.
const KEEPER: &str = "\
trap '' HUP INT QUIT TERM
echo
read -r line
kill -TERM 0
sleep 2
rm -rf -- \"$1\"
kill -KILL 0";

/// A running program with all that it started, and the folder it works in.
#[derive(Debug)]
pub(super) struct Group {
    id: Pid,
    keeper: Child,
    /// Held, never written to.
    _leash: ChildStdin,
    pub(super) program: Child,
    folder: Option<TempDir>,
}

impl Group {
    /// Starts a program in a new group. `folder` is removed with the group.
    pub(super) async fn start(mut program: Command, folder: TempDir) -> std::io::Result<Self> {
        let (keeper, leash, id) = start_keeper(folder.path()).await?;
        let started = program.process_group(id.as_raw()).spawn();
        match started {
            Ok(program) => Ok(Self {
                id,
                keeper,
                _leash: leash,
                program,
                folder: Some(folder),
            }),
            Err(error) => {
                kill(id, Signal::SIGKILL);
                Err(error)
            }
        }
    }

    /// Asks all processes of the group to end.
    pub(super) fn ask_to_end(&self) {
        kill(self.id, Signal::SIGTERM);
    }

    /// Ends at once what is left of the group.
    pub(super) fn kill(&self) {
        kill(self.id, Signal::SIGKILL);
    }

    /// Frees what a group that was killed still holds.
    pub(super) async fn clear_away(mut self) {
        // Neither can fail for a child of ours that has not been waited for;
        // what is left over else is reaped by the runtime.
        let _ = self.program.wait().await;
        let _ = self.keeper.wait().await;
        if let Some(folder) = self.folder.take() {
            let removed = tokio::task::spawn_blocking(move || folder.close()).await;
            if let Ok(Err(error)) = removed {
                tracing::warn!(%error, "the folder of a command could not be removed");
            }
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Here the step was given up in the middle: its group is asked to end,
        // and the keeper, whose pipe closes, sees to the rest. `clear_away`
        // has taken the folder, so a group that has ended is left alone.
        if let Some(folder) = self.folder.take() {
            self.ask_to_end();
            let _removed_by_the_keeper = folder.keep();
        }
    }
}

async fn start_keeper(folder: &Path) -> std::io::Result<(Child, ChildStdin, Pid)> {
    let mut keeper = Command::new("/bin/sh")
        .arg("-c")
        .arg(KEEPER)
        .arg("keeper")
        .arg(folder)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()?;
    let (Some(leash), Some(said), Some(id)) =
        (keeper.stdin.take(), keeper.stdout.take(), keeper.id())
    else {
        return Err(std::io::Error::other(
            "the keeper of a command has no pipes",
        ));
    };
    ready(said).await?;
    let id = i32::try_from(id).map_err(std::io::Error::other)?;
    Ok((keeper, leash, Pid::from_raw(id)))
}

async fn ready(mut said: ChildStdout) -> std::io::Result<()> {
    let mut line = [0; 1];
    let late = || std::io::Error::other("the keeper of a command did not start");
    timeout(Duration::from_secs(10), said.read_exact(&mut line))
        .await
        .map_err(|_| late())??;
    Ok(())
}

fn kill(group: Pid, signal: Signal) {
    match killpg(group, signal) {
        // A group that has gone is what was wanted. macOS says `EPERM` where
        // only processes are left that have ended.
        Ok(()) | Err(Errno::ESRCH | Errno::EPERM) => {}
        Err(error) => tracing::warn!(%error, %group, "a command could not be signalled"),
    }
}

/// Gives a program all of its standard input and closes it.
pub(super) async fn feed(into: Option<ChildStdin>, bytes: &[u8]) {
    if let Some(mut into) = into {
        // A program need not read what it is given.
        let _ = into.write_all(bytes).await;
    }
}
