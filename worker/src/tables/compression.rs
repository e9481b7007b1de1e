//! Files that are compressed as a whole: gzip and Zstandard.

use std::io::{self, BufRead, BufReader, Read, Write};

use flate2::{bufread::GzDecoder, write::GzEncoder};
use millstream_shared::flow::step::Compression;

use super::{TableError, publish::Draft};

/// A compressed file may hold so many times as much as its own size: what is
/// smaller was made to fill up whoever unpacks it.
const RATIO_MAX: u64 = 500;

/// So much may come out of a file of any size.
const RATIO_FREE_BYTES: u64 = 64 << 20;

/// Why the bytes of a file are not what they should be. It travels within an
/// [`io::Error`], and is the fault of the file and not of the system.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Unreadable(pub(super) String);

/// An error of reading that is the fault of the file.
pub(super) fn unreadable(message: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, Unreadable(message.into()))
}

/// What `file`, which has `bytes` bytes, is when it is unpacked.
pub(super) fn decompressed(
    file: Box<dyn Read>,
    bytes: u64,
    compression: Compression,
) -> io::Result<Box<dyn Read>> {
    if bytes == 0 {
        let name = name(compression);
        return Err(unreadable(format!("is empty, which no {name} file is")));
    }
    let packed = BufReader::with_capacity(256 << 10, file);
    let inner: Box<dyn Read> = match compression {
        Compression::Gzip => Box::new(Members(Some(GzDecoder::new(packed)))),
        Compression::Zstd => Box::new(zstd::Decoder::with_buffer(packed)?),
    };
    let limit = limit_of(bytes);
    Ok(Box::new(Unpacking {
        inner,
        left: limit,
        limit,
        compression,
    }))
}

fn name(compression: Compression) -> &'static str {
    match compression {
        Compression::Gzip => "gzip",
        Compression::Zstd => "Zstandard",
    }
}

/// How much may come out of a compressed file of so many bytes.
fn limit_of(bytes: u64) -> u64 {
    bytes.saturating_mul(RATIO_MAX).max(RATIO_FREE_BYTES)
}

/// The bytes that come out of a compressed file, as far as it may go.
struct Unpacking {
    inner: Box<dyn Read>,
    left: u64,
    limit: u64,
    compression: Compression,
}

impl Read for Unpacking {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer);
        let count = read.map_err(|error| explained(error, self.compression))?;
        self.left = match self.left.checked_sub(count as u64) {
            Some(left) => left,
            None => {
                return Err(unreadable(format!(
                    "holds more than {} bytes when unpacked, which is more than {RATIO_MAX} times its size; unpack it before if it is meant so",
                    self.limit
                )));
            }
        };
        Ok(count)
    }
}

/// How each part of a gzip file begins.
const GZIP_START: &[u8] = b"\x1f\x8b";

/// A gzip file, which may have several parts; none at its end.
struct Members(Option<GzDecoder<BufReader<Box<dyn Read>>>>);

impl Read for Members {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(member) = &mut self.0 {
            let count = member.read(buffer)?;
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            let behind = member.get_mut().fill_buf()?;
            if behind.is_empty() {
                self.0 = None;
            } else if behind.starts_with(&GZIP_START[..behind.len().min(2)]) {
                let packed = self.0.take().map(GzDecoder::into_inner);
                self.0 = packed.map(GzDecoder::new);
            } else {
                return Err(unreadable(
                    "has bytes behind the end of its gzip data that are none; was something appended?",
                ));
            }
        }
        Ok(0)
    }
}

fn explained(error: io::Error, compression: Compression) -> io::Error {
    let name = name(compression);
    match error.kind() {
        _ if error.raw_os_error().is_some() => error,
        _ if error
            .get_ref()
            .is_some_and(|cause| cause.is::<Unreadable>()) =>
        {
            error
        }
        io::ErrorKind::Interrupted => error,
        io::ErrorKind::UnexpectedEof => unreadable(format!(
            "is cut off: the {name} data has no end, so the file was not written or sent to its end"
        )),
        _ => unreadable(format!("is not a readable {name} file: {error}")),
    }
}

/// Writes what `fill` writes into `draft`, compressed where that is wanted.
pub(super) fn compressed(
    draft: &mut Draft<'_>,
    compression: Option<Compression>,
    fill: impl FnOnce(&mut (dyn Write + Send)) -> Result<(), TableError>,
) -> Result<(), TableError> {
    let failed = |error| TableError::io("compressing", error);
    match compression {
        None => fill(draft),
        Some(Compression::Gzip) => {
            let mut encoder = GzEncoder::new(draft, flate2::Compression::default());
            fill(&mut encoder)?;
            encoder.finish().map(drop).map_err(failed)
        }
        Some(Compression::Zstd) => {
            let level = zstd::DEFAULT_COMPRESSION_LEVEL;
            let mut encoder = zstd::Encoder::new(draft, level).map_err(failed)?;
            encoder.include_checksum(true).map_err(failed)?;
            fill(&mut encoder)?;
            encoder.finish().map(drop).map_err(failed)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::tables::tests::{Place, shown};

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn text_formats_outlive_both_compressions() {
        let place = Place::new();
        place.put("in.csv", "a,b\n1,x\n2,\"y\nz\"\n");
        let table = place.read("in.csv").unwrap();
        for format in ["csv", "json", "ndjson"] {
            for (ending, magic) in [("gz", &b"\x1f\x8b"[..]), ("zst", b"\x28\xb5\x2f\xfd")] {
                let file = format!("out.{format}.{ending}");
                place.write(&table, &file).unwrap();
                assert!(fs::read(place.path(&file)).unwrap().starts_with(magic));
                assert_eq!(place.shown(&file), shown(&table), "{file}");
            }
        }
        place.write(&table, "again.csv.gz").unwrap();
        let bytes = |file| fs::read(place.path(file)).unwrap();
        assert_eq!(bytes("again.csv.gz"), bytes("out.csv.gz"));
    }

    #[test]
    fn a_file_of_several_members_is_read_to_its_end() {
        let place = Place::new();
        let parts = [gzip(b"\xef\xbb\xbfa\n1\n"), gzip(b""), gzip(b"2\n")].concat();
        fs::write(place.path("a.csv.gz"), parts).unwrap();
        assert_eq!(place.shown("a.csv.gz"), ["a: Int64", "1", "2"]);
        let frames = [b"a\n1\n", b"2\n3\n"].map(|part| zstd::encode_all(&part[..], 0).unwrap());
        fs::write(place.path("a.csv.zst"), frames.concat()).unwrap();
        assert_eq!(place.shown("a.csv.zst"), ["a: Int64", "1", "2", "3"]);
    }

    #[test]
    fn a_file_that_is_cut_off_or_not_compressed_is_named() {
        let place = Place::new();
        let text = "a\n".to_owned() + &"some 1 text 2 of 3\n".repeat(100);
        let whole = gzip(text.as_bytes());
        for length in [1, 9, 15, whole.len() / 2, whole.len() - 1] {
            fs::write(place.path("a.csv.gz"), &whole[..length]).unwrap();
            let error = place.read("a.csv.gz").unwrap_err();
            assert_eq!(error.code(), "bad_file");
            let error = error.to_string();
            assert!(error.starts_with("a.csv.gz: is cut off"), "{error}");
        }
        let whole = zstd::encode_all(text.as_bytes(), 0).unwrap();
        for length in [3, whole.len() / 2, whole.len() - 1] {
            fs::write(place.path("a.csv.zst"), &whole[..length]).unwrap();
            let error = place.refusal("a.csv.zst");
            assert!(error.starts_with("a.csv.zst: is cut off"), "{error}");
        }
        for (file, name) in [("b.ndjson.gz", "gzip"), ("b.json.zst", "Zstandard")] {
            place.put(file, "{\"a\": 1, \"text\": \"this is not compressed\"}\n");
            let error = place.refusal(file);
            let expected = format!("{file}: is not a readable {name} file");
            assert!(error.starts_with(&expected), "{error}");
            place.put(file, "");
            let expected = format!("{file}: is empty, which no {name} file is");
            assert_eq!(place.refusal(file), expected);
        }
    }

    #[test]
    fn bytes_behind_the_end_of_a_file_are_told_as_such() {
        let place = Place::new();
        for behind in [
            &b"\0"[..],
            b"\0\0\0\0\0\0\0\0\0\0\0\0",
            b"a,b\n",
            &[b'x'; 5000],
        ] {
            fs::write(place.path("a.csv.gz"), [&gzip(b"a\n1\n"), behind].concat()).unwrap();
            let error = place.refusal("a.csv.gz");
            let expected = "a.csv.gz: has bytes behind the end of its gzip data";
            assert!(error.starts_with(expected), "{error}");
        }
        fs::write(
            place.path("a.csv.gz"),
            [&gzip(b"a\n1\n")[..], b"\x1f"].concat(),
        )
        .unwrap();
        assert!(
            place
                .refusal("a.csv.gz")
                .starts_with("a.csv.gz: is cut off")
        );
    }

    #[test]
    fn a_file_made_to_fill_the_memory_is_refused_and_named() {
        let place = Place::new();
        let line = "x".repeat(1 << 20) + "\n";
        let text = "a\n".to_owned() + &line.repeat(70);
        let packed = zstd::encode_all(text.as_bytes(), 1).unwrap();
        fs::write(place.path("a.csv.zst"), packed).unwrap();
        assert_eq!(
            place.refusal("a.csv.zst"),
            "a.csv.zst: holds more than 67108864 bytes when unpacked, which is more than 500 times its size; unpack it before if it is meant so"
        );
    }

    #[test]
    fn small_files_may_hold_more_than_others_for_their_size() {
        assert_eq!(limit_of(1 << 20), 500 << 20);
        assert_eq!(limit_of(1), 64 << 20);
    }

    #[test]
    fn formats_that_compress_inside_are_not_compressed_again() {
        let place = Place::new();
        place.put("a.csv", "a\n1\n");
        let table = place.read("a.csv").unwrap();
        let error = place.write(&table, "a.parquet.gz").unwrap_err();
        assert!(error.to_string().contains("compressed inside"), "{error}");
        place.put("a.parquet.zst", "x");
        assert!(place.refusal("a.parquet.zst").contains("compressed inside"));
    }
}
