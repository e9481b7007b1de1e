//! What can happen, drawn at random: what programs do here, what they do too
//! late and what goes wrong around them elsewhere.

use std::time::Duration;

use crate::{
    fsck,
    world::{WORKERS, World},
};
use millstream_shared::{
    flow::WhenFull,
    id::{ProcessId, RunId},
    run::{Priority, RunState, StartRequest},
    store::{
        Cancelled, Claimed, Consumer, Delivered, Enqueue, Enqueued, GroupLimit, Idempotency, When,
    },
};

pub(crate) const RETENTION: Duration = Duration::from_secs(3600);

/// The queues: one for each priority, and that of runs to execute alone.
pub(crate) const STREAMS: [&str; 4] = [
    "ms:{0}:queue:default:high",
    "ms:{0}:queue:default:normal",
    "ms:{0}:queue:default:low",
    "ms:{0}:queue:default:alone",
];

/// A worker as the queue knows it. How old leases are is for the sweeps alone
/// to say here.
pub(crate) fn consumer(worker: ProcessId) -> Consumer {
    Consumer {
        worker,
        lease: Duration::ZERO,
    }
}

impl World {
    /// Does one thing, and says what.
    pub(crate) async fn act(&mut self) -> &'static str {
        let what = match self.random.below(100) {
            0..18 => self.enqueue().await,
            18..38 => self.claim().await,
            38..43 => self.read_and_forget().await,
            43..48 => self.begin_what_was_forgotten().await,
            48..51 => self.hand_back_what_was_forgotten().await,
            51..62 => self.finish().await,
            62..66 => self.requeue().await,
            66..71 => self.checkpoint().await,
            71..75 => self.beat().await,
            75..79 => self.promote().await,
            79..83 => self.cancel().await,
            83..87 => self.age().await,
            87..91 => self.reap().await,
            91..94 => self.watch().await,
            94..96 => self.litter().await,
            96 => self.crash(),
            97 => self.interfere().await,
            98 => self.forget_scripts().await,
            _ => self.destroy().await,
        };
        self.count(what);
        what
    }

    fn new_start(&mut self) -> Enqueue {
        let limit = match self.random.below(4) {
            0 | 1 => None,
            2 => Some(("one", 1)),
            _ => Some(("two", 2)),
        };
        let policies = [
            WhenFull::Queue,
            WhenFull::Queue,
            WhenFull::Skip,
            WhenFull::Fail,
        ];
        let when_full = *self.random.pick(&policies).unwrap();
        let when = match self.random.below(8) {
            0 => When::After(1),
            1 => When::After(3_600_000),
            2 => When::At(1),
            _ => When::Now,
        };
        let idempotency = self.random.once_in(6).then(|| Idempotency {
            key: format!("key-{}", self.random.below(40)),
            fingerprint: format!("body-{}", self.random.below(2)),
        });
        Enqueue {
            run: RunId::new(),
            flow: "flow".parse().unwrap(),
            version: 1,
            tag: self.tag.clone(),
            priority: *self.random.pick(&Priority::ALL).unwrap(),
            request: StartRequest::default(),
            when,
            limit: limit.map(|(key, limit)| GroupLimit {
                key: key.into(),
                limit,
                when_full,
            }),
            waiter: self.random.once_in(3).then_some(self.api),
            idempotency,
            open_max: 200,
            open_of_flow_max: 120,
            retention: RETENTION,
        }
    }

    async fn enqueue(&mut self) -> &'static str {
        let mut start = self.new_start();
        let all: Vec<RunId> = self.runs_where(|known| !known.destroyed);
        if self.random.once_in(8)
            && let Some(run) = self.random.pick(&all)
        {
            // The answer to an earlier start got lost: the same run again.
            start.run = *run;
            let before = self.runs[run].state.unwrap();
            let state = self.store.enqueue(&start).await.unwrap();
            assert_eq!(state, Enqueued::Accepted { state: before });
            return "enqueue again";
        }
        match self.store.enqueue(&start).await.unwrap() {
            Enqueued::Accepted { state } => {
                let known = self.runs.entry(start.run).or_default();
                // Of a run that ends at once the answer itself tells.
                known.watched = start.waiter.is_some() && !state.is_final();
                "enqueue"
            }
            Enqueued::Replayed { run } => {
                assert!(self.runs.contains_key(&run));
                "enqueue replayed"
            }
            Enqueued::OtherBody => "enqueue refused",
            Enqueued::Full(_) => "enqueue full",
        }
    }

    pub(crate) fn worker(&mut self) -> (usize, ProcessId) {
        let index = self.random.below(WORKERS);
        (index, self.workers[index])
    }

    pub(crate) fn note_claimed(&mut self, worker: usize, claimed: Vec<Claimed>) {
        for claimed in claimed {
            let known = self.known(claimed.lease.run);
            assert_ne!(
                known.leases.last(),
                Some(&claimed.lease),
                "an epoch was given twice"
            );
            known.leases.push(claimed.lease);
            known.held_by = Some(worker);
            known.aged = false;
        }
    }

    async fn claim(&mut self) -> &'static str {
        let (index, worker) = self.worker();
        let room = 1 + self.random.below(3);
        let tags = [self.tag.clone()];
        let (order, _) = self.turns.take();
        let claimed = if self.random.once_in(4) {
            let claimed = self.store.claim_alone(0, &tags, consumer(worker));
            claimed.await.unwrap().into_iter().collect()
        } else {
            let claimed = self.store.claim(0, &tags, order, consumer(worker), room);
            claimed.await.unwrap()
        };
        assert!(claimed.len() <= room);
        let got = !claimed.is_empty();
        if self.random.once_in(6) {
            // The answer gets lost: Redis thinks that the worker has the runs.
            for claimed in claimed {
                let known = self.known(claimed.lease.run);
                known.leases.push(claimed.lease);
                known.held_by = None;
                known.aged = false;
            }
            return "claim unheard";
        }
        self.note_claimed(index, claimed);
        if got { "claim" } else { "claim nothing" }
    }

    /// A blocking read whose answer nobody gets to see.
    async fn read_and_forget(&mut self) -> &'static str {
        let (_, worker) = self.worker();
        let mut read = redis::cmd("XREADGROUP");
        read.arg("GROUP").arg("workers").arg(worker.to_string());
        read.arg("COUNT").arg(2).arg("STREAMS");
        read.arg(self.some_stream()).arg(">");
        // Without a group there is nothing to read yet.
        let _: redis::RedisResult<redis::Value> = read.query_async(&mut self.redis).await;
        "read unheard"
    }

    /// What the worker holds in Redis without knowing.
    async fn forgotten(&mut self, index: usize) -> Vec<Delivered> {
        let tags = [self.tag.clone()];
        let mut reader =
            self.store
                .queue_reader(0, &tags, self.workers[index], Duration::from_millis(1));
        let Ok(mut delivered) = reader.next().await else {
            return Vec::new();
        };
        for run in delivered.iter().filter_map(Delivered::run) {
            // Redis counts reading one's own entries as a sign of life. An entry
            // that only names a run of somebody else is not the run's own.
            let owner: redis::RedisResult<Option<String>> = redis::cmd("HGET")
                .arg(format!("ms:{{0}}:run:{run}"))
                .arg("worker")
                .query_async(&mut self.redis)
                .await;
            let is_owner = owner == Ok(Some(self.workers[index].to_string()));
            if let Some(known) = self.runs.get_mut(&run).filter(|_| is_owner) {
                known.aged = false;
            }
        }
        delivered.retain(|entry| {
            let known = entry.run().and_then(|run| self.runs.get(&run));
            known.is_none_or(|known| known.held_by != Some(index))
        });
        delivered
    }

    async fn begin_what_was_forgotten(&mut self) -> &'static str {
        let (index, worker) = self.worker();
        let forgotten = self.forgotten(index).await;
        if forgotten.is_empty() {
            return "begin nothing";
        }
        let claimed = self
            .store
            .begin(0, &forgotten, consumer(worker))
            .await
            .unwrap();
        self.note_claimed(index, claimed);
        "begin"
    }

    async fn hand_back_what_was_forgotten(&mut self) -> &'static str {
        let (index, worker) = self.worker();
        let forgotten = self.forgotten(index).await;
        if forgotten.is_empty() {
            return "hand back nothing";
        }
        self.store
            .hand_back(0, &forgotten, consumer(worker))
            .await
            .unwrap();
        "hand back"
    }

    async fn promote(&mut self) -> &'static str {
        self.store.promote(0, RETENTION).await.unwrap();
        "promote"
    }

    async fn cancel(&mut self) -> &'static str {
        let all = self.runs_where(|known| !known.destroyed);
        let Some(&run) = self.random.pick(&all) else {
            return "cancel nothing";
        };
        let before = self.runs[&run].state.unwrap();
        let expected = match before {
            RunState::Running => Cancelled::Requested,
            state if state.is_final() => Cancelled::HadEnded,
            _ => Cancelled::AtOnce,
        };
        assert_eq!(self.store.cancel(run, RETENTION).await.unwrap(), expected);
        self.known(run).cancelling |= expected == Cancelled::Requested;
        "cancel"
    }

    pub(crate) fn some_stream(&mut self) -> &'static str {
        self.random.pick(&STREAMS).unwrap()
    }

    /// Asks for many runs in one pipeline.
    pub(crate) async fn watch_many(&mut self) -> &'static str {
        let all = self.runs_where(|known| !known.destroyed);
        let states = self.store.watch_many(&all, self.api).await;
        let states = match states {
            Ok(states) => states,
            Err(error) => panic!("{error}"),
        };
        assert_eq!(states.len(), all.len());
        for (run, state) in states {
            let known = self.known(run);
            assert_eq!(known.state, state);
            known.watched |= !state.is_some_and(RunState::is_final);
        }
        "watch many"
    }

    async fn watch(&mut self) -> &'static str {
        let all = self.runs_where(|known| !known.destroyed);
        let Some(&run) = self.random.pick(&all) else {
            return "watch nothing";
        };
        let (_, state) = self.store.watch(run, self.api).await.unwrap().unwrap();
        assert_eq!(self.runs[&run].state, Some(state));
        self.known(run).watched |= !state.is_final();
        "watch"
    }

    /// Lets everything come to its end: what is delayed for long is cancelled,
    /// what was forgotten is found, what is claimed is finished.
    pub(crate) async fn drain(&mut self) {
        for run in self.runs_where(|known| known.state == Some(RunState::Delayed)) {
            self.store.cancel(run, RETENTION).await.unwrap();
        }
        for index in 0..WORKERS {
            self.workers[index] = ProcessId::new();
        }
        self.heal().await;
        for _ in 0..10_000 {
            let reaped = self.reap_all(Duration::ZERO, u32::MAX).await;
            fsck::check(self).await.unwrap();
            let tags = [self.tag.clone()];
            let consumer = consumer(self.workers[1]);
            let claim = self.store.claim(0, &tags, Priority::ALL, consumer, 100);
            let mut claimed = claim.await.unwrap();
            let alone = self.store.claim_alone(0, &tags, consumer).await.unwrap();
            claimed.extend(alone);
            fsck::check(self).await.unwrap();
            for Claimed { lease, .. } in &claimed {
                let finish = self
                    .store
                    .finish(lease, RunState::Succeeded, None, None, RETENTION);
                finish.await.unwrap();
                fsck::check(self).await.unwrap();
            }
            let mut entries = 0;
            for stream in STREAMS {
                let mut count = redis::cmd("XLEN");
                let counted: u64 = count
                    .arg(stream)
                    .query_async(&mut self.redis)
                    .await
                    .unwrap();
                entries += counted;
            }
            if claimed.is_empty() && reaped == 0 && entries == 0 {
                return;
            }
        }
        panic!("the queue does not become empty");
    }
}
