//! What callers of a soak saw, in memory and in a file that only grows: what was
//! accepted, and what they were told of it.

use std::{
    collections::HashMap,
    fs::File,
    io::{BufWriter, Write},
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::Context;
use millstream_shared::{
    id::{FlowId, RunId},
    run::Status,
};
use serde_json::json;

/// All that callers saw.
pub(super) struct History(Mutex<Seen>);

struct Seen {
    runs: HashMap<RunId, Told>,
    /// The same runs, in the order in which they were accepted.
    order: Vec<RunId>,
    log: BufWriter<File>,
    waits: u64,
    problems: Vec<String>,
}

/// What callers were told of a run.
#[derive(Clone, Debug)]
pub(super) struct Told {
    pub(super) flow: FlowId,
    /// The final status that a caller who waited was told, and when,
    /// milliseconds since 1970.
    pub(super) end: Option<(Status, u64)>,
}

impl History {
    /// An empty history whose file is at `path`.
    ///
    /// # Errors
    /// Fails where the file cannot be made.
    pub(super) fn new(path: &Path) -> anyhow::Result<Self> {
        let cannot = || format!("cannot write `{}`", path.display());
        let file = File::create_new(path).with_context(cannot)?;
        Ok(Self(Mutex::new(Seen {
            runs: HashMap::new(),
            order: Vec::new(),
            log: BufWriter::new(file),
            waits: 0,
            problems: Vec::new(),
        })))
    }

    /// A caller was told that its start is a run.
    pub(super) fn accepted(&self, run: RunId, flow: &FlowId) {
        let mut seen = self.lock();
        seen.note(json!({ "accepted": run, "flow": flow }));
        let earlier = seen.runs.get(&run).map(|told| told.flow.clone());
        let Some(earlier) = earlier else {
            let (flow, end) = (flow.clone(), None);
            seen.runs.insert(run, Told { flow, end });
            seen.order.push(run);
            return;
        };
        if earlier != *flow {
            let problem = format!("run {run} was given to callers of two flows");
            seen.problems.push(problem);
        }
    }

    /// A caller who waited was told how the run ended.
    pub(super) fn ended(&self, run: RunId, status: Status) {
        let mut seen = self.lock();
        seen.note(json!({ "ended": run, "status": status }));
        seen.waits += 1;
        let now = now_ms();
        let Some(told) = seen.runs.get_mut(&run) else {
            return;
        };
        let earlier = told.end.replace((status, now));
        if earlier.is_some_and(|(earlier, _)| earlier != status) {
            let problem = format!("run {run} ended in two ways");
            seen.problems.push(problem);
        }
    }

    /// Something that may not happen happened.
    pub(super) fn problem(&self, problem: String) {
        let mut seen = self.lock();
        seen.note(json!({ "problem": problem }));
        seen.problems.push(problem);
    }

    /// The runs, the number of waits that were answered, and what went wrong.
    ///
    /// # Errors
    /// Fails where the file could not be written.
    pub(super) fn close(&self) -> anyhow::Result<(HashMap<RunId, Told>, u64, Vec<String>)> {
        let mut seen = self.lock();
        seen.log.flush().context("cannot write the history")?;
        Ok((seen.runs.clone(), seen.waits, seen.problems.clone()))
    }

    /// How many runs were accepted.
    pub(super) fn accepted_runs(&self) -> usize {
        self.lock().runs.len()
    }

    /// Some run that was accepted, by a number drawn at random.
    pub(super) fn some_run(&self, drawn: usize) -> Option<RunId> {
        let seen = self.lock();
        let place = drawn.checked_rem(seen.order.len())?;
        Some(seen.order[place])
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        // What a caller saw before it panicked was seen all the same.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    fn note(&mut self, event: serde_json::Value) {
        let at = now_ms();
        // A full disk shows when the history is closed.
        let _ = writeln!(self.log, "{}", json!({ "at": at, "seen": event }));
    }
}

/// Milliseconds since 1970, for comparison with the clock of a Redis on the same
/// machine.
fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}
