//! Parquet files that lie elsewhere: of the file come its footer and, one row
//! group after the other, the columns.

use std::{io::Cursor, ops::Range, sync::Arc};

use bytes::Bytes;
use datafusion::parquet::{
    arrow::{
        ParquetRecordBatchStreamBuilder, ProjectionMask, arrow_reader::ArrowReaderOptions,
        async_reader::AsyncFileReader,
    },
    errors::ParquetError,
    file::metadata::{ParquetMetaData, ParquetMetaDataReader},
};
use futures::{FutureExt, StreamExt, future::BoxFuture};

use super::{
    ByteSize, TableError,
    files::SourceFile,
    parquet::NAME,
    parquet_pages,
    read::Work,
    typed::{BATCH_ROWS, Opened, places},
};
use crate::stores::{Reading, StoreError};

/// How much of the end is asked for at once, where the footer lies.
const FOOTER_BYTES: usize = 64 << 10;

/// Opens `file`, of which `reading` gets pieces and the columns called `wanted`
/// are read.
pub(super) fn open(
    file: &SourceFile,
    reading: Reading,
    wanted: &[&str],
    work: &Work,
) -> Result<Opened, TableError> {
    let input = Pieces {
        reading: reading.clone(),
        bytes: file.bytes,
        limit: work.budget.piece(),
        columns: Vec::new(),
    };
    // Why a piece did not come is noted by the file, which knows it then.
    let unreadable = |error: ParquetError| file.unreadable(NAME, &error);
    let built = reading.wait(async { Ok(ParquetRecordBatchStreamBuilder::new(input).await) })?;
    let built = built.map_err(unreadable)?;
    let schema = built.schema().clone();
    let mask = ProjectionMask::roots(built.parquet_schema(), places(&schema, wanted));
    check_groups(file, built.metadata(), &mask, work)?;
    let stream = built
        .with_projection(mask)
        .with_batch_size(BATCH_ROWS)
        .build();
    let mut stream = stream.map_err(unreadable)?;
    let batches = std::iter::from_fn(move || {
        let next = reading.wait(async { Ok(stream.next().await) });
        match next {
            Ok(next) => next.map(|batch| batch.map_err(Into::into)),
            Err(cancelled) => Some(Err(external(cancelled).into())),
        }
    });
    Ok(Opened {
        schema,
        batches: Box::new(batches),
    })
}

/// Checks that what comes of each row group fits into memory.
fn check_groups(
    file: &SourceFile,
    metadata: &ParquetMetaData,
    mask: &ProjectionMask,
    work: &Work,
) -> Result<(), TableError> {
    let limit = work.budget.piece();
    for group in metadata.row_groups() {
        let columns = group.columns().iter().enumerate();
        let wanted = columns.filter(|(place, _)| mask.leaf_included(*place));
        let bytes =
            wanted.map(|(_, column)| u64::try_from(column.compressed_size()).unwrap_or(u64::MAX));
        if bytes.fold(0, u64::saturating_add) > limit.bytes() {
            let message = format!(
                "{}: a part of it takes more than {limit}, a quarter of what --memory allows, or it is damaged",
                file.shown
            );
            return Err(TableError::refused("bad_file", message));
        }
    }
    Ok(())
}

/// A file of which pieces are asked for.
struct Pieces {
    reading: Reading,
    bytes: u64,
    /// How much a page may unpack to.
    limit: ByteSize,
    /// Where the columns of each row group lie.
    columns: Vec<Range<u64>>,
}

impl Pieces {
    /// Checks what the pages of a column claim, as that of a local file is.
    fn check_pages(&self, range: &Range<u64>, bytes: &Bytes) -> Result<(), ParquetError> {
        if !self.columns.contains(range) {
            return Ok(());
        }
        let mut input = Cursor::new(bytes);
        let is_beyond =
            parquet_pages::unpacks_beyond(self.limit, &mut input, 0..bytes.len() as u64);
        if is_beyond.map_err(|error| ParquetError::General(error.to_string()))? {
            let limit = self.limit;
            return Err(ParquetError::General(format!(
                "a page of it takes more than {limit}, a quarter of what --memory allows, or it is damaged"
            )));
        }
        Ok(())
    }
}

impl AsyncFileReader for Pieces {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes, ParquetError>> {
        async move {
            let ranges = self.get_byte_ranges(vec![range]).await?;
            let first = ranges.into_iter().next();
            first.ok_or_else(|| ParquetError::General("no bytes came".to_owned()))
        }
        .boxed()
    }

    fn get_byte_ranges(
        &mut self,
        ranges: Vec<Range<u64>>,
    ) -> BoxFuture<'_, Result<Vec<Bytes>, ParquetError>> {
        async move {
            // A damaged footer names what is not there.
            if ranges
                .iter()
                .any(|range| range.end > self.bytes || range.start > range.end)
            {
                return Err(ParquetError::EOF("it is cut off or damaged".to_owned()));
            }
            let got = self.reading.ranges(&ranges).await.map_err(external)?;
            for (range, bytes) in ranges.iter().zip(&got) {
                self.check_pages(range, bytes)?;
            }
            Ok(got)
        }
        .boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>, ParquetError>> {
        async move {
            let bytes = self.bytes;
            let options = options.map(|options| options.metadata_options().clone());
            let reader = ParquetMetaDataReader::new()
                .with_metadata_options(options)
                .with_prefetch_hint(Some(FOOTER_BYTES));
            let metadata = reader.load_and_finish(&mut *self, bytes).await?;
            let groups = metadata.row_groups().iter();
            let columns = groups.flat_map(|group| group.columns());
            let ranges = columns.map(|column| {
                let (start, length) = column.byte_range();
                start..start.saturating_add(length)
            });
            self.columns = ranges.collect();
            Ok(Arc::new(metadata))
        }
        .boxed()
    }
}

fn external(error: StoreError) -> ParquetError {
    ParquetError::External(Box::new(error))
}
