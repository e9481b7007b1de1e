//! Where something stands in a JSON document: JSON Pointers (RFC 6901).

use std::{borrow::Cow, fmt};

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, value::RawValue};

/// A place in a JSON document, such as `/data/items` or `/rows/0`; empty for
/// the whole of it. `~1` stands for a slash within a name, `~0` for a tilde.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct JsonPointer(String);

impl JsonPointer {
    /// Whether it is the whole document.
    pub fn is_whole(&self) -> bool {
        self.0.is_empty()
    }

    /// What stands there in a document, as it is written; `None` where there
    /// is nothing.
    ///
    /// # Errors
    /// Fails where the document is not JSON.
    pub fn find<'j>(&self, json: &'j str) -> Result<Option<&'j RawValue>, serde_json::Error> {
        let mut at: &RawValue = serde_json::from_str(json)?;
        for name in self.names() {
            let inner = match at.get().as_bytes().first() {
                Some(b'{') => {
                    let members: IndexMap<String, &RawValue> = serde_json::from_str(at.get())?;
                    members.get(&*name).copied()
                }
                Some(b'[') => {
                    let items: Vec<&RawValue> = serde_json::from_str(at.get())?;
                    index(&name).and_then(|index| items.get(index).copied())
                }
                _ => None,
            };
            match inner {
                Some(inner) => at = inner,
                None => return Ok(None),
            }
        }
        Ok(Some(at))
    }

    /// Puts a value there. Objects on the way that are missing are made.
    ///
    /// # Errors
    /// Fails where something else stands in the way, and names it.
    pub fn put(&self, document: &mut Value, value: Value) -> Result<(), String> {
        let mut at = document;
        for name in self.names() {
            if at.is_null() {
                *at = Value::Object(Map::new());
            }
            at = match at {
                Value::Object(members) => members.entry(&*name).or_insert(Value::Null),
                Value::Array(items) => index(&name)
                    .and_then(|index| items.get_mut(index))
                    .ok_or_else(|| format!("the list before `{name}` has no such item"))?,
                _ => return Err(format!("what stands before `{name}` is no object")),
            };
        }
        *at = value;
        Ok(())
    }

    /// The names on the way there.
    fn names(&self) -> impl Iterator<Item = Cow<'_, str>> {
        let plain = |name| match str::contains(name, '~') {
            true => Cow::Owned(name.replace("~1", "/").replace("~0", "~")),
            false => Cow::Borrowed(name),
        };
        self.0.split('/').skip(1).map(plain)
    }
}

/// The place in a list that a name stands for.
fn index(name: &str) -> Option<usize> {
    let is_plain = name == "0" || !name.starts_with(['0', '+']);
    name.parse().ok().filter(|_| is_plain)
}

impl TryFrom<String> for JsonPointer {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let mut escapes = text.split('~').skip(1);
        let is_escaped = escapes.all(|rest| rest.starts_with(['0', '1']));
        if (text.is_empty() || text.starts_with('/')) && is_escaped {
            return Ok(Self(text));
        }
        let text = text.escape_debug();
        Err(format!(
            "must be a place in JSON such as `/data/items`, not `{text}`"
        ))
    }
}

impl From<JsonPointer> for String {
    fn from(pointer: JsonPointer) -> Self {
        pointer.0
    }
}

impl fmt::Display for JsonPointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pointer(text: &str) -> JsonPointer {
        text.to_owned().try_into().unwrap()
    }

    #[test]
    fn what_stands_at_a_place_is_found_as_it_is_written() {
        let json = r#" {"a": {"b/c": [1.50, {"~": "x"}]}, "a0": null, "": 7} "#;
        for (at, expected) in [
            ("/a/b~1c/0", Some("1.50")),
            ("/a/b~1c/1/~0", Some("\"x\"")),
            ("/a0", Some("null")),
            ("/", Some("7")),
            ("/a/b~1c/2", None),
            ("/a/b~1c/00", None),
            ("/a/b~1c/x", None),
            ("/a0/x", None),
            ("/none/x", None),
        ] {
            let found = pointer(at).find(json).unwrap();
            assert_eq!(found.map(RawValue::get), expected, "{at}");
        }
        assert_eq!(pointer("").find(json).unwrap().unwrap().get(), json.trim());
        assert!(pointer("/a").find("{\"a\":").is_err());
    }

    #[test]
    fn a_value_is_put_where_the_way_is_free() {
        let mut document = json!({ "page": { "size": 5 }, "list": [{}] });
        pointer("/page/cursor")
            .put(&mut document, json!("c"))
            .unwrap();
        pointer("/list/0/x").put(&mut document, json!(1)).unwrap();
        pointer("/new/deep").put(&mut document, json!(2)).unwrap();
        let expected = json!({ "page": { "size": 5, "cursor": "c" }, "list": [{ "x": 1 }],
                               "new": { "deep": 2 } });
        assert_eq!(document, expected);
        for (at, name) in [("/page/size/x", "`x`"), ("/list/7", "`7`")] {
            let told = pointer(at).put(&mut document, json!(1)).unwrap_err();
            assert!(told.contains(name), "{told}");
        }
    }

    #[test]
    fn what_is_no_pointer_is_refused() {
        for wrong in ["data", "data/items", "/a~", "/a~2", "$.data"] {
            let told = JsonPointer::try_from(wrong.to_owned()).unwrap_err();
            assert!(told.contains(wrong), "{told}");
        }
    }
}
