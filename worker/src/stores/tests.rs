//! Objects, as steps find, read and write them, in a store in memory.

use std::{
    io::{Read, Write},
    sync::Arc,
};

use millstream_shared::byte_size::ByteSize;
use object_store::{ObjectStore, ObjectStoreExt, memory::InMemory, path::Path};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use super::{Limits, Objects, RemoteFile, StoreError, bucket::Bucket};

/// A bucket `raw` of a test's own.
struct Place {
    store: Arc<InMemory>,
    runtime: Runtime,
    folder: tempfile::TempDir,
    cancelled: CancellationToken,
}

impl Place {
    fn new() -> Self {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        Self {
            store: Arc::new(InMemory::new()),
            runtime: runtime.worker_threads(1).enable_all().build().unwrap(),
            folder: tempfile::tempdir().unwrap(),
            cancelled: CancellationToken::new(),
        }
    }

    fn put(&self, key: &str, bytes: impl Into<Vec<u8>>) {
        let key = Path::parse(key).unwrap();
        let put = self.store.put(&key, bytes.into().into());
        self.runtime.block_on(put).unwrap();
    }

    fn bytes(&self, key: &str) -> Option<Vec<u8>> {
        let key = Path::parse(key).unwrap();
        self.runtime.block_on(async {
            let got = self.store.get(&key).await.ok()?;
            Some(got.bytes().await.unwrap().to_vec())
        })
    }

    fn at(&self, key: &str) -> Objects {
        let store: Arc<dyn ObjectStore> = Arc::clone(&self.store) as _;
        Objects {
            bucket: Arc::new(Bucket {
                store,
                address: "s3://raw/".to_owned(),
                connection: "lake".to_owned(),
            }),
            key: key.to_owned(),
            runtime: self.runtime.handle().clone(),
            folder: self.folder.path().to_owned(),
            cancelled: self.cancelled.clone(),
        }
    }

    fn matching(&self, key: &str) -> Result<Vec<RemoteFile>, StoreError> {
        let limits = Limits {
            files: 3,
            disk: ByteSize::of(64 << 20),
        };
        self.at(key).matching(limits)
    }

    fn names(&self, key: &str) -> Vec<String> {
        let files = self.matching(key).unwrap();
        files.into_iter().map(|file| file.shown).collect()
    }

    fn refusal(&self, key: &str) -> (&'static str, String) {
        let error = self.matching(key).err().unwrap();
        (error.code, error.message)
    }
}

#[test]
fn a_pattern_names_objects_in_order() {
    let place = Place::new();
    for key in ["b.csv", "a.csv", "in/deep/c.csv", ".hidden.csv", "in/x.txt"] {
        place.put(key, "x\n1\n");
    }
    // As consoles show an empty folder.
    place.put("in/deep", "");
    assert_eq!(place.names("*.csv"), ["s3://raw/a.csv", "s3://raw/b.csv"]);
    assert_eq!(place.names("in/**/*.csv"), ["s3://raw/in/deep/c.csv"]);
    assert_eq!(place.names("in/*"), ["s3://raw/in/x.txt"]);
    assert_eq!(place.names("in/deep/c.csv"), ["s3://raw/in/deep/c.csv"]);
    let files = place.matching("in/*/*.csv").unwrap();
    assert_eq!(
        (files[0].inside.as_str(), files[0].bytes),
        ("in/deep/c.csv", 4)
    );
}

#[test]
fn what_names_no_object_is_refused() {
    let place = Place::new();
    for key in ["1", "2", "3", "4"] {
        place.put(&format!("many/{key}"), "x");
    }
    for (key, code, start) in [
        (
            "none.csv",
            "file_not_found",
            "reading `s3://raw/none.csv` failed: there is no such object",
        ),
        (
            "none/*.csv",
            "file_not_found",
            "no object matches `s3://raw/none/*.csv`",
        ),
        (
            "many/*",
            "too_many_files",
            "`s3://raw/many` matches more than 3 objects",
        ),
        ("a/***", "bad_pattern", "`s3://raw/a/***` is not a pattern"),
        (
            "a/../b.csv",
            "file_refused",
            "`s3://raw/a/../b.csv` cannot be used",
        ),
        (
            "a/../*.csv",
            "file_refused",
            "`s3://raw/a/../*.csv` cannot be used",
        ),
        ("/a.csv", "file_refused", "`s3://raw//a.csv` cannot be used"),
        (
            "a/",
            "file_refused",
            "`s3://raw/a/` does not name an object",
        ),
        ("", "file_refused", "`s3://raw/` does not name an object"),
    ] {
        let (found, message) = place.refusal(key);
        assert_eq!(found, code, "{key}: {message}");
        assert!(message.starts_with(start), "{message}");
    }
}

fn large() -> Vec<u8> {
    let numbers = 0_u32..(9 << 18);
    numbers.flat_map(u32::to_le_bytes).collect()
}

#[test]
fn a_large_object_is_read_in_pieces_and_as_a_whole() {
    let place = Place::new();
    let bytes = large();
    place.put("large", bytes.clone());
    place.put("empty", "");
    let file = place.matching("large").unwrap().remove(0);
    let mut streamed = Vec::new();
    file.stream().unwrap().read_to_end(&mut streamed).unwrap();
    assert!(streamed == bytes);
    let pieces = file.pieces().unwrap();
    let ranges = [3..7, 5_000_000..9_000_001];
    let got = pieces.wait(pieces.ranges(&ranges)).unwrap();
    assert!(got[0] == bytes[3..7] && got[1] == bytes[5_000_000..9_000_001]);
    let mut whole = Vec::new();
    file.whole().unwrap().read_to_end(&mut whole).unwrap();
    assert!(whole == bytes);
    // It is here now, and gone with its handle.
    assert!(file.pieces().is_none());
    assert_eq!(place.folder.path().read_dir().unwrap().count(), 1);
    drop(file);
    assert_eq!(place.folder.path().read_dir().unwrap().count(), 0);
    let empty = place.matching("empty").unwrap().remove(0);
    assert_eq!(empty.stream().unwrap().read_to_end(&mut whole).unwrap(), 0);
}

#[test]
fn an_object_that_is_changed_while_it_is_read_is_noticed() {
    let place = Place::new();
    for changed in [Some(vec![1; large().len()]), Some(vec![1]), None] {
        place.put("large", large());
        let file = place.matching("large").unwrap().remove(0);
        match changed {
            Some(bytes) => place.put("large", bytes),
            None => {
                let key = Path::parse("large").unwrap();
                place.runtime.block_on(place.store.delete(&key)).unwrap();
            }
        }
        let read = file.stream().unwrap().read_to_end(&mut Vec::new());
        assert!(read.is_err());
        let error = file.failure().unwrap();
        assert_eq!((error.code, error.is_passing), ("file_changed", true));
        assert_eq!(
            error.message,
            "`s3://raw/large` was changed while it was read"
        );
    }
}

#[test]
fn an_object_appears_when_all_of_it_is_there() {
    let place = Place::new();
    let bytes = large();
    for (key, bytes) in [("large", &bytes[..]), ("small", b"x"), ("empty", b"")] {
        place.put(key, "old");
        let mut upload = place.at(key).upload().unwrap();
        upload.write_all(bytes).unwrap();
        assert_eq!(place.bytes(key).unwrap(), b"old");
        assert_eq!(upload.appear().unwrap(), bytes.len() as u64);
        assert!(place.bytes(key).unwrap() == bytes, "{key}");
    }
    let mut dropped = place.at("other").upload().unwrap();
    dropped.write_all(&bytes).unwrap();
    drop(dropped);
    assert!(place.bytes("other").is_none());
}

#[test]
fn cancelled_work_ends_at_once() {
    let place = Place::new();
    place.put("large", large());
    let file = place.matching("large").unwrap().remove(0);
    let mut upload = place.at("other").upload().unwrap();
    place.cancelled.cancel();
    assert!(file.stream().unwrap().read_to_end(&mut Vec::new()).is_err());
    assert_eq!(file.failure().unwrap().code, StoreError::CANCELLED);
    assert!(upload.write_all(&large()).is_err());
    assert_eq!(upload.failure().unwrap().code, StoreError::CANCELLED);
    assert_eq!(place.refusal("large").0, StoreError::CANCELLED);
}
