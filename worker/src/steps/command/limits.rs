//! What commands may use: as much as the operator allows, or as little as a
//! step asks for.

use std::{fmt, time::Duration};

use millstream_shared::{byte_size::ByteSize, duration::Span, flow::step::CommandLimits};

use super::{
    StepError,
    supervisor::{Bounds, Passed},
};

/// What commands may use on this worker.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct LimitSettings {
    /// How long a command may take.
    #[arg(
        id = "command-time",
        long = "command-time",
        env = "MILLSTREAM_COMMAND_TIME",
        default_value = "1d",
        value_parser = Span::setting
    )]
    time: Duration,

    /// How much time on processors a command may take, with all that it
    /// starts.
    #[arg(
        id = "command-cpu-time",
        long = "command-cpu-time",
        env = "MILLSTREAM_COMMAND_CPU_TIME",
        default_value = "1d",
        value_parser = Span::setting
    )]
    cpu_time: Duration,

    /// How much memory a command may take, with all that it starts.
    #[arg(
        id = "command-memory",
        long = "command-memory",
        env = "MILLSTREAM_COMMAND_MEMORY",
        default_value = "4GiB"
    )]
    memory: ByteSize,

    /// How much a command may print.
    #[arg(
        id = "command-output",
        long = "command-output",
        env = "MILLSTREAM_COMMAND_OUTPUT",
        default_value = "256MiB"
    )]
    output: ByteSize,

    /// How many processes a command may be at once.
    #[arg(
        id = "command-processes",
        long = "command-processes",
        env = "MILLSTREAM_COMMAND_PROCESSES",
        default_value_t = 512,
        value_parser = clap::value_parser!(u64).range(1..)
    )]
    processes: u64,

    /// How many files each process of a command may have open.
    #[arg(
        id = "command-open-files",
        long = "command-open-files",
        env = "MILLSTREAM_COMMAND_OPEN_FILES",
        default_value_t = 1024,
        value_parser = clap::value_parser!(u64).range(16..)
    )]
    open_files: u64,

    /// How large a file may become that a command writes.
    #[arg(
        id = "command-file-size",
        long = "command-file-size",
        env = "MILLSTREAM_COMMAND_FILE_SIZE",
        default_value = "16GiB"
    )]
    file_size: ByteSize,
}

/// How much a command may use of something, and who says so.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limit<T> {
    pub(super) most: T,
    said_by: SaidBy,
}

#[derive(Clone, Copy, Debug)]
enum SaidBy {
    /// A setting of the worker.
    Worker(&'static str),
    /// A member of the step's `limits`.
    Step(&'static str),
}

impl fmt::Display for SaidBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Worker(setting) => write!(f, "--command-{setting} allows"),
            Self::Step(member) => write!(f, "`limits: {{ {member} }}` of the step allows"),
        }
    }
}

impl<T: PartialOrd> Limit<T> {
    fn of(setting: (&'static str, T), member: (&'static str, Option<T>)) -> Self {
        match member {
            (name, Some(most)) if most < setting.1 => Self {
                most,
                said_by: SaidBy::Step(name),
            },
            _ => Self {
                most: setting.1,
                said_by: SaidBy::Worker(setting.0),
            },
        }
    }
}

/// What one command may use.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) time: Limit<Duration>,
    cpu_time: Limit<Duration>,
    memory: Limit<ByteSize>,
    pub(super) output: Limit<ByteSize>,
    processes: Limit<u64>,
    open_files: Limit<u64>,
    file_size: Limit<ByteSize>,
}

impl Limits {
    /// What the worker allows, or less where the step asks for less.
    pub(super) fn new(worker: &LimitSettings, step: &CommandLimits) -> Self {
        let cpu_time = step.cpu_time.map(Span::duration);
        Self {
            // For less time each step has its `timeout`.
            time: Limit::of(("time", worker.time), ("", None)),
            cpu_time: Limit::of(("cpu-time", worker.cpu_time), ("cpu_time", cpu_time)),
            memory: Limit::of(("memory", worker.memory), ("memory", step.memory)),
            output: Limit::of(("output", worker.output), ("output", step.output)),
            processes: Limit::of(
                ("processes", worker.processes),
                ("processes", step.processes),
            ),
            open_files: Limit::of(
                ("open-files", worker.open_files),
                ("open_files", step.open_files),
            ),
            file_size: Limit::of(
                ("file-size", worker.file_size),
                ("file_size", step.file_size),
            ),
        }
    }

    /// Those that the system or the supervisor keeps.
    pub(super) fn bounds(&self) -> Bounds {
        Bounds {
            cpu_ms: u64::try_from(self.cpu_time.most.as_millis()).unwrap_or(u64::MAX),
            memory: self.memory.most.bytes(),
            processes: self.processes.most,
            open_files: self.open_files.most,
            file_size: self.file_size.most.bytes(),
        }
    }

    /// Why `program` was ended that took too long.
    pub(super) fn took_long(&self, program: &str) -> StepError {
        let Limit { most, said_by } = self.time;
        let most = humantime::format_duration(most);
        passed(
            program,
            format_args!("took longer than the {most} that {said_by}"),
        )
    }

    /// Why `program` was ended that printed too much.
    pub(super) fn printed_much(&self, program: &str) -> StepError {
        let Limit { most, said_by } = self.output;
        passed(
            program,
            format_args!("printed more than the {most} that {said_by}"),
        )
    }

    /// Why the supervisor ended `program`.
    pub(super) fn passed(&self, program: &str, what: Passed) -> StepError {
        match what {
            Passed::CpuTime => {
                let Limit { most, said_by } = self.cpu_time;
                let most = humantime::format_duration(most);
                let how = format_args!("took more than the {most} on processors that {said_by}");
                passed(program, how)
            }
            Passed::Memory => {
                let Limit { most, said_by } = self.memory;
                let how = format_args!("took more than the {most} of memory that {said_by}");
                passed(program, how)
            }
            Passed::Processes => {
                let Limit { most, said_by } = self.processes;
                let how = format_args!("was more than the {most} processes that {said_by}");
                passed(program, how)
            }
        }
    }

    /// Why `program` was ended that wrote too much into a file.
    pub(super) fn wrote_much(&self, program: &str) -> StepError {
        let Limit { most, said_by } = self.file_size;
        passed(
            program,
            format_args!("wrote more into a file than the {most} that {said_by}"),
        )
    }

    /// Which limit a program speaks of that ended with these words: some limits
    /// only make what it does fail, and it says how it likes.
    pub(super) fn spoken_of(&self, words: &str) -> Option<String> {
        let words = words.to_ascii_lowercase();
        let any = |signs: &[&str]| signs.iter().any(|sign| words.contains(sign));
        if any(&["too many open files", "emfile"]) {
            let Limit { most, said_by } = self.open_files;
            Some(format!("it may have {most} files open, as {said_by}"))
        } else if any(&["file too large", "efbig", "file size limit exceeded"]) {
            let Limit { most, said_by } = self.file_size;
            Some(format!("a file may have {most}, as {said_by}"))
        } else if any(&[
            "cannot allocate memory",
            "out of memory",
            "memoryerror",
            "enomem",
        ]) {
            let Limit { most, said_by } = self.memory;
            Some(format!("it may take {most} of memory, as {said_by}"))
        } else {
            None
        }
    }
}

fn passed(program: &str, how: fmt::Arguments<'_>) -> StepError {
    let message = format!("program `{program}` {how}, with all that it started");
    StepError::permanent("command_limit", message)
}

#[cfg(test)]
pub(super) mod tests {
    use clap::Parser;
    use serde_json::{Value, json};

    use super::*;

    #[derive(clap::Parser)]
    struct Settings {
        #[command(flatten)]
        limits: LimitSettings,
    }

    /// The limits of a step on a worker that was started with `args`.
    pub(in super::super) fn limits(args: &[&str], step: Value) -> Limits {
        let args = [&["worker"], args].concat();
        let settings = Settings::try_parse_from(args).unwrap_or_else(|error| panic!("{error}"));
        Limits::new(&settings.limits, &serde_json::from_value(step).unwrap())
    }

    #[test]
    fn a_step_can_ask_for_less_than_the_worker_allows_and_not_for_more() {
        let args = ["--command-memory=1GiB", "--command-processes=7"];
        let limits = limits(
            &args,
            json!({ "memory": "1MiB", "processes": 9, "cpu_time": "1s" }),
        );
        let bounds = limits.bounds();
        assert_eq!(
            (bounds.memory, bounds.processes, bounds.cpu_ms),
            (1 << 20, 7, 1000)
        );
        for (what, expected) in [
            (
                Passed::Memory,
                "the 1 MiB of memory that `limits: { memory }` of the step allows",
            ),
            (
                Passed::Processes,
                "the 7 processes that --command-processes allows",
            ),
            (
                Passed::CpuTime,
                "the 1s on processors that `limits: { cpu_time }`",
            ),
        ] {
            let error = limits.passed("x", what);
            assert_eq!((error.code, error.retriable), ("command_limit", false));
            assert!(error.message.contains(expected), "{error}");
        }
    }

    #[test]
    fn what_a_program_says_of_a_limit_is_explained() {
        let limits = limits(&[], json!({ "open_files": 20 }));
        for (words, expected) in [
            (
                "x: Too many open files",
                "may have 20 files open, as `limits: { open_files }`",
            ),
            (
                "OSError: [Errno 27] File too large",
                "a file may have 16 GiB, as --command-file-size",
            ),
            (
                "MemoryError",
                "may take 4 GiB of memory, as --command-memory",
            ),
        ] {
            let told = limits.spoken_of(words).unwrap();
            assert!(told.contains(expected), "{told}");
        }
        assert_eq!(limits.spoken_of("nothing of that kind"), None);
    }
}
