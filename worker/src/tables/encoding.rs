//! Texts that are not UTF-8.

use std::io::{self, BufRead, BufReader, Read};

use encoding_rs::{Decoder, DecoderResult, UTF_16BE, UTF_16LE, WINDOWS_1252, mem};
use millstream_shared::flow::step::Encoding;

use super::compression::unreadable;

/// `bytes` as UTF-8, of which nothing is checked where it is that already.
pub(super) fn decoded(bytes: Box<dyn Read>, encoding: Encoding) -> io::Result<Box<dyn Read>> {
    let mut input = BufReader::with_capacity(Decoding::INPUT_BYTES, bytes);
    let (name, characters) = match encoding {
        Encoding::Utf8 => return Ok(Box::new(input)),
        Encoding::Utf16 => {
            // Where no byte order mark tells it, the first character does: it
            // is one of ASCII in almost any file.
            let starts_high = input.fill_buf()?.first() == Some(&0);
            let encoding = if starts_high { UTF_16BE } else { UTF_16LE };
            ("UTF-16", Characters::Decoder(encoding.new_decoder()))
        }
        Encoding::Windows1252 => {
            let decoder = WINDOWS_1252.new_decoder_with_bom_removal();
            ("windows-1252", Characters::Decoder(decoder))
        }
        Encoding::Iso88591 => ("ISO-8859-1", Characters::Bytes),
    };
    Ok(Box::new(Decoding {
        input,
        characters,
        name,
        taken: 0,
        output: Vec::new(),
        given: 0,
        has_ended: false,
    }))
}

/// How bytes become characters.
enum Characters {
    Decoder(Decoder),
    /// Each byte is the character of its number. The standard of the web takes
    /// windows-1252 for this, which differs in 27 characters.
    Bytes,
}

struct Decoding {
    input: BufReader<Box<dyn Read>>,
    characters: Characters,
    name: &'static str,
    /// How many bytes of the input are decoded.
    taken: u64,
    output: Vec<u8>,
    /// How many bytes of the output are handed on.
    given: usize,
    has_ended: bool,
}

impl Decoding {
    const INPUT_BYTES: usize = 64 << 10;

    fn decode_more(&mut self) -> io::Result<()> {
        let bytes = self.input.fill_buf()?;
        let is_last = bytes.is_empty();
        // A character takes at most three bytes for each one of the input.
        self.output.resize(3 * bytes.len() + 16, 0);
        self.given = 0;
        let (taken, written) = match &mut self.characters {
            Characters::Bytes => {
                let written = mem::convert_latin1_to_utf8(bytes, &mut self.output);
                (bytes.len(), written)
            }
            Characters::Decoder(decoder) => {
                let output = &mut self.output;
                let (result, taken, written) =
                    decoder.decode_to_utf8_without_replacement(bytes, output, is_last);
                if let DecoderResult::Malformed(length, after) = result {
                    let end = self.taken + taken as u64;
                    let start = end.saturating_sub(u64::from(length) + u64::from(after));
                    let name = self.name;
                    return Err(unreadable(format!("is not {name} at byte offset {start}")));
                }
                (taken, written)
            }
        };
        self.input.consume(taken);
        self.taken += taken as u64;
        self.output.truncate(written);
        self.has_ended = is_last;
        Ok(())
    }
}

impl Read for Decoding {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.given == self.output.len() && !self.has_ended {
            self.decode_more()?;
        }
        let rest = &self.output[self.given..];
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.given += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: &[u8], encoding: Encoding) -> io::Result<String> {
        let mut text = String::new();
        let bytes = Box::new(io::Cursor::new(bytes.to_vec()));
        decoded(bytes, encoding)?.read_to_string(&mut text)?;
        Ok(text)
    }

    fn utf16(text: &str, to_bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
        text.encode_utf16().flat_map(to_bytes).collect()
    }

    #[test]
    fn texts_of_all_encodings_are_read() {
        for (bytes, encoding, expected) in [
            (&b"\xe9 \x80 \x8d"[..], Encoding::Windows1252, "é € \u{8d}"),
            (b"\xe9 \x80", Encoding::Iso88591, "é \u{80}"),
            (b"", Encoding::Utf16, ""),
            (b"", Encoding::Iso88591, ""),
        ] {
            assert_eq!(text(bytes, encoding).unwrap(), expected);
        }
        let long = "a;b\n1;ø€😀\n".repeat(50_000);
        for to_bytes in [u16::to_le_bytes, u16::to_be_bytes] {
            let with_mark = format!("\u{feff}{long}");
            for given in [&with_mark, &long] {
                assert_eq!(
                    text(&utf16(given, to_bytes), Encoding::Utf16).unwrap(),
                    long
                );
            }
        }
    }

    #[test]
    fn bytes_that_are_no_characters_are_named_with_their_place() {
        let mut bytes = utf16("ab", u16::to_le_bytes);
        bytes.extend(0xd800u16.to_le_bytes());
        bytes.extend(utf16("c", u16::to_le_bytes));
        let error = text(&bytes, Encoding::Utf16).unwrap_err().to_string();
        assert_eq!(error, "is not UTF-16 at byte offset 4");
        let error = text(b"a\0b", Encoding::Utf16).unwrap_err().to_string();
        assert_eq!(error, "is not UTF-16 at byte offset 2");
    }
}
