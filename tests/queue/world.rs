//! What the test knows of the runs, workers and waiting API processes that it
//! plays.

use std::collections::{BTreeMap, HashMap};

use harness::{PrivateRedis, SOON};
use millstream_shared::{
    id::{ProcessId, RunId, WorkerTag},
    run::{RunState, Turns},
    store::{Lease, Notice, Store},
};
use redis::aio::MultiplexedConnection;
use tokio::{sync::mpsc, time::timeout};

use harness::Random;

pub(crate) const WORKERS: usize = 3;

/// A run as the test knows it.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// The state that was seen last.
    pub(crate) state: Option<RunState>,
    /// Every lease that was ever given on it, the newest last.
    pub(crate) leases: Vec<Lease>,
    /// Who executes it, as far as the workers know.
    pub(crate) held_by: Option<usize>,
    pub(crate) epoch: u64,
    /// How often `finish` said that it ended the run, by epoch.
    pub(crate) finished: usize,
    /// What each step's first checkpoint said.
    pub(crate) steps: HashMap<String, String>,
    /// Whether an API process waits, registered before the end.
    pub(crate) watched: bool,
    /// Somebody asked its worker to cancel it.
    pub(crate) cancelling: bool,
    /// Its lease was made to look expired.
    pub(crate) aged: bool,
    /// Its record was overwritten with something else.
    pub(crate) destroyed: bool,
}

pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) redis: MultiplexedConnection,
    pub(crate) random: Random,
    pub(crate) tag: WorkerTag,
    pub(crate) turns: Turns,
    pub(crate) workers: [ProcessId; WORKERS],
    pub(crate) api: ProcessId,
    pub(crate) runs: BTreeMap<RunId, Known>,
    pub(crate) done: BTreeMap<&'static str, u32>,
    notices: mpsc::UnboundedReceiver<Notice>,
}

impl World {
    pub(crate) async fn new(store: Store, redis: &PrivateRedis, random: Random) -> Self {
        let api = ProcessId::new();
        let (sender, mut notices) = mpsc::unbounded_channel();
        let mut news = store.news(api).remove(0);
        tokio::spawn(async move {
            loop {
                let notice = news.next().await;
                if sender.send(notice).is_err() {
                    return;
                }
            }
        });
        let first = timeout(SOON, notices.recv()).await.unwrap();
        assert_eq!(first, Some(Notice::Subscribed));
        Self {
            store,
            redis: redis.connection().await,
            random,
            tag: WorkerTag::default(),
            turns: Turns::default(),
            workers: std::array::from_fn(|_| ProcessId::new()),
            api,
            runs: BTreeMap::new(),
            done: BTreeMap::new(),
            notices,
        }
    }

    /// Runs for which `wanted` holds.
    pub(crate) fn runs_where(&self, wanted: impl Fn(&Known) -> bool) -> Vec<RunId> {
        let wanted = self.runs.iter().filter(|(_, known)| wanted(known));
        wanted.map(|(id, _)| *id).collect()
    }

    pub(crate) fn known(&mut self, run: RunId) -> &mut Known {
        self.runs.get_mut(&run).expect("the test made every run")
    }

    pub(crate) fn count(&mut self, what: &'static str) {
        *self.done.entry(what).or_default() += 1;
    }

    /// How often what was done.
    pub(crate) fn tally(&self) -> String {
        let done = self.done.iter();
        let words: Vec<_> = done
            .map(|(what, times)| format!("{what} {times}"))
            .collect();
        format!("{} runs: {}", self.runs.len(), words.join(", "))
    }

    /// Everybody who registered before the end was told, once, and the truth.
    pub(crate) async fn check_notices(&mut self, seed: u64) {
        let mut expected: HashMap<RunId, RunState> = self
            .runs
            .iter()
            .filter(|(_, known)| known.watched && !known.destroyed)
            .map(|(id, known)| (*id, known.state.expect("it was seen")))
            .collect();
        while !expected.is_empty() {
            let notice = timeout(SOON, self.notices.recv()).await;
            let Ok(Some(Notice::RunEnded { run, state })) = notice else {
                panic!("seed {seed}: not told of {expected:?}, but {notice:?}");
            };
            if self.runs[&run].destroyed {
                continue;
            }
            assert_eq!(expected.remove(&run), Some(state), "seed {seed}: {run}");
        }
    }
}
