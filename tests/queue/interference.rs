//! What a person with access to Redis can do to it, and how the queue mends it.

use std::collections::HashSet;

use millstream_shared::{
    id::RunId,
    run::{Priority, RunState},
    store::{Fault, RunsLookedAt},
};

use crate::{operations::consumer, world::World};

impl World {
    /// Somebody takes something away that is not his, and then the runs that it
    /// hit are looked for.
    pub(crate) async fn interfere(&mut self) -> &'static str {
        let stream = self.some_stream();
        let what = match self.random.below(7) {
            0 => {
                self.outside(&["DEL", stream]).await;
                "delete a stream"
            }
            1 => {
                self.delete_entry().await;
                "delete an entry"
            }
            2 => {
                self.outside(&["XGROUP", "DESTROY", stream, "workers"])
                    .await;
                self.make_group_anew(stream).await;
                "destroy a group"
            }
            3 => {
                let consumer = self.workers[self.random.below(self.workers.len())].to_string();
                let delete = ["XGROUP", "DELCONSUMER", stream, "workers", &consumer];
                self.outside(&delete).await;
                "delete a consumer"
            }
            4 => {
                self.outside(&["DEL", "ms:{0}:delayed"]).await;
                "forget what is delayed"
            }
            5 => {
                let group = ["one", "two"][self.random.below(2)];
                let line = format!("ms:{{0}}:parked:{group}");
                self.outside(&["DEL", &line]).await;
                "forget who is parked"
            }
            _ => "mend nothing",
        };
        let faults = self.heal().await;
        if what == "mend nothing" {
            assert!(faults.is_empty(), "nothing was wrong, but {faults:?}");
        }
        let again = self.heal().await;
        assert!(again.is_empty(), "{what}: {faults:?}, and then {again:?}");
        what
    }

    /// Looks at every open run once, and says which needed it. Runs whose
    /// records were destroyed do by right.
    pub(crate) async fn heal(&mut self) -> Vec<Fault> {
        let mut place = RunsLookedAt::default();
        let mut faults = Vec::new();
        loop {
            let (found, round) = self.store.heal_some(&mut place).await.unwrap();
            faults.extend(found);
            if round {
                break;
            }
        }
        let mended: HashSet<_> = faults.iter().map(|fault| fault.subject.clone()).collect();
        for run in self.runs_where(|known| known.state == Some(RunState::Running)) {
            if mended.contains(&run.to_string()) {
                // Its lease begins anew, with the same owner or another.
                self.known(run).aged = false;
            }
            if !self.known(run).destroyed {
                self.forget_lost_owner(run).await;
            }
        }
        let destroyed = self.runs_where(|known| known.destroyed);
        let destroyed: HashSet<_> = destroyed.iter().map(RunId::to_string).collect();
        faults.retain(|fault| !destroyed.contains(&fault.subject));
        faults
    }

    async fn forget_lost_owner(&mut self, run: RunId) {
        let (_, state) = self.store.run_state(run).await.unwrap().unwrap();
        if state != RunState::Running {
            self.known(run).held_by = None;
        }
    }

    /// Deletes the entry of a run that is queued or running.
    async fn delete_entry(&mut self) {
        let runs = self.runs_where(|known| {
            let state = known.state;
            let in_stream = [Some(RunState::Queued), Some(RunState::Running)].contains(&state);
            in_stream && !known.destroyed
        });
        let Some(&run) = self.random.pick(&runs) else {
            return;
        };
        let (stream, entry) = self.entry_of(run).await;
        self.outside(&["XDEL", &stream, &entry]).await;
    }

    /// A worker comes by that makes the group of a stream anew. Everything is
    /// delivered to it, and what others execute goes back to them.
    async fn make_group_anew(&mut self, stream: &str) {
        let (index, worker) = self.worker();
        let tags = [self.tag.clone()];
        loop {
            let consumer = consumer(worker);
            let claim = self.store.claim(0, &tags, Priority::ALL, consumer, 1000);
            let mut claimed = claim.await.unwrap();
            // One entry at a time, and perhaps one that somebody executes.
            let mut count = redis::cmd("XLEN");
            let count = count.arg("ms:{0}:queue:default:alone");
            let entries: u64 = count.query_async(&mut self.redis).await.unwrap();
            for _ in 0..entries {
                claimed.extend(self.store.claim_alone(0, &tags, consumer).await.unwrap());
            }
            let none = claimed.is_empty();
            self.note_claimed(index, claimed);
            if none {
                break;
            }
        }
        for run in self.runs_where(|known| known.state == Some(RunState::Running)) {
            let (queue, _) = self.entry_of(run).await;
            if queue == stream {
                self.known(run).aged = false;
            }
        }
    }

    /// The stream and the entry of a run.
    async fn entry_of(&mut self, run: RunId) -> (String, String) {
        let (queue, entry): (String, String) = redis::cmd("HMGET")
            .arg(format!("ms:{{0}}:run:{run}"))
            .arg(&["queue", "entry"])
            .query_async(&mut self.redis)
            .await
            .unwrap();
        (format!("ms:{{0}}:queue:{queue}"), entry)
    }

    async fn outside(&mut self, words: &[&str]) {
        let mut command = redis::cmd(words[0]);
        // There may be nothing to take away yet.
        let _: redis::RedisResult<redis::Value> =
            command.arg(&words[1..]).query_async(&mut self.redis).await;
    }
}
