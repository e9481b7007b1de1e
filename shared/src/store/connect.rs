//! Opening the store, and refusing a server that would lose runs.

use std::{sync::Arc, time::Duration};

use redis::{
    AsyncConnectionConfig, ErrorKind, RedisError, ServerErrorKind, aio::MultiplexedConnection,
};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::{
    Shared, Store, StoreError,
    address::Address,
    keys,
    link::Link,
    partition::{Partition, slot, tags},
    topology::Topology,
};
use crate::process::RedisSettings;

/// The oldest server that knows every command of the scripts (XAUTOCLAIM).
const OLDEST_VERSION: (u32, u32) = (6, 2);

/// The oldest one that knows messages within a shard (SPUBLISH).
const OLDEST_VERSION_IN_CLUSTER: (u32, u32) = (7, 0);

/// How many partitions a new cluster gets for each of its masters: enough to
/// spread them again when it grows.
const PARTITIONS_PER_MASTER: usize = 4;

/// How long to wait for a server that still reads its data from the disk, and
/// how often to look.
const LOADING_MAX: Duration = Duration::from_secs(60);
const LOADING_PAUSE: Duration = Duration::from_millis(100);

/// Run ids have room for so many.
const PARTITIONS_MAX: u16 = 256;

impl Store {
    /// Opens the store and looks whether each of its servers suits. One that
    /// still reads its data is waited for.
    ///
    /// # Errors
    /// Fails where the address cannot be read, a server cannot be reached, is
    /// too old, may evict keys, is a replica, or holds another layout.
    pub async fn connect(settings: &RedisSettings) -> Result<Self, StoreError> {
        let topology = Arc::new(Topology::new(Address::parse(&settings.url)?));
        let in_cluster = topology.is_cluster();
        let link = |slot| {
            let topology = Arc::clone(&topology);
            Arc::new(Link::new(topology, slot, settings.timeout))
        };
        let first = link(slot(keys::META));
        // Before anything is written to a server, it has to suit.
        let mut persistence = vec![check_server(&first, in_cluster).await?];
        let (count, service) = settled(&topology, &first, settings).await?;
        let partition = |tag: &String| {
            // One server is talked to over one connection, each server of a
            // cluster over those of its partitions.
            let link = if in_cluster {
                link(slot(tag))
            } else {
                Arc::clone(&first)
            };
            Partition::new(tag, in_cluster, link)
        };
        let partitions: Vec<_> = tags(count).iter().map(partition).collect();
        for partition in partitions.iter().filter(|_| in_cluster) {
            let told = check_server(partition.link(), in_cluster).await?;
            if !persistence.contains(&told) {
                persistence.push(told);
            }
        }
        Ok(Self {
            shared: Arc::new(Shared {
                timeout: settings.timeout,
                in_cluster,
                persistence: persistence.join("; elsewhere: "),
                service,
                partitions,
            }),
        })
    }

    /// Waits for an answer of every server.
    ///
    /// # Errors
    /// Fails where there is none in time.
    pub async fn ping(&self) -> Result<(), StoreError> {
        let asked = if self.shared.in_cluster {
            &self.shared.partitions[..]
        } else {
            &self.shared.partitions[..1]
        };
        let ping = redis::cmd("PING");
        let pings = asked.iter().map(|partition| partition.link().ask(&ping));
        let _: Vec<String> = futures::future::try_join_all(pings).await?;
        Ok(())
    }
}

/// Writes down the layout of keys, the number of partitions and the name of the
/// service at the first start, and refuses any other layout and number after
/// that.
async fn settled(
    topology: &Topology,
    link: &Link,
    settings: &RedisSettings,
) -> Result<(u16, String), StoreError> {
    let asked = match settings.partitions {
        Some(asked) => asked,
        None if topology.is_cluster() => {
            let partitions = topology.masters().await? * PARTITIONS_PER_MASTER;
            u16::try_from(partitions).unwrap_or(PARTITIONS_MAX)
        }
        None => 1,
    };
    let mut connection = link.own_connection().await?;
    let (layout, partitions, service): (String, u16, String) = redis::pipe()
        .atomic()
        .hset_nx(keys::META, "layout", keys::LAYOUT_VERSION)
        .ignore()
        .hset_nx(keys::META, "partitions", asked.min(PARTITIONS_MAX))
        .ignore()
        .hset_nx(keys::META, "service", Uuid::new_v4().to_string())
        .ignore()
        .hget(keys::META, "layout")
        .hget(keys::META, "partitions")
        .hget(keys::META, "service")
        .query_async(&mut connection)
        .await?;
    if layout != keys::LAYOUT_VERSION.to_string() {
        return Err(StoreError::Unsuitable(format!(
            "redis holds layout {layout} of the keys, this program knows {}",
            keys::LAYOUT_VERSION
        )));
    }
    if settings.partitions.is_some_and(|asked| asked != partitions) {
        return Err(StoreError::Unsuitable(format!(
            "redis has {partitions} partitions, for good: leave the setting out or make it so"
        )));
    }
    Ok((partitions.clamp(1, PARTITIONS_MAX), service))
}

/// Waits until a server has read its data.
async fn loaded(link: &Link) -> Result<(), StoreError> {
    let deadline = Instant::now() + LOADING_MAX;
    loop {
        match link.ask::<String>(&redis::cmd("PING")).await {
            Err(error) if is_loading(&error) && Instant::now() < deadline => {
                tracing::warn!("redis still reads its data: waiting for it");
                sleep(LOADING_PAUSE).await;
            }
            answer => return Ok(answer.map(drop)?),
        }
    }
}

fn is_loading(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::BusyLoading)
}

/// Looks whether a server suits, and says what it does to keep its data.
async fn check_server(link: &Link, in_cluster: bool) -> Result<String, StoreError> {
    loaded(link).await?;
    let info: String = link.ask(redis::cmd("INFO").arg("everything")).await?;
    let field = |name: &str| {
        info.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .map(str::trim)
    };
    let oldest = if in_cluster {
        OLDEST_VERSION_IN_CLUSTER
    } else {
        OLDEST_VERSION
    };
    if let Some(version) = field("redis_version")
        && parsed_version(version).is_some_and(|version| version < oldest)
    {
        let (major, minor) = oldest;
        return Err(StoreError::Unsuitable(format!(
            "redis {version} is too old: {major}.{minor} or newer is needed here"
        )));
    }
    if let Some(policy) = field("maxmemory_policy")
        && policy != "noeviction"
    {
        return Err(StoreError::Unsuitable(format!(
            "redis has maxmemory-policy {policy}, which may delete runs: set it to noeviction"
        )));
    }
    if field("role") == Some("slave") {
        return Err(StoreError::Unsuitable(
            "redis is a replica, which takes no writes: name its master".into(),
        ));
    }
    if field("cluster_enabled") == Some("1") && !in_cluster {
        return Err(StoreError::Unsuitable(
            "redis is a cluster: name it as redis-cluster://host:port".into(),
        ));
    }
    if field("aof_enabled") == Some("0") {
        tracing::warn!("redis has no append-only file: runs are lost when it stops");
        return Ok("appendonly no".to_owned());
    }
    let sync = append_sync(link).await;
    tracing::info!(appendfsync = sync, "redis keeps an append-only file");
    Ok(format!("appendonly yes, appendfsync {sync}"))
}

/// How often the server brings its append-only file to the disk.
async fn append_sync(link: &Link) -> String {
    let mut ask = redis::cmd("CONFIG");
    ask.arg("GET").arg("appendfsync");
    let told: Result<Vec<String>, _> = link.ask(&ask).await;
    match told.map(|told| told.into_iter().nth(1)) {
        Ok(Some(sync)) => sync,
        // Managed services do not let everybody see.
        _ => "unknown".to_owned(),
    }
}

/// Opens a connection that something of its own is done with.
pub(super) async fn open(
    link: &Link,
    config: &AsyncConnectionConfig,
) -> Result<MultiplexedConnection, RedisError> {
    let master = link.master().await?;
    master
        .get_multiplexed_async_connection_with_config(config)
        .await
}

/// The first two parts of a version such as `7.0.15`.
fn parsed_version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.split('.').map(str::parse);
    Some((parts.next()?.ok()?, parts.next()?.ok()?))
}

/// An answer of a script that has another shape than its contract says.
pub(super) fn unexpected(script: &'static str) -> StoreError {
    StoreError::Refused(RedisError::from((
        ErrorKind::UnexpectedReturnType,
        "a script answered in another shape than agreed",
        script.to_owned(),
    )))
}
