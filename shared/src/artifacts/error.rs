//! Why the artifact store did not do what it was asked to.

use std::{error::Error, io};

/// The cause of an error. It may name internals, so it is for the log.
pub(super) type Cause = Box<dyn Error + Send + Sync>;

/// Why an artifact could not be kept or had, cut by what can be done.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// It is not there any more.
    #[error("`{name}` is gone from the artifact store")]
    Gone {
        /// The name of the artifact.
        name: String,
    },

    /// What is there is not what was put there.
    #[error("`{name}` in the artifact store is damaged: {reason}")]
    Damaged {
        /// The name of the artifact.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },

    /// The store cannot be reached or did not answer. Trying again may help.
    #[error("the artifact store `{store}` (MILLSTREAM_ARTIFACTS) does not answer")]
    Unavailable {
        /// The store.
        store: String,
        /// What it came from.
        source: Cause,
    },

    /// Its disk is full. Trying again helps once there is room.
    #[error("the artifact store `{store}` (MILLSTREAM_ARTIFACTS) has no room")]
    Full {
        /// The store.
        store: String,
        /// What it came from.
        source: Cause,
    },

    /// It cannot be used as it is set up. Trying again does not help.
    #[error("the artifact store `{store}` (MILLSTREAM_ARTIFACTS) refuses: {reason}")]
    Refused {
        /// The store.
        store: String,
        /// What is wrong, in a few words.
        reason: String,
        /// What it came from.
        source: Cause,
    },

    /// What was to be kept could not be made.
    #[error("what was to be kept broke off")]
    Source(#[source] io::Error),
}

impl ArtifactError {
    /// Whether the same call may go better later.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Full { .. })
    }

    /// Whether the artifact cannot be had any more, and what it held has to be
    /// made again.
    pub fn is_lost(&self) -> bool {
        matches!(self, Self::Gone { .. } | Self::Damaged { .. })
    }

    /// An error of the file system that holds `store`.
    pub(super) fn of_io(store: &str, error: io::Error) -> Self {
        use io::ErrorKind as Kind;
        let store = store.to_owned();
        let reason = match error.kind() {
            Kind::StorageFull | Kind::QuotaExceeded | Kind::FileTooLarge => {
                let source = error.into();
                return Self::Full { store, source };
            }
            Kind::PermissionDenied => "this process may not write there",
            Kind::ReadOnlyFilesystem => "it is read-only",
            Kind::NotADirectory | Kind::IsADirectory | Kind::AlreadyExists => {
                "something that is no folder is in its place"
            }
            Kind::NotFound => "it is not there",
            _ => {
                let source = error.into();
                return Self::Unavailable { store, source };
            }
        };
        Self::refused(store, reason, error.into())
    }

    /// An error of the service that `store` is.
    pub(super) fn of_bucket(store: &str, error: object_store::Error) -> Self {
        use object_store::Error as Kind;
        let store = store.to_owned();
        let reason = match &error {
            Kind::NotFound { .. } => "there is no such bucket or container",
            Kind::PermissionDenied { .. } => "these credentials do not allow it",
            Kind::Unauthenticated { .. } => "it does not know these credentials",
            Kind::NotSupported { .. }
            | Kind::NotImplemented { .. }
            | Kind::InvalidPath { .. }
            | Kind::UnknownConfigurationKey { .. } => "it cannot do this",
            _ => {
                let source = error.into();
                return Self::Unavailable { store, source };
            }
        };
        Self::refused(store, reason, error.into())
    }

    fn refused(store: String, reason: &str, source: Cause) -> Self {
        Self::Refused {
            store,
            reason: reason.to_owned(),
            source,
        }
    }
}
