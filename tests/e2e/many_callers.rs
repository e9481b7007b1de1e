//! Ten thousand callers who wait at one API process while messages are lost and
//! Redis restarts.

use std::{
    fs,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use harness::{Service, Setup, eventually};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Semaphore,
    task::JoinSet,
    time::timeout,
};

use crate::flows::quick;

const CALLERS: usize = 10_000;

/// How many callers start at the same time.
const STARTING_AT_ONCE: usize = 100;

/// How long it may take until all of them wait.
const ALL_WAIT_WITHIN: Duration = Duration::from_secs(90);

/// No caller is told later than this after the end of its run.
const LATE_MAX: Duration = Duration::from_secs(10);

/// What a caller was told, and when, milliseconds since 1970.
struct Told {
    run: String,
    status: String,
    at_ms: u64,
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    since.as_millis() as u64
}

/// A start that waits, on a connection of its own. The permit is given back when
/// the request was sent.
async fn call(
    api: SocketAddr,
    key: &'static str,
    starting: Arc<Semaphore>,
    told: Arc<Mutex<Vec<Told>>>,
) {
    let permit = starting.acquire().await.unwrap();
    let mut connection = TcpStream::connect(api).await.unwrap();
    let request = format!(
        "POST /api/pub/v1/dataflows/hello/start?await=true HTTP/1.1\r\n\
         Host: api\r\nX-Api-Key: {key}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    );
    connection.write_all(request.as_bytes()).await.unwrap();
    drop(permit);
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.unwrap();
    let at_ms = now_ms();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let member = |name: &str| {
        let (_, rest) = answer.split_once(&format!("\"{name}\":\""))?;
        Some(rest.split_once('"')?.0.to_owned())
    };
    let run = member("runId").unwrap_or_else(|| panic!("{answer}"));
    let status = member("status").unwrap();
    told.lock().unwrap().push(Told { run, status, at_ms });
}

/// Kilobytes of memory that a process has.
fn resident_kb(process: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap()
}

async fn waits_open(service: &Service) -> usize {
    let metrics = service.apis[0].metrics().await;
    let open = metrics
        .lines()
        .find_map(|line| line.strip_prefix("millstream_api_waits_open "));
    open.map_or(0, |open| open.parse().unwrap())
}

#[tokio::test]
async fn ten_thousand_callers_are_answered_whatever_happens_to_messages() {
    let mut service = Service::start(Setup {
        workers: 0,
        api: &[("MILLSTREAM_LOG", "info")],
        worker: &[("MILLSTREAM_LOG", "info")],
        ..Setup::default()
    })
    .await;
    let admin = service.admin();
    admin.publish(&quick("hello")).await;
    let process = service.apis[0].id();
    let before_kb = resident_kb(process);

    let starting = Arc::new(Semaphore::new(STARTING_AT_ONCE));
    let told = Arc::new(Mutex::new(Vec::new()));
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let (api, key) = (service.apis[0].address(), service.admin_key());
        callers.spawn(call(api, key, Arc::clone(&starting), Arc::clone(&told)));
    }
    eventually(ALL_WAIT_WITHIN, "all callers to wait", || async {
        (waits_open(&service).await == CALLERS).then_some(())
    })
    .await;
    let per_wait = (resident_kb(process).saturating_sub(before_kb)) as f64 / CALLERS as f64;
    eprintln!("{CALLERS} waits cost the API process {per_wait:.1} kB each, connections included");

    // Nothing has ended so far.
    for _ in 0..2 {
        service.add_worker().await;
    }
    let mut restarted = false;
    let disturbing = async {
        while !callers.is_empty() {
            let some = told.lock().unwrap().len();
            if !restarted && some > CALLERS / 4 {
                restarted = true;
                service.redis.kill();
                service.redis.restart();
            }
            let kill = ["CLIENT", "KILL", "TYPE", "pubsub"];
            let _: i64 = service.redis.command(&kill).await;
            while let Some(called) = callers.try_join_next() {
                called.unwrap();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(120), disturbing)
        .await
        .unwrap_or_else(|_| panic!("{} are answered", told.lock().unwrap().len()));
    assert!(restarted, "redis was to restart in the middle");

    let told = std::mem::take(&mut *told.lock().unwrap());
    assert_eq!(told.len(), CALLERS);
    let mut connection = service.redis.connection().await;
    let mut latest = Duration::ZERO;
    for told in told.iter() {
        assert_eq!(told.status, "Succeeded");
        let mut read = redis::cmd("HGET");
        read.arg(format!("ms:{{0}}:run:{}", told.run))
            .arg("ended_at");
        let ended_ms: u64 = read.query_async(&mut connection).await.unwrap();
        let late = Duration::from_millis(told.at_ms.saturating_sub(ended_ms));
        latest = latest.max(late);
    }
    eprintln!("the latest answer came {latest:?} after the end of its run");
    assert!(latest < LATE_MAX);
}
