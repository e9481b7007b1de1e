//! A barrier that a step waits at until the test opens it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{SOON, eventually};

/// A barrier made of two files: one that the step makes when it arrives, one
/// that the test makes to let it go on.
///
/// A flow reaches it with the script of [`Gate::script`].
#[derive(Clone, Debug)]
pub struct Gate {
    path: PathBuf,
}

impl Gate {
    /// A closed gate in a folder.
    pub fn new(folder: &Path, name: &str) -> Self {
        Self {
            path: folder.join(name),
        }
    }

    /// Shell commands that note one arrival more, with the number of the
    /// process, and wait until the gate is open.
    pub fn script(&self) -> String {
        let (arrivals, open) = (self.arrivals_file(), self.open_file());
        let (arrivals, open) = (arrivals.display(), open.display());
        format!("echo $$ >> '{arrivals}'; until [ -e '{open}' ]; do sleep 0.02; done")
    }

    /// Lets everybody pass, those who wait and those who come.
    pub fn open(&self) {
        fs::write(self.open_file(), "").unwrap();
    }

    /// The numbers of the processes that have arrived so far.
    pub fn arrivals(&self) -> Vec<i32> {
        let text = fs::read_to_string(self.arrivals_file()).unwrap_or_default();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().map(|line| line.parse().unwrap()).collect()
    }

    /// Waits until so many processes have arrived.
    pub async fn reached_by(&self, count: usize) -> Vec<i32> {
        let what = format!("{count} arrivals at {}", self.path.display());
        eventually(SOON, &what, || async {
            Some(self.arrivals()).filter(|arrivals| arrivals.len() >= count)
        })
        .await
    }

    fn arrivals_file(&self) -> PathBuf {
        self.path.with_extension("arrivals")
    }

    fn open_file(&self) -> PathBuf {
        self.path.with_extension("open")
    }
}
