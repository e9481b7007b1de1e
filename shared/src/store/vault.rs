//! Connections and secrets: kept sealed, so that Redis and its files tell
//! nothing.

use std::collections::BTreeMap;

use redis::{AsyncTypedCommands, from_redis_value};

use super::{Store, StoreError, connect::unexpected, scripts::SCRIPTS};
use crate::{
    connection::{Connection, NotSealed, SecretsKeys},
    id::{ConnectionName, SecretName},
};

/// How many connections, and how many secrets, there can be.
pub const VAULT_MAX: usize = 1_000;

/// Why something sealed could not be had or stored.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// Redis did not take or give it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It cannot be opened.
    #[error("{what} cannot be opened: {why}")]
    Sealed {
        /// What it is, by kind and name.
        what: String,
        /// Why not.
        why: NotSealed,
    },
    /// The system has no randomness to seal with.
    #[error("nothing can be sealed: {0}")]
    NoRandomness(#[from] getrandom::Error),
    /// There are [`VAULT_MAX`] already.
    #[error("there are {VAULT_MAX} already, and no more can be kept")]
    TooMany,
}

/// The connections and secrets of a store, with the keys to them.
#[derive(Clone, Copy)]
pub struct Vault<'s> {
    /// Where they are kept.
    pub store: &'s Store,
    /// What they are sealed with.
    pub keys: &'s SecretsKeys,
}

/// What is kept: each kind in a hash of its own, sealed under names that tell
/// them apart.
#[derive(Clone, Copy)]
enum Kind {
    Connection,
    Secret,
}

impl Kind {
    fn sealed_name(self, name: &str) -> String {
        match self {
            Self::Connection => format!("connection {name}"),
            Self::Secret => format!("secret {name}"),
        }
    }
}

impl Vault<'_> {
    /// Keeps a connection. Says whether it is new.
    ///
    /// # Errors
    /// Fails where Redis does, or there are too many.
    pub async fn put_connection(
        &self,
        name: &ConnectionName,
        connection: &Connection,
    ) -> Result<bool, VaultError> {
        let text = serde_json::to_string(connection).map_err(|_| self.corrupt(Kind::Connection))?;
        self.put(Kind::Connection, name.as_str(), &text).await
    }

    /// A connection by its name.
    ///
    /// # Errors
    /// Fails where Redis does, and where it cannot be opened.
    pub async fn connection(
        &self,
        name: &ConnectionName,
    ) -> Result<Option<Connection>, VaultError> {
        let text = self.get(Kind::Connection, name.as_str()).await?;
        let connection = text.map(|text| serde_json::from_str(&text)).transpose();
        connection.map_err(|_| self.corrupt(Kind::Connection).into())
    }

    /// All connections by their names. One that cannot be opened says why.
    ///
    /// # Errors
    /// Fails where Redis does.
    pub async fn connections(
        &self,
    ) -> Result<BTreeMap<String, Result<Connection, VaultError>>, VaultError> {
        let sealed = self.all(Kind::Connection).await?;
        let opened = sealed.into_iter().map(|(name, sealed)| {
            let text = self.opened(Kind::Connection, &name, &sealed);
            let connection = text.and_then(|text| {
                let connection = serde_json::from_str(&text);
                connection.map_err(|_| self.corrupt(Kind::Connection).into())
            });
            (name, connection)
        });
        Ok(opened.collect())
    }

    /// Deletes a connection. Says whether there was one.
    ///
    /// # Errors
    /// Fails where Redis does.
    pub async fn delete_connection(&self, name: &ConnectionName) -> Result<bool, VaultError> {
        self.delete(Kind::Connection, name.as_str()).await
    }

    /// Keeps a secret. Says whether it is new.
    ///
    /// # Errors
    /// Fails where Redis does, or there are too many.
    pub async fn put_secret(&self, name: &SecretName, value: &str) -> Result<bool, VaultError> {
        self.put(Kind::Secret, name.as_str(), value).await
    }

    /// A secret by its name.
    ///
    /// # Errors
    /// Fails where Redis does, and where it cannot be opened.
    pub async fn secret(&self, name: &SecretName) -> Result<Option<String>, VaultError> {
        self.get(Kind::Secret, name.as_str()).await
    }

    /// The names of all secrets.
    ///
    /// # Errors
    /// Fails where Redis does.
    pub async fn secret_names(&self) -> Result<Vec<String>, VaultError> {
        let sealed = self.all(Kind::Secret).await?;
        Ok(sealed.into_keys().collect())
    }

    /// Deletes a secret. Says whether there was one.
    ///
    /// # Errors
    /// Fails where Redis does.
    pub async fn delete_secret(&self, name: &SecretName) -> Result<bool, VaultError> {
        self.delete(Kind::Secret, name.as_str()).await
    }

    /// Seals everything that was sealed with an older key anew, and says how
    /// much that was.
    ///
    /// # Errors
    /// Fails where Redis does, and where something cannot be opened: what came
    /// before it is sealed anew then, and stays so.
    pub async fn reseal(&self) -> Result<usize, VaultError> {
        let mut resealed = 0;
        for kind in [Kind::Connection, Kind::Secret] {
            for (name, sealed) in self.all(kind).await? {
                if !self.keys.is_current(&sealed) {
                    let text = self.opened(kind, &name, &sealed)?;
                    let anew = self.keys.seal(&kind.sealed_name(&name), &text)?;
                    resealed += self.replace(kind, &name, &sealed, &anew).await?;
                }
            }
        }
        Ok(resealed)
    }

    /// Puts a sealed value in the place of another one. What somebody changed
    /// or deleted meanwhile stays as it is. Says how many it replaced.
    async fn replace(
        &self,
        kind: Kind,
        name: &str,
        there: &str,
        sealed: &str,
    ) -> Result<usize, VaultError> {
        let call = self.store.registry().call(&SCRIPTS.reseal);
        let call = call.key(self.key(kind)).argument(name);
        let answer = call.argument(there).argument(sealed).invoke().await;
        let replaced = from_redis_value(answer.map_err(StoreError::from)?);
        Ok(replaced.map_err(|_| unexpected("reseal"))?)
    }

    async fn put(&self, kind: Kind, name: &str, text: &str) -> Result<bool, VaultError> {
        let sealed = self.keys.seal(&kind.sealed_name(name), text)?;
        let key = self.key(kind);
        let mut connection = self.store.registry().link().own_connection().await?;
        let is_known = connection.hexists(&key, name).await;
        let is_known = is_known.map_err(StoreError::from)?;
        // A few more because of a race do no harm.
        if !is_known && connection.hlen(&key).await.map_err(StoreError::from)? >= VAULT_MAX {
            return Err(VaultError::TooMany);
        }
        let new = connection.hset(&key, name, sealed).await;
        Ok(new.map_err(StoreError::from)? > 0)
    }

    async fn get(&self, kind: Kind, name: &str) -> Result<Option<String>, VaultError> {
        let mut read = redis::cmd("HGET");
        read.arg(self.key(kind)).arg(name);
        let link = self.store.registry().link();
        let sealed: Option<String> = link.ask(&read).await.map_err(StoreError::from)?;
        let opened = sealed.map(|sealed| self.opened(kind, name, &sealed));
        opened.transpose()
    }

    async fn all(&self, kind: Kind) -> Result<BTreeMap<String, String>, VaultError> {
        let mut read = redis::cmd("HGETALL");
        let link = self.store.registry().link();
        let all = link.ask(read.arg(self.key(kind))).await;
        Ok(all.map_err(StoreError::from)?)
    }

    async fn delete(&self, kind: Kind, name: &str) -> Result<bool, VaultError> {
        let mut connection = self.store.registry().link().own_connection().await?;
        let deleted = connection.hdel(self.key(kind), name).await;
        Ok(deleted.map_err(StoreError::from)? > 0)
    }

    fn opened(&self, kind: Kind, name: &str, sealed: &str) -> Result<String, VaultError> {
        let what = kind.sealed_name(name);
        let opened = self.keys.open(&what, sealed);
        opened.map_err(|why| VaultError::Sealed { what, why })
    }

    fn key(&self, kind: Kind) -> String {
        match kind {
            Kind::Connection => self.store.registry().connections(),
            Kind::Secret => self.store.registry().secrets(),
        }
    }

    fn corrupt(&self, kind: Kind) -> StoreError {
        StoreError::corrupt(self.key(kind), "a connection")
    }
}
