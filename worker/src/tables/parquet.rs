//! Parquet files.

use datafusion::parquet::{
    arrow::{ArrowWriter, ProjectionMask, arrow_reader::ParquetRecordBatchReaderBuilder},
    basic::{Compression, ZstdLevel},
    errors::ParquetError,
    file::properties::WriterProperties,
};

use super::{
    TableError,
    files::SourceFile,
    parquet_pages,
    read::Work,
    remote_parquet,
    typed::{BATCH_ROWS, Opened, places},
    write::{Output, Rows, unwritable},
};

pub(super) const NAME: &str = "Parquet";

/// Opens `file`, of which the columns called `wanted` are read.
pub(super) fn open(file: &SourceFile, wanted: &[&str], work: &Work) -> Result<Opened, TableError> {
    if let Some(reading) = file.pieces() {
        return remote_parquet::open(file, reading, wanted, work);
    }
    let unreadable = |error: ParquetError| file.unreadable(NAME, &error);
    let reader = ParquetRecordBatchReaderBuilder::try_new(file.open_plain()?);
    let reader = reader.map_err(unreadable)?;
    parquet_pages::check(file, reader.metadata(), work)?;
    let schema = reader.schema().clone();
    let mask = ProjectionMask::roots(reader.parquet_schema(), places(&schema, wanted));
    Ok(Opened {
        schema,
        batches: Box::new(
            reader
                .with_projection(mask)
                .with_batch_size(BATCH_ROWS)
                .build()
                .map_err(unreadable)?,
        ),
    })
}

/// So much may wait in memory, in bytes, before it is written as a group of rows.
const GROUP_BYTES: usize = 64 << 20;

/// Writes the rows as one file.
pub(super) fn write(
    rows: &mut Rows<'_>,
    output: Output<'_>,
    work: &Work,
) -> Result<(), TableError> {
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .build();
    let unwritable = |error: ParquetError| unwritable(error.to_string());
    let schema = rows.schema().clone();
    let mut writer = ArrowWriter::try_new(output, schema, Some(properties)).map_err(unwritable)?;
    while let Some(batch) = rows.next(work)? {
        writer.write(&batch).map_err(unwritable)?;
        if writer.in_progress_size() >= GROUP_BYTES {
            writer.flush().map_err(unwritable)?;
        }
    }
    writer.close().map_err(unwritable)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use millstream_shared::flow::step::ColumnType;

    use crate::tables::tests::Place;

    #[test]
    fn several_files_are_one_table_where_their_columns_are_the_same() {
        let place = Place::new();
        for (name, text) in [
            ("1", "a,b\n1,x\n"),
            ("2", "b,a\ny,2\n"),
            ("type", "a,b\n1.5,x\n"),
            ("less", "a\n1\n"),
            ("more", "a,b,c\n1,x,2\n"),
        ] {
            place.put("in.csv", text);
            let table = place.read("in.csv").unwrap();
            place.write(&table, &format!("{name}.parquet")).unwrap();
        }
        assert_eq!(
            place.shown("[12].parquet"),
            ["a: Int64, b: Utf8", "1 x", "2 y"]
        );
        for (pattern, expected) in [
            (
                "[1t]*.parquet",
                "type.parquet: column `a` is Float64, but Int64 in 1.parquet, which is read with it",
            ),
            (
                "[1l]*.parquet",
                "less.parquet: there is no column `b`, which 1.parquet has",
            ),
            (
                "[1m]*.parquet",
                "more.parquet: column `c` is not in 1.parquet, which is read with it",
            ),
        ] {
            assert_eq!(place.refusal(pattern), expected);
        }
    }

    #[test]
    fn a_file_that_is_not_parquet_is_named() {
        let place = Place::new();
        for text in ["", "a,b\n", "PAR1 and so on PAR1"] {
            place.put("a.parquet", text);
            let error = place.refusal("a.parquet");
            assert!(
                error.starts_with("a.parquet is not a readable Parquet file"),
                "{error}"
            );
        }
        place.put("in.csv", "a,b\n1,x\n2,y\n");
        let table = place.read("in.csv").unwrap();
        place.write(&table, "b.parquet").unwrap();
        let whole = std::fs::read(place.path("b.parquet")).unwrap();
        for length in [3, whole.len() / 2, whole.len() - 1] {
            std::fs::write(place.path("b.parquet"), &whole[..length]).unwrap();
            let error = place.refusal("b.parquet");
            let expected = "b.parquet is not a readable Parquet file";
            assert!(error.starts_with(expected), "{error}");
        }
        let error = place.refusal_as("a.parquet", &[("a", ColumnType::Integer)]);
        assert!(
            error.contains("`columns` cannot be given for Parquet and Arrow"),
            "{error}"
        );
    }
}
