//! `millstream output`: what a run handed back.

use std::{io::Write, path::PathBuf};

use anyhow::Context;
use millstream_shared::id::{FlowId, RunId};
use tempfile::NamedTempFile;

use crate::{
    failure::{Failure, Outcome},
    service::{Service, ServiceSettings},
};

/// Print the output of a run that has ended
///
/// Prints the JSON as it is, or writes it into a file. Exits with 3 when the run
/// has not ended or handed nothing back, or when its output is gone.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The flow
    #[arg(value_name = "ID")]
    flow: FlowId,

    /// The run
    #[arg(value_name = "RUN")]
    run: RunId,

    /// A file to write into, which appears whole or not at all
    #[arg(long, short, value_name = "FILE")]
    file: Option<PathBuf>,

    #[command(flatten)]
    service: ServiceSettings,
}

pub(crate) async fn run(arguments: Arguments) -> Result<Outcome, Failure> {
    let service = Service::new(&arguments.service)?;
    let Some(path) = arguments.file else {
        let mut out = std::io::stdout();
        service
            .output(&arguments.flow, arguments.run, &mut out)
            .await?;
        // A reader that has gone does not matter.
        let _ = writeln!(out).and_then(|()| out.flush());
        return Ok(Outcome::Done);
    };
    let cannot = || format!("cannot write `{}`", path.display());
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let file = NamedTempFile::new_in(folder.unwrap_or(".".as_ref()));
    let mut file = file.with_context(cannot)?;
    service
        .output(&arguments.flow, arguments.run, &mut file)
        .await?;
    let written = file.as_file().sync_all();
    written.with_context(cannot)?;
    file.persist(&path).with_context(cannot)?;
    Ok(Outcome::Done)
}
