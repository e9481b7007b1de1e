//! What goes wrong during a soak: programs that die and freeze, connections
//! that are cut, scripts that are forgotten.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::Context;
use tokio::{
    sync::Mutex,
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};

use super::{
    random::Random,
    stack::{Program, Stack},
};

/// How far faults are apart.
const APART: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(7));
/// How long a Redis or an API process that froze stays so.
const FROZEN: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(4));
/// How long a program that was killed stays away.
const AWAY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// Something that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    WorkerKilled,
    WorkerFrozen,
    ApiKilled,
    ApiFrozen,
    RedisKilled,
    RedisFrozen,
    MessagesCut,
    ScriptsForgotten,
}

/// How often each happens among so many. They come in a random order; each
/// deck is used up before the next one is begun, so that none is left out.
const DECK: &[(Fault, usize)] = &[
    (Fault::WorkerKilled, 7),
    (Fault::WorkerFrozen, 6),
    (Fault::ApiKilled, 2),
    (Fault::ApiFrozen, 1),
    (Fault::RedisKilled, 2),
    (Fault::RedisFrozen, 1),
    (Fault::MessagesCut, 1),
    (Fault::ScriptsForgotten, 1),
];

impl Fault {
    fn name(self) -> &'static str {
        match self {
            Self::WorkerKilled => "workersKilled",
            Self::WorkerFrozen => "workersFrozen",
            Self::ApiKilled => "apisKilled",
            Self::ApiFrozen => "apisFrozen",
            Self::RedisKilled => "redisKilled",
            Self::RedisFrozen => "redisFrozen",
            Self::MessagesCut => "messagesCut",
            Self::ScriptsForgotten => "scriptsForgotten",
        }
    }
}

/// Lets things go wrong until `end`, and says how often which did. When it
/// returns, every program runs again.
///
/// # Errors
/// Fails where a program ended by itself, or does not start again.
pub(super) async fn inflict(
    stack: Arc<Stack>,
    mut random: Random,
    lease: Duration,
    end: Instant,
) -> anyhow::Result<BTreeMap<&'static str, u32>> {
    let mut counts = BTreeMap::new();
    let mut deck = Vec::new();
    let mut going_on = JoinSet::new();
    loop {
        let next = Instant::now() + random.between(APART.0, APART.1);
        if next >= end {
            break;
        }
        sleep_until(next).await;
        if deck.is_empty() {
            for (fault, times) in DECK {
                deck.extend(std::iter::repeat_n(*fault, *times));
            }
            random.shuffle(&mut deck);
        }
        let Some(fault) = deck.pop() else { continue };
        *counts.entry(fault.name()).or_default() += 1;
        let fork = random.fork(u64::from(counts.values().sum::<u32>()));
        going_on.spawn(one(Arc::clone(&stack), fault, fork, lease));
        while let Some(done) = going_on.try_join_next() {
            done.context("a fault broke off")??;
        }
    }
    while let Some(done) = going_on.join_next().await {
        done.context("a fault broke off")??;
    }
    Ok(counts)
}

async fn one(
    stack: Arc<Stack>,
    fault: Fault,
    mut random: Random,
    lease: Duration,
) -> anyhow::Result<()> {
    tracing::info!(?fault, "now");
    let worker = &stack.workers[random.below(stack.workers.len())];
    let api = &stack.apis[random.below(stack.apis.len())];
    match fault {
        Fault::WorkerKilled => die(worker, random.between(AWAY.0, AWAY.1)).await,
        Fault::WorkerFrozen => freeze(worker, random.between(lease / 2, lease * 5 / 2)).await,
        Fault::ApiKilled => die(api, random.between(AWAY.0, AWAY.1)).await,
        Fault::ApiFrozen => freeze(api, random.between(FROZEN.0, FROZEN.1)).await,
        Fault::RedisKilled => {
            die(&stack.redis, random.between(AWAY.0, AWAY.1)).await?;
            stack.until_redis_answers().await
        }
        Fault::RedisFrozen => freeze(&stack.redis, random.between(FROZEN.0, FROZEN.1)).await,
        Fault::MessagesCut => stack.tell_redis("CLIENT KILL TYPE pubsub").await,
        Fault::ScriptsForgotten => stack.tell_redis("SCRIPT FLUSH").await,
    }
}

async fn die(program: &Mutex<Program>, away: Duration) -> anyhow::Result<()> {
    let mut program = program.lock().await;
    program.kill().await?;
    sleep(away).await;
    program.start()
}

async fn freeze(program: &Mutex<Program>, time: Duration) -> anyhow::Result<()> {
    let mut program = program.lock().await;
    program.freeze(true)?;
    sleep(time).await;
    program.freeze(false)
}
