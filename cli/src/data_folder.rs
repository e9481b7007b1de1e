//! The folder in which `up` keeps everything, and where the other commands
//! find how to talk to it.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{Read, Seek, SeekFrom, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, anyhow, bail};
use millstream_shared::{access::key_text, connection::SecretsKeys};
use serde::{Deserialize, Serialize};

const ADMIN_KEY: &str = "admin-key";
const SECRETS_KEY: &str = "secrets-key";
const RUNNING: &str = "up.json";

/// A data folder that belongs to this process as long as the value lives.
#[derive(Debug)]
pub(crate) struct DataFolder {
    path: PathBuf,
    /// The lock goes with the open file, also when the process is killed.
    _lock: File,
}

/// A key of administration that `up` made.
#[derive(Debug)]
pub(crate) struct AdminKey {
    pub(crate) text: String,
    /// Nobody has seen it yet.
    pub(crate) is_new: bool,
}

/// Where a running `up` can be reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Running {
    /// Address of the API, with its base path.
    pub(crate) url: String,
    /// Address of its private Redis, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) redis_url: Option<String>,
}

impl DataFolder {
    /// Makes the folder where it is missing, and takes it for this process.
    ///
    /// # Errors
    /// Fails where it cannot be written to, or belongs to another `up`.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        let cannot = || format!("cannot use the data folder `{}`", path.display());
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(path).with_context(cannot)?;
        let path = path.canonicalize().with_context(cannot)?;
        let lock = lock(&path)?;
        // Keys and runs do not belong under version control.
        fs::write(path.join(".gitignore"), "*\n").with_context(cannot)?;
        Ok(Self { path, _lock: lock })
    }

    /// Its absolute path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where the key of administration is kept.
    pub(crate) fn admin_key_path(&self) -> PathBuf {
        self.path.join(ADMIN_KEY)
    }

    /// The key of administration; the first time it is made.
    pub(crate) fn admin_key(&self) -> anyhow::Result<AdminKey> {
        if let Some(text) = admin_key(&self.path)? {
            return Ok(AdminKey {
                text,
                is_new: false,
            });
        }
        let mut randomness = [0; 40];
        getrandom::fill(&mut randomness)
            .map_err(|error| anyhow!("no randomness for a key: {error}"))?;
        let text = key_text(&randomness);
        self.write_whole(ADMIN_KEY, &format!("{text}\n"))?;
        Ok(AdminKey { text, is_new: true })
    }

    /// The key that connections and secrets are sealed with; the first time it
    /// is made.
    pub(crate) fn secrets_key(&self) -> anyhow::Result<String> {
        if let Some(text) = kept(&self.path.join(SECRETS_KEY))? {
            return Ok(text);
        }
        let text = SecretsKeys::generate()
            .map_err(|error| anyhow!("no randomness for a key for secrets: {error}"))?;
        self.write_whole(SECRETS_KEY, &format!("{text}\n"))?;
        Ok(text)
    }

    /// Tells other commands where this `up` can be reached.
    pub(crate) fn announce(&self, running: &Running) -> anyhow::Result<()> {
        self.write_whole(RUNNING, &serde_json::to_string(running)?)
    }

    /// Takes the announcement back.
    pub(crate) fn withdraw(&self) {
        // Where it cannot be removed, commands find nobody at the address.
        let _ = fs::remove_file(self.path.join(RUNNING));
    }

    /// Writes a file that only its owner may read, all of it or nothing.
    fn write_whole(&self, name: &str, text: &str) -> anyhow::Result<()> {
        let path = self.path.join(name);
        let write = || -> std::io::Result<()> {
            // Temporary files are made with mode 0600.
            let mut file = tempfile::NamedTempFile::new_in(&self.path)?;
            file.write_all(text.as_bytes())?;
            file.as_file().sync_all()?;
            file.persist(&path)?;
            Ok(())
        };
        write().with_context(|| format!("cannot write `{}`", path.display()))
    }
}

/// The key of administration kept in a data folder, if there is one.
pub(crate) fn admin_key(folder: &Path) -> anyhow::Result<Option<String>> {
    kept(&folder.join(ADMIN_KEY))
}

/// The key in a file, if there is one.
fn kept(path: &Path) -> anyhow::Result<Option<String>> {
    let text = read_if_there(path)?;
    let text = text.map(|text| text.trim().to_owned());
    Ok(text.filter(|text| !text.is_empty()))
}

/// Where the `up` of a data folder can be reached, if one runs.
pub(crate) fn running(folder: &Path) -> anyhow::Result<Option<Running>> {
    let path = folder.join(RUNNING);
    let Some(text) = read_if_there(&path)? else {
        return Ok(None);
    };
    let running = serde_json::from_str(&text);
    running.with_context(|| format!("`{}` cannot be read", path.display()))
}

fn read_if_there(path: &Path) -> anyhow::Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read `{}`", path.display())),
    }
}

fn lock(folder: &Path) -> anyhow::Result<File> {
    let path = folder.join("lock");
    let cannot = || format!("cannot lock `{}`", path.display());
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600);
    let mut file = options.open(&path).with_context(cannot)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // The number only helps to find the process.
            let _ = file.read_to_string(&mut holder);
            bail!(
                "another `millstream up` (process {}) uses the data folder `{}`: stop it, or choose another one with --data-dir",
                holder.trim(),
                folder.display()
            );
        }
        Err(TryLockError::Error(error)) => return Err(error).with_context(cannot),
    }
    let mut sign = || -> std::io::Result<()> {
        file.set_len(0)?;
        file.seek(SeekFrom::Start(0))?;
        writeln!(file, "{}", std::process::id())
    };
    sign().with_context(cannot)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn two_processes_never_use_the_same_folder() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("data");
        let first = DataFolder::open(&path).unwrap();
        let message = DataFolder::open(&path).unwrap_err().to_string();
        assert!(
            message.contains(&format!("process {}", std::process::id())),
            "{message}"
        );
        drop(first);
        DataFolder::open(&path).unwrap();
    }

    #[test]
    fn the_admin_key_is_made_once_and_only_its_owner_can_read_it() {
        let parent = tempfile::tempdir().unwrap();
        let folder = DataFolder::open(parent.path()).unwrap();
        let made = folder.admin_key().unwrap();
        assert!(made.is_new && made.text.starts_with("ms_"));
        let mode = fs::metadata(folder.admin_key_path())
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);

        let again = folder.admin_key().unwrap();
        assert_eq!((again.text, again.is_new), (made.text, false));
    }

    #[test]
    fn the_key_for_secrets_is_made_once_and_only_its_owner_can_read_it() {
        let parent = tempfile::tempdir().unwrap();
        let folder = DataFolder::open(parent.path()).unwrap();
        let made = folder.secrets_key().unwrap();
        assert!(made.parse::<SecretsKeys>().is_ok());
        let file = fs::metadata(parent.path().join(SECRETS_KEY)).unwrap();
        assert_eq!(file.permissions().mode() & 0o777, 0o600);
        assert_eq!(folder.secrets_key().unwrap(), made);
    }

    #[test]
    fn what_was_announced_is_found_until_it_is_withdrawn() {
        let parent = tempfile::tempdir().unwrap();
        let folder = DataFolder::open(parent.path()).unwrap();
        let here = Running {
            url: "http://127.0.0.1:1".to_owned(),
            redis_url: None,
        };
        folder.announce(&here).unwrap();
        assert_eq!(running(parent.path()).unwrap(), Some(here));
        folder.withdraw();
        assert_eq!(running(parent.path()).unwrap(), None);
    }
}
