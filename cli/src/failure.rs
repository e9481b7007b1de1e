//! How a command ends: its outcome, or why it did not do what it was asked.

use std::{path::PathBuf, process::ExitCode};

/// What came of a command that did what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All is well.
    Done,
    /// The run failed, or a flow is not valid.
    Bad,
    /// The time to wait was over before the run was.
    Unfinished,
}

impl Outcome {
    /// What scripts see of it.
    pub(crate) fn exit_code(self) -> ExitCode {
        match self {
            Self::Done => ExitCode::SUCCESS,
            Self::Bad => ExitCode::from(1),
            Self::Unfinished => ExitCode::from(4),
        }
    }
}

/// Why a command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The command line, a setting or a named file makes no sense.
    #[error("{0}")]
    Usage(String),

    /// A named file or folder cannot be read.
    #[error("cannot read `{}`: {source}", path.display())]
    Unreadable {
        path: PathBuf,
        source: std::io::Error,
    },

    /// The service could not be reached, or the connection broke.
    #[error("cannot reach {url}: {cause}")]
    Unreachable { url: String, cause: String },

    /// The service answered, and refused or failed.
    #[error("{0}")]
    Refused(Refusal),

    /// What answered is not Millstream, or not as this program knows it.
    #[error("{url} does not answer as Millstream does: {cause}")]
    Strange { url: String, cause: String },

    /// A run was started, and then the service was lost.
    #[error("run {run} was started, but its end could not be learnt: {cause}")]
    Lost { run: String, cause: Box<Failure> },

    /// Something on this machine went wrong.
    #[error("{0:#}")]
    Local(#[from] anyhow::Error),
}

impl Failure {
    /// What scripts see of it.
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Local(_) => ExitCode::from(1),
            Self::Usage(_) | Self::Unreadable { .. } => ExitCode::from(2),
            Self::Unreachable { .. }
            | Self::Refused(_)
            | Self::Strange { .. }
            | Self::Lost { .. } => ExitCode::from(3),
        }
    }

    /// Whether the same request may go better in a moment.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Refused(refusal) => refusal.status >= 500,
            _ => false,
        }
    }
}

impl From<&clap::Error> for Failure {
    /// One line about an argument or a setting: of what is told, the part
    /// before the first empty line.
    fn from(wrong: &clap::Error) -> Self {
        let text = wrong.to_string();
        let lines = text.lines().map(str::trim);
        let told: Vec<_> = lines.take_while(|line| !line.is_empty()).collect();
        let told = told.join(" ");
        Self::Usage(told.strip_prefix("error: ").unwrap_or(&told).to_owned())
    }
}

/// Whether this is no error but help, asked for or needed.
pub(crate) fn is_help(told: &clap::Error) -> bool {
    use clap::error::ErrorKind as Kind;
    matches!(
        told.kind(),
        Kind::DisplayHelp | Kind::DisplayVersion | Kind::DisplayHelpOnMissingArgumentOrSubcommand
    )
}

/// An answer of the service that is not what was asked for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Refusal {
    /// The HTTP status.
    pub(crate) status: u16,
    /// The stable word for the cause, where the service gave one.
    pub(crate) code: Option<String>,
    /// One sentence for people, which names each member that is wrong.
    pub(crate) detail: String,
    /// What is wrong, one by one, for programs.
    pub(crate) errors: Vec<serde_json::Value>,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let verb = if self.status >= 500 {
            "failed"
        } else {
            "refused"
        };
        write!(f, "the service {verb} ({}): {}", self.status, self.detail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_lies_with_the_service_may_pass() {
        let refused = |status| {
            Failure::Refused(Refusal {
                status,
                code: None,
                detail: String::new(),
                errors: Vec::new(),
            })
        };
        assert!(refused(500).may_pass());
        assert!(!refused(404).may_pass());
        assert!(!Failure::Usage(String::new()).may_pass());
    }
}
