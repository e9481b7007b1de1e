//! The invariants of the queue, read off Redis itself.
//!
//! I1: a run is in exactly the structures of its state. I2: its epoch never
//! falls, its final state never changes, each change of state is one that
//! `RunState::after` knows. I3: while a run is parked, its limit is full.
//! I4: only runs that have ended expire. I5: those that have not, and no others,
//! count as open.

use std::collections::{HashMap, HashSet};

use crate::{operations::STREAMS, world::World};
use anyhow::{Context, ensure};
use millstream_shared::{
    id::RunId,
    run::{RunEvent, RunState},
};

/// An entry: the name of its queue, its id there.
type Entry = (String, String);

/// Everything that Redis holds of the queue.
#[derive(Default)]
struct Snapshot {
    runs: HashMap<RunId, HashMap<String, String>>,
    ttl_ms: HashMap<RunId, i64>,
    /// Entries of each stream: the run that each names.
    entries: HashMap<Entry, String>,
    pending: HashSet<Entry>,
    /// `<run> <flow>` of runs that count as open.
    open: HashSet<String>,
    /// How many runs of the one flow count as open.
    open_of_flow: usize,
    delayed: HashSet<String>,
    parked: HashMap<String, Vec<String>>,
    groups: HashMap<String, HashSet<String>>,
}

/// The limits that runs of the test count against.
const GROUPS: [&str; 2] = ["one", "two"];

/// Everything in one round trip; `all` for ended runs too.
async fn snapshot(world: &mut World, all: bool) -> Snapshot {
    let asked: Vec<RunId> = world
        .runs
        .iter()
        .filter(|(_, known)| {
            !known.destroyed && (all || !known.state.is_some_and(RunState::is_final))
        })
        .map(|(id, _)| *id)
        .collect();
    let mut pipeline = redis::pipe();
    pipeline.zrange("ms:{0}:delayed", 0, -1);
    pipeline.zrange("ms:{0}:open", 0, -1);
    pipeline.hget("ms:{0}:open:flows", "flow");
    for stream in STREAMS {
        pipeline.xrange_all(stream);
        pipeline.xpending_count(stream, "workers", "-", "+", 100_000);
    }
    for group in GROUPS {
        pipeline.zrange(format!("ms:{{0}}:parked:{group}"), 0, -1);
        pipeline.smembers(format!("ms:{{0}}:group:{group}"));
    }
    for run in &asked {
        pipeline.hgetall(format!("ms:{{0}}:run:{run}"));
        pipeline.pttl(format!("ms:{{0}}:run:{run}"));
    }
    let answers: Vec<redis::RedisResult<redis::Value>> = pipeline
        .ignore_errors()
        .query_async(&mut world.redis)
        .await
        .unwrap();
    let mut answers = answers.into_iter();
    let mut snapshot = Snapshot {
        delayed: read(&mut answers).unwrap(),
        open: read(&mut answers).unwrap(),
        open_of_flow: read::<Option<usize>>(&mut answers)
            .unwrap()
            .unwrap_or_default(),
        ..Snapshot::default()
    };
    for stream in STREAMS {
        let queue = stream.trim_start_matches("ms:{0}:queue:");
        let entries: Vec<(String, Vec<String>)> = read(&mut answers).unwrap();
        for (entry, fields) in entries {
            let run = fields.get(1).cloned().unwrap_or_default();
            snapshot.entries.insert((queue.to_owned(), entry), run);
        }
        // There is no group before the first claim.
        let pending: Option<Vec<(String, String, u64, u64)>> = read(&mut answers);
        let pending = pending.unwrap_or_default().into_iter();
        let pending = pending.map(|(entry, ..)| (queue.to_owned(), entry));
        snapshot.pending.extend(pending);
    }
    for group in GROUPS {
        let parked = read(&mut answers).unwrap();
        snapshot.parked.insert(group.into(), parked);
        let members = read(&mut answers).unwrap();
        snapshot.groups.insert(group.into(), members);
    }
    for run in asked {
        snapshot.runs.insert(run, read(&mut answers).unwrap());
        snapshot.ttl_ms.insert(run, read(&mut answers).unwrap());
    }
    snapshot
}

/// The next answer; none where it is an error.
fn read<T: redis::FromRedisValue>(
    answers: &mut impl Iterator<Item = redis::RedisResult<redis::Value>>,
) -> Option<T> {
    let answer = answers.next().expect("there is one for each command");
    Some(redis::from_redis_value(answer.ok()?).unwrap())
}

/// Checks every invariant, and notes the states that were seen.
pub(crate) async fn check(world: &mut World) -> anyhow::Result<()> {
    // Runs that have ended make up most of them, so they are looked at now and then.
    let all = world.random.once_in(50);
    check_all(world, all).await
}

async fn check_all(world: &mut World, all: bool) -> anyhow::Result<()> {
    let now = snapshot(world, all).await;
    for (id, run) in &now.runs {
        check_place(*id, run, &now)?;
        check_history(world, *id, run)?;
    }
    ensure!(
        now.open.len() == now.open_of_flow,
        "I5: {} runs count as open, and {} of the only flow",
        now.open.len(),
        now.open_of_flow
    );
    for (group, parked) in &now.parked {
        let limit = if group == "one" { 1 } else { 2 };
        let taken = now.groups[group].len();
        ensure!(
            taken <= limit,
            "I3: {taken} runs hold places of {group}, {limit} may"
        );
        ensure!(
            parked.is_empty() || taken == limit,
            "I3: {parked:?} are parked though {group} has room"
        );
    }
    Ok(())
}

/// I1: the run is where its state says, and nowhere else.
fn check_place(id: RunId, run: &HashMap<String, String>, now: &Snapshot) -> anyhow::Result<()> {
    let name = id.to_string();
    let state: RunState = run
        .get("state")
        .with_context(|| format!("{id} has no state"))?
        .parse()
        .unwrap();
    let field = |name: &str| run.get(name).cloned().unwrap_or_default();
    let entry = (field("queue"), field("entry"));
    let in_stream = now.entries.get(&entry) == Some(&name);
    let pending = now.pending.contains(&entry);
    let delayed = now.delayed.contains(&name);
    let parked = now
        .parked
        .values()
        .flatten()
        .filter(|parked| **parked == name)
        .count();
    let holds = now.groups.values().any(|group| group.contains(&name));
    match state {
        RunState::Queued => ensure!(
            in_stream && !delayed && parked == 0,
            "I1: {id} is queued but {entry:?} is not in the stream"
        ),
        RunState::Running => {
            ensure!(
                in_stream && pending && !delayed && parked == 0,
                "I1: {id} runs but {entry:?} is not pending"
            );
            let limited = run.get("limited").is_some();
            ensure!(
                holds == limited,
                "I1: {id} runs, limited {limited}, holds a place {holds}"
            );
        }
        RunState::Delayed => ensure!(
            !in_stream && delayed && parked == 0 && !holds,
            "I1: {id} is delayed"
        ),
        RunState::Parked => ensure!(
            !in_stream && !delayed && parked == 1 && !holds,
            "I1: {id} is parked {parked} times"
        ),
        _ => {
            ensure!(
                entry.1.is_empty() && !delayed && parked == 0 && !holds,
                "I1: {id} has ended and is still somewhere"
            );
            ensure!(
                run.get("waiters").is_none(),
                "{id} has ended and is waited for"
            );
        }
    }
    let open = now.open.contains(&format!("{id} flow"));
    ensure!(
        open != state.is_final(),
        "I5: {id} is {state} and counts as open: {open}"
    );
    let ttl_ms = now.ttl_ms[&id];
    ensure!(
        (ttl_ms >= 0) == state.is_final(),
        "I4: {id} is {state} and expires in {ttl_ms} ms"
    );
    Ok(())
}

/// I2: what changed since the last look may change so.
fn check_history(
    world: &mut World,
    id: RunId,
    run: &HashMap<String, String>,
) -> anyhow::Result<()> {
    let state: RunState = run["state"].parse().unwrap();
    let epoch = run.get("epoch").map_or(0, |epoch| epoch.parse().unwrap());
    let known = world.known(id);
    ensure!(
        epoch >= known.epoch,
        "I2: the epoch of {id} fell from {} to {epoch}",
        known.epoch
    );
    known.epoch = epoch;
    ensure!(
        known.finished <= 1,
        "I2: {id} was finished {} times",
        known.finished
    );
    if let Some(before) = known.state
        && before != state
    {
        let lawful = RunEvent::ALL
            .into_iter()
            .any(|event| before.after(event) == Ok(state));
        ensure!(lawful, "I2: {id} went from {before} to {state}");
    }
    known.state = Some(state);
    known.aged &= state == RunState::Running;
    Ok(())
}

/// Nothing is left of runs that have all ended.
pub(crate) async fn check_empty(world: &mut World) -> anyhow::Result<()> {
    check_all(world, true).await?;
    let now = snapshot(world, true).await;
    ensure!(
        now.entries.is_empty(),
        "entries are left: {:?}",
        now.entries
    );
    ensure!(now.open.is_empty(), "runs count as open: {:?}", now.open);
    ensure!(
        now.pending.is_empty(),
        "pending entries are left: {:?}",
        now.pending
    );
    ensure!(
        now.delayed.is_empty(),
        "delayed runs are left: {:?}",
        now.delayed
    );
    ensure!(
        now.parked.values().all(Vec::is_empty),
        "parked runs are left: {:?}",
        now.parked
    );
    ensure!(
        now.groups.values().all(HashSet::is_empty),
        "places are still taken: {:?}",
        now.groups
    );
    Ok(())
}
