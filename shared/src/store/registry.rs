//! Flows with their versions, and keys: what administration changes and
//! everybody reads.

use redis::{AsyncTypedCommands, from_redis_value};
use sha2::{Digest, Sha256};

use super::{Store, StoreError, connect::unexpected, scripts::SCRIPTS};
use crate::{
    access::Key,
    flow::Flow,
    id::{FlowId, KeyId},
};

/// What a publication came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// The number of the version, from 1.
    pub version: u32,
    /// Whether the flow was not there before.
    pub created: bool,
}

impl Store {
    /// Publishes a flow as a new version. The very text of the latest version
    /// again is that version.
    ///
    /// # Errors
    /// Fails where Redis does.
    pub async fn publish_flow(&self, flow: &Flow, source: &str) -> Result<Published, StoreError> {
        let registry = self.registry();
        let key = registry.flow(&flow.id);
        let text = serde_json::to_string(flow)
            .map_err(|_| StoreError::corrupt(&*key, "a flow that can be stored"))?;
        let digest: [u8; 32] = Sha256::digest(source).into();
        let call = registry
            .call(&SCRIPTS.publish)
            .key(key)
            .argument(text)
            .argument(source)
            .argument(digest);
        let answer = call.invoke().await?;
        let (version, created) = from_redis_value(answer).map_err(|_| unexpected("publish"))?;
        self.publish_change(&format!("flow {}", flow.id)).await?;
        Ok(Published { version, created })
    }

    /// The latest version of a flow and its number.
    ///
    /// # Errors
    /// Fails where Redis does, or where the flow does not decode.
    pub async fn latest_flow(&self, id: &FlowId) -> Result<Option<(u32, Flow)>, StoreError> {
        let mut read = redis::cmd("HGET");
        read.arg(self.registry().flow(id)).arg("latest");
        let Some(version) = self.registry().link().ask(&read).await? else {
            return Ok(None);
        };
        let flow = self.flow_version(id, version).await?;
        Ok(flow.map(|flow| (version, flow)))
    }

    /// One version of a flow.
    ///
    /// # Errors
    /// Fails where Redis does, or where the flow does not decode.
    pub async fn flow_version(
        &self,
        id: &FlowId,
        version: u32,
    ) -> Result<Option<Flow>, StoreError> {
        let key = self.registry().flow(id);
        let mut read = redis::cmd("HGET");
        read.arg(&key).arg(format!("flow:{version}"));
        let text: Option<String> = self.registry().link().ask(&read).await?;
        let flow = text.map(|text| serde_json::from_str(&text)).transpose();
        flow.map_err(|_| StoreError::corrupt(key, "a flow"))
    }

    /// Stores a key, and tells every API process.
    ///
    /// # Errors
    /// Fails where Redis does.
    pub async fn put_key(&self, key: &Key) -> Result<(), StoreError> {
        let name = self.registry().key(&key.id);
        let text = serde_json::to_string(key)
            .map_err(|_| StoreError::corrupt(&*name, "a key that can be stored"))?;
        let mut connection = self.registry().link().own_connection().await?;
        connection.set(name, text).await?;
        drop(connection);
        self.publish_change(&format!("key {}", key.id)).await
    }

    /// A key by its id.
    ///
    /// # Errors
    /// Fails where Redis does, or where the key does not decode.
    pub async fn key(&self, id: &KeyId) -> Result<Option<Key>, StoreError> {
        let name = self.registry().key(id);
        let text: Option<String> = self
            .registry()
            .link()
            .ask(redis::cmd("GET").arg(&name))
            .await?;
        let key = text.map(|text| serde_json::from_str(&text)).transpose();
        key.map_err(|_| StoreError::corrupt(name, "a key"))
    }

    /// Deletes a key, and tells every API process. Says whether there was one.
    ///
    /// # Errors
    /// Fails where Redis does.
    pub async fn delete_key(&self, id: &KeyId) -> Result<bool, StoreError> {
        let mut connection = self.registry().link().own_connection().await?;
        let deleted = connection.del(self.registry().key(id)).await? > 0;
        drop(connection);
        self.publish_change(&format!("key {id}")).await?;
        Ok(deleted)
    }
}
