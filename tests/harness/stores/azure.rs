//! A server that speaks like Azure Blob Storage, of a test's own: Azurite.

use std::{
    fs::File,
    process::{Command, Stdio},
};

use object_store::{azure::MicrosoftAzureBuilder, client::ClientOptions};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Bucket, program};
use crate::{SOON, databases::ServerProcess, eventually, redis_node::free_port};

const ACCOUNT: &str = "flows";
/// `canary-of-azure-canary-of-azure!`
const KEY: &str = "Y2FuYXJ5LW9mLWF6dXJlLWNhbmFyeS1vZi1henVyZSE=";
/// Everything until 2099, signed with the key.
const SIGNATURE: &str = "sv=2018-11-09&ss=b&srt=sco&sp=rwdlac&se=2099-01-01T00%3A00%3A00Z&spr=https%2Chttp&sig=tRBso2rVFJHj0wf8u9o0YNUfSmJlgkhJN41VisMOXgU%3D";

/// A server with all in its memory. It has the container `out`.
#[derive(Debug)]
pub struct PrivateAzure {
    _server: ServerProcess,
    _folder: TempDir,
    port: u16,
}

impl PrivateAzure {
    /// Starts a server, and waits until it answers.
    ///
    /// # Panics
    /// Panics where there is no Azurite.
    pub async fn start() -> Self {
        let folder = tempfile::Builder::new()
            .prefix("millstream-azure-")
            .tempdir()
            .unwrap();
        let port = free_port();
        let log = File::create(folder.path().join("log")).unwrap();
        let azurite = program(
            "MILLSTREAM_TEST_AZURITE",
            "azurite-",
            "node_modules/.bin/azurite-blob",
        );
        let server = Command::new(&azurite)
            .args(["--silent", "--inMemoryPersistence", "--skipApiVersionCheck"])
            .args(["--disableTelemetry", "--blobHost", "127.0.0.1"])
            .args(["--blobPort", &port.to_string()])
            .env("AZURITE_ACCOUNTS", format!("{ACCOUNT}:{KEY}"))
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| {
                let azurite = azurite.display();
                panic!("Azurite must be there, `./dev test` gets it: {azurite}: {error}")
            });
        let started = Self {
            _server: ServerProcess(server),
            _folder: folder,
            port,
        };
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        eventually(SOON, "Azurite to make a container", || async {
            let url = format!("{}/out?restype=container&{SIGNATURE}", started.endpoint());
            let made = client.put(url).header("content-length", 0).send().await;
            made.is_ok_and(|made| made.status().is_success())
                .then_some(())
        })
        .await;
        started
    }

    /// The connection to the container, as an administrator would write it.
    pub fn connection(&self) -> Value {
        json!({ "kind": "azure", "container": "out", "account": ACCOUNT,
                "account_key": KEY, "endpoint": self.endpoint() })
    }

    /// The same with a shared access signature.
    pub fn signed_connection(&self) -> Value {
        json!({ "kind": "azure", "container": "out", "account": ACCOUNT,
                "sas_token": SIGNATURE, "endpoint": self.endpoint() })
    }

    /// The objects of the container.
    pub fn bucket(&self) -> Bucket {
        let store = MicrosoftAzureBuilder::new()
            .with_account(ACCOUNT)
            .with_access_key(KEY)
            .with_container_name("out")
            .with_endpoint(self.endpoint())
            .with_client_options(ClientOptions::new().with_allow_http(true));
        Bucket(Box::new(store.build().unwrap()))
    }

    fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}/{ACCOUNT}", self.port)
    }
}
