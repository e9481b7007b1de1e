//! Where Redis is.

use std::time::Duration;

/// Where Redis is and how patient to be with it.
#[derive(Clone, Debug, clap::Args)]
pub struct RedisSettings {
    /// Address of Redis: `redis://host:port/db`, `rediss://…` for TLS, or
    /// `unix:///path/to/socket`.
    #[arg(
        long = "redis-url",
        env = "MILLSTREAM_REDIS_URL",
        default_value = "redis://127.0.0.1:6379",
        hide_env_values = true
    )]
    pub url: String,

    /// How long to wait for an answer of Redis before a command counts as
    /// failed.
    #[arg(long = "redis-timeout", env = "MILLSTREAM_REDIS_TIMEOUT", default_value = "5s", value_parser = humantime::parse_duration)]
    pub timeout: Duration,
}
