//! `millstream status`: what became of a run.

use millstream_shared::id::{FlowId, RunId};

use super::start::Waiting;
use crate::{
    failure::{Failure, Outcome},
    output,
    service::{Service, ServiceSettings, Wait},
};

/// Show the status of a run
///
/// Prints `{"runId": …, "status": …}`. Exits with 1 when the run failed, and
/// otherwise as `start` does.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The flow
    #[arg(value_name = "ID")]
    flow: FlowId,

    /// The run
    #[arg(value_name = "RUN")]
    run: RunId,

    #[command(flatten)]
    waiting: Waiting,

    #[command(flatten)]
    service: ServiceSettings,
}

pub(crate) async fn run(arguments: Arguments) -> Result<Outcome, Failure> {
    let Arguments {
        flow,
        run,
        waiting,
        service,
    } = arguments;
    let service = Service::new(&service)?;
    // The first question is not asked again and again: nobody may be there.
    let mut answer = service.status(&flow, run, Wait::No).await?;
    let wait = waiting.begin();
    if wait.is_asked() && !answer.is_final() {
        answer = service.follow(&flow, run, wait).await?;
    }
    output::json_line(&answer)?;
    Ok(waiting.outcome(answer))
}
