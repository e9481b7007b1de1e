//! What a program prints: standard output kept up to a limit, the rest and
//! standard error line by line into the log.

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicU64, Ordering},
};

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio_util::sync::CancellationToken;
use tracing::Level;

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
    /// Keeps what there is room for, and yields the rest.
    fn push<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        self.bytes += bytes.len() as u64;
        let room = STDOUT_BYTES_MAX - self.kept.len();
        let (kept, rest) = bytes.split_at(bytes.len().min(room));
        self.kept.extend_from_slice(kept);
        rest
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
    /// as `rest`, so that the program is never stopped by a full pipe.
    pub(super) async fn read(
        &mut self,
        mut from: impl AsyncRead + Unpin,
        rest: &mut Lines,
        quota: &Quota,
    ) {
        let mut buffer = vec![0; READ_BYTES];
        // A pipe that cannot be read is one that has nothing more to say.
        while let Ok(count @ 1..) = from.read(&mut buffer).await {
            quota.take(count);
            rest.push(self.push(&buffer[..count]));
        }
        rest.finish();
    }
}

/// How much a program may print, on both streams together.
pub(super) struct Quota {
    most: u64,
    printed: AtomicU64,
    /// Cancelled when it printed more.
    pub(super) passed: CancellationToken,
}

impl Quota {
    pub(super) fn new(bytes: u64) -> Self {
        Self {
            most: bytes,
            printed: AtomicU64::new(0),
            passed: CancellationToken::new(),
        }
    }

    fn take(&self, bytes: usize) {
        let before = self.printed.fetch_add(bytes as u64, Ordering::Relaxed);
        if before + bytes as u64 > self.most {
            self.passed.cancel();
        }
    }
}

/// Lines for the log.
#[derive(Debug)]
pub(super) struct Lines {
    /// The stream that they come from.
    stream: &'static str,
    /// The line that has not ended.
    open: Vec<u8>,
    last: VecDeque<String>,
    logged: u64,
    /// Hides secrets in them.
    mask: Mask,
}

impl Lines {
    /// No lines, the stream of those to come, and what is hidden in them.
    pub(super) fn new(stream: &'static str, mask: Mask) -> Self {
        Self {
            stream,
            open: Vec::new(),
            last: VecDeque::new(),
            logged: 0,
            mask,
        }
    }

    /// Reads until the other side is closed, and logs each line.
    pub(super) async fn read(&mut self, mut from: impl AsyncRead + Unpin, quota: &Quota) {
        let mut buffer = vec![0; READ_BYTES];
        while let Ok(count @ 1..) = from.read(&mut buffer).await {
            quota.take(count);
            self.push(&buffer[..count]);
        }
        self.finish();
    }

    /// Ends the line that has no line break.
    fn finish(&mut self) {
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
            log(self.stream, &line);
        } else if self.logged == LINES_LOGGED_MAX + 1 {
            tracing::warn!(
                stream = self.stream,
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

/// Logs a line of a program at the level that it says itself.
fn log(stream: &'static str, line: &str) {
    match level_of(line) {
        Level::ERROR => tracing::error!(stream, line, "command"),
        Level::WARN => tracing::warn!(stream, line, "command"),
        Level::INFO => tracing::info!(stream, line, "command"),
        Level::DEBUG => tracing::debug!(stream, line, "command"),
        Level::TRACE => tracing::trace!(stream, line, "command"),
    }
}

/// The level of a line that is a JSON object with a `level`; other lines are
/// plain news.
fn level_of(line: &str) -> Level {
    let told = if line.starts_with('{') {
        serde_json::from_str::<Value>(line).unwrap_or_default()
    } else {
        Value::Null
    };
    let level = told["level"].as_str().unwrap_or_default();
    match level.to_ascii_lowercase().as_str() {
        "error" | "fatal" | "critical" | "panic" => Level::ERROR,
        "warn" | "warning" => Level::WARN,
        "debug" => Level::DEBUG,
        "trace" => Level::TRACE,
        _ => Level::INFO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(mask: &Mask) -> Lines {
        Lines::new("stderr", mask.clone())
    }

    fn quota() -> Quota {
        Quota::new(u64::MAX)
    }

    async fn printed(bytes: &[u8]) -> (Printed, Lines) {
        let (mut printed, mut rest) = (Printed::default(), lines(&Mask::default()));
        printed.read(bytes, &mut rest, &quota()).await;
        (printed, rest)
    }

    #[test]
    fn a_line_says_its_level() {
        for (line, level) in [
            ("{\"level\":\"ERROR\",\"message\":\"x\"}", Level::ERROR),
            ("{\"level\":\"warning\"}", Level::WARN),
            ("{\"msg\":\"x\",\"level\":\"debug\"}", Level::DEBUG),
            ("{\"level\":30}", Level::INFO),
            ("{\"level\":\"error\"", Level::INFO),
            ("error", Level::INFO),
        ] {
            assert_eq!(level_of(line), level, "{line}");
        }
    }

    #[tokio::test]
    async fn what_is_beyond_the_value_is_logged() {
        let text = "a".repeat(STDOUT_BYTES_MAX) + "rest\nmore";
        let (kept, rest) = printed(text.as_bytes()).await;
        assert!(kept.is_truncated());
        assert_eq!(rest.last().collect::<Vec<_>>(), ["rest", "more"]);
    }

    #[tokio::test]
    async fn more_than_may_be_printed_is_told_and_still_read() {
        let quota = Quota::new(10);
        let mut lines = lines(&Mask::default());
        lines.read(&b"0123456789"[..], &quota).await;
        assert!(!quota.passed.is_cancelled());
        lines.read(&b"x\ny"[..], &quota).await;
        assert!(quota.passed.is_cancelled());
        assert_eq!(lines.last().last(), Some("y"));
    }

    #[tokio::test]
    async fn output_up_to_the_limit_is_kept_and_all_of_it_is_counted() {
        let (exact, _) = printed(&vec![b'a'; STDOUT_BYTES_MAX]).await;
        assert!(!exact.is_truncated());

        let (more, _) = printed(&vec![b'a'; 3 * STDOUT_BYTES_MAX]).await;
        assert!(more.is_truncated());
        assert_eq!(more.bytes, 3 * STDOUT_BYTES_MAX as u64);
        let nothing = Mask::default();
        assert_eq!(more.text(&nothing).len(), STDOUT_BYTES_MAX);
    }

    #[test]
    fn lines_are_found_across_reads_and_the_last_ones_are_kept() {
        let mut lines = lines(&Mask::default());
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
        let mut lines = lines(&Mask::default());
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
        let mut lines = lines(&mask);
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

        let (printed, _) = printed(text(STDOUT_BYTES_MAX - 5).as_bytes()).await;
        assert!(!printed.text(&mask).contains('h'), "a part of it is shown");
    }
}
