//! A Redis server on a port, as a part of something larger: a master with
//! replicas and sentinels, or a cluster.

use std::{
    fs::{self, File},
    net::TcpListener,
    process::{Child, Command, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use redis::{FromRedisValue, RedisResult};
use tempfile::TempDir;

use crate::{SOON, eventually};

/// A server on a port of this machine. It is killed when this is dropped.
#[derive(Debug)]
pub struct RedisNode {
    folder: TempDir,
    port: u16,
    child: Child,
}

impl RedisNode {
    /// Starts a server with these arguments besides those that every one has.
    pub async fn start(arguments: &[&str]) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("millstream-node-")
            .tempdir()
            .unwrap();
        let port = free_port();
        let child = spawn(&folder, port, arguments);
        let node = Self {
            folder,
            port,
            child,
        };
        eventually(SOON, "a redis to answer", || async {
            node.ask::<String>(&["PING"]).await.ok()
        })
        .await;
        node
    }

    /// Starts a sentinel that watches a master under a name.
    pub async fn start_sentinel(name: &str, master: &Self) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("millstream-sentinel-")
            .tempdir()
            .unwrap();
        let port = free_port();
        let config = format!(
            "port {port}\nbind 127.0.0.1\nsentinel monitor {name} 127.0.0.1 {} 2\n\
             sentinel down-after-milliseconds {name} 1000\n\
             sentinel failover-timeout {name} 4000\n",
            master.port
        );
        let path = folder.path().join("sentinel.conf");
        fs::write(&path, config).unwrap();
        let child = command(&folder)
            .arg(path)
            .arg("--sentinel")
            .spawn()
            .expect("redis-server is on the PATH");
        let node = Self {
            folder,
            port,
            child,
        };
        eventually(SOON, "a sentinel to answer", || async {
            node.ask::<String>(&["PING"]).await.ok()
        })
        .await;
        node
    }

    /// Where it listens.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Kills it as `kill -9` does.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Stops it where it is: connections stay open and nothing answers.
    pub fn freeze(&self) {
        let id = i32::try_from(self.child.id()).unwrap();
        kill(Pid::from_raw(id), Signal::SIGSTOP).unwrap();
    }

    /// Executes a command and returns its answer.
    pub async fn command<T: FromRedisValue>(&self, words: &[&str]) -> T {
        let answer = self.ask(words).await;
        answer.unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    /// Executes a command, which may fail.
    pub async fn ask<T: FromRedisValue>(&self, words: &[&str]) -> RedisResult<T> {
        let client = redis::Client::open(format!("redis://{}", self.address()))?;
        let asked = async {
            let mut connection = client.get_multiplexed_async_connection().await?;
            let mut command = redis::Cmd::new();
            command.arg(words).query_async(&mut connection).await
        };
        let late = |_| std::io::Error::from(std::io::ErrorKind::TimedOut);
        tokio::time::timeout(Duration::from_secs(5), asked)
            .await
            .map_err(late)?
    }

    /// A field of `INFO replication`.
    pub async fn replication(&self, field: &str) -> Option<String> {
        let info: String = self.ask(&["INFO", "replication"]).await.ok()?;
        let line = |line: &str| {
            let value = line.strip_prefix(field)?.strip_prefix(':')?;
            Some(value.trim().to_owned())
        };
        info.lines().find_map(line)
    }
}

impl Drop for RedisNode {
    fn drop(&mut self) {
        // It may have been killed already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = fs::read_to_string(self.folder.path().join("redis.log"));
            let log = log.unwrap_or_default();
            let lines: Vec<_> = log.lines().rev().take(20).collect();
            let lines: Vec<_> = lines.into_iter().rev().collect();
            eprintln!("---- log of redis on {}\n{}", self.port, lines.join("\n"));
        }
    }
}

fn spawn(folder: &TempDir, port: u16, arguments: &[&str]) -> Child {
    command(folder)
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
        .args(["--save", "", "--appendonly", "yes"])
        .args(["--repl-diskless-sync-delay", "0"])
        .args(arguments)
        .spawn()
        .expect("redis-server is on the PATH")
}

fn command(folder: &TempDir) -> Command {
    let log = File::create(folder.path().join("redis.log")).unwrap();
    let mut command = Command::new("redis-server");
    command
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log);
    command
}

/// A port that nobody listens on, low enough that the one of the cluster bus,
/// 10000 above it, exists.
pub fn free_port() -> u16 {
    loop {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let bus = port.checked_add(10_000);
        if bus.is_some_and(|bus| TcpListener::bind(("127.0.0.1", bus)).is_ok()) {
            return port;
        }
    }
}
