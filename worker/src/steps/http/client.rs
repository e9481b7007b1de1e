//! Opens connections, but only to addresses that it may reach, and follows
//! redirects.

use std::{
    error::Error,
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use futures::future::BoxFuture;
use millstream_shared::byte_size::ByteSize;
use reqwest::{
    Response,
    dns::{Addrs, Name, Resolve, Resolving},
    header::LOCATION,
    redirect::Policy,
};
use tokio::{net::lookup_host, time::timeout_at};
use url::Host;

use super::{
    allow::AllowList,
    answer::{Incoming, Limit},
    request::Request,
    tokens::Tokens,
};
use crate::steps::StepError;

/// How often one request may be redirected.
const REDIRECTS_MAX: usize = 5;

/// How long finding an address and connecting to it may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a connection is kept for the next request to the same host.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// How often a silent connection is probed, so that a host that has vanished
/// is noticed although a request may take as long as its step.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// The connections of all `http` steps of a worker.
#[derive(Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    /// The same for files, which come as they are.
    plain: reqwest::Client,
    allow: Arc<AllowList>,
    /// The tokens that authorities have handed out.
    pub(super) tokens: Tokens,
    /// How large an answer may be that is saved or becomes a table, unpacked.
    pub(super) answer_size: ByteSize,
}

/// The client could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("the HTTP client could not be set up")]
pub(crate) struct ClientError(#[from] reqwest::Error);

/// Finds the addresses of a host by its name.
pub(super) type Lookup = fn(String) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>>;

fn system_lookup(host: String) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
    Box::pin(async move { Ok(lookup_host((host, 0)).await?.collect()) })
}

impl Client {
    /// A client that reaches public addresses, and those that `allow` lists.
    ///
    /// # Errors
    /// Fails where the system's certificates cannot be read.
    pub(crate) fn new(allow: AllowList, answer_size: ByteSize) -> Result<Self, ClientError> {
        Self::with_lookup(allow, answer_size, system_lookup)
    }

    pub(super) fn with_lookup(
        allow: AllowList,
        answer_size: ByteSize,
        lookup: Lookup,
    ) -> Result<Self, ClientError> {
        let allow = Arc::new(allow);
        let resolver = Arc::new(PermittedAddresses {
            allow: Arc::clone(&allow),
            lookup,
        });
        let client = || {
            reqwest::Client::builder()
                .user_agent(concat!("millstream/", env!("CARGO_PKG_VERSION")))
                // A proxy would connect on our behalf, past every check.
                .no_proxy()
                .redirect(Policy::none())
                .dns_resolver(Arc::clone(&resolver))
                .connect_timeout(CONNECT_TIMEOUT)
                .pool_idle_timeout(IDLE_TIMEOUT)
                .tcp_keepalive(KEEPALIVE)
        };
        Ok(Self {
            http: client().build()?,
            plain: client().no_gzip().build()?,
            allow,
            tokens: Tokens::default(),
            answer_size,
        })
    }

    /// The same client for files, which it does not unpack.
    pub(super) fn for_files(&self) -> Self {
        Self {
            http: self.plain.clone(),
            ..self.clone()
        }
    }

    /// Sends a request, follows where it is redirected to, and hands out the
    /// answer with its status and headers; its body is still to come. All of it
    /// has to come within `limit`.
    pub(super) async fn open(
        &self,
        request: &Request,
        limit: Limit,
    ) -> Result<Incoming, StepError> {
        let mut request = request.clone();
        for _ in 0..=REDIRECTS_MAX {
            self.check_literal_address(&request)?;
            let sent = timeout_at(limit.deadline, self.send(&request)).await;
            let response = sent.unwrap_or_else(|_| Err(limit.exceeded(&request)))?;
            let location = response.headers().get(LOCATION);
            match request.redirected(response.status(), location)? {
                Some(next) => request = next,
                None => return Ok(Incoming::new(response, request, limit)),
            }
        }
        let summary = request.summary();
        Err(StepError::permanent(
            "http_redirects",
            format!("{summary} is one redirect too many: {REDIRECTS_MAX} are followed"),
        ))
    }

    async fn send(&self, request: &Request) -> Result<Response, StepError> {
        let mut outgoing = self
            .http
            .request(request.method.clone(), request.url.clone())
            .headers(request.headers.clone());
        if let Some(body) = &request.body {
            outgoing = body.put_into(outgoing);
        }
        outgoing
            .send()
            .await
            .map_err(|error| transport_failure(request, &error))
    }

    /// No resolver is asked for a host that is written as an address.
    fn check_literal_address(&self, request: &Request) -> Result<(), StepError> {
        let address: IpAddr = match request.url.host() {
            Some(Host::Ipv4(address)) => address.into(),
            Some(Host::Ipv6(address)) => address.into(),
            Some(Host::Domain(_)) | None => return Ok(()),
        };
        if self.allow.permits(address) {
            return Ok(());
        }
        let host = address.to_string();
        Err(forbidden(request, &ForbiddenHost { host }))
    }
}

/// Finds the addresses of a host and leaves out those that may not be
/// reached. What it returns is what is dialled, so that a name cannot mean
/// one address when it is checked and another when it is used.
struct PermittedAddresses {
    allow: Arc<AllowList>,
    lookup: Lookup,
}

impl Resolve for PermittedAddresses {
    fn resolve(&self, name: Name) -> Resolving {
        let allow = Arc::clone(&self.allow);
        let lookup = self.lookup;
        Box::pin(async move {
            let host = name.as_str();
            let found = lookup(host.to_owned()).await?;
            let listed = allow.permits_host(host);
            let permitted: Vec<_> = found
                .into_iter()
                .filter(|address| listed || allow.permits(address.ip()))
                .collect();
            if permitted.is_empty() {
                let host = host.to_owned();
                return Err(ForbiddenHost { host }.into());
            }
            Ok(Box::new(permitted.into_iter()) as Addrs)
        })
    }
}

/// A host all of whose addresses are out of bounds.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{host}` is not on the public internet, and MILLSTREAM_HTTP_ALLOW of the worker does not list it"
)]
struct ForbiddenHost {
    host: String,
}

fn forbidden(request: &Request, why: &ForbiddenHost) -> StepError {
    let summary = request.summary();
    StepError::permanent("http_forbidden", format!("{summary} is not allowed: {why}"))
}

/// What went wrong below HTTP, without the text of the request: that is in
/// none of the causes, only in the outermost error.
pub(super) fn transport_failure(request: &Request, error: &reqwest::Error) -> StepError {
    let mut cause: Option<&dyn Error> = error.source();
    let mut deepest = None;
    while let Some(current) = cause {
        if let Some(why) = current.downcast_ref::<ForbiddenHost>() {
            return forbidden(request, why);
        }
        deepest = Some(current.to_string());
        cause = current.source();
    }
    let summary = request.summary();
    let why = match deepest {
        _ if error.is_timeout() && error.is_connect() => {
            format!("no connection within {} s", CONNECT_TIMEOUT.as_secs())
        }
        Some(deepest) => deepest,
        None => "the request could not be sent".to_owned(),
    };
    StepError::transient("http_transport", format!("{summary} failed: {why}"))
}
