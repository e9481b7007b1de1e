//! Ways to object stores, as their connections say.
//!
//! Which rights are used stands in the connection. What the environment or the
//! cloud of the machine offers is taken only where it says so.

use std::{sync::Arc, time::Duration};

use millstream_shared::connection::{Access, Azure, Connection, Gcs, S3, Secret};
use object_store::{
    BackoffConfig, ClientOptions, HeaderValue, ObjectStore, RetryConfig, StaticCredentialProvider,
    aws::AmazonS3Builder,
    azure::MicrosoftAzureBuilder,
    gcp::{GcpCredential, GoogleCloudStorageBuilder},
};

use super::error::StoreError;

/// How long finding a store and connecting to it may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long one request may take: the slowest is one for a part of a file.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// A request that failed for what may pass is sent again at most so often,
/// before the attempt of the step fails.
const RETRIES_MAX: usize = 4;

/// No request is sent again later than this after it was first.
const RETRY_TIMEOUT: Duration = Duration::from_secs(60);

/// The store that a connection leads to.
pub(super) fn store(connection: &Connection) -> Result<Arc<dyn ObjectStore>, StoreError> {
    // Where a key is missing, the library would look for one on the machine.
    connection.check().map_err(|error| {
        let message = format!(
            "the connection cannot be used: its `{}` {error}",
            error.member
        );
        StoreError::refused("bad_connection", message)
    })?;
    let store = match connection {
        Connection::S3(s3) => s3_store(s3),
        Connection::Azure(azure) => azure_store(azure),
        Connection::Gcs(gcs) => gcs_store(gcs),
        other => {
            let kind = other.kind();
            let message = format!("the connection is of the kind `{kind}`, where no files lie");
            return Err(StoreError::refused("wrong_connection", message));
        }
    };
    store.map_err(|error| {
        let message = format!("the connection cannot be used: {error}");
        StoreError::refused("bad_connection", message)
    })
}

fn s3_store(s3: &S3) -> object_store::Result<Arc<dyn ObjectStore>> {
    let mut builder = match s3.access {
        Some(Access::Worker) => AmazonS3Builder::from_env(),
        _ => AmazonS3Builder::new(),
    };
    builder = builder
        .with_bucket_name(&s3.bucket)
        .with_client_options(options(s3.endpoint.as_deref()))
        .with_retry(retry())
        .with_skip_signature(s3.access == Some(Access::Public));
    if let (Some(id), Some(key)) = (&s3.access_key_id, &s3.secret_access_key) {
        builder = builder
            .with_access_key_id(id)
            .with_secret_access_key(key.reveal());
    }
    if let Some(token) = &s3.session_token {
        builder = builder.with_token(token.reveal());
    }
    if let Some(region) = &s3.region {
        builder = builder.with_region(region);
    }
    if let Some(endpoint) = &s3.endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    Ok(Arc::new(builder.build()?))
}

fn azure_store(azure: &Azure) -> object_store::Result<Arc<dyn ObjectStore>> {
    let mut builder = match azure.access {
        Some(Access::Worker) => MicrosoftAzureBuilder::from_env(),
        _ => MicrosoftAzureBuilder::new(),
    };
    builder = builder
        .with_account(&azure.account)
        .with_container_name(&azure.container)
        .with_client_options(options(azure.endpoint.as_deref()))
        .with_retry(retry())
        .with_skip_signature(azure.access == Some(Access::Public));
    if let Some(key) = &azure.account_key {
        builder = builder.with_access_key(key.reveal());
    }
    if let Some(token) = &azure.sas_token {
        builder = builder.with_sas_authorization(pairs(token));
    }
    if let Some(endpoint) = &azure.endpoint {
        builder = builder.with_endpoint(endpoint.trim_end_matches('/').to_owned());
    }
    Ok(Arc::new(builder.build()?))
}

/// The pairs that a shared access signature consists of.
fn pairs(token: &Secret) -> Vec<(String, String)> {
    let text = token.reveal().trim().trim_start_matches('?');
    url::form_urlencoded::parse(text.as_bytes())
        .into_owned()
        .collect()
}

fn gcs_store(gcs: &Gcs) -> object_store::Result<Arc<dyn ObjectStore>> {
    let mut builder = match gcs.access {
        Some(Access::Worker) => GoogleCloudStorageBuilder::from_env(),
        _ => GoogleCloudStorageBuilder::new(),
    };
    builder = builder
        .with_bucket_name(&gcs.bucket)
        .with_client_options(options(gcs.endpoint.as_deref()))
        .with_retry(retry());
    if gcs.access == Some(Access::Public) {
        // Without credentials of its own it would look for some on the machine.
        let nobody = GcpCredential {
            bearer: String::new(),
        };
        builder = builder
            .with_credentials(Arc::new(StaticCredentialProvider::new(nobody)))
            .with_skip_signature(true);
    }
    if let Some(key) = &gcs.service_account_key {
        builder = builder.with_service_account_key(key.reveal());
    }
    if let Some(endpoint) = &gcs.endpoint {
        builder = builder.with_base_url(endpoint.trim_end_matches('/'));
    }
    Ok(Arc::new(builder.build()?))
}

fn options(endpoint: Option<&str>) -> ClientOptions {
    let agent = concat!("millstream/", env!("CARGO_PKG_VERSION"));
    // The administrator who wrote `http://` wants it unencrypted.
    let is_plain = endpoint.is_some_and(|endpoint| endpoint.starts_with("http://"));
    ClientOptions::new()
        .with_user_agent(HeaderValue::from_static(agent))
        .with_allow_http(is_plain)
        .with_connect_timeout(CONNECT_TIMEOUT)
        .with_timeout(REQUEST_TIMEOUT)
}

fn retry() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(5),
            base: 3.0,
        },
        max_retries: RETRIES_MAX,
        retry_timeout: RETRY_TIMEOUT,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rights_that_nobody_gave_are_not_taken() {
        for document in [
            json!({ "kind": "s3", "bucket": "b" }),
            json!({ "kind": "azure", "container": "c", "account": "a" }),
            json!({ "kind": "gcs", "bucket": "b" }),
        ] {
            // As one that was kept before there was `access`.
            let connection: Connection = serde_json::from_value(document).unwrap();
            let refused = store(&connection).err().unwrap();
            assert_eq!(refused.code, "bad_connection");
            assert!(
                refused.message.contains("its `access` is missing"),
                "{}",
                refused.message
            );
        }
    }

    #[test]
    fn a_signature_is_taken_apart_as_it_was_put_together() {
        let token = Secret::from("?sv=2018&sig=a%2Bb%3D".to_owned());
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(pairs(&token), [pair("sv", "2018"), pair("sig", "a+b=")]);
    }
}
