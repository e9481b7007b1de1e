//! What holds for artifacts wherever they are kept.

use std::{fs, path::Path, time::Duration};

use object_store::memory::InMemory;

use super::*;

fn folder(path: &Path) -> Artifacts {
    let settings = ArtifactSettings {
        place: path.to_str().unwrap().parse().unwrap(),
    };
    Artifacts::open(&settings, "service").unwrap().unwrap()
}

fn bucket() -> (Artifacts, Arc<InMemory>) {
    let store = Arc::new(InMemory::new());
    let kept = Kept {
        shown: "s3://kept".to_owned(),
        place: Opened::Bucket(Bucket::of(store.clone(), "prefix/service")),
    };
    (Artifacts(Arc::new(kept)), store)
}

/// Pieces of `bytes` that are larger than what a bucket takes at once.
fn pieces(bytes: usize) -> impl Stream<Item = io::Result<Bytes>> + Send {
    let all: Vec<u8> = (0..bytes).map(|at| (at % 251) as u8).collect();
    let pieces = all.chunks(3 << 20).map(Bytes::copy_from_slice);
    stream::iter(pieces.map(Ok).collect::<Vec<_>>())
}

async fn put(artifacts: &Artifacts, name: &str, bytes: usize) -> Artifact {
    artifacts.put(name.to_owned(), pieces(bytes)).await.unwrap()
}

async fn names(artifacts: &Artifacts) -> Vec<String> {
    let mut names: Vec<_> = artifacts.list().try_collect().await.unwrap();
    names.sort();
    names
}

async fn what_was_put_comes_back(artifacts: &Artifacts) {
    assert_eq!(names(artifacts).await, [""; 0]);
    for bytes in [0, 1, 300_000, 20 << 20] {
        let artifact = put(artifacts, &format!("run/{bytes}"), bytes).await;
        assert_eq!(artifact.bytes, bytes as u64);
        let read = artifacts.read(&artifact).await.unwrap();
        let expected: Vec<Bytes> = pieces(bytes).try_collect().await.unwrap();
        assert!(read == expected.concat(), "{bytes} bytes");
    }
    assert_eq!(
        names(artifacts).await,
        ["run/0", "run/1", "run/20971520", "run/300000"]
    );
    for name in ["run/0", "run/0", "run/300000", "none/0"] {
        artifacts.delete(name).await.unwrap();
    }
    assert_eq!(names(artifacts).await, ["run/1", "run/20971520"]);
    let gone = Artifact {
        name: "run/300000".to_owned(),
        bytes: 300_000,
        sha256: String::new(),
    };
    let error = artifacts.read(&gone).await.unwrap_err();
    assert!(matches!(error, ArtifactError::Gone { .. }), "{error}");
    assert_eq!(
        error.to_string(),
        "`run/300000` is gone from the artifact store"
    );
}

#[tokio::test]
async fn what_was_put_comes_back_from_a_folder() {
    let place = tempfile::tempdir().unwrap();
    what_was_put_comes_back(&folder(place.path())).await;
}

#[tokio::test]
async fn what_was_put_comes_back_from_a_bucket() {
    what_was_put_comes_back(&bucket().0).await;
}

#[tokio::test]
async fn what_breaks_off_is_not_there() {
    let place = tempfile::tempdir().unwrap();
    for artifacts in [folder(place.path()), bucket().0] {
        for bytes in [10, 20 << 20] {
            let broken = pieces(bytes).chain(stream::iter([Err(io::Error::other("broken"))]));
            let put = artifacts.put("run/a".to_owned(), broken).await;
            assert!(matches!(put, Err(ArtifactError::Source(_))));
            assert_eq!(names(&artifacts).await, [""; 0]);
        }
    }
}

#[tokio::test]
async fn what_is_stopped_halfway_leaves_nothing_and_what_is_killed_is_found() {
    let place = tempfile::tempdir().unwrap();
    let artifacts = folder(place.path());
    let endless = pieces(1000).chain(stream::pending());
    let stopped = artifacts.put("run/a".to_owned(), endless);
    let short = Duration::from_millis(200);
    assert!(tokio::time::timeout(short, stopped).await.is_err());
    assert_eq!(names(&artifacts).await, [""; 0]);

    fs::write(place.path().join("service/run/b.draft"), "half").unwrap();
    fs::write(place.path().join("service/notes"), "a file of a person").unwrap();
    assert_eq!(names(&artifacts).await, ["run/b.draft"]);
    artifacts.delete("run/b.draft").await.unwrap();
    assert!(!place.path().join("service/run").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_that_is_taken_away_as_empty_is_made_again() {
    let place = tempfile::tempdir().unwrap();
    let artifacts = folder(place.path());
    let deleting = artifacts.clone();
    let deleting = tokio::spawn(async move {
        loop {
            deleting.delete("run/other").await.unwrap();
        }
    });
    for _ in 0..300 {
        put(&artifacts, "run/a", 1).await;
        artifacts.delete("run/a").await.unwrap();
    }
    deleting.abort();
}

#[tokio::test]
async fn damage_is_found_before_the_last_piece_is_handed_on() {
    let place = tempfile::tempdir().unwrap();
    let artifacts = folder(place.path());
    let artifact = put(&artifacts, "run/a", 1_000_000).await;
    let path = place.path().join("service/run/a");
    let whole = fs::read(&path).unwrap();
    for damaged in [0, 999_999] {
        let mut bytes = whole.clone();
        bytes[damaged] ^= 1;
        fs::write(&path, &bytes).unwrap();
        let chunks = artifacts.get(&artifact).await.unwrap();
        let chunks: Vec<_> = chunks.collect().await;
        let (last, before) = chunks.split_last().unwrap();
        let error = last.as_ref().unwrap_err();
        assert!(error.is_lost() && !error.is_passing(), "{error}");
        let handed_on: usize = before.iter().flatten().map(Bytes::len).sum();
        assert!(handed_on < 1_000_000, "{handed_on}");
    }
    fs::write(&path, &whole[1..]).unwrap();
    let error = artifacts.get(&artifact).await.err().unwrap();
    assert!(matches!(error, ArtifactError::Damaged { .. }), "{error}");
}

#[tokio::test]
async fn services_that_share_a_place_do_not_see_what_is_anothers() {
    let place = tempfile::tempdir().unwrap();
    let settings = ArtifactSettings {
        place: place.path().to_str().unwrap().parse().unwrap(),
    };
    let [one, other] = ["one", "other"].map(|service| {
        let opened = Artifacts::open(&settings, service);
        opened.unwrap().unwrap()
    });
    put(&one, "run/a", 1).await;
    assert_eq!(names(&one).await, ["run/a"]);
    assert_eq!(names(&other).await, [""; 0]);
}

#[test]
fn a_folder_that_cannot_be_used_is_named() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("file");
    fs::write(&file, "").unwrap();
    for (path, reason) in [
        (Path::new("/proc/none/such"), "it is not there"),
        (&file, "something that is no folder"),
    ] {
        let settings = ArtifactSettings {
            place: path.to_str().unwrap().parse().unwrap(),
        };
        let error = Artifacts::open(&settings, "service")
            .unwrap_err()
            .to_string();
        assert!(error.contains(path.to_str().unwrap()), "{error}");
        assert!(error.contains("MILLSTREAM_ARTIFACTS"), "{error}");
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn what_may_pass_is_told_from_what_stays() {
    let io = |kind: io::ErrorKind| ArtifactError::of_io("/x", kind.into());
    assert!(matches!(
        io(io::ErrorKind::StorageFull),
        ArtifactError::Full { .. }
    ));
    assert!(io(io::ErrorKind::TimedOut).is_passing());
    let denied = io(io::ErrorKind::PermissionDenied);
    assert!(!denied.is_passing() && !denied.is_lost());
    let away = ArtifactError::of_bucket(
        "s3://kept",
        object_store::Error::Generic {
            store: "S3",
            source: "connection refused".into(),
        },
    );
    assert!(away.is_passing());
    assert_eq!(
        away.to_string(),
        "the artifact store `s3://kept` (MILLSTREAM_ARTIFACTS) does not answer"
    );
}
