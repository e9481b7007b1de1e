//! Where the Redis of a service is, for commands that look into it.

use std::path::Path;

use anyhow::Context;
use clap::Parser;
use millstream_shared::{process::RedisSettings, store::Store};

use crate::{data_folder, failure::Failure};

/// The settings of Redis with their defaults.
#[derive(Parser)]
struct RedisOnly {
    #[command(flatten)]
    redis: RedisSettings,
}

/// Opens the Redis that was named, or that of the `millstream up` on the data
/// folder.
///
/// # Errors
/// Fails where there is neither, and where it cannot be used.
pub(crate) async fn open(named: Option<&str>, data_dir: &Path) -> Result<Store, Failure> {
    let url = match named {
        Some(url) => Some(url.to_owned()),
        None => data_folder::running(data_dir)?.and_then(|up| up.redis_url),
    };
    let url = url.ok_or_else(|| {
        Failure::Usage("no Redis to look at: give its address with --redis-url".to_owned())
    })?;
    let settings = RedisOnly::try_parse_from(["redis", "--redis-url", &url]);
    let settings = settings.map_err(|error| Failure::from(&error))?;
    let store = Store::connect(&settings.redis).await;
    Ok(store.context("cannot use Redis")?)
}
