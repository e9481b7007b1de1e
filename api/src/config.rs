//! The settings of the API.

use std::{fmt, net::SocketAddr, str::FromStr, time::Duration};

use millstream_shared::{
    artifacts::ArtifactSettings,
    byte_size::ByteSize,
    connection::SecretsKeys,
    duration::Span,
    process::{RedisSettings, logging::LogSettings},
};

/// Starts data flows on request and tells when they are done.
///
/// It puts runs on a queue in Redis and executes nothing itself: for that,
/// start `millstream-worker`. Run as many of both as you like.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "millstream-api", version)]
pub struct Config {
    /// Address that the API listens on; port 0 takes a free one.
    #[arg(long, env = "MILLSTREAM_LISTEN", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,

    /// Address of the operations port: `/livez`, `/readyz` and `/metrics`;
    /// port 0 takes a free one.
    #[arg(long, env = "MILLSTREAM_OPS_LISTEN", default_value = "127.0.0.1:9464")]
    pub ops_listen: SocketAddr,

    /// Prefix of every route, such as `/invision`.
    #[arg(long, env = "MILLSTREAM_BASE_PATH", default_value = "")]
    pub base_path: BasePath,

    /// A key of administration that is accepted from the start, 16 to 256
    /// characters. It is stored hashed, and stays valid until it is deleted,
    /// also where a later start names another one.
    #[arg(long, env = "MILLSTREAM_ADMIN_KEY", hide_env_values = true)]
    pub admin_key: Option<AdminKey>,

    /// What connections and secrets are sealed with: 32 bytes in base64, as
    /// `millstream secrets new-key` prints them, and the same for every API
    /// process and worker. Several with commas between while one is replaced:
    /// the first one seals. Without it there are no connections and no secrets.
    #[arg(long, env = "MILLSTREAM_SECRETS_KEY", hide_env_values = true)]
    pub secrets_key: Option<SecretsKeys>,

    /// Where artifacts are kept.
    #[command(flatten)]
    pub artifacts: ArtifactSettings,

    /// How errors are answered: `problem` with the status that fits, `legacy`
    /// with status 500 always, for callers that know no other one.
    #[arg(long, env = "MILLSTREAM_ERROR_MODE", default_value = "problem")]
    pub error_mode: ErrorMode,

    /// How long a wait may be silent. After that the head of the answer is
    /// sent, and a space again and again after the same time, so that no proxy
    /// cuts the connection. 100ms to 1h.
    #[arg(long, env = "MILLSTREAM_AWAIT_KEEPALIVE", default_value = "10s", value_parser = keepalive)]
    pub await_keepalive: Duration,

    /// The longest body of a request: a number of bytes, or with a unit as in
    /// `512KiB`, `1MiB`.
    #[arg(long, env = "MILLSTREAM_BODY_LIMIT", default_value = "1MiB")]
    pub body_limit: ByteSize,

    /// How many runs may be on their way at once, waiting or executing. A start
    /// beyond that is refused with 429. With several partitions of Redis each
    /// has its share, which runs that have to be in one partition (those of a
    /// limit, of an idempotency key) may exceed, up to the whole.
    #[arg(long, env = "MILLSTREAM_QUEUE_LIMIT", default_value = "100000",
          value_parser = clap::value_parser!(u64).range(1..))]
    pub queue_limit: u64,

    /// The same for the runs of each flow. An author can want fewer for a flow:
    /// `queue_limit`.
    #[arg(long, env = "MILLSTREAM_FLOW_QUEUE_LIMIT", default_value = "100000",
          value_parser = clap::value_parser!(u64).range(1..))]
    pub flow_queue_limit: u64,

    /// How many runs callers may wait for at once at this process. Another
    /// wait is refused with 429.
    #[arg(long, env = "MILLSTREAM_WAITS_LIMIT", default_value = "100000",
          value_parser = clap::value_parser!(u64).range(1..))]
    pub waits_limit: u64,

    /// The same for the waits of each key.
    #[arg(long, env = "MILLSTREAM_KEY_WAITS_LIMIT", default_value = "50000",
          value_parser = clap::value_parser!(u64).range(1..))]
    pub key_waits_limit: u64,

    /// How long the record of a run is kept that ends before it begins, since
    /// its flow had no room for it.
    #[arg(long, env = "MILLSTREAM_RETENTION", default_value = "7d", value_parser = Span::setting)]
    pub retention: Duration,

    /// Where Redis is.
    #[command(flatten)]
    pub redis: RedisSettings,

    /// What is logged.
    #[command(flatten)]
    pub log: LogSettings,
}

/// How errors are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ErrorMode {
    /// With the status that fits.
    Problem,
    /// With status 500 always.
    Legacy,
}

/// The text of the seeded key. It cannot be printed by accident.
#[derive(Clone)]
pub struct AdminKey(String);

impl AdminKey {
    /// The text, or nothing where the setting was given empty, as settings
    /// from a template often are.
    pub(crate) fn text(&self) -> Option<&str> {
        Some(self.0.as_str()).filter(|text| !text.is_empty())
    }
}

impl From<String> for AdminKey {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for AdminKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdminKey(…)")
    }
}

/// A prefix of every route: empty, or one or more segments, as in `/invision`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BasePath(String);

impl BasePath {
    /// The prefix, without a slash at its end.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for BasePath {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let path = text.strip_suffix('/').unwrap_or(text);
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._~-".contains(&byte);
        let well_formed = |segment: &str| !segment.is_empty() && segment.bytes().all(allowed);
        let mut segments = path.split('/');
        if segments.next() == Some("") && segments.all(well_formed) {
            return Ok(Self(path.to_owned()));
        }
        Err(
            "a base path must look like `/invision`: a slash, then letters, digits and . _ ~ -"
                .into(),
        )
    }
}

fn keepalive(text: &str) -> Result<Duration, String> {
    let span = text.parse::<Span>().map_err(|error| error.to_string())?;
    let limits = Duration::from_millis(100)..=Duration::from_secs(3600);
    if limits.contains(&span.duration()) {
        return Ok(span.duration());
    }
    Err("it must be from 100ms to 1h".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[test]
    fn every_setting_can_come_from_the_environment_and_is_explained() {
        Config::command().debug_assert();
        for setting in Config::command().get_arguments() {
            let variable = setting.get_env().and_then(|name| name.to_str());
            assert!(variable.is_some_and(|name| name.starts_with("MILLSTREAM_")));
            assert!(setting.get_help().is_some(), "{setting}");
        }
    }

    #[test]
    fn a_base_path_is_empty_or_starts_with_a_slash() {
        for (text, path) in [
            ("", ""),
            ("/", ""),
            ("/invision", "/invision"),
            ("/a/b/", "/a/b"),
        ] {
            assert_eq!(text.parse::<BasePath>().unwrap().as_str(), path);
        }
        for bad in ["invision", "//", "/a//b", "/{x}", "/a b", "https://host/a"] {
            assert!(bad.parse::<BasePath>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_keepalive_that_would_flood_is_refused() {
        let given = |text| Config::try_parse_from(["api", "--await-keepalive", text]);
        assert!(given("200ms").is_ok());
        assert!(given("0s").is_err());
        assert!(given("10").is_err());
    }

    #[test]
    fn the_secrets_key_shows_neither_in_the_settings_nor_in_an_error() {
        let key = SecretsKeys::generate().unwrap();
        let config = Config::try_parse_from(["api", "--secrets-key", &key]).unwrap();
        assert!(!format!("{config:?}").contains(&key));
        let wrong = format!("{key}x");
        for listen in ["127.0.0.1:0", "nowhere"] {
            let wrong = ["api", "--secrets-key", &wrong, "--listen", listen];
            let error = Config::try_parse_from(wrong).unwrap_err().to_string();
            assert!(!error.contains(&key), "{error}");
        }
    }

    #[test]
    fn the_admin_key_shows_neither_in_the_settings_nor_in_an_error() {
        let config = Config::try_parse_from(["api", "--admin-key", "hush-hush"]).unwrap();
        assert!(!format!("{config:?}").contains("hush"));
        let wrong = ["api", "--admin-key", "hush-hush", "--listen", "nowhere"];
        let error = Config::try_parse_from(wrong).unwrap_err().to_string();
        assert!(!error.contains("hush"), "{error}");
    }
}
