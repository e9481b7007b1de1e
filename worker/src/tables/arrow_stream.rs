//! Tables in Arrow's stream format, which one program can read while another
//! one still writes: in files, and over pipes.

use std::{
    fmt::Display,
    io::{BufReader, ErrorKind, Read, Write},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use datafusion::arrow::{
    array::RecordBatch,
    buffer::Buffer,
    datatypes::{Field, Schema, SchemaRef},
    error::ArrowError,
    ipc::{reader::StreamDecoder, root_as_message, writer::StreamWriter},
};

use super::{
    ByteSize, Feed, Table, TableError, arrow_file,
    batches::COLUMNS_MAX,
    files::{SourceFile, unreadable},
    memory::Collector,
    read::Work,
    typed::Opened,
    write::{Output, Rows, unwritable},
};

pub(super) const NAME: &str = "Arrow stream";

/// What stands before the length of a message.
const CONTINUATION: [u8; 4] = [0xff; 4];

/// The end of a stream, which may also just end.
const END: [u8; 8] = [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];

/// The longest description of some rows, without the rows.
const HEAD_BYTES_MAX: u64 = 64 << 20;

const BUFFER_BYTES: usize = 256 << 10;

/// Opens `file`. All of its columns are read, since they come together.
pub(super) fn open(file: &SourceFile, _: &[&str], work: &Work) -> Result<Opened, TableError> {
    let batches = Batches::open(file.open_plain()?, work.budget.piece());
    let batches = batches.map_err(|error| file.unreadable(NAME, &error))?;
    Ok(Opened {
        schema: batches.schema(),
        batches: Box::new(batches),
    })
}

/// Reads a table to the end of `input`, which errors call `shown`. This blocks:
/// [`super::Engine::on_pipe`] is the place for it.
pub(crate) fn read_stream(shown: &str, input: impl Read, work: &Work) -> Result<Table, TableError> {
    let damaged = |error: &dyn Display| unreadable(shown, NAME, error);
    let reading = || {
        let limit = work.budget.piece();
        let mut batches = Batches::open(input, limit).map_err(|error| damaged(&error))?;
        let schema = batches.schema();
        if schema.fields().len() > COLUMNS_MAX {
            return Err(damaged(&format!("it has more than {COLUMNS_MAX} columns")));
        }
        let nullable = |field: &Arc<Field>| field.as_ref().clone().with_nullable(true);
        let fields: Vec<Field> = schema.fields().iter().map(nullable).collect();
        let schema = Arc::new(Schema::new(fields));
        let mut table = Collector::new(&work.budget, Arc::clone(&schema));
        for batch in &mut batches {
            work.check()?;
            let batch = batch.and_then(|batch| batch.with_schema(Arc::clone(&schema)));
            table.push(batch.map_err(|error| damaged(&error))?)?;
        }
        table.finish()
    };
    // Nothing of what the library has at hand is used after a panic.
    let read = catch_unwind(AssertUnwindSafe(reading));
    read.unwrap_or_else(|_| Err(damaged(&"it is damaged")))
}

/// Writes the rows as one file.
pub(super) fn write(
    rows: &mut Rows<'_>,
    output: Output<'_>,
    work: &Work,
) -> Result<(), TableError> {
    write_batches(rows, output, work)?.map_err(|error| unwritable(error.to_string()))
}

/// Writes `table` into the pipe `output`, whose reader need not take all of
/// it. This blocks: [`super::Engine::on_pipe`] is the place for it.
pub(crate) fn write_stream(
    table: &Table,
    output: impl Write,
    work: &Work,
) -> Result<(), TableError> {
    let feed = Feed::Table(table.clone());
    match write_batches(&mut Rows::of(&feed)?, output, work)? {
        Err(ArrowError::IoError(_, error)) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(|error| unwritable(error.to_string())),
    }
}

fn write_batches(
    rows: &mut Rows<'_>,
    output: impl Write,
    work: &Work,
) -> Result<Result<(), ArrowError>, TableError> {
    let mut writer = match StreamWriter::try_new_buffered(output, rows.schema()) {
        Ok(writer) => writer,
        Err(error) => return Ok(Err(error)),
    };
    while let Some(batch) = rows.next(work)? {
        if let Err(error) = writer.write(&batch) {
            return Ok(Err(error));
        }
    }
    Ok(writer.finish().and_then(|()| writer.flush()))
}

/// The rows of a stream, message by message. Its library takes as much memory
/// as a message says it needs, so each is looked at before.
struct Batches<R> {
    input: BufReader<R>,
    decoder: StreamDecoder,
    limit: ByteSize,
    /// Rows that came with the columns.
    first: Option<RecordBatch>,
    is_ended: bool,
}

impl<R: Read> Batches<R> {
    /// Reads the columns.
    fn open(input: R, limit: ByteSize) -> Result<Self, ArrowError> {
        let mut batches = Self {
            input: BufReader::with_capacity(BUFFER_BYTES, input),
            decoder: StreamDecoder::new(),
            limit,
            first: None,
            is_ended: false,
        };
        while batches.decoder.schema().is_none() && !batches.is_ended {
            batches.first = batches.advance()?;
        }
        match batches.decoder.schema() {
            Some(_) => Ok(batches),
            None => Err(damaged("it names no columns")),
        }
    }

    fn schema(&self) -> SchemaRef {
        let schema = self.decoder.schema();
        schema.expect("a stream that is open has told its columns")
    }

    /// Takes one message, which may hold rows.
    fn advance(&mut self) -> Result<Option<RecordBatch>, ArrowError> {
        let message = match self.message()? {
            Some(message) => message,
            None => {
                self.is_ended = true;
                END.to_vec()
            }
        };
        let mut message = Buffer::from_vec(message);
        let rows = self.decoder.decode(&mut message)?;
        if self.is_ended {
            self.decoder.finish()?;
        }
        Ok(rows)
    }

    /// The bytes of the next message; none at the end of the stream.
    fn message(&mut self) -> Result<Option<Vec<u8>>, ArrowError> {
        let mut message = Vec::new();
        self.take(4, &mut message)?;
        if message.is_empty() {
            return Ok(None);
        }
        if message == CONTINUATION {
            self.take(4, &mut message)?;
        }
        let start = message.len();
        let length = message
            .last_chunk::<4>()
            .map_or(0, |length| u32::from_le_bytes(*length));
        if start % 4 != 0 || u64::from(length) > HEAD_BYTES_MAX {
            return Err(damaged("it is cut off or damaged"));
        }
        if length == 0 {
            return Ok(None);
        }
        self.take_all(u64::from(length), &mut message)?;
        let body = self.body_bytes(&message[start..])?;
        let body_start = message.len();
        self.take_all(body, &mut message)?;
        let claimed = claimed_bytes(&message[start..body_start], &message[body_start..])?;
        if claimed > self.limit.bytes() {
            return Err(self.too_large());
        }
        Ok(Some(message))
    }

    /// How many bytes of rows follow the description `head`.
    fn body_bytes(&self, head: &[u8]) -> Result<u64, ArrowError> {
        let head = root_as_message(head).map_err(|error| damaged(&error.to_string()))?;
        match u64::try_from(head.bodyLength()) {
            Ok(bytes) if bytes <= self.limit.bytes() => Ok(bytes),
            Ok(_) => Err(self.too_large()),
            Err(_) => Err(damaged("it is cut off or damaged")),
        }
    }

    fn take(&mut self, bytes: u64, into: &mut Vec<u8>) -> Result<usize, ArrowError> {
        let read = self.input.by_ref().take(bytes).read_to_end(into);
        read.map_err(|error| ArrowError::IoError(format!("reading it failed: {error}"), error))
    }

    fn take_all(&mut self, bytes: u64, into: &mut Vec<u8>) -> Result<(), ArrowError> {
        if self.take(bytes, into)? as u64 == bytes {
            return Ok(());
        }
        Err(damaged("it is cut off or damaged"))
    }

    fn too_large(&self) -> ArrowError {
        damaged(&format!(
            "a part of it takes more than {}, a quarter of what --memory allows, or it is damaged",
            self.limit
        ))
    }
}

impl<R: Read> Iterator for Batches<R> {
    type Item = Result<RecordBatch, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(first) = self.first.take() {
            return Some(Ok(first));
        }
        while !self.is_ended {
            match self.advance() {
                Ok(None) => {}
                Ok(Some(rows)) => return Some(Ok(rows)),
                Err(error) => {
                    self.is_ended = true;
                    return Some(Err(error));
                }
            }
        }
        None
    }
}

/// How much the rows in `body` say that they unpack to.
fn claimed_bytes(head: &[u8], body: &[u8]) -> Result<u64, ArrowError> {
    let head = root_as_message(head).map_err(|error| damaged(&error.to_string()))?;
    arrow_file::unpacked_bytes(&head, |offset| {
        let size = usize::try_from(offset)
            .ok()
            .and_then(|start| body.get(start..));
        Ok(size.and_then(|size| size.first_chunk::<8>().copied()))
    })
}

fn damaged(reason: &str) -> ArrowError {
    ArrowError::IpcError(reason.to_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::tables::tests::{Place, shown};

    fn table(place: &Place) -> Table {
        place.put(
            "in.ndjson",
            "{\"id\":1,\"tags\":[\"x\"],\"at\":{\"lat\":1.5}}\n{\"id\":2}\n",
        );
        place.read("in.ndjson").unwrap()
    }

    #[test]
    fn a_table_comes_back_as_it_was_from_files_and_pipes() {
        let place = Place::new();
        let table = table(&place);
        place.write(&table, "out.arrows").unwrap();
        assert_eq!(place.shown("out.arrows"), shown(&table));
        let mut bytes = Vec::new();
        write_stream(&table, &mut bytes, &place.work).unwrap();
        assert_eq!(bytes, fs::read(place.path("out.arrows")).unwrap());
        // The mark of the end may be missing.
        for bytes in [&bytes[..], &bytes[..bytes.len() - 8]] {
            let read = read_stream("it", bytes, &place.work).unwrap();
            assert_eq!(shown(&read), shown(&table));
        }
        place.put("empty.csv", "a,b\n");
        let empty = place.read("empty.csv").unwrap();
        place.write(&empty, "empty.arrows").unwrap();
        assert_eq!(place.shown("empty.arrows"), ["a: Utf8, b: Utf8"]);
    }

    #[test]
    fn a_stream_that_is_cut_off_or_damaged_is_named() {
        let place = Place::new();
        let mut whole = Vec::new();
        write_stream(&table(&place), &mut whole, &place.work).unwrap();
        let refusal = |bytes: &[u8]| {
            let error = read_stream("it", bytes, &place.work).unwrap_err();
            assert_eq!(error.code(), "bad_file");
            error.to_string()
        };
        for length in [0, 3, 6, 20, whole.len() / 2, whole.len() - 20] {
            let error = refusal(&whole[..length]);
            assert!(
                error.starts_with("it is not a readable Arrow stream file"),
                "{error}"
            );
        }
        for byte in 0..whole.len() {
            let mut wrong = whole.clone();
            wrong[byte] ^= 0x7f;
            // Many a byte can be another one; none takes the worker along.
            let _ = read_stream("it", &wrong[..], &place.work);
        }
        assert!(refusal(b"a,b\n1,2\n").contains("damaged"));
    }

    #[test]
    fn a_message_that_claims_much_memory_is_refused_before_it_gets_it() {
        let place = Place::new();
        let error = read_stream(
            "it",
            &[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0x70][..],
            &place.work,
        );
        assert!(error.unwrap_err().to_string().contains("damaged"));

        let mut whole = Vec::new();
        write_stream(&table(&place), &mut whole, &place.work).unwrap();
        let limit = ByteSize::of(16);
        let mut batches = Batches::open(&whole[..], limit).err();
        if batches.is_none() {
            let opened = Batches::open(&whole[..], limit).unwrap();
            batches = opened.filter_map(Result::err).next();
        }
        assert!(batches.unwrap().to_string().contains("16 bytes, a quarter"));
    }
}
