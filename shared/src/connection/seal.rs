//! Sealing what is secret: XChaCha20-Poly1305 (RFC 8439, with the longer nonce
//! of draft-irtf-cfrg-xchacha), so that who reads Redis or its files learns
//! nothing, and who changes them is found out.

use std::{fmt, str::FromStr};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use chacha20poly1305::{
    Key, XChaCha20Poly1305, XNonce,
    aead::{Aead, KeyInit, Payload},
};
use sha2::{Digest, Sha256};

/// The keys that secrets are sealed with: `MILLSTREAM_SECRETS_KEY`.
///
/// The first one seals; all of them open, so that a key can be replaced: put the
/// new one in front, seal everything anew, take the old one away.
#[derive(Clone)]
pub struct SecretsKeys(Vec<SecretsKey>);

#[derive(Clone)]
struct SecretsKey {
    /// Tells keys apart without telling anything of them.
    id: [u8; 4],
    cipher: XChaCha20Poly1305,
}

/// Why a sealed value cannot be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotSealed {
    /// It was sealed with a key that is not there.
    #[error("it was sealed with key {0}, which is not among those of MILLSTREAM_SECRETS_KEY")]
    OtherKey(String),
    /// It is not what was sealed, or not for this name.
    #[error("it was damaged, or belongs to another name")]
    Damaged,
}

const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 24;

/// The first part of a sealed value: which way of sealing this is.
const SCHEME: &str = "x1";

impl SecretsKeys {
    /// The text of a new key.
    ///
    /// # Errors
    /// Fails where the system has no randomness.
    pub fn generate() -> Result<String, getrandom::Error> {
        let mut key = [0; KEY_BYTES];
        getrandom::fill(&mut key)?;
        Ok(BASE64_STANDARD.encode(key))
    }

    /// Seals a text under a name: it opens under no other.
    ///
    /// # Errors
    /// Fails where the system has no randomness.
    pub fn seal(&self, name: &str, text: &str) -> Result<String, getrandom::Error> {
        let key = &self.0[0];
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce)?;
        let payload = Payload {
            msg: text.as_bytes(),
            aad: name.as_bytes(),
        };
        let sealed = key.cipher.encrypt(&XNonce::from(nonce), payload);
        let sealed = sealed.expect("a text is far shorter than what can be sealed");
        let nonce_and_sealed = [&nonce[..], &sealed].concat();
        let id = hex(&key.id);
        Ok(format!(
            "{SCHEME}.{id}.{}",
            BASE64_STANDARD.encode(nonce_and_sealed)
        ))
    }

    /// Opens what was sealed under this name.
    ///
    /// # Errors
    /// Fails where the key is not there, or it was not sealed under this name.
    pub fn open(&self, name: &str, sealed: &str) -> Result<String, NotSealed> {
        let mut parts = sealed.splitn(3, '.');
        let (Some(SCHEME), Some(id), Some(text)) = (parts.next(), parts.next(), parts.next())
        else {
            return Err(NotSealed::Damaged);
        };
        let key = self.0.iter().find(|key| hex(&key.id) == id);
        let key = key.ok_or_else(|| NotSealed::OtherKey(id.chars().take(8).collect()))?;
        let bytes = BASE64_STANDARD.decode(text);
        let bytes = bytes.map_err(|_| NotSealed::Damaged)?;
        let (nonce, sealed) = bytes
            .split_first_chunk::<NONCE_BYTES>()
            .ok_or(NotSealed::Damaged)?;
        let payload = Payload {
            msg: sealed,
            aad: name.as_bytes(),
        };
        let opened = key.cipher.decrypt(&XNonce::from(*nonce), payload);
        let opened = opened.map_err(|_| NotSealed::Damaged)?;
        String::from_utf8(opened).map_err(|_| NotSealed::Damaged)
    }

    /// Whether a value was sealed with the key that seals now.
    pub fn is_current(&self, sealed: &str) -> bool {
        let start = format!("{SCHEME}.{}.", hex(&self.0[0].id));
        sealed.starts_with(&start)
    }
}

/// A text that is no key for secrets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be 32 bytes in base64, or several such keys with commas between")]
pub struct InvalidSecretsKey;

impl FromStr for SecretsKeys {
    type Err = InvalidSecretsKey;

    fn from_str(text: &str) -> Result<Self, InvalidSecretsKey> {
        let key = |text: &str| {
            let bytes = BASE64_STANDARD.decode(text.trim()).ok()?;
            let bytes: [u8; KEY_BYTES] = bytes.try_into().ok()?;
            let digest: [u8; 32] = Sha256::digest(bytes).into();
            let [first, second, third, fourth, ..] = digest;
            Some(SecretsKey {
                id: [first, second, third, fourth],
                cipher: XChaCha20Poly1305::new(&Key::from(bytes)),
            })
        };
        let keys: Option<Vec<_>> = text.split(',').map(key).collect();
        keys.map(Self).ok_or(InvalidSecretsKey)
    }
}

impl fmt::Debug for SecretsKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretsKeys({} keys)", self.0.len())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(text: &str) -> SecretsKeys {
        text.parse().unwrap()
    }

    #[test]
    fn what_was_sealed_opens_under_its_name_alone() {
        let keys = keys(&SecretsKeys::generate().unwrap());
        let sealed = keys.seal("warehouse", "pass word ø").unwrap();
        assert!(!sealed.contains("pass"));
        assert_eq!(keys.open("warehouse", &sealed).unwrap(), "pass word ø");
        assert_eq!(keys.open("crm", &sealed), Err(NotSealed::Damaged));
        assert_ne!(keys.seal("warehouse", "pass word ø").unwrap(), sealed);
    }

    #[test]
    fn every_change_is_found_out() {
        let keys = keys(&SecretsKeys::generate().unwrap());
        let sealed = keys.seal("a", "secret").unwrap();
        for place in 0..sealed.len() {
            let mut changed = sealed.clone().into_bytes();
            changed[place] = if changed[place] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert!(keys.open("a", &changed).is_err(), "{changed}");
        }
        for text in ["", "x1", "x1..", "x1.00000000.AAAA", "secret"] {
            assert!(keys.open("a", text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_key_is_replaced_step_by_step() {
        let (old, new) = (
            SecretsKeys::generate().unwrap(),
            SecretsKeys::generate().unwrap(),
        );
        let sealed = keys(&old).seal("a", "secret").unwrap();
        let both = keys(&format!("{new}, {old}"));
        assert_eq!(both.open("a", &sealed).unwrap(), "secret");
        assert!(!both.is_current(&sealed));
        let anew = both.seal("a", "secret").unwrap();
        assert!(both.is_current(&anew));
        assert_eq!(keys(&new).open("a", &anew).unwrap(), "secret");
        let error = keys(&new).open("a", &sealed).unwrap_err();
        assert!(error.to_string().contains("MILLSTREAM_SECRETS_KEY"));
    }

    #[test]
    fn a_key_that_is_none_is_refused_and_none_is_shown() {
        for text in ["", "short", "not base64!", &"A".repeat(43)] {
            assert!(text.parse::<SecretsKeys>().is_err(), "{text}");
        }
        let text = SecretsKeys::generate().unwrap();
        assert_eq!(format!("{:?}", keys(&text)), "SecretsKeys(1 keys)");
    }
}
