//! The objects of one bucket or container.

use std::{collections::HashSet, ops::Range, path::PathBuf, sync::Arc};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use glob::{MatchOptions, Pattern};
use millstream_shared::flow::place;
use object_store::{
    GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt, PutPayload, path::Path,
};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::{
    error::{Doing, StoreError},
    remote_file::{Limits, RemoteFile, Source},
    upload::Upload,
    waiting::Waiting,
};

/// The most objects that are listed to find those of a pattern, or to find out
/// what is replaced.
const LISTED_MAX: usize = 1_000_000;

/// One bucket or container.
pub(super) struct Bucket {
    pub(super) store: Arc<dyn ObjectStore>,
    /// How the addresses of its objects start, such as `s3://raw/`.
    pub(super) address: String,
    /// The name of the connection that leads to it.
    pub(super) connection: String,
}

impl Bucket {
    /// The address of an object.
    pub(super) fn shown(&self, key: &str) -> String {
        format!("{}{key}", self.address)
    }

    /// A failure with what was tried on an object.
    pub(super) fn failed(&self, what: &str, key: &str, error: &object_store::Error) -> StoreError {
        let shown = self.shown(key);
        let doing = Doing {
            what,
            shown: &shown,
            connection: &self.connection,
        };
        doing.failed(error)
    }

    /// What is to be known of an object before it is read.
    async fn facts(&self, key: &Path) -> Result<ObjectMeta, StoreError> {
        let error = match self.store.head(key).await {
            Ok(facts) => return Ok(facts),
            Err(error) => self.failed("reading", key.as_ref(), &error),
        };
        // The answer has no body, which would say what it is that is not there
        // or not allowed. That of a list has one.
        let listed = match error.is_passing {
            true => None,
            false => self.store.list(Some(key)).next().await,
        };
        match listed {
            Some(Err(reason)) => {
                let reason = self.failed("reading", key.as_ref(), &reason);
                let is_about_object = error.code == "file_not_found";
                let is_worse = reason.code != "access_denied" || !is_about_object;
                Err(if is_worse { reason } else { error })
            }
            _ => Err(error),
        }
    }

    /// Some bytes of an object, which must still be the one that was found.
    pub(super) async fn range(
        &self,
        facts: &ObjectMeta,
        range: Range<u64>,
    ) -> Result<Bytes, StoreError> {
        let key = facts.location.as_ref();
        let options = GetOptions {
            // Lists of Azure leave the quotes out, without which it is no tag.
            if_match: facts.e_tag.clone().filter(|tag| tag.ends_with('"')),
            range: Some(GetRange::Bounded(range.clone())),
            ..GetOptions::default()
        };
        let failed = |error| self.failed("reading", key, &error);
        let got = self.store.get_opts(&facts.location, options).await;
        let got = match got {
            Err(object_store::Error::NotFound { .. }) => {
                return Err(StoreError::changed(&self.shown(key)));
            }
            got => got.map_err(failed)?,
        };
        let tag = |facts: &ObjectMeta| facts.e_tag.as_deref().map(quoted);
        let (found, given) = (tag(facts), tag(&got.meta));
        let is_same =
            got.meta.size == facts.size && (found.is_none() || given.is_none() || found == given);
        if !is_same {
            return Err(StoreError::changed(&self.shown(key)));
        }
        let bytes = got.bytes().await.map_err(failed)?;
        let expected = range.end - range.start;
        if bytes.len() as u64 != expected {
            let shown = self.shown(key);
            return Err(StoreError::cut_off(&shown, expected, bytes.len() as u64));
        }
        Ok(bytes)
    }

    /// Puts a whole object in its place.
    pub(super) async fn put(&self, key: &Path, bytes: Bytes) -> Result<(), StoreError> {
        let put = self.store.put(key, PutPayload::from(bytes)).await;
        let put = put.map_err(|error| self.failed("writing", key.as_ref(), &error));
        put.map(drop)
    }

    /// The objects below `prefix`, in the order of their names, that are
    /// `wanted`. The empty ones that some programs make to show folders do not
    /// count.
    async fn objects(
        &self,
        prefix: &str,
        wanted: impl Fn(&str) -> bool,
        limit: usize,
    ) -> Result<Vec<ObjectMeta>, StoreError> {
        let failed = |error| self.failed("listing", prefix, &error);
        let too_many = |what: &str, limit| {
            let shown = self.shown(prefix);
            let message = format!("`{shown}` {what} more than {limit} objects");
            Err(StoreError::refused("too_many_files", message))
        };
        let path = Path::parse(prefix).map_err(|error| failed(error.into()))?;
        let mut listed = self.store.list(Some(&path));
        let (mut found, mut folders, mut count) = (Vec::new(), HashSet::new(), 0_usize);
        while let Some(object) = listed.try_next().await.map_err(failed)? {
            count += 1;
            if count > LISTED_MAX {
                return too_many("holds", LISTED_MAX);
            }
            let key = object.location.as_ref();
            if let Some((folder, _)) = key.rsplit_once('/') {
                folders.insert(folder.to_owned());
            }
            if wanted(key) && key != path.as_ref() {
                found.push(object);
            }
            if found.len() > limit {
                return too_many("matches", limit);
            }
        }
        found.retain(|object| object.size > 0 || !folders.contains(object.location.as_ref()));
        found.sort_by(|one, other| one.location.cmp(&other.location));
        Ok(found)
    }
}

/// An entity tag as HTTP writes it.
fn quoted(tag: &str) -> String {
    match tag.ends_with('"') {
        true => tag.to_owned(),
        false => format!("\"{tag}\""),
    }
}

/// Where objects lie, or are to lie: a name in a bucket, or a pattern of names.
#[derive(Clone)]
pub(crate) struct Objects {
    pub(super) bucket: Arc<Bucket>,
    /// A name, a pattern, or where a set of objects starts.
    pub(super) key: String,
    pub(super) runtime: Handle,
    /// Where files are kept on disk for a while.
    pub(super) folder: PathBuf,
    /// Cancelled when nobody wants them any more.
    pub(super) cancelled: CancellationToken,
}

impl Objects {
    /// Their address.
    pub(crate) fn shown(&self) -> String {
        self.bucket.shown(&self.key)
    }

    /// The folder for what has to be on disk while it is written.
    pub(crate) fn folder(&self) -> &std::path::Path {
        &self.folder
    }

    /// Those that the name or pattern means, in the order of their names; at
    /// least one.
    pub(crate) fn matching(&self, limits: Limits) -> Result<Vec<RemoteFile>, StoreError> {
        let waiting = self.waiting();
        let found = if place::is_pattern(&self.key) {
            waiting.on(self.found(limits.files))?
        } else {
            let key = self.name()?;
            vec![waiting.on(self.bucket.facts(&key))?]
        };
        let file = |facts: ObjectMeta| {
            let key = facts.location.to_string();
            let (shown, bytes) = (self.bucket.shown(&key), facts.size);
            let bucket = Arc::clone(&self.bucket);
            let source = Source::Object { bucket, facts };
            let waiting = waiting.clone();
            RemoteFile::new((shown, key), bytes, source, waiting, (&self.folder, limits))
        };
        Ok(found.into_iter().map(file).collect())
    }

    async fn found(&self, limit: usize) -> Result<Vec<ObjectMeta>, StoreError> {
        let shown = self.shown();
        let pattern = Pattern::new(&self.key).map_err(|error| {
            let message = format!("`{shown}` is not a pattern: {}", error.msg);
            StoreError::refused("bad_pattern", message)
        })?;
        let options = MatchOptions {
            case_sensitive: true,
            require_literal_separator: true,
            require_literal_leading_dot: true,
        };
        let parts = self.key.split('/');
        let fixed: Vec<&str> = parts.take_while(|part| !place::is_pattern(part)).collect();
        let fixed = fixed.join("/");
        self.check(&fixed)?;
        let wanted = |key: &str| pattern.matches_with(key, options);
        let found = self.bucket.objects(&fixed, wanted, limit).await?;
        if found.is_empty() {
            let message = format!("no object matches `{shown}`");
            return Err(StoreError::refused("file_not_found", message));
        }
        Ok(found)
    }

    /// A way to write the object of this name, which appears only when all of
    /// it is there.
    pub(crate) fn upload(&self) -> Result<Upload, StoreError> {
        let bucket = Arc::clone(&self.bucket);
        Ok(Upload::new(bucket, self.name()?, self.waiting()))
    }

    /// The same for an object below this name.
    pub(crate) fn upload_below(&self, inside: &str) -> Result<Upload, StoreError> {
        self.below(inside).upload()
    }

    /// The names of the objects below this one, without it.
    pub(crate) fn names_below(&self) -> Result<Vec<String>, StoreError> {
        let prefix = self.name()?;
        let all = self.bucket.objects(prefix.as_ref(), |_| true, LISTED_MAX);
        let all = self.waiting().on(all)?;
        let start = format!("{prefix}/");
        let name = |object: &ObjectMeta| {
            let name = object.location.as_ref().strip_prefix(&start);
            name.map(str::to_owned)
        };
        Ok(all.iter().filter_map(name).collect())
    }

    /// Removes objects below this name.
    pub(crate) fn remove_below(&self, names: &[String]) -> Result<(), StoreError> {
        let keys = names.iter().map(|name| self.below(name).name());
        let keys = keys.collect::<Result<Vec<_>, _>>()?;
        let failed = |error| self.bucket.failed("replacing", &self.key, &error);
        let removing = async {
            let keys = stream::iter(keys.into_iter().map(Ok)).boxed();
            let mut removed = self.bucket.store.delete_stream(keys);
            loop {
                match removed.try_next().await {
                    // Somebody else has removed it.
                    Ok(Some(_)) | Err(object_store::Error::NotFound { .. }) => {}
                    Ok(None) => return Ok(()),
                    Err(error) => return Err(failed(error)),
                }
            }
        };
        self.waiting().on(removing)
    }

    /// As a set of objects below a name: it may end with a slash.
    pub(crate) fn as_prefix(&self) -> Self {
        Self {
            key: self.key.trim_end_matches('/').to_owned(),
            ..self.clone()
        }
    }

    fn below(&self, inside: &str) -> Self {
        Self {
            key: format!("{}/{inside}", self.key),
            ..self.clone()
        }
    }

    fn waiting(&self) -> Waiting {
        Waiting {
            runtime: self.runtime.clone(),
            cancelled: self.cancelled.clone(),
        }
    }

    fn name(&self) -> Result<Path, StoreError> {
        if self.key.is_empty() || self.key.ends_with('/') {
            let message = format!("`{}` does not name an object", self.shown());
            return Err(StoreError::refused("file_refused", message));
        }
        self.check(&self.key)
    }

    fn check(&self, key: &str) -> Result<Path, StoreError> {
        let path = Path::parse(key).ok().filter(|_| !key.starts_with('/'));
        path.ok_or_else(|| {
            let shown = self.shown();
            let message = format!(
                "`{shown}` cannot be used: the parts between slashes must not be empty, `.` or \
                 `..`, and must not hold control characters"
            );
            StoreError::refused("file_refused", message)
        })
    }
}
