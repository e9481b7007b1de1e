//! Files over HTTP, whole or in pieces, under the same checks as requests of
//! steps.

use std::ops::Range;

use bytes::Bytes;
use millstream_shared::flow::step::HttpAuth;
use reqwest::Response;

use super::{
    client::{Client, read_answer, transport_failure},
    request::Request,
};
use crate::steps::StepError;

/// Where a file lies, and who asks for it.
#[derive(Clone, Debug)]
pub(crate) struct WebAddress {
    pub(crate) url: String,
    pub(crate) auth: Option<HttpAuth>,
}

/// A file that begins to come in.
pub(crate) struct Fetched {
    response: Response,
    request: Request,
}

impl Client {
    /// Asks for a file, or for some bytes of it: whether only these come, its
    /// status says.
    pub(crate) async fn fetch(
        &self,
        address: &WebAddress,
        range: Option<Range<u64>>,
    ) -> Result<Fetched, StepError> {
        let request = Request::for_file(&address.url, address.auth.as_ref(), range)?;
        let (response, request) = self.followed(&self.files, request).await?;
        let status = response.status().as_u16();
        // 416 says of a range that the file ends before it.
        if status < 400 || status == 416 {
            return Ok(Fetched { response, request });
        }
        let summary = request.summary();
        let failed = read_answer(response, &request).await.err();
        let failed = failed.unwrap_or_else(|| StepError::permanent("http_status", summary));
        Err(StepError {
            code: match status {
                401 | 403 => "access_denied",
                404 | 410 => "file_not_found",
                _ => failed.code,
            },
            ..failed
        })
    }
}

impl Fetched {
    /// The status of HTTP.
    pub(crate) fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    /// What a header says.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }

    /// The next bytes; none at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, StepError> {
        let next = self.response.chunk().await;
        next.map_err(|error| transport_failure(&self.request, &error))
    }
}
