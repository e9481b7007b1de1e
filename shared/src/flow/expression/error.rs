//! Why an expression has no value, in one line that names the expression.

use std::error::Error as _;

use minijinja::ErrorKind;

/// Why an expression has no value. One line for people, which names the
/// expression and the cause.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ExpressionError {
    message: String,
}

/// How much of a long expression an error shows, in characters.
const EXCERPT_CHARS: usize = 80;

impl ExpressionError {
    pub(super) fn new(source: &str, error: &minijinja::Error) -> Self {
        let part = error.range().and_then(|range| source.get(range));
        // Of an ill-formed expression it is only where reading came to an end, and
        // of an unknown filter only its name.
        let is_telling = !matches!(
            error.kind(),
            ErrorKind::SyntaxError | ErrorKind::UnknownFilter | ErrorKind::UnknownTest
        );
        let part = part.filter(|part| is_telling && !part.trim().is_empty());
        Self::because(part.unwrap_or(source), &cause(error))
    }

    pub(super) fn because(source: &str, cause: &str) -> Self {
        let message = format!("in `{}`: {cause}", excerpt(source));
        Self {
            message: message.replace(char::is_control, " "),
        }
    }
}

fn excerpt(source: &str) -> String {
    let mut excerpt: String = source.trim().chars().take(EXCERPT_CHARS).collect();
    if excerpt.len() < source.trim().len() {
        excerpt.push('…');
    }
    excerpt
}

/// A message of the parser with the marks that it means in place of its words.
fn marks(message: &str) -> String {
    message
        .replace("start of variable block", "`{{`")
        .replace("end of variable block", "`}}`")
        .replace("start of block", "`{%`")
        .replace("end of block", "`%}`")
}

fn cause(error: &minijinja::Error) -> String {
    let detail = error.detail();
    let cause = match error.kind() {
        ErrorKind::OutOfFuel => "it takes too much work".to_owned(),
        ErrorKind::UndefinedError => detail.unwrap_or("a value is undefined").to_owned(),
        // The cause of it, which follows, says it better.
        ErrorKind::WriteFailure if error.source().is_some() => String::new(),
        ErrorKind::SyntaxError => marks(detail.unwrap_or("it is ill-formed")),
        kind => detail.map_or_else(|| kind.to_string(), str::to_owned),
    };
    match error.source() {
        Some(source) if cause.is_empty() => source.to_string(),
        Some(source) => format!("{cause}: {source}"),
        None => cause,
    }
}
