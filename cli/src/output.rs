//! What programs read: lines on standard output.

use std::io::Write;

use serde::Serialize;

/// Prints a line. A reader that has gone does not matter: what was asked for
/// is done all the same.
pub(crate) fn line(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// Prints a value as one line of JSON.
pub(crate) fn json_line(value: &impl Serialize) -> anyhow::Result<()> {
    line(&serde_json::to_string(value)?);
    Ok(())
}
