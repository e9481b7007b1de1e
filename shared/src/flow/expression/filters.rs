//! Filters that data flows need and Jinja does not bring, or brings without a
//! limit on what they make.

use std::fmt::Write;

use chrono::format::{Item, StrftimeItems};
use minijinja::{
    Error, ErrorKind,
    value::{Serde, Value as JinjaValue, ValueKind},
};
use serde_json::Value;

use super::{OUTPUT_BYTES_MAX, json};
use crate::flow::inputs::moment;

/// A value as JSON text.
pub(super) fn tojson(value: &JinjaValue) -> Result<String, Error> {
    let mut room = super::Room::of(OUTPUT_BYTES_MAX);
    json::from_jinja(value, &mut room)
        .map(|value| value.to_string())
        .map_err(|cause| Error::new(ErrorKind::BadSerialization, cause))
}

/// A value as it stands in a text.
pub(super) fn string(value: &JinjaValue) -> Result<String, Error> {
    match value.kind() {
        ValueKind::None => Ok(String::new()),
        ValueKind::Bool | ValueKind::Seq | ValueKind::Map | ValueKind::Iterable => tojson(value),
        _ => Ok(value.to_string()),
    }
}

/// The value that a JSON text stands for.
pub(super) fn fromjson(text: &str) -> Result<JinjaValue, Error> {
    let value: Value = serde_json::from_str(text).map_err(|error| {
        Error::new(ErrorKind::InvalidOperation, "the text is not JSON").with_source(error)
    })?;
    Ok(JinjaValue::from(Serde(&value)))
}

/// A date or moment, written by a pattern such as `%Y/%m/%d`.
pub(super) fn strftime(text: &str, pattern: &str) -> Result<String, Error> {
    let refuse = |message: String| Error::new(ErrorKind::InvalidOperation, message);
    let Some(moment) = moment(text) else {
        return Err(refuse(format!("`{text}` is not a date or a moment")));
    };
    let items: Vec<Item<'_>> = StrftimeItems::new(pattern).collect();
    let mut written = String::new();
    if items.contains(&Item::Error)
        || write!(written, "{}", moment.format_with_items(items.iter())).is_err()
    {
        return Err(refuse(format!("`{pattern}` is not a pattern for dates")));
    }
    Ok(written)
}
