//! What goes wrong around the programs, and who looks after it.

use std::time::Duration;

use millstream_shared::{
    id::{ProcessId, RunId},
    run::RunState,
    store::Sweep,
};

use crate::{operations::RETENTION, world::World};

/// Older than this is expired. Nothing gets there by itself while the test
/// runs: leases are made to look old one by one.
const LEASE: Duration = Duration::from_secs(3600);

const CLAIMS_MAX: u32 = 3;

impl World {
    /// Makes a pending entry look as if its worker had been silent for long.
    pub(crate) async fn age(&mut self) -> &'static str {
        let running =
            self.runs_where(|known| known.state == Some(RunState::Running) && !known.destroyed);
        let Some(&run) = self.random.pick(&running) else {
            return "age nothing";
        };
        let fields: Vec<String> = redis::cmd("HMGET")
            .arg(format!("ms:{{0}}:run:{run}"))
            .arg("entry")
            .arg("worker")
            .arg("queue")
            .query_async(&mut self.redis)
            .await
            .unwrap();
        let mut age = redis::cmd("XCLAIM");
        age.arg(format!("ms:{{0}}:queue:{}", fields[2]))
            .arg("workers")
            .arg(&fields[1])
            .arg(0)
            .arg(&fields[0]);
        age.arg("IDLE")
            .arg(2 * LEASE.as_millis() as u64)
            .arg("JUSTID");
        age.exec_async(&mut self.redis).await.unwrap();
        self.known(run).aged = true;
        "age"
    }

    /// Looks for runs of silent workers in all queues, and says how many it
    /// took away.
    pub(crate) async fn reap_all(&mut self, lease: Duration, claims_max: u32) -> u64 {
        let sweep = Sweep {
            partition: 0,
            tags: std::slice::from_ref(&self.tag),
            lease,
            claims_max,
            retention: RETENTION,
        };
        let swept = self.store.reap(&sweep).await.unwrap();
        swept.queued + swept.dead
    }

    pub(crate) async fn reap(&mut self) -> &'static str {
        let aged = self.runs_where(|known| known.aged && known.state == Some(RunState::Running));
        let reaped = self.reap_all(LEASE, CLAIMS_MAX).await;
        assert!(reaped <= aged.len() as u64, "a live run was reaped");
        for run in &aged {
            let (_, state) = self.store.run_state(*run).await.unwrap().unwrap();
            assert_ne!(state, RunState::Running, "an expired lease was passed over");
            let epoch: u64 = redis::cmd("HGET")
                .arg(format!("ms:{{0}}:run:{run}"))
                .arg("epoch")
                .query_async(&mut self.redis)
                .await
                .unwrap();
            assert!(epoch > self.runs[run].epoch, "a reaped run keeps its epoch");
            let known = self.known(*run);
            known.held_by = None;
            known.aged = false;
        }
        if aged.is_empty() {
            "reap nothing"
        } else {
            "reap"
        }
    }

    /// The server forgets its scripts, as after a restart.
    pub(crate) async fn forget_scripts(&mut self) -> &'static str {
        let mut flush = redis::cmd("SCRIPT");
        flush
            .arg("FLUSH")
            .exec_async(&mut self.redis)
            .await
            .unwrap();
        if self.random.once_in(2) {
            self.watch_many().await
        } else {
            "forget scripts"
        }
    }

    /// Entries that nobody should have made.
    pub(crate) async fn litter(&mut self) -> &'static str {
        let all: Vec<RunId> = self.runs.keys().copied().collect();
        let mut add = redis::cmd("XADD");
        add.arg(self.some_stream()).arg("*");
        match (self.random.below(3), self.random.pick(&all)) {
            (0, Some(run)) => add.arg("run").arg(run.to_string()),
            (1, _) => add.arg("run").arg("no-run-of-ours"),
            _ => add.arg("rubbish").arg("x"),
        };
        add.exec_async(&mut self.redis).await.unwrap();
        "litter"
    }

    /// A worker dies; another process takes its place.
    pub(crate) fn crash(&mut self) -> &'static str {
        let (index, _) = self.worker();
        self.workers[index] = ProcessId::new();
        for known in self.runs.values_mut() {
            if known.held_by == Some(index) {
                known.held_by = None;
            }
        }
        "crash"
    }

    /// Somebody overwrites the record of a run that holds no place.
    pub(crate) async fn destroy(&mut self) -> &'static str {
        let queued = self.runs_where(|known| {
            known.state == Some(RunState::Queued) && known.leases.is_empty() && !known.destroyed
        });
        let Some(&run) = self.random.pick(&queued) else {
            return "destroy nothing";
        };
        let key = format!("ms:{{0}}:run:{run}");
        let limited: Option<String> = redis::cmd("HGET")
            .arg(&key)
            .arg("limited")
            .query_async(&mut self.redis)
            .await
            .unwrap();
        if limited.is_some() {
            return "destroy nothing";
        }
        redis::cmd("SET")
            .arg(&key)
            .arg("rubbish")
            .exec_async(&mut self.redis)
            .await
            .unwrap();
        self.known(run).destroyed = true;
        "destroy"
    }
}
