//! Tables as they are kept for later attempts: Arrow's format of streams,
//! compressed, which holds every column as it is.

use std::{
    fs::File,
    io::{self, BufReader, Write},
};

use bytes::{Bytes, BytesMut};
use datafusion::arrow::{
    error::ArrowError,
    ipc::{
        CompressionType,
        reader::StreamReader,
        writer::{IpcWriteOptions, StreamWriter},
    },
};
use tokio::sync::mpsc;

use super::{Feed, Table, TableError, memory::Collector, read::Work, write::Rows};

/// How many bytes of a table are handed on at once.
const CHUNK_BYTES: usize = 256 * 1024;

/// What a table becomes, piece by piece.
pub(crate) type Chunk = io::Result<Bytes>;

/// Hands the bytes of `table` on through `chunks`, as fast as they are taken.
/// Where it fails the last one is an error. This blocks: [`super::Engine::on_files`]
/// is the place for it.
pub(crate) fn to_chunks(
    table: &Table,
    chunks: mpsc::Sender<Chunk>,
    work: &Work,
) -> Result<(), TableError> {
    let mut output = Chunks {
        chunks,
        buffer: BytesMut::new(),
    };
    let written = write(table, &mut output, work);
    if written.is_err() {
        let broken = io::Error::other("the table could not be written");
        // Nobody may be there any more to hear of it.
        drop(output.chunks.blocking_send(Err(broken)));
    }
    written
}

fn write(table: &Table, output: &mut Chunks, work: &Work) -> Result<(), TableError> {
    let failed = |error: ArrowError| TableError::Fault {
        message: format!("the table cannot be kept: {error}"),
    };
    let options = IpcWriteOptions::default()
        .try_with_compression(Some(CompressionType::ZSTD))
        .map_err(failed)?;
    let writer = StreamWriter::try_new_with_options(&mut *output, table.schema(), options);
    let mut writer = writer.map_err(failed)?;
    let feed = Feed::Table(table.clone());
    let mut rows = Rows::of(&feed)?;
    while let Some(batch) = rows.next(work)? {
        writer.write(&batch).map_err(failed)?;
    }
    writer.finish().map_err(failed)?;
    drop(writer);
    let handed_on = output.hand_on();
    handed_on.map_err(|error| TableError::io("keeping the table", error))
}

/// Reads a table that was kept. The file is known to be what was written. This
/// blocks: [`super::Engine::on_files`] is the place for it.
pub(crate) fn from_file(file: File, work: &Work) -> Result<Table, TableError> {
    let failed = |error: ArrowError| TableError::Fault {
        message: format!("the table that was kept cannot be read: {error}"),
    };
    let reader = StreamReader::try_new(BufReader::new(file), None).map_err(failed)?;
    let mut table = Collector::new(&work.budget, reader.schema());
    for batch in reader {
        work.check()?;
        table.push(batch.map_err(failed)?)?;
    }
    table.finish()
}

/// Bytes that are collected into pieces and handed on.
struct Chunks {
    chunks: mpsc::Sender<Chunk>,
    buffer: BytesMut,
}

impl Chunks {
    fn hand_on(&mut self) -> io::Result<()> {
        let chunk = self.buffer.split().freeze();
        if chunk.is_empty() {
            return Ok(());
        }
        let sent = self.chunks.blocking_send(Ok(chunk));
        sent.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= CHUNK_BYTES {
            self.hand_on()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, thread};

    use super::*;
    use crate::tables::tests::{Place, shown};

    fn kept(table: &Table, place: &Place) -> Result<Vec<Chunk>, TableError> {
        let (sender, mut receiver) = mpsc::channel(1);
        thread::scope(|scope| {
            let taken = scope.spawn(move || {
                let chunks = std::iter::from_fn(|| receiver.blocking_recv());
                chunks.collect::<Vec<_>>()
            });
            to_chunks(table, sender, &place.work)?;
            Ok(taken.join().unwrap())
        })
    }

    #[test]
    fn a_table_comes_back_as_it_was() {
        let place = Place::new();
        let rows: String = (0..100_000)
            .map(|n| format!("{n},{},{}\n", n * 7919 % 99_991, f64::from(n) / 7.0))
            .collect();
        place.put("large.csv", &format!("n,m,x\n{rows}"));
        place.put(
            "nested.ndjson",
            "{\"id\":1,\"tags\":[\"x\"],\"at\":{\"lat\":1.5}}\n{\"id\":2}\n",
        );
        place.put("empty.csv", "a,b\n");
        for name in ["large.csv", "nested.ndjson", "empty.csv"] {
            let table = place.read(name).unwrap();
            let chunks = kept(&table, &place).unwrap();
            let chunks: Vec<Bytes> = chunks.into_iter().map(Result::unwrap).collect();
            assert!(name != "large.csv" || chunks.len() > 1);
            fs::write(place.path("kept"), chunks.concat()).unwrap();
            let file = File::open(place.path("kept")).unwrap();
            let back = from_file(file, &place.work).unwrap();
            assert_eq!(shown(&back), shown(&table));
            assert_eq!(back.schema(), table.schema());
        }
    }

    #[test]
    fn what_nobody_takes_any_more_ends_with_an_error() {
        let place = Place::new();
        place.put("in.csv", "a\n1\n");
        let table = place.read("in.csv").unwrap();
        let (sender, receiver) = mpsc::channel(1);
        drop(receiver);
        assert!(to_chunks(&table, sender, &place.work).is_err());
        place.work.cancelled.cancel();
        assert!(kept(&table, &place).is_err());
    }
}
