//! Whether a service kept its promises during a soak: what callers saw beside
//! what is stored.

use std::{collections::HashMap, sync::Arc, time::Duration};

use anyhow::{Context, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use millstream_shared::{
    id::RunId,
    run::{RunState, Status, StepRecord},
    store::{Checkpoints, Store},
};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::{
    callers::TELLING,
    history::{History, Told},
    random::Random,
};

/// How many runs are looked at while they are on their way.
const OBSERVED_MAX: usize = 2000;
const OBSERVE_EVERY: Duration = Duration::from_millis(20);
/// How many runs are asked for at the same time.
const ASKED_AT_ONCE: usize = 64;
const LOOK: Duration = Duration::from_millis(500);

/// What was stored of some runs when they were looked at.
pub(super) type Observed = HashMap<RunId, (RunState, HashMap<String, StepRecord>)>;

/// Looks at runs while they are on their way, until `end`: what was stored once
/// may not change any more.
pub(super) async fn observe(
    store: Store,
    history: Arc<History>,
    mut random: Random,
    end: Instant,
) -> Observed {
    let mut observed = Observed::new();
    while Instant::now() < end {
        sleep(OBSERVE_EVERY).await;
        let again = observed.len() >= OBSERVED_MAX || random.below(2) == 0;
        let run = if again && !observed.is_empty() {
            observed.keys().nth(random.below(observed.len())).copied()
        } else {
            history.some_run(random.below(usize::MAX))
        };
        let Some(run) = run else { continue };
        // While Redis is away there is nothing to see.
        let Ok(now) = stored(&store, run).await else {
            continue;
        };
        let Some(now) = now else {
            history.problem(format!("the record of run {run} is gone"));
            continue;
        };
        if let Some(before) = observed.get(&run) {
            for problem in changes(run, before, &now) {
                history.problem(problem);
            }
        }
        observed.insert(run, now);
    }
    observed
}

/// What is stored of a run now.
async fn stored(
    store: &Store,
    run: RunId,
) -> anyhow::Result<Option<(RunState, HashMap<String, StepRecord>)>> {
    // The steps are read first: what they say cannot be newer than the state.
    let steps: Checkpoints = store.checkpoints(run).await?;
    let Some((_, state)) = store.run_state(run).await? else {
        return Ok(None);
    };
    let ended = steps.ended.into_iter();
    let steps = ended.map(|(step, record)| (step.to_string(), record));
    Ok(Some((state, steps.collect())))
}

/// What changed between two looks at a run and may not.
fn changes(
    run: RunId,
    before: &(RunState, HashMap<String, StepRecord>),
    now: &(RunState, HashMap<String, StepRecord>),
) -> Vec<String> {
    let mut problems = Vec::new();
    if before.0.is_final() && before.0 != now.0 {
        problems.push(format!(
            "run {run} had ended as {} and is {} now",
            before.0, now.0
        ));
    }
    for (step, record) in &before.1 {
        if now.1.get(step) != Some(record) {
            problems.push(format!("step {step} of run {run} was stored twice"));
        }
    }
    problems
}

/// Waits until every run that was accepted has ended.
///
/// # Errors
/// Fails where some have not at the deadline, and says which.
pub(super) async fn until_all_ended(
    store: &Store,
    runs: &HashMap<RunId, Told>,
    deadline: Instant,
) -> anyhow::Result<HashMap<RunId, RunState>> {
    let mut ended = HashMap::new();
    loop {
        let open = runs.keys().filter(|run| !ended.contains_key(*run));
        let open: Vec<RunId> = open.copied().collect();
        let asked = stream::iter(open)
            .map(|run| async move { Ok::<_, anyhow::Error>((run, store.run_state(run).await?)) })
            .buffer_unordered(ASKED_AT_ONCE);
        let states: Vec<_> = asked.try_collect().await.context("cannot look at runs")?;
        let mut left = Vec::new();
        for (run, state) in states {
            match state {
                Some((_, state)) if state.is_final() => drop(ended.insert(run, state)),
                Some((_, state)) => left.push(format!("{run} {state}")),
                None => left.push(format!("{run} gone")),
            }
        }
        if left.is_empty() {
            return Ok(ended);
        }
        left.truncate(10);
        ensure!(
            Instant::now() < deadline,
            "not every accepted run has ended: {}",
            left.join(", ")
        );
        sleep(LOOK).await;
    }
}

/// What callers were told that is not what is stored, and runs that did not
/// succeed although nothing is wrong with their flows.
pub(super) fn contradictions(
    runs: &HashMap<RunId, Told>,
    ended: &HashMap<RunId, RunState>,
) -> Vec<String> {
    let mut problems = Vec::new();
    for (run, told) in runs {
        let Some(state) = ended.get(run) else {
            continue;
        };
        if let Some((status, _)) = told.end
            && status != state.status()
        {
            problems.push(format!(
                "run {run} is {state}, and a caller was told {status}"
            ));
        }
        if state.status() != Status::Succeeded {
            problems.push(format!("run {run} of {} is {state}", told.flow));
        }
    }
    problems
}

/// Whether what later steps took from an earlier one is what is stored of it,
/// for the runs whose steps tell.
///
/// # Errors
/// Fails where Redis does.
pub(super) async fn mixed_attempts(
    store: &Store,
    runs: &HashMap<RunId, Told>,
) -> anyhow::Result<Vec<String>> {
    let telling = runs
        .iter()
        .filter(|(_, told)| told.flow.as_str() == TELLING);
    let asked = stream::iter(telling)
        .map(|(run, _)| async move {
            let steps = store.checkpoints(*run).await?.ended;
            let member = |step: &str, path: &str| {
                let record = steps.iter().find(|(id, _)| id.as_str() == step);
                record.and_then(|(_, record)| record.value.pointer(path).cloned())
            };
            let token = member("token", "/stdout");
            let same = [("copy", "/token"), ("again", "/token"), ("again", "/copy")]
                .iter()
                .all(|(step, path)| member(step, path) == token);
            let known = matches!(token, Some(Value::String(_)));
            let problem = format!("run {run} went on from two attempts of one step");
            Ok::<_, anyhow::Error>((!(same && known)).then_some(problem))
        })
        .buffer_unordered(ASKED_AT_ONCE);
    let problems: Vec<_> = asked.try_collect().await?;
    Ok(problems.into_iter().flatten().collect())
}

/// What changed in runs that were looked at while they were on their way.
///
/// # Errors
/// Fails where Redis does.
pub(super) async fn rewritten(store: &Store, observed: &Observed) -> anyhow::Result<Vec<String>> {
    let mut problems = Vec::new();
    for (run, before) in observed {
        match stored(store, *run).await? {
            Some(now) => problems.extend(changes(*run, before, &now)),
            None => problems.push(format!("the record of run {run} is gone")),
        }
    }
    Ok(problems)
}
