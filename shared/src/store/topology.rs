//! Which server to talk to. With sentinels or in a cluster that changes, so it
//! is asked anew whenever a connection is opened.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, RedisError, Value,
    from_redis_value,
};

use super::{address::Address, link::failure};

/// How long a sentinel or a node may take to say who the master is. There are
/// others to ask.
const TOLD_WITHIN: Duration = Duration::from_secs(1);

/// The servers behind an address.
pub(super) struct Topology {
    address: Address,
    /// Who is asked first: another one each time, so that a server that is
    /// wrong or gone holds nobody up for long.
    first: AtomicUsize,
}

/// A range of slots of a cluster, and the server that has it.
struct Range {
    first: u16,
    last: u16,
    master: ConnectionInfo,
}

impl Topology {
    pub(super) fn new(address: Address) -> Self {
        Self {
            address,
            first: AtomicUsize::new(0),
        }
    }

    pub(super) fn is_cluster(&self) -> bool {
        matches!(self.address, Address::Cluster { .. })
    }

    /// The server that takes writes to the keys of a slot now.
    ///
    /// # Errors
    /// Fails where nobody who was asked could say.
    pub(super) async fn master(&self, slot: u16) -> Result<Client, RedisError> {
        match &self.address {
            Address::Single(server) => Client::open(server.as_ref().clone()),
            Address::Sentinel {
                sentinels,
                service,
                master,
            } => {
                let mut question = redis::cmd("SENTINEL");
                question.arg("get-master-addr-by-name").arg(service);
                let (told, _) = self.ask_each(sentinels, &question).await?;
                let (host, port) = from_redis_value(told)?;
                let server = at(master, host, port);
                check_is_master(&server).await?;
                Client::open(server)
            }
            Address::Cluster { nodes } => {
                let range = self
                    .ranges(nodes)
                    .await?
                    .into_iter()
                    .find(|range| (range.first..=range.last).contains(&slot));
                let range = range.ok_or_else(|| failure("no server has the slot of a key"))?;
                Client::open(range.master)
            }
        }
    }

    /// How many servers take writes.
    ///
    /// # Errors
    /// As [`Topology::master`].
    pub(super) async fn masters(&self) -> Result<usize, RedisError> {
        let Address::Cluster { nodes } = &self.address else {
            return Ok(1);
        };
        let ranges = self.ranges(nodes).await?;
        let addresses = ranges.iter().map(|range| range.master.addr().to_string());
        let distinct: std::collections::HashSet<_> = addresses.collect();
        Ok(distinct.len())
    }

    /// The ranges of slots of a cluster, as one of its nodes knows them.
    async fn ranges(&self, nodes: &[ConnectionInfo]) -> Result<Vec<Range>, RedisError> {
        let mut question = redis::cmd("CLUSTER");
        question.arg("SLOTS");
        let (told, node) = self.ask_each(nodes, &question).await?;
        let rows: Vec<Vec<Value>> = from_redis_value(told)?;
        let ranges: Option<Vec<_>> = rows.into_iter().map(|row| range(row, node)).collect();
        ranges.ok_or_else(|| failure("the slots of the cluster cannot be read"))
    }

    /// Asks one server after the other until one has an answer.
    async fn ask_each<'s>(
        &self,
        servers: &'s [ConnectionInfo],
        question: &Cmd,
    ) -> Result<(Value, &'s ConnectionInfo), RedisError> {
        let first = self.first.fetch_add(1, Ordering::Relaxed);
        let mut failed = failure("no server that was asked knows the master");
        for turn in 0..servers.len() {
            let server = &servers[first.wrapping_add(turn) % servers.len()];
            match ask(server, question).await {
                Ok(Value::Nil) => {}
                Ok(told) => return Ok((told, server)),
                Err(error) => {
                    tracing::debug!(server = %server.addr(), %error, "cannot say who the master is");
                    failed = error;
                }
            }
        }
        Err(failed)
    }
}

async fn ask(server: &ConnectionInfo, question: &Cmd) -> Result<Value, RedisError> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(TOLD_WITHIN))
        .set_response_timeout(Some(TOLD_WITHIN));
    let client = Client::open(server.clone())?;
    let mut connection = client
        .get_multiplexed_async_connection_with_config(&config)
        .await?;
    question.query_async(&mut connection).await
}

/// A sentinel may not have heard yet that the master it names was replaced.
async fn check_is_master(server: &ConnectionInfo) -> Result<(), RedisError> {
    let role: Vec<Value> = from_redis_value(ask(server, &redis::cmd("ROLE")).await?)?;
    let role = role.into_iter().next().map(from_redis_value::<String>);
    match role {
        Some(Ok(role)) if role == "master" => Ok(()),
        _ => Err(failure("the server that should be the master is not")),
    }
}

/// One row: first slot, last slot, master, replicas. The master is host, port
/// and more; an empty host stands for that of the node that was asked.
fn range(row: Vec<Value>, asked: &ConnectionInfo) -> Option<Range> {
    let mut row = row.into_iter();
    let first = from_redis_value(row.next()?).ok()?;
    let last = from_redis_value(row.next()?).ok()?;
    let master: Vec<Value> = from_redis_value(row.next()?).ok()?;
    let mut master = master.into_iter();
    let host: Option<String> = from_redis_value(master.next()?).ok()?;
    let port = from_redis_value(master.next()?).ok()?;
    let host = host.filter(|host| !host.is_empty());
    let host = host.or_else(|| match asked.addr() {
        ConnectionAddr::Tcp(host, _) | ConnectionAddr::TcpTls { host, .. } => Some(host.clone()),
        _ => None,
    })?;
    Some(Range {
        first,
        last,
        master: at(asked, host, port),
    })
}

/// The same way to connect, to another server.
fn at(like: &ConnectionInfo, host: String, port: u16) -> ConnectionInfo {
    let address = match like.addr() {
        ConnectionAddr::TcpTls {
            insecure,
            tls_params,
            ..
        } => ConnectionAddr::TcpTls {
            host,
            port,
            insecure: *insecure,
            tls_params: tls_params.clone(),
        },
        _ => ConnectionAddr::Tcp(host, port),
    };
    like.clone().set_addr(address)
}
