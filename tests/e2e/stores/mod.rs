//! Files that lie elsewhere: what is written there comes back, it appears whole
//! or not at all, and errors say what is wrong.

mod azure;
mod crash;
mod errors;
mod gcs;
mod s3;
mod web;

use std::fs;

use harness::{Answer, PrivateS3, Service, Setup};
use reqwest::Method;
use serde_json::Value;

/// The key that the connections of tests are sealed with.
pub(crate) const SECRETS_KEY: (&str, &str) = (
    "MILLSTREAM_SECRETS_KEY",
    "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
);

/// A service whose workers open connections.
struct Place {
    service: Service,
}

impl Place {
    async fn with_workers(workers: usize) -> Self {
        let setup = Setup {
            workers,
            api: &[SECRETS_KEY],
            worker: &[SECRETS_KEY],
            ..Setup::default()
        };
        Self {
            service: Service::start(setup).await,
        }
    }

    /// One with S3, to whose buckets `raw` and `out` connections of these names
    /// lead.
    async fn with_s3(workers: usize) -> (Self, PrivateS3) {
        let (place, s3) = tokio::join!(Self::with_workers(workers), PrivateS3::start());
        for bucket in ["raw", "out"] {
            place.connect(bucket, &s3.connection(bucket)).await;
        }
        (place, s3)
    }

    /// Keeps a connection, as an administrator does.
    async fn connect(&self, name: &str, connection: &Value) {
        let path = format!("/api/admin/v1/connections/{name}");
        let request = self.service.admin().request(Method::PUT, &path);
        let answer = Answer::of(request.json(connection)).await;
        assert!(matches!(answer.status, 200 | 201), "{answer:?}");
    }

    /// Puts a file where steps can read it.
    fn put(&self, name: &str, text: &str) {
        fs::write(self.service.files().join(name), text).unwrap();
    }

    /// A file that a step has written.
    fn written(&self, name: &str) -> String {
        fs::read_to_string(self.service.files().join(name)).unwrap()
    }

    /// Publishes a flow of these steps, each one line of YAML, and runs it: what
    /// the step `last` handed on, or why the run failed.
    async fn run(&self, id: &str, steps: &[&str]) -> Result<Value, Value> {
        let admin = self.service.admin();
        admin.publish(&flow(id, steps)).await;
        let run = admin.start(id).await;
        match admin.end(id, &run).await.as_str() {
            "Succeeded" => Ok(self.service.run_output(&run).await),
            _ => {
                let error = self.service.run_error(&run).await;
                assert!(!error.to_string().contains("canary"), "{error}");
                Err(error)
            }
        }
    }
}

fn flow(id: &str, steps: &[&str]) -> String {
    let steps: String = steps.iter().map(|step| format!("  - {step}\n")).collect();
    format!("id: {id}\nsteps:\n{steps}output: \"{{{{ steps.last }}}}\"\n")
}

/// A CSV file of so many rows, each of which has about a hundred bytes that do
/// not get much smaller.
fn rows(count: u32) -> String {
    let mut text = "id,country,text\n".to_owned();
    let mut state = 1_u64;
    for id in 0..count {
        let country = ["NO", "SE", "DK"][(id % 3) as usize];
        text += &format!("{id},{country},");
        for _ in 0..5 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            text += &format!("{state:x}");
        }
        text.push('\n');
    }
    text
}
