//! The address of Redis, as a setting has it: one server, the sentinels that
//! know it, or some nodes of a cluster.

use redis::{ConnectionInfo, IntoConnectionInfo, RedisError};

use super::StoreError;

/// Where Redis is.
#[derive(Clone, Debug)]
pub(super) enum Address {
    /// One server.
    Single(Box<ConnectionInfo>),
    /// Whichever server these sentinels call the master of the service.
    Sentinel {
        sentinels: Vec<ConnectionInfo>,
        service: String,
        /// How to connect to the master; only its address is open.
        master: Box<ConnectionInfo>,
    },
    /// The masters of a cluster that some of its nodes know.
    Cluster { nodes: Vec<ConnectionInfo> },
}

impl Address {
    /// Reads `redis://`, `rediss://` and `unix://` as usual;
    /// `redis-sentinel://[user:password@]host[:port],…/service[/db]`, where
    /// user and password are the master's; and
    /// `redis-cluster://[user:password@]host[:port],…`. With `rediss-` in front
    /// the connections are encrypted.
    ///
    /// # Errors
    /// Says what is wrong, without repeating the address, which may hold a
    /// password.
    pub(super) fn parse(text: &str) -> Result<Self, StoreError> {
        let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
        let plain = if scheme.starts_with("rediss") {
            "rediss"
        } else {
            "redis"
        };
        match scheme {
            "redis-sentinel" | "rediss-sentinel" => sentinel(plain, rest),
            "redis-cluster" | "rediss-cluster" => cluster(plain, rest),
            _ => Ok(Self::Single(Box::new(server(text)?))),
        }
    }
}

fn sentinel(plain: &str, rest: &str) -> Result<Address, StoreError> {
    let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (credentials, hosts) = credentials(hosts);
    let (service, database) = path.split_once('/').unwrap_or((path, "0"));
    if service.is_empty() {
        return Err(unreadable("it names no service, as in `/mymaster`"));
    }
    let sentinels = hosts
        .split(',')
        .map(|host| server(&format!("{plain}://{}", with_port(host, 26379))));
    // The host only fills the place that the sentinels' answer takes.
    let master = server(&format!("{plain}://{credentials}localhost/{database}"))?;
    Ok(Address::Sentinel {
        sentinels: sentinels.collect::<Result<_, _>>()?,
        service: service.to_owned(),
        master: Box::new(master),
    })
}

fn cluster(plain: &str, rest: &str) -> Result<Address, StoreError> {
    let (credentials, hosts) = credentials(rest.trim_end_matches('/'));
    if hosts.contains('/') {
        return Err(unreadable("a cluster has no database but 0"));
    }
    let node = |host| server(&format!("{plain}://{credentials}{}", with_port(host, 6379)));
    let nodes = hosts.split(',').map(node);
    Ok(Address::Cluster {
        nodes: nodes.collect::<Result<_, _>>()?,
    })
}

/// What stands before the hosts, with its `@`, and the hosts.
fn credentials(text: &str) -> (&str, &str) {
    text.rfind('@')
        .map_or(("", text), |at| text.split_at(at + 1))
}

fn with_port(host: &str, port: u16) -> String {
    let bare = host.rsplit_once(']').map_or(host, |(_, port)| port);
    if bare.contains(':') {
        host.to_owned()
    } else {
        format!("{host}:{port}")
    }
}

fn server(url: &str) -> Result<ConnectionInfo, StoreError> {
    let info = url.into_connection_info();
    info.map_err(|error: RedisError| unreadable(&error.to_string()))
}

fn unreadable(why: &str) -> StoreError {
    StoreError::Unsuitable(format!("the address of redis cannot be read: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(servers: &[ConnectionInfo]) -> Vec<String> {
        let addresses = servers.iter().map(|server| server.addr().to_string());
        addresses.collect()
    }

    #[test]
    fn one_server_is_read_as_always() {
        for url in [
            "redis://h:1/2",
            "rediss://u:p@h",
            "unix:///run/redis.sock?db=1",
        ] {
            assert!(matches!(Address::parse(url), Ok(Address::Single(_))));
        }
    }

    #[test]
    fn sentinels_and_the_service_they_watch_are_read() {
        let url = "redis-sentinel://u:p@a,b:1,[::1]/main/3";
        let Ok(Address::Sentinel {
            sentinels,
            service,
            master,
        }) = Address::parse(url)
        else {
            panic!("{url}");
        };
        assert_eq!(service, "main");
        assert_eq!(addresses(&sentinels), ["a:26379", "b:1", "::1:26379"]);
        assert_eq!(master.redis_settings().db(), 3);
        assert_eq!(master.redis_settings().username(), Some("u"));
        assert_eq!(sentinels[0].redis_settings().username(), None);
    }

    #[test]
    fn the_nodes_of_a_cluster_are_read() {
        let Ok(Address::Cluster { nodes }) = Address::parse("rediss-cluster://:p@a:7000,b/") else {
            panic!("a cluster");
        };
        assert_eq!(addresses(&nodes), ["a:7000", "b:6379"]);
        assert!(matches!(
            nodes[1].addr(),
            redis::ConnectionAddr::TcpTls { .. }
        ));
    }

    #[test]
    fn an_address_that_makes_no_sense_is_refused_without_being_repeated() {
        for bad in [
            "",
            "http://hush",
            "redis-sentinel://u:hush@h",
            "redis-sentinel://u:hush@h/",
            "redis-cluster://u:hush@h/3",
            "redis-cluster://u:hush@h:port",
        ] {
            let error = Address::parse(bad).unwrap_err().to_string();
            assert!(!error.contains("hush"), "{error}");
        }
    }
}
