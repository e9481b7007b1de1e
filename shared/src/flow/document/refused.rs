//! Why a value is not what was expected, in words for authors of flows.
//!
//! The generated code of serde tells what is wrong through [`Refused`].

use std::fmt;

use serde::de::{self, Expected, Unexpected};

use crate::flow::finding::{At, Segment};

/// Kinds of steps and members that flows are going to have.
const LATER: &[&str] = &["flow", "for_each", "choose", "wait", "schedules"];

/// Why a value was refused.
#[derive(Debug)]
pub(super) struct Refused {
    /// The way from what was refused to the root.
    pub(super) way_out: Vec<Segment>,
    pub(super) at: At,
    pub(super) message: String,
}

impl Refused {
    pub(super) fn new(message: String) -> Self {
        Self {
            way_out: Vec::new(),
            at: At::Value,
            message,
        }
    }

    /// The same, seen from what it stands in.
    pub(super) fn out_of(mut self, segment: Segment) -> Self {
        self.way_out.push(segment);
        self
    }

    /// A value of another type than the expected one.
    pub(super) fn not(expected: &dyn Expected, found: Unexpected<'_>) -> Self {
        let expected = expected.to_string();
        let expected = expected_words(&expected);
        let hint = match found {
            Unexpected::Bool(_)
            | Unexpected::Signed(_)
            | Unexpected::Unsigned(_)
            | Unexpected::Float(_)
                if expected == "a text" =>
            {
                "; put it in quotes to make it one"
            }
            _ => "",
        };
        if matches!(found, Unexpected::Unit | Unexpected::Option) {
            return Self::new(format!("must be {expected}, but is empty"));
        }
        let found = found_words(found);
        Self::new(format!("must be {expected}, not {found}{hint}"))
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Refused {}

impl de::Error for Refused {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(message.to_string())
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::not(expected, found)
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::not(expected, found)
    }

    fn unknown_variant(given: &str, expected: &'static [&'static str]) -> Self {
        Self::new(format!("must be {}, not `{given}`", any_of(expected)))
    }

    fn unknown_field(name: &str, expected: &'static [&'static str]) -> Self {
        let problem = if LATER.contains(&name) {
            format!("`{name}` is not available in this version")
        } else {
            format!("there is no member `{name}` here")
        };
        Self::new(format!("{problem}; known are {}", list(expected, "and")))
    }

    fn missing_field(name: &'static str) -> Self {
        Self::new(format!("the member `{name}` is missing"))
    }
}

/// What serde calls a type, in words.
fn expected_words(expected: &str) -> &str {
    match expected {
        "a string" => "a text",
        "a sequence" => "a list",
        "a boolean" => "`true` or `false`",
        "u32" | "u64" | "i64" => "a whole number",
        "string or map" | "variant identifier" => "one of its names",
        "struct variant" | "map" => "a map",
        expected if expected.starts_with("struct ") => "a map",
        expected if expected.starts_with("enum ") => "a text",
        expected => expected,
    }
}

fn found_words(found: Unexpected<'_>) -> String {
    match found {
        Unexpected::Bool(value) => format!("`{value}`"),
        Unexpected::Unsigned(number) => format!("the number {number}"),
        Unexpected::Signed(number) => format!("the number {number}"),
        Unexpected::Float(number) => format!("the number {number}"),
        Unexpected::Str(text) => {
            let excerpt: String = text.chars().take(40).collect();
            format!("the text `{}`", excerpt.escape_debug())
        }
        Unexpected::Seq => "a list".to_owned(),
        Unexpected::Map => "a map".to_owned(),
        Unexpected::UnitVariant => "a name alone".to_owned(),
        other => other.to_string(),
    }
}

/// The names, with `or` before the last.
pub(super) fn any_of(names: &[&str]) -> String {
    list(names, "or")
}

/// The names, with `and` before the last.
pub(super) fn list(names: &[&str], and: &str) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} {and} {last}", others.join(", ")),
        None => "none".to_owned(),
    }
}
