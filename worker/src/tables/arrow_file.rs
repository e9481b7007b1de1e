//! Files in Arrow's own format, which hold a table as it is in memory.

use std::{
    fs::File,
    io::{BufReader, Read, Seek, SeekFrom},
    ops::Range,
};

use datafusion::arrow::{
    error::ArrowError,
    ipc::{
        Block, CompressionType, Message,
        reader::{FileReader, read_footer_length},
        root_as_footer, root_as_message,
        writer::{FileWriter, IpcWriteOptions},
    },
};

use super::{
    TableError,
    files::SourceFile,
    read::Work,
    typed::{Opened, places},
    write::{Output, Rows, unwritable},
};

pub(super) const NAME: &str = "Arrow";

/// The bytes behind the footer: its length, and the mark of the format.
const TAIL_BYTES: u64 = 10;

const CUT_OFF: &str = "it is cut off or damaged";

/// Opens `file`, of which the columns called `wanted` are read.
pub(super) fn open(file: &SourceFile, wanted: &[&str], work: &Work) -> Result<Opened, TableError> {
    let unreadable = |error: ArrowError| file.unreadable(NAME, &error);
    Parts::of(file, work)?.check()?;
    let input = BufReader::new(file.open_plain()?);
    let reader = FileReader::try_new(input, None).map_err(unreadable)?;
    let schema = reader.schema();
    let input = BufReader::new(file.open_plain()?);
    let reader = FileReader::try_new(input, Some(places(&schema, wanted))).map_err(unreadable)?;
    Ok(Opened {
        schema,
        batches: Box::new(reader),
    })
}

/// The parts of a file that its footer names. Its reader takes as much memory
/// as they say they need, so they are looked at before.
struct Parts<'a> {
    file: &'a SourceFile,
    work: &'a Work,
    input: File,
    /// Where they end and the footer starts.
    end: u64,
    footer: Vec<u8>,
}

impl<'a> Parts<'a> {
    fn of(file: &'a SourceFile, work: &'a Work) -> Result<Self, TableError> {
        let cut_off = || file.unreadable(NAME, &CUT_OFF);
        let tail_start = file.bytes.checked_sub(TAIL_BYTES).ok_or_else(cut_off)?;
        let mut parts = Self {
            file,
            work,
            input: file.open_plain()?,
            end: tail_start,
            footer: Vec::new(),
        };
        let mut tail = [0; TAIL_BYTES as usize];
        parts.read(tail_start, &mut tail)?;
        let length = read_footer_length(tail).map_err(|error| file.unreadable(NAME, &error))?;
        let start = tail_start.checked_sub(length as u64).ok_or_else(cut_off)?;
        let mut footer = vec![0; length];
        parts.read(start, &mut footer)?;
        (parts.end, parts.footer) = (start, footer);
        Ok(parts)
    }

    fn read(&mut self, start: u64, bytes: &mut [u8]) -> Result<(), TableError> {
        let sought = self.input.seek(SeekFrom::Start(start));
        let read = sought.and_then(|_| self.input.read_exact(bytes));
        read.map_err(|error| self.file.failed("reading", error))
    }

    /// Checks that they lie within the file, and that none unpacks to more
    /// than a table may take.
    fn check(mut self) -> Result<(), TableError> {
        let footer = std::mem::take(&mut self.footer);
        let footer = root_as_footer(&footer);
        let footer = footer.map_err(|error| self.file.unreadable(NAME, &error))?;
        let parts = [footer.recordBatches(), footer.dictionaries()];
        for part in parts.into_iter().flatten().flatten() {
            self.work.check()?;
            let file = self.file;
            let cut_off = || file.unreadable(NAME, &CUT_OFF);
            let body = self.body(part).ok_or_else(cut_off)?;
            let start = u64::try_from(part.offset()).map_err(|_| cut_off())?;
            let mut message = vec![0; (body.start - start) as usize];
            self.read(start, &mut message)?;
            let bytes = self.unpacked_bytes(&message, &body)?;
            let limit = self.work.budget.piece();
            if bytes.max(body.end - body.start) > limit.bytes() {
                let file = &file.shown;
                let message = format!(
                    "{file}: a part of it takes more than {limit}, a quarter of what --memory allows, or it is damaged"
                );
                return Err(TableError::refused("bad_file", message));
            }
        }
        Ok(())
    }

    /// Where the rows of a part lie, if they do.
    fn body(&self, part: &Block) -> Option<Range<u64>> {
        let offset = u64::try_from(part.offset()).ok()?;
        let metadata = u64::try_from(part.metaDataLength()).ok()?;
        let start = offset.checked_add(metadata)?;
        let end = start.checked_add(u64::try_from(part.bodyLength()).ok()?)?;
        (end <= self.end).then_some(start..end)
    }

    /// How much a part says that it unpacks to; nothing where that is not told
    /// by its `message`, which its reader tells then.
    fn unpacked_bytes(&mut self, message: &[u8], body: &Range<u64>) -> Result<u64, TableError> {
        let head = if message.starts_with(&[0xff; 4]) {
            8
        } else {
            4
        };
        let Some(Ok(message)) = message.get(head..).map(root_as_message) else {
            return Ok(0);
        };
        unpacked_bytes(&message, |offset| {
            let start = body.start.saturating_add(offset);
            if start.saturating_add(8) > body.end {
                return Ok(None);
            }
            let mut size = [0; 8];
            self.read(start, &mut size)?;
            Ok(Some(size))
        })
    }
}

/// How much the rows of a message say that they unpack to; nothing where they
/// are not compressed. `size_at` yields the bytes at an offset of the rows.
pub(super) fn unpacked_bytes<E>(
    message: &Message<'_>,
    mut size_at: impl FnMut(u64) -> Result<Option<[u8; 8]>, E>,
) -> Result<u64, E> {
    let dictionary = message.header_as_dictionary_batch();
    let rows = message
        .header_as_record_batch()
        .or_else(|| dictionary.and_then(|dictionary| dictionary.data()));
    let buffers = rows.filter(|rows| rows.compression().is_some());
    let buffers = buffers.and_then(|rows| rows.buffers());
    let mut bytes: u64 = 0;
    for buffer in buffers.into_iter().flatten() {
        let offset = u64::try_from(buffer.offset()).ok();
        let Some(offset) = offset.filter(|_| buffer.length() >= 8) else {
            continue;
        };
        if let Some(size) = size_at(offset)? {
            // A negative one says that it is not compressed.
            let size = u64::try_from(i64::from_le_bytes(size)).unwrap_or(0);
            bytes = bytes.saturating_add(size);
        }
    }
    Ok(bytes)
}

/// Writes the rows as one file.
pub(super) fn write(
    rows: &mut Rows<'_>,
    output: Output<'_>,
    work: &Work,
) -> Result<(), TableError> {
    let unwritable = |error: ArrowError| unwritable(error.to_string());
    let options = IpcWriteOptions::default()
        .try_with_compression(Some(CompressionType::ZSTD))
        .map_err(unwritable)?;
    let writer = FileWriter::try_new_with_options(output, rows.schema(), options);
    let mut writer = writer.map_err(unwritable)?;
    while let Some(batch) = rows.next(work)? {
        writer.write(&batch).map_err(unwritable)?;
    }
    writer.finish().map_err(unwritable)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use crate::tables::tests::{Place, shown};

    #[test]
    fn a_table_comes_back_as_it_was() {
        let place = Place::new();
        place.put(
            "in.ndjson",
            "{\"id\":1,\"tags\":[\"x\"],\"at\":{\"lat\":1.5}}\n{\"id\":2}\n",
        );
        let table = place.read("in.ndjson").unwrap();
        place.write(&table, "out.arrow").unwrap();
        assert_eq!(place.shown("out.arrow"), shown(&table));
        place.put("empty.csv", "a,b\n");
        let empty = place.read("empty.csv").unwrap();
        place.write(&empty, "empty.arrow").unwrap();
        assert_eq!(place.shown("empty.arrow"), ["a: Utf8, b: Utf8"]);
    }

    #[test]
    fn a_file_that_is_cut_off_or_damaged_is_named() {
        let place = Place::new();
        place.put("in.csv", "a,b\n1,x\n2,y\n");
        let table = place.read("in.csv").unwrap();
        place.write(&table, "out.arrow").unwrap();
        let whole = fs::read(place.path("out.arrow")).unwrap();
        for length in [0, 5, 20, whole.len() / 2, whole.len() - 1] {
            fs::write(place.path("a.arrow"), &whole[..length]).unwrap();
            let error = place.read("a.arrow").unwrap_err();
            assert_eq!(error.code(), "bad_file");
            let expected = "a.arrow is not a readable Arrow file";
            assert!(error.to_string().starts_with(expected), "{error}");
        }
        for byte in (0..whole.len()).step_by(3) {
            let mut wrong = whole.clone();
            wrong[byte] ^= 0x55;
            fs::write(place.path("a.arrow"), wrong).unwrap();
            if let Err(error) = place.read("a.arrow") {
                assert!(!error.to_string().contains('\n'), "{error}");
            }
        }
    }
}
