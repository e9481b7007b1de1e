//! One execution of a flow: its state, what may become of it, and what is
//! kept of its steps. Pure: what happens is decided here, written elsewhere.

mod artifact;
mod priority;
pub mod progress;
mod record;

use std::{fmt, str::FromStr};

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use artifact::{Artifact, Holds, Written};
pub use priority::{Priority, Turns, UnknownPriority};
pub use record::{RunError, RunOutput, StepRecord, StepState};

use crate::id::StepId;

/// Where a run stands. Callers see the four words of [`Status`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RunState {
    /// Not due yet: started for later, or pausing before a step is tried again.
    Delayed,
    /// In a queue, for the next worker with a free slot.
    Queued,
    /// Waiting for a place within its flow's limit.
    Parked,
    /// A worker has it.
    Running,
    /// Ended well.
    Succeeded,
    /// Ended because a step failed.
    Failed,
    /// Ended because somebody asked.
    Cancelled,
    /// Set aside: worker after worker was lost while executing it.
    Dead,
}

/// What can happen to a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunEvent {
    /// Its time has come.
    Due,
    /// A worker took it.
    Claimed,
    /// Its flow had no room when a worker came to it.
    FoundFull,
    /// Its flow had no room when it became due, and says that it fails then.
    TurnedAway,
    /// A place within its flow's limit was handed to it.
    RoomMade,
    /// Its worker gave it back, to be queued at once.
    HandedBack,
    /// Its worker gave it back until later.
    Paused,
    /// All its steps are done.
    StepsDone,
    /// A step failed for good.
    StepFailed,
    /// Somebody asked to cancel it, and nobody executes it any more.
    Cancelled,
    /// Its worker fell silent.
    LeaseExpired,
    /// Its worker fell silent, once too often.
    LeaseExpiredTooOften,
}

impl RunEvent {
    /// Every event.
    pub const ALL: [Self; 12] = [
        Self::Due,
        Self::Claimed,
        Self::FoundFull,
        Self::TurnedAway,
        Self::RoomMade,
        Self::HandedBack,
        Self::Paused,
        Self::StepsDone,
        Self::StepFailed,
        Self::Cancelled,
        Self::LeaseExpired,
        Self::LeaseExpiredTooOften,
    ];
}

/// An event that cannot happen in a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a {from} run cannot have {event:?}")]
pub struct IllegalEvent {
    from: RunState,
    event: RunEvent,
}

impl RunState {
    /// Every state, in the order of a run's life.
    pub const ALL: [Self; 8] = [
        Self::Delayed,
        Self::Queued,
        Self::Parked,
        Self::Running,
        Self::Succeeded,
        Self::Failed,
        Self::Cancelled,
        Self::Dead,
    ];

    /// The state after `event`: the rules that the store's scripts keep.
    ///
    /// # Errors
    /// Fails where the event cannot happen in this state; a final state has
    /// no event at all.
    pub fn after(self, event: RunEvent) -> Result<Self, IllegalEvent> {
        use RunEvent as E;
        match (self, event) {
            (Self::Delayed, E::Due)
            | (Self::Parked, E::RoomMade)
            | (Self::Running | Self::Queued, E::HandedBack | E::LeaseExpired) => Ok(Self::Queued),
            (Self::Queued, E::Claimed) => Ok(Self::Running),
            (Self::Queued, E::FoundFull) => Ok(Self::Parked),
            (Self::Running, E::Paused) => Ok(Self::Delayed),
            (Self::Running, E::StepsDone) => Ok(Self::Succeeded),
            (Self::Running, E::StepFailed) | (Self::Delayed, E::TurnedAway) => Ok(Self::Failed),
            (Self::Running, E::LeaseExpiredTooOften) => Ok(Self::Dead),
            (Self::Delayed | Self::Queued | Self::Parked | Self::Running, E::Cancelled) => {
                Ok(Self::Cancelled)
            }
            (from, event) => Err(IllegalEvent { from, event }),
        }
    }

    /// Whether nothing changes any more.
    pub fn is_final(self) -> bool {
        match self {
            Self::Delayed | Self::Queued | Self::Parked | Self::Running => false,
            Self::Succeeded | Self::Failed | Self::Cancelled | Self::Dead => true,
        }
    }

    /// What callers see.
    pub fn status(self) -> Status {
        match self {
            Self::Delayed | Self::Queued | Self::Parked => Status::Pending,
            Self::Running => Status::Running,
            Self::Succeeded => Status::Succeeded,
            Self::Failed | Self::Cancelled | Self::Dead => Status::Failed,
        }
    }

    /// The state's word in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Delayed => "delayed",
            Self::Queued => "queued",
            Self::Parked => "parked",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Dead => "dead",
        }
    }
}

impl fmt::Display for RunState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that is no state of a run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a state of a run")]
pub struct UnknownState(String);

impl FromStr for RunState {
    type Err = UnknownState;

    fn from_str(word: &str) -> Result<Self, UnknownState> {
        let known = Self::ALL.into_iter().find(|state| state.as_str() == word);
        known.ok_or_else(|| UnknownState(word.to_owned()))
    }
}

/// What callers see of a run's state: these four words and no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the words are the contract")]
pub enum Status {
    Pending,
    Running,
    Succeeded,
    Failed,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What a start brought, as the steps see it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StartRequest {
    /// Every input that the flow declares, typed, with defaults filled in.
    pub inputs: Map<String, Value>,
    /// Arguments of steps that the caller sets himself.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub args: IndexMap<StepId, Map<String, Value>>,
    /// A text for all steps: `{{ run.data_context }}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_context: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_happens_to_a_run_that_has_ended() {
        for state in RunState::ALL.into_iter().filter(|state| state.is_final()) {
            for event in RunEvent::ALL {
                assert!(state.after(event).is_err(), "{state} {event:?}");
            }
        }
    }

    #[test]
    fn every_run_that_has_not_ended_can_be_cancelled() {
        for state in RunState::ALL.into_iter().filter(|state| !state.is_final()) {
            assert_eq!(state.after(RunEvent::Cancelled), Ok(RunState::Cancelled));
        }
    }

    #[test]
    fn a_state_reads_as_it_is_written() {
        for state in RunState::ALL {
            assert_eq!(state.as_str().parse(), Ok(state));
        }
        assert!("Running".parse::<RunState>().is_err());
    }

    #[test]
    fn callers_see_four_words() {
        let words: Vec<_> = RunState::ALL.map(|state| state.status().to_string()).into();
        assert_eq!(
            words,
            [
                "Pending",
                "Pending",
                "Pending",
                "Running",
                "Succeeded",
                "Failed",
                "Failed",
                "Failed"
            ]
        );
    }
}
