//! An answer as it comes in, within its limits of time and size.

use std::{path::Path, time::Duration};

use bytes::Bytes;
use millstream_shared::byte_size::ByteSize;
use reqwest::{
    Response, StatusCode,
    header::{CONTENT_ENCODING, HeaderMap},
};
use tokio::{
    fs::File,
    io::{AsyncWriteExt, BufWriter},
    time::{Instant, timeout_at},
};

use super::{client::transport_failure, refusal, request::Request, spool};
use crate::steps::StepError;

/// How much of a refused request's answer is read, for its error.
const REFUSAL_BYTES_MAX: usize = 4 * 1024;

/// How long an answer may pause once it has begun.
const SILENCE_MAX: Duration = Duration::from_secs(120);

/// How much is gathered before it is written to a file.
const BUFFER_BYTES: usize = 256 * 1024;

/// How long a request may take, from connecting to the last byte of its answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limit {
    pub(super) deadline: Instant,
    whole: Duration,
    silence: Duration,
}

impl Limit {
    /// A limit that counts from here on.
    pub(super) fn of(whole: Duration) -> Self {
        Self::with_silence(whole, SILENCE_MAX)
    }

    /// The same with another limit for pauses within the answer.
    pub(super) fn with_silence(whole: Duration, silence: Duration) -> Self {
        Self {
            deadline: Instant::now() + whole,
            whole,
            silence,
        }
    }

    /// The request took too long.
    pub(super) fn exceeded(&self, request: &Request) -> StepError {
        let summary = request.summary();
        let message = format!("{summary} took longer than {:?}", self.whole);
        StepError::transient("http_timeout", message)
    }

    fn fallen_silent(&self, request: &Request) -> StepError {
        let summary = request.summary();
        let message = format!("the answer to {summary} paused for {:?}", self.silence);
        StepError::transient("http_timeout", message)
    }
}

/// An answer whose body is still to come.
pub(super) struct Incoming {
    response: Response,
    /// What it answers, after all redirects.
    pub(super) request: Request,
    limit: Limit,
    /// How many bytes have come, unpacked.
    pub(super) bytes: u64,
}

impl Incoming {
    pub(super) fn new(response: Response, request: Request, limit: Limit) -> Self {
        Self {
            response,
            request,
            limit,
            bytes: 0,
        }
    }

    pub(super) fn status(&self) -> StatusCode {
        self.response.status()
    }

    pub(super) fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// Whether the status says that the request was refused.
    pub(super) fn is_refusal(&self) -> bool {
        let status = self.status();
        status.is_client_error() || status.is_server_error()
    }

    /// All of it, which may have so many bytes.
    pub(super) async fn in_memory(&mut self, bytes_max: usize) -> Result<Vec<u8>, StepError> {
        let mut body = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            if body.len() + chunk.len() > bytes_max {
                return Err(self.too_large(&format!("{bytes_max} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    /// All of it into a file, which may take as much as `size` says.
    pub(super) async fn write_to(&mut self, path: &Path, size: ByteSize) -> Result<(), StepError> {
        let file = File::create(path).await.map_err(spool::failed)?;
        let mut file = BufWriter::with_capacity(BUFFER_BYTES, file);
        while let Some(chunk) = self.chunk().await? {
            if self.bytes > size.bytes() {
                return Err(self.too_large(&format!("the {size} that --http-answer-size allows")));
            }
            file.write_all(&chunk).await.map_err(spool::failed)?;
        }
        file.flush().await.map_err(spool::failed)
    }

    /// Why the request was refused, with the beginning of what came with it.
    pub(super) async fn refusal(mut self) -> StepError {
        let mut body = Vec::new();
        // The status says more than the end of its explanation.
        while let Ok(Some(chunk)) = self.chunk().await {
            body.extend_from_slice(&chunk);
            if body.len() >= REFUSAL_BYTES_MAX {
                body.truncate(REFUSAL_BYTES_MAX);
                break;
            }
        }
        refusal::failure(&self.request, self.status(), self.headers(), &body)
    }

    /// Refuses what cannot be unpacked.
    pub(super) fn check_readable(&self) -> Result<(), StepError> {
        // The client takes the header away from what it unpacks.
        let packing = self.headers().get(CONTENT_ENCODING);
        let packing = packing.map(|packing| String::from_utf8_lossy(packing.as_bytes()));
        match packing {
            Some(packing) if !packing.eq_ignore_ascii_case("identity") => {
                let summary = self.request.summary();
                let message =
                    format!("{summary} answered packed as `{packing}`, which nobody asked for");
                Err(StepError::permanent("http_unreadable", message))
            }
            _ => Ok(()),
        }
    }

    /// The next bytes; none at the end.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, StepError> {
        let silent_at = Instant::now() + self.limit.silence;
        let until = silent_at.min(self.limit.deadline);
        match timeout_at(until, self.response.chunk()).await {
            Ok(Ok(chunk)) => {
                self.bytes += chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
                Ok(chunk)
            }
            Ok(Err(error)) => Err(transport_failure(&self.request, &error)),
            Err(_) if silent_at < self.limit.deadline => {
                Err(self.limit.fallen_silent(&self.request))
            }
            Err(_) => Err(self.limit.exceeded(&self.request)),
        }
    }

    fn too_large(&self, limit: &str) -> StepError {
        let summary = self.request.summary();
        let message = format!("{summary} answered with more than {limit}");
        StepError::permanent("http_too_large", message)
    }
}
