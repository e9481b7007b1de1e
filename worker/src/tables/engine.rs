//! Where tables are worked on: threads, memory and room on disk of their own.

use std::{
    any::Any,
    collections::HashMap,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use datafusion::arrow::datatypes::SchemaRef;
use futures::{StreamExt, stream::FuturesUnordered};
use millstream_shared::id::StepId;
use tokio::{
    runtime::{Builder, Runtime},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinError,
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::{
    Feed, Files, Flow, Passed, Prepared, TableError, TableSettings,
    feed::{Demand, Opening},
    memory::{Budget, Collector},
    query::{Query, Selected, Streamed},
    read::Work,
};

/// Works on tables, on threads of its own: however busy it is, what else the
/// worker does goes on.
pub(crate) struct Engine {
    /// `None` only while it is dropped.
    runtime: Option<Runtime>,
    budget: Budget,
    cores: usize,
    /// Queries that may make a table at once; each gets its share of the memory.
    /// What makes a flow works for who takes it, and needs no permit of its own:
    /// else each could wait for the permit that the other has.
    queries: Arc<Semaphore>,
    /// Files that may be read into a table, or written, at once.
    file_works: Arc<Semaphore>,
}

impl Engine {
    /// Plans are worked on recursively: the largest query that a flow may hold
    /// takes about 8 MiB. Memory is taken only as far as it is used.
    const STACK_BYTES: usize = 128 << 20;

    /// Starts the threads. What does not fit into memory goes to the folder
    /// `spill`.
    pub(crate) fn new(settings: &TableSettings, spill: &Path) -> Result<Self, TableError> {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let threads = AtomicUsize::new(0);
        let runtime = Builder::new_multi_thread()
            .worker_threads(cores)
            .thread_stack_size(Self::STACK_BYTES)
            .thread_name_fn(move || format!("tables-{}", threads.fetch_add(1, Ordering::Relaxed)))
            .enable_time()
            .build()
            .map_err(|error| TableError::io("starting the threads for tables", error))?;
        Ok(Self {
            runtime: Some(runtime),
            budget: Budget::new(settings, spill)?,
            cores,
            queries: Arc::new(Semaphore::new((cores * 2).max(4))),
            file_works: Arc::new(Semaphore::new((cores * 2).max(4))),
        })
    }

    /// The result of the query `text` over `feeds`, which it names by their
    /// steps. Dropping the future stops the query.
    pub(crate) async fn sql(
        &self,
        text: &str,
        feeds: &HashMap<StepId, Feed>,
    ) -> Result<Selected, TableError> {
        let permit = Arc::clone(&self.queries).acquire_owned().await;
        let permit = permit.expect("the semaphore is never closed");
        let query = self.query(text, feeds);
        self.spawned(async move {
            let _permit = permit;
            query.run().await
        })
        .await
    }

    /// Executes the query `text` for a step that takes its rows while they are
    /// made: `offer` is given the flow. What the query came to is known when
    /// nobody takes rows any more.
    pub(crate) async fn stream_sql(
        &self,
        text: &str,
        feeds: &HashMap<StepId, Feed>,
        offer: impl FnOnce(Flow),
    ) -> Result<Streamed, TableError> {
        let query = Arc::new(self.query(text, feeds));
        let planning = Arc::clone(&query);
        let planned = self.spawned(async move { planning.planned().await });
        let planned = planned.await?;
        let (flow, demand) = Flow::new(Arc::clone(planned.schema()), planned.about());
        offer(flow);
        // The first pass takes the plan, further ones make another.
        let planned = Mutex::new(Some(planned));
        serve(demand, |opening| {
            let query = Arc::clone(&query);
            let planned = planned.lock().ok().and_then(|mut planned| planned.take());
            self.spawned(async move { query.stream(planned, opening).await })
        })
        .await
    }

    /// Reads files for a step that takes their rows while they are read:
    /// `offer` is given the flow. What the reading came to is known when nobody
    /// takes rows any more.
    pub(crate) async fn stream_files(
        &self,
        prepared: &Arc<Prepared>,
        folders: &Arc<Files>,
        offer: impl FnOnce(Flow),
    ) -> Result<Passed, TableError> {
        let (flow, demand) = Flow::new(Arc::clone(prepared.schema()), prepared.about());
        offer(flow);
        serve(demand, |opening| {
            let (prepared, folders) = (Arc::clone(prepared), Arc::clone(folders));
            self.blocking(None, move |work| prepared.stream(&folders, opening, work))
        })
        .await
    }

    /// Carries `work` on here, so that what it does keeps nobody else from
    /// going on. Dropping the future stops it.
    async fn spawned<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, TableError>> + Send + 'static,
    ) -> Result<T, TableError> {
        let running = self.runtime().spawn(work);
        AbortOnDropHandle::new(running).await.map_err(stopped)?
    }

    /// Does `work` that blocks on files on a thread made for that. Dropping
    /// the future tells the work to stop.
    pub(crate) async fn on_files<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Work) -> Result<T, TableError> + Send + 'static,
    ) -> Result<T, TableError> {
        let permit = Arc::clone(&self.file_works).acquire_owned().await;
        let permit = permit.expect("the semaphore is never closed");
        self.blocking(Some(permit), work).await
    }

    /// As [`Self::on_files`], for work that waits for a program at the other
    /// end of a pipe. It takes nobody's place meanwhile: that program may wait
    /// for what has none.
    pub(crate) async fn on_pipe<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Work) -> Result<T, TableError> + Send + 'static,
    ) -> Result<T, TableError> {
        self.blocking(None, work).await
    }

    /// Does `work` on a thread that may block, and holds the permit as long.
    async fn blocking<T: Send + 'static>(
        &self,
        permit: Option<OwnedSemaphorePermit>,
        work: impl FnOnce(&Work) -> Result<T, TableError> + Send + 'static,
    ) -> Result<T, TableError> {
        let cancelled = CancellationToken::new();
        let _stop_when_dropped = cancelled.clone().drop_guard();
        let hand = Work {
            budget: self.budget.clone(),
            cancelled,
        };
        let running = self.runtime().spawn_blocking(move || {
            let _permit = permit;
            hand.check()?;
            work(&hand)
        });
        running.await.map_err(stopped)?
    }

    /// An empty table with the columns `schema`, to be filled within the memory
    /// for tables.
    pub(crate) fn collector(&self, schema: SchemaRef) -> Collector {
        Collector::new(&self.budget, schema)
    }

    pub(super) fn query(&self, text: &str, feeds: &HashMap<StepId, Feed>) -> Query {
        Query {
            text: text.to_owned(),
            feeds: feeds.clone(),
            budget: self.budget.clone(),
            cores: self.cores,
        }
    }

    fn runtime(&self) -> &Runtime {
        let runtime = self.runtime.as_ref();
        runtime.expect("the runtime is taken only when the engine is dropped")
    }
}

impl Drop for Engine {
    /// Does not wait, since it may be dropped within another runtime.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Makes a pass over the rows of a flow each time that somebody asks for one,
/// until nobody will. What the last whole pass came to; where there was none,
/// one is made for nobody, so that a step does the same whatever takes its rows.
async fn serve<T, F>(
    mut demand: Demand,
    pass: impl Fn(Option<Opening>) -> F,
) -> Result<T, TableError>
where
    F: Future<Output = Result<Option<T>, TableError>>,
{
    let mut passes = FuturesUnordered::new();
    let mut whole = None;
    let mut is_open = true;
    while is_open || !passes.is_empty() {
        tokio::select! {
            opening = demand.next(), if is_open => match opening {
                Some(opening) => passes.push(pass(Some(opening))),
                None => is_open = false,
            },
            Some(ended) = passes.next(), if !passes.is_empty() => {
                whole = ended?.or(whole);
            }
        }
    }
    match whole {
        Some(whole) => Ok(whole),
        None => pass(None).await?.ok_or(TableError::Cancelled),
    }
}

/// A thread of the engine panicked, or the engine goes down.
fn stopped(error: JoinError) -> TableError {
    if error.is_cancelled() {
        return TableError::Cancelled;
    }
    let panic = error.into_panic();
    let reason = panic_reason(&*panic);
    tracing::error!(reason, "work on a table panicked");
    TableError::Fault {
        message: format!("work on a table stopped unexpectedly: {reason}"),
    }
}

fn panic_reason(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("for no reason given")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::tables::tests::{new_engine, settings};

    impl Engine {
        /// Waits until no query and no work on files is under way.
        pub(in crate::tables) async fn idle(&self) {
            let all = (self.cores * 2).max(4) as u32;
            for places in [&self.queries, &self.file_works] {
                let free = places.acquire_many(all);
                let free = tokio::time::timeout(Duration::from_secs(20), free);
                drop(free.await.unwrap().unwrap());
            }
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn dropped_work_on_files_is_told_to_stop() {
        let engine = new_engine(&settings());
        let work = engine.on_files::<()>(|work| {
            loop {
                work.check()?;
                thread::sleep(Duration::from_millis(1));
            }
        });
        let short = Duration::from_millis(20);
        assert!(tokio::time::timeout(short, work).await.is_err());
        engine.idle().await;
    }

    #[tokio::test]
    async fn a_panic_is_an_error_of_that_work_alone() {
        let engine = new_engine(&settings());
        let work = engine.on_files::<()>(|_| panic!("a surprise"));
        let error = work.await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "work on a table stopped unexpectedly: a surprise"
        );
        assert_eq!(engine.on_files(|_| Ok(7)).await.unwrap(), 7);
    }
}
