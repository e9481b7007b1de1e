//! Stores of a test's own, as flows reach them.

mod azure;
mod s3;
mod web;

use std::path::PathBuf;

use object_store::{ObjectStore, ObjectStoreExt, path::Path};

pub use azure::PrivateAzure;
pub use s3::PrivateS3;
pub use web::{Serving, WebFiles};

/// The objects of a bucket or container, as a program beside the flows sees
/// them.
#[derive(Debug)]
pub struct Bucket(Box<dyn ObjectStore>);

impl Bucket {
    /// Puts an object in its place.
    pub async fn put(&self, key: &str, bytes: impl Into<Vec<u8>>) {
        let bytes: Vec<u8> = bytes.into();
        self.0.put(&at(key), bytes.into()).await.unwrap();
    }

    /// An object; none where there is none.
    pub async fn bytes(&self, key: &str) -> Option<Vec<u8>> {
        match self.0.get(&at(key)).await {
            Ok(got) => Some(got.bytes().await.unwrap().to_vec()),
            Err(object_store::Error::NotFound { .. }) => None,
            Err(error) => panic!("{key}: {error}"),
        }
    }

    /// An object that is text; empty where there is none.
    pub async fn text(&self, key: &str) -> String {
        let bytes = self.bytes(key).await.unwrap_or_default();
        String::from_utf8(bytes).unwrap()
    }

    /// The names of all objects, in order.
    pub async fn names(&self) -> Vec<String> {
        use futures::TryStreamExt;
        let listed: Vec<_> = self.0.list(None).try_collect().await.unwrap();
        let mut names: Vec<String> = listed
            .iter()
            .map(|object| object.location.to_string())
            .collect();
        names.sort();
        names
    }
}

fn at(key: &str) -> Path {
    Path::parse(key).unwrap()
}

/// A program that `./dev test` has got as part of a package: named by a variable,
/// or in the folder where it keeps such ones, or on the search path.
fn program(variable: &str, package: &str, path: &str) -> PathBuf {
    if let Some(named) = crate::setting(variable) {
        return named.into();
    }
    let cache = crate::setting("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || Some(PathBuf::from(crate::setting("HOME")?).join(".cache"));
    let servers = cache.or_else(home).unwrap_or_default();
    let kept = std::fs::read_dir(servers.join("millstream/servers"));
    let mut kept: Vec<PathBuf> = kept
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(package))
        .map(|entry| entry.path().join(path))
        .filter(|program| program.exists())
        .collect();
    kept.sort();
    let name = path.rsplit('/').next().unwrap_or(path);
    kept.pop().unwrap_or_else(|| name.into())
}
