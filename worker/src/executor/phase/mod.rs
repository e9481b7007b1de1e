//! A set of steps carried through: those of the flow, or those for its failure.

mod begin;
mod end;
mod flows;
mod resume;

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use indexmap::IndexMap;
use millstream_shared::{
    flow::{Step, graph, step::OnError, streams},
    id::{FlowId, StepId},
    run::{
        Artifact, RunError, StepRecord, StepState,
        progress::{Progress, waits_for},
    },
    store::{Checkpoints, StoreError},
};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{Clock, attempt::Attempted, kept::KeepError, scope::RunScope};
use crate::{
    Shared,
    lease::Hold,
    steps::Offered,
    tables::{Feed, Table},
};

/// A run that has nothing to do for longer than this before a step is tried
/// again is given back: a pause holds no slot.
const PAUSE_HELD_MAX: Duration = Duration::from_secs(1);

/// How carrying through a set of steps ended.
pub(super) enum Phase {
    /// Every step has ended, and no failure stopped the run.
    Done,
    /// A step failed for good.
    Failed(RunError),
    /// Somebody asked to cancel the run.
    Cancelled,
    /// There is nothing to do here until so much later.
    Paused(Duration),
    /// Another worker has the run.
    Lost,
}

/// What carrying through steps needs, besides the steps.
pub(super) struct Steps<'r> {
    pub(super) shared: &'r Arc<Shared>,
    pub(super) hold: &'r Hold,
    pub(super) flow: &'r FlowId,
    pub(super) checkpoints: &'r Checkpoints,
    /// Steps that had ended, and whose values are lost.
    pub(super) lost_values: &'r BTreeSet<StepId>,
    pub(super) clock: Clock,
}

impl Steps<'_> {
    /// Carries `steps` through, from what the checkpoints say has ended.
    pub(super) async fn run(&self, steps: &[Step], scope: &mut RunScope) -> Phase {
        Carrying::new(self, steps, scope).carry_through().await
    }
}

/// What came of something that was under way.
enum Came {
    /// An attempt of a step.
    Attempted(Attempted),
    /// The table of a step that had ended, out of the artifact store.
    Brought(Result<Table, KeepError>),
}

/// Steps on their way.
struct Carrying<'r> {
    around: &'r Steps<'r>,
    scope: &'r mut RunScope,
    /// Every step, those that handle errors included.
    steps: IndexMap<StepId, &'r Step>,
    /// For each step that handles errors, the step whose errors.
    handles: HashMap<StepId, StepId>,
    upstream: IndexMap<StepId, BTreeSet<StepId>>,
    /// For each step, the tables that it takes.
    takes: HashMap<StepId, BTreeSet<StepId>>,
    progress: Progress,
    /// What steps have made, or are making.
    feeds: HashMap<StepId, Feed>,
    /// For each step whose rows another one takes while they are made, that one.
    streams: HashMap<StepId, StepId>,
    /// Where such steps say that their rows can be taken.
    offer: mpsc::UnboundedSender<Offered>,
    offered: mpsc::UnboundedReceiver<Offered>,
    /// For each step that is being executed, what makes it stop.
    stops: HashMap<StepId, CancellationToken>,
    /// Steps that had ended, and are executed again for what they handed on only:
    /// it was in the memory of a worker that was lost, or kept and is lost.
    restoring: HashSet<StepId>,
    /// Steps that had ended, and whose tables are brought back from where they
    /// are kept.
    bringing: HashMap<StepId, Artifact>,
    attempts: HashMap<StepId, u32>,
    tasks: JoinSet<(StepId, Came)>,
    /// Steps to try again, and when.
    waiting: HashMap<StepId, Instant>,
    /// Cancelled when the steps that run should give up.
    giving_up: CancellationToken,
    failure: Option<RunError>,
}

impl<'r> Carrying<'r> {
    fn new(around: &'r Steps<'r>, steps: &'r [Step], scope: &'r mut RunScope) -> Self {
        let mut all = IndexMap::new();
        let mut handles = HashMap::new();
        for step in steps {
            all.insert(step.id.clone(), step);
            if let OnError::Steps(handlers) = &step.on_error {
                for handler in handlers {
                    all.insert(handler.id.clone(), handler);
                    handles.insert(handler.id.clone(), step.id.clone());
                }
            }
        }
        let (offer, offered) = mpsc::unbounded_channel();
        let upstream = graph::upstream(steps);
        let takes = all
            .values()
            .map(|step| (step.id.clone(), graph::tables_of(step, steps)))
            .collect();
        let mut carrying = Self {
            progress: Progress::new(waits_for(steps)),
            feeds: HashMap::new(),
            streams: streams::streams(steps, &upstream, &takes),
            takes,
            upstream,
            offer,
            offered,
            stops: HashMap::new(),
            restoring: HashSet::new(),
            bringing: HashMap::new(),
            attempts: HashMap::new(),
            tasks: JoinSet::new(),
            waiting: HashMap::new(),
            giving_up: around.hold.signals.cancelled.child_token(),
            failure: None,
            around,
            scope,
            steps: all,
            handles,
        };
        carrying.resume();
        carrying
    }

    async fn carry_through(mut self) -> Phase {
        let shared = self.around.shared;
        loop {
            let stopping = shared.stopping.is_cancelled();
            if self.failure.is_none() && !stopping {
                tokio::select! {
                    () = shared.leases.fresh() => {}
                    () = shared.grace_over.cancelled() => return Phase::Paused(Duration::ZERO),
                }
                if let Err(error) = self.start_what_may().await {
                    return self.ended_by(error);
                }
            }
            if stopping {
                self.stop_untaken();
            }
            if self.tasks.is_empty()
                && let Some(phase) = self.resting(stopping)
            {
                return phase;
            }
            let next_attempt = self
                .next_attempt()
                .filter(|_| self.failure.is_none() && !stopping);
            let went_on = tokio::select! {
                Some((step, flow)) = self.offered.recv() => {
                    self.take_offer(step, flow);
                    Ok(())
                }
                Some(joined) = self.tasks.join_next() => match joined {
                    Ok((step, Came::Attempted(attempted))) => self.note(step, attempted).await,
                    Ok((step, Came::Brought(table))) => {
                        self.note_brought(step, table);
                        Ok(())
                    }
                    Err(panic) => {
                        self.fail_with("panic", panic.to_string());
                        Ok(())
                    }
                },
                () = sleep_until(next_attempt.unwrap_or_else(Instant::now)), if next_attempt.is_some() => Ok(()),
                () = self.around.hold.signals.cancelled.cancelled() => return Phase::Cancelled,
                () = shared.stopping.cancelled(), if !stopping => Ok(()),
                () = shared.grace_over.cancelled() => return Phase::Paused(Duration::ZERO),
            };
            if let Err(error) = went_on {
                return self.ended_by(error);
            }
        }
    }

    /// When the first of the steps that only wait for their next attempt is due.
    fn next_attempt(&self) -> Option<Instant> {
        if self.waiting.is_empty() {
            return None;
        }
        let startable = self.progress.startable();
        let now = Instant::now();
        // What is due, and waits for the rows of a step that is made to flow
        // again, starts when these flow.
        let due = self
            .waiting
            .iter()
            .filter(|(step, due)| **due > now || startable.contains(step));
        due.map(|(_, due)| *due).min()
    }

    /// What to do while no step is running: nothing (`None`), or to leave.
    fn resting(&mut self, stopping: bool) -> Option<Phase> {
        if let Some(failure) = self.failure.take() {
            return Some(Phase::Failed(failure));
        }
        if self.progress.is_done() {
            return Some(Phase::Done);
        }
        if stopping {
            return Some(Phase::Paused(Duration::ZERO));
        }
        let Some(next) = self.next_attempt() else {
            return Some(Phase::Failed(RunError {
                code: "stuck".into(),
                message: "no step of the flow can start".into(),
                step: None,
            }));
        };
        let pause = next.saturating_duration_since(Instant::now());
        (pause > PAUSE_HELD_MAX).then_some(Phase::Paused(pause))
    }

    /// What an error of the store means for the run.
    fn ended_by(&mut self, error: StoreError) -> Phase {
        match error {
            StoreError::LeaseLost => Phase::Lost,
            error => Phase::Failed(RunError {
                code: "store".into(),
                message: error.to_string(),
                step: None,
            }),
        }
    }

    fn fail_with(&mut self, code: &str, message: String) {
        self.giving_up.cancel();
        self.failure.get_or_insert(RunError {
            code: code.into(),
            message,
            step: None,
        });
    }
}

/// Why a step's end fails the run, if it does.
fn fatal(step: &Step, record: &StepRecord) -> Option<RunError> {
    match (record.state, &step.on_error) {
        (StepState::Failed, OnError::Fail) => record.error.clone(),
        _ => None,
    }
}
