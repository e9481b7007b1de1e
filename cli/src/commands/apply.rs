//! `millstream apply`: publishes flows.

use std::path::PathBuf;

use millstream_shared::flow::Problem;
use reqwest::{Method, header::CONTENT_TYPE};
use serde::Deserialize;

use crate::{
    failure::{Failure, Outcome},
    flow_files::{self, FlowFile},
    output,
    service::{Service, ServiceSettings},
};

/// Publish flows
///
/// Prints the id and the version of each. All files are checked before the
/// first is published; what is wrong is told as `file:line:column: message` on
/// standard error, and then the exit status is 1.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Files, or folders whose .yaml, .yml and .json files are meant
    #[arg(short, long = "file", value_name = "PATH", required = true, num_args = 1..)]
    files: Vec<PathBuf>,

    #[command(flatten)]
    service: ServiceSettings,
}

#[derive(Deserialize)]
struct Published {
    id: String,
    version: u32,
}

pub(crate) async fn run(arguments: Arguments) -> Result<Outcome, Failure> {
    let service = Service::new(&arguments.service)?;
    publish(&service, &arguments.files).await
}

/// Publishes the flows in `paths`, all or, where one is not valid, none.
pub(crate) async fn publish(service: &Service, paths: &[PathBuf]) -> Result<Outcome, Failure> {
    let (flows, invalid) = flow_files::read(paths)?;
    if invalid > 0 {
        return Ok(Outcome::Bad);
    }
    let mut outcome = Outcome::Done;
    for file in &flows {
        match put(service, file).await {
            Ok(Published { id, version }) => output::line(&format!("{id} {version}")),
            Err(failure) => {
                told_by_place(file, failure)?;
                outcome = Outcome::Bad;
            }
        }
    }
    Ok(outcome)
}

async fn put(service: &Service, file: &FlowFile) -> Result<Published, Failure> {
    let path = ["api", "admin", "v1", "dataflows", file.flow.id.as_str()];
    let is_json = file.path.extension().is_some_and(|ending| ending == "json");
    let kind = if is_json {
        "application/json"
    } else {
        "application/yaml"
    };
    let request = service
        .request(Method::PUT, &path)
        .header(CONTENT_TYPE, kind)
        .body(file.text.clone());
    service.read(service.send(request).await?).await
}

/// Tells what the service found wrong with a flow that this program took for
/// valid; any other failure is handed back.
fn told_by_place(file: &FlowFile, failure: Failure) -> Result<(), Failure> {
    let Failure::Refused(refusal) = &failure else {
        return Err(failure);
    };
    let problem = |error: &serde_json::Value| serde_json::from_value::<Problem>(error.clone());
    let problems: Result<Vec<_>, _> = refusal.errors.iter().map(problem).collect();
    match problems {
        Ok(problems) if !problems.is_empty() && refusal.code.as_deref() == Some("invalid_flow") => {
            flow_files::tell(&file.path, &problems);
            Ok(())
        }
        _ => Err(failure),
    }
}
