//! Connections as an administrator keeps them, opened for the steps that name
//! them.

use millstream_shared::{
    connection::{Connection, SecretsKeys},
    id::ConnectionName,
    store::{Store, Vault, VaultError},
};

/// The connections of the vault, for who has its keys.
#[derive(Clone)]
pub(crate) struct Connections {
    store: Store,
    keys: Option<SecretsKeys>,
}

/// Why a connection cannot be had.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct ConnectionError {
    /// A stable word for the cause.
    pub(crate) code: &'static str,
    /// One sentence for people, without any secret.
    pub(crate) message: String,
    /// Whether another attempt may go better.
    pub(crate) is_passing: bool,
}

impl Connections {
    /// Those that are kept in `store`.
    pub(crate) fn new(store: Store, keys: Option<SecretsKeys>) -> Self {
        Self { store, keys }
    }

    /// A connection by its name, as it is at this moment.
    pub(crate) async fn named(&self, name: &ConnectionName) -> Result<Connection, ConnectionError> {
        match self.vault()?.connection(name).await {
            Ok(Some(connection)) => Ok(connection),
            Ok(None) => Err(ConnectionError {
                code: "unknown_connection",
                message: format!("there is no connection `{name}`"),
                is_passing: false,
            }),
            Err(error) => Err(unopened(&format!("the connection `{name}`"), &error)),
        }
    }

    /// All that are `wanted`, by their names. One that cannot be opened is left
    /// out: nobody asked for it.
    pub(crate) async fn all(
        &self,
        wanted: impl Fn(&Connection) -> bool,
    ) -> Result<Vec<(String, Connection)>, ConnectionError> {
        let all = self.vault()?.connections().await;
        let all = all.map_err(|error| unopened("the connections", &error))?;
        let opened = all
            .into_iter()
            .filter_map(|(name, connection)| Some((name, connection.ok()?)));
        Ok(opened
            .filter(|(_, connection)| wanted(connection))
            .collect())
    }

    fn vault(&self) -> Result<Vault<'_>, ConnectionError> {
        let Some(keys) = &self.keys else {
            return Err(ConnectionError {
                code: "no_secrets_key",
                message: "this worker cannot open connections, since it has no --secrets-key"
                    .to_owned(),
                is_passing: false,
            });
        };
        Ok(Vault {
            store: &self.store,
            keys,
        })
    }
}

fn unopened(what: &str, error: &VaultError) -> ConnectionError {
    match error {
        VaultError::Store(error) if error.is_passing() => ConnectionError {
            code: "store",
            message: format!("{what} cannot be looked up: {error}"),
            is_passing: true,
        },
        error => ConnectionError {
            code: "sealed_connection",
            message: error.to_string(),
            is_passing: false,
        },
    }
}
