//! The programs that a soak starts: a Redis, API processes and workers, each of
//! which can be killed, paused and started again.

use std::{
    fs::File,
    net::TcpListener,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use millstream_shared::{process::RedisSettings, store::Store};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    process::{Child, Command},
    sync::Mutex,
    time::{sleep, timeout},
};

/// How long a program may take to start.
const START_MAX: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(50);
/// How long Redis may take to answer a command that only disturbs it.
const HEARD_WITHIN: Duration = Duration::from_secs(2);

/// What a stack consists of.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) workers: usize,
    pub(super) apis: usize,
    pub(super) lease: Duration,
    pub(super) append_sync: String,
    pub(super) redis_program: PathBuf,
    pub(super) key: String,
}

/// The programs. Each is held by whoever does something to it.
pub(super) struct Stack {
    pub(super) redis: Mutex<Program>,
    pub(super) workers: Vec<Mutex<Program>>,
    pub(super) apis: Vec<Mutex<Program>>,
    /// Where each API process listens.
    pub(super) urls: Vec<String>,
    redis_url: String,
    redis_socket: PathBuf,
}

/// One program, and how it is started.
pub(super) struct Program {
    name: String,
    program: PathBuf,
    arguments: Vec<String>,
    settings: Vec<(&'static str, String)>,
    folder: PathBuf,
    child: Option<Child>,
}

impl Stack {
    /// Starts everything, with all that it writes in `folder`.
    ///
    /// # Errors
    /// Fails where a program is not there or does not start.
    pub(super) async fn start(plan: &Plan, folder: &Path) -> anyhow::Result<Self> {
        let redis_socket = folder.join("redis.sock");
        let redis_url = format!("unix://{}", redis_socket.display());
        let mut redis = redis(plan, folder);
        redis.start()?;
        let mut stack = Self {
            redis: Mutex::new(redis),
            workers: Vec::new(),
            apis: Vec::new(),
            urls: Vec::new(),
            redis_url,
            redis_socket,
        };
        stack.until_redis_answers().await?;
        for number in 1..=plan.apis {
            let address = format!("127.0.0.1:{}", free_port()?);
            let mut api = stack.program("millstream-api", number, folder)?;
            let settings = [
                ("MILLSTREAM_LISTEN", address.clone()),
                ("MILLSTREAM_ADMIN_KEY", plan.key.clone()),
            ];
            api.settings.extend(settings);
            api.start()?;
            stack.urls.push(format!("http://{address}"));
            stack.apis.push(Mutex::new(api));
        }
        for number in 1..=plan.workers {
            let mut worker = stack.program("millstream-worker", number, folder)?;
            let lease = format!("{}ms", plan.lease.as_millis());
            let settings = [
                ("MILLSTREAM_LEASE", lease),
                ("MILLSTREAM_COMMANDS", "allow".to_owned()),
                // Workers are killed on purpose here: no run is to blame.
                ("MILLSTREAM_MAX_CLAIMS", "1000".to_owned()),
            ];
            worker.settings.extend(settings);
            worker.start()?;
            stack.workers.push(Mutex::new(worker));
        }
        Ok(stack)
    }

    /// Waits until the Redis answers, as after a start.
    ///
    /// # Errors
    /// Fails where it does not in time.
    pub(super) async fn until_redis_answers(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_MAX;
        while let Err(error) = self.store().await {
            ensure!(
                Instant::now() < deadline,
                "redis does not answer: {error:#}"
            );
            sleep(LOOK).await;
        }
        Ok(())
    }

    /// The store of the stack.
    ///
    /// # Errors
    /// Fails where Redis cannot be used.
    pub(super) async fn store(&self) -> anyhow::Result<Store> {
        let settings = RedisSettings {
            url: self.redis_url.clone(),
            timeout: Duration::from_secs(5),
            partitions: None,
        };
        Store::connect(&settings).await.context("cannot use Redis")
    }

    /// Sends Redis one command. One that is away just then does not hear it.
    ///
    /// # Errors
    /// Fails where Redis refuses the command.
    pub(super) async fn tell_redis(&self, command: &str) -> anyhow::Result<()> {
        let Ok(mut socket) = UnixStream::connect(&self.redis_socket).await else {
            return Ok(());
        };
        let mut answer = [0; 64];
        let told = async {
            socket
                .write_all(format!("{command}\r\n").as_bytes())
                .await?;
            socket.read(&mut answer).await
        };
        match timeout(HEARD_WITHIN, told).await {
            Ok(Ok(1..)) if answer[0] == b'-' => {
                bail!(
                    "redis refused `{command}`: {}",
                    String::from_utf8_lossy(&answer)
                )
            }
            _ => Ok(()),
        }
    }

    fn program(&self, name: &str, number: usize, folder: &Path) -> anyhow::Result<Program> {
        Ok(Program {
            name: format!("{name}-{number}"),
            program: beside_this(name)?,
            arguments: Vec::new(),
            settings: vec![
                ("MILLSTREAM_REDIS_URL", self.redis_url.clone()),
                ("MILLSTREAM_OPS_LISTEN", "127.0.0.1:0".to_owned()),
                ("MILLSTREAM_LOG_FORMAT", "json".to_owned()),
                ("MILLSTREAM_LOG", "warn".to_owned()),
            ],
            folder: folder.to_owned(),
            child: None,
        })
    }
}

fn redis(plan: &Plan, folder: &Path) -> Program {
    let arguments = [
        "--port",
        "0",
        "--unixsocket",
        "redis.sock",
        "--save",
        "",
        "--appendonly",
        "yes",
        "--appendfsync",
        &plan.append_sync,
    ];
    Program {
        name: "redis".to_owned(),
        program: plan.redis_program.clone(),
        arguments: arguments.map(str::to_owned).to_vec(),
        settings: Vec::new(),
        folder: folder.to_owned(),
        child: None,
    }
}

/// A program of ours: beside this one, or on the search path.
fn beside_this(name: &str) -> anyhow::Result<PathBuf> {
    let this = std::env::current_exe().context("cannot find the other programs")?;
    let beside = this.with_file_name(name);
    Ok(if beside.exists() { beside } else { name.into() })
}

/// A port that nobody listens on now. A program that is started again has to
/// come back at the same place, so it cannot choose by itself.
fn free_port() -> anyhow::Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").context("no port is free")?;
    Ok(listener.local_addr()?.port())
}

impl Program {
    /// Starts it. What it says goes to a file with its name.
    ///
    /// # Errors
    /// Fails where it cannot be started.
    pub(super) fn start(&mut self) -> anyhow::Result<()> {
        let log = self.folder.join(format!("{}.log", self.name));
        let log = File::options().create(true).append(true).open(log)?;
        let mut command = Command::new(&self.program);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("MILLSTREAM_") {
                command.env_remove(name);
            }
        }
        let child = command
            .args(&self.arguments)
            .envs(self.settings.iter().map(|(name, value)| (name, value)))
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn();
        let cannot = || format!("cannot start `{}`", self.program.display());
        self.child = Some(child.with_context(cannot)?);
        Ok(())
    }

    /// Kills it as `kill -9` does, and waits until it has gone.
    ///
    /// # Errors
    /// Fails where it had ended by itself before.
    pub(super) async fn kill(&mut self) -> anyhow::Result<()> {
        self.check_alive()?;
        if let Some(mut child) = self.child.take() {
            child.kill().await?;
        }
        Ok(())
    }

    /// Stops it where it is, or lets it go on: it notices nothing.
    ///
    /// # Errors
    /// Fails where it had ended by itself before.
    pub(super) fn freeze(&mut self, frozen: bool) -> anyhow::Result<()> {
        self.check_alive()?;
        let id = self.child.as_ref().and_then(Child::id).unwrap_or_default();
        let signal = if frozen {
            Signal::SIGSTOP
        } else {
            Signal::SIGCONT
        };
        kill(Pid::from_raw(id as i32), signal).context("cannot send a signal")
    }

    /// Whether it runs.
    ///
    /// # Errors
    /// Fails where it has ended by itself.
    pub(super) fn check_alive(&mut self) -> anyhow::Result<()> {
        let ended = match &mut self.child {
            Some(child) => child.try_wait()?,
            None => bail!("{} does not run", self.name),
        };
        match ended {
            None => Ok(()),
            Some(status) => bail!("{} has ended by itself: {status}", self.name),
        }
    }
}
