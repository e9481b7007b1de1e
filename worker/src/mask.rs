//! Takes secret values out of whatever leaves a step.

use std::{
    collections::BTreeSet,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use base64::{
    Engine,
    prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD},
};
use millstream_shared::connection::SECRET_CHARACTERS_MIN;
use serde_json::{Map, Value};
use url::{Url, form_urlencoded};

/// What stands in the place of a secret.
const HIDDEN: &str = "***";

/// The shortest piece of a secret that is hidden by itself, in characters.
const PIECE_CHARACTERS_MIN: usize = 8;

/// The secret values that a step knows, and how they are found again.
///
/// They are found as they are, escaped as in JSON and in addresses, and in
/// base64. A value of several lines is found line by line too, since that is
/// how programs print it. Clones share the values.
#[derive(Clone, Default)]
pub(crate) struct Mask(Arc<Mutex<Known>>);

#[derive(Default)]
struct Known {
    forms: BTreeSet<String>,
    /// Finds the forms; nothing where there are none.
    finder: Option<Arc<AhoCorasick>>,
}

impl fmt::Debug for Mask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mask(…)")
    }
}

impl Mask {
    /// Hides further values from now on. Those that are too short to be told
    /// from other texts are left out.
    pub(crate) fn add<'v>(&self, values: impl IntoIterator<Item = &'v str>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for value in values {
            known.forms.extend(forms(value));
        }
        if !known.forms.is_empty() {
            let finder = AhoCorasick::builder()
                .match_kind(MatchKind::LeftmostLongest)
                // Others take too long to build for long secrets.
                .kind(Some(AhoCorasickKind::NoncontiguousNFA))
                .build(&known.forms);
            let finder = finder.expect("secrets are far fewer and shorter than what can be found");
            known.finder = Some(Arc::new(finder));
        }
    }

    /// The text without secrets.
    pub(crate) fn text(&self, text: &str) -> String {
        self.found_in(text).unwrap_or_else(|| text.to_owned())
    }

    /// The text without secrets, where it was cut off: a secret that only began
    /// is taken away as well.
    pub(crate) fn cut_text(&self, text: &str) -> String {
        let begun = self.begun_at_end(text.as_bytes());
        if begun == 0 {
            return self.text(text);
        }
        // A secret is a text, so it begins where a character does.
        self.text(&text[..text.len() - begun]) + HIDDEN
    }

    /// How many bytes at the end of a text are the beginning of a secret, with
    /// all of a secret that this begins in: a text can be the end of one and
    /// the beginning of another.
    pub(crate) fn begun_at_end(&self, text: &[u8]) -> usize {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(finder) = &known.finder else {
            return 0;
        };
        let begun = known.forms.iter().filter_map(|form| {
            let longest = text.len().min(form.len() - 1);
            (1..=longest)
                .rev()
                .find(|length| text.ends_with(&form.as_bytes()[..*length]))
        });
        let Some(begun) = begun.max() else {
            return 0;
        };
        let start = text.len() - begun;
        let around = finder.find_iter(text).find(|whole| whole.end() > start);
        text.len() - around.map_or(start, |whole| whole.start().min(start))
    }

    /// The value without secrets, neither in texts nor in names of members.
    pub(crate) fn value(&self, value: Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.found_in(&text).unwrap_or(text)),
            // A secret of digits can come back as a number.
            Value::Number(number) => match self.found_in(&number.to_string()) {
                Some(hidden) => Value::String(hidden),
                None => Value::Number(number),
            },
            Value::Array(items) => items.into_iter().map(|item| self.value(item)).collect(),
            Value::Object(members) => {
                let hidden = |(name, value): (String, Value)| (self.text(&name), self.value(value));
                Value::Object(members.into_iter().map(hidden).collect::<Map<_, _>>())
            }
            Value::Null | Value::Bool(_) => value,
        }
    }

    /// The text without the secrets in it, if there are any.
    fn found_in(&self, text: &str) -> Option<String> {
        let finder = {
            let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            known.finder.clone()?
        };
        let mut found = finder.find_iter(text).peekable();
        found.peek()?;
        let mut shown = String::with_capacity(text.len());
        let mut end = 0;
        for secret in found {
            shown.push_str(&text[end..secret.start()]);
            shown.push_str(HIDDEN);
            end = secret.end();
        }
        shown.push_str(&text[end..]);
        Some(shown)
    }
}

/// The texts in which a value can show up.
fn forms(value: &str) -> BTreeSet<String> {
    let mut forms = BTreeSet::new();
    // Programs and templates tend to take away what surrounds a value.
    let lines = value.lines().map(str::trim);
    for part in [value, value.trim()].into_iter().chain(lines) {
        if part.chars().count() < SECRET_CHARACTERS_MIN {
            continue;
        }
        forms.insert(part.to_owned());
        let json = Value::from(part).to_string();
        forms.insert(json[1..json.len() - 1].to_owned());
        forms.insert(form_urlencoded::byte_serialize(part.as_bytes()).collect());
        forms.insert(percent_encoded(part));
        forms.extend(in_addresses(part));
        forms.extend(in_base64(part));
    }
    forms
}

/// As it stands in an address where nothing is left as it is that could mean
/// something there.
fn percent_encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded += &format!("%{byte:02X}");
        }
        encoded
    })
}

/// What is left of a value in addresses that it was written into, or that it
/// is. A `?` or `#` in it parts it.
fn in_addresses(text: &str) -> Vec<String> {
    let mut pieces = Vec::new();
    let addresses = [
        text.to_owned(),
        format!("http://host/{text}"),
        format!("http://host/?{text}"),
    ];
    for address in addresses {
        let Ok(url) = Url::parse(&address) else {
            continue;
        };
        let path = url.path().trim_start_matches('/');
        let parts = [Some(path), url.query(), url.fragment()];
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
            if core.len() >= PIECE_CHARACTERS_MIN {
                forms.push(core.to_owned());
            }
        }
    }
    forms
}

#[cfg(test)]
mod tests {
    use base64::prelude::BASE64_STANDARD;
    use serde_json::json;

    use super::*;

    fn mask(values: &[&str]) -> Mask {
        let mask = Mask::default();
        mask.add(values.iter().copied());
        mask
    }

    #[test]
    fn a_secret_is_hidden_in_every_form_that_it_is_likely_to_have() {
        let secret = "pass/wörd \"9\"?&+";
        let mask = mask(&[secret, "other-secret"]);
        let quoted = Value::from(secret).to_string();
        for (text, expected) in [
            (format!("a {secret} b {secret}"), "a *** b ***"),
            (format!("{{\"x\":{quoted}}}"), "{\"x\":\"***\"}"),
            (BASE64_STANDARD.encode(secret), "***"),
            ("an other-secret.".to_owned(), "an ***."),
            (format!("q={}", percent_encoded(secret)), "q=***"),
            (
                form_urlencoded::Serializer::new(String::new())
                    .append_pair("q", secret)
                    .finish(),
                "q=***",
            ),
            ("nothing here".to_owned(), "nothing here"),
        ] {
            assert_eq!(mask.text(&text).trim_end_matches('='), expected, "{text}");
        }
        let url = Url::parse(&format!("http://h/{}", "pass/wörd \"9\"")).unwrap();
        let mask = super::tests::mask(&["pass/wörd \"9\""]);
        assert_eq!(mask.text(url.as_str()), "http://h/***");
    }

    #[test]
    fn what_an_address_shows_of_a_secret_is_hidden() {
        let mask = mask(&[
            "first-part \"9\"/?second-part#third-part",
            "https://hooks.example/services/T0/B0?key=hush-hush",
        ]);
        for (address, expected) in [
            ("http://h/first-part \"9\"/?x", "http://h/***?x"),
            ("http://h/x?second-part", "http://h/x?***"),
            ("https://hooks.example/services/T0/B0", "***"),
        ] {
            let url = Url::parse(address).unwrap();
            assert_eq!(mask.text(url.as_str()), expected);
        }
    }

    #[test]
    fn a_secret_is_hidden_in_base64_of_more_than_itself() {
        let mask = mask(&["canary-of-this-test"]);
        for user in ["a", "ab", "abc", "abcd"] {
            for tail in ["", "x", "xy"] {
                let encoded = BASE64_STANDARD.encode(format!("{user}:canary-of-this-test{tail}"));
                let shown = mask.text(&encoded);
                assert!(shown.contains(HIDDEN), "{encoded}");
                assert!(shown.len() < 20, "{shown}");
            }
        }
    }

    #[test]
    fn the_lines_of_a_secret_are_hidden_one_by_one() {
        let mask = mask(&["-----BEGIN KEY-----\nMIIEvQ==\n}\n-----END KEY-----\n"]);
        assert_eq!(
            mask.text("read MIIEvQ== } from file"),
            "read *** } from file"
        );
        assert_eq!(mask.text("-----END KEY-----"), HIDDEN);
    }

    #[test]
    fn values_are_masked_to_their_depth() {
        let mask = mask(&["12345678", "hush-hush"]);
        let value = json!({ "a": ["x hush-hush", { "hush-hush": null }], "n": 12345678,
                            "m": 5, "t": true });
        assert_eq!(
            mask.value(value),
            json!({ "a": ["x ***", { "***": null }], "n": "***", "m": 5, "t": true })
        );
        let as_it_is = json!({ "n": 1.5, "x": ["y"] });
        assert_eq!(Mask::default().value(as_it_is.clone()), as_it_is);
    }

    #[test]
    fn a_secret_that_was_cut_off_is_hidden_too() {
        let mask = mask(&["hush-hush", "ünder"]);
        assert_eq!(mask.cut_text("say hush-hu"), "say ***");
        assert_eq!(mask.cut_text("say hush-hush"), "say ***");
        assert_eq!(mask.cut_text("say hush-hush-hu"), "say ***");
        assert_eq!(mask.cut_text("hush-hush ü"), "*** ***");
        assert_eq!(mask.cut_text("say nothing"), "say nothing");
        assert_eq!(mask.begun_at_end(b"say h"), 1);
        assert_eq!(mask.begun_at_end(b""), 0);
    }

    #[test]
    fn what_is_too_short_is_left_alone_and_more_can_be_added() {
        let mask = mask(&["ab", ""]);
        assert_eq!(mask.text("ab cabbage"), "ab cabbage");
        let clone = mask.clone();
        mask.add(["cabbage"]);
        assert_eq!(clone.text("ab cabbage"), "ab ***");
    }

    #[test]
    fn the_longest_secret_is_found_in_time() {
        let secret = "0123456789abcdef".repeat(4096);
        let started = std::time::Instant::now();
        let mask = mask(&[&secret]);
        assert_eq!(mask.text(&format!("<{secret}>")), "<***>");
        assert_eq!(mask.begun_at_end(&secret.as_bytes()[..60_000]), 60_000);
        // Without optimisation, on a busy machine.
        assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
    }
}
