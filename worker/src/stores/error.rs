//! Why a file that lies elsewhere could not be read or written.

use std::{error::Error, io};

use object_store::client::{HttpError, HttpErrorKind};

use crate::{connections::ConnectionError, steps::StepError};

/// How much of what a store says is repeated.
const SAID_CHARS_MAX: usize = 200;

/// Why a file that lies elsewhere could not be read or written.
///
/// It travels through formats and compressions within an [`io::Error`].
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct StoreError {
    /// A stable word for the cause.
    pub(crate) code: &'static str,
    /// One sentence for people.
    pub(crate) message: String,
    /// Whether another attempt may go better.
    pub(crate) is_passing: bool,
}

impl StoreError {
    /// The code of work that nobody wants any more.
    pub(crate) const CANCELLED: &str = "cancelled";

    /// Another attempt would only repeat it.
    pub(crate) fn refused(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            is_passing: false,
        }
    }

    /// Another attempt may not meet it.
    pub(crate) fn passing(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            is_passing: true,
            ..Self::refused(code, message)
        }
    }

    pub(super) fn cancelled() -> Self {
        Self::refused(Self::CANCELLED, "the step was cancelled")
    }

    /// The file is another one than when reading it began.
    pub(super) fn changed(shown: &str) -> Self {
        Self::passing(
            "file_changed",
            format!("`{shown}` was changed while it was read"),
        )
    }

    /// Fewer bytes came than the file has.
    pub(super) fn cut_off(shown: &str, expected: u64, got: u64) -> Self {
        let message = format!("`{shown}` was cut off on its way: {got} of {expected} bytes came");
        Self::passing("connection_lost", message)
    }

    /// What the local disk says of a file that is kept there for a while.
    pub(super) fn of_disk(shown: &str, error: &io::Error) -> Self {
        let message = format!("keeping `{shown}` in the work folder failed: {error}");
        Self::passing("file_failed", message)
    }
}

impl From<StoreError> for io::Error {
    fn from(error: StoreError) -> Self {
        Self::other(error)
    }
}

impl From<ConnectionError> for StoreError {
    fn from(error: ConnectionError) -> Self {
        Self {
            code: error.code,
            message: error.message,
            is_passing: error.is_passing,
        }
    }
}

impl From<StepError> for StoreError {
    fn from(error: StepError) -> Self {
        Self {
            code: error.code,
            message: error.message,
            is_passing: error.retriable,
        }
    }
}

impl From<StoreError> for StepError {
    fn from(error: StoreError) -> Self {
        Self {
            retriable: error.is_passing,
            ..Self::permanent(error.code, error.message)
        }
    }
}

/// What was tried, for an error.
#[derive(Clone, Copy, Debug)]
pub(super) struct Doing<'a> {
    /// Such as `reading`.
    pub(super) what: &'a str,
    /// The address of the object.
    pub(super) shown: &'a str,
    /// The name of the connection.
    pub(super) connection: &'a str,
}

impl Doing<'_> {
    /// Why it failed.
    pub(super) fn failed(&self, error: &object_store::Error) -> StoreError {
        let said = Said::of(error);
        let Self {
            what,
            shown,
            connection,
        } = self;
        let start = format!("{what} `{shown}` failed");
        let reason = said.reason();
        match said.kind(error) {
            Kind::NoBucket => StoreError::refused(
                "no_such_bucket",
                format!(
                    "{start}: there is no such bucket where the connection `{connection}` leads{reason}"
                ),
            ),
            Kind::WrongRegion => StoreError::refused(
                "wrong_region",
                format!(
                    "{start}: the bucket lies in another region; set `region` of the connection `{connection}`{reason}"
                ),
            ),
            Kind::Denied => StoreError::refused(
                "access_denied",
                format!(
                    "{start}: the store does not let the connection `{connection}` do that{reason}"
                ),
            ),
            Kind::NoObject => StoreError::refused(
                "file_not_found",
                format!("{start}: there is no such object"),
            ),
            Kind::Changed => StoreError::changed(shown),
            Kind::Busy => StoreError::passing(
                "store_busy",
                format!("{start}: the store has too much to do{reason}"),
            ),
            Kind::Unreachable(why) => StoreError::passing(
                "store_unreachable",
                format!("{start}: the store cannot be reached: {why}"),
            ),
            Kind::Broken => StoreError::passing(
                "store_failed",
                format!("{start}: the store has a fault{reason}"),
            ),
            Kind::Other => {
                let reason = if reason.is_empty() {
                    format!(": {}", shortened(&deepest(error)))
                } else {
                    reason
                };
                StoreError::refused("store_refused", format!("{start}{reason}"))
            }
        }
    }
}

/// What can be done about a failure.
enum Kind {
    NoBucket,
    WrongRegion,
    Denied,
    NoObject,
    Changed,
    Busy,
    Unreachable(String),
    Broken,
    Other,
}

/// What a store said in an answer that is no success. The library hands it on
/// within texts alone.
#[derive(Debug, Default, PartialEq)]
struct Said {
    status: Option<u16>,
    code: Option<String>,
    message: Option<String>,
    is_redirect: bool,
}

impl Said {
    fn of(error: &object_store::Error) -> Self {
        let mut cause: Option<&dyn Error> = Some(error);
        let mut said = Self::default();
        while let Some(current) = cause {
            said.read(&current.to_string());
            cause = current.source();
        }
        said
    }

    fn read(&mut self, text: &str) {
        let status = text.split_once("status code: ").map(|(_, rest)| rest);
        let status = status.and_then(|rest| rest.get(..3)?.parse().ok());
        self.status = status.or(self.status);
        self.code = within(text, "Code").or(self.code.take());
        self.message = within(text, "Message").or(self.message.take());
        self.is_redirect |= text.contains("redirect without LOCATION");
    }

    fn kind(&self, error: &object_store::Error) -> Kind {
        use object_store::Error as E;
        let code = self.code.as_deref().unwrap_or_default();
        match (code, self.status.unwrap_or_default()) {
            ("NoSuchBucket" | "ContainerNotFound", _) => Kind::NoBucket,
            (
                "PermanentRedirect"
                | "AuthorizationHeaderMalformed"
                | "IllegalLocationConstraintException",
                _,
            )
            | (_, 301 | 307) => Kind::WrongRegion,
            _ if self.is_redirect => Kind::WrongRegion,
            ("SlowDown" | "ServerBusy" | "TooManyRequests", _) | (_, 429 | 503) => Kind::Busy,
            (_, 401 | 403) => Kind::Denied,
            (_, 404) => Kind::NoObject,
            (_, 412 | 416) => Kind::Changed,
            (_, 500..=599) => Kind::Broken,
            _ => match error {
                E::NotFound { .. } => Kind::NoObject,
                E::Precondition { .. } | E::NotModified { .. } => Kind::Changed,
                E::PermissionDenied { .. } | E::Unauthenticated { .. } => Kind::Denied,
                _ => transport(error).map_or(Kind::Other, Kind::Unreachable),
            },
        }
    }

    /// Its own words, as the end of a sentence.
    fn reason(&self) -> String {
        match (&self.code, &self.message) {
            (Some(code), Some(message)) => format!(" ({code}: {})", shortened(message)),
            (Some(code), None) => format!(" ({code})"),
            _ => String::new(),
        }
    }
}

/// The text within an element of XML.
fn within(text: &str, element: &str) -> Option<String> {
    let (_, rest) = text.split_once(&format!("<{element}>"))?;
    let (inner, _) = rest.split_once("</")?;
    Some(inner.trim().to_owned())
}

/// What went wrong below HTTP, if that is where it did.
fn transport(error: &object_store::Error) -> Option<String> {
    let mut cause: Option<&dyn Error> = Some(error);
    while let Some(current) = cause {
        if let Some(http) = current.downcast_ref::<HttpError>() {
            let told = shortened(&deepest(http));
            return Some(match http.kind() {
                HttpErrorKind::Timeout => format!("it did not answer in time ({told})"),
                _ => told,
            });
        }
        cause = current.source();
    }
    None
}

/// The innermost cause: those around it name addresses.
fn deepest(error: &dyn Error) -> String {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string()
}

fn shortened(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    line.trim_end_matches('.')
        .chars()
        .take(SAID_CHARS_MAX)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Text(&'static str);

    fn failed(error: &object_store::Error) -> (&'static str, String, bool) {
        let doing = Doing {
            what: "reading",
            shown: "s3://raw/a.csv",
            connection: "lake",
        };
        let failed = doing.failed(error);
        (failed.code, failed.message, failed.is_passing)
    }

    fn answered(text: &'static str) -> (&'static str, String, bool) {
        failed(&object_store::Error::Generic {
            store: "S3",
            source: Box::new(Text(text)),
        })
    }

    #[test]
    fn what_a_store_says_becomes_one_sentence() {
        let (code, message, is_passing) = answered(
            "Server returned non-2xx status code: 403 Forbidden: <Error><Code>InvalidAccessKeyId</Code><Message>The key does not exist.\nRequest 7</Message></Error>",
        );
        assert_eq!((code, is_passing), ("access_denied", false));
        assert_eq!(
            message,
            "reading `s3://raw/a.csv` failed: the store does not let the connection `lake` do that (InvalidAccessKeyId: The key does not exist)"
        );
        for (text, code, is_passing) in [
            (
                "status code: 404 Not Found: <Code>NoSuchBucket</Code>",
                "no_such_bucket",
                false,
            ),
            (
                "status code: 404 Not Found: <Code>NoSuchKey</Code>",
                "file_not_found",
                false,
            ),
            (
                "status code: 400 Bad Request: <Code>AuthorizationHeaderMalformed</Code>",
                "wrong_region",
                false,
            ),
            (
                "Received redirect without LOCATION, this",
                "wrong_region",
                false,
            ),
            ("status code: 503 Slow Down: ", "store_busy", true),
            (
                "status code: 500 Internal Server Error: ",
                "store_failed",
                true,
            ),
            (
                "status code: 412 Precondition Failed: ",
                "file_changed",
                true,
            ),
            (
                "status code: 400 Bad Request: <Code>KeyTooLongError</Code>",
                "store_refused",
                false,
            ),
            ("something else", "store_refused", false),
        ] {
            let found = answered(text);
            assert_eq!(
                (found.0, found.2),
                (code, is_passing),
                "{text}: {}",
                found.1
            );
        }
    }

    #[test]
    fn what_goes_wrong_below_http_may_pass() {
        let cause = io::Error::new(io::ErrorKind::ConnectionRefused, "Connection refused");
        let (code, message, is_passing) = failed(&object_store::Error::Generic {
            store: "S3",
            source: Box::new(HttpError::new(HttpErrorKind::Connect, cause)),
        });
        assert_eq!((code, is_passing), ("store_unreachable", true));
        assert!(
            message.ends_with("cannot be reached: Connection refused"),
            "{message}"
        );
    }
}
