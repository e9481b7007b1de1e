//! What can go wrong with the store, cut by what the caller can do about it.

use redis::{ErrorKind, RedisError, ServerErrorKind};

/// Why the store did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Redis cannot be reached, did not answer in time, or cannot serve just
    /// now (loading, no master). Trying again may help; the command may have
    /// been executed.
    #[error("redis is unavailable")]
    Unavailable(#[source] RedisError),

    /// Redis refused to store more: its memory or its disk is full. Nothing
    /// was changed. Trying again helps once there is room.
    #[error("redis has no room")]
    Full(#[source] RedisError),

    /// Redis refused or did not understand: a fault of the set-up or of ours.
    /// Trying again does not help.
    #[error("redis refused a command")]
    Refused(#[source] RedisError),

    /// A stored value is not what it should be. Trying again does not help.
    #[error("the value at `{key}` is not {expected}")]
    Corrupt {
        /// Its key.
        key: String,
        /// What it should be.
        expected: &'static str,
    },

    /// Another worker has the run by now, or it has ended: whoever gets this
    /// must stop working on it.
    #[error("the lease on the run was lost")]
    LeaseLost,

    /// The server cannot be used as it is set up.
    #[error("{0}")]
    Unsuitable(String),
}

impl StoreError {
    /// Whether the same call may go better later.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Full(_))
    }

    pub(super) fn corrupt(key: impl Into<String>, expected: &'static str) -> Self {
        Self::Corrupt {
            key: key.into(),
            expected,
        }
    }
}

impl From<RedisError> for StoreError {
    fn from(error: RedisError) -> Self {
        match error.kind() {
            ErrorKind::Server(
                ServerErrorKind::BusyLoading
                | ServerErrorKind::MasterDown
                | ServerErrorKind::ClusterDown
                | ServerErrorKind::TryAgain
                | ServerErrorKind::ReadOnly
                | ServerErrorKind::Moved
                | ServerErrorKind::Ask
                | ServerErrorKind::NoScript,
            ) => Self::Unavailable(error),
            ErrorKind::Io => Self::Unavailable(error),
            _ => match error.code() {
                Some("OOM" | "MISCONF") => Self::Full(error),
                Some("BUSY" | "NOREPLICAS" | "UNBLOCKED") => Self::Unavailable(error),
                _ => Self::Refused(error),
            },
        }
    }
}

impl From<deadpool_redis::PoolError> for StoreError {
    fn from(error: deadpool_redis::PoolError) -> Self {
        match error {
            deadpool_redis::PoolError::Backend(error) => error.into(),
            other => Self::Unavailable(RedisError::from((
                ErrorKind::Io,
                "no connection could be had from the pool",
                other.to_string(),
            ))),
        }
    }
}
