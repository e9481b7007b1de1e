//! A caller of the API.

use reqwest::{Method, RequestBuilder, header::HeaderMap};
use serde_json::{Value, json};

use crate::SOON;

/// A caller that shows one key to one API process, or no key at all.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    key: Option<String>,
}

/// An answer that has come in whole.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status of HTTP.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: String,
}

impl Client {
    pub(crate) fn new(base: String, key: Option<String>) -> Self {
        // Tests of different processes must not share connections.
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { http, base, key }
    }

    /// The same caller with another key.
    pub fn with_key(&self, key: &str) -> Self {
        Self {
            key: Some(key.to_owned()),
            ..self.clone()
        }
    }

    /// The same caller without a key.
    pub fn without_key(&self) -> Self {
        Self {
            key: None,
            ..self.clone()
        }
    }

    /// A request to a path from the root of the server.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        match &self.key {
            Some(key) => request.header("x-api-key", key),
            None => request,
        }
    }

    /// The request that starts a flow; `query` is empty or begins with `?`.
    pub fn start_request(&self, flow: &str, query: &str) -> RequestBuilder {
        let path = format!("/api/pub/v1/dataflows/{flow}/start{query}");
        self.request(Method::POST, &path)
    }

    /// The request that asks for the status of a run.
    pub fn status_request(&self, flow: &str, run: &str, query: &str) -> RequestBuilder {
        let path = format!("/api/pub/v1/dataflows/{flow}/runs/{run}/status{query}");
        self.request(Method::GET, &path)
    }

    /// The request for what a run handed back.
    pub fn output_request(&self, flow: &str, run: &str) -> RequestBuilder {
        let path = format!("/api/pub/v1/dataflows/{flow}/runs/{run}/output");
        self.request(Method::GET, &path)
    }

    /// What a run handed back.
    pub async fn output(&self, flow: &str, run: &str) -> Answer {
        Answer::of(self.output_request(flow, run)).await
    }

    /// Starts a flow and returns the id of the run.
    pub async fn start(&self, flow: &str) -> String {
        self.start_with(flow, json!({})).await
    }

    /// Starts a flow with inputs and returns the id of the run.
    pub async fn start_with(&self, flow: &str, inputs: Value) -> String {
        let request = self
            .start_request(flow, "")
            .json(&json!({ "inputs": inputs }));
        let answer = Answer::of(request).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.run_id()
    }

    /// Starts a flow, waits for its end, and returns the status.
    pub async fn run(&self, flow: &str) -> String {
        let answer = Answer::of(self.start_request(flow, "?await=true")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.run_status()
    }

    /// The status of a run at this moment.
    pub async fn status(&self, flow: &str, run: &str) -> String {
        self.status_now(flow, run, "").await
    }

    /// The status of a run when it has ended.
    pub async fn end(&self, flow: &str, run: &str) -> String {
        self.status_now(flow, run, "?await=true").await
    }

    async fn status_now(&self, flow: &str, run: &str, query: &str) -> String {
        let answer = Answer::of(self.status_request(flow, run, query)).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.run_status()
    }

    /// Publishes a flow. Its id stands in the text.
    pub async fn publish(&self, flow: &str) {
        let id = flow.lines().find_map(|line| line.strip_prefix("id: "));
        let id = id.expect("a flow of a test starts with `id: …`");
        let id = id.trim_matches('"');
        let answer = self.put_flow(id, flow).await;
        assert!(matches!(answer.status, 200 | 201), "{answer:?}");
    }

    /// Publishes a flow that is written as JSON.
    pub async fn publish_json(&self, flow: &Value) {
        let id = flow["id"].as_str().expect("a flow of a test has an id");
        let answer = self.put_flow(id, &flow.to_string()).await;
        assert!(matches!(answer.status, 200 | 201), "{answer:?}");
    }

    /// Sends a flow's text to the route that publishes it.
    pub async fn put_flow(&self, id: &str, text: &str) -> Answer {
        let path = format!("/api/admin/v1/dataflows/{id}");
        let request = self.request(Method::PUT, &path);
        Answer::of(request.body(text.to_owned())).await
    }

    /// Makes a key and returns its id and its text.
    pub async fn create_key(&self, key: Value) -> (String, String) {
        let request = self.request(Method::POST, "/api/admin/v1/keys");
        let answer = Answer::of(request.json(&key)).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        let member = |name: &str| answer.json()[name].as_str().unwrap().to_owned();
        (member("id"), member("key"))
    }

    /// Asks for a key to be deleted.
    pub async fn delete_key(&self, id: &str) -> Answer {
        let path = format!("/api/admin/v1/keys/{id}");
        Answer::of(self.request(Method::DELETE, &path)).await
    }
}

impl Answer {
    /// Sends a request and reads the answer.
    ///
    /// # Panics
    /// Panics where there is none within three times [`SOON`].
    pub async fn of(request: RequestBuilder) -> Self {
        let response = request.timeout(3 * SOON).send().await.unwrap();
        Self {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            body: response.text().await.unwrap(),
        }
    }

    /// The body, which must be JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// A header as text; empty where it is not there.
    pub fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value.map_or("", |value| value.to_str().unwrap())
    }

    /// The `runId` of a start or status.
    pub fn run_id(&self) -> String {
        self.member("runId")
    }

    /// The `status` of a start or status.
    pub fn run_status(&self) -> String {
        self.member("status")
    }

    /// The `code` of a problem.
    pub fn code(&self) -> String {
        self.member("code")
    }

    fn member(&self, name: &str) -> String {
        let json = self.json();
        let text = json[name].as_str();
        text.unwrap_or_else(|| panic!("no `{name}`: {self:?}"))
            .to_owned()
    }
}
