//! What programs read: lines on standard output.

use std::io::Write;

use serde::Serialize;

/// In which form a command prints what it was asked for.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct OutputSettings {
    /// In which form to print
    #[arg(long, value_name = "FORM", default_value = "text")]
    output: Form,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Form {
    /// For people, and for the shell: a line for each thing
    Text,
    /// One line of JSON, as the service answered it
    Json,
}

impl OutputSettings {
    /// Prints a value, or the lines that stand for it.
    pub(crate) fn print(
        self,
        value: &impl Serialize,
        lines: impl IntoIterator<Item = String>,
    ) -> anyhow::Result<()> {
        match self.output {
            Form::Json => json_line(value)?,
            Form::Text => lines.into_iter().for_each(|text| line(&text)),
        }
        Ok(())
    }
}

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
