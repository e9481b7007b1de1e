//! Parquet files that lie elsewhere: of the file come its footer and, one row
//! group after the other, the columns.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use datafusion::parquet::{
    arrow::{
        ParquetRecordBatchStreamBuilder, arrow_reader::ArrowReaderOptions,
        async_reader::AsyncFileReader,
    },
    errors::ParquetError,
    file::metadata::{ParquetMetaData, ParquetMetaDataReader},
};
use futures::{FutureExt, StreamExt, future::BoxFuture};

use super::{
    TableError,
    files::SourceFile,
    parquet::NAME,
    read::Work,
    typed::{BATCH_ROWS, Opened},
};
use crate::stores::{Reading, StoreError};

/// How much of the end is asked for at once, where the footer lies.
const FOOTER_BYTES: usize = 64 << 10;

/// Opens `file`, of which `reading` gets pieces.
pub(super) fn open(file: &SourceFile, reading: Reading, work: &Work) -> Result<Opened, TableError> {
    let input = Pieces {
        reading: reading.clone(),
        bytes: file.bytes,
    };
    // Why a piece did not come is noted by the file, which knows it then.
    let unreadable = |error: ParquetError| file.unreadable(NAME, &error);
    let built = reading.wait(async { Ok(ParquetRecordBatchStreamBuilder::new(input).await) })?;
    let built = built.map_err(unreadable)?;
    let limit = work.budget.table_size();
    for group in built.metadata().row_groups() {
        if u64::try_from(group.compressed_size()).unwrap_or(u64::MAX) > limit.bytes() {
            let message = format!(
                "{}: a part of it takes more than the {limit} of memory that --table-size allows, or it is damaged",
                file.shown
            );
            return Err(TableError::refused("bad_file", message));
        }
    }
    let schema = built.schema().clone();
    let stream = built.with_batch_size(BATCH_ROWS).build();
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

/// A file of which pieces are asked for.
struct Pieces {
    reading: Reading,
    bytes: u64,
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
            let got = self.reading.ranges(&ranges).await;
            got.map_err(external)
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
            Ok(Arc::new(reader.load_and_finish(self, bytes).await?))
        }
        .boxed()
    }
}

fn external(error: StoreError) -> ParquetError {
    ParquetError::External(Box::new(error))
}
