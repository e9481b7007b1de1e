//! The frame of a program: settings in, exit code out.

use std::{fmt, process::ExitCode};

use clap::{Parser, error::ErrorKind};

use super::logging::{self, LogSettings};

/// Reads the settings, starts the log and runs the program. A wrong setting
/// ends it with code 2, a failure with code 1, each after one clear line.
pub async fn run_program<C: Parser, E: fmt::Display>(
    log: impl Fn(&C) -> &LogSettings,
    program: impl AsyncFnOnce(C) -> Result<(), E>,
) -> ExitCode {
    let config = match C::try_parse() {
        Ok(config) => config,
        Err(told) if is_asked_for(told.kind()) => told.exit(),
        Err(wrong) => return refuse(&wrong.to_string()),
    };
    if let Err(error) = logging::start(log(&config)) {
        return refuse(&format!("error: the log cannot be started: {error}"));
    }
    match program(config).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn is_asked_for(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::DisplayHelp | ErrorKind::DisplayVersion)
}

/// Says in one line which setting is wrong: of a longer explanation the part
/// before the first empty line.
fn refuse(why: &str) -> ExitCode {
    let told = why
        .lines()
        .map(str::trim)
        .take_while(|line| !line.is_empty());
    eprintln!("{}", told.collect::<Vec<_>>().join(" "));
    ExitCode::from(2)
}
