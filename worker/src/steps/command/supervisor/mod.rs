//! Who watches over a command: a process of its own, started from this very
//! program, between the worker and the command.
//!
//! Worker and supervisor hold a pipe, the *leash*, which closes when the worker
//! lets go of the command and also when the worker dies. Whatever descends from
//! the command, a daemon that left its group and session included, is a child
//! of the supervisor in the end (on Linux), and ends with the leash.
//!
//! The command itself is started through a second process ([`launch`]), which
//! limits itself before it becomes the command.

mod group;
mod launch;
mod order;
mod processes;

use std::{
    env,
    fs::{self, File, OpenOptions, Permissions},
    io::{self, BufRead, BufReader, Write},
    os::unix::{
        fs::PermissionsExt,
        process::{CommandExt, ExitStatusExt},
    },
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode},
    sync::mpsc,
    thread,
};

use command_fds::{CommandFdExt, FdMapping};
use nix::{
    sys::signal::{SigSet, Signal},
    unistd::{dup2_stderr, dup2_stdin, dup2_stdout, setsid},
};

pub(super) use group::GRACE;
use group::Group;
pub(super) use order::{Bounds, Order, Passed, Report};

/// The argument by which a program knows that it is a supervisor.
pub(super) const SUPERVISE: &str = "supervise-command";

/// The argument by which it knows that it is to become a command.
const LAUNCH: &str = "launch-command";

/// Where a supervisor finds its end of the leash.
pub(super) const LEASH: i32 = 3;

/// Where it says what became of the command.
pub(super) const REPORT: i32 = 4;

/// This very program, also where its file was replaced meanwhile.
pub(super) fn this_program() -> io::Result<PathBuf> {
    let running = Path::new("/proc/self/exe");
    if running.exists() {
        Ok(running.to_owned())
    } else {
        env::current_exe()
    }
}

/// Does what this process was started for, where a worker started it to watch
/// over a command or to become one. Call it first, before there are threads.
pub fn supervise_if_told() -> Option<ExitCode> {
    let mut args = env::args_os().skip(1);
    let done = match args.next()?.to_str()? {
        SUPERVISE => supervise(),
        LAUNCH => launch::become_command(args),
        _ => return None,
    };
    Some(match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: a command could not be watched over: {error}");
            ExitCode::FAILURE
        }
    })
}

fn supervise() -> io::Result<()> {
    leave_the_worker()?;
    let leash = File::open(format!("/dev/fd/{LEASH}"))?;
    let mut report = OpenOptions::new()
        .write(true)
        .open(format!("/dev/fd/{REPORT}"))?;
    launch::close_inherited(&[&leash, &report])?;
    let mut leash = BufReader::new(leash);
    let mut order = String::new();
    leash.read_line(&mut order)?;
    let order: Order = serde_json::from_str(&order)?;
    match start(&order, &report) {
        Ok(program) => {
            leave_streams()?;
            watch_over(program, &order, leash, &mut report)?;
        }
        Err(error) => {
            say(&mut report, &Report::not_started(&error))?;
            leave_streams()?;
            wait_for_end(leash);
        }
    }
    remove_folder(&order.folder)
}

/// Leaves the worker's group and terminal, and what signals would end it: who
/// ends the worker must not leave a command alone.
fn leave_the_worker() -> io::Result<()> {
    let mut polite = SigSet::empty();
    for signal in [
        Signal::SIGHUP,
        Signal::SIGINT,
        Signal::SIGQUIT,
        Signal::SIGTERM,
    ] {
        polite.add(signal);
    }
    polite.thread_block()?;
    // It fails where this is so already.
    let _ = setsid();
    #[cfg(target_os = "linux")]
    nix::sys::prctl::set_child_subreaper(true)?;
    Ok(())
}

/// Starts the command, which leads a group of its own.
fn start(order: &Order, report: &File) -> io::Result<Child> {
    let mut command = Command::new(this_program()?);
    command
        .arg(LAUNCH)
        .arg(serde_json::to_string(&order.bounds)?)
        .arg(&order.program)
        .args(&order.args)
        .env_clear()
        .envs(order.env.iter().map(|(name, value)| (name, value)))
        .current_dir(&order.folder)
        .process_group(0);
    let report = FdMapping {
        parent_fd: report.try_clone()?.into(),
        child_fd: REPORT,
    };
    let mapped = command.fd_mappings(vec![report]);
    mapped.map_err(io::Error::other)?.spawn()
}

/// Lets go of the command's streams: their other ends wait until nobody has
/// them.
fn leave_streams() -> io::Result<()> {
    let nothing = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")?;
    dup2_stdin(&nothing)?;
    dup2_stdout(&nothing)?;
    dup2_stderr(&nothing)?;
    Ok(())
}

/// Waits for the command to end and for the worker to let go, in any order.
fn watch_over(
    program: Child,
    order: &Order,
    leash: BufReader<File>,
    report: &mut File,
) -> io::Result<()> {
    let group = Group::of(&program);
    let (closing, closed) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(move || {
            wait_for_end(leash);
            drop(closing);
        });
        let group = &group;
        scope.spawn(move || group.watch(&order.bounds, &closed));
        let status = group.wait(program)?;
        let ended = Report::Ended {
            status: status.into_raw(),
            passed: group.passed(),
        };
        // The worker may have gone.
        let _ = say(report, &ended);
        Ok(())
    })
}

fn say(report: &mut File, what: &Report) -> io::Result<()> {
    let mut line = serde_json::to_vec(what)?;
    line.push(b'\n');
    report.write_all(&line)
}

/// Waits until the other end of a pipe is closed.
fn wait_for_end(mut leash: BufReader<File>) {
    // A pipe that cannot be read is one that has nothing more to say.
    let _ = io::copy(&mut leash, &mut io::sink());
}

/// Removes a command's folder, also where it has taken rights from itself.
fn remove_folder(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            make_removable(folder)?;
            fs::remove_dir_all(folder)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

fn make_removable(folder: &Path) -> io::Result<()> {
    fs::set_permissions(folder, Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        // A symbolic link is no folder here.
        if entry.file_type()?.is_dir() {
            make_removable(&entry.path())?;
        }
    }
    Ok(())
}
