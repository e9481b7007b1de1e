//! Processes that die, freeze or stop in the middle: every accepted run
//! reaches its end, and finished steps are not executed again.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use harness::{Answer, Gate, SOON, Service, Setup, eventually};
use nix::{
    errno::Errno,
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::flows::{gated, quick, shell};

/// A flow of three steps that each write a line into a file; the second one
/// waits at a gate before it does.
struct ThreeSteps {
    gate: Gate,
    file: PathBuf,
}

impl ThreeSteps {
    async fn publish(service: &Service) -> Self {
        let three = Self {
            gate: service.gate("gate"),
            file: service.folder().join("lines"),
        };
        let note = |line: &str| format!("echo {line} >> '{}'", three.file.display());
        let second = format!(
            "pwd >> '{}'; {}; {}",
            three.folders_file().display(),
            three.gate.script(),
            note("two")
        );
        let steps = [
            ("one", note("one")),
            ("two", second),
            ("three", note("three")),
        ];
        let steps: Vec<_> = steps.iter().map(|(id, script)| (*id, &**script)).collect();
        service.admin().publish(&shell("three", &steps)).await;
        three
    }

    fn lines(&self) -> Vec<String> {
        let text = fs::read_to_string(&self.file).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn folders_file(&self) -> PathBuf {
        self.file.with_extension("folders")
    }

    /// The folders that the second step worked in, one for each attempt.
    fn folders(&self) -> Vec<PathBuf> {
        let text = fs::read_to_string(self.folders_file()).unwrap();
        text.lines().map(PathBuf::from).collect()
    }

    /// How often a step wrote its line.
    fn count(&self, line: &str) -> usize {
        self.lines().iter().filter(|found| *found == line).count()
    }
}

/// Whether a process is gone.
pub(crate) fn has_ended(process: i32) -> bool {
    kill(Pid::from_raw(process), None) == Err(Errno::ESRCH)
}

#[tokio::test]
async fn a_killed_workers_run_goes_on_elsewhere_from_its_last_finished_step() {
    let mut service = Service::start(Setup::default()).await;
    let three = ThreeSteps::publish(&service).await;
    let admin = service.admin();
    let waiting = tokio::spawn(Answer::of(admin.start_request("three", "?await=true")));
    let processes = three.gate.reached_by(1).await;
    service.add_worker().await;

    service.workers[0].kill();
    let lease_and_five = Duration::from_secs(1 + 5);
    eventually(lease_and_five, "the other worker to go on", || async {
        (three.gate.arrivals().len() == 2).then_some(())
    })
    .await;
    // What the dead worker had started does not go on beside its repetition.
    let folder = three.folders().remove(0);
    eventually(SOON, "the command of the dead worker to end", || async {
        (has_ended(processes[0]) && !folder.exists()).then_some(())
    })
    .await;
    three.gate.open();

    let answer = waiting.await.unwrap();
    assert_eq!((answer.status, &*answer.run_status()), (200, "Succeeded"));
    assert_eq!(three.lines(), ["one", "two", "three"]);

    // Neither does anything on the disk stay for ever: the next worker that
    // starts clears away what the dead one left.
    let work = service.work_folder();
    let folders = || fs::read_dir(&work).unwrap().count();
    assert_eq!(folders(), 2 * 2, "a folder and its lock for each worker");
    service.add_worker().await;
    assert_eq!(folders(), 2 * 2);
}

#[tokio::test]
async fn a_worker_that_slept_past_its_lease_changes_nothing() {
    let mut service = Service::start(Setup::default()).await;
    let three = ThreeSteps::publish(&service).await;
    let admin = service.admin();
    let waiting = tokio::spawn(Answer::of(admin.start_request("three", "?await=true")));
    three.gate.reached_by(1).await;

    service.workers[0].freeze();
    service.add_worker().await;
    three.gate.reached_by(2).await;
    three.gate.open();
    let run = waiting.await.unwrap().run_id();
    assert_eq!(admin.status("three", &run).await, "Succeeded");
    assert_eq!(three.count("one"), 1);
    assert_eq!(three.count("three"), 1);
    // The step that was under way when its worker froze is one of those that
    // are delivered at least once.
    assert_eq!(three.count("two"), 2);
    let record = ["HGETALL", &format!("ms:{{0}}:run:{run}")].map(str::to_owned);
    let record: Vec<_> = record.iter().map(String::as_str).collect();
    let before: Vec<String> = service.redis.command(&record).await;
    let lines = three.lines();

    service.workers[0].thaw();
    // It is sound when it takes new runs; by then it has tried to finish its own.
    service.workers[1].signal(Signal::SIGTERM);
    service.workers[1].ended().await;
    admin.publish(&quick("hello")).await;
    assert_eq!(admin.run("hello").await, "Succeeded");
    eventually(SOON, "the worker to say that it lost its lease", || async {
        let log = service.workers[0].log();
        log.contains("lease").then_some(())
    })
    .await;
    let after: Vec<String> = service.redis.command(&record).await;
    assert_eq!(before, after);
    assert_eq!(three.lines(), lines);
    assert_eq!(admin.status("three", &run).await, "Succeeded");
}

#[tokio::test]
async fn a_worker_that_is_asked_to_stop_finishes_what_it_has_and_ends() {
    let mut service = Service::start(Setup {
        workers: 2,
        worker: &[("MILLSTREAM_SLOTS", "1")],
        ..Setup::default()
    })
    .await;
    let three = ThreeSteps::publish(&service).await;
    let admin = service.admin();
    let run = admin.start("three").await;
    three.gate.reached_by(1).await;
    for worker in &service.workers {
        worker.signal(Signal::SIGTERM);
    }
    service.add_worker().await;
    three.gate.open();
    assert_eq!(admin.end("three", &run).await, "Succeeded");
    for worker in &mut service.workers[..2] {
        assert!(worker.ended().await.success());
    }
    assert_eq!(three.count("one"), 1);
    assert_eq!(three.count("three"), 1);
}

#[tokio::test]
async fn a_run_that_kills_its_workers_is_set_aside() {
    let service = Service::start(Setup {
        workers: 4,
        ..Setup::default()
    })
    .await;
    let admin = service.admin();
    // The parent of a command is its supervisor, whose parent is the worker.
    let deadly = "kill -KILL $(cut -d ' ' -f 4 /proc/$PPID/stat); sleep 60";
    admin.publish(&shell("deadly", &[("kill", deadly)])).await;
    admin.publish(&quick("hello")).await;
    assert_eq!(admin.run("deadly").await, "Failed");
    let mut workers = service.workers;
    let alive = workers
        .iter_mut()
        .filter_map(|worker| worker.is_running().then_some(()));
    assert_eq!(alive.count(), 1);
    assert_eq!(admin.run("hello").await, "Succeeded");
}

#[tokio::test]
async fn a_caller_of_a_killed_api_attaches_again_at_another() {
    let mut service = Service::start(Setup {
        apis: 2,
        ..Setup::default()
    })
    .await;
    let gate = service.gate("gate");
    let (dying, staying) = (service.admin_at(0), service.admin_at(1));
    staying.publish(&gated("slow", &gate)).await;
    let start = |caller: &harness::Client, query: &str| {
        caller
            .start_request("slow", query)
            .header("Idempotency-Key", "once")
    };
    let cut_off = tokio::spawn(start(&dying, "?await=true").send());
    gate.reached_by(1).await;
    service.apis[0].kill();
    assert!(cut_off.await.unwrap().is_err());

    let again = Answer::of(start(&staying, "")).await;
    assert_eq!(again.header("idempotency-replayed"), "true");
    gate.open();
    assert_eq!(staying.end("slow", &again.run_id()).await, "Succeeded");
    assert_eq!(gate.arrivals().len(), 1);
}

#[tokio::test]
async fn a_redis_that_forgets_its_scripts_is_given_them_again() {
    let service = Service::start(Setup::default()).await;
    let admin = service.admin();
    let gate = service.gate("gate");
    admin.publish(&gated("slow", &gate)).await;
    let waiting = tokio::spawn(Answer::of(admin.start_request("slow", "?await=true")));
    gate.reached_by(1).await;
    for _ in 0..20 {
        let _: String = service.redis.command(&["SCRIPT", "FLUSH"]).await;
    }
    gate.open();
    // At once: nobody has to wait for a lease to expire or a poll.
    let began = Instant::now();
    assert_eq!(waiting.await.unwrap().run_status(), "Succeeded");
    assert_eq!(admin.run("slow").await, "Succeeded");
    assert!(began.elapsed() < Duration::from_secs(5));
    assert_eq!(gate.arrivals().len(), 2);
}

#[tokio::test]
async fn a_redis_without_room_refuses_starts_and_loses_nothing_that_runs() {
    let service = Service::start(Setup::default()).await;
    let admin = service.admin();
    let gate = service.gate("gate");
    admin.publish(&gated("slow", &gate)).await;
    let waiting = tokio::spawn(Answer::of(admin.start_request("slow", "?await=true")));
    gate.reached_by(1).await;
    let room = async |bytes: &str| {
        let set = ["CONFIG", "SET", "maxmemory", bytes];
        service.redis.command::<String>(&set).await;
    };
    room("1").await;
    let refused = Answer::of(admin.start_request("slow", "")).await;
    assert_eq!((refused.status, &*refused.code()), (500, "unavailable"));
    assert!(!refused.header("retry-after").is_empty());

    gate.open();
    eventually(SOON, "the command to end", || async {
        has_ended(gate.arrivals()[0]).then_some(())
    })
    .await;
    room("0").await;
    assert_eq!(waiting.await.unwrap().run_status(), "Succeeded");
    assert_eq!(gate.arrivals().len(), 1);
    assert_eq!(admin.run("slow").await, "Succeeded");
}

#[tokio::test]
async fn a_redis_that_is_silent_for_a_while_loses_nothing() {
    let service = Service::start(Setup {
        api: &[("MILLSTREAM_REDIS_TIMEOUT", "500ms")],
        worker: &[("MILLSTREAM_REDIS_TIMEOUT", "500ms")],
        ..Setup::default()
    })
    .await;
    let admin = service.admin();
    let gate = service.gate("gate");
    admin.publish(&gated("slow", &gate)).await;
    let waiting = tokio::spawn(Answer::of(admin.start_request("slow", "?await=true")));
    gate.reached_by(1).await;
    service.redis.freeze();
    let (api, worker) = (&service.apis[0], &service.workers[0]);
    eventually(SOON, "API and worker to say so", || async {
        let ready = api.is_ready().await || worker.is_ready().await;
        (!ready).then_some(())
    })
    .await;
    let refused = Answer::of(admin.start_request("slow", "")).await;
    assert_eq!((refused.status, &*refused.code()), (500, "unavailable"));
    service.redis.thaw();
    gate.open();
    assert_eq!(waiting.await.unwrap().run_status(), "Succeeded");
    assert_eq!(admin.run("slow").await, "Succeeded");
}
