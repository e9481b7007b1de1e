//! Making keys: generated ones, and the one that is there from the start.

use anyhow::{Context, bail};
use millstream_shared::{
    access::{Key, KeyFlows, KeySet, PresentedKey, key_text},
    store::Store,
};

use crate::clock;

/// The text of a new key, with 256 bits that nobody can foresee.
pub(crate) fn generate() -> Result<String, getrandom::Error> {
    let mut randomness = [0; 40];
    getrandom::fill(&mut randomness)?;
    Ok(key_text(&randomness))
}

/// Whether a text may become a key that was not generated here.
pub(crate) fn check_imported(text: &str) -> Result<(), &'static str> {
    let lengths = PresentedKey::IMPORTED_CHARACTERS_MIN..=PresentedKey::CHARACTERS_MAX;
    let visible = text.bytes().all(|byte| byte.is_ascii_graphic());
    if lengths.contains(&text.len()) && visible {
        Ok(())
    } else {
        Err("must be 16 to 256 visible ASCII characters, without spaces")
    }
}

/// Makes sure that `text` is a valid key of administration.
///
/// # Errors
/// Fails where the text may not be a key, where it takes the id of another one,
/// and where the store fails.
pub(crate) async fn seed_admin(store: &Store, text: &str) -> anyhow::Result<()> {
    if let Err(why) = check_imported(text) {
        bail!("MILLSTREAM_ADMIN_KEY {why}");
    }
    let presented = PresentedKey::parse(text).context("MILLSTREAM_ADMIN_KEY")?;
    let there = store.key(&presented.id).await?;
    let now_ms = clock::now_ms();
    match there {
        Some(key) if key.digest != presented.digest => {
            bail!(
                "MILLSTREAM_ADMIN_KEY has the id `{}` of another key",
                key.id
            );
        }
        Some(key) if key.is_admin() && !key.is_expired(now_ms) => return Ok(()),
        _ => {}
    }
    let key = Key {
        id: presented.id,
        name: "MILLSTREAM_ADMIN_KEY".to_owned(),
        set: KeySet::Administration,
        rights: KeySet::Administration.rights().to_vec(),
        flows: KeyFlows::All,
        digest: presented.digest,
        created_at_ms: now_ms,
        expires_at_ms: None,
    };
    store.put_key(&key).await?;
    tracing::info!(key = %key.id, "admin key seeded");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_keys_differ_and_can_be_read_back() {
        let (one, other) = (generate().unwrap(), generate().unwrap());
        assert_ne!(one, other);
        let id = PresentedKey::parse(&one).unwrap().id;
        assert!(one.starts_with(&format!("ms_{id}_")), "{one}");
    }

    #[test]
    fn an_imported_key_is_long_enough_and_fits_a_header() {
        assert!(check_imported("0f8fad5b-d9cb-469f-a165-70867728950e").is_ok());
        let long = "x".repeat(257);
        for bad in [
            "",
            "short",
            "has a space in the middle",
            "ümlautümlautümlaut",
            &long,
        ] {
            assert!(check_imported(bad).is_err(), "{bad}");
        }
    }
}
