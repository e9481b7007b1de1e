//! A block that is cut all at once, so that its columns can be filled one after
//! the other. It has no quotes, only UTF-8, and as many fields in each row as
//! there must be: what is wrong with any other block is found row by row.

use std::str;

use memchr::{memchr, memchr2_iter};

use super::{blocks::Block, dialect::Dialect};

/// The fields of all rows of a block.
pub(super) struct Grid<'b> {
    text: &'b str,
    nulls: &'b [String],
    /// Where each row starts.
    starts: Vec<u32>,
    /// Where each field ends, row after row.
    ends: Vec<u32>,
    width: usize,
}

impl<'b> Grid<'b> {
    /// The fields of a block whose rows have `width` of them; none where it is
    /// not as simple as that.
    pub(super) fn of(block: &'b Block, dialect: &'b Dialect, width: usize) -> Option<Self> {
        let bytes = &*block.bytes;
        let is_simple = dialect.line_end == b'\n'
            && width > 0
            && u32::try_from(bytes.len()).is_ok()
            && dialect
                .quote
                .is_none_or(|quote| memchr(quote, bytes).is_none());
        if !is_simple {
            return None;
        }
        let rows = block.rows_max(width);
        let mut grid = Self {
            text: str::from_utf8(bytes).ok()?,
            nulls: &dialect.nulls,
            starts: Vec::with_capacity(rows),
            // Each is followed by a byte that ends it, but for the last one.
            ends: Vec::with_capacity((rows * width).min(bytes.len() + 1)),
            width,
        };
        let mut start = 0;
        for found in memchr2_iter(dialect.delimiter, b'\n', bytes) {
            if bytes[found] == b'\n' {
                grid.end_row(start, found)?;
                start = found + 1;
            } else {
                grid.ends.push(found as u32);
            }
        }
        if start < bytes.len() {
            grid.end_row(start, bytes.len())?;
        }
        Some(grid)
    }

    /// Ends the row from `start` to `end`. An empty one does not count.
    fn end_row(&mut self, start: usize, end: usize) -> Option<()> {
        let row = &self.text.as_bytes()[start..end];
        let end = end - usize::from(row.ends_with(b"\r"));
        let before = self.starts.len() * self.width;
        if end == start && self.ends.len() == before {
            return Some(());
        }
        self.ends.push(end as u32);
        self.starts.push(start as u32);
        (self.ends.len() == before + self.width).then_some(())
    }

    /// How many rows there are.
    pub(super) fn rows(&self) -> usize {
        self.starts.len()
    }

    /// The values of a column, where they are not missing.
    pub(super) fn column(&self, place: usize) -> impl Iterator<Item = Option<&'b str>> {
        self.starts.iter().enumerate().map(move |(row, start)| {
            let field = row * self.width + place;
            let start = match place {
                0 => *start as usize,
                _ => self.ends[field - 1] as usize + 1,
            };
            let text = &self.text[start..self.ends[field] as usize];
            let is_null = self.nulls.iter().any(|null| null == text);
            (!text.is_empty() && !is_null).then_some(text)
        })
    }
}

#[cfg(test)]
mod tests {
    use millstream_shared::flow::step::CsvReading;

    use super::*;

    fn columns(text: &str, width: usize) -> Option<Vec<Vec<Option<String>>>> {
        let options = CsvReading {
            nulls: vec!["NA".to_owned()],
            ..CsvReading::default()
        };
        let dialect = Dialect::of(&options, b'\n');
        let block = Block {
            bytes: text.as_bytes().to_vec(),
            line: 1,
            offset: 0,
            lines: 3,
        };
        let grid = Grid::of(&block, &dialect, width)?;
        let column = |place| grid.column(place).map(|value| value.map(str::to_owned));
        Some((0..width).map(|place| column(place).collect()).collect())
    }

    fn expected(columns: &[&[&str]]) -> Option<Vec<Vec<Option<String>>>> {
        let value = |text: &&str| Some((*text).to_owned()).filter(|text| !text.is_empty());
        let column = |column: &&[&str]| column.iter().map(value).collect();
        Some(columns.iter().map(column).collect())
    }

    #[test]
    fn simple_rows_are_cut() {
        for text in ["1,a\n,NA\n3,ø\n", "1,a\r\n\r\n,\r\n3,ø\r", "\n1,a\n,\n3,ø"] {
            let found = columns(text, 2);
            assert_eq!(
                found,
                expected(&[&["1", "", "3"], &["a", "", "ø"]]),
                "{text:?}"
            );
        }
        assert_eq!(columns("1\n\n2", 1), expected(&[&["1", "2"]]));
        assert_eq!(columns("", 2), expected(&[&[], &[]]));
    }

    #[test]
    fn other_blocks_are_left_to_be_read_row_by_row() {
        for text in ["1\n", "1,2,3\n", "1,2\n3\n", "1,2\n3,4,5", "1,\"a\"\n", ","] {
            assert_eq!(
                columns(text, if text == "," { 1 } else { 2 }),
                None,
                "{text:?}"
            );
        }
    }
}
