//! Feeds as the query engine takes them.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use datafusion::{
    arrow::datatypes::SchemaRef,
    catalog::{Session, TableProvider},
    common::{
        DataFusionError, Result, Statistics, internal_err, stats::Precision,
        tree_node::TreeNodeRecursion,
    },
    execution::TaskContext,
    logical_expr::{Expr, TableType},
    physical_expr::{EquivalenceProperties, Partitioning, PhysicalExpr},
    physical_plan::{
        DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, SendableRecordBatchStream,
        execution_plan::{Boundedness, EmissionType},
        statistics::StatisticsArgs,
        stream::{RecordBatchReceiverStream, RecordBatchStreamAdapter},
    },
};
use futures::stream;

use super::{Feed, FeedReader, Flow, TableError};

/// A feed of which a query takes the columns that it needs.
#[derive(Debug)]
pub(super) struct FeedTable(pub(super) Feed);

#[async_trait]
impl TableProvider for FeedTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(self.0.schema())
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = match projection {
            None => Arc::clone(self.0.schema()),
            Some(columns) => Arc::new(self.0.schema().project(columns)?),
        };
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Ok(Arc::new(FeedScan {
            feed: self.0.clone(),
            columns: projection.cloned(),
            properties: Arc::new(properties),
        }))
    }
}

/// Reads a feed once for each time that it is executed.
#[derive(Debug)]
struct FeedScan {
    feed: Feed,
    columns: Option<Vec<usize>>,
    properties: Arc<PlanProperties>,
}

impl DisplayAs for FeedScan {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FeedScan: columns={:?}", self.columns)
    }
}

impl ExecutionPlan for FeedScan {
    fn name(&self) -> &str {
        "FeedScan"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match children.is_empty() {
            true => Ok(self),
            false => internal_err!("a feed has no children"),
        }
    }

    fn execute(&self, _: usize, _: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let schema = Arc::clone(self.properties.equivalence_properties().schema());
        let reader = self.feed.open_columns(self.columns.clone());
        let reader = reader.map_err(external)?;
        Ok(match &self.feed {
            Feed::Table(_) => from_disk(schema, reader),
            Feed::Flow(flow) => from_flow(schema, reader, flow.clone()),
        })
    }

    /// Which of two feeds is better held in memory follows from their sizes.
    fn statistics_from_inputs(
        &self,
        _: &[Arc<Statistics>],
        _: &StatisticsArgs,
    ) -> Result<Arc<Statistics>> {
        let schema = self.properties.equivalence_properties().schema();
        let mut statistics = Statistics::new_unknown(schema);
        let sizes = match &self.feed {
            Feed::Table(table) => Some((
                Precision::Exact(table.rows() as usize),
                table.bytes() as usize,
            )),
            Feed::Flow(flow) => flow
                .about()
                .map(|about| (Precision::Inexact(about.rows), about.bytes)),
        };
        if let Some((rows, bytes)) = sizes {
            statistics.num_rows = rows;
            statistics.total_byte_size = Precision::Inexact(bytes);
        }
        Ok(Arc::new(statistics))
    }
}

/// Rows of a table that is on disk, read on a thread that may block.
fn from_disk(schema: SchemaRef, mut reader: FeedReader) -> SendableRecordBatchStream {
    let mut builder = RecordBatchReceiverStream::builder(schema, 2);
    let rows = builder.tx();
    builder.spawn_blocking(move || {
        while let Some(batch) = reader.next() {
            if rows.blocking_send(batch.map_err(external)).is_err() {
                break;
            }
        }
        Ok(())
    });
    builder.build()
}

fn from_flow(schema: SchemaRef, reader: FeedReader, flow: Flow) -> SendableRecordBatchStream {
    let rows = stream::unfold((reader, flow), |(mut reader, flow)| async move {
        let next = reader.next_made().await?;
        flow.set_rows(reader.rows());
        Some((next.map_err(external), (reader, flow)))
    });
    Box::pin(RecordBatchStreamAdapter::new(schema, rows))
}

/// As [`query_error::explained`] knows it again.
///
/// [`query_error::explained`]: super::query_error::explained
fn external(error: TableError) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}
