//! Keys, rights, and what allows what. Pure: no Redis, no clock, no randomness.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::id::{FlowId, KeyId};

/// What a caller shows to be let in, as it is stored: without its text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// The public part of it.
    pub id: KeyId,
    /// What people call it.
    pub name: String,
    /// What it is for.
    pub set: KeySet,
    /// What its bearer may do, each right once.
    pub rights: Vec<Right>,
    /// The flows that its bearer may do it to.
    pub flows: KeyFlows,
    /// By which its text is recognised.
    pub digest: KeyDigest,
    /// Milliseconds since 1970.
    pub created_at_ms: u64,
    /// From then on it is not accepted; milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at_ms: Option<u64>,
}

impl Key {
    /// Whether its bearer may do this to the flow.
    pub fn allows(&self, right: Right, flow: &FlowId) -> bool {
        self.rights.contains(&right) && self.flows.contains(flow)
    }

    /// Whether its bearer may use the routes of administration.
    pub fn is_admin(&self) -> bool {
        self.set == KeySet::Administration
    }

    /// Whether its time has passed at `now_ms`, milliseconds since 1970.
    pub fn is_expired(&self, now_ms: u64) -> bool {
        self.expires_at_ms.is_some_and(|expiry| expiry <= now_ms)
    }

    /// Whether what a caller showed is this key and is in force at `now_ms`,
    /// milliseconds since 1970.
    pub fn admits(&self, presented: &PresentedKey, now_ms: u64) -> bool {
        self.digest == presented.digest && !self.is_expired(now_ms)
    }
}

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeySet {
    /// Starting flows and following the runs.
    Execution,
    /// Looking on.
    Monitoring,
    /// Everything, with the flows and keys themselves.
    Administration,
}

impl KeySet {
    /// The rights that a key of this set can have, and has unless fewer were
    /// asked for.
    pub fn rights(self) -> &'static [Right] {
        match self {
            Self::Execution | Self::Administration => &[Right::Start, Right::Read, Right::Cancel],
            Self::Monitoring => &[Right::Read],
        }
    }
}

impl fmt::Display for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Execution => "execution",
            Self::Monitoring => "monitoring",
            Self::Administration => "administration",
        })
    }
}

/// Something that the bearer of a key may do to a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Right {
    /// Start runs.
    Start,
    /// See the status and everything else of a run.
    Read,
    /// Cancel runs.
    Cancel,
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Start => "start",
            Self::Read => "read",
            Self::Cancel => "cancel",
        })
    }
}

/// The flows that a key is for: `["*"]`, or their ids.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub enum KeyFlows {
    /// Every flow, also one that is published later.
    All,
    /// These flows.
    Only(Vec<FlowId>),
}

impl KeyFlows {
    fn contains(&self, flow: &FlowId) -> bool {
        match self {
            Self::All => true,
            Self::Only(flows) => flows.contains(flow),
        }
    }
}

impl TryFrom<Vec<String>> for KeyFlows {
    type Error = crate::id::InvalidId;

    fn try_from(names: Vec<String>) -> Result<Self, Self::Error> {
        // No flow can be called `*`, so that it cannot mean anything else.
        if names == ["*"] {
            return Ok(Self::All);
        }
        let flows = names.into_iter().map(FlowId::try_from);
        flows.collect::<Result<_, _>>().map(Self::Only)
    }
}

impl From<KeyFlows> for Vec<String> {
    fn from(flows: KeyFlows) -> Self {
        match flows {
            KeyFlows::All => vec!["*".to_owned()],
            KeyFlows::Only(flows) => flows.into_iter().map(|flow| flow.to_string()).collect(),
        }
    }
}

/// The SHA-256 of a key's text. Two of them are compared in constant time.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyDigest([u8; 32]);

impl KeyDigest {
    /// The digest of a key's whole text.
    pub fn of(text: &str) -> Self {
        Self(Sha256::digest(text.as_bytes()).into())
    }
}

impl PartialEq for KeyDigest {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyDigest(…)")
    }
}

impl From<KeyDigest> for String {
    fn from(digest: KeyDigest) -> Self {
        hex(&digest.0)
    }
}

/// A stored text that is not the digest of a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the digest of a key must be 64 hexadecimal digits")]
pub struct InvalidDigest;

impl TryFrom<String> for KeyDigest {
    type Error = InvalidDigest;

    fn try_from(text: String) -> Result<Self, InvalidDigest> {
        let digit = |byte: u8| (byte as char).to_digit(16).ok_or(InvalidDigest);
        let mut bytes = [0; 32];
        if text.len() != 2 * bytes.len() {
            return Err(InvalidDigest);
        }
        for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
            *byte = (digit(digits[0])? << 4 | digit(digits[1])?) as u8;
        }
        Ok(Self(bytes))
    }
}

/// What a caller showed, or an administrator brought along: where to look for
/// the key, and what to compare. The text itself is not in it.
#[derive(Clone, Debug, PartialEq)]
pub struct PresentedKey {
    /// The id under which the key is stored if there is one.
    pub id: KeyId,
    /// What the key's digest must be.
    pub digest: KeyDigest,
}

/// A text that cannot be a key, whatever is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a key must be 1 to {} characters", PresentedKey::CHARACTERS_MAX)]
pub struct InvalidKey;

impl PresentedKey {
    /// No key is longer than this.
    pub const CHARACTERS_MAX: usize = 256;
    /// A key that was not generated must be at least as long as this, so that
    /// it cannot be guessed.
    pub const IMPORTED_CHARACTERS_MIN: usize = 16;

    /// Reads the text of a key.
    ///
    /// `ms_<id>_<secret>` says its id itself. Any other text (a GUID of the
    /// old system) is stored under an id that follows from its digest, so that
    /// it too is found by one look.
    ///
    /// # Errors
    /// Fails where the text is empty or too long.
    pub fn parse(text: &str) -> Result<Self, InvalidKey> {
        if text.is_empty() || text.len() > Self::CHARACTERS_MAX {
            return Err(InvalidKey);
        }
        let digest = KeyDigest::of(text);
        let spoken = text
            .strip_prefix("ms_")
            .and_then(|rest| rest.split_once('_'))
            .and_then(|(id, _)| id.parse().ok());
        let id = spoken.unwrap_or_else(|| Self::derived_id(&digest));
        Ok(Self { id, digest })
    }

    fn derived_id(digest: &KeyDigest) -> KeyId {
        format!("x{}", hex(&digest.0[..12]))
            .parse()
            .expect("25 letters and digits are a key id")
    }
}

/// The text of a new key. `randomness` must come from a source that nobody
/// can foresee; 8 bytes of it become the public id, 32 the secret.
pub fn key_text(randomness: &[u8; 40]) -> String {
    let (id, secret) = randomness.split_at(8);
    format!("ms_{}_{}", hex(id), hex(secret))
}

/// The SHA-256 of the parts, one after the other with a zero byte in between,
/// as 64 hexadecimal digits.
pub fn sha256_hex(parts: &[&[u8]]) -> String {
    let mut sum = Sha256::new();
    for (place, part) in parts.iter().enumerate() {
        if place > 0 {
            sum.update([0]);
        }
        sum.update(part);
    }
    hex(&sum.finalize())
}

/// The bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from(b"0123456789abcdef"[usize::from(nibble)]);
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GUID: &str = "0f8fad5b-d9cb-469f-a165-70867728950e";

    fn key(set: KeySet, flows: &[&str]) -> Key {
        let presented = PresentedKey::parse(GUID).unwrap();
        let flows: Vec<_> = flows.iter().map(|flow| (*flow).to_owned()).collect();
        Key {
            id: presented.id,
            name: "test".into(),
            set,
            rights: set.rights().to_vec(),
            flows: flows.try_into().unwrap(),
            digest: presented.digest,
            created_at_ms: 0,
            expires_at_ms: None,
        }
    }

    fn flow(id: &str) -> FlowId {
        id.parse().unwrap()
    }

    #[test]
    fn a_key_allows_its_rights_on_its_flows_only() {
        let execution = key(KeySet::Execution, &["sales", "stock"]);
        assert!(execution.allows(Right::Start, &flow("stock")));
        assert!(!execution.allows(Right::Start, &flow("wages")));
        let monitoring = key(KeySet::Monitoring, &["*"]);
        assert!(monitoring.allows(Right::Read, &flow("wages")));
        assert!(!monitoring.allows(Right::Start, &flow("wages")));
        assert!(!monitoring.allows(Right::Cancel, &flow("wages")));
    }

    #[test]
    fn only_a_key_of_administration_is_an_admin_key() {
        assert!(key(KeySet::Administration, &["*"]).is_admin());
        assert!(!key(KeySet::Execution, &["*"]).is_admin());
        assert!(!key(KeySet::Monitoring, &["*"]).is_admin());
    }

    #[test]
    fn a_key_admits_its_own_text_until_it_expires() {
        let mut key = key(KeySet::Execution, &["*"]);
        let right = PresentedKey::parse(GUID).unwrap();
        let wrong = PresentedKey::parse(&GUID.to_uppercase()).unwrap();
        assert!(key.admits(&right, u64::MAX));
        assert!(!key.admits(&wrong, 0));
        key.expires_at_ms = Some(1000);
        assert!(key.admits(&right, 999));
        assert!(!key.admits(&right, 1000));
    }

    #[test]
    fn a_generated_key_says_its_id_and_any_other_text_has_one_that_follows_from_it() {
        let text = key_text(&std::array::from_fn(|place| place as u8));
        assert!(text.starts_with("ms_0001020304050607_0809"), "{text}");
        let presented = PresentedKey::parse(&text).unwrap();
        assert_eq!(presented.id.as_str(), "0001020304050607");

        let guid = PresentedKey::parse(GUID).unwrap();
        assert_eq!(guid.id.as_str().len(), 25);
        assert!(guid.id.as_str().starts_with('x'));
        assert_eq!(guid, PresentedKey::parse(GUID).unwrap());
        for odd in ["ms_", "ms__secret", "ms_a b_secret", "ms_nothing"] {
            let id = PresentedKey::parse(odd).unwrap().id;
            assert!(id.as_str().starts_with('x'), "{odd}");
        }
    }

    #[test]
    fn an_empty_or_endless_text_is_no_key() {
        assert!(PresentedKey::parse("").is_err());
        assert!(PresentedKey::parse(&"x".repeat(256)).is_ok());
        assert!(PresentedKey::parse(&"x".repeat(257)).is_err());
    }

    #[test]
    fn a_key_is_stored_without_its_text_and_read_back_the_same() {
        let mut stored = key(KeySet::Execution, &["sales", GUID]);
        stored.expires_at_ms = Some(5);
        stored.flows = KeyFlows::Only(vec![flow("sales")]);
        let json = serde_json::to_string(&stored).unwrap();
        assert!(!json.contains(GUID), "{json}");
        assert!(json.contains(r#""rights":["start","read","cancel"],"flows":["sales"]"#));
        assert_eq!(serde_json::from_str::<Key>(&json).unwrap(), stored);
    }

    #[test]
    fn a_digest_of_another_length_or_alphabet_is_refused() {
        for bad in ["", "00", &"g".repeat(64), &"é".repeat(32)] {
            assert!(KeyDigest::try_from(bad.to_owned()).is_err(), "{bad}");
        }
        assert!(!format!("{:?}", KeyDigest::of(GUID)).contains("0"));
    }

    #[test]
    fn the_digest_of_parts_tells_where_one_ends() {
        assert_ne!(sha256_hex(&[b"ab", b"c"]), sha256_hex(&[b"a", b"bc"]));
        let known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256_hex(&[b"abc"]), known);
    }
}
