//! Steps that talk to services over HTTP: pages, tables, files, connections,
//! and what happens when a service is busy.

mod bodies;
mod connections;
mod pages;
mod waiting;

use harness::{Client, Service, Setup};
use serde_json::Value;

use crate::secrets::WITH_KEY;

/// A service whose API and workers open connections.
async fn service() -> Service {
    service_with(WITH_KEY).await
}

/// The same with these settings of its workers, the key among them.
async fn service_with(worker: &'static [(&'static str, &'static str)]) -> Service {
    Service::start(Setup {
        api: WITH_KEY,
        worker,
        ..Setup::default()
    })
    .await
}

/// Publishes a flow, runs it, and says why it failed, if it did.
async fn failure_of(service: &Service, admin: &Client, flow: Value) -> Option<Value> {
    admin.publish_json(&flow).await;
    let id = flow["id"].as_str().unwrap();
    let run = admin.start(id).await;
    match &*admin.end(id, &run).await {
        "Succeeded" => None,
        _ => Some(service.run_error(&run).await),
    }
}

/// Runs a flow that must succeed.
async fn succeed(service: &Service, admin: &Client, flow: Value) {
    assert_eq!(failure_of(service, admin, flow).await, None);
}

/// Runs a flow that must fail with a code; the message.
async fn fail(service: &Service, admin: &Client, flow: Value, code: &str) -> String {
    let error = failure_of(service, admin, flow).await;
    let error = error.expect("the flow fails");
    assert_eq!(error["code"], code, "{error}");
    error["message"].as_str().unwrap().to_owned()
}
