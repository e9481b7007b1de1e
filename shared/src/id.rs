//! The names of things: one type each, parsed once at the edge.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Why a text is not the name it was meant to be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind} must be {expected}, not `{given}`")]
pub struct InvalidId {
    kind: &'static str,
    expected: &'static str,
    given: String,
}

impl InvalidId {
    fn new(kind: &'static str, expected: &'static str, given: &str) -> Self {
        // An error is shown to people: enough of the text to recognise it by.
        let given = given.chars().take(140).collect();
        Self {
            kind,
            expected,
            given,
        }
    }
}

/// Whether `text` has 1 to `max` bytes, of which the first is one of `first`
/// and all are of `all`.
fn is_name(text: &str, max: usize, first: fn(u8) -> bool, all: fn(u8) -> bool) -> bool {
    let mut bytes = text.bytes();
    text.len() <= max && bytes.next().is_some_and(first) && text.bytes().all(all)
}

/// The name a flow's author gave it, such as `nightly-sales`, or a GUID.
///
/// 1 to 128 letters, digits, dots, dashes and underscores, starting with a
/// letter or digit, so that it is safe as part of a URL and of a Redis key.
#[derive(
    Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "String")]
#[schemars(extend("pattern" = "^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"))]
pub struct FlowId(String);

impl FlowId {
    const EXPECTED: &str = "1 to 128 of A-Z a-z 0-9 . _ - and start with a letter or digit";

    /// The name as its author wrote it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for FlowId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let first = |byte: u8| byte.is_ascii_alphanumeric();
        let rest = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if is_name(text, 128, first, rest) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidId::new("a flow id", Self::EXPECTED, text))
        }
    }
}

impl TryFrom<String> for FlowId {
    type Error = InvalidId;

    fn try_from(text: String) -> Result<Self, InvalidId> {
        text.parse()
    }
}

impl fmt::Display for FlowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of a step within its flow, such as `by_country`.
///
/// 1 to 64 letters, digits and underscores, starting with a letter, so that
/// it can stand in an expression (`steps.by_country.rows`) and be the name of
/// a table in SQL. Two steps of a flow differ in more than case.
#[derive(
    Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "String")]
#[schemars(extend("pattern" = "^[A-Za-z][A-Za-z0-9_]{0,63}$"))]
pub struct StepId(String);

impl StepId {
    const EXPECTED: &str = "1 to 64 of A-Z a-z 0-9 _ and start with a letter";

    /// The name as its author wrote it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for StepId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let first = |byte: u8| byte.is_ascii_alphabetic();
        let rest = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        if is_name(text, 64, first, rest) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidId::new("a step id", Self::EXPECTED, text))
        }
    }
}

impl TryFrom<String> for StepId {
    type Error = InvalidId;

    fn try_from(text: String) -> Result<Self, InvalidId> {
        text.parse()
    }
}

impl fmt::Display for StepId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What an administrator calls a connection, and a flow names it by.
///
/// 1 to 64 letters, digits, dashes and underscores, starting with a letter.
#[derive(
    Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "String")]
#[schemars(extend("pattern" = "^[A-Za-z][A-Za-z0-9_-]{0,63}$"))]
pub struct ConnectionName(String);

impl ConnectionName {
    const EXPECTED: &str = "1 to 64 of A-Z a-z 0-9 _ - and start with a letter";

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ConnectionName {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let first = |byte: u8| byte.is_ascii_alphabetic();
        let rest = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
        if is_name(text, 64, first, rest) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidId::new("a connection", Self::EXPECTED, text))
        }
    }
}

impl TryFrom<String> for ConnectionName {
    type Error = InvalidId;

    fn try_from(text: String) -> Result<Self, InvalidId> {
        text.parse()
    }
}

impl fmt::Display for ConnectionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What an administrator calls a secret, so that it can stand in an expression:
/// `{{ secrets.name }}`.
///
/// 1 to 64 letters, digits and underscores, starting with a letter.
#[derive(
    Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "String")]
#[schemars(extend("pattern" = "^[A-Za-z][A-Za-z0-9_]{0,63}$"))]
pub struct SecretName(String);

impl SecretName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SecretName {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let first = |byte: u8| byte.is_ascii_alphabetic();
        let rest = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        if is_name(text, 64, first, rest) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidId::new("a secret", StepId::EXPECTED, text))
        }
    }
}

impl TryFrom<String> for SecretName {
    type Error = InvalidId;

    fn try_from(text: String) -> Result<Self, InvalidId> {
        text.parse()
    }
}

impl fmt::Display for SecretName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a worker must offer to take a flow's runs: `default` unless said.
///
/// 1 to 32 lower-case letters, digits and dashes, starting with a letter.
#[derive(
    Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "String")]
#[schemars(extend("pattern" = "^[a-z][a-z0-9-]{0,31}$"))]
pub struct WorkerTag(String);

impl WorkerTag {
    const EXPECTED: &str = "1 to 32 of a-z 0-9 - and start with a letter";

    /// The tag as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for WorkerTag {
    fn default() -> Self {
        Self("default".to_owned())
    }
}

impl FromStr for WorkerTag {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let first = |byte: u8| byte.is_ascii_lowercase();
        let rest = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if is_name(text, 32, first, rest) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidId::new("a worker tag", Self::EXPECTED, text))
        }
    }
}

impl TryFrom<String> for WorkerTag {
    type Error = InvalidId;

    fn try_from(text: String) -> Result<Self, InvalidId> {
        text.parse()
    }
}

impl fmt::Display for WorkerTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One execution of a flow: a UUID of version 7, so that ids sort by time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(Uuid);

impl RunId {
    /// A new id, unlike any other.
    pub fn new() -> Self {
        Self(Uuid::now_v7())
    }

    /// A new id whose run belongs to one of so many partitions, 256 at most.
    pub fn in_partition(partition: u8, partitions: u16) -> Self {
        let mut bytes = *Uuid::now_v7().as_bytes();
        let last = u16::from(bytes[15]);
        let fitting = last - last % partitions + u16::from(partition);
        // Past the last byte value the one a round earlier fits as well.
        bytes[15] = u8::try_from(fitting).unwrap_or_else(|_| (fitting - partitions) as u8);
        Self(Uuid::from_bytes(bytes))
    }

    /// Which of so many partitions the run belongs to: its last byte, modulo
    /// their number. Whoever has the id knows where the run is.
    pub fn partition(self, partitions: u16) -> u8 {
        (u16::from(self.0.as_bytes()[15]) % partitions) as u8
    }
}

impl Default for RunId {
    fn default() -> Self {
        Self::new()
    }
}

impl FromStr for RunId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        Uuid::try_parse(text)
            .map(Self)
            .map_err(|_| InvalidId::new("a run id", "a UUID", text))
    }
}

/// One incarnation of a process, never used again: a worker's name as a
/// consumer of the queue, an API process's name as a place to send news to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProcessId(Uuid);

impl ProcessId {
    /// A new id. A restarted process draws another one, so that nobody takes
    /// it for the process that died.
    pub fn new() -> Self {
        Self(Uuid::new_v4())
    }
}

impl Default for ProcessId {
    fn default() -> Self {
        Self::new()
    }
}

/// Which API key: the public part of it, safe to log and to list.
///
/// 1 to 64 letters, digits and dashes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct KeyId(String);

impl KeyId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for KeyId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        if is_name(text, 64, allowed, allowed) {
            Ok(Self(text.to_owned()))
        } else {
            let expected = "1 to 64 of A-Z a-z 0-9 -";
            Err(InvalidId::new("a key id", expected, text))
        }
    }
}

impl TryFrom<String> for KeyId {
    type Error = InvalidId;

    fn try_from(text: String) -> Result<Self, InvalidId> {
        text.parse()
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for ProcessId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_id_is_a_plain_word_or_a_guid() {
        for good in [
            "updatesales",
            "0f8fad5b-d9cb-469f-a165-70867728950e",
            "a.b_c-d",
            "7",
        ] {
            assert_eq!(good.parse::<FlowId>().unwrap().as_str(), good);
        }
        for bad in ["", "-a", ".a", "a b", "a/b", "a{b}", "é", &"x".repeat(129)] {
            assert!(bad.parse::<FlowId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_run_is_drawn_into_the_partition_that_its_id_says() {
        for partitions in [1, 3, 12, 255, 256] {
            for partition in 0..partitions {
                let partition = partition as u8;
                let run = RunId::in_partition(partition, partitions);
                assert_eq!(run.partition(partitions), partition, "of {partitions}");
            }
        }
    }

    #[test]
    fn a_step_id_can_stand_in_an_expression() {
        assert!("by_country2".parse::<StepId>().is_ok());
        for bad in ["", "2x", "by-country", "a.b", "_x", &"x".repeat(65)] {
            assert!(bad.parse::<StepId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_error_names_what_was_expected_and_given() {
        let message = "a b".parse::<FlowId>().unwrap_err().to_string();
        assert!(message.contains("a flow id must be 1 to 128"), "{message}");
        assert!(message.contains("`a b`"), "{message}");
    }
}
