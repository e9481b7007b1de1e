//! Why a table could not be read, made or written.

use std::{fmt, io};

use crate::stores::StoreError;

/// Why a table could not be read, made or written, cut by what can be done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TableError {
    /// The flow, its data or the settings must change.
    #[error("{message}")]
    Refused {
        /// A stable word for the cause.
        code: &'static str,
        /// One sentence for people.
        message: String,
    },

    /// A row of a file does not fit. The file must change.
    #[error("{file}, line {line}: {reason}")]
    BadRow {
        /// The file, as its flow names it.
        file: String,
        /// The line on which the row starts, from 1.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },

    /// Memory or disk is used up. Later there may be room.
    #[error("{message}")]
    Full {
        /// One sentence for people, which names the setting.
        message: String,
    },

    /// A file could not be read or written.
    #[error("{doing} failed: {source}")]
    Io {
        /// What was tried, with the file's name.
        doing: String,
        /// What the system said.
        source: io::Error,
    },

    /// A file that lies elsewhere could not be read or written.
    #[error(transparent)]
    Elsewhere(StoreError),

    /// A fault of the engine itself.
    #[error("{message}")]
    Fault {
        /// One sentence for people.
        message: String,
    },

    /// Nobody wants the result any more.
    #[error("the step was cancelled")]
    Cancelled,

    /// The step that makes the rows has stopped.
    #[error("the step that makes the rows has stopped")]
    Interrupted,
}

impl TableError {
    /// The code of what a step fails with whose rows stopped coming.
    pub(crate) const INTERRUPTED: &'static str = "interrupted";

    pub(super) fn refused(code: &'static str, message: impl Into<String>) -> Self {
        Self::Refused {
            code,
            message: message.into(),
        }
    }

    pub(super) fn io(doing: impl Into<String>, source: io::Error) -> Self {
        Self::Io {
            doing: doing.into(),
            source,
        }
    }

    /// A stable word for the cause.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Refused { code, .. } => code,
            Self::BadRow { .. } => "bad_row",
            Self::Full { .. } => "memory_full",
            Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => "file_not_found",
            Self::Io { .. } => "file_failed",
            Self::Elsewhere(error) => error.code,
            Self::Fault { .. } => "engine_failed",
            Self::Cancelled => "cancelled",
            Self::Interrupted => Self::INTERRUPTED,
        }
    }

    /// Whether another attempt may go better.
    pub(crate) fn is_retriable(&self) -> bool {
        use io::ErrorKind as Kind;
        match self {
            Self::Full { .. } | Self::Fault { .. } => true,
            Self::Refused { .. } | Self::BadRow { .. } | Self::Cancelled | Self::Interrupted => {
                false
            }
            Self::Elsewhere(error) => error.is_passing,
            Self::Io { source, .. } => !matches!(
                source.kind(),
                Kind::NotFound
                    | Kind::PermissionDenied
                    | Kind::NotADirectory
                    | Kind::IsADirectory
                    | Kind::InvalidInput
                    | Kind::InvalidFilename
                    | Kind::ReadOnlyFilesystem
            ),
        }
    }
}

impl From<StoreError> for TableError {
    fn from(error: StoreError) -> Self {
        match error.code {
            StoreError::CANCELLED => Self::Cancelled,
            _ => Self::Elsewhere(error),
        }
    }
}

/// A value as an error shows it: in backquotes, and not longer than a line.
pub(super) struct Shown<'a>(pub(super) &'a str);

impl Shown<'_> {
    const CHARS_MAX: usize = 60;
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = self.0.char_indices().nth(Self::CHARS_MAX);
        match end {
            Some((end, _)) => write!(f, "`{}…`", &self.0[..end]),
            None => write!(f, "`{}`", self.0),
        }
    }
}
