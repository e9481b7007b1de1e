//! Millstream as its callers see it: the HTTP API.

mod runs;

use std::{path::PathBuf, time::Duration};

use reqwest::{Method, RequestBuilder, Response, Url, header::HeaderValue};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

pub(crate) use runs::{Answer, Start, Wait};

use crate::{
    data_folder,
    failure::{Failure, Refusal},
};

const URL_DEFAULT: &str = "http://127.0.0.1:8080";
/// How long making a connection may take.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// A connection on which nothing comes for so long is given up. The API sends
/// a space every ten seconds while a caller waits.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// Which service to talk to, and as whom.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ServiceSettings {
    /// Address of the API, with its base path if it has one [default: that of
    /// the `millstream up` on the data folder, otherwise http://127.0.0.1:8080]
    #[arg(long, env = "MILLSTREAM_URL")]
    pub(crate) url: Option<String>,

    /// The API key [default: for an API on this machine, the admin key that
    /// `millstream up` keeps in the data folder]
    #[arg(long, env = "MILLSTREAM_API_KEY", hide_env_values = true)]
    pub(crate) api_key: Option<String>,

    /// The data folder of `millstream up`
    #[arg(long, env = "MILLSTREAM_DATA_DIR", default_value = ".millstream")]
    pub(crate) data_dir: PathBuf,
}

/// A service, and the key to show to it.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    http: reqwest::Client,
    base: Url,
    key: HeaderValue,
}

impl Service {
    /// The service that the settings name, or that they lead to.
    pub(crate) fn new(settings: &ServiceSettings) -> Result<Self, Failure> {
        let url = match &settings.url {
            Some(url) => url.clone(),
            None => data_folder::running(&settings.data_dir)?
                .map_or_else(|| URL_DEFAULT.to_owned(), |running| running.url),
        };
        let base = parse_base(&url)?;
        let key = match &settings.api_key {
            Some(key) => Some(key.clone()),
            // The key of this machine is shown to nobody else.
            None if is_local(&base) => data_folder::admin_key(&settings.data_dir)?,
            None => None,
        };
        let key = key.ok_or_else(|| {
            Failure::Usage(format!(
                "no API key: give one with --api-key or MILLSTREAM_API_KEY (the data folder `{}` keeps none for {url})",
                settings.data_dir.display()
            ))
        })?;
        Self::at(base, &key)
    }

    /// The service at `base`, for the bearer of `key`.
    pub(crate) fn at(base: Url, key: &str) -> Result<Self, Failure> {
        let mut key = HeaderValue::from_str(key.trim()).map_err(|_| {
            Failure::Usage("the API key has characters that no key can have".to_owned())
        })?;
        key.set_sensitive(true);
        let mut http = reqwest::Client::builder()
            .connect_timeout(CONNECT_MAX)
            .read_timeout(SILENCE_MAX)
            .redirect(reqwest::redirect::Policy::none());
        if is_local(&base) {
            http = http.no_proxy();
        }
        let http = http.build().map_err(anyhow::Error::new)?;
        Ok(Self { http, base, key })
    }

    /// A request to the route whose path has these segments.
    pub(crate) fn request(&self, method: Method, segments: &[&str]) -> RequestBuilder {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        self.http
            .request(method, url)
            .header("x-api-key", self.key.clone())
    }

    /// A request to the route of administration with these further segments.
    pub(crate) fn admin_request(&self, method: Method, segments: &[&str]) -> RequestBuilder {
        self.request(method, &[&["api", "admin", "v1"], segments].concat())
    }

    /// Sends a request and gives back the answer if it is one of success.
    pub(crate) async fn send(&self, request: RequestBuilder) -> Result<Response, Failure> {
        self.checked(request.send().await).await
    }

    async fn checked(&self, sent: reqwest::Result<Response>) -> Result<Response, Failure> {
        let response = sent.map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = response.bytes().await.unwrap_or_default();
        let problem = problem(&body);
        Err(Failure::Refused(problem.unwrap_or_else(|| Refusal {
            status: status.as_u16(),
            code: None,
            detail: format!("{} says no more", self.base),
            errors: Vec::new(),
        })))
    }

    /// The JSON in an answer.
    pub(crate) async fn read<T: DeserializeOwned>(&self, response: Response) -> Result<T, Failure> {
        let body = response
            .bytes()
            .await
            .map_err(|error| self.unreachable(&error))?;
        serde_json::from_slice(&body).map_err(|error| {
            // The head of a long wait is sent before its outcome is known.
            problem(&body).map_or_else(
                || Failure::Strange {
                    url: self.base.to_string(),
                    cause: error.to_string(),
                },
                Failure::Refused,
            )
        })
    }

    fn unreachable(&self, error: &reqwest::Error) -> Failure {
        // The innermost cause says it best: "connection refused".
        let mut cause: &dyn std::error::Error = error;
        while let Some(inner) = cause.source() {
            cause = inner;
        }
        Failure::Unreachable {
            url: self.base.to_string(),
            cause: cause.to_string(),
        }
    }
}

/// The address of an API in what a person wrote.
fn parse_base(text: &str) -> Result<Url, Failure> {
    let url = Url::parse(text).ok();
    let url = url.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    let url = url.ok_or_else(|| {
        let expected = "an address such as http://127.0.0.1:8080 or https://host/invision";
        Failure::Usage(format!("`{text}` is not {expected}"))
    })?;
    let plain = url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    // What stands there may be secret, so it is not repeated.
    let too_much = "the address of the API must have no user name, password, query or fragment";
    if plain {
        Ok(url)
    } else {
        Err(Failure::Usage(too_much.to_owned()))
    }
}

/// Whether the address is that of this machine.
fn is_local(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let address = host.parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// The problem document (RFC 9457) in a body, if it is one.
fn problem(body: &[u8]) -> Option<Refusal> {
    #[derive(Deserialize)]
    struct Problem {
        status: u16,
        code: String,
        detail: String,
        #[serde(default)]
        errors: Vec<Value>,
    }
    let problem: Problem = serde_json::from_slice(body).ok()?;
    Some(Refusal {
        status: problem.status,
        code: Some(problem.code),
        detail: problem.detail,
        errors: problem.errors,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_keeps_its_base_path() {
        for base in ["http://h:1/invision", "http://h:1/invision/"] {
            let service = Service::at(parse_base(base).unwrap(), "key").unwrap();
            let request = service
                .request(Method::GET, &["api", "a b"])
                .build()
                .unwrap();
            assert_eq!(request.url().as_str(), "http://h:1/invision/api/a%20b");
        }
    }

    #[test]
    fn an_address_that_is_none_is_refused_by_name() {
        for bad in ["", "127.0.0.1:8080", "ftp://h"] {
            let message = parse_base(bad).unwrap_err().to_string();
            assert!(message.contains(&format!("`{bad}`")), "{message}");
        }
    }

    #[test]
    fn a_secret_in_an_address_is_refused_and_not_repeated() {
        for bad in ["http://user:hush@h", "http://h?api_key=hush"] {
            let message = parse_base(bad).unwrap_err().to_string();
            assert!(!message.contains("hush"), "{message}");
        }
    }

    #[test]
    fn only_this_machine_is_shown_its_own_key() {
        for (url, local) in [
            ("http://127.0.0.1:8080", true),
            ("http://localhost", true),
            ("http://[::1]:80", true),
            ("https://example.com", false),
            ("http://127.0.0.1.example.com", false),
        ] {
            assert_eq!(is_local(&Url::parse(url).unwrap()), local, "{url}");
        }
    }

    #[test]
    fn a_problem_is_recognised_also_behind_the_spaces_of_a_wait() {
        let body = br#"   {"type": "about:blank", "title": "T", "status": 500, "detail": "d", "code": "c"}"#;
        let refusal = problem(body).unwrap();
        assert_eq!((refusal.status, refusal.detail.as_str()), (500, "d"));
        assert!(problem(br#"{"runId": "x"}"#).is_none());
    }
}
