//! `set`: values out of templates.

use indexmap::IndexMap;
use millstream_shared::flow::expression;
use serde_json::{Map, Value};

use super::{StepContext, StepError, StepOutput};

/// Makes the values. Nothing else happens, so it can be repeated.
pub(crate) fn set(
    values: &IndexMap<String, Value>,
    context: &StepContext,
) -> Result<StepOutput, StepError> {
    let mut made = Map::with_capacity(values.len());
    for (name, template) in values {
        let value = expression::render(template, &context.scope).map_err(|error| {
            StepError::permanent("expression", format!("`{name}` has no value: {error}"))
        })?;
        made.insert(name.clone(), value);
    }
    Ok(StepOutput {
        value: Value::Object(made),
        ..StepOutput::default()
    })
}
