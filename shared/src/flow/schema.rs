//! The JSON Schema of a flow, for editors.

use schemars::{
    Schema,
    generate::SchemaSettings,
    transform::{Transform, transform_subschemas},
};
use serde_json::Value;

use super::Flow;

/// The JSON Schema (draft 2020-12) of a flow's text.
pub fn json_schema() -> Value {
    let generator = SchemaSettings::draft2020_12().into_generator();
    let mut schema = generator.into_root_schema_for::<Flow>();
    WithoutNull.transform(&mut schema);
    schema.insert("title".to_owned(), "Millstream flow".into());
    schema.to_value()
}

/// Takes out that a member may be `null`: whoever means that leaves it out.
#[derive(Clone)]
struct WithoutNull;

impl Transform for WithoutNull {
    fn transform(&mut self, schema: &mut Schema) {
        if let Some(members) = schema.as_object_mut() {
            if let Some(Value::Array(types)) = members.get_mut("type") {
                types.retain(|name| name != "null");
                if let [only] = types.as_slice() {
                    let only = only.clone();
                    members.insert("type".to_owned(), only);
                }
            }
            if members.get("default") == Some(&Value::Null) {
                members.remove("default");
            }
            if let Some(Value::Array(choices)) = members.get_mut("anyOf") {
                choices.retain(|choice| choice.get("type") != Some(&"null".into()));
                if let [Value::Object(only)] = choices.as_slice() {
                    let only = only.clone();
                    members.remove("anyOf");
                    members.extend(only);
                }
            }
        }
        transform_subschemas(self, schema);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const SAMPLES: [&str; 2] = [
        include_str!("../../../tests/fixtures/flows/daily-sales.yaml"),
        include_str!("../../../tests/fixtures/flows/everything.json"),
    ];

    /// Asserts that the schema at `schema` knows every member of `value`.
    fn assert_covers(root: &Value, schema: &Value, value: &Value, path: &str) {
        if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
            let pointer = reference.strip_prefix('#').unwrap();
            let schema = root.pointer(pointer).unwrap();
            return assert_covers(root, schema, value, path);
        }
        match value {
            Value::Object(members) => {
                for (name, member) in members {
                    let path = format!("{path}.{name}");
                    let known = member_schema(schema, name);
                    let known = known.unwrap_or_else(|| panic!("{path} is not in the schema"));
                    assert_covers(root, known, member, &path);
                }
            }
            Value::Array(items) => {
                let choices = schema.get("oneOf").and_then(Value::as_array);
                let with_items = |schema: &&Value| schema.get("items").is_some();
                let schema = choices
                    .into_iter()
                    .flatten()
                    .find(with_items)
                    .unwrap_or(schema);
                let known = schema.get("items").unwrap_or(&Value::Bool(true));
                for item in items {
                    assert_covers(root, known, item, path);
                }
            }
            _ => {}
        }
    }

    fn member_schema<'a>(schema: &'a Value, name: &str) -> Option<&'a Value> {
        let choices = schema.get("oneOf").and_then(Value::as_array);
        let Some(members) = schema
            .get("properties")
            .or(schema.get("additionalProperties"))
        else {
            // One of several shapes, or any value at all.
            let of_choice = |choice: &'a Value| choice.get("properties")?.get(name);
            return match choices {
                Some(choices) => choices.iter().find_map(of_choice),
                None => Some(&Value::Bool(true)),
            };
        };
        match schema.get("properties") {
            Some(members) => members.get(name),
            None => Some(members),
        }
    }

    #[test]
    fn every_member_of_the_samples_is_in_the_schema() {
        let schema = json_schema();
        for sample in SAMPLES {
            let document: Value = serde_saphyr::from_str(sample).unwrap();
            assert_covers(&schema, &schema, &document, "");
            let stored = serde_json::to_value(Flow::parse(sample).unwrap()).unwrap();
            assert_covers(&schema, &schema, &stored, "");
        }
    }

    #[test]
    fn a_step_has_exactly_one_kind_and_nothing_unknown() {
        let schema = json_schema();
        assert_eq!(
            schema["$schema"],
            "https://json-schema.org/draft/2020-12/schema"
        );
        let step = &schema["$defs"]["Step"];
        assert_eq!(step["additionalProperties"], false);
        assert_eq!(step["required"], json!(["id"]));
        for kind in step["oneOf"].as_array().unwrap() {
            let name = kind["required"][0].as_str().unwrap();
            let described = &step["properties"][name]["description"];
            assert!(described.is_string(), "{name} has no description");
        }
        assert!(!schema.to_string().contains("\"null\""), "null is no value");
    }
}
