//! What a worker and the supervisor of a command tell one another.

use std::{io, path::PathBuf};

use serde::{Deserialize, Serialize};

/// What to run, and within which bounds.
#[derive(Debug, Serialize, Deserialize)]
pub(in super::super) struct Order {
    /// Its path, or its name on the `PATH` of `env`.
    pub(in super::super) program: String,
    pub(in super::super) args: Vec<String>,
    /// All of its environment.
    pub(in super::super) env: Vec<(String, String)>,
    /// Where it runs. The folder is removed when the worker lets go.
    pub(in super::super) folder: PathBuf,
    pub(in super::super) bounds: Bounds,
}

/// What a command may use.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(in super::super) struct Bounds {
    /// Time on processors in milliseconds, of all processes together.
    pub(in super::super) cpu_ms: u64,
    /// Bytes of memory, of all processes together.
    pub(in super::super) memory: u64,
    /// Processes at once.
    pub(in super::super) processes: u64,
    /// Open files of each process.
    pub(in super::super) open_files: u64,
    /// Bytes of each file that is written.
    pub(in super::super) file_size: u64,
}

/// What became of a command.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in super::super) enum Report {
    /// It could not be started.
    NotStarted {
        /// What the system said; none where it was not the system.
        errno: Option<i32>,
        reason: String,
    },
    /// It has ended, with all that it started.
    Ended {
        /// As the system tells how a process ended.
        status: i32,
        /// The bound that it was ended for.
        passed: Option<Passed>,
    },
}

/// A bound that the supervisor watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in super::super) enum Passed {
    CpuTime,
    Memory,
    Processes,
}

impl Report {
    /// The command could not be started because of `error`.
    pub(super) fn not_started(error: &io::Error) -> Self {
        Self::NotStarted {
            errno: error.raw_os_error(),
            reason: error.to_string(),
        }
    }
}
