//! Where tables are worked on: threads, memory and room on disk of their own.

use std::{
    any::Any,
    collections::HashMap,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use datafusion::{
    arrow::datatypes::SchemaRef,
    execution::{
        disk_manager::{DiskManagerBuilder, DiskManagerMode},
        memory_pool::FairSpillPool,
        runtime_env::{RuntimeEnv, RuntimeEnvBuilder},
    },
};
use millstream_shared::id::StepId;
use tokio::{
    runtime::{Builder, Runtime},
    sync::Semaphore,
    task::JoinError,
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use url::Url;

use super::{
    Table, TableError, TableSettings,
    memory::{Budget, Collector},
    query::{Query, Selected},
    read::Work,
};

/// Works on tables, on threads of its own: however busy it is, what else the
/// worker does goes on.
pub(crate) struct Engine {
    /// `None` only while it is dropped.
    runtime: Option<Runtime>,
    environment: Arc<RuntimeEnv>,
    budget: Budget,
    settings: TableSettings,
    cores: usize,
    /// Queries that may run at once; each gets its share of the memory.
    queries: Arc<Semaphore>,
    /// Files that may be read or written at once.
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
            environment: environment(settings, spill)?,
            budget: Budget::new(settings.table_size, settings.tables_memory),
            settings: settings.clone(),
            cores,
            queries: Arc::new(Semaphore::new((cores * 2).max(4))),
            file_works: Arc::new(Semaphore::new((cores * 2).max(4))),
        })
    }

    /// The result of the query `text` over `tables`, which it names by their
    /// steps. Dropping the future stops the query.
    pub(crate) async fn sql(
        &self,
        text: &str,
        tables: &HashMap<StepId, Table>,
    ) -> Result<Selected, TableError> {
        let permit = Arc::clone(&self.queries).acquire_owned().await;
        let permit = permit.expect("the semaphore is never closed");
        let query = self.query(text, tables);
        let running = self.runtime().spawn(async move {
            let _permit = permit;
            query.run().await
        });
        let done = AbortOnDropHandle::new(running).await;
        done.map_err(stopped)?
    }

    /// Does `work` that blocks on files on a thread made for that. Dropping
    /// the future tells the work to stop.
    pub(crate) async fn on_files<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Work) -> Result<T, TableError> + Send + 'static,
    ) -> Result<T, TableError> {
        let permit = Arc::clone(&self.file_works).acquire_owned().await;
        let permit = permit.expect("the semaphore is never closed");
        self.on_pipe(move |hand| {
            let _permit = permit;
            work(hand)
        })
        .await
    }

    /// As [`Self::on_files`], for work that waits for a program at the other
    /// end of a pipe. It takes nobody's place meanwhile: that program may wait
    /// for what has none.
    pub(crate) async fn on_pipe<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Work) -> Result<T, TableError> + Send + 'static,
    ) -> Result<T, TableError> {
        let cancelled = CancellationToken::new();
        let _stop_when_dropped = cancelled.clone().drop_guard();
        let hand = Work {
            budget: self.budget.clone(),
            cancelled,
        };
        let running = self.runtime().spawn_blocking(move || {
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

    pub(super) fn query(&self, text: &str, tables: &HashMap<StepId, Table>) -> Query {
        Query {
            text: text.to_owned(),
            tables: tables.clone(),
            environment: Arc::clone(&self.environment),
            budget: self.budget.clone(),
            settings: self.settings.clone(),
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

fn environment(settings: &TableSettings, spill: &Path) -> Result<Arc<RuntimeEnv>, TableError> {
    let disk = DiskManagerBuilder::default()
        .with_mode(DiskManagerMode::Directories(vec![spill.to_owned()]))
        .with_max_temp_directory_size(settings.spill_size.bytes());
    let memory = FairSpillPool::new(settings.sql_memory.addressable());
    let environment = RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(memory))
        .with_disk_manager_builder(disk)
        .build_arc()
        .map_err(|error| {
            let message = format!("--work-folder cannot be used: {}", error.strip_backtrace());
            TableError::refused("bad_folder", message)
        })?;
    // No query can name a file; should one ever, there is no way to it.
    if let Ok(local) = Url::parse("file://") {
        let removed = environment.deregister_object_store(&local);
        removed.map_err(|error| TableError::Fault {
            message: format!(
                "local files cannot be shut off: {}",
                error.strip_backtrace()
            ),
        })?;
    }
    Ok(environment)
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
