//! The processes below this one, and what they use, as Linux tells it. Other
//! systems tell nothing of it: there is a group, and bounds for each process.

use std::{fs, process};

use nix::{
    sys::{
        resource::{UsageWho, getrusage},
        time::TimeValLike,
    },
    unistd::Pid,
};

use super::{Bounds, Passed};

/// How many milliseconds a tick is in which the system tells times.
const TICK_MS: u64 = 10;

/// What processes use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Used {
    processes: u64,
    memory: u64,
    cpu_ms: u64,
}

impl Used {
    /// The bound that this is beyond.
    pub(super) fn passed(&self, bounds: &Bounds) -> Option<Passed> {
        if self.processes > bounds.processes {
            Some(Passed::Processes)
        } else if self.memory > bounds.memory {
            Some(Passed::Memory)
        } else if self.cpu_ms > bounds.cpu_ms {
            Some(Passed::CpuTime)
        } else {
            None
        }
    }
}

/// All processes below this one.
pub(super) fn all() -> Vec<Pid> {
    let mut found = children();
    let mut next = 0;
    while let Some(process) = found.get(next) {
        next += 1;
        found.extend(children_of(process.as_raw().unsigned_abs()));
    }
    found
}

/// The processes right below this one.
pub(super) fn children() -> Vec<Pid> {
    children_of(process::id())
}

/// What the processes below this one use and have used.
pub(super) fn used() -> Used {
    let mut used = Used {
        cpu_ms: cpu_ms_of_ended(),
        ..Used::default()
    };
    for process in all() {
        used.processes += 1;
        let read = |file| fs::read_to_string(format!("/proc/{process}/{file}"));
        // One that has gone uses nothing, and its parent has its times.
        used.memory += read("status").map_or(0, |status| own_memory(&status));
        used.cpu_ms += read("stat").map_or(0, |stat| cpu_ms(&stat));
    }
    used
}

fn children_of(process: u32) -> Vec<Pid> {
    let Ok(threads) = fs::read_dir(format!("/proc/{process}/task")) else {
        return Vec::new();
    };
    let listed = threads.flatten().filter_map(|thread| {
        let children = thread.path().join("children");
        fs::read_to_string(children).ok()
    });
    let numbers = |text: String| -> Vec<i32> {
        let words = text.split_whitespace();
        words.filter_map(|word| word.parse().ok()).collect()
    };
    listed.flat_map(numbers).map(Pid::from_raw).collect()
}

fn cpu_ms_of_ended() -> u64 {
    getrusage(UsageWho::RUSAGE_CHILDREN).map_or(0, |usage| {
        let used = usage.user_time() + usage.system_time();
        u64::try_from(used.num_milliseconds()).unwrap_or(0)
    })
}

/// The bytes of memory that a process has to itself or shares with those below
/// it: not those of files, which the system can take back.
fn own_memory(status: &str) -> u64 {
    let lines = status.lines().filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        let counts = ["RssAnon", "RssShmem"].contains(&name);
        let kibibytes = value.trim().strip_suffix(" kB")?;
        counts.then(|| kibibytes.parse::<u64>().ok())?
    });
    lines.sum::<u64>() * 1024
}

/// How long a process and those that it waited for were on a processor.
fn cpu_ms(stat: &str) -> u64 {
    // The name of the program stands in brackets, and may hold anything.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let times = fields.split_whitespace().skip(11).take(4);
    let ticks: u64 = times.filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    ticks * TICK_MS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_tells_is_understood() {
        let stat = "7 (a ) 1 2) S 1 7 7 0 -1 4194304 100 0 0 0 150 50 7 3 20 0 1 0 99 1 2";
        assert_eq!(cpu_ms(stat), 2100);
        assert_eq!(cpu_ms(""), 0);
        let status =
            "Name:\tx\nVmRSS:\t  900 kB\nRssAnon:\t  100 kB\nRssFile:\t 796 kB\nRssShmem:\t 4 kB\n";
        assert_eq!(own_memory(status), 104 * 1024);
    }

    #[test]
    fn the_first_bound_that_is_passed_is_named() {
        let bounds = Bounds {
            cpu_ms: 1000,
            memory: 1000,
            processes: 2,
            open_files: 16,
            file_size: 1,
        };
        let used = |processes, memory, cpu_ms| Used {
            processes,
            memory,
            cpu_ms,
        };
        assert_eq!(used(2, 1000, 1000).passed(&bounds), None);
        assert_eq!(used(3, 1001, 0).passed(&bounds), Some(Passed::Processes));
        assert_eq!(used(1, 1001, 1001).passed(&bounds), Some(Passed::Memory));
        assert_eq!(used(1, 0, 1001).passed(&bounds), Some(Passed::CpuTime));
    }
}
