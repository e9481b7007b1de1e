//! Workers die by the dozen, at random moments and at every point between two
//! effects, while runs change tables, files and folders: in the end there is
//! what one clean run leaves.
//!
//! `MILLSTREAM_TEST_KILLS` says how many die for each database, and
//! `MILLSTREAM_TEST_SEED` repeats the choices of a run before.

mod change;

use std::{
    collections::HashMap,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use harness::{Random, SOON, setting};
use serde_json::{Value, json};

use super::{On, Place, SECRETS_KEY, flow};
use change::{CHANGES, Change, POINTS, SOURCES, drafts, put_sources};

/// How many workers die for each database.
const KILLS: usize = 24;

/// How many workers live at once.
const WORKERS: usize = 2;

/// How many runs are on their way at once.
const RUNS: usize = 6;

/// How long a worker lives at the most that dies at a random moment.
const LIFE_MS: usize = 1500;

/// No run is set aside because so many of its workers were lost, and none
/// fails because another one has what it needs.
const PATIENT: &[(&str, &str)] = &[
    ("MILLSTREAM_SECRETS_KEY", SECRETS_KEY),
    ("MILLSTREAM_DATABASE_LOCK_WAIT", "60s"),
    ("MILLSTREAM_MAX_CLAIMS", "10000"),
    ("MILLSTREAM_LEASE", "1s"),
];

/// How a worker dies.
#[derive(Clone, Debug)]
enum Death {
    /// When it comes to this point.
    At(String),
    /// By SIGKILL, so long after its start.
    After(Duration),
}

/// A run and what it changes.
struct Started {
    change: Change,
    source: &'static str,
    name: String,
    run: String,
}

/// A worker that will die.
struct Doomed {
    index: usize,
    death: Death,
    until: Instant,
}

/// A service and a database in which everybody dies.
struct Battlefield {
    place: Place,
    random: Random,
    started: Vec<Started>,
    /// How many names have been given.
    names: usize,
}

impl Battlefield {
    /// Starts a run that makes a change.
    async fn start(&mut self, change: Change, source: &'static str) -> &Started {
        let name = format!("t{}", self.names);
        self.names += 1;
        change.prepare(&self.place, &name).await;
        let steps = change.steps(&name, source);
        let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
        let admin = self.place.service.admin();
        admin.publish(&flow(&name, "default", &steps)).await;
        let run = admin.start(&name).await;
        self.started.push(Started {
            change,
            source,
            name,
            run,
        });
        self.started.last().unwrap()
    }

    /// Sees to it that there is something to do.
    async fn keep_busy(&mut self) {
        let open: usize = self
            .place
            .service
            .redis
            .command(&["ZCARD", "ms:{0}:open"])
            .await;
        for _ in open..RUNS {
            let change = *self.random.pick(&CHANGES).unwrap();
            let (source, _) = *self.random.pick(&SOURCES).unwrap();
            self.start(change, source).await;
        }
    }

    /// Every point once, and random moments besides.
    fn deaths(&mut self, count: usize) -> Vec<Death> {
        let mut deaths: Vec<Death> = POINTS
            .iter()
            .map(|point| Death::At(format!("{point}:{}", 1 + self.random.below(2))))
            .collect();
        while deaths.len() < count {
            let life = self.random.below(LIFE_MS) as u64;
            deaths.push(match self.random.once_in(4) {
                true => Death::At(format!("{}:1", self.random.pick(&POINTS).unwrap())),
                false => Death::After(Duration::from_millis(life)),
            });
        }
        for last in (1..deaths.len()).rev() {
            deaths.swap(last, self.random.below(last + 1));
        }
        deaths
    }

    async fn start_worker(&mut self, death: Death) -> Doomed {
        let (fault, life) = match &death {
            Death::At(point) => (vec![("MILLSTREAM_FAULT", point.clone())], 2 * SOON),
            Death::After(life) => (Vec::new(), *life),
        };
        self.place.service.start_worker(&fault).await;
        Doomed {
            index: self.place.service.workers.len() - 1,
            death,
            until: Instant::now() + life,
        }
    }

    /// Whether a worker has died, by its own hand or by ours.
    fn is_dead(&mut self, doomed: &Doomed) -> bool {
        let worker = &mut self.place.service.workers[doomed.index];
        let is_time = Instant::now() >= doomed.until;
        match (&doomed.death, worker.is_running()) {
            (Death::At(_), false) => true,
            (Death::At(point), true) => {
                assert!(!is_time, "no worker came to {point}");
                false
            }
            (Death::After(_), true) if is_time => {
                worker.kill();
                true
            }
            (Death::After(_), true) => false,
            (Death::After(_), false) => panic!("a worker ended that nobody killed"),
        }
    }

    /// Lets workers die, one after the other in each of their places.
    async fn fight(&mut self, mut deaths: Vec<Death>) {
        let mut alive: Vec<Doomed> = Vec::new();
        while !(deaths.is_empty() && alive.is_empty()) {
            self.keep_busy().await;
            alive.retain(|doomed| !self.is_dead(doomed));
            while alive.len() < WORKERS
                && let Some(death) = deaths.pop()
            {
                alive.push(self.start_worker(death).await);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// What each change leaves that nothing disturbs: what is there, and what
    /// its step hands on.
    async fn clean(&mut self) -> HashMap<String, (Vec<String>, Value)> {
        let worker = self.place.service.workers.len();
        self.place.service.add_worker().await;
        for change in CHANGES {
            for (source, _) in SOURCES {
                self.start(change, source).await;
            }
        }
        let mut clean = HashMap::new();
        for started in std::mem::take(&mut self.started) {
            let found = self.result(&started).await;
            clean.insert(started.what(), found);
        }
        self.place.service.workers[worker].kill();
        clean
    }

    /// What a run has left when it has ended.
    async fn result(&self, started: &Started) -> (Vec<String>, Value) {
        let (name, run) = (&started.name, &started.run);
        let status = self.place.service.admin().end(name, run).await;
        if status != "Succeeded" {
            let error = self.place.service.run_error(run).await;
            panic!("{}, {name}: {error}", started.what());
        }
        let output = self.place.output(run).await;
        let mut value = output["value"].clone();
        value.as_object_mut().unwrap().remove("path");
        let handed_on = json!([output["rows"], value]);
        (started.change.result(&self.place, name).await, handed_on)
    }
}

impl Started {
    fn what(&self) -> String {
        format!("{:?} of {}", self.change, self.source)
    }
}

/// A number that the caller's shell sets.
fn number(name: &str) -> Option<u64> {
    setting(name).map(|text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is a number"))
    })
}

async fn every_target_is_as_after_one_clean_run(on: On) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seed = number("MILLSTREAM_TEST_SEED").unwrap_or(now.as_micros() as u64);
    let kills = number("MILLSTREAM_TEST_KILLS").map_or(KILLS, |kills| kills as usize);
    eprintln!("{on:?}: MILLSTREAM_TEST_SEED={seed} MILLSTREAM_TEST_KILLS={kills}");
    let mut field = Battlefield {
        place: Place::with(on, 0, PATIENT).await,
        random: Random::new(seed),
        started: Vec::new(),
        names: 0,
    };
    put_sources(&field.place);
    let clean = field.clean().await;
    let marked_before = markers(&field.place).await.len();

    let deaths = field.deaths(kills);
    let kills = deaths.len();
    field.fight(deaths).await;
    let logs = field.place.service.logs();
    for point in POINTS {
        assert!(logs.contains(&format!("\"point\":\"{point}\"")), "{point}");
    }

    field.place.service.add_worker().await;
    for started in &field.started {
        let left = field.result(started).await;
        let what = started.what();
        assert!(
            left == clean[&what],
            "{what}: {left:?} and not {:?}",
            clean[&what]
        );
    }
    // Each change has one marker, and what died has left nothing behind.
    let in_database = field
        .started
        .iter()
        .filter(|run| run.change.is_in_database());
    let marked = markers(&field.place).await.len();
    assert_eq!(marked - marked_before, in_database.count());
    let logs = field.place.service.logs();
    if !logs.contains("the lease on the run was lost") {
        assert_eq!(drafts(&field.place), [""; 0]);
    }
    let taken_over = logs.matches("goes on from its last finished step").count();
    eprintln!(
        "{on:?}: {kills} kills, seed {seed}, all targets equal ({} runs, {taken_over} times \
         another worker went on)",
        field.started.len()
    );
}

async fn markers(place: &Place) -> Vec<String> {
    place
        .database
        .texts("select run from millstream_steps")
        .await
}

#[tokio::test]
async fn kills_leave_postgresql_as_after_one_clean_run() {
    every_target_is_as_after_one_clean_run(On::Postgres).await;
}

#[tokio::test]
async fn kills_leave_mariadb_as_after_one_clean_run() {
    every_target_is_as_after_one_clean_run(On::Mariadb).await;
}

#[tokio::test]
async fn kills_leave_sqlite_as_after_one_clean_run() {
    every_target_is_as_after_one_clean_run(On::Sqlite).await;
}
