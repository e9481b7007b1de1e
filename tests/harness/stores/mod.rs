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

/// A program that `./dev test` has got and names in a variable; otherwise the
/// one on the search path.
fn program(variable: &str, name: &str) -> PathBuf {
    crate::setting(variable).map_or_else(|| name.into(), PathBuf::from)
}
