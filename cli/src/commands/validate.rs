//! `millstream validate`: whether flows are valid, without a service.

use std::path::PathBuf;

use crate::{
    failure::{Failure, Outcome},
    flow_files, output,
};

/// Check flows without publishing them
///
/// Tells what is wrong as `file:line:column: message` on standard error, and
/// exits with 1 where anything is. No service is needed.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Files, or folders whose .yaml, .yml and .json files are meant
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Outcome, Failure> {
    let (valid, invalid) = flow_files::read(&arguments.paths)?;
    for file in valid {
        output::line(&format!("{} {}", file.flow.id, file.path.display()));
    }
    Ok(if invalid == 0 {
        Outcome::Done
    } else {
        Outcome::Bad
    })
}
