//! What steps do: one `match` from the kind of a step to its function.

mod check;
mod command;
mod execute;
mod http;
mod load;
mod query;
mod read;
mod set;
mod sql;
mod write;

pub(crate) use command::Commands;
pub use command::supervise_if_told;
pub(crate) use http::{AllowList, Client, Fetched, WebAddress};

use std::{collections::HashMap, sync::Arc, time::Duration};

use millstream_shared::{
    flow::{StepKind, expression::Scope},
    id::{FlowId, RunId, StepId},
    store::Store,
};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    Config,
    connections::Connections,
    databases::Databases,
    mask::Mask,
    stores::Stores,
    tables::{self, Feed, Flow, Table},
    work_folder::WorkFolder,
};

/// What a step has at hand while it runs.
#[derive(Clone)]
pub(crate) struct StepContext {
    pub(crate) run: RunId,
    pub(crate) flow: FlowId,
    pub(crate) step: StepId,
    /// Which attempt of the step this is, from 1.
    pub(crate) attempt: u32,
    /// What its templates can name.
    pub(crate) scope: Scope,
    /// Hides secrets in what it says. What comes to know further ones adds them.
    pub(crate) mask: Mask,
    /// What the steps upstream made, or are making.
    pub(crate) feeds: HashMap<StepId, Feed>,
    /// Where to offer the rows that it makes, for a step that takes them while
    /// they are made. None: they become a table.
    pub(crate) offer: Option<Offer>,
    /// Cancelled when the step should give up: cancelled run, lost lease.
    pub(crate) cancelled: CancellationToken,
    pub(crate) services: Arc<Services>,
}

impl StepContext {
    /// Names the run and the step, the same for every attempt.
    pub(crate) fn label(&self) -> String {
        format!("{}-{}", self.run, self.step)
    }

    /// The rows of a step upstream.
    pub(crate) fn feed(&self, step: &StepId) -> Result<&Feed, StepError> {
        self.feeds.get(step).ok_or_else(|| {
            StepError::permanent("no_table", format!("step `{step}` has handed on no table"))
        })
    }

    /// The table of a step upstream, which nobody else takes while it is made.
    pub(crate) fn table(&self, step: &StepId) -> Result<&Table, StepError> {
        match self.feed(step)? {
            Feed::Table(table) => Ok(table),
            Feed::Flow(_) => {
                let message = format!("the rows of step `{step}` are no table");
                Err(StepError::permanent("no_table", message))
            }
        }
    }
}

/// Tells whoever carries the run through that a step makes rows.
#[derive(Clone, Debug)]
pub(crate) struct Offer {
    step: StepId,
    offers: mpsc::UnboundedSender<Offered>,
}

/// A step, and the rows that it makes.
pub(crate) type Offered = (StepId, Flow);

impl Offer {
    /// Offers of a step go there.
    pub(crate) fn new(step: StepId, offers: mpsc::UnboundedSender<Offered>) -> Self {
        Self { step, offers }
    }

    fn make(&self, flow: Flow) {
        // Without anybody to take it, the flow ends at once.
        let _ = self.offers.send((self.step.clone(), flow));
    }
}

/// What all steps of a worker share.
pub(crate) struct Services {
    pub(crate) http: http::Client,
    pub(crate) commands: command::Commands,
    /// How databases and services are reached.
    pub(crate) connections: Connections,
    /// The databases that steps can reach.
    pub(crate) databases: Databases,
    /// Works on tables.
    pub(crate) tables: tables::Engine,
    /// The local folders that steps may touch.
    pub(crate) files: Arc<tables::Files>,
    /// Where files lie that are not on this machine.
    pub(crate) stores: Stores,
    /// Last, so that whatever uses it is gone before it is removed.
    pub(crate) work_folder: WorkFolder,
}

impl Services {
    /// What steps may do and with what means, as the operator set it.
    ///
    /// # Errors
    /// Fails where a setting cannot be met, such as a folder that is not there.
    pub(crate) fn new(config: &Config, store: &Store) -> anyhow::Result<Self> {
        let work_folder = WorkFolder::new(config.work_folder.as_deref())?;
        let connections = Connections::new(store.clone(), config.secrets_key.clone());
        let http = http::Client::new(config.http_allow.clone(), config.http_answer_size)?;
        Ok(Self {
            stores: Stores::new(connections.clone(), http.clone(), work_folder.spill()),
            http,
            commands: config.commands.clone(),
            databases: Databases::new(connections.clone(), config.database_lock_wait),
            connections,
            tables: tables::Engine::new(&config.tables, &work_folder.spill())?,
            files: Arc::new(tables::Files::new(&config.tables.files)?),
            work_folder,
        })
    }
}

/// What a step hands on.
#[derive(Clone, Debug, Default)]
pub(crate) struct StepOutput {
    pub(crate) value: Value,
    pub(crate) rows: Option<u64>,
    pub(crate) rows_in: Option<u64>,
    pub(crate) bytes: Option<u64>,
    pub(crate) table: Option<Table>,
}

/// Why an attempt of a step failed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct StepError {
    /// A stable word for the cause, such as `bad_row` or `timeout`.
    pub(crate) code: &'static str,
    /// One sentence for people.
    pub(crate) message: String,
    /// Whether another attempt may go better.
    pub(crate) retriable: bool,
    /// How long the other side wants to be left alone before that.
    pub(crate) least_pause: Option<Duration>,
}

impl StepError {
    /// A failure that another attempt would only repeat.
    pub(crate) fn permanent(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            retriable: false,
            least_pause: None,
        }
    }

    /// A failure that another attempt may not meet.
    pub(crate) fn transient(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            retriable: true,
            ..Self::permanent(code, message)
        }
    }

    /// The step was told to give up.
    pub(crate) fn cancelled() -> Self {
        Self::permanent("cancelled", "the step was stopped before its end")
    }
}

/// Executes one attempt of a step.
pub(crate) async fn run(kind: &StepKind, context: StepContext) -> Result<StepOutput, StepError> {
    match kind {
        StepKind::Set(values) => set::set(values, &context),
        StepKind::Http(step) => http::send(step, &context).await,
        StepKind::Command(step) => command::run(step, &context).await,
        StepKind::Read(step) => read::read(step, &context).await,
        StepKind::Query(step) => query::query(step, &context).await,
        StepKind::Load(step) => load::load(step, &context).await,
        StepKind::Execute(step) => execute::execute(step, &context).await,
        StepKind::Sql(text) => sql::sql(text, &context).await,
        StepKind::Write(step) => write::write(step, &context).await,
        StepKind::Check(step) => check::check(step, &context).await,
    }
}
