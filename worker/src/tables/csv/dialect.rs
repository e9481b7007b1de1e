//! How the rows of a CSV file stand, as its flow says.

use millstream_shared::flow::step::{CsvReading, Encoding};

/// How the rows of one file stand.
#[derive(Clone, Debug)]
pub(super) struct Dialect {
    pub(super) delimiter: u8,
    pub(super) quote: Option<u8>,
    pub(super) line_end: u8,
    /// Texts that stand for a missing value, where they are not quoted.
    pub(super) nulls: Vec<String>,
    pub(super) encoding: Encoding,
}

impl Dialect {
    pub(super) fn of(options: &CsvReading, line_end: u8) -> Self {
        Self {
            delimiter: options.delimiter.byte(),
            quote: options.quote.byte(),
            line_end,
            nulls: options.nulls.clone(),
            encoding: options.encoding,
        }
    }
}
