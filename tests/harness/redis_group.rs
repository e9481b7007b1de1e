//! Redis servers that stand in for one another: a master with a replica and
//! three sentinels, and a cluster.

use crate::{RedisNode, SOON, eventually, service::Redis};

/// The name under which the sentinels know the master.
const SERVICE: &str = "main";

/// A master, a replica and three sentinels.
#[derive(Debug)]
pub struct WatchedRedis {
    /// The first master.
    pub master: RedisNode,
    /// Its replica.
    pub replica: RedisNode,
    sentinels: Vec<RedisNode>,
}

impl WatchedRedis {
    /// Starts all of them, and waits until a failover is possible.
    pub async fn start() -> Self {
        let master = RedisNode::start(&[]).await;
        let port = master.port().to_string();
        let replica = RedisNode::start(&["--replicaof", "127.0.0.1", &port]).await;
        let mut sentinels = Vec::new();
        for _ in 0..3 {
            sentinels.push(RedisNode::start_sentinel(SERVICE, &master).await);
        }
        let watched = Self {
            master,
            replica,
            sentinels,
        };
        eventually(SOON, "the replica to follow", || async {
            let link = watched.replica.replication("master_link_status").await;
            (link.as_deref() == Some("up")).then_some(())
        })
        .await;
        for sentinel in &watched.sentinels {
            eventually(SOON, "a sentinel to know replica and sentinels", || async {
                let known: Vec<String> =
                    sentinel.ask(&["SENTINEL", "MASTER", SERVICE]).await.ok()?;
                let number = |name: &str| {
                    let place = known.iter().position(|word| word == name)?;
                    known.get(place + 1)?.parse().ok()
                };
                let complete =
                    number("num-slaves") == Some(1) && number("num-other-sentinels") == Some(2);
                complete.then_some(())
            })
            .await;
        }
        watched
    }

    /// Cuts the replica off, so that it knows nothing of what comes from now on
    /// and could be promoted all the same.
    pub async fn let_replica_lag(&self) {
        let refuse = ["ACL", "SETUSER", "default", "-psync", "-sync"];
        self.master.command::<String>(&refuse).await;
        let cut = ["CLIENT", "KILL", "TYPE", "replica"];
        self.master.command::<i64>(&cut).await;
    }

    /// Waits until the replica is the master.
    pub async fn failed_over(&self) {
        eventually(SOON, "the replica to be promoted", || async {
            let role = self.replica.replication("role").await;
            (role.as_deref() == Some("master")).then_some(())
        })
        .await;
    }
}

impl Redis for WatchedRedis {
    fn url(&self) -> String {
        let sentinels = self.sentinels.iter().map(RedisNode::address);
        let sentinels = sentinels.collect::<Vec<_>>().join(",");
        format!("redis-sentinel://{sentinels}/{SERVICE}")
    }
}

/// A cluster of three masters with a replica each.
#[derive(Debug)]
pub struct RedisCluster {
    /// The first masters.
    pub masters: Vec<RedisNode>,
    /// The replica of each.
    pub replicas: Vec<RedisNode>,
}

impl RedisCluster {
    /// Starts a cluster, and waits until it serves every slot and could lose
    /// any master.
    pub async fn start() -> Self {
        let arguments = ["--cluster-enabled", "yes", "--cluster-node-timeout", "1500"];
        let mut cluster = Self {
            masters: Vec::new(),
            replicas: Vec::new(),
        };
        for _ in 0..3 {
            cluster.masters.push(RedisNode::start(&arguments).await);
            cluster.replicas.push(RedisNode::start(&arguments).await);
        }
        for (number, master) in cluster.masters.iter().enumerate() {
            let first = number * 16384 / 3;
            let last = (number + 1) * 16384 / 3 - 1;
            let own = [
                "CLUSTER",
                "ADDSLOTSRANGE",
                &first.to_string(),
                &last.to_string(),
            ];
            master.command::<String>(&own).await;
            let epoch = ["CLUSTER", "SET-CONFIG-EPOCH", &(number + 1).to_string()];
            master.command::<String>(&epoch).await;
        }
        let first = &cluster.masters[0];
        for node in cluster.masters.iter().skip(1).chain(&cluster.replicas) {
            let meet = ["CLUSTER", "MEET", "127.0.0.1", &node.port().to_string()];
            first.command::<String>(&meet).await;
        }
        for (master, replica) in cluster.masters.iter().zip(&cluster.replicas) {
            let id: String = master.command(&["CLUSTER", "MYID"]).await;
            eventually(SOON, "a replica to know its master", || async {
                let follow = ["CLUSTER", "REPLICATE", &id];
                replica.ask::<String>(&follow).await.ok()
            })
            .await;
        }
        cluster.is_whole().await;
        cluster
    }

    /// Waits until every node sees every slot served, and every replica follows.
    async fn is_whole(&self) {
        for node in self.masters.iter().chain(&self.replicas) {
            eventually(SOON, "the cluster to be whole", || async {
                let info: String = node.ask(&["CLUSTER", "INFO"]).await.ok()?;
                let whole = info.contains("cluster_state:ok")
                    && info.contains("cluster_slots_ok:16384")
                    && info.contains("cluster_known_nodes:6");
                whole.then_some(())
            })
            .await;
        }
        for replica in &self.replicas {
            eventually(SOON, "a replica to follow", || async {
                let link = replica.replication("master_link_status").await;
                (link.as_deref() == Some("up")).then_some(())
            })
            .await;
        }
    }

    /// Waits until the replica of a master has taken its place.
    pub async fn failed_over(&self, number: usize) {
        eventually(SOON, "a replica to be promoted", || async {
            let role = self.replicas[number].replication("role").await;
            (role.as_deref() == Some("master")).then_some(())
        })
        .await;
    }
}

impl Redis for RedisCluster {
    fn url(&self) -> String {
        let masters = self.masters.iter().map(RedisNode::address);
        let masters = masters.collect::<Vec<_>>().join(",");
        format!("redis-cluster://{masters}")
    }
}
