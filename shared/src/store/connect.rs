//! Opening the store, and refusing a server that would lose runs.

use std::{sync::Arc, time::Duration};

use deadpool_redis::{Manager, PoolConfig, Runtime, Timeouts};
use redis::{AsyncConnectionConfig, Client, ErrorKind, RedisError};

use super::{Shared, Store, StoreError, keys, link::Link};
use crate::process::RedisSettings;

/// How many connections the administration may have open.
const POOL_MAX: usize = 4;

/// The oldest server that knows every command of the scripts (XAUTOCLAIM).
const OLDEST_VERSION: (u32, u32) = (6, 2);

impl Store {
    /// Opens the store and looks whether the server suits.
    ///
    /// # Errors
    /// Fails where the address cannot be read, the server cannot be reached,
    /// is too old, may evict keys, is a replica, or holds another layout.
    pub async fn connect(settings: &RedisSettings) -> Result<Self, StoreError> {
        let client = Client::open(settings.url.as_str()).map_err(|error| {
            // The address may hold a password, so it is not repeated.
            StoreError::Unsuitable(format!("the address of redis cannot be read: {error}"))
        })?;
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(settings.timeout))
            .set_response_timeout(Some(settings.timeout));
        let manager = Manager::new_with_config(settings.url.as_str(), config)?;
        let pool = deadpool_redis::Pool::builder(manager)
            .config(pool_config(settings.timeout))
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|error| StoreError::Unsuitable(error.to_string()))?;
        let store = Self {
            shared: Arc::new(Shared {
                link: Link::new(client.clone(), settings.timeout),
                client,
                timeout: settings.timeout,
                pool,
            }),
        };
        store.check_server().await?;
        store.check_layout().await?;
        Ok(store)
    }

    /// Waits for an answer of Redis.
    ///
    /// # Errors
    /// Fails where there is none in time.
    pub async fn ping(&self) -> Result<(), StoreError> {
        let _: String = self.link().ask(&redis::cmd("PING")).await?;
        Ok(())
    }

    async fn check_server(&self) -> Result<(), StoreError> {
        let info: String = self
            .link()
            .ask(redis::cmd("INFO").arg("everything"))
            .await?;
        let field = |name: &str| {
            info.lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
                .map(str::trim)
        };
        if let Some(version) = field("redis_version")
            && parsed_version(version).is_some_and(|version| version < OLDEST_VERSION)
        {
            return Err(StoreError::Unsuitable(format!(
                "redis {version} is too old: 6.2 or newer is needed"
            )));
        }
        if let Some(policy) = field("maxmemory_policy")
            && policy != "noeviction"
        {
            return Err(StoreError::Unsuitable(format!(
                "redis has maxmemory-policy {policy}, which may delete runs: set it to noeviction"
            )));
        }
        if field("role") == Some("slave") {
            return Err(StoreError::Unsuitable(
                "redis is a replica, which takes no writes: name its master".into(),
            ));
        }
        if field("aof_enabled") == Some("0") {
            tracing::warn!("redis has no append-only file: runs are lost when it stops");
        }
        Ok(())
    }

    /// Writes down the layout of keys at the first start, and refuses any
    /// other one after that.
    async fn check_layout(&self) -> Result<(), StoreError> {
        let mut connection = self.shared.pool.get().await?;
        let (version,): (String,) = redis::pipe()
            .atomic()
            .hset_nx(keys::META, "layout", keys::LAYOUT_VERSION)
            .ignore()
            .hset_nx(keys::META, "partitions", 1)
            .ignore()
            .hget(keys::META, "layout")
            .query_async(&mut connection)
            .await?;
        if version != keys::LAYOUT_VERSION.to_string() {
            return Err(StoreError::Unsuitable(format!(
                "redis holds layout {version} of the keys, this program knows {}",
                keys::LAYOUT_VERSION
            )));
        }
        Ok(())
    }
}

fn pool_config(timeout: Duration) -> PoolConfig {
    let mut config = PoolConfig::new(POOL_MAX);
    config.timeouts = Timeouts {
        wait: Some(timeout),
        create: Some(timeout),
        recycle: Some(timeout),
    };
    config
}

/// The first two parts of a version such as `7.0.15`.
fn parsed_version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.split('.').map(str::parse);
    Some((parts.next()?.ok()?, parts.next()?.ok()?))
}

/// An answer of a script that has another shape than its contract says.
pub(super) fn unexpected(script: &'static str) -> StoreError {
    StoreError::Refused(RedisError::from((
        ErrorKind::UnexpectedReturnType,
        "a script answered in another shape than agreed",
        script.to_owned(),
    )))
}
