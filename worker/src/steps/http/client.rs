//! Sends requests, but only to addresses that it may reach.

use std::{error::Error, net::IpAddr, sync::Arc, time::Duration};

use reqwest::{
    Response,
    dns::{Addrs, Name, Resolve, Resolving},
    header::LOCATION,
    redirect::Policy,
};
use tokio::net::lookup_host;
use url::Host;

use super::{allow::AllowList, answer::Answer, request::Request};
use crate::steps::StepError;

/// How large an answer may be, once unpacked: it has to fit into the value of
/// the step, which is kept in Redis.
pub(super) const BODY_BYTES_MAX: usize = 768 * 1024;

/// How much of a refused request's answer is read, for its error.
const REFUSAL_BYTES_MAX: usize = 4 * 1024;

/// How often one request may be redirected.
const REDIRECTS_MAX: usize = 5;

/// How long finding an address and connecting to it may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a connection is kept for the next request to the same host.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// How often a silent connection is probed, so that a host that has vanished
/// is noticed although a request may take as long as its step.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// How long the server of a file may be silent in the middle of it.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// The connections of all `http` steps of a worker.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    /// For files, which come as they are.
    pub(super) files: reqwest::Client,
    allow: Arc<AllowList>,
}

/// The client could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("the HTTP client could not be set up")]
pub(crate) struct ClientError(#[from] reqwest::Error);

impl Client {
    /// A client that reaches public addresses, and those that `allow` lists.
    ///
    /// # Errors
    /// Fails where the system's certificates cannot be read.
    pub(crate) fn new(allow: AllowList) -> Result<Self, ClientError> {
        let allow = Arc::new(allow);
        let resolver = Arc::new(PermittedAddresses {
            allow: Arc::clone(&allow),
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
            files: client().no_gzip().read_timeout(SILENCE_MAX).build()?,
            allow,
        })
    }

    /// Sends a request, follows where it is redirected to, and reads the
    /// answer. A status of 400 and above is an error.
    pub(super) async fn exchange(&self, request: Request) -> Result<Answer, StepError> {
        let (response, request) = self.followed(&self.http, request).await?;
        read_answer(response, &request).await
    }

    /// Sends a request and follows where it is redirected to; what answered,
    /// and the last request.
    pub(super) async fn followed(
        &self,
        http: &reqwest::Client,
        request: Request,
    ) -> Result<(Response, Request), StepError> {
        let mut request = request;
        for _ in 0..=REDIRECTS_MAX {
            self.check_literal_address(&request)?;
            let response = send(http, &request).await?;
            let location = response.headers().get(LOCATION);
            match request.redirected(response.status(), location)? {
                Some(next) => request = next,
                None => return Ok((response, request)),
            }
        }
        let summary = request.summary();
        Err(StepError::permanent(
            "http_redirects",
            format!("{summary} is one redirect too many: {REDIRECTS_MAX} are followed"),
        ))
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

async fn send(http: &reqwest::Client, request: &Request) -> Result<Response, StepError> {
    let mut outgoing = http
        .request(request.method.clone(), request.url.clone())
        .headers(request.headers.clone());
    if let Some(body) = &request.body {
        outgoing = outgoing.body(body.clone());
    }
    let sent = outgoing.send().await;
    sent.map_err(|error| transport_failure(request, &error))
}

/// Finds the addresses of a host and leaves out those that may not be
/// reached. What it returns is what is dialled, so that a name cannot mean
/// one address when it is checked and another when it is used.
struct PermittedAddresses {
    allow: Arc<AllowList>,
}

impl Resolve for PermittedAddresses {
    fn resolve(&self, name: Name) -> Resolving {
        let allow = Arc::clone(&self.allow);
        Box::pin(async move {
            let host = name.as_str();
            let found = lookup_host((host, 0)).await?;
            let listed = allow.permits_host(host);
            let permitted: Vec<_> = found
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

pub(super) async fn read_answer(
    mut response: Response,
    request: &Request,
) -> Result<Answer, StepError> {
    let status = response.status();
    let refused = status.is_client_error() || status.is_server_error();
    let mut answer = Answer {
        status,
        headers: response.headers().clone(),
        body: Vec::new(),
    };
    loop {
        let chunk = match response.chunk().await {
            Ok(Some(chunk)) => chunk,
            Ok(None) => break,
            // The status says more than the end of its explanation.
            Err(_) if refused => break,
            Err(error) => return Err(transport_failure(request, &error)),
        };
        answer.body.extend_from_slice(&chunk);
        if refused && answer.body.len() >= REFUSAL_BYTES_MAX {
            answer.body.truncate(REFUSAL_BYTES_MAX);
            break;
        }
        if answer.body.len() > BODY_BYTES_MAX {
            let summary = request.summary();
            return Err(StepError::permanent(
                "http_too_large",
                format!("{summary} answered with more than {BODY_BYTES_MAX} bytes"),
            ));
        }
    }
    if refused {
        return Err(answer.failure(request));
    }
    Ok(answer)
}
