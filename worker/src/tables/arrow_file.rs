//! Files in Arrow's own format, which hold a table as it is in memory.

use std::io::{BufReader, Read, Seek, SeekFrom};

use datafusion::arrow::{
    error::ArrowError,
    ipc::{
        Block, CompressionType,
        reader::{FileReader, read_footer_length},
        root_as_footer,
        writer::{FileWriter, IpcWriteOptions},
    },
};

use super::{
    Table, TableError,
    files::SourceFile,
    read::Work,
    typed::Opened,
    write::{Output, unwritable},
};

pub(super) const NAME: &str = "Arrow";

/// The bytes behind the footer: its length, and the mark of the format.
const TAIL_BYTES: u64 = 10;

/// Opens `file`.
pub(super) fn open(file: &SourceFile) -> Result<Opened, TableError> {
    let unreadable = |error: ArrowError| file.unreadable(NAME, &error);
    check_blocks(file)?;
    let input = BufReader::new(file.open_plain()?);
    let reader = FileReader::try_new(input, None).map_err(unreadable)?;
    Ok(Opened {
        schema: reader.schema(),
        batches: Box::new(reader),
    })
}

/// Checks that what the footer names lies within the file: its reader would
/// take memory for it before it looks.
fn check_blocks(file: &SourceFile) -> Result<(), TableError> {
    let cut_off = || file.unreadable(NAME, &"it is cut off or damaged");
    let failed = |error| file.failed("reading", error);
    let mut input = file.open_plain()?;
    let mut tail = [0; TAIL_BYTES as usize];
    let footer_end = file.bytes.checked_sub(TAIL_BYTES).ok_or_else(cut_off)?;
    input.seek(SeekFrom::Start(footer_end)).map_err(failed)?;
    input.read_exact(&mut tail).map_err(failed)?;
    let length = read_footer_length(tail).map_err(|error| file.unreadable(NAME, &error))?;
    let start = footer_end.checked_sub(length as u64).ok_or_else(cut_off)?;
    let mut footer = vec![0; length];
    input.seek(SeekFrom::Start(start)).map_err(failed)?;
    input.read_exact(&mut footer).map_err(failed)?;
    let footer = root_as_footer(&footer).map_err(|error| file.unreadable(NAME, &error))?;
    let is_within = |block: &Block| {
        let offset = u64::try_from(block.offset()).ok()?;
        let metadata = u64::try_from(block.metaDataLength()).ok()?;
        let body = u64::try_from(block.bodyLength()).ok()?;
        let end = offset.checked_add(metadata)?.checked_add(body)?;
        (end <= start).then_some(())
    };
    let blocks = [footer.recordBatches(), footer.dictionaries()];
    let mut blocks = blocks.into_iter().flatten().flatten();
    match blocks.all(|block| is_within(block).is_some()) {
        true => Ok(()),
        false => Err(cut_off()),
    }
}

/// Writes `table` as one file.
pub(super) fn write(table: &Table, output: Output<'_>, work: &Work) -> Result<(), TableError> {
    let unwritable = |error: ArrowError| unwritable(error.to_string());
    let options = IpcWriteOptions::default()
        .try_with_compression(Some(CompressionType::ZSTD))
        .map_err(unwritable)?;
    let writer = FileWriter::try_new_with_options(output, table.schema(), options);
    let mut writer = writer.map_err(unwritable)?;
    for batch in table.batches() {
        work.check()?;
        writer.write(batch).map_err(unwritable)?;
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
        // Whatever byte is wrong, the worker goes on.
        for place_of_byte in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[place_of_byte] ^= 0x55;
            fs::write(place.path("a.arrow"), &damaged).unwrap();
            if let Err(error) = place.read("a.arrow") {
                assert_eq!(error.code(), "bad_file", "{error}");
            }
        }
    }
}
