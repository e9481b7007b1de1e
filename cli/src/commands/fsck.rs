//! `millstream fsck`: whether everything that is stored of runs fits together.

use std::path::PathBuf;

use anyhow::Context;
use serde_json::json;

use crate::{
    failure::{Failure, Outcome},
    output, redis_address,
};

/// Look whether everything that Redis holds of runs fits together
///
/// Prints what is wrong, one JSON object a line, and then a line with numbers.
/// Exit status 1 where anything is wrong. Workers mend by themselves what would
/// keep a run from its end; `--repair` does that at once, and corrects counts.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Put runs that are not where their state says where they can go on
    #[arg(long)]
    repair: bool,

    /// Address of the Redis of the service [default: that of the `millstream
    /// up` on the data folder]
    #[arg(long, env = "MILLSTREAM_REDIS_URL", hide_env_values = true)]
    redis_url: Option<String>,

    /// The data folder of `millstream up`
    #[arg(long, env = "MILLSTREAM_DATA_DIR", default_value = ".millstream")]
    data_dir: PathBuf,
}

pub(crate) async fn run(arguments: Arguments) -> Result<Outcome, Failure> {
    let named = arguments.redis_url.as_deref();
    let store = redis_address::open(named, &arguments.data_dir).await?;
    let checkup = store.fsck(arguments.repair).await;
    let checkup = checkup.context("cannot read everything")?;
    for fault in &checkup.faults {
        output::json_line(&json!({ "subject": fault.subject, "what": fault.what }))?;
    }
    output::json_line(&json!({
        "runs": checkup.runs,
        "open": checkup.open,
        "faults": checkup.faults.len(),
    }))?;
    Ok(if checkup.faults.is_empty() {
        Outcome::Done
    } else {
        Outcome::Bad
    })
}
