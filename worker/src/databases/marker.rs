//! The marker of a step that changed something in a database: a row of the
//! table `millstream_steps`, written in the same transaction as the change. Who
//! finds it has nothing left to do.

use millstream_shared::id::{RunId, StepId};

/// The table of markers.
pub(super) const TABLE: &str = "millstream_steps";

/// For how long a marker is kept. No run is repeated after so long.
pub(super) const DAYS: u32 = 30;

/// How many old markers one step deletes at the most.
pub(super) const DELETED_MAX: u32 = 1_000;

/// Whose marker it is.
#[derive(Clone, Debug)]
pub(crate) struct Marker {
    pub(crate) run: RunId,
    pub(crate) step: StepId,
}

impl Marker {
    /// The text of the run's id.
    pub(super) fn run(&self) -> String {
        self.run.to_string()
    }

    /// The text of the step's id.
    pub(super) fn step(&self) -> String {
        self.step.to_string()
    }
}

/// What a step changed, as its marker keeps it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Change {
    /// Rows that were loaded, or that the statement changed.
    pub(crate) rows: u64,
    /// Rows that are new, where it is known.
    pub(crate) inserted: Option<u64>,
    /// Rows that were there and got new values, where it is known.
    pub(crate) updated: Option<u64>,
}

impl Change {
    /// The change that a marker keeps, as databases know whole numbers.
    pub(super) fn of_marker(rows: i64, inserted: Option<i64>, updated: Option<i64>) -> Self {
        Self {
            rows: rows.unsigned_abs(),
            inserted: inserted.map(i64::unsigned_abs),
            updated: updated.map(i64::unsigned_abs),
        }
    }

    /// The numbers for a marker.
    pub(super) fn for_marker(self) -> (i64, Option<i64>, Option<i64>) {
        let number = |rows: u64| i64::try_from(rows).unwrap_or(i64::MAX);
        (
            number(self.rows),
            self.inserted.map(number),
            self.updated.map(number),
        )
    }
}
