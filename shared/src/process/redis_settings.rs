//! Where Redis is.

use std::time::Duration;

/// Where Redis is and how patient to be with it.
#[derive(Clone, Debug, clap::Args)]
pub struct RedisSettings {
    /// Address of Redis: `redis://host:port/db`, `unix:///path/to/socket`,
    /// `redis-sentinel://host:port,…/service` for the master that sentinels
    /// watch, or `redis-cluster://host:port,…`. With `rediss` the connections
    /// are encrypted.
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

    /// How many partitions runs are spread over, 1 to 256. It is settled by the
    /// first program that ever uses this Redis. 4 for each master of a cluster,
    /// otherwise 1, unless given.
    #[arg(long = "redis-partitions", env = "MILLSTREAM_REDIS_PARTITIONS", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub partitions: Option<u16>,
}
