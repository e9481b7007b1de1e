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
            _ => match code(&error) {
                Some("OOM" | "MISCONF") => Self::Full(error),
                Some("BUSY" | "NOREPLICAS" | "UNBLOCKED" | "READONLY") => Self::Unavailable(error),
                _ => Self::Refused(error),
            },
        }
    }
}

/// The word for what is wrong. An old server (6.2) says it within the error of
/// the script whose command it refused: `ERR Error running script … -OOM …`.
pub(super) fn code(error: &RedisError) -> Option<&str> {
    let code = error.code();
    if code != Some("ERR") {
        return code;
    }
    let within = error.detail().and_then(|detail| detail.rsplit_once(": -"));
    within.map_or(code, |(_, refused)| refused.split(' ').next())
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

#[cfg(test)]
mod tests {
    use redis::{Value, parse_redis_value};

    use super::*;

    fn error(line: &str) -> RedisError {
        match parse_redis_value(format!("-{line}\r\n").as_bytes()) {
            Ok(Value::ServerError(error)) => error.into(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_error_within_the_error_of_a_script_is_what_counts() {
        let within = |refused: &str| {
            let script =
                "ERR Error running script (call to f_36fa): @user_script:1: @user_script: 1: ";
            StoreError::from(error(&format!("{script}-{refused}")))
        };
        let full = "OOM command not allowed when used memory > 'maxmemory'.";
        assert!(matches!(within(full), StoreError::Full(_)));
        let replica = "READONLY You can't write against a read only replica.";
        assert!(matches!(within(replica), StoreError::Unavailable(_)));
        let wrong = within("WRONGTYPE Operation against a key holding the wrong kind of value");
        assert!(matches!(wrong, StoreError::Refused(_)));
        assert!(matches!(error(full).into(), StoreError::Full(_)));
        assert!(matches!(
            error("ERR no such thing").into(),
            StoreError::Refused(_)
        ));
    }
}
