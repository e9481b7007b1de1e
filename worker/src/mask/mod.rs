//! Takes secret values out of whatever leaves a step.

mod forms;
mod views;

use std::{
    collections::BTreeSet,
    fmt,
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
};

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use serde_json::{Map, Value};

use views::View;

/// What stands in the place of a secret.
const HIDDEN: &str = "***";

/// The secret values that a step knows, and how they are found again.
///
/// They are found as they are, escaped as in JSON, addresses, forms and HTML,
/// in base64, and as hosts in addresses. A value of several lines is found line by line too, since that is
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
            known.forms.extend(forms::of(value));
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
        let whole = text.get(..text.len() - begun).unwrap_or_default();
        self.text(whole) + HIDDEN
    }

    /// How many bytes at the end of a text are the beginning of a secret, with
    /// all of a secret that this begins in: a text can be the end of one and
    /// the beginning of another.
    pub(crate) fn begun_at_end(&self, text: &[u8]) -> usize {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(finder) = &known.finder else {
            return 0;
        };
        let begun = View::all_of(text).into_iter().filter_map(|view| {
            let bytes = &view.bytes;
            let begun = begun_forms(&known.forms, bytes)?;
            let start = bytes.len() - begun;
            let around = finder.find_iter(bytes).find(|whole| whole.end() > start);
            let start = around.map_or(start, |whole| whole.start().min(start));
            Some(text.len() - view.origin(&(start..bytes.len())).start)
        });
        begun.max().unwrap_or(0)
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
        let found = found(&finder, text.as_bytes());
        if found.is_empty() {
            return None;
        }
        let mut shown = String::with_capacity(text.len());
        let mut end = 0;
        for secret in found {
            // What is no text between two secrets is a part of them.
            shown.push_str(text.get(end..secret.start).unwrap_or_default());
            shown.push_str(HIDDEN);
            end = secret.end;
        }
        shown.push_str(text.get(end..).unwrap_or_default());
        Some(shown)
    }
}

/// Where secrets stand in a text, in order and apart from one another.
fn found(finder: &AhoCorasick, text: &[u8]) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    for view in View::all_of(text) {
        let secrets = finder.find_iter(&view.bytes);
        found.extend(secrets.map(|secret| view.origin(&secret.range())));
    }
    found.sort_by_key(|secret| (secret.start, secret.end));
    found.dedup_by(|next, before| {
        let is_part = next.start < before.end;
        if is_part {
            before.end = before.end.max(next.end);
        }
        is_part
    });
    found
}

/// How many bytes at the end of a text begin one of the forms.
fn begun_forms(forms: &BTreeSet<String>, text: &[u8]) -> Option<usize> {
    let begun = forms.iter().filter_map(|form| {
        let longest = text.len().min(form.len() - 1);
        (1..=longest)
            .rev()
            .find(|length| text.ends_with(&form.as_bytes()[..*length]))
    });
    begun.max()
}

#[cfg(test)]
mod tests {
    use base64::{Engine, prelude::BASE64_STANDARD};
    use serde_json::json;
    use url::{Url, form_urlencoded};

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
            (format!("q={}", percent_encoded(secret, true)), "q=***"),
            (format!("q={}", percent_encoded(secret, false)), "q=***"),
            (
                format!("q={}!", with_numbers(secret, "\\u", 4, "")),
                "q=***!",
            ),
            (
                format!("q={}!", with_numbers(secret, "&#x", 2, ";")),
                "q=***!",
            ),
            (format!("{}!", quoted.replace('/', "\\/")), "\"***\"!"),
            (
                format!("{}!", Value::from(quoted.clone())),
                "\"\\\"***\\\"\"!",
            ),
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

    /// Every byte as in an address.
    fn percent_encoded(text: &str, large: bool) -> String {
        let encoded = |byte: u8| {
            if large {
                format!("%{byte:02X}")
            } else {
                format!("%{byte:02x}")
            }
        };
        text.bytes().map(encoded).collect()
    }

    /// Every character by its number.
    fn with_numbers(text: &str, before: &str, digits: usize, after: &str) -> String {
        let number = |c: char| format!("{before}{:0digits$x}{after}", u32::from(c));
        text.chars().map(number).collect()
    }

    #[test]
    fn a_host_is_hidden_as_addresses_write_it() {
        let mask = mask(&[
            "Bücher-Geheim.example",
            "https://Größe.example/x?key=hush-hush",
        ]);
        for (address, expected) in [
            ("https://Bücher-Geheim.example/x", "https://***/x"),
            ("https://größe.example:8080/", "https://***:8080/"),
        ] {
            assert_eq!(mask.text(Url::parse(address).unwrap().as_str()), expected);
        }
    }

    #[test]
    fn a_short_password_is_hidden_in_basic_authentication() {
        let mask = mask(&["pw-4"]);
        for user in ["a", "ab", "abc"] {
            let shown = mask.text(&BASE64_STANDARD.encode(format!("{user}:pw-4")));
            assert!(shown.contains(HIDDEN), "{shown}");
        }
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
        assert_eq!(mask.cut_text("say hush%2dhus%6"), "say ***");
        assert_eq!(mask.cut_text("say \\u0068ush-\\u00"), "say ***");
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
