//! What the tests from outside stand on: a Redis of their own, the built
//! programs as real processes, a client, and faults to inject.
//!
//! Every test starts its own of everything on free ports, so all of them can
//! run at once, and everything ends with the test, also where it fails.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod client;
mod databases;
mod gate;
mod http_server;
mod process;
mod proxy;
mod random;
mod redis_group;
mod redis_node;
mod redis_server;
mod service;
mod stores;
mod waiting;

pub use client::{Answer, Client};
pub use databases::{
    Authority, Database, PrivateMariadb, PrivatePostgres, ServerCertificate, SqliteFile,
};
pub use gate::Gate;
pub use http_server::{Asked, HttpServer, Reply};
pub use process::{Process, built_program};
pub use proxy::{Passage, Proxy};
pub use random::Random;
pub use redis_group::{RedisCluster, WatchedRedis};
pub use redis_node::{RedisNode, free_port};
pub use redis_server::{PrivateRedis, RedisSetup, redis_servers};
pub use service::{Api, Redis, Service, Setup, Worker};
pub use stores::{Bucket, PrivateAzure, PrivateS3, Serving, WebFiles};
pub use waiting::{SOON, eventually};

/// A setting of the tests themselves.
#[expect(
    clippy::disallowed_methods,
    reason = "tests are not programs with settings"
)]
pub fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
