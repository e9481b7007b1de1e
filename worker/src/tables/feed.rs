//! Rows on their way into a step: a table, or rows that another step makes
//! while this one takes them.
//!
//! A flow is pulled: each opening asks the step that makes it for one pass over
//! its rows, which waits where they are not taken. So there are never more than
//! a few batches between two steps, a step that has to begin again opens the
//! flow once more, and a query says with the opening which columns it needs.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use datafusion::arrow::{array::RecordBatch, datatypes::SchemaRef, error::ArrowError};
use tokio::sync::mpsc;

use super::{Table, TableError, memory::bytes_of, spill::SpillReader};

/// How many batches may wait between two steps.
const WAITING_MAX: usize = 2;

/// What a step takes its rows from.
#[derive(Clone, Debug)]
pub(crate) enum Feed {
    /// A table, of which the number of rows is known.
    Table(Table),
    /// Rows that are being made.
    Flow(Flow),
}

impl Feed {
    /// The columns of the rows.
    pub(crate) fn schema(&self) -> &SchemaRef {
        match self {
            Self::Table(table) => table.schema(),
            Self::Flow(flow) => &flow.0.schema,
        }
    }

    /// Begins to read the rows, from the first one on.
    pub(crate) fn open(&self) -> Result<FeedReader, TableError> {
        self.open_columns(None)
    }

    /// Begins to read the columns at these places, or all.
    pub(super) fn open_columns(
        &self,
        columns: Option<Vec<usize>>,
    ) -> Result<FeedReader, TableError> {
        let source = match self {
            Self::Table(table) => Source::Table {
                table: table.clone(),
                next: 0,
                disk: match &table.0.spilled {
                    None => None,
                    Some(spilled) => Some(Box::new(spilled.open()?)),
                },
                columns,
            },
            Self::Flow(flow) => Source::Flow(flow.open(columns)?),
        };
        Ok(FeedReader {
            source,
            peeked: None,
            has_ended: false,
            rows: 0,
            bytes: 0,
        })
    }
}

/// Reads the rows of a feed once.
#[derive(Debug)]
pub(crate) struct FeedReader {
    source: Source,
    peeked: Option<RecordBatch>,
    /// Whether all rows were read: who asks once more gets the same answer.
    has_ended: bool,
    rows: u64,
    bytes: u64,
}

#[derive(Debug)]
enum Source {
    Table {
        table: Table,
        next: usize,
        disk: Option<Box<SpillReader>>,
        columns: Option<Vec<usize>>,
    },
    Flow(mpsc::Receiver<Passing>),
}

impl FeedReader {
    /// The next rows. Blocks until they are there.
    pub(crate) fn next(&mut self) -> Option<Result<RecordBatch, TableError>> {
        if self.has_ended {
            return None;
        }
        let next = match (self.peeked.take(), &mut self.source) {
            (Some(batch), _) => Some(Ok(batch)),
            (None, Source::Flow(passing)) => received(passing.blocking_recv()),
            (None, table) => table.at_hand(),
        };
        self.counted(next)
    }

    /// The next rows. Waits for them where they are being made.
    pub(crate) async fn next_made(&mut self) -> Option<Result<RecordBatch, TableError>> {
        if self.has_ended {
            return None;
        }
        let next = match self.peeked.take() {
            Some(batch) => Some(Ok(batch)),
            None => self.source.next_made().await,
        };
        self.counted(next)
    }

    /// Waits until the first rows are there, or it is clear that there are none.
    pub(crate) async fn wait(&mut self) -> Result<(), TableError> {
        if self.peeked.is_none() && !self.has_ended {
            self.peeked = self.source.next_made().await.transpose()?;
            self.has_ended = self.peeked.is_none();
        }
        Ok(())
    }

    /// How many rows have been read.
    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    /// How many bytes of memory they took.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    fn counted(
        &mut self,
        next: Option<Result<RecordBatch, TableError>>,
    ) -> Option<Result<RecordBatch, TableError>> {
        self.has_ended = next.is_none();
        if let Some(Ok(batch)) = &next {
            self.rows += batch.num_rows() as u64;
            self.bytes += bytes_of(batch, &mut HashSet::new()) as u64;
        }
        next
    }
}

impl Source {
    async fn next_made(&mut self) -> Option<Result<RecordBatch, TableError>> {
        match self {
            Self::Flow(passing) => received(passing.recv().await),
            table => table.at_hand(),
        }
    }

    /// The next rows of a table.
    fn at_hand(&mut self) -> Option<Result<RecordBatch, TableError>> {
        let Self::Table {
            table,
            next,
            disk,
            columns,
        } = self
        else {
            return None;
        };
        let batch = match table.0.batches.get(*next) {
            Some(batch) => Ok(batch.clone()),
            None => disk.as_mut()?.next()?,
        };
        *next += 1;
        Some(batch.and_then(|batch| match columns {
            None => Ok(batch),
            Some(columns) => batch.project(columns).map_err(fault),
        }))
    }
}

/// What came through, where the end has to be said: a channel that merely ends
/// was given up by who fills it.
fn received(passing: Option<Passing>) -> Option<Result<RecordBatch, TableError>> {
    match passing {
        Some(Passing::Rows(batch)) => Some(Ok(batch)),
        Some(Passing::End) => None,
        None => Some(Err(TableError::Interrupted)),
    }
}

/// Rows that a step makes. A clone is another handle on the same; the step goes
/// on as long as there is one.
#[derive(Clone, Debug)]
pub(crate) struct Flow(Arc<Making>);

#[derive(Debug)]
struct Making {
    schema: SchemaRef,
    /// About how many rows and bytes there are, where something is known.
    about: Option<About>,
    openings: mpsc::UnboundedSender<Opening>,
    /// How many rows the last whole pass had.
    rows: AtomicU64,
}

/// About how much there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct About {
    pub(super) rows: usize,
    pub(super) bytes: usize,
}

impl Flow {
    /// Rows with the columns `schema`, and what they are asked for by.
    pub(super) fn new(schema: SchemaRef, about: Option<About>) -> (Self, Demand) {
        let (openings, demand) = mpsc::unbounded_channel();
        let making = Making {
            schema,
            about,
            openings,
            rows: AtomicU64::new(0),
        };
        (Self(Arc::new(making)), Demand(demand))
    }

    pub(super) fn about(&self) -> Option<About> {
        self.0.about
    }

    /// How many rows the last reader has read.
    pub(super) fn rows(&self) -> u64 {
        self.0.rows.load(Ordering::Relaxed)
    }

    /// Notes how many rows a reader has read.
    pub(super) fn set_rows(&self, rows: u64) {
        self.0.rows.store(rows, Ordering::Relaxed);
    }

    fn open(&self, columns: Option<Vec<usize>>) -> Result<mpsc::Receiver<Passing>, TableError> {
        let (rows, passing) = mpsc::channel(WAITING_MAX);
        let outlet = Outlet { rows };
        let opening = self.0.openings.send(Opening { columns, outlet });
        opening.map_err(|_| TableError::Interrupted)?;
        Ok(passing)
    }
}

/// What is asked of the step that makes a flow.
pub(super) struct Demand(mpsc::UnboundedReceiver<Opening>);

impl Demand {
    /// The next pass to make; none when nobody will ask any more.
    pub(super) async fn next(&mut self) -> Option<Opening> {
        self.0.recv().await
    }
}

/// One pass over the rows, to be made.
pub(super) struct Opening {
    /// The places of the columns that are wanted; all where not given.
    pub(super) columns: Option<Vec<usize>>,
    pub(super) outlet: Outlet,
}

#[derive(Debug)]
enum Passing {
    Rows(RecordBatch),
    End,
}

/// Where the rows of one pass go. Dropping it without [`Self::end`] tells the
/// reader that there would have been more.
pub(super) struct Outlet {
    rows: mpsc::Sender<Passing>,
}

impl Outlet {
    /// Hands rows on as soon as there is room. False where nobody takes them.
    /// Blocks.
    pub(super) fn push(&self, batch: RecordBatch) -> bool {
        self.rows.blocking_send(Passing::Rows(batch)).is_ok()
    }

    /// Hands rows on as soon as there is room. False where nobody takes them.
    pub(super) async fn send(&self, batch: RecordBatch) -> bool {
        self.rows.send(Passing::Rows(batch)).await.is_ok()
    }

    /// All rows were handed on, and whatever else the pass does is done. Blocks.
    pub(super) fn end(self) {
        // Who does not take it any more needs no end.
        let _ = self.rows.blocking_send(Passing::End);
    }

    /// As [`Self::end`], for who must not block.
    pub(super) async fn send_end(self) {
        let _ = self.rows.send(Passing::End).await;
    }
}

fn fault(error: ArrowError) -> TableError {
    TableError::Fault {
        message: error.to_string(),
    }
}
