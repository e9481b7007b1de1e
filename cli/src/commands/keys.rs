//! `millstream keys`: makes and deletes API keys.

use millstream_shared::id::KeyId;
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    failure::{Failure, Outcome},
    output,
    service::{Service, ServiceSettings},
};

/// Make and delete API keys
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    Create(Create),
    Delete(Delete),
}

/// Make a key and print it, which is the only time that it is shown
#[derive(Debug, clap::Args)]
pub(crate) struct Create {
    /// What people call it
    #[arg(long)]
    name: String,

    /// What it is for
    #[arg(long, default_value = "execution")]
    set: Set,

    /// What its bearer may do [default: all that keys of the set may]
    #[arg(long = "right", value_name = "RIGHT")]
    rights: Vec<Right>,

    /// A flow that its bearer may do it to, or `*` for all
    #[arg(long = "flow", value_name = "ID", default_value = "*")]
    flows: Vec<String>,

    /// When it ends, as in 2027-01-01T00:00:00Z [default: never]
    #[arg(long, value_name = "TIME")]
    expires_at: Option<String>,

    #[command(flatten)]
    service: ServiceSettings,
}

/// Delete a key, so that it is no longer accepted
#[derive(Debug, clap::Args)]
pub(crate) struct Delete {
    /// The key's id: what stands after `ms_` up to the next `_`
    #[arg(value_name = "ID")]
    key: KeyId,

    #[command(flatten)]
    service: ServiceSettings,
}

/// What a key is for.
#[derive(Clone, Copy, Debug, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
enum Set {
    /// Starting flows and following their runs
    Execution,
    /// Looking on
    Monitoring,
    /// Everything
    Administration,
}

/// What the bearer of a key may do.
#[derive(Clone, Copy, Debug, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
enum Right {
    /// Start runs
    Start,
    /// See status, runs and logs
    Read,
    /// Cancel runs
    Cancel,
}

pub(crate) async fn run(command: Command) -> Result<Outcome, Failure> {
    match command {
        Command::Create(create) => {
            let service = Service::new(&create.service)?;
            let request = service
                .request(Method::POST, &["api", "admin", "v1", "keys"])
                .json(&create.body());
            let made: Value = service.read(service.send(request).await?).await?;
            output::json_line(&made)?;
        }
        Command::Delete(delete) => {
            let service = Service::new(&delete.service)?;
            let path = ["api", "admin", "v1", "keys", delete.key.as_str()];
            service.send(service.request(Method::DELETE, &path)).await?;
        }
    }
    Ok(Outcome::Done)
}

impl Create {
    fn body(&self) -> Value {
        let mut body = json!({ "name": self.name, "set": self.set, "flows": self.flows });
        if !self.rights.is_empty() {
            body["rights"] = json!(self.rights);
        }
        if let Some(expiry) = &self.expires_at {
            body["expires_at"] = json!(expiry);
        }
        body
    }
}
