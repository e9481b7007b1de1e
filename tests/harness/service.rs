//! The whole service: Redis, API processes and workers.

use std::{
    net::SocketAddr,
    ops::{Deref, DerefMut},
    path::Path,
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{Client, Gate, PrivateRedis, Process, RedisSetup, SOON, eventually};

/// The key of administration that every service of a test knows.
const ADMIN_KEY: &str = "admin-key-of-the-tests";

/// What a service consists of.
#[derive(Clone, Debug)]
pub struct Setup {
    /// How many API processes.
    pub apis: usize,
    /// How many workers.
    pub workers: usize,
    /// Further settings of every API process.
    pub api: &'static [(&'static str, &'static str)],
    /// Further settings of every worker.
    pub worker: &'static [(&'static str, &'static str)],
    /// What starts every worker, such as `env` with its arguments.
    pub launcher: &'static [&'static str],
    /// How its Redis differs from the usual one.
    pub redis: RedisSetup,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            apis: 1,
            workers: 1,
            api: &[],
            worker: &[],
            launcher: &[],
            redis: RedisSetup::default(),
        }
    }
}

/// Something that serves as Redis.
pub trait Redis {
    /// Its address, as the programs take it.
    fn url(&self) -> String;
}

/// A running service. It ends when it is dropped.
#[derive(Debug)]
pub struct Service<R = PrivateRedis> {
    setup: Setup,
    /// The API processes.
    pub apis: Vec<Api>,
    /// The workers.
    pub workers: Vec<Worker>,
    /// Its Redis.
    pub redis: R,
    folder: TempDir,
}

/// An API process.
#[derive(Debug)]
pub struct Api {
    process: Process,
    address: SocketAddr,
    ops_address: SocketAddr,
}

/// A worker process.
#[derive(Debug)]
pub struct Worker {
    process: Process,
    ops_address: SocketAddr,
}

impl Service {
    /// Starts a service and waits until all of it is ready.
    pub async fn start(setup: Setup) -> Self {
        Self::start_on(PrivateRedis::start_as(setup.redis.clone()), setup).await
    }

    /// Waits until so many runs are accepted and have not ended.
    pub async fn open_runs(&self, count: usize) {
        let what = format!("{count} open runs");
        eventually(SOON, &what, || async {
            let open: usize = self.redis.command(&["ZCARD", "ms:{0}:open"]).await;
            (open == count).then_some(())
        })
        .await;
    }

    /// What the record of a run that failed says of the reason. No route tells
    /// it, so it is read where the programs keep it.
    pub async fn run_error(&self, run: &str) -> Value {
        self.run_field(run, "error").await
    }

    /// What the record of a run that succeeded holds of its output.
    pub async fn run_output(&self, run: &str) -> Value {
        self.run_field(run, "output").await
    }

    async fn run_field(&self, run: &str, field: &str) -> Value {
        let key = format!("ms:{{0}}:run:{run}");
        let text: String = self.redis.command(&["HGET", &key, field]).await;
        serde_json::from_str(&text).unwrap()
    }
}

impl<R: Redis> Service<R> {
    /// Starts a service on a Redis that runs, and waits until it is ready.
    pub async fn start_on(redis: R, setup: Setup) -> Self {
        let mut service = Self {
            apis: Vec::new(),
            workers: Vec::new(),
            redis,
            folder: tempfile::Builder::new()
                .prefix("millstream-test-")
                .tempdir()
                .unwrap(),
            setup,
        };
        std::fs::create_dir(service.files()).unwrap();
        for _ in 0..service.setup.apis {
            service.add_api().await;
        }
        for _ in 0..service.setup.workers {
            service.add_worker().await;
        }
        service
    }

    /// Starts one API process more.
    pub async fn add_api(&mut self) -> &mut Api {
        let name = format!("api-{}", self.apis.len() + 1);
        let settings = self.settings(
            &[
                ("MILLSTREAM_LISTEN", "127.0.0.1:0"),
                ("MILLSTREAM_ADMIN_KEY", ADMIN_KEY),
            ],
            self.setup.api,
        );
        let folder = self.folder.path();
        let mut process = Process::start("millstream-api", &name, folder, &[], &settings);
        let address = process.address(false).await;
        let ops_address = process.address(true).await;
        self.apis.push(Api {
            process,
            address,
            ops_address,
        });
        let api = self.apis.last_mut().unwrap();
        wait_until_ready(api.ops_address).await;
        api
    }

    /// Starts one worker more.
    pub async fn add_worker(&mut self) -> &mut Worker {
        self.add_worker_with(&[]).await
    }

    /// Starts one worker more, which has settings that the others have not, or
    /// other values of them.
    pub async fn add_worker_with(&mut self, other: &[(&'static str, String)]) -> &mut Worker {
        let ops_address = self.start_worker(other).await.ops_address;
        wait_until_ready(ops_address).await;
        self.workers.last_mut().unwrap()
    }

    /// The same without waiting until it is ready, for one that will not live
    /// that long.
    pub async fn start_worker(&mut self, other: &[(&'static str, String)]) -> &mut Worker {
        let name = format!("worker-{}", self.workers.len() + 1);
        let mut settings = self.settings(
            &[
                ("MILLSTREAM_LEASE", "1s"),
                ("MILLSTREAM_COMMANDS", "allow"),
                ("MILLSTREAM_HTTP_ALLOW", "127.0.0.1"),
            ],
            self.setup.worker,
        );
        settings.push(("MILLSTREAM_FILES", self.files().display().to_string()));
        settings.push((
            "MILLSTREAM_WORK_FOLDER",
            self.work_folder().display().to_string(),
        ));
        settings.extend_from_slice(other);
        let folder = self.folder.path();
        let launcher = self.setup.launcher;
        let mut process =
            Process::launch(launcher, "millstream-worker", &name, folder, &[], &settings);
        let ops_address = process.address(true).await;
        self.workers.push(Worker {
            process,
            ops_address,
        });
        self.workers.last_mut().unwrap()
    }

    /// An administrator at the first API process.
    pub fn admin(&self) -> Client {
        self.admin_at(0)
    }

    /// An administrator at one of the API processes.
    pub fn admin_at(&self, api: usize) -> Client {
        let base = format!("http://{}", self.apis[api].address);
        Client::new(base, Some(ADMIN_KEY.to_owned()))
    }

    /// The text of the administrator's key.
    pub fn admin_key(&self) -> &'static str {
        ADMIN_KEY
    }

    /// The folder that file steps may touch.
    pub fn files(&self) -> std::path::PathBuf {
        self.folder.path().join("files")
    }

    /// The folder in which its workers have their folders.
    pub fn work_folder(&self) -> std::path::PathBuf {
        self.folder.path().join("work")
    }

    /// The folder in which runs keep what does not fit into Redis.
    pub fn artifacts(&self) -> std::path::PathBuf {
        self.folder.path().join("artifacts")
    }

    /// A closed gate.
    pub fn gate(&self, name: &str) -> Gate {
        Gate::new(self.folder.path(), name)
    }

    /// The folder of logs and of what tests like to put somewhere.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The logs of all processes, one after the other.
    pub fn logs(&self) -> String {
        let apis = self.apis.iter().map(|api| api.log());
        let workers = self.workers.iter().map(|worker| worker.log());
        apis.chain(workers).collect()
    }

    fn settings(
        &self,
        own: &[(&'static str, &'static str)],
        further: &[(&'static str, &'static str)],
    ) -> Vec<(&'static str, String)> {
        let mut settings = vec![
            ("MILLSTREAM_REDIS_URL", self.redis.url()),
            ("MILLSTREAM_OPS_LISTEN", "127.0.0.1:0".to_owned()),
            (
                "MILLSTREAM_ARTIFACTS",
                self.artifacts().display().to_string(),
            ),
            ("MILLSTREAM_LOG_FORMAT", "json".to_owned()),
            (
                "MILLSTREAM_LOG",
                "info,millstream_api=debug,millstream_worker=debug,millstream_shared=debug"
                    .to_owned(),
            ),
        ];
        let given = own.iter().chain(further);
        settings.extend(given.map(|(name, value)| (*name, (*value).to_owned())));
        settings
    }
}

impl Api {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether it says that it can do its work.
    pub async fn is_ready(&self) -> bool {
        is_ready(self.ops_address).await
    }

    /// What it says of its work: what that can count on, or why it cannot be
    /// done.
    pub async fn readiness(&self) -> String {
        told(self.ops_address, "readyz").await
    }

    /// What it has measured.
    pub async fn metrics(&self) -> String {
        told(self.ops_address, "metrics").await
    }
}

impl Worker {
    /// Whether it says that it can do its work.
    pub async fn is_ready(&self) -> bool {
        is_ready(self.ops_address).await
    }

    /// As [`Api::readiness`].
    pub async fn readiness(&self) -> String {
        told(self.ops_address, "readyz").await
    }

    /// As [`Api::metrics`].
    pub async fn metrics(&self) -> String {
        told(self.ops_address, "metrics").await
    }

    /// What it has counted under a name; 0 where it has counted nothing.
    pub async fn counted(&self, metric: &str) -> u64 {
        let metrics = told(self.ops_address, "metrics").await;
        let value = |line: &str| line.strip_prefix(metric)?.trim().parse().ok();
        metrics.lines().find_map(value).unwrap_or(0)
    }
}

impl Deref for Api {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

impl DerefMut for Api {
    fn deref_mut(&mut self) -> &mut Process {
        &mut self.process
    }
}

impl Deref for Worker {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

impl DerefMut for Worker {
    fn deref_mut(&mut self) -> &mut Process {
        &mut self.process
    }
}

async fn wait_until_ready(ops_address: SocketAddr) {
    let what = format!("readiness at {ops_address}");
    eventually(SOON, &what, || async {
        is_ready(ops_address).await.then_some(())
    })
    .await;
}

async fn is_ready(ops_address: SocketAddr) -> bool {
    let url = format!("http://{ops_address}/readyz");
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    match client.get(url).send().await {
        Ok(response) => response.status() == 200,
        Err(_) => false,
    }
}

async fn told(ops_address: SocketAddr, path: &str) -> String {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let request = client.get(format!("http://{ops_address}/{path}"));
    request.send().await.unwrap().text().await.unwrap()
}
