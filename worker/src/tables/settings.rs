//! The settings of tables: memory, room on disk, folders.

use std::{fs, path::PathBuf};

use millstream_shared::byte_size::ByteSize;

/// How much memory and disk tables may take, and which folders steps may touch.
#[derive(Clone, Debug, clap::Args)]
pub struct TableSettings {
    /// Local folders that `read` and `write` steps may touch, separated by
    /// colons. Relative paths in flows start at the first. None: such steps
    /// fail.
    #[arg(long = "files", env = "MILLSTREAM_FILES", value_delimiter = ':')]
    pub files: Vec<PathBuf>,

    /// Memory in which the steps of all runs keep tables, sort, group and join.
    /// What does not fit goes to the work folder. Half of what this machine, or
    /// the container, has, unless given.
    #[arg(long, env = "MILLSTREAM_MEMORY")]
    pub memory: Option<ByteSize>,

    /// How much room that may take in the work folder. A file from elsewhere that
    /// has to be there as a whole may take as much.
    #[arg(
        long = "spill-size",
        env = "MILLSTREAM_SPILL_SIZE",
        default_value = "50GiB"
    )]
    pub spill_size: ByteSize,
}

impl TableSettings {
    /// The memory for tables, as it is given or as it follows from what there is.
    pub(super) fn memory(&self) -> ByteSize {
        let text = |path| fs::read_to_string(path).unwrap_or_default();
        self.memory.unwrap_or_else(|| {
            let (machine, group) = (text("/proc/meminfo"), text("/sys/fs/cgroup/memory.max"));
            ByteSize::of(memory_of(&machine, &group))
        })
    }
}

/// Half of the memory that there is, by what Linux says of the machine and of
/// the control group; 1 GiB where it says nothing.
fn memory_of(machine: &str, group: &str) -> u64 {
    let total = machine.lines().find_map(|line| {
        let kibibytes = line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?;
        Some(kibibytes.parse::<u64>().ok()? << 10)
    });
    let limit = group.trim().parse().ok();
    let least = total.into_iter().chain(limit).min();
    least.map_or(1 << 30, |bytes| bytes / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_half_of_what_there_is() {
        let machine = "MemTotal:       16000 kB\nMemFree:  1 kB\n";
        for (machine, group, expected) in [
            (machine, "max\n", 8_192_000),
            (machine, "1048576\n", 524_288),
            (machine, "", 8_192_000),
            ("", "", 1 << 30),
        ] {
            assert_eq!(memory_of(machine, group), expected, "{group}");
        }
    }
}
