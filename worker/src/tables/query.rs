//! One query over tables.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use datafusion::{
    arrow::{
        array::RecordBatch,
        datatypes::{Schema, SchemaRef},
    },
    catalog::{MemTable, TableProvider},
    common::{DataFusionError, TableReference, config::Dialect},
    dataframe::DataFrame,
    execution::{
        SessionState,
        context::{SQLOptions, SessionContext},
    },
    physical_plan::{
        ExecutionPlan, execute_stream,
        statistics::{StatisticsArgs, StatisticsContext},
    },
    prelude::SessionConfig,
    sql::{parser::Statement, sqlparser::ast},
};
use futures::StreamExt;
use millstream_shared::id::StepId;

use super::{
    Feed, Table, TableError,
    error::Shown,
    feed::{About, Opening, Outlet},
    functions,
    memory::{Budget, Collector, bytes_of},
    provider::FeedTable,
    query_error,
};

/// So much memory stands behind each row of a batch: with less, batches have
/// fewer rows.
const BATCH_ROW_SHARE: usize = 32 << 10;

/// A query with all it needs.
pub(super) struct Query {
    pub(super) text: String,
    pub(super) feeds: HashMap<StepId, Feed>,
    pub(super) budget: Budget,
    pub(super) cores: usize,
}

/// What a query made.
pub(crate) struct Selected {
    pub(crate) table: Table,
    /// How many rows the feeds have that it names.
    pub(crate) rows_in: u64,
}

/// What a query handed on.
pub(crate) struct Streamed {
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    /// How many rows the feeds have that it names.
    pub(crate) rows_in: u64,
}

/// A query that can be executed.
pub(super) struct Planned {
    context: SessionContext,
    plan: Arc<dyn ExecutionPlan>,
    schema: SchemaRef,
    /// The feeds that it names.
    named: Vec<Feed>,
}

impl Planned {
    /// The columns of its result.
    pub(super) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// About how much its result is, as far as the engine can tell.
    pub(super) fn about(&self) -> Option<About> {
        let statistics = StatisticsContext::new();
        let statistics = statistics.compute(self.plan.as_ref(), &StatisticsArgs::new());
        let statistics = statistics.ok()?;
        Some(About {
            rows: *statistics.num_rows.get_value()?,
            bytes: *statistics.total_byte_size.get_value()?,
        })
    }

    fn rows_in(&self) -> u64 {
        let rows = self.named.iter().map(|feed| match feed {
            Feed::Table(table) => table.rows(),
            Feed::Flow(flow) => flow.rows(),
        });
        rows.sum()
    }
}

/// Why a query has no result.
enum Failure {
    /// The engine's own error.
    Engine(DataFusionError),
    Table(TableError),
}

impl From<DataFusionError> for Failure {
    fn from(error: DataFusionError) -> Self {
        Self::Engine(error)
    }
}

impl From<TableError> for Failure {
    fn from(error: TableError) -> Self {
        Self::Table(error)
    }
}

/// Where the rows of a query go.
trait Taker {
    /// Begins, with nothing taken so far.
    fn begin(&mut self, schema: &SchemaRef);

    /// Takes rows; false where there is nobody for them any more.
    fn take(&mut self, batch: RecordBatch)
    -> impl Future<Output = Result<bool, TableError>> + Send;

    /// Whether the query may begin again: nothing of it was handed on.
    fn can_begin_again(&self) -> bool;
}

/// Rows that become a table.
struct Collecting<'q> {
    budget: &'q Budget,
    table: Option<Collector>,
}

impl Taker for Collecting<'_> {
    fn begin(&mut self, schema: &SchemaRef) {
        self.table = Some(Collector::new(self.budget, Arc::clone(schema)));
    }

    async fn take(&mut self, batch: RecordBatch) -> Result<bool, TableError> {
        match &mut self.table {
            Some(table) => table.push(batch).map(|()| true),
            None => Ok(false),
        }
    }

    fn can_begin_again(&self) -> bool {
        true
    }
}

/// Rows that another step takes.
struct HandingOn<'q> {
    /// None: they are only counted.
    outlet: Option<&'q Outlet>,
    rows: u64,
    bytes: u64,
}

impl Taker for HandingOn<'_> {
    fn begin(&mut self, _: &SchemaRef) {}

    async fn take(&mut self, batch: RecordBatch) -> Result<bool, TableError> {
        self.rows += batch.num_rows() as u64;
        self.bytes += bytes_of(&batch, &mut HashSet::new()) as u64;
        match self.outlet {
            Some(outlet) => Ok(outlet.send(batch).await),
            None => Ok(true),
        }
    }

    fn can_begin_again(&self) -> bool {
        self.rows == 0
    }
}

impl Query {
    /// What it makes, as a table.
    pub(super) async fn run(&self) -> Result<Selected, TableError> {
        let planned = self.planned().await?;
        let mut collecting = Collecting {
            budget: &self.budget,
            table: None,
        };
        let (_, rows_in) = self.execute(planned, None, &mut collecting).await?;
        let table = collecting.table.ok_or_else(|| TableError::Fault {
            message: "the query engine made no table".to_owned(),
        })?;
        Ok(Selected {
            table: table.finish()?,
            rows_in,
        })
    }

    /// Makes one pass for a step that takes the rows while they are made, or
    /// for nobody, as it is `planned` or else planned now. None where nobody
    /// takes them any more.
    pub(super) async fn stream(
        &self,
        planned: Option<Planned>,
        opening: Option<Opening>,
    ) -> Result<Option<Streamed>, TableError> {
        let (columns, outlet) = match opening {
            None => (None, None),
            Some(Opening { columns, outlet }) => (columns, Some(outlet)),
        };
        let mut handing_on = HandingOn {
            outlet: outlet.as_ref(),
            rows: 0,
            bytes: 0,
        };
        let planned = match planned {
            Some(planned) => planned,
            None => self.planned().await?,
        };
        let (is_whole, rows_in) = self.execute(planned, columns, &mut handing_on).await?;
        let HandingOn { rows, bytes, .. } = handing_on;
        if !is_whole {
            return Ok(None);
        }
        if let Some(outlet) = outlet {
            outlet.send_end().await;
        }
        Ok(Some(Streamed {
            rows,
            bytes,
            rows_in,
        }))
    }

    /// The query, ready to be executed.
    pub(super) async fn planned(&self) -> Result<Planned, TableError> {
        let planned = self.plan(true).await;
        planned.map_err(|failure| self.explained(failure))
    }

    /// Executes it; whether it came to its end, and how many rows its feeds
    /// have. A hash join that does not fit into memory is tried once more as a
    /// merge join, which can spill.
    async fn execute(
        &self,
        planned: Planned,
        columns: Option<Vec<usize>>,
        taker: &mut impl Taker,
    ) -> Result<(bool, u64), TableError> {
        let failure = match attempt(&planned, columns.as_deref(), taker).await {
            Ok(is_whole) => return Ok((is_whole, planned.rows_in())),
            Err(failure) => failure,
        };
        let failure = match failure {
            Failure::Engine(error)
                if query_error::is_full(&error)
                    && has_hash_join(&planned.plan)
                    && taker.can_begin_again() =>
            {
                // It holds the memory that it had got.
                drop(planned);
                let planned = self.plan(false).await;
                let planned = planned.map_err(|failure| self.explained(failure))?;
                match attempt(&planned, columns.as_deref(), taker).await {
                    Ok(is_whole) => return Ok((is_whole, planned.rows_in())),
                    Err(failure) => failure,
                }
            }
            failure => failure,
        };
        Err(self.explained(failure))
    }

    fn explained(&self, failure: Failure) -> TableError {
        match failure {
            Failure::Table(error) => error,
            Failure::Engine(error) => query_error::explained(error, &self.budget),
        }
    }

    async fn plan(&self, prefer_hash_join: bool) -> Result<Planned, Failure> {
        let context = self.session(prefer_hash_join)?;
        let bounds = functions::Bounds::impose(&context, self.budget.memory())?;
        let state = context.state();
        let (statement, named) = self.statement(&state)?;
        let planned = state.statement_to_plan(statement).await;
        let plan = planned.map_err(|error| self.unplanned(error, &named))?;
        let only_reads = SQLOptions::new()
            .with_allow_ddl(false)
            .with_allow_dml(false)
            .with_allow_statements(false);
        only_reads
            .verify_plan(&plan)
            .map_err(|_| self.not_a_query())?;
        bounds.share_out(&plan)?;

        let plan = DataFrame::new(state, plan).create_physical_plan().await?;
        bounds.run();
        let schema = Arc::new(Schema::new(plan.schema().fields().clone()));
        check_names(&schema)?;
        let named = named.iter().filter_map(|name| self.named(name).cloned());
        Ok(Planned {
            named: named.collect(),
            context,
            plan,
            schema,
        })
    }

    /// A session that knows the feeds and nothing else.
    fn session(&self, prefer_hash_join: bool) -> Result<SessionContext, Failure> {
        let memory = self.budget.memory().addressable();
        let share = memory / (8 * self.cores);
        // Each part of a plan that may spill gets its share of the memory: where
        // it is short, there are to be few of them. With a single one the engine
        // never merges.
        let partitions = if prefer_hash_join { self.cores } else { 2 };
        let mut config = SessionConfig::new()
            .with_target_partitions(partitions)
            .with_information_schema(false);
        let execution = &mut config.options_mut().execution;
        execution.sort_spill_reservation_bytes = execution.sort_spill_reservation_bytes.min(share);
        // What was spilled is merged a batch of each file at a time.
        let most = execution.batch_size.get();
        let mut config = config.with_batch_size((memory / BATCH_ROW_SHARE).clamp(256, most));
        config.options_mut().optimizer.prefer_hash_join = prefer_hash_join;

        let environment = Arc::clone(self.budget.environment());
        let context = SessionContext::new_with_config_rt(config, environment);
        for (step, feed) in &self.feeds {
            let rows: Arc<dyn TableProvider> = match feed {
                Feed::Table(table) if table.0.spilled.is_none() => {
                    let rows = vec![table.0.batches.clone()];
                    Arc::new(MemTable::try_new(Arc::clone(table.schema()), rows)?)
                }
                feed => Arc::new(FeedTable(feed.clone())),
            };
            let exact = step.as_str();
            let folded = exact.to_ascii_lowercase();
            if folded != exact {
                context.register_table(TableReference::bare(folded), Arc::clone(&rows))?;
            }
            context.register_table(TableReference::bare(exact), rows)?;
        }
        Ok(context)
    }

    /// The query, and the tables that it names.
    fn statement(&self, state: &SessionState) -> Result<(Statement, Vec<TableReference>), Failure> {
        if self.text.trim().is_empty() {
            return Err(TableError::refused("bad_sql", "there is no query").into());
        }
        let statement = state.sql_to_statement(&self.text, &Dialect::Generic)?;
        let is_query = match &statement {
            Statement::Statement(statement) => matches!(**statement, ast::Statement::Query(_)),
            _ => false,
        };
        if !is_query {
            return Err(self.not_a_query().into());
        }
        let named = state.resolve_table_references(&statement)?;
        Ok((statement, named))
    }

    /// Why there is no plan: where the query names a table that is not there,
    /// that is why.
    fn unplanned(&self, error: DataFusionError, named: &[TableReference]) -> Failure {
        let missing = named.iter().find(|name| self.named(name).is_none());
        match (missing, error.find_root()) {
            (Some(missing), DataFusionError::Plan(message)) if message.contains("not found") => {
                let missing = missing.to_string();
                let mut there: Vec<&str> = self.feeds.keys().map(StepId::as_str).collect();
                there.sort_unstable();
                let there = match &there[..] {
                    [] => "no step upstream hands on a table".to_owned(),
                    there => format!("the tables upstream are {}", there.join(", ")),
                };
                let message = format!("there is no table {}; {there}", Shown(&missing));
                TableError::refused("bad_sql", message).into()
            }
            _ => error.into(),
        }
    }

    /// The feed that `reference` names, if it names a step.
    fn named(&self, reference: &TableReference) -> Option<&Feed> {
        let TableReference::Bare { table: name } = reference else {
            return None;
        };
        let is_named = |step: &StepId| {
            step.as_str() == &**name || step.as_str().to_ascii_lowercase() == **name
        };
        let found = self.feeds.iter().find(|(step, _)| is_named(step));
        found.map(|(_, feed)| feed)
    }

    fn not_a_query(&self) -> TableError {
        let first = self.text.split_whitespace().next().unwrap_or_default();
        TableError::refused(
            "bad_sql",
            format!(
                "a `sql` step holds one query (`select …` or `with …`) that changes nothing, not {}",
                Shown(first)
            ),
        )
    }
}

/// Executes a query; false where nobody takes its rows any more.
async fn attempt(
    planned: &Planned,
    columns: Option<&[usize]>,
    taker: &mut impl Taker,
) -> Result<bool, Failure> {
    taker.begin(&planned.schema);
    let mut rows = execute_stream(Arc::clone(&planned.plan), planned.context.task_ctx())?;
    while let Some(batch) = rows.next().await {
        let batch = batch?.with_schema(Arc::clone(&planned.schema));
        let batch = match columns {
            None => batch,
            Some(columns) => batch.and_then(|batch| batch.project(columns)),
        };
        if !taker.take(batch.map_err(DataFusionError::from)?).await? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A table in which two columns have one name cannot be queried or written.
fn check_names(schema: &Schema) -> Result<(), TableError> {
    let mut names: Vec<&str> = schema
        .fields()
        .iter()
        .map(|field| field.name().as_str())
        .collect();
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        None => Ok(()),
        Some(pair) => Err(TableError::refused(
            "bad_sql",
            format!(
                "the result has two columns {}; name them apart with `as`",
                Shown(pair[0])
            ),
        )),
    }
}

fn has_hash_join(plan: &Arc<dyn ExecutionPlan>) -> bool {
    plan.name() == "HashJoinExec" || plan.children().into_iter().any(has_hash_join)
}

#[cfg(test)]
mod tests {
    use crate::tables::{
        ByteSize, TableSettings,
        tests::{Place, new_engine, settings, shown},
    };

    use super::*;

    /// Tables by their names, out of CSV.
    fn tables(texts: &[(&str, &str)]) -> HashMap<StepId, Feed> {
        let place = Place::new();
        let table = |(name, text): &(&str, &str)| {
            place.put("in.csv", text);
            let table = place.read("in.csv").unwrap();
            (name.parse().unwrap(), Feed::Table(table))
        };
        texts.iter().map(table).collect()
    }

    fn shop() -> HashMap<StepId, Feed> {
        tables(&[
            ("orders", "customer_id,amount\n1,10\n2,20\n1,30.5\n3,7\n"),
            ("Customers", "id,country\n1,NO\n2,SE\n3,NO\n"),
            ("unused", "x\n1\n"),
        ])
    }

    async fn run(text: &str) -> Result<Selected, TableError> {
        let engine = new_engine(&settings());
        engine.sql(text, &shop()).await
    }

    async fn refusal(text: &str) -> String {
        match run(text).await {
            Ok(_) => panic!("`{text}` went through"),
            Err(error) => {
                assert_eq!(error.code(), "bad_sql", "{error}");
                assert!(!error.is_retriable());
                error.to_string()
            }
        }
    }

    #[tokio::test]
    async fn tables_are_joined_and_aggregated() {
        let text = "select c.country, sum(o.amount) as amount, count(*) as orders
            from orders o join customers c on c.id = o.customer_id
            group by c.country order by c.country";
        let selected = run(text).await.unwrap();
        assert_eq!(
            shown(&selected.table),
            [
                "country: Utf8, amount: Float64, orders: Int64",
                "NO 47.5 3",
                "SE 20.0 1"
            ]
        );
        assert_eq!(selected.rows_in, 7);
    }

    #[tokio::test]
    async fn a_step_with_capital_letters_can_be_named_either_way() {
        for text in [
            "select id from customers",
            "select id from Customers",
            "select id from \"Customers\"",
        ] {
            assert_eq!(run(text).await.unwrap().table.rows(), 3, "{text}");
        }
    }

    #[tokio::test]
    async fn a_table_without_rows_or_a_query_without_tables_works() {
        assert_eq!(
            run("select * from orders where false")
                .await
                .unwrap()
                .table
                .rows(),
            0
        );
        let one = run("with t as (select 1 as one) select one from t;")
            .await
            .unwrap();
        assert_eq!(shown(&one.table), ["one: Int64", "1"]);
        assert_eq!(one.rows_in, 0);
    }

    #[tokio::test]
    async fn only_a_query_is_accepted() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("out.csv");
        let file = file.display();
        for text in [
            format!("copy orders to '{file}'"),
            format!("copy (select 1) to '{file}' stored as csv"),
            format!("create external table t stored as csv location '{file}'"),
            "create table t as select 1".to_owned(),
            "create view v as select 1".to_owned(),
            "insert into orders values (1, 2)".to_owned(),
            "with t as (select 1, 2) insert into orders select * from t".to_owned(),
            "update orders set amount = 1".to_owned(),
            "delete from orders".to_owned(),
            "drop table orders".to_owned(),
            "set datafusion.execution.batch_size = 1".to_owned(),
            "prepare p as select 1".to_owned(),
            "explain select 1".to_owned(),
            "show tables".to_owned(),
            "select 1 as a into t".to_owned(),
        ] {
            let message = refusal(&text).await;
            let expected = "holds one query";
            assert!(
                message.contains(expected) || message.contains("not supported"),
                "{text}: {message}"
            );
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        assert!(!refusal("select 1; select 2").await.is_empty());
        assert_eq!(refusal(" ").await, "there is no query");
    }

    #[tokio::test]
    async fn no_file_and_no_setting_can_be_read() {
        for text in [
            "select * from '/etc/passwd'",
            "select * from \"/etc/passwd\"",
            "select * from 'file:///etc/passwd'",
            "select * from information_schema.df_settings",
        ] {
            let message = refusal(text).await;
            assert!(message.starts_with("there is no table"), "{message}");
        }
        for text in [
            "select * from read_csv('/etc/passwd')",
            "select read_text('/etc/passwd')",
        ] {
            refusal(text).await;
        }
        // Functions that come with another version of the engine are looked at
        // before they can be called.
        let state = SessionContext::new().state();
        let mut functions: Vec<&str> = state.table_functions().keys().map(String::as_str).collect();
        functions.sort_unstable();
        assert_eq!(functions, ["generate_series", "range"]);
        let reads = |name: &&String| {
            ["read", "file", "load", "scan"]
                .iter()
                .any(|word| name.contains(word))
        };
        // These two tell about files that are scanned, and none can be.
        let scanned = ["file_row_index", "input_file_name"];
        let other = |name: &&String| reads(name) && !scanned.contains(&name.as_str());
        assert_eq!(state.scalar_functions().keys().find(other), None);
        for function in scanned {
            refusal(&format!("select {function}() from orders")).await;
        }
    }

    #[tokio::test]
    async fn errors_are_a_sentence_for_the_author() {
        for (text, expected) in [
            (
                "select * from order_lines",
                "there is no table `order_lines`; the tables upstream are Customers, orders, unused",
            ),
            (
                "select total from orders",
                "there is no column `total`, only orders.customer_id, orders.amount",
            ),
            ("select 1 / 0", "Divide by zero error"),
            (
                "select id as a, country as a from customers",
                "Projections require unique expression names but the expression \"customers.id AS a\" at position 0 and \"customers.country AS a\" at position 1 have the same name. Consider aliasing (\"AS\") one of them",
            ),
            (
                "select a.id, b.id from customers a cross join customers b",
                "the result has two columns `id`; name them apart with `as`",
            ),
        ] {
            assert_eq!(refusal(text).await, expected, "{text}");
        }
        let message = refusal("select (1 from orders").await;
        assert!(message.starts_with("the SQL cannot be read: "), "{message}");
        let message = refusal("select nonsense(1)").await;
        assert!(
            message.starts_with("Invalid function 'nonsense'"),
            "{message}"
        );
        assert!(!message.contains('\n'), "{message}");

        let engine = new_engine(&settings());
        let upper = tables(&[("t", "Amount\n1\n")]);
        let error = engine
            .sql("select amount from t", &upper)
            .await
            .err()
            .unwrap();
        assert_eq!(
            error.to_string(),
            "there is no column `amount`, only t.Amount; names with capital letters stand in double quotes: \"Amount\""
        );
    }

    const MANY: &str =
        "select value as n, repeat('x', 100) as text from generate_series(1, 200000)";

    fn small(memory: u64) -> TableSettings {
        TableSettings {
            memory: Some(ByteSize::of(memory)),
            ..settings()
        }
    }

    #[tokio::test]
    async fn a_sort_that_does_not_fit_into_memory_spills_to_disk() {
        let engine = new_engine(&small(12 << 20));
        let text = format!("select n, text from ({MANY}) order by text, n desc");
        let sorted = engine.sql(&text, &HashMap::new()).await.unwrap().table;
        assert_eq!(sorted.rows(), 200_000);
        assert!(sorted.bytes() > 12 << 20, "{}", sorted.bytes());
        assert!(sorted.0.spilled.is_some());
        assert!(shown(&sorted)[1].starts_with("200000 "));
        // What is on disk can be asked like any other table.
        let feeds = HashMap::from([("t".parse().unwrap(), Feed::Table(sorted))]);
        let counted = engine.sql("select count(*) as n, min(n) as least from t", &feeds);
        let counted = counted.await.unwrap();
        assert_eq!(
            shown(&counted.table),
            ["n: Int64, least: Int64", "200000 1"]
        );
        assert_eq!(counted.rows_in, 200_000);
    }

    #[tokio::test]
    async fn a_join_that_does_not_fit_into_memory_is_merged() {
        let text = format!(
            "select count(*) as n from ({MANY}) a join ({MANY}) b on a.n = b.n and a.text = b.text"
        );
        let engine = new_engine(&small(12 << 20));
        let query = engine.query(&text, &HashMap::new());
        let planned = query.planned().await.unwrap();
        assert!(has_hash_join(&planned.plan));
        let mut nobody = HandingOn {
            outlet: None,
            rows: 0,
            bytes: 0,
        };
        let hashed = attempt(&planned, None, &mut nobody).await.err().unwrap();
        assert!(matches!(hashed, Failure::Engine(error) if query_error::is_full(&error)));
        drop(planned);

        let joined = engine.sql(&text, &HashMap::new()).await.unwrap();
        assert_eq!(shown(&joined.table), ["n: Int64", "200000"]);
    }

    #[tokio::test]
    async fn a_query_without_room_says_which_setting_allows_more() {
        let engine = new_engine(&TableSettings {
            spill_size: ByteSize::of(1 << 10),
            ..small(1 << 20)
        });
        let text = format!("select n, text from ({MANY}) order by text, n desc");
        let error = engine.sql(&text, &HashMap::new()).await.err().unwrap();
        assert!(error.is_retriable());
        let message = error.to_string();
        assert!(
            message.contains("1 MiB of memory that --memory"),
            "{message}"
        );
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_dropped_query_stops_and_never_blocks_its_caller() {
        let engine = new_engine(&settings());
        let endless = "select count(*) from generate_series(1, 100000000000) a";
        let nothing = HashMap::new();
        let query = engine.sql(endless, &nothing);
        let short = std::time::Duration::from_millis(50);
        assert!(tokio::time::timeout(short, query).await.is_err());
        // The engine has all of its places free again.
        engine.idle().await;
    }
}
