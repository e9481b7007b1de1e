//! A command and all that it started.

use std::{
    io,
    process::{Child, ExitStatus},
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::{
        signal::{Signal, kill, killpg},
        wait::{WaitPidFlag, waitpid},
    },
    unistd::{Pid, getpgid},
};

use super::{Bounds, Passed, processes};

/// How long processes that were asked to end may take.
pub(in super::super) const GRACE: Duration = Duration::from_secs(2);

/// How often it is looked at what they use.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How long processes may take that were killed: one that waits for a device
/// cannot be waited for.
const KILLED_MAX: Duration = Duration::from_secs(5);

/// The processes of a command: its group, and on Linux whatever left it.
pub(super) struct Group {
    program: Pid,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// The program itself has ended, and its number may come to mean another
    /// process.
    has_ended: bool,
    passed: Option<Passed>,
}

impl Group {
    pub(super) fn of(program: &Child) -> Self {
        Self {
            program: Pid::from_raw(program.id() as i32),
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// The bound that its processes were ended for.
    pub(super) fn passed(&self) -> Option<Passed> {
        self.state().passed
    }

    /// Waits until the program has ended, and ends what it left behind.
    pub(super) fn wait(&self, mut program: Child) -> io::Result<ExitStatus> {
        let status = loop {
            wait_for_a_child();
            let mut state = self.state();
            if let Some(status) = program.try_wait()? {
                state.has_ended = true;
                // Its number has only just become free.
                let _ = killpg(self.program, Signal::SIGKILL);
                break status;
            }
            drop(state);
            if !self.reap_orphans() {
                thread::sleep(Duration::from_millis(5));
            }
        };
        self.changed.notify_all();
        end_children();
        Ok(status)
    }

    /// Looks again and again at what the processes use, until `closed` or until
    /// the program has ended. When it is closed the processes are asked to end,
    /// and after the grace ended.
    pub(super) fn watch(&self, bounds: &Bounds, closed: &Receiver<()>) {
        while let Err(RecvTimeoutError::Timeout) = closed.recv_timeout(LOOK_EVERY) {
            if self.state().has_ended {
                return;
            }
            if let Some(passed) = processes::used().passed(bounds) {
                self.state().passed.get_or_insert(passed);
                self.signal(Signal::SIGKILL);
            }
        }
        self.signal(Signal::SIGTERM);
        let running = |state: &mut State| !state.has_ended;
        let waited = self
            .changed
            .wait_timeout_while(self.state(), GRACE, running);
        drop(waited);
        self.signal(Signal::SIGKILL);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a signal to all processes, once to each.
    fn signal(&self, signal: Signal) {
        let state = self.state();
        if state.has_ended {
            return;
        }
        // Those that have gone need none.
        let _ = killpg(self.program, signal);
        for process in processes::all() {
            if getpgid(Some(process)) != Ok(self.program) {
                let _ = kill(process, signal);
            }
        }
    }

    /// Takes note of processes that ended after who had started them. Says
    /// whether there were some.
    fn reap_orphans(&self) -> bool {
        let orphans = processes::children();
        let orphans = orphans.into_iter().filter(|child| *child != self.program);
        let mut reaped = false;
        for orphan in orphans {
            let gone = waitpid(orphan, Some(WaitPidFlag::WNOHANG));
            reaped |= gone.is_ok_and(|status| status.pid().is_some());
        }
        reaped
    }
}

/// Waits until some child has ended, the program or another one.
fn wait_for_a_child() {
    #[cfg(target_os = "linux")]
    {
        use nix::sys::wait::{Id, waitid};
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
        while waitid(Id::All, flags) == Err(Errno::EINTR) {}
    }
    #[cfg(not(target_os = "linux"))]
    thread::sleep(Duration::from_millis(20));
}

/// Ends all children, and theirs, which become children by that.
fn end_children() {
    let deadline = Instant::now() + KILLED_MAX;
    while Instant::now() < deadline {
        for process in processes::all() {
            let _ = kill(process, Signal::SIGKILL);
        }
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Err(Errno::ECHILD) => return,
            Ok(status) if status.pid().is_some() => {}
            _ => thread::sleep(Duration::from_millis(1)),
        }
    }
}
