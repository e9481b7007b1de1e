//! The shared connection to Redis: opened when needed, given up when broken.
//!
//! Commands of many tasks travel over it at once, so nothing that blocks may
//! be sent on it. A command whose connection breaks fails: only the caller
//! knows whether it may be sent again. After a failure that hints at the
//! connection (broken, no answer in time, a server that became a replica) the
//! next command opens a new one.

use std::{sync::Arc, time::Duration};

use redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, FromRedisValue, RedisError, ServerErrorKind,
    aio::MultiplexedConnection,
};
use tokio::sync::RwLock;

use super::scripts::SCRIPTS;

/// How many commands may be under way on the connection before senders wait.
const COMMANDS_UNDER_WAY_MAX: usize = 4096;

pub(super) struct Link {
    client: Client,
    config: AsyncConnectionConfig,
    current: Arc<RwLock<Option<MultiplexedConnection>>>,
}

impl Link {
    pub(super) fn new(client: Client, timeout: Duration) -> Self {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(timeout))
            .set_response_timeout(Some(timeout))
            .set_pipeline_buffer_size(COMMANDS_UNDER_WAY_MAX);
        Self {
            client,
            config,
            current: Arc::default(),
        }
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
        let opening = self
            .client
            .get_multiplexed_async_connection_with_config(&self.config);
        let mut connection = opening.await?;
        SCRIPTS.load(&mut connection).await?;
        Ok(current.insert(connection).clone())
    }

    /// Sends a command that changes nothing, and waits for its answer. Where the
    /// connection turns out to have ended meanwhile, it is sent once more.
    pub(super) async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, RedisError> {
        let mut connection = self.connection().await?;
        let answer = self.observe(command.query_async(&mut connection).await);
        match answer {
            Err(error) if error.is_connection_dropped() => {
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
        }
        answer
    }
}

fn is_broken(error: &RedisError) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Io | ErrorKind::Parse | ErrorKind::Server(ServerErrorKind::ReadOnly)
    )
}
