//! Files over HTTP, whole or in pieces, under the same checks as requests of
//! steps.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use millstream_shared::connection::Connection;
use url::Url;

use super::{
    REQUEST_TIME,
    answer::Incoming,
    client::Client,
    request::{Request, checked_url},
    sending::Sender,
    service::{Credentials, Service},
};
use crate::{mask::Mask, steps::StepError};

/// What says that a file is not there, or not for who asks, or that it ends
/// before a range.
const TOLD_APART: &[u32] = &[401, 403, 404, 410, 416];

/// Where a file lies, and who asks for it.
#[derive(Clone)]
pub(crate) struct WebAddress {
    url: Url,
    service: Option<Arc<Service>>,
    mask: Mask,
}

impl WebAddress {
    /// An address, or with a connection what follows on that of its service.
    pub(crate) fn of(
        text: &str,
        connection: Option<Connection>,
        mask: &Mask,
    ) -> Result<Self, StepError> {
        let service = connection.map(Service::of).transpose()?;
        let url = match &service {
            Some(service) => service.address(text)?,
            None => checked_url("`path`", text)?,
        };
        Ok(Self {
            url,
            service: service.map(Arc::new),
            mask: mask.clone(),
        })
    }

    /// How errors call it: without the query, which may hold credentials.
    pub(crate) fn shown(&self) -> String {
        let mut url = self.url.clone();
        url.set_query(None);
        url.set_fragment(None);
        url.to_string()
    }
}

/// A file that begins to come in.
pub(crate) struct Fetched(Incoming);

impl Client {
    /// Asks for a file, or for some bytes of it: whether only these come, its
    /// status says.
    pub(crate) async fn fetch(
        &self,
        address: &WebAddress,
        range: Option<Range<u64>>,
    ) -> Result<Fetched, StepError> {
        let service = address.service.as_deref();
        let mut request = Request::for_file(address.url.clone(), service, range)?;
        request.mask = address.mask.clone();
        let sender = Sender {
            client: &self.for_files(),
            grant: match service.map(|service| &service.credentials) {
                Some(Credentials::OAuth(grant)) => Some(grant),
                _ => None,
            },
            mask: &address.mask,
            accept: TOLD_APART,
            time: REQUEST_TIME,
        };
        let incoming = sender.send(request).await?;
        let code = match incoming.status().as_u16() {
            401 | 403 => "access_denied",
            404 | 410 => "file_not_found",
            _ => return Ok(Fetched(incoming)),
        };
        let refused = incoming.refusal().await;
        Err(StepError { code, ..refused })
    }
}

impl Fetched {
    /// The status of HTTP.
    pub(crate) fn status(&self) -> u16 {
        self.0.status().as_u16()
    }

    /// What a header says.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.0.headers().get(name)?.to_str().ok()
    }

    /// The next bytes; none at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, StepError> {
        self.0.chunk().await
    }
}
