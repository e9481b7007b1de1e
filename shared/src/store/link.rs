//! The shared connection to a server: opened when needed, given up when broken.
//!
//! Commands of many tasks travel over it at once, so nothing that blocks may
//! be sent on it. A command whose connection breaks fails: only the caller
//! knows whether it may be sent again. After a failure that hints at the
//! connection (broken, no answer in time, a server that became a replica or
//! gave its slots away) the next command opens a new one, to whichever server
//! is the master then.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use deadpool_redis::{Manager, Pool, PoolConfig, PoolError, Runtime, TimeoutType, Timeouts};
use futures::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use redis::{
    AsyncConnectionConfig, Cmd, ErrorKind, FromRedisValue, RedisError, ServerErrorKind,
    aio::MultiplexedConnection,
};
use tokio::time::timeout;

use super::{StoreError, error::code, scripts::SCRIPTS, topology::Topology};

/// How many commands may be under way on the connection before senders wait.
const COMMANDS_UNDER_WAY_MAX: usize = 4096;

/// How many connections may be open for what needs one of its own, such as the
/// administration.
const OWN_MAX: usize = 32;

/// How many may be open for starts that wait for their durability. Each holds
/// one as long as it waits, which must not be at the cost of others.
const WAITING_MAX: usize = 256;

pub(super) struct Link {
    topology: Arc<Topology>,
    /// A slot of the server that it leads to.
    slot: u16,
    timeout: Duration,
    current: Mutex<Option<Opening>>,
    own: Mutex<Option<Pool>>,
    waiting: Mutex<Option<Pool>>,
}

/// A connection that is being opened or is there. All who need it share one
/// attempt: with a server that does not answer, one after the other would wait
/// for as long as the others together.
type Opening = Shared<BoxFuture<'static, Result<MultiplexedConnection, RedisError>>>;

impl Link {
    pub(super) fn new(topology: Arc<Topology>, slot: u16, timeout: Duration) -> Self {
        Self {
            topology,
            slot,
            timeout,
            current: Mutex::default(),
            own: Mutex::default(),
            waiting: Mutex::default(),
        }
    }

    /// The server that it leads to now.
    pub(super) async fn master(&self) -> Result<redis::Client, RedisError> {
        self.topology.master(self.slot).await
    }

    /// The connection, opened if there is none, with all scripts loaded.
    pub(super) async fn connection(&self) -> Result<MultiplexedConnection, RedisError> {
        let opening = self
            .lock(&self.current)
            .get_or_insert_with(|| self.opening())
            .clone();
        let connection = opening.clone().await;
        if connection.is_err() {
            self.give_up(&opening);
        }
        connection
    }

    fn opening(&self) -> Opening {
        let (topology, slot, within) = (Arc::clone(&self.topology), self.slot, self.timeout);
        let config = self
            .config()
            .set_pipeline_buffer_size(COMMANDS_UNDER_WAY_MAX);
        let open = async move {
            let master = topology.master(slot).await?;
            let opening = master.get_multiplexed_async_connection_with_config(&config);
            let mut connection = opening.await?;
            // Says in one word why nothing can be had of it.
            redis::cmd("PING").exec_async(&mut connection).await?;
            SCRIPTS.load(&mut connection).await?;
            Ok(connection)
        };
        // A task of its own goes on where whoever began it gives up.
        let opening = tokio::spawn(timeout(within, open));
        let opened = async move {
            match opening.await {
                Ok(Ok(opened)) => opened,
                Ok(Err(_)) => Err(failure("redis did not answer in time")),
                Err(_) => Err(failure("the connection could not be opened")),
            }
        };
        opened.boxed().shared()
    }

    /// Gives a connection up, unless another one has taken its place.
    fn give_up(&self, opening: &Opening) {
        let mut current = self.lock(&self.current);
        if current
            .as_ref()
            .is_some_and(|current| current.ptr_eq(opening))
        {
            *current = None;
        }
    }

    /// A connection for the caller alone, until it is dropped.
    pub(super) async fn own_connection(&self) -> Result<deadpool_redis::Connection, StoreError> {
        self.pooled(&self.own, OWN_MAX).await
    }

    /// A connection for a caller who blocks it for a while.
    pub(super) async fn waiting_connection(
        &self,
    ) -> Result<deadpool_redis::Connection, StoreError> {
        self.pooled(&self.waiting, WAITING_MAX).await
    }

    async fn pooled(
        &self,
        place: &Mutex<Option<Pool>>,
        most: usize,
    ) -> Result<deadpool_redis::Connection, StoreError> {
        let known = self.lock(place).clone();
        let pool = match known {
            Some(pool) => pool,
            None => {
                let pool = self.open_pool(most).await?;
                self.lock(place).get_or_insert(pool).clone()
            }
        };
        match pool.get().await {
            Ok(connection) => Ok(connection),
            Err(error) => {
                let busy = matches!(error, PoolError::Timeout(TimeoutType::Wait));
                if !busy {
                    // The next one asks who the master is.
                    self.lock(place).take();
                }
                Err(error.into())
            }
        }
    }

    async fn open_pool(&self, most: usize) -> Result<Pool, StoreError> {
        let master = self.master().await?;
        let info = master.get_connection_info().clone();
        let manager = Manager::new_with_config(info, self.config())?;
        let mut config = PoolConfig::new(most);
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

    fn lock<'a, T>(&self, place: &'a Mutex<Option<T>>) -> MutexGuard<'a, Option<T>> {
        // It is there or not: nothing can be half done.
        place.lock().unwrap_or_else(PoisonError::into_inner)
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
            let mut current = self.lock(&self.current);
            // One that is being opened is the answer to this already.
            if current
                .as_ref()
                .is_some_and(|opening| opening.peek().is_some())
            {
                *current = None;
            }
            drop(current);
            self.lock(&self.own).take();
            self.lock(&self.waiting).take();
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
    ) || code(error) == Some("READONLY")
}

/// A failure that may pass.
pub(super) fn failure(why: &'static str) -> RedisError {
    RedisError::from((ErrorKind::Io, why))
}
