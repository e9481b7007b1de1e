//! Settings of the worker.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use millstream_shared::{
    artifacts::ArtifactSettings,
    byte_size::ByteSize,
    connection::SecretsKeys,
    duration::Span,
    id::WorkerTag,
    process::{RedisSettings, logging::LogSettings},
};

use crate::{
    steps::{AllowList, Commands},
    tables::TableSettings,
};

/// Claims runs from the queue and executes their steps.
///
/// Run as many as you like: each takes runs that no other one has.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "millstream-worker", version)]
pub struct Config {
    /// Where Redis is.
    #[command(flatten)]
    pub redis: RedisSettings,

    /// Address of the operations port: `/livez`, `/readyz`, `/metrics`. Port 0
    /// takes a free one.
    #[arg(long, env = "MILLSTREAM_OPS_LISTEN", default_value = "127.0.0.1:9465")]
    pub ops_listen: SocketAddr,

    /// How many runs to execute at once.
    #[arg(long, env = "MILLSTREAM_SLOTS", default_value_t = 64, value_parser = slots)]
    pub slots: usize,

    /// How long this worker may be silent before others take its runs.
    #[arg(long, env = "MILLSTREAM_LEASE", default_value = "15s", value_parser = lease)]
    pub lease: Duration,

    /// Which flows' runs to take, by their `worker_tag`, separated by commas.
    #[arg(
        long,
        env = "MILLSTREAM_TAGS",
        default_value = "default",
        value_delimiter = ','
    )]
    pub tags: Vec<WorkerTag>,

    /// After so many workers were lost while they executed a run, it is set
    /// aside.
    #[arg(long, env = "MILLSTREAM_MAX_CLAIMS", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_claims: u32,

    /// How long the record of a run is kept after its end.
    #[arg(long, env = "MILLSTREAM_RETENTION", default_value = "7d", value_parser = Span::setting)]
    pub retention: Duration,

    /// How long steps may go on after the signal to stop; what has not ended
    /// by then is given up and goes on from its last finished step elsewhere.
    #[arg(long, env = "MILLSTREAM_GRACE", default_value = "30s", value_parser = Span::setting)]
    pub grace: Duration,

    /// How often runs are looked for that somebody from outside has taken from
    /// where they belong.
    #[arg(long, env = "MILLSTREAM_HEAL_EVERY", default_value = "10s", value_parser = Span::setting)]
    pub heal_every: Duration,

    /// How long this worker may get nowhere although Redis answers before it
    /// ends itself. It is not ready long before that.
    #[arg(long, env = "MILLSTREAM_WEDGED_AFTER", default_value = "60s", value_parser = wedged_after)]
    pub wedged_after: Duration,

    /// A folder for what steps need on disk while they run, of any number of
    /// workers: what does not fit into memory, files from elsewhere that have to
    /// be there as a whole, and the folders of commands. The system's folder for
    /// temporary files if not set.
    #[arg(long, env = "MILLSTREAM_WORK_FOLDER")]
    pub work_folder: Option<PathBuf>,

    /// Where artifacts are kept.
    #[command(flatten)]
    pub artifacts: ArtifactSettings,

    /// How long a run waits for an artifact store that does not answer or has no
    /// room before it fails.
    #[arg(long, env = "MILLSTREAM_ARTIFACTS_PATIENCE", default_value = "10m", value_parser = Span::setting)]
    pub artifacts_patience: Duration,

    /// How often artifacts are looked for that no run refers to any more.
    #[arg(long, env = "MILLSTREAM_ARTIFACTS_SWEEP_EVERY", default_value = "10m", value_parser = Span::setting)]
    pub artifacts_sweep_every: Duration,

    /// The largest value of a step, as JSON. Without an artifact store it is
    /// 1 MiB.
    #[arg(long, env = "MILLSTREAM_VALUE_SIZE", default_value = "4MiB")]
    pub value_size: ByteSize,

    /// The largest output of a run, as JSON. Without an artifact store it is
    /// 256 KiB.
    #[arg(long, env = "MILLSTREAM_OUTPUT_SIZE", default_value = "64MiB")]
    pub output_size: ByteSize,

    /// What connections and secrets are sealed with: 32 bytes in base64, the
    /// same as for the API. Several with commas between while one is replaced.
    /// Without it, steps that name a connection or a secret fail.
    #[arg(long, env = "MILLSTREAM_SECRETS_KEY", hide_env_values = true)]
    pub secrets_key: Option<SecretsKeys>,

    /// How long a statement in a database waits for what another one has locked.
    #[arg(long, env = "MILLSTREAM_DATABASE_LOCK_WAIT", default_value = "60s", value_parser = lock_wait)]
    pub database_lock_wait: Duration,

    /// Networks, addresses and hosts, separated by commas, that `http` steps, and
    /// `read` over HTTP, may reach although they are not public.
    #[arg(long, env = "MILLSTREAM_HTTP_ALLOW", default_value = "", value_parser = AllowList::parse)]
    pub(crate) http_allow: AllowList,

    /// The largest answer that an `http` step may save or make a table of,
    /// unpacked.
    #[arg(long, env = "MILLSTREAM_HTTP_ANSWER_SIZE", default_value = "10GiB")]
    pub http_answer_size: ByteSize,

    /// Which commands steps may run.
    #[command(flatten)]
    pub(crate) commands: Commands,

    /// What tables may take, and which folders steps may touch.
    #[command(flatten)]
    pub tables: TableSettings,

    /// What it logs.
    #[command(flatten)]
    pub log: LogSettings,
}

fn lock_wait(text: &str) -> Result<Duration, String> {
    let wait = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    let range = Duration::from_secs(1)..=Duration::from_secs(24 * 3600);
    if range.contains(&wait) {
        Ok(wait)
    } else {
        Err("expected a duration from 1s to 24h".into())
    }
}

fn slots(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(slots @ 1..=10_000) => Ok(slots),
        _ => Err("expected a number from 1 to 10000".into()),
    }
}

fn wedged_after(text: &str) -> Result<Duration, String> {
    let patience = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if patience >= Duration::from_secs(1) {
        Ok(patience)
    } else {
        Err("expected a duration of 1s or more".into())
    }
}

fn lease(text: &str) -> Result<Duration, String> {
    let lease = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    let range = Duration::from_millis(300)..=Duration::from_secs(3600);
    if range.contains(&lease) {
        Ok(lease)
    } else {
        Err("expected a duration from 300ms to 1h".into())
    }
}
