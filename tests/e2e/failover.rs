//! A master that is lost and replaced: behind sentinels, and in a cluster.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use harness::{
    Answer, Client, Redis, RedisCluster, SOON, Service, Setup, WatchedRedis, eventually,
};
use millstream_shared::{
    flow::WhenFull,
    id::{ProcessId, RunId, WorkerTag},
    process::RedisSettings,
    run::{Priority, RunState, StartRequest},
    store::{Consumer, Enqueue, Enqueued, GroupLimit, Lease, Store, StoreError, When},
};
use tokio::task::JoinSet;

use crate::flows::quick;

const RETENTION: Duration = Duration::from_secs(3600);

/// How many callers start runs at the same time.
const CALLERS: usize = 8;

async fn store(redis: &impl Redis) -> Store {
    let settings = RedisSettings {
        url: redis.url(),
        timeout: Duration::from_secs(2),
        partitions: None,
    };
    Store::connect(&settings).await.unwrap()
}

fn start_of(run: RunId) -> Enqueue {
    Enqueue {
        run,
        flow: "flow".parse().unwrap(),
        version: 1,
        tag: WorkerTag::default(),
        priority: Priority::Normal,
        request: StartRequest::default(),
        when: When::Now,
        limit: None,
        waiter: None,
        idempotency: None,
        open_max: 1000,
        open_of_flow_max: 1000,
        retention: RETENTION,
    }
}

async fn claim(store: &Store, partition: u8) -> Option<Lease> {
    let tags = [WorkerTag::default()];
    let consumer = Consumer {
        worker: ProcessId::new(),
        lease: Duration::from_secs(3600),
    };
    let claimed = store.claim(partition, &tags, Priority::ALL, consumer, 1);
    Some(claimed.await.ok()?.pop()?.lease)
}

/// A replica that knows the run and not its claim is promoted: the claim is
/// given again, and the earlier one must not write.
#[tokio::test]
async fn an_epoch_is_not_given_twice_when_a_lagging_replica_takes_over() {
    let mut redis = WatchedRedis::start().await;
    let store = store(&redis).await;
    let run = store.new_run(&"flow".parse().unwrap(), false);
    let accepted = store.enqueue(&start_of(run)).await.unwrap();
    assert!(matches!(accepted, Enqueued::Accepted { .. }));
    let replicated = eventually(SOON, "the run to reach the replica", || async {
        let key = format!("ms:{{0}}:run:{run}");
        let state: Option<String> = redis.replica.ask(&["HGET", &key, "state"]).await.ok()?;
        state
    })
    .await;
    assert_eq!(replicated, "queued");
    redis.let_replica_lag().await;
    let lost = claim(&store, 0).await.unwrap();
    assert_eq!(lost.run, run);
    redis.master.kill();
    redis.failed_over().await;

    let held = eventually(SOON, "the run to be claimed again", || claim(&store, 0)).await;
    assert_eq!(held.run, run);
    assert_ne!(held.epoch, lost.epoch);
    let late = store.finish(&lost, RunState::Failed, None, None, RETENTION);
    assert!(matches!(late.await, Err(StoreError::LeaseLost)));
    let finish = store.finish(&held, RunState::Succeeded, None, None, RETENTION);
    finish.await.unwrap();
    let (_, state) = store.run_state(run).await.unwrap().unwrap();
    assert_eq!(state, RunState::Succeeded);
}

/// Callers that start runs, and what was accepted.
struct Callers {
    calling: JoinSet<()>,
    accepted: Arc<Mutex<Vec<String>>>,
}

impl Callers {
    /// Callers that start so many runs each, again and again until each is
    /// accepted, or until one is refused because there is no replica any more.
    fn start(client: &Client, query: &'static str, rounds: usize) -> Self {
        let mut callers = Self {
            calling: JoinSet::new(),
            accepted: Arc::default(),
        };
        for caller in 0..CALLERS {
            let accepted = Arc::clone(&callers.accepted);
            let client = client.clone();
            callers.calling.spawn(async move {
                for round in 0..rounds {
                    let key = format!("{query}-{caller}-{round}").replace(['?', '&'], "");
                    let start = || accept(&client, query, &key);
                    match eventually(SOON, "a start to be accepted", start).await {
                        Accepted::AsAsked(run) => accepted.lock().unwrap().push(run),
                        Accepted::WithLess => {}
                        Accepted::Refused => return,
                    }
                }
            });
        }
        callers
    }

    async fn have_accepted(&self, count: usize) {
        eventually(SOON, "some starts to be accepted", || async {
            (self.accepted.lock().unwrap().len() >= count).then_some(())
        })
        .await;
    }

    /// Waits for all callers, and returns the runs that were accepted.
    async fn done(mut self) -> Vec<String> {
        while let Some(called) = self.calling.join_next().await {
            called.unwrap();
        }
        self.accepted.lock().unwrap().clone()
    }
}

/// What came of a start.
enum Accepted {
    /// It is a run, and as durable as asked.
    AsAsked(String),
    /// It is a run, and nobody can say how durable.
    WithLess,
    /// It cannot be as durable as asked.
    Refused,
}

/// A start, or nothing yet where the service could not take it.
async fn accept(client: &Client, query: &str, key: &str) -> Option<Accepted> {
    let request = client.start_request("hello", query);
    let answer = request.header("Idempotency-Key", key).send().await.ok()?;
    let header = |name: &str| answer.headers().get(name)?.to_str().ok();
    let less = query.contains("replicated") && header("x-durability") != Some("replicated");
    match answer.status().as_u16() {
        200 if less => Some(Accepted::WithLess),
        200 => Some(Accepted::AsAsked(header("x-run-id")?.to_owned())),
        400 => Some(Accepted::Refused),
        500 => None,
        status => panic!("{status}"),
    }
}

async fn all_end(client: &Client, runs: &[String]) {
    for run in runs {
        assert_eq!(client.end("hello", run).await, "Succeeded", "{run}");
    }
}

#[tokio::test]
async fn behind_sentinels_a_lost_master_costs_nothing_that_its_replica_had() {
    let redis = WatchedRedis::start().await;
    let setup = Setup {
        workers: 2,
        api: &[("MILLSTREAM_REDIS_TIMEOUT", "1s")],
        worker: &[("MILLSTREAM_REDIS_TIMEOUT", "1s")],
        ..Setup::default()
    };
    let mut service = Service::start_on(redis, setup).await;
    let admin = service.admin();
    admin.publish(&quick("hello")).await;
    assert_eq!(admin.run("hello").await, "Succeeded");
    // The new master has no replica: these callers end when they hear of that.
    let callers = Callers::start(&admin, "?durability=replicated", 100_000);
    callers.have_accepted(50).await;
    service.redis.master.kill();
    service.redis.failed_over().await;
    all_end(&admin, &callers.done().await).await;
    let runs = Callers::start(&admin, "", 20).done().await;
    assert_eq!(runs.len(), 20 * CALLERS);
    all_end(&admin, &runs).await;
    let waited = Answer::of(admin.start_request("hello", "?await=true")).await;
    assert_eq!(waited.run_status(), "Succeeded");
}

#[tokio::test]
async fn in_a_cluster_runs_are_spread_and_every_wait_is_answered_by_a_message() {
    let service = Service::start_on(RedisCluster::start().await, Setup::default()).await;
    let admin = service.admin();
    admin.publish(&quick("hello")).await;
    let mut last_digits = std::collections::BTreeSet::new();
    let began = std::time::Instant::now();
    for _ in 0..60 {
        let answer = Answer::of(admin.start_request("hello", "?await=true")).await;
        assert_eq!(answer.run_status(), "Succeeded", "{answer:?}");
        let run: RunId = answer.run_id().parse().unwrap();
        last_digits.insert(run.partition(12));
    }
    // Without messages each would be answered by the look every ten seconds.
    assert!(began.elapsed() < Duration::from_secs(30), "{began:?}");
    assert!(last_digits.len() > 6, "{last_digits:?}");
    for master in &service.redis.masters {
        let keys: u64 = master.command(&["DBSIZE"]).await;
        assert!(keys > 10, "a master has {keys} keys only");
    }
}

#[tokio::test]
async fn in_a_cluster_a_lost_master_is_replaced_under_load() {
    let redis = RedisCluster::start().await;
    let setup = Setup {
        workers: 2,
        api: &[("MILLSTREAM_REDIS_TIMEOUT", "1s")],
        worker: &[("MILLSTREAM_REDIS_TIMEOUT", "1s")],
        ..Setup::default()
    };
    let mut service = Service::start_on(redis, setup).await;
    let admin = service.admin();
    admin.publish(&quick("hello")).await;
    assert_eq!(admin.run("hello").await, "Succeeded");
    let query = "?await=true&durability=replicated";
    let callers = Callers::start(&admin, query, 100_000);
    callers.have_accepted(50).await;
    // The one that has the flows and keys besides its runs. Callers end when they
    // come to it and hear that it has no replica any more.
    service.redis.masters[0].kill();
    service.redis.failed_over(0).await;
    all_end(&admin, &callers.done().await).await;
    let runs = Callers::start(&admin, "?await=true", 20).done().await;
    assert_eq!(runs.len(), 20 * CALLERS);
    all_end(&admin, &runs).await;
    eventually(SOON, "everybody to be ready again", || async {
        let api = service.apis[0].is_ready().await;
        (api && service.workers[0].is_ready().await).then_some(())
    })
    .await;
}

/// A manual failover: the old master lives on as a replica and says where the
/// slots are now.
#[tokio::test]
async fn in_a_cluster_slots_that_moved_are_followed() {
    let redis = RedisCluster::start().await;
    let store = Arc::new(store(&redis).await);
    let flow = "flow".parse().unwrap();
    let before: Vec<RunId> = (0..40).map(|_| store.new_run(&flow, false)).collect();
    for &run in &before {
        store.enqueue(&start_of(run)).await.unwrap();
    }
    for number in 0..3 {
        let take_over = ["CLUSTER", "FAILOVER"];
        redis.replicas[number].command::<String>(&take_over).await;
        redis.failed_over(number).await;
    }
    let mut start = start_of(store.new_run(&flow, true));
    start.limit = Some(GroupLimit {
        key: "flow".to_owned(),
        limit: 1,
        when_full: WhenFull::Queue,
    });
    let accepted = store.enqueue(&start).await.unwrap();
    assert!(matches!(accepted, Enqueued::Accepted { .. }));
    let mut ended = 0;
    for partition in 0..store.partitions() {
        while let Some(lease) = claim(&store, partition as u8).await {
            let finish = store.finish(&lease, RunState::Succeeded, None, None, RETENTION);
            finish.await.unwrap();
            ended += 1;
        }
    }
    assert_eq!(ended, before.len() + 1);
    let checkup = store.fsck(false).await.unwrap();
    assert_eq!((checkup.open, checkup.faults), (0, Vec::new()));
}
