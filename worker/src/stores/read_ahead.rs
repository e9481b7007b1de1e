//! The bytes of a file in their order, some of which are fetched before they
//! are asked for.

use std::{
    collections::VecDeque,
    io::{self, Read},
    ops::Range,
};

use bytes::{Buf, Bytes};

use super::{
    remote_file::{PIECES_AHEAD, Reading, pieces},
    waiting::{Started, done},
};

/// A reader that fetches some pieces ahead. It holds no more than these and the
/// one that is read.
pub(super) struct ReadAhead {
    reading: Reading,
    /// What has not been asked for yet.
    rest: Box<dyn Iterator<Item = Range<u64>>>,
    under_way: VecDeque<Started<Bytes>>,
    current: Bytes,
}

impl ReadAhead {
    pub(super) fn new(reading: Reading, bytes: u64) -> Self {
        Self {
            reading,
            rest: Box::new(pieces(0..bytes)),
            under_way: VecDeque::new(),
            current: Bytes::new(),
        }
    }

    fn next_piece(&mut self) -> io::Result<bool> {
        while self.under_way.len() < PIECES_AHEAD
            && let Some(range) = self.rest.next()
        {
            self.under_way.push_back(self.reading.start(range));
        }
        let Some(next) = self.under_way.pop_front() else {
            return Ok(false);
        };
        self.current = self.reading.wait(done(next))?;
        Ok(true)
    }
}

impl Read for ReadAhead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() && self.next_piece()? {}
        let count = self.current.len().min(buffer.len());
        self.current.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}
