//! What is kept of a run outside of its record: how it is referred to, how it
//! is called, and when nothing can refer to it any more.

use serde::{Deserialize, Serialize};

use super::RunState;
use crate::id::{RunId, StepId};

/// A reference to an artifact: whatever is there under its name counts only
/// where length and checksum are these.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// Its name within the artifact store.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// Its SHA-256, as 64 hexadecimal digits.
    pub sha256: String,
}

/// What an artifact holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds<'a> {
    /// What the run hands back, as JSON.
    Output,
    /// The value of a step, as JSON.
    Value {
        /// The step.
        step: &'a StepId,
        /// Its attempt, from 1.
        attempt: u32,
    },
    /// The table of a step, as a file of Arrow.
    Table {
        /// The step.
        step: &'a StepId,
        /// Its attempt, from 1.
        attempt: u32,
    },
}

impl Holds<'_> {
    /// The name of the artifact that whoever holds the run with this fencing
    /// number writes. Nobody else ever writes under it, so a worker that lost
    /// the run replaces nothing.
    pub fn name(self, run: RunId, epoch: &str) -> String {
        match self {
            Self::Output => format!("{run}/{epoch}.output.json"),
            Self::Value { step, attempt } => format!("{run}/{epoch}.{step}.{attempt}.value.json"),
            Self::Table { step, attempt } => format!("{run}/{epoch}.{step}.{attempt}.table.arrow"),
        }
    }
}

/// Whose an artifact is, as its name says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The run.
    pub run: RunId,
    /// The fencing number of the claim.
    pub epoch: u64,
    /// The step; none where it is the output of the run.
    pub step: Option<StepId>,
}

impl Written {
    /// Reads the name of an artifact, or of the draft of one; nothing where it is
    /// not one of ours.
    pub fn by(name: &str) -> Option<Self> {
        let (run, file) = name.split_once('/')?;
        let mut parts = file.split('.');
        let [epoch, what, next] = [parts.next()?, parts.next()?, parts.next()?];
        // A step comes with the number of its attempt.
        let step = match next.parse::<u32>() {
            Ok(_) => Some(what.parse().ok()?),
            Err(_) if what == "output" => None,
            Err(_) => return None,
        };
        Some(Self {
            run: run.parse().ok()?,
            epoch: epoch.parse().ok()?,
            step,
        })
    }

    /// Whether the record of its run, which is so now, may still come to refer to
    /// it, where it does not do so already.
    pub fn may_be_referred_to(&self, run: Option<(RunState, u64)>) -> bool {
        // Every claim and every loss of a run makes its fencing number higher, and
        // only who holds it with the highest one stores a reference.
        run.is_some_and(|(state, epoch)| state == RunState::Running && epoch <= self.epoch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_whose_the_artifact_is() {
        let run = RunId::new();
        let step = "by_country".parse().unwrap();
        let holds = [
            Holds::Output,
            Holds::Value {
                step: &step,
                attempt: 2,
            },
            Holds::Table {
                step: &step,
                attempt: 2,
            },
        ];
        let names = holds.map(|holds| holds.name(run, "417"));
        assert_eq!(names[2], format!("{run}/417.by_country.2.table.arrow"));
        let drafts = names.clone().map(|name| format!("{name}.draft"));
        for name in names.iter().chain(&drafts) {
            let step = (!name.contains("output")).then(|| step.clone());
            let written = Written {
                run,
                epoch: 417,
                step,
            };
            assert_eq!(Written::by(name), Some(written));
        }
        for foreign in [
            "",
            "notes.txt",
            "x/417.output.json",
            &format!("{run}/a.output.json"),
            &format!("{run}/417.notes.txt"),
            &format!("{run}/417.a-b.1.value.json"),
        ] {
            assert_eq!(Written::by(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn only_who_holds_the_run_may_still_refer_to_what_it_wrote() {
        let run = RunId::new();
        let written = Written {
            run,
            epoch: 7,
            step: None,
        };
        let may = |state, epoch| written.may_be_referred_to(Some((state, epoch)));
        assert!(may(RunState::Running, 7));
        assert!(!may(RunState::Running, 8), "another worker has the run");
        assert!(!may(RunState::Delayed, 7), "it was given back");
        assert!(!may(RunState::Succeeded, 7));
        assert!(!written.may_be_referred_to(None), "the run is gone");
        // The record was read before the claim that it was written under.
        assert!(may(RunState::Running, 6));
    }
}
