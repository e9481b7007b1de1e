//! A private Redis server: started, watched over, started again when it dies,
//! and stopped when it is no longer needed.

use std::{
    ffi::OsString,
    fs,
    os::unix::{
        ffi::{OsStrExt, OsStringExt},
        fs::{DirBuilderExt, MetadataExt},
    },
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::UnixStream,
    process::{Child, Command},
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::redis_program::RedisProgram;

/// Paths of sockets may be 103 bytes long on macOS and 107 on Linux.
const SOCKET_BYTES_MAX: usize = 103;
/// How long a server may take to end once asked to.
const END_MAX: Duration = Duration::from_secs(60);
/// Where Redis keeps its append-only files since this version. An earlier one
/// does not look there, and would begin with nothing.
const MULTI_PART_FOLDER: &str = "appendonlydir";
const MULTI_PART_VERSION: (u32, u32) = (7, 0);
/// The wait between two looks at a server that starts or ends.
const LOOK: Duration = Duration::from_millis(20);
/// How long one look may take.
const LOOK_MAX: Duration = Duration::from_secs(2);
/// How often a server that takes its time is mentioned.
const PATIENCE: Duration = Duration::from_secs(10);
/// A server that lived so long did start well.
const LIFE_MIN: Duration = Duration::from_secs(30);
/// How many times in a row a server may die before it has lived so long.
const DEATHS_MAX: u32 = 5;
/// The wait after a start that went wrong, times the number of deaths.
const PAUSE: Duration = Duration::from_millis(500);

/// A private Redis server with its data in a folder of its own.
///
/// Only this user can reach it: it listens on a unix socket and on no port.
/// What it has acknowledged survives its own end at once, and the end of the
/// machine if it was acknowledged more than a second before.
#[derive(Debug)]
pub(crate) struct RedisServer {
    url: String,
    socket: PathBuf,
    stopping: CancellationToken,
    supervising: JoinHandle<anyhow::Result<()>>,
}

impl RedisServer {
    /// Starts `program` with its data in `folder`, which no other process may
    /// use. When this returns, the server has loaded its data and answers.
    ///
    /// # Errors
    /// Fails where the server does not start, and where `stopping` is
    /// cancelled before it has.
    pub(crate) async fn start(
        program: RedisProgram,
        folder: &Path,
        stopping: &CancellationToken,
    ) -> anyhow::Result<Self> {
        let launch = Launch::new(program, folder)?;
        stop_leftover(&launch.socket).await?;
        let mut child = launch.spawn()?;
        tokio::select! {
            answering = launch.until_it_answers(&mut child) => answering?,
            () = stopping.cancelled() => {
                end(&mut child).await?;
                bail!("stopped before Redis had started");
            }
        }
        let url = launch.url()?;
        let socket = launch.socket.clone();
        tracing::info!(program = %launch.program.display(), %url, "a private Redis runs");
        let stopping = CancellationToken::new();
        let supervising = tokio::spawn(supervise(launch, child, stopping.clone()));
        Ok(Self {
            url,
            socket,
            stopping,
            supervising,
        })
    }

    /// The address to connect to.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Returns when the server has died for good, with the reason.
    pub(crate) async fn died(&mut self) -> anyhow::Error {
        match (&mut self.supervising).await {
            Ok(Err(error)) => error,
            Ok(Ok(())) => anyhow::anyhow!("the private Redis was stopped"),
            Err(error) => anyhow::Error::new(error).context("nobody watches the private Redis"),
        }
    }

    /// Ends the server; its data is on disk then.
    pub(crate) async fn stop(self) {
        self.stopping.cancel();
        // One that died for good was told of already.
        if !self.supervising.is_finished()
            && let Ok(Err(error)) = self.supervising.await
        {
            tracing::warn!(
                error = format!("{error:#}"),
                "the private Redis did not end well"
            );
        }
        // A folder made for the socket alone is empty then, and the data folder
        // is not: only an empty one is removed.
        if let Some(place) = self.socket.parent() {
            let _ = fs::remove_dir(place);
        }
    }
}

/// How the server is started, each time alike.
#[derive(Debug)]
struct Launch {
    program: PathBuf,
    folder: PathBuf,
    socket: PathBuf,
}

impl Launch {
    fn new(program: RedisProgram, folder: &Path) -> anyhow::Result<Self> {
        let cannot = || format!("cannot use the folder `{}` for Redis", folder.display());
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(folder).with_context(cannot)?;
        let folder = folder.canonicalize().with_context(cannot)?;
        check_version(&program, &folder)?;
        let socket = socket(&folder)?;
        Ok(Self {
            program: program.path,
            folder,
            socket,
        })
    }

    fn url(&self) -> anyhow::Result<String> {
        let url = reqwest::Url::from_file_path(&self.socket)
            .ok()
            .context("the path of a socket must be absolute")?;
        Ok(format!("unix://{}", url.path()))
    }

    fn log(&self) -> PathBuf {
        self.folder.join("redis.log")
    }

    fn spawn(&self) -> anyhow::Result<Child> {
        let mut command = Command::new(&self.program);
        command
            .args(["--port", "0", "--unixsocketperm", "700", "--unixsocket"])
            .arg(&self.socket)
            .arg("--dir")
            .arg(&self.folder)
            .arg("--logfile")
            .arg(self.log())
            .args(["--daemonize", "no", "--databases", "1"])
            .args(["--appendonly", "yes", "--appendfsync", "everysec"])
            .args(["--save", "", "--maxmemory-policy", "noeviction"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C in a terminal is for this process: Redis must outlive the
            // runs that are finished first.
            .process_group(0)
            .kill_on_drop(true);
        let child = command.spawn();
        child.with_context(|| format!("cannot start `{}`", self.program.display()))
    }

    /// Waits until the server has loaded its data, however long that takes.
    async fn until_it_answers(&self, child: &mut Child) -> anyhow::Result<()> {
        let mut mention_at = Instant::now() + PATIENCE;
        loop {
            let said = match timeout(LOOK_MAX, say(&self.socket, "PING")).await {
                Ok(Ok(said)) if said == "+PONG" => return Ok(()),
                Ok(Ok(said)) => said,
                Ok(Err(error)) => error.to_string(),
                Err(_) => "no answer".to_owned(),
            };
            if let Some(status) = child.try_wait().context("cannot look after Redis")? {
                bail!("Redis ended at its start ({status}){}", self.last_words());
            }
            if Instant::now() >= mention_at {
                tracing::info!(said, "Redis is not ready yet");
                mention_at += PATIENCE;
            }
            sleep(LOOK).await;
        }
    }

    /// What the server's log ends with, to be added to a sentence.
    fn last_words(&self) -> String {
        let path = self.log();
        let log = fs::read(&path).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let last = log.lines().rev().find(|line| !line.trim().is_empty());
        let last = last.unwrap_or("its log is empty").trim();
        format!(": {last} (all of it in `{}`)", path.display())
    }
}

/// Refuses a server that would pass over what a later one has written.
fn check_version(program: &RedisProgram, folder: &Path) -> anyhow::Result<()> {
    let multi_part = folder.join(MULTI_PART_FOLDER);
    if program.version >= MULTI_PART_VERSION || !multi_part.exists() {
        return Ok(());
    }
    let (major, minor) = program.version;
    bail!(
        "`{}` was written by Redis 7 or later, which `{}` (version {major}.{minor}) cannot read: \
         name a later server with --redis-server",
        folder.display(),
        program.path.display()
    )
}

/// Where the server listens: in its folder, or where that path is too long for
/// a socket, in a folder for temporary files that only this user can enter.
fn socket(folder: &Path) -> anyhow::Result<PathBuf> {
    let near = folder.join("redis.sock");
    if fits(&near) {
        return Ok(near);
    }
    let note = folder.join("socket-path");
    if let Ok(noted) = fs::read(&note) {
        let noted = PathBuf::from(OsString::from_vec(noted));
        if noted
            .parent()
            .is_some_and(|place| is_private(place, folder))
        {
            return Ok(noted);
        }
    }
    let place = [std::env::temp_dir(), PathBuf::from("/tmp")]
        .into_iter()
        .find(|place| fits(&place.join("millstream-123456/redis.sock")))
        .context("no folder has a path that is short enough for a socket")?;
    let made = tempfile::Builder::new()
        .prefix("millstream-")
        .rand_bytes(6)
        .tempdir_in(&place)
        .with_context(|| format!("cannot make a folder for a socket in `{}`", place.display()))?
        .keep();
    let far = made.join("redis.sock");
    // Who comes after a sudden end finds the server by this note.
    fs::write(&note, far.as_os_str().as_bytes())
        .with_context(|| format!("cannot write `{}`", note.display()))?;
    Ok(far)
}

/// Whether `place` belongs to the owner of `folder` and nobody else can enter
/// it: a folder for temporary files may have been made anew by another user.
fn is_private(place: &Path, folder: &Path) -> bool {
    let (Ok(place), Ok(folder)) = (fs::symlink_metadata(place), fs::metadata(folder)) else {
        return false;
    };
    place.is_dir() && place.uid() == folder.uid() && place.mode() & 0o077 == 0
}

fn fits(socket: &Path) -> bool {
    socket.as_os_str().len() <= SOCKET_BYTES_MAX
}

/// The first line that the server answers to a command: to `PING` it is
/// `+PONG`, or why it cannot serve yet.
async fn say(socket: &Path, command: &str) -> std::io::Result<String> {
    let mut stream = UnixStream::connect(socket).await?;
    stream
        .write_all(format!("{command}\r\n").as_bytes())
        .await?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).await?;
    Ok(line.trim_end().to_owned())
}

/// Ends a server that still listens on `socket` because whoever started it
/// was killed.
async fn stop_leftover(socket: &Path) -> anyhow::Result<()> {
    let Ok(stream) = UnixStream::connect(socket).await else {
        return Ok(());
    };
    let server = stream.peer_cred().ok().and_then(|peer| peer.pid());
    let server = server.with_context(|| {
        format!(
            "a process listens on `{}` and cannot be told apart",
            socket.display()
        )
    })?;
    drop(stream);
    tracing::info!(process = server, "stopping the Redis of an earlier start");
    kill(Pid::from_raw(server), Signal::SIGTERM)
        .with_context(|| format!("cannot stop process {server}, the Redis of an earlier start"))?;
    let gone = async {
        // It closes its socket when its data is on disk.
        while UnixStream::connect(socket).await.is_ok() {
            sleep(LOOK).await;
        }
    };
    timeout(END_MAX, gone).await.with_context(|| {
        format!("process {server}, the Redis of an earlier start, does not end: kill it")
    })
}

async fn supervise(
    launch: Launch,
    mut child: Child,
    stopping: CancellationToken,
) -> anyhow::Result<()> {
    let mut deaths = 0;
    loop {
        let began = Instant::now();
        let status = tokio::select! {
            () = stopping.cancelled() => return end(&mut child).await,
            status = child.wait() => status.context("cannot look after Redis")?,
        };
        deaths = if began.elapsed() < LIFE_MIN {
            deaths + 1
        } else {
            1
        };
        if deaths > DEATHS_MAX {
            bail!(
                "Redis died {deaths} times in a row ({status}){}",
                launch.last_words()
            );
        }
        tracing::error!(%status, "the private Redis died: starting it again");
        child = launch.spawn()?;
        tokio::select! {
            () = stopping.cancelled() => return end(&mut child).await,
            answering = launch.until_it_answers(&mut child) => {
                // If it died again, the next turn counts that.
                if let Err(error) = answering {
                    tracing::error!(error = format!("{error:#}"), "the private Redis did not start");
                    sleep(PAUSE * deaths).await;
                }
            }
        }
    }
}

async fn end(child: &mut Child) -> anyhow::Result<()> {
    let Some(process) = child.id().and_then(|id| i32::try_from(id).ok()) else {
        return Ok(());
    };
    kill(Pid::from_raw(process), Signal::SIGTERM).context("cannot stop Redis")?;
    if timeout(END_MAX, child.wait()).await.is_ok() {
        return Ok(());
    }
    child.kill().await.context("cannot kill Redis")?;
    bail!(
        "Redis did not end within {} seconds and was killed",
        END_MAX.as_secs()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redis_program;

    async fn start(folder: &Path) -> RedisServer {
        let program = redis_program::find(None).await.unwrap();
        let asked = CancellationToken::new();
        RedisServer::start(program, folder, &asked).await.unwrap()
    }

    /// The first line of the answer to one command, its words separated by
    /// spaces. It is sent again until the server answers, with a deadline.
    async fn ask(server: &RedisServer, command: &str) -> String {
        let answer = async {
            loop {
                match say(&socket_of(server), command).await {
                    Ok(line) if !line.is_empty() && !line.starts_with("-LOADING") => return line,
                    _ => sleep(LOOK).await,
                }
            }
        };
        timeout(Duration::from_secs(20), answer).await.unwrap()
    }

    fn socket_of(server: &RedisServer) -> PathBuf {
        let url = server.url().replace("unix:", "file:");
        reqwest::Url::parse(&url).unwrap().to_file_path().unwrap()
    }

    /// The process that listens on the server's socket.
    async fn process(server: &RedisServer) -> Pid {
        let path = reqwest::Url::parse(&server.url.replace("unix:", "file:")).unwrap();
        let stream = UnixStream::connect(path.to_file_path().unwrap())
            .await
            .unwrap();
        Pid::from_raw(stream.peer_cred().unwrap().pid().unwrap())
    }

    #[tokio::test]
    async fn what_was_written_is_there_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let server = start(folder.path()).await;
        assert_eq!(ask(&server, "INCR starts").await, ":1");
        server.stop().await;
        let server = start(folder.path()).await;
        assert_eq!(ask(&server, "INCR starts").await, ":2");
        server.stop().await;
    }

    #[tokio::test]
    async fn a_server_that_is_killed_comes_back_with_its_data() {
        let folder = tempfile::tempdir().unwrap();
        let server = start(folder.path()).await;
        assert_eq!(ask(&server, "SET place home").await, "+OK");
        kill(process(&server).await, Signal::SIGKILL).unwrap();
        assert_eq!(ask(&server, "STRLEN place").await, ":4");
        server.stop().await;
    }

    #[tokio::test]
    async fn a_server_whose_starter_was_killed_is_stopped_before_another_starts() {
        let folder = tempfile::tempdir().unwrap();
        let program = redis_program::find(None).await.unwrap();
        let launch = Launch::new(program, folder.path()).unwrap();
        let mut orphan = launch.spawn().unwrap();
        launch.until_it_answers(&mut orphan).await.unwrap();

        let server = start(folder.path()).await;
        let ended = timeout(Duration::from_secs(20), orphan.wait())
            .await
            .unwrap();
        assert!(ended.unwrap().success());
        assert_eq!(ask(&server, "PING").await, "+PONG");
        server.stop().await;
    }

    #[tokio::test]
    async fn a_folder_with_a_long_and_odd_name_serves_as_well() {
        let parent = tempfile::tempdir().unwrap();
        for name in ["a b%20?#\"'é".to_owned(), "long-".repeat(30)] {
            let folder = parent.path().join(name);
            let server = start(&folder).await;
            assert_eq!(ask(&server, "PING").await, "+PONG");
            let socket = socket_of(&server);
            server.stop().await;
            let folder = folder.canonicalize().unwrap();
            assert!(!socket.exists());
            assert_eq!(
                socket.parent().unwrap().exists(),
                socket.starts_with(&folder)
            );
        }
    }

    #[test]
    fn a_server_that_would_not_see_the_data_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let program = |version| RedisProgram {
            path: "redis-server".into(),
            version,
        };
        assert!(check_version(&program((6, 2)), folder.path()).is_ok());
        fs::create_dir(folder.path().join(MULTI_PART_FOLDER)).unwrap();
        assert!(check_version(&program((7, 0)), folder.path()).is_ok());
        let error = check_version(&program((6, 2)), folder.path()).unwrap_err();
        assert!(error.to_string().contains("version 6.2"), "{error}");
    }

    #[tokio::test]
    async fn a_server_that_cannot_start_says_why() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("redis.sock")).unwrap();
        let program = redis_program::find(None).await.unwrap();
        let asked = CancellationToken::new();
        let error = RedisServer::start(program, folder.path(), &asked)
            .await
            .unwrap_err();
        let message = error.to_string();
        assert!(message.contains("Redis ended at its start"), "{message}");
        assert!(message.contains("redis.log"), "{message}");
    }
}
