//! What must not stand on a command line, where everybody on the machine sees
//! it: it is read from a file or from standard input.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use crate::failure::Failure;

/// What stands for standard input in place of a file.
pub(crate) const STANDARD_INPUT: &str = "-";

/// The longest text, in bytes: what the service takes.
const BYTES_MAX: u64 = 1 << 20;

/// The text in a file, or on standard input where the file is `-`.
///
/// # Errors
/// Fails where it cannot be read, is too long or no text. No part of it is told.
pub(crate) fn read(file: &Path) -> Result<String, Failure> {
    let unreadable = |source| Failure::Unreadable {
        path: file.to_owned(),
        source,
    };
    let bytes = if file == Path::new(STANDARD_INPUT) {
        read_some(io::stdin().lock())
    } else {
        File::open(file).and_then(read_some)
    };
    let bytes = bytes.map_err(unreadable)?;
    if bytes.len() as u64 > BYTES_MAX {
        let told = format!("`{}` has more than {BYTES_MAX} bytes", file.display());
        return Err(Failure::Usage(told));
    }
    String::from_utf8(bytes)
        .map_err(|_| Failure::Usage(format!("`{}` is not a text in UTF-8", file.display())))
}

fn read_some(from: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(BYTES_MAX + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}
