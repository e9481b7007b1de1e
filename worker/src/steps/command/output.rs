//! What a program prints: standard output kept up to a limit, standard error
//! line by line into the log.

use std::collections::VecDeque;

use tokio::io::{AsyncRead, AsyncReadExt};

use crate::mask::Mask;

/// How much of standard output a step keeps: it has to fit into the value of
/// the step, which is kept in Redis, twice where it is JSON.
pub(super) const STDOUT_BYTES_MAX: usize = 256 * 1024;

/// How long a line in the log may be; what is longer becomes several lines.
const LINE_BYTES_MAX: usize = 4 * 1024;

/// How many lines of one attempt go to the log.
const LINES_LOGGED_MAX: u64 = 10_000;

/// How many of the last lines of standard error an error shows.
const LAST_LINES_MAX: usize = 20;

const READ_BYTES: usize = 16 * 1024;

/// What a program printed to standard output.
#[derive(Debug, Default)]
pub(super) struct Printed {
    kept: Vec<u8>,
    /// All bytes, those beyond the limit included.
    pub(super) bytes: u64,
}

impl Printed {
    fn push(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        let room = STDOUT_BYTES_MAX - self.kept.len();
        self.kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    /// Whether there was more than is kept.
    pub(super) fn is_truncated(&self) -> bool {
        self.bytes > self.kept.len() as u64
    }

    /// What is kept, with a mark in place of what is not UTF-8, and without a
    /// secret of which only the beginning is kept.
    pub(super) fn text(&self, mask: &Mask) -> String {
        let begun = if self.is_truncated() {
            mask.begun_at_end(&self.kept)
        } else {
            0
        };
        let shown = &self.kept[..self.kept.len() - begun];
        String::from_utf8_lossy(shown).into_owned()
    }

    /// Reads until the other side is closed. What is beyond the limit is read
    /// and dropped, so that the program is never stopped by a full pipe.
    pub(super) async fn read(&mut self, mut from: impl AsyncRead + Unpin) {
        let mut buffer = vec![0; READ_BYTES];
        // A pipe that cannot be read is one that has nothing more to say.
        while let Ok(count @ 1..) = from.read(&mut buffer).await {
            self.push(&buffer[..count]);
        }
    }
}

/// The lines of standard error.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// The line that has not ended.
    open: Vec<u8>,
    last: VecDeque<String>,
    logged: u64,
    /// Hides secrets in them.
    mask: Mask,
}

impl Lines {
    /// No lines, and what is hidden in those to come.
    pub(super) fn new(mask: Mask) -> Self {
        Self {
            mask,
            ..Self::default()
        }
    }

    /// Reads until the other side is closed, and logs each line.
    pub(super) async fn read(&mut self, mut from: impl AsyncRead + Unpin) {
        let mut buffer = vec![0; READ_BYTES];
        while let Ok(count @ 1..) = from.read(&mut buffer).await {
            self.push(&buffer[..count]);
        }
    }

    /// Ends the line that has no line break.
    pub(super) fn finish(&mut self) {
        if !self.open.is_empty() {
            self.end_line();
        }
    }

    /// The last lines, for an error.
    pub(super) fn last(&self) -> impl Iterator<Item = &str> {
        self.last.iter().map(String::as_str)
    }

    fn push(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if *byte == b'\n' {
                self.end_line();
                continue;
            }
            self.open.push(*byte);
            if self.open.len().is_multiple_of(LINE_BYTES_MAX) {
                self.cut_line();
            }
        }
    }

    /// Ends a line that is long enough, but for a secret that has begun in it:
    /// of its halves nobody would know what they are.
    fn cut_line(&mut self) {
        let begun = self.mask.begun_at_end(&self.open);
        let next = self.open.split_off(self.open.len() - begun);
        if !self.open.is_empty() {
            self.end_line();
        }
        self.open = next;
    }

    fn end_line(&mut self) {
        let line = self.mask.text(&String::from_utf8_lossy(&self.open));
        let line = line.trim_end().to_owned();
        self.open.clear();
        if line.is_empty() {
            return;
        }
        self.logged += 1;
        if self.logged <= LINES_LOGGED_MAX {
            tracing::info!(line, "standard error");
        } else if self.logged == LINES_LOGGED_MAX + 1 {
            tracing::warn!(
                limit = LINES_LOGGED_MAX,
                "further lines of the command are not logged"
            );
        }
        if self.last.len() == LAST_LINES_MAX {
            self.last.pop_front();
        }
        self.last.push_back(line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn output_up_to_the_limit_is_kept_and_all_of_it_is_counted() {
        let mut exact = Printed::default();
        exact.read(&vec![b'a'; STDOUT_BYTES_MAX][..]).await;
        assert!(!exact.is_truncated());

        let mut more = Printed::default();
        more.read(&vec![b'a'; 3 * STDOUT_BYTES_MAX][..]).await;
        assert!(more.is_truncated());
        assert_eq!(more.bytes, 3 * STDOUT_BYTES_MAX as u64);
        let nothing = Mask::default();
        assert_eq!(more.text(&nothing).len(), STDOUT_BYTES_MAX);
    }

    #[test]
    fn lines_are_found_across_reads_and_the_last_ones_are_kept() {
        let mut lines = Lines::default();
        lines.push(b"fir");
        lines.push(b"st\r\n\nsecond\nthi");
        lines.push(b"rd");
        lines.finish();
        assert_eq!(
            lines.last().collect::<Vec<_>>(),
            ["first", "second", "third"]
        );

        for number in 0..100 {
            lines.push(format!("{number}\n").as_bytes());
        }
        let last: Vec<_> = lines.last().collect();
        assert_eq!((last.len(), last[0], last[19]), (20, "80", "99"));
    }

    #[test]
    fn a_line_without_end_is_cut_into_lines() {
        let mut lines = Lines::default();
        lines.push(&vec![b'x'; 2 * LINE_BYTES_MAX + 1]);
        lines.finish();
        let lengths: Vec<_> = lines.last().map(str::len).collect();
        assert_eq!(lengths, [LINE_BYTES_MAX, LINE_BYTES_MAX, 1]);
    }

    #[tokio::test]
    async fn a_secret_is_hidden_also_where_output_is_cut() {
        let mask = Mask::default();
        mask.add(["hush-hush-hush"]);
        let text = |at: usize| format!("{}hush-hush-hush.", "x".repeat(at));
        let mut lines = Lines::new(mask.clone());
        for at in [
            0,
            LINE_BYTES_MAX - 14,
            LINE_BYTES_MAX - 3,
            LINE_BYTES_MAX - 1,
        ] {
            lines.push(text(at).as_bytes());
            lines.finish();
        }
        let shown: String = lines.last().collect();
        assert_eq!(shown.matches("***.").count(), 4);
        assert!(!shown.contains('h'), "a part of it is shown");

        let mut printed = Printed::default();
        printed.read(text(STDOUT_BYTES_MAX - 5).as_bytes()).await;
        assert!(!printed.text(&mask).contains('h'), "a part of it is shown");
    }
}
