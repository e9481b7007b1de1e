//! A process that limits itself and then becomes a command.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io,
    os::{fd::AsRawFd, unix::process::CommandExt},
    process::Command,
};

use nix::{
    sys::{
        resource::{Resource, getrlimit, setrlimit},
        signal::SigSet,
    },
    unistd::close,
};

use super::{Bounds, REPORT, Report, say};

/// Becomes the command that `args` name: its bounds as JSON, the program, and
/// its arguments. It returns only where that fails.
pub(super) fn become_command(mut args: impl Iterator<Item = OsString>) -> io::Result<()> {
    let mut report = OpenOptions::new()
        .write(true)
        .open(format!("/dev/fd/{REPORT}"))?;
    let error = match prepared(&mut args, &report) {
        Ok(mut command) => command.exec(),
        Err(error) => error,
    };
    say(&mut report, &Report::not_started(&error))
}

fn prepared(args: &mut impl Iterator<Item = OsString>, report: &File) -> io::Result<Command> {
    let (Some(bounds), Some(program)) = (args.next(), args.next()) else {
        return Err(io::Error::other("there is no command"));
    };
    let bounds = bounds
        .into_string()
        .map_err(|_| io::Error::other("the bounds are no text"))?;
    let bounds: Bounds = serde_json::from_str(&bounds)?;
    close_inherited(&[report])?;
    // What the supervisor is deaf to ends the command.
    SigSet::empty().thread_set_mask()?;
    #[cfg(target_os = "linux")]
    {
        use nix::sys::{prctl, signal::Signal};
        // No program gets more rights than the worker has, and none is left
        // without its supervisor.
        prctl::set_no_new_privs()?;
        prctl::set_pdeathsig(Signal::SIGKILL)?;
    }
    let mut command = Command::new(program);
    command.args(args);
    limit(&bounds)?;
    Ok(command)
}

/// Takes on the bounds that the system keeps for each process. Two of them are
/// for all processes together, which the supervisor watches; here they stop
/// one that is faster than it looks.
fn limit(bounds: &Bounds) -> io::Result<()> {
    let cpu_s = bounds.cpu_ms.div_ceil(1000).saturating_add(1);
    for (resource, most) in [
        (Resource::RLIMIT_CORE, 0),
        (Resource::RLIMIT_CPU, cpu_s),
        (Resource::RLIMIT_FSIZE, bounds.file_size),
        (Resource::RLIMIT_NOFILE, bounds.open_files),
        (Resource::RLIMIT_DATA, bounds.memory.saturating_mul(2)),
    ] {
        let (_, allowed) = getrlimit(resource)?;
        let most = most.min(allowed);
        setrlimit(resource, most, most)?;
    }
    Ok(())
}

/// Closes what a process has open besides its streams and the files `kept`:
/// whoever started the worker may have left something open for it.
pub(super) fn close_inherited(kept: &[&File]) -> io::Result<()> {
    let kept: Vec<i32> = kept.iter().map(|file| file.as_raw_fd()).collect();
    let mut open = Vec::new();
    for entry in fs::read_dir("/dev/fd")? {
        let name = entry?.file_name();
        open.extend(name.to_str().and_then(|name| name.parse::<i32>().ok()));
    }
    for descriptor in open {
        if descriptor > 2 && !kept.contains(&descriptor) {
            // The one for the list itself has been closed already.
            let _ = close(descriptor);
        }
    }
    Ok(())
}
