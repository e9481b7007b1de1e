//! The shared connection to a server: opened when needed, given up when broken.
//!
//! Commands of many tasks travel over it at once, so nothing that blocks may
//! be sent on it. A command whose connection breaks fails: only the caller
//! knows whether it may be sent again. After a failure that hints at the
//! connection (broken, no answer in time, a server that became a replica or
//! gave its slots away) the next command opens a new one, to whichever server
//! is the master then.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use deadpool_redis::{Manager, Pool, PoolConfig, Runtime, Timeouts};
use redis::{
    AsyncConnectionConfig, Cmd, ErrorKind, FromRedisValue, RedisError, ServerErrorKind,
    aio::MultiplexedConnection,
};
use tokio::sync::RwLock;

use super::{StoreError, scripts::SCRIPTS, topology::Topology};

/// How many commands may be under way on the connection before senders wait.
const COMMANDS_UNDER_WAY_MAX: usize = 4096;

/// How many connections may be open for what needs one of its own: the
/// administration, and starts that wait for their durability.
const POOL_MAX: usize = 32;

pub(super) struct Link {
    topology: Arc<Topology>,
    /// A slot of the server that it leads to.
    slot: u16,
    timeout: Duration,
    current: RwLock<Option<MultiplexedConnection>>,
    pool: Mutex<Option<Pool>>,
}

impl Link {
    pub(super) fn new(topology: Arc<Topology>, slot: u16, timeout: Duration) -> Self {
        Self {
            topology,
            slot,
            timeout,
            current: RwLock::default(),
            pool: Mutex::default(),
        }
    }

    /// The server that it leads to now.
    pub(super) async fn master(&self) -> Result<redis::Client, RedisError> {
        self.topology.master(self.slot).await
    }

    /// The connection, opened if there is none, with all scripts loaded.
    pub(super) async fn connection(&self) -> Result<MultiplexedConnection, RedisError> {
        if let Some(connection) = &*self.current.read().await {
            return Ok(connection.clone());
        }
        let mut current = self.current.write().await;
        if let Some(connection) = &*current {
            return Ok(connection.clone());
        }
        let config = self
            .config()
            .set_pipeline_buffer_size(COMMANDS_UNDER_WAY_MAX);
        let master = self.master().await?;
        let opening = master.get_multiplexed_async_connection_with_config(&config);
        let mut connection = opening.await?;
        SCRIPTS.load(&mut connection).await?;
        Ok(current.insert(connection).clone())
    }

    /// A connection for the caller alone, until it is dropped.
    pub(super) async fn own_connection(&self) -> Result<deadpool_redis::Connection, StoreError> {
        let known = self.lock_pool().clone();
        let pool = match known {
            Some(pool) => pool,
            None => {
                let pool = self.open_pool().await?;
                self.lock_pool().insert(pool).clone()
            }
        };
        match pool.get().await {
            Ok(connection) => Ok(connection),
            Err(error) => {
                // The next one asks who the master is.
                self.lock_pool().take();
                Err(error.into())
            }
        }
    }

    async fn open_pool(&self) -> Result<Pool, StoreError> {
        let master = self.master().await?;
        let info = master.get_connection_info().clone();
        let manager = Manager::new_with_config(info, self.config())?;
        let mut config = PoolConfig::new(POOL_MAX);
        config.timeouts = Timeouts {
            wait: Some(self.timeout),
            create: Some(self.timeout),
            recycle: Some(self.timeout),
        };
        Pool::builder(manager)
            .config(config)
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|error| StoreError::Unsuitable(error.to_string()))
    }

    fn lock_pool(&self) -> std::sync::MutexGuard<'_, Option<Pool>> {
        // A pool is there or not: nothing can be half done.
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn config(&self) -> AsyncConnectionConfig {
        AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.timeout))
            .set_response_timeout(Some(self.timeout))
    }

    /// Sends a command that changes nothing, and waits for its answer. Where the
    /// connection turns out to have ended or to lead elsewhere, it is sent once
    /// more.
    pub(super) async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, RedisError> {
        let mut connection = self.connection().await?;
        let answer = self.observe(command.query_async(&mut connection).await);
        match answer {
            Err(error) if error.is_connection_dropped() || is_elsewhere(&error) => {
                let mut connection = self.connection().await?;
                self.observe(command.query_async(&mut connection).await)
            }
            answer => answer,
        }
    }

    /// Hands an answer on, and gives the connection up where it shows that the
    /// connection is of no more use.
    pub(super) fn observe<T>(&self, answer: Result<T, RedisError>) -> Result<T, RedisError> {
        if let Err(error) = &answer
            && is_broken(error)
        {
            // Whoever holds the lock is opening a new connection already.
            if let Ok(mut current) = self.current.try_write() {
                *current = None;
            }
            self.lock_pool().take();
        }
        answer
    }
}

fn is_broken(error: &RedisError) -> bool {
    matches!(error.kind(), ErrorKind::Io | ErrorKind::Parse)
        || is_elsewhere(error)
        || matches!(
            error.kind(),
            ErrorKind::Server(ServerErrorKind::ClusterDown | ServerErrorKind::MasterDown)
        )
}

/// Whether another server is the one to ask. Nothing was executed then.
pub(super) fn is_elsewhere(error: &RedisError) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Server(
            ServerErrorKind::ReadOnly | ServerErrorKind::Moved | ServerErrorKind::Ask
        )
    )
}
