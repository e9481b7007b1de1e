//! A partition: runs whose keys lie together, so that one script may change
//! them. In a cluster each lies in one slot, and so on one server.

use std::sync::Arc;

use super::{
    link::Link,
    scripts::{Call, Script},
};

/// How many slots a cluster has.
const SLOTS: u16 = 16384;

/// Where some of the runs are kept.
pub(super) struct Partition {
    /// What all its keys start with.
    prefix: String,
    /// The word that publishes on a channel.
    publish: &'static str,
    link: Arc<Link>,
}

impl Partition {
    /// The partition with this tag. In a cluster its messages stay within its
    /// shard: others would be sent to every node.
    pub(super) fn new(tag: &str, in_cluster: bool, link: Arc<Link>) -> Self {
        Self {
            prefix: format!("ms:{{{tag}}}:"),
            publish: if in_cluster { "SPUBLISH" } else { "PUBLISH" },
            link,
        }
    }

    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The word that publishes on a channel of the partition.
    pub(super) fn publish(&self) -> &'static str {
        self.publish
    }

    pub(super) fn link(&self) -> &Link {
        &self.link
    }

    /// A call of a script on this partition.
    pub(super) fn call<'p>(&'p self, script: &'static Script) -> Call<'p> {
        Call::new(script, self)
    }
}

/// The hash tags of so many partitions. Each is in a range of slots of its own,
/// and these ranges are of one size, so that the partitions spread evenly over
/// the servers of a cluster, which their plain numbers would not.
pub(super) fn tags(partitions: u16) -> Vec<String> {
    let range = |slot: u16| u32::from(slot) * u32::from(partitions) / u32::from(SLOTS);
    let in_range = |partition: u16, tag: &String| range(slot(tag)) == u32::from(partition);
    let tag = |partition: u16| {
        let plain = std::iter::once(partition.to_string());
        let further = (1_u32..).map(|number| format!("{partition}-{number}"));
        plain.chain(further).find(|tag| in_range(partition, tag))
    };
    (0..partitions).filter_map(tag).collect()
}

/// The slot of a key that is a hash tag or has none: CRC-16/XMODEM, as the
/// specification of Redis Cluster has it.
pub(super) fn slot(key: &str) -> u16 {
    let crc = key.bytes().fold(0_u16, |crc, byte| {
        (0..8).fold(crc ^ u16::from(byte) << 8, |crc, _| {
            let shifted = crc << 1;
            if crc & 0x8000 == 0 {
                shifted
            } else {
                shifted ^ 0x1021
            }
        })
    });
    crc % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_the_one_that_the_specification_names() {
        // Both from the specification and from `CLUSTER KEYSLOT`.
        assert_eq!(slot("123456789"), 0x31C3 % SLOTS);
        assert_eq!(slot("foo"), 12182);
    }

    #[test]
    fn one_partition_has_the_tag_0() {
        assert_eq!(tags(1), ["0"]);
    }

    #[test]
    fn each_partition_has_a_range_of_slots_of_its_own() {
        for partitions in [2, 12, 256] {
            let tags = tags(partitions);
            assert_eq!(tags.len(), usize::from(partitions));
            for (partition, tag) in tags.iter().enumerate() {
                let width = f64::from(SLOTS) / f64::from(partitions);
                let range = (f64::from(slot(tag)) / width) as usize;
                assert_eq!(range, partition, "{tag} of {partitions}");
            }
        }
    }
}
