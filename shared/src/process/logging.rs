//! Logs: for people on a terminal, one JSON object a line otherwise.

use std::io::{IsTerminal, stderr};

use tracing_subscriber::{EnvFilter, layer::SubscriberExt, util::SubscriberInitExt};

/// What says nothing unless asked by name: this driver of a database logs each
/// error of the server as it came, with values that may be secret. The step says
/// it once, masked.
const QUIET: &str = "tiberius=off";

/// How much a program says, and in what form.
#[derive(Clone, Debug, clap::Args)]
pub struct LogSettings {
    /// What to log: a level (`error`, `warn`, `info`, `debug`, `trace`) or
    /// directives such as `info,millstream_worker=debug`.
    #[arg(long = "log", env = "MILLSTREAM_LOG", default_value = "info")]
    pub filter: String,

    /// The form of the log; `auto` is `human` on a terminal and `json`
    /// otherwise.
    #[arg(
        long = "log-format",
        env = "MILLSTREAM_LOG_FORMAT",
        default_value = "auto"
    )]
    pub format: LogFormat,
}

/// The form of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// `human` on a terminal, `json` otherwise.
    Auto,
    /// Lines for people.
    Human,
    /// One JSON object a line.
    Json,
}

/// Starts logging to standard error.
///
/// # Errors
/// Fails where the filter cannot be read, or where logging was started before.
pub fn start(settings: &LogSettings) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let filter = EnvFilter::try_new(format!("{QUIET},{}", settings.filter))?;
    let human = match settings.format {
        LogFormat::Auto => stderr().is_terminal(),
        LogFormat::Human => true,
        LogFormat::Json => false,
    };
    let registry = tracing_subscriber::registry().with(filter);
    let lines = tracing_subscriber::fmt::layer().with_writer(stderr);
    if human {
        registry.with(lines.with_target(false)).try_init()?;
    } else {
        registry.with(lines.json().flatten_event(true)).try_init()?;
    }
    Ok(())
}
