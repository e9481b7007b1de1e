//! A Redis of a test's own.

use std::{
    fs::{self, File},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use redis::{FromRedisValue, aio::MultiplexedConnection};
use tempfile::TempDir;

use crate::{SOON, service::Redis};

/// A Redis server on a socket in a folder of its own, with an append-only
/// file. It is killed when this is dropped.
#[derive(Debug)]
pub struct PrivateRedis {
    setup: RedisSetup,
    folder: TempDir,
    server: Child,
}

/// How a server differs from the usual one.
#[derive(Clone, Debug, Default)]
pub struct RedisSetup {
    /// The program, where it is not the one on the search path.
    pub program: Option<PathBuf>,
    /// A command that starts the program, with its arguments.
    pub launcher: Vec<String>,
    /// Further arguments, such as `--maxmemory`.
    pub arguments: Vec<String>,
}

impl RedisSetup {
    /// The usual server with further arguments.
    pub fn with(arguments: &[&str]) -> Self {
        Self {
            arguments: arguments.iter().map(|&word| word.to_owned()).collect(),
            ..Self::default()
        }
    }
}

/// The servers to test the protocol on: those that `./dev test` has got, with a
/// colon in between in `MILLSTREAM_TEST_REDIS_SERVERS`, otherwise the one that
/// is on the search path.
pub fn redis_servers() -> Vec<PathBuf> {
    let listed = crate::setting("MILLSTREAM_TEST_REDIS_SERVERS").unwrap_or_default();
    let listed = listed.split(':').filter(|server| !server.is_empty());
    let listed: Vec<PathBuf> = listed.map(PathBuf::from).collect();
    if listed.is_empty() {
        vec!["redis-server".into()]
    } else {
        listed
    }
}

impl PrivateRedis {
    /// Starts a server without any data, and waits until it answers.
    ///
    /// # Panics
    /// Panics where there is no server to start: a test that skipped itself
    /// would look like one that passed.
    pub fn start() -> Self {
        Self::start_as(RedisSetup::default())
    }

    /// Starts a server that differs from the usual one, as
    /// [`PrivateRedis::start`] does.
    ///
    /// # Panics
    /// As [`PrivateRedis::start`].
    pub fn start_as(setup: RedisSetup) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("millstream-redis-")
            .tempdir()
            .unwrap();
        let server = start_server(&setup, folder.path(), &[]);
        let mut redis = Self {
            setup,
            folder,
            server,
        };
        redis.wait_until_ready();
        redis
    }

    /// The number of its process.
    pub fn id(&self) -> u32 {
        self.server.id()
    }

    /// The folder of its files.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its address, as the programs take it.
    pub fn url(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// A new connection to it.
    pub async fn connection(&self) -> MultiplexedConnection {
        let client = redis::Client::open(self.url()).unwrap();
        client.get_multiplexed_async_connection().await.unwrap()
    }

    /// Executes a command and returns its answer.
    pub async fn command<T: FromRedisValue>(&self, words: &[&str]) -> T {
        let mut command = redis::Cmd::new();
        for word in words {
            command.arg(*word);
        }
        let mut connection = self.connection().await;
        command
            .query_async(&mut connection)
            .await
            .unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    /// Stops it where it is: connections stay open and nothing answers.
    pub fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Lets it go on after [`PrivateRedis::freeze`].
    pub fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// Kills it as `kill -9` does.
    pub fn kill(&mut self) {
        self.server.kill().unwrap();
        self.server.wait().unwrap();
    }

    /// Starts it again after [`PrivateRedis::kill`], with the data it had.
    pub fn restart(&mut self) {
        self.restart_loading(Duration::ZERO);
        self.wait_until_ready();
    }

    /// The same, without waiting for it: it takes so long to load each thing
    /// that it had stored.
    pub fn restart_loading(&mut self, each: Duration) {
        // What is left of the last one would look like a server.
        fs::remove_file(self.socket()).ok();
        let delay = each.as_micros().to_string();
        let slowly = ["--key-load-delay", delay.as_str()];
        self.server = start_server(&self.setup, self.folder.path(), &slowly);
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("redis.sock")
    }

    fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.server.id()).unwrap();
        kill(Pid::from_raw(id), signal).unwrap();
    }

    fn wait_until_ready(&mut self) {
        let deadline = Instant::now() + SOON;
        let client = redis::Client::open(self.url()).unwrap();
        loop {
            let answers = UnixStream::connect(self.socket()).is_ok()
                && client
                    .get_connection()
                    .and_then(|mut connection| redis::cmd("PING").exec(&mut connection))
                    .is_ok();
            if answers {
                return;
            }
            let ended = self.server.try_wait().unwrap();
            let log = || fs::read_to_string(self.folder.path().join("redis.log"));
            assert!(ended.is_none(), "redis ended at its start: {:?}", log());
            assert!(
                Instant::now() < deadline,
                "redis does not answer: {:?}",
                log()
            );
            sleep(Duration::from_millis(5));
        }
    }
}

impl Redis for PrivateRedis {
    fn url(&self) -> String {
        self.url()
    }
}

impl Drop for PrivateRedis {
    fn drop(&mut self) {
        // It may have been killed already.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn start_server(setup: &RedisSetup, folder: &Path, further: &[&str]) -> Child {
    let log = File::options()
        .create(true)
        .append(true)
        .open(folder.join("redis.log"))
        .unwrap();
    let start = |program: &Path| {
        let mut words = setup.launcher.iter().map(Path::new).chain([program]);
        Command::new(words.next().unwrap())
            .args(words)
            .args(["--port", "0", "--unixsocket", "redis.sock"])
            .args(["--save", "", "--appendonly", "yes"])
            .args(["--appendfsync", "everysec", "--loglevel", "warning"])
            .arg("--dir")
            .arg(folder)
            .args(&setup.arguments)
            .args(further)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log.try_clone().unwrap())
            .spawn()
    };
    if let Some(program) = &setup.program {
        return start(program).unwrap_or_else(|error| panic!("{}: {error}", program.display()));
    }
    start(Path::new("redis-server"))
        .or_else(|_| start(Path::new("valkey-server")))
        .expect(
            "neither redis-server nor valkey-server is on the PATH; \
             `apt-get install redis-server` or `brew install redis` brings one",
        )
}
