//! Files that do not lie on this machine: in object stores and on the web.
//!
//! Steps read and write files on threads that may block, so what is here looks
//! to them like local files: a stream of bytes, bytes at a place, and something
//! to write to. What goes over the network happens on the worker's runtime, and
//! ends when nobody wants it any more.

mod bucket;
mod connect;
mod error;
mod read_ahead;
mod remote_file;
#[cfg(test)]
mod tests;
mod upload;
mod waiting;
mod web;

use std::{path::PathBuf, sync::Arc};

use millstream_shared::{
    connection::Connection,
    flow::place::{self, Place, StoreKind},
    id::ConnectionName,
};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

pub(crate) use bucket::Objects;
pub(crate) use error::StoreError;
pub(crate) use remote_file::{Limits, Reading, RemoteFile};
pub(crate) use upload::Upload;
pub(crate) use web::Web;

use self::bucket::Bucket;
use crate::{
    connections::Connections,
    mask::Mask,
    steps::{Client, WebAddress},
};

/// Finds out where files lie that steps name.
pub(crate) struct Stores {
    connections: Connections,
    http: Client,
    runtime: Handle,
    /// Where files are kept on disk for a while.
    folder: PathBuf,
}

/// Where files lie, or are to lie.
#[derive(Clone)]
pub(crate) enum Location {
    /// In the local folders, at this path.
    Local(String),
    /// In an object store.
    Objects(Objects),
    /// On the web, where they can only be read.
    Web(Web),
}

impl Location {
    /// How errors and results call it, without anything secret.
    pub(crate) fn shown(&self) -> String {
        match self {
            Self::Local(path) => path.clone(),
            Self::Objects(objects) => objects.shown(),
            Self::Web(web) => web.shown(),
        }
    }
}

impl Stores {
    /// What `connections` lead to, and the web. It is to be called on the
    /// runtime that the network is used on. `folder` is for files that are kept
    /// on disk for a while.
    pub(crate) fn new(connections: Connections, http: Client, folder: PathBuf) -> Self {
        Self {
            connections,
            http,
            runtime: Handle::current(),
            folder,
        }
    }

    /// Where the files lie that a step names by `path` and `connection`. The
    /// secrets of the connection are hidden by `mask` from then on. What is done
    /// there ends when it is `cancelled`.
    pub(crate) async fn locate(
        &self,
        path: &str,
        connection: Option<&ConnectionName>,
        (mask, cancelled): (&Mask, &CancellationToken),
    ) -> Result<Location, StoreError> {
        let place = place::of_path(path)
            .map_err(|error| StoreError::refused("file_refused", error.to_string()))?;
        let (name, connection) = match (place, connection) {
            (Place::Relative(path), None) => return Ok(Location::Local(path.to_owned())),
            (Place::Web(url), None) => {
                let address = WebAddress::of(url, None, mask)?;
                return Ok(Location::Web(self.web(address, cancelled)));
            }
            (Place::Object { store, bucket, .. }, None) => self.leading_to(store, bucket).await?,
            (_, Some(name)) => (name.to_string(), self.connections.named(name).await?),
        };
        mask.add(connection.secret_values().iter().map(String::as_str));
        match (place, &connection) {
            (Place::Object { store, bucket, key }, _) => {
                let is_there = connection.kind() == store.connection_kind()
                    && connection.bucket() == Some(bucket);
                if !is_there {
                    let message = format!("the connection `{name}` does not lead to `{path}`");
                    return Err(StoreError::refused("wrong_connection", message));
                }
                self.objects(key, name, &connection, cancelled)
            }
            (Place::Relative(text) | Place::Web(text), Connection::Http(_)) => {
                let address = WebAddress::of(text, Some(connection), mask)?;
                Ok(Location::Web(self.web(address, cancelled)))
            }
            (Place::Relative(path), _) => self.objects(path, name, &connection, cancelled),
            (Place::Web(_), _) => {
                let message = format!("the connection `{name}` does not lead to `{path}`");
                Err(StoreError::refused("wrong_connection", message))
            }
        }
    }

    /// The one connection that leads to a bucket.
    async fn leading_to(
        &self,
        store: StoreKind,
        bucket: &str,
    ) -> Result<(String, Connection), StoreError> {
        let kind = store.connection_kind();
        let is_wanted = |connection: &Connection| {
            connection.kind() == kind && connection.bucket() == Some(bucket)
        };
        let mut found = self.connections.all(is_wanted).await?;
        let scheme = store.scheme();
        match found.len() {
            1 => Ok(found.remove(0)),
            0 => {
                let message = format!(
                    "no connection of the kind `{kind}` leads to `{scheme}://{bucket}`: an \
                     administrator adds one, or `connection` names another"
                );
                Err(StoreError::refused("unknown_connection", message))
            }
            _ => {
                let names: Vec<String> = found.into_iter().map(|(name, _)| name).collect();
                let names = names.join("`, `");
                let message = format!(
                    "several connections lead to `{scheme}://{bucket}`: `connection` must say \
                     which of `{names}` is meant"
                );
                Err(StoreError::refused("ambiguous_connection", message))
            }
        }
    }

    fn objects(
        &self,
        key: &str,
        name: String,
        connection: &Connection,
        cancelled: &CancellationToken,
    ) -> Result<Location, StoreError> {
        let store = connect::store(connection)?;
        let scheme = match connection {
            Connection::Azure(_) => StoreKind::Azure.scheme(),
            Connection::Gcs(_) => StoreKind::Gcs.scheme(),
            _ => StoreKind::S3.scheme(),
        };
        let bucket = connection.bucket().unwrap_or_default();
        Ok(Location::Objects(Objects {
            bucket: Arc::new(Bucket {
                store,
                address: format!("{scheme}://{bucket}/"),
                connection: name,
            }),
            key: key.to_owned(),
            runtime: self.runtime.clone(),
            folder: self.folder.clone(),
            cancelled: cancelled.clone(),
        }))
    }

    fn web(&self, address: WebAddress, cancelled: &CancellationToken) -> Web {
        Web {
            client: self.http.clone(),
            address,
            runtime: self.runtime.clone(),
            folder: self.folder.clone(),
            cancelled: cancelled.clone(),
        }
    }
}
