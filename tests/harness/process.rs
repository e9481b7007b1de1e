//! One of the built programs, as a process.

use std::{
    fs::{self, File},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use crate::{SOON, eventually};

/// How much of a log is shown when a test fails.
const SHOWN_LINES: usize = 200;

/// A running program. It is killed when this is dropped, and its log is shown
/// if that is because a test failed.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts one of the built programs with these settings and no others. Its
    /// log is a file in `folder`.
    ///
    /// # Panics
    /// Panics where the program has not been built.
    pub fn start(
        program: &str,
        name: &str,
        folder: &Path,
        arguments: &[&str],
        settings: &[(&str, String)],
    ) -> Self {
        Self::launch(&[], program, name, folder, arguments, settings)
    }

    /// The same by another program, which turns into the one that is meant.
    ///
    /// # Panics
    /// Panics where the program has not been built.
    pub fn launch(
        launcher: &[&str],
        program: &str,
        name: &str,
        folder: &Path,
        arguments: &[&str],
        settings: &[(&str, String)],
    ) -> Self {
        let path = built_program(program);
        let log = folder.join(format!("{name}.log"));
        let mut words = launcher.iter().map(Path::new).chain([&*path]);
        let mut command = Command::new(words.next().expect("the program is one"));
        command.args(words);
        for (variable, _) in std::env::vars_os() {
            if variable.to_string_lossy().starts_with("MILLSTREAM_") {
                command.env_remove(variable);
            }
        }
        let child = command
            .args(arguments)
            .envs(settings.iter().map(|(name, value)| (*name, value)))
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap_or_else(|error| panic!("{} cannot be started: {error}", path.display()));
        Self {
            name: name.to_owned(),
            child,
            log,
        }
    }

    /// Its number.
    pub fn id(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.id()), signal).unwrap();
    }

    /// Kills it as `kill -9` does, and waits until it has gone.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Stops it where it is; it notices nothing.
    pub fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Lets it go on after [`Process::freeze`].
    pub fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits until it has ended by itself.
    pub async fn ended(&mut self) -> ExitStatus {
        let what = format!("the end of {}", self.name);
        let child = std::cell::RefCell::new(&mut self.child);
        eventually(SOON, &what, || async {
            child.borrow_mut().try_wait().unwrap()
        })
        .await
    }

    /// Everything that it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// The whole lines of its log, which are JSON.
    pub fn log_lines(&self) -> Vec<Value> {
        let log = self.log();
        let whole = log.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let lines = whole.lines().map(serde_json::from_str);
        lines.filter_map(Result::ok).collect()
    }

    /// Waits until it has logged that it listens, and says where: on its
    /// operations port, or on the other one.
    pub(crate) async fn address(&mut self, of_operations: bool) -> SocketAddr {
        let what = format!("the address of {}", self.name);
        let process = std::cell::RefCell::new(self);
        eventually(SOON, &what, || async {
            let mut process = process.borrow_mut();
            let found = process.logged_address(of_operations);
            let alive = found.is_some() || process.is_running();
            assert!(alive, "{} ended at its start", process.name);
            found
        })
        .await
    }

    fn logged_address(&self, of_operations: bool) -> Option<SocketAddr> {
        self.log_lines().iter().find_map(|line| {
            let address = line.get("address")?.as_str()?.parse().ok()?;
            let about_operations = line["target"].as_str()?.contains("process::ops");
            (about_operations == of_operations).then_some(address)
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended, and then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            let lines: Vec<_> = log.lines().collect();
            let shown = &lines[lines.len().saturating_sub(SHOWN_LINES)..];
            eprintln!("---- log of {}\n{}", self.name, shown.join("\n"));
        }
    }
}

/// Where cargo puts the programs: the folder above the one of the tests.
///
/// # Panics
/// Panics where the program has not been built.
pub fn built_program(program: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let folder = test.parent().and_then(Path::parent).unwrap();
    let path = folder.join(program);
    assert!(
        path.exists(),
        "{} has not been built: run `./dev test`, or `cargo build --workspace` first",
        path.display()
    );
    path
}
