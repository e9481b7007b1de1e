//! What the pages of Parquet files claim to be. Their library takes as much
//! memory as the head of a page says that it unpacks to, whatever the rest of
//! the file says, so the heads are looked at before.
//!
//! A head is a struct in the compact form of Thrift: fields with a type, a
//! number and a value, up to a field without a type.

use std::{
    io::{self, BufReader, ErrorKind, Read, Seek, SeekFrom},
    ops::Range,
};

use datafusion::parquet::file::metadata::ParquetMetaData;

use super::{ByteSize, TableError, files::SourceFile, parquet::NAME, read::Work};

/// The longest head of a page.
const HEAD_BYTES_MAX: u64 = 16 << 20;

/// How deep structs in it may nest.
const DEPTH_MAX: u32 = 16;

/// The numbers of the two fields that matter.
const UNPACKED_SIZE: i16 = 2;
const PACKED_SIZE: i16 = 3;

/// Checks that no page of `file` claims to unpack to more than a piece may
/// take.
pub(super) fn check(
    file: &SourceFile,
    metadata: &ParquetMetaData,
    work: &Work,
) -> Result<(), TableError> {
    let limit = work.budget.piece();
    let mut input = file.open_plain()?;
    for column in metadata
        .row_groups()
        .iter()
        .flat_map(|group| group.columns())
    {
        work.check()?;
        let (start, length) = column.byte_range();
        let end = start.saturating_add(length).min(file.bytes);
        let is_beyond = unpacks_beyond(limit, &mut input, start..end);
        if is_beyond.map_err(|error| file.unreadable(NAME, &error))? {
            let message = format!(
                "{}: a page of column `{}` takes more than {limit}, a quarter of what --memory allows, or it is damaged",
                file.shown,
                column.column_path().string()
            );
            return Err(TableError::refused("bad_file", message));
        }
    }
    Ok(())
}

/// Whether one of the pages that stand in `range` claims to unpack to more than
/// `limit`.
pub(super) fn unpacks_beyond(
    limit: ByteSize,
    input: &mut (impl Read + Seek),
    range: Range<u64>,
) -> io::Result<bool> {
    let mut place = range.start;
    while place < range.end {
        let head = Head::read(input, place, range.end - place)?;
        if head.unpacked > limit.bytes() {
            return Ok(true);
        }
        place = place.saturating_add(head.bytes).saturating_add(head.packed);
    }
    Ok(false)
}

/// What the head of a page says.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    /// How long it is itself.
    bytes: u64,
    /// How many bytes follow it.
    packed: u64,
    /// How many they become.
    unpacked: u64,
}

impl Head {
    /// Reads the head that stands at `place`, with at most `left` bytes.
    fn read(input: &mut (impl Read + Seek), place: u64, left: u64) -> io::Result<Self> {
        input.seek(SeekFrom::Start(place))?;
        let left = left.min(HEAD_BYTES_MAX);
        let mut thrift = Thrift(BufReader::with_capacity(512, input).take(left));
        let (mut packed, mut unpacked) = (None, None);
        let mut number = 0;
        while let Some((field, kind)) = thrift.field(number)? {
            number = field;
            match (field, kind) {
                (UNPACKED_SIZE, Kind::Number) => unpacked = Some(thrift.size()?),
                (PACKED_SIZE, Kind::Number) => packed = Some(thrift.size()?),
                _ => thrift.skip(kind, DEPTH_MAX)?,
            }
        }
        let (Some(packed), Some(unpacked)) = (packed, unpacked) else {
            return Err(damaged());
        };
        Ok(Self {
            bytes: left - thrift.0.limit(),
            packed,
            unpacked,
        })
    }
}

/// Values in the compact form of Thrift.
struct Thrift<R>(io::Take<R>);

/// The types of values, as far as it matters how long they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A boolean that stands in its own field.
    Nothing,
    Byte,
    Number,
    Double,
    Binary,
    List,
    Map,
    Struct,
}

impl Kind {
    fn of(code: u8) -> io::Result<Self> {
        match code {
            1 | 2 => Ok(Self::Nothing),
            3 => Ok(Self::Byte),
            4..=6 => Ok(Self::Number),
            7 => Ok(Self::Double),
            8 => Ok(Self::Binary),
            9 | 10 => Ok(Self::List),
            11 => Ok(Self::Map),
            12 => Ok(Self::Struct),
            _ => Err(damaged()),
        }
    }

    /// Of an item in a list: a boolean takes a byte there.
    fn of_item(code: u8) -> io::Result<Self> {
        match Self::of(code)? {
            Self::Nothing => Ok(Self::Byte),
            kind => Ok(kind),
        }
    }
}

impl<R: Read> Thrift<R> {
    /// The number and the type of the next field; none at the end of a struct.
    fn field(&mut self, before: i16) -> io::Result<Option<(i16, Kind)>> {
        let head = self.byte()?;
        if head & 0xf == 0 {
            return Ok(None);
        }
        let number = match i16::from(head >> 4) {
            0 => i16::try_from(self.signed()?).map_err(|_| damaged())?,
            further => before.checked_add(further).ok_or_else(damaged)?,
        };
        Ok(Some((number, Kind::of(head & 0xf)?)))
    }

    fn skip(&mut self, kind: Kind, depth: u32) -> io::Result<()> {
        let depth = depth.checked_sub(1).ok_or_else(damaged)?;
        match kind {
            Kind::Nothing => Ok(()),
            Kind::Byte => self.byte().map(drop),
            Kind::Number => self.unsigned().map(drop),
            Kind::Double => self.pass(8),
            Kind::Binary => {
                let length = self.unsigned()?;
                self.pass(length)
            }
            Kind::List => {
                let head = self.byte()?;
                let items = match head >> 4 {
                    15 => self.unsigned()?,
                    items => u64::from(items),
                };
                let kind = Kind::of_item(head & 0xf)?;
                (0..items).try_for_each(|_| self.skip(kind, depth))
            }
            Kind::Map => {
                let pairs = self.unsigned()?;
                if pairs == 0 {
                    return Ok(());
                }
                let kinds = self.byte()?;
                let (key, value) = (Kind::of_item(kinds >> 4)?, Kind::of_item(kinds & 0xf)?);
                (0..pairs).try_for_each(|_| {
                    self.skip(key, depth)?;
                    self.skip(value, depth)
                })
            }
            Kind::Struct => {
                let mut number = 0;
                while let Some((field, kind)) = self.field(number)? {
                    number = field;
                    self.skip(kind, depth)?;
                }
                Ok(())
            }
        }
    }

    /// A number of bytes, which is not negative.
    fn size(&mut self) -> io::Result<u64> {
        u64::try_from(self.signed()?).map_err(|_| damaged())
    }

    fn signed(&mut self) -> io::Result<i64> {
        let number = self.unsigned()?;
        Ok((number >> 1) as i64 ^ -((number & 1) as i64))
    }

    fn unsigned(&mut self) -> io::Result<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(damaged())
    }

    fn pass(&mut self, bytes: u64) -> io::Result<()> {
        match io::copy(&mut self.0.by_ref().take(bytes), &mut io::sink())? {
            passed if passed == bytes => Ok(()),
            _ => Err(damaged()),
        }
    }

    fn byte(&mut self) -> io::Result<u8> {
        let mut byte = [0];
        let read = self.0.read_exact(&mut byte);
        read.map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => damaged(),
            _ => error,
        })?;
        Ok(byte[0])
    }
}

fn damaged() -> io::Error {
    io::Error::other("a page is cut off or damaged")
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write};

    use super::*;
    use crate::tables::tests::{Place, shown};

    /// A file with the bytes of a head at its start.
    fn head(bytes: &[u8]) -> io::Result<Head> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        Head::read(&mut file, 0, bytes.len() as u64)
    }

    #[test]
    fn a_head_is_read_whatever_else_is_in_it() {
        // type 0, 300 bytes unpacked, 20 packed, and a struct with a list and a
        // text in it.
        let bytes = [
            0x15, 0x00, 0x15, 0xd8, 0x04, 0x15, 0x28, 0x2c, 0x19, 0x25, 0x02, 0x04, 0x18, 0x02,
            b'a', b'b', 0x11, 0x00, 0x00, 0xff, 0xff,
        ];
        let expected = Head {
            bytes: 19,
            packed: 20,
            unpacked: 300,
        };
        assert_eq!(head(&bytes).unwrap(), expected);
        for length in 0..19 {
            assert!(head(&bytes[..length]).is_err(), "{length}");
        }
        assert!(
            head(&[0x15, 0x00, 0x15, 0x03, 0x15, 0x02, 0x00]).is_err(),
            "a negative size"
        );
        assert!(head(&[0x1c; 100]).is_err(), "structs without end");
        assert!(
            head(&[0x19, 0xf9, 0xff, 0xff, 0xff, 0xff, 0x0f]).is_err(),
            "a list without end"
        );
    }

    #[test]
    fn a_page_that_claims_much_memory_is_refused_and_named() {
        let place = Place::new();
        let rows: String = (0..3000).map(|n| format!("{},text {n}\n", n % 7)).collect();
        place.put("in.csv", &format!("a,b\n{rows}"));
        let table = place.read("in.csv").unwrap();
        place.write(&table, "a.parquet").unwrap();
        assert_eq!(place.shown("a.parquet"), shown(&table));

        let mut bytes = fs::read(place.path("a.parquet")).unwrap();
        // The first page begins behind the mark of the format: its type, and
        // then its size, which takes as many bytes as before.
        assert_eq!((bytes[4], bytes[6]), (0x15, 0x15));
        let length = bytes[7..].iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
        let mut larger = bytes[..7].to_vec();
        larger.extend([0xfe, 0xff, 0xff, 0xff, 0x0f]);
        let footer = bytes.len();
        larger.extend(&bytes.split_off(7 + length));
        assert_ne!(larger.len(), footer);
        // The sizes in the footer are untouched, and its places are behind the
        // first page only.
        fs::write(place.path("a.parquet"), larger).unwrap();
        let error = place.refusal("a.parquet");
        assert!(
            error.starts_with("a.parquet: a page of column `a` takes more than 64 MiB"),
            "{error}"
        );
    }
}
