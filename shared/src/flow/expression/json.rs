//! From a value of Jinja to JSON, without loss or with an error.

use minijinja::value::{Value as JinjaValue, ValueKind};
use serde_json::{Map, Number, Value};

use super::Room;

/// How deep a value may nest.
const DEPTH_MAX: usize = 100;

/// What a list item or a member counts for besides what is in it, in bytes.
const ITEM_BYTES: usize = 2;

/// `value` as JSON. What it takes is subtracted from `room`, in bytes: a small
/// expression such as `[[0] * 1000] * 1000` can stand for a very large value.
pub(super) fn from_jinja(value: &JinjaValue, room: &mut Room) -> Result<Value, String> {
    convert(value, room, DEPTH_MAX)
}

fn convert(value: &JinjaValue, room: &mut Room, depth: usize) -> Result<Value, String> {
    let Some(depth) = depth.checked_sub(1) else {
        return Err(format!("the value nests more than {DEPTH_MAX} deep"));
    };
    match value.kind() {
        ValueKind::None => Ok(Value::Null),
        ValueKind::Bool => Ok(Value::Bool(value.is_true())),
        ValueKind::Number => number(value).map(Value::Number),
        ValueKind::String => {
            let text = value.as_str().unwrap_or_default();
            take(room, text.len())?;
            Ok(Value::String(text.to_owned()))
        }
        ValueKind::Seq | ValueKind::Iterable => {
            let mut items = Vec::new();
            for item in value.try_iter().map_err(|error| error.to_string())? {
                take(room, ITEM_BYTES)?;
                items.push(convert(&item, room, depth)?);
            }
            Ok(Value::Array(items))
        }
        ValueKind::Map => {
            let mut members = Map::new();
            for key in value.try_iter().map_err(|error| error.to_string())? {
                let name = key.to_string();
                take(room, name.len() + ITEM_BYTES)?;
                let member = value.get_item(&key).map_err(|error| error.to_string())?;
                members.insert(name, convert(&member, room, depth)?);
            }
            Ok(Value::Object(members))
        }
        ValueKind::Undefined => Err("a part of the value is undefined".to_owned()),
        ValueKind::Invalid => Err(value.to_string()),
        kind => Err(format!("a value of type {kind} cannot be handed on")),
    }
}

fn number(value: &JinjaValue) -> Result<Number, String> {
    if !value.is_integer() {
        let float = f64::try_from(value.clone()).ok();
        return float
            .and_then(Number::from_f64)
            .ok_or_else(|| format!("`{value}` is not a finite number"));
    }
    if let Ok(signed) = i64::try_from(value.clone()) {
        return Ok(signed.into());
    }
    u64::try_from(value.clone())
        .map(Number::from)
        .map_err(|_| format!("the number {value} does not fit into 64 bits"))
}

fn take(room: &mut Room, bytes: usize) -> Result<(), String> {
    let left = room.left.checked_sub(bytes);
    room.left = left.ok_or_else(|| room.used_up())?;
    Ok(())
}
