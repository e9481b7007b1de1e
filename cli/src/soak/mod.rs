//! `millstream soak`: a service under load, with programs that die and freeze,
//! and a verdict over what it promises.

mod callers;
mod faults;
mod history;
mod random;
mod stack;
mod verdict;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, anyhow};
use millstream_shared::{
    duration::Span,
    process::stop_signal,
    store::{Fault, Store},
};
use serde_json::json;
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval},
};

use self::{
    callers::Load,
    history::History,
    random::Random,
    stack::{Plan, Stack},
};
use crate::{
    failure::{Failure, Outcome},
    output, redis_address, redis_program,
    service::{Service, ServiceSettings},
};

/// How long runs may take to end once nothing goes wrong any more.
const ENDED_WITHIN: Duration = Duration::from_secs(120);
/// How many problems are shown.
const SHOWN_MAX: usize = 20;

/// Load a service, let things go wrong, and say whether it kept its promises
///
/// Starts a Redis, API processes and workers of its own, and then runs without
/// end while workers, API processes and Redis are killed and frozen at random.
/// Afterwards it looks whether every accepted run has ended, whether what was
/// stored once has changed, whether every caller who waited was told what is
/// stored, and whether nothing is left over. Prints a verdict as one JSON object,
/// and ends with exit status 1 where it is not `clean`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// How long things go wrong
    #[arg(long, default_value_t = 1.0, value_parser = minutes)]
    minutes: f64,

    /// What is done to which program follows from it [default: drawn, and shown]
    #[arg(long)]
    seed: Option<u64>,

    /// How many workers to start
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    workers: u16,

    /// How many API processes to start
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=16))]
    apis: u16,

    /// How many callers start runs at the same time
    #[arg(long, default_value_t = 48, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    callers: u64,

    /// How many runs all of them start in a second at most
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    rate: u64,

    /// How long a silent worker keeps its runs
    #[arg(long, default_value = "3s", value_parser = Span::setting)]
    lease: Duration,

    /// When Redis brings its append-only file to the disk: `always`, or
    /// `everysec`, where a slow disk can cost what was acknowledged last
    #[arg(long, default_value = "always", value_parser = ["always", "everysec"])]
    appendfsync: String,

    /// The program to start as Redis [default: as for `millstream up`]
    #[arg(long, env = "MILLSTREAM_REDIS_SERVER", value_name = "PROGRAM")]
    redis_server: Option<PathBuf>,

    /// An empty folder for logs and data [default: one that is removed at the
    /// end where the verdict is clean]
    #[arg(long)]
    folder: Option<PathBuf>,

    /// Load a service that runs already instead of starting one. Nothing of it
    /// is killed: do that yourself meanwhile
    #[arg(long)]
    existing: bool,

    /// With --existing: address of the Redis of the service [default: that of
    /// the `millstream up` on the data folder]
    #[arg(long, env = "MILLSTREAM_REDIS_URL", hide_env_values = true)]
    redis_url: Option<String>,

    #[command(flatten)]
    service: ServiceSettings,
}

fn minutes(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(minutes) if (0.05..=10_000.0).contains(&minutes) => Ok(minutes),
        _ => Err("expected a number of minutes from 0.05 to 10000".to_owned()),
    }
}

pub(crate) async fn run(arguments: Arguments) -> Result<Outcome, Failure> {
    let seed = match arguments.seed {
        Some(seed) => seed,
        None => getrandom::u64().context("no seed can be drawn")?,
    };
    eprintln!("seed {seed}");
    let kept = tempfile::Builder::new()
        .prefix("millstream-soak-")
        .tempdir();
    let mut kept = kept.context("cannot make a folder")?;
    let folder = match &arguments.folder {
        Some(folder) => {
            std::fs::create_dir_all(folder).map_err(anyhow::Error::new)?;
            folder.canonicalize().map_err(anyhow::Error::new)?
        }
        None => kept.path().to_owned(),
    };
    let stopping = stop_signal().context("cannot wait for signals")?;
    // What was started ends with the future that started it.
    let soaking = stopping.run_until_cancelled(soak(&arguments, seed, &folder));
    let ended = soaking
        .await
        .unwrap_or_else(|| Err(anyhow!("stopped before there was a verdict").into()));
    let clean = matches!(&ended, Ok(verdict) if verdict.problems.is_empty());
    if !clean {
        kept.disable_cleanup(true);
        eprintln!("what was logged is in {}", folder.display());
    }
    let verdict = ended?;
    output::json_line(&verdict.as_json(seed))?;
    Ok(if clean { Outcome::Done } else { Outcome::Bad })
}

/// What came of a soak.
struct Verdict {
    seconds: f64,
    runs: usize,
    waits: u64,
    faults: BTreeMap<&'static str, u32>,
    problems: Vec<String>,
}

impl Verdict {
    fn as_json(&self, seed: u64) -> serde_json::Value {
        let shown: Vec<_> = self.problems.iter().take(SHOWN_MAX).collect();
        json!({
            "verdict": if self.problems.is_empty() { "clean" } else { "broken" },
            "seed": seed,
            "seconds": (self.seconds * 10.0).round() / 10.0,
            "acceptedRuns": self.runs,
            "answeredWaits": self.waits,
            "faults": self.faults,
            "problems": self.problems.len(),
            "shown": shown,
        })
    }
}

/// The service that is loaded.
enum Target {
    /// Started here, and disturbed.
    Own(Arc<Stack>, Vec<Service>, Store),
    /// Somebody else's, and left alone.
    Existing(Vec<Service>, Store),
}

async fn target(arguments: &Arguments, seed: u64, folder: &Path) -> Result<Target, Failure> {
    if arguments.existing {
        let named = arguments.redis_url.as_deref();
        let store = redis_address::open(named, &arguments.service.data_dir).await?;
        return Ok(Target::Existing(
            vec![Service::new(&arguments.service)?],
            store,
        ));
    }
    let program = redis_program::find(arguments.redis_server.as_deref()).await?;
    let plan = Plan {
        workers: arguments.workers.into(),
        apis: arguments.apis.into(),
        lease: arguments.lease,
        append_sync: arguments.appendfsync.clone(),
        redis_program: program.path,
        key: format!(
            "soak-{seed}-{:x}",
            getrandom::u64().map_err(anyhow::Error::new)?
        ),
    };
    let stack = Stack::start(&plan, folder).await?;
    let services = stack.urls.iter().map(|url| {
        let url = url.parse().map_err(|error| anyhow!("{url}: {error}"))?;
        Service::at(url, &plan.key)
    });
    let services = services.collect::<Result<Vec<_>, Failure>>()?;
    let store = stack.store().await?;
    Ok(Target::Own(Arc::new(stack), services, store))
}

async fn soak(arguments: &Arguments, seed: u64, folder: &Path) -> Result<Verdict, Failure> {
    let target = target(arguments, seed, folder).await?;
    let (stack, services, store) = match target {
        Target::Own(stack, services, store) => (Some(stack), services, store),
        Target::Existing(services, store) => (None, services, store),
    };
    until_published(&services[0]).await?;
    let random = Random::new(seed);
    let history = Arc::new(History::new(&folder.join("history.ndjson"))?);
    let began = Instant::now();
    let end = began + Duration::from_secs_f64(arguments.minutes * 60.0);
    let mut pace = interval(Duration::from_secs(1) / u32::try_from(arguments.rate).unwrap_or(1));
    pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let load = Arc::new(Load {
        services,
        history: Arc::clone(&history),
        seed,
        end,
        pace: tokio::sync::Mutex::new(pace),
    });
    let mut callers = JoinSet::new();
    for caller in 0..arguments.callers {
        callers.spawn(callers::call(
            Arc::clone(&load),
            caller,
            random.fork(caller + 10),
        ));
    }
    let observing = verdict::observe(store.clone(), Arc::clone(&history), random.fork(1), end);
    let observing = tokio::spawn(observing);
    let telling = tokio::spawn(tell_progress(Arc::clone(&history), end));
    let faults = match &stack {
        Some(stack) => {
            faults::inflict(Arc::clone(stack), random.fork(2), arguments.lease, end).await?
        }
        None => BTreeMap::new(),
    };
    while let Some(called) = callers.join_next().await {
        called.context("a caller broke off")??;
    }
    let observed = observing.await.context("the observer broke off")?;
    telling.abort();
    let (runs, waits, mut problems) = history.close()?;
    problems.extend(judge(&store, &runs, &observed, stack.is_some()).await?);
    if let Some(stack) = &stack {
        problems.extend(ended_programs(stack).await);
    }
    Ok(Verdict {
        seconds: began.elapsed().as_secs_f64(),
        runs: runs.len(),
        waits,
        faults,
        problems,
    })
}

/// API processes that were just started may not answer yet.
async fn until_published(service: &Service) -> Result<(), Failure> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        match callers::publish(service).await {
            Err(failure) if failure.may_pass() && Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            published => return published,
        }
    }
}

/// Says now and then how far it is, for a person who waits.
async fn tell_progress(history: Arc<History>, end: Instant) {
    loop {
        tokio::time::sleep(Duration::from_secs(10)).await;
        let left = end.saturating_duration_since(Instant::now()).as_secs();
        eprintln!("{} runs accepted, {left} s left", history.accepted_runs());
    }
}

/// Everything that may not be, once nothing goes wrong any more.
async fn judge(
    store: &Store,
    runs: &std::collections::HashMap<millstream_shared::id::RunId, history::Told>,
    observed: &verdict::Observed,
    is_own: bool,
) -> anyhow::Result<Vec<String>> {
    let deadline = Instant::now() + ENDED_WITHIN;
    let mut problems = Vec::new();
    match verdict::until_all_ended(store, runs, deadline).await {
        Ok(ended) => problems.extend(verdict::contradictions(runs, &ended)),
        Err(error) => problems.push(format!("{error:#}")),
    }
    problems.extend(verdict::mixed_attempts(store, runs).await?);
    problems.extend(verdict::rewritten(store, observed).await?);
    // Runs of callers that never heard of them may still be on their way. In a
    // service that is somebody else's, others are for good.
    let checkup = loop {
        let checkup = store
            .fsck(false)
            .await
            .context("cannot look for leftovers")?;
        if is_own && checkup.open > 0 && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(500)).await;
        } else {
            break checkup;
        }
    };
    if is_own && checkup.open > 0 {
        problems.push(format!("{} runs have not ended", checkup.open));
    }
    let is_ours = |fault: &Fault| {
        let run = fault.subject.parse();
        is_own || run.is_ok_and(|run| runs.contains_key(&run))
    };
    let faults = checkup.faults.into_iter().filter(is_ours);
    problems.extend(faults.map(|fault| format!("{}: {}", fault.subject, fault.what)));
    Ok(problems)
}

/// Programs that ended although nobody killed them.
async fn ended_programs(stack: &Stack) -> Vec<String> {
    let programs = std::iter::once(&stack.redis)
        .chain(&stack.workers)
        .chain(&stack.apis);
    let mut problems = Vec::new();
    for program in programs {
        let mut program = program.lock().await;
        if let Err(error) = program.check_alive() {
            problems.push(format!("{error:#}"));
        }
    }
    problems
}
