//! The texts in which a secret value can show up, besides those that only
//! escape some of its characters.

use std::collections::BTreeSet;

use base64::{
    Engine,
    prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD},
};
use millstream_shared::connection::SECRET_CHARACTERS_MIN;
use url::Url;

/// The shortest piece of a secret that is hidden by itself, in characters.
const PIECE_CHARACTERS_MIN: usize = 8;

/// The shortest piece of base64 that is: it is hardly a word of something else.
const BASE64_CHARACTERS_MIN: usize = 4;

/// All of them, for one value.
pub(super) fn of(value: &str) -> BTreeSet<String> {
    let mut forms = BTreeSet::new();
    // Programs and templates tend to take away what surrounds a value.
    let lines = value.lines().map(str::trim);
    for part in [value, value.trim()].into_iter().chain(lines) {
        if part.chars().count() < SECRET_CHARACTERS_MIN {
            continue;
        }
        forms.insert(part.to_owned());
        forms.extend(in_addresses(part));
        forms.extend(in_base64(part));
    }
    forms
}

/// What is left of a value in addresses that it was written into, or that it
/// is. A `?` or `#` in it parts it, and a host is written in small letters and
/// in ASCII.
fn in_addresses(text: &str) -> Vec<String> {
    let mut pieces = Vec::new();
    let addresses = [
        text.to_owned(),
        format!("http://{text}/"),
        format!("http://host/{text}"),
        format!("http://host/?{text}"),
    ];
    for address in addresses {
        let Ok(url) = Url::parse(&address) else {
            continue;
        };
        let path = url.path().trim_start_matches('/');
        let parts = [url.host_str(), Some(path), url.query(), url.fragment()];
        pieces.extend(parts.into_iter().flatten().map(str::to_owned));
    }
    pieces.retain(|piece| piece.chars().count() >= PIECE_CHARACTERS_MIN);
    pieces
}

/// What base64 makes of a value: by itself, and of a text that it stands in,
/// such as `user:password`, the characters that depend on nothing else.
fn in_base64(text: &str) -> Vec<String> {
    let mut forms = Vec::new();
    for engine in [BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD] {
        forms.push(engine.encode(text));
        for before in 0..3 {
            let padded = [&b"\0\0"[..before], text.as_bytes()].concat();
            let encoded = engine.encode(&padded);
            let start = (before * 8).div_ceil(6);
            let end = padded.len() * 8 / 6;
            let core = encoded.get(start..end).unwrap_or_default();
            if core.len() >= BASE64_CHARACTERS_MIN {
                forms.push(core.to_owned());
            }
        }
    }
    forms
}
