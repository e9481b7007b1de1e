//! What a start may or must bring.

use chrono::{DateTime, FixedOffset, NaiveDate, NaiveDateTime, SecondsFormat, Utc};
use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Number, Value};

/// One input that a flow declares.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// What values it takes.
    #[serde(rename = "type")]
    pub kind: InputType,
    /// Whether a start without it is refused.
    #[serde(default)]
    pub required: bool,
    /// Its value where a start does not bring one; `null` unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<Value>,
    /// The only values it takes.
    #[serde(default, rename = "enum", skip_serializing_if = "Option::is_none")]
    pub one_of: Option<Vec<Value>>,
    /// What it means, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// The type of an input. A text that spells a number, boolean, list or object
/// is taken for it, since older callers send everything as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum InputType {
    /// Text.
    String,
    /// A whole number of 64 bits.
    Integer,
    /// A number.
    Number,
    /// `true` or `false`.
    Boolean,
    /// A day: `2026-11-24`.
    Date,
    /// A moment as in RFC 3339: `2026-11-24T10:00:00Z`.
    Datetime,
    /// A JSON array.
    List,
    /// A JSON object.
    Object,
}

/// What is wrong with one input of a start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InputProblem {
    /// The input.
    pub name: String,
    /// What is wrong with it and what was expected.
    pub message: String,
}

impl InputProblem {
    fn new(name: &str, message: impl Into<String>) -> Self {
        Self {
            name: name.to_owned(),
            message: message.into(),
        }
    }
}

/// The values that a run starts with: for each declared input, in the order of
/// the declaration, what was given, or its default, or `null`. A given `null`
/// counts as not given. All that is wrong is reported at once.
pub fn accept(
    declared: &IndexMap<String, Input>,
    given: &Map<String, Value>,
) -> Result<Map<String, Value>, Vec<InputProblem>> {
    let mut problems: Vec<InputProblem> = given
        .keys()
        .filter(|name| !declared.contains_key(*name))
        .map(|name| InputProblem::new(name, unknown(declared)))
        .collect();
    let mut accepted = Map::new();
    for (name, input) in declared {
        let value = match (given.get(name), &input.default) {
            (Some(Value::Null) | None, Some(default)) => input.accept(default),
            (Some(Value::Null) | None, None) if input.required => Err("is missing".to_owned()),
            (Some(Value::Null) | None, None) => Ok(Value::Null),
            (Some(value), _) => input.accept(value),
        };
        match value {
            Ok(value) => drop(accepted.insert(name.clone(), value)),
            Err(message) => problems.push(InputProblem::new(name, message)),
        }
    }
    if problems.is_empty() {
        Ok(accepted)
    } else {
        Err(problems)
    }
}

fn unknown(declared: &IndexMap<String, Input>) -> String {
    let names: Vec<String> = declared.keys().map(|name| format!("`{name}`")).collect();
    if names.is_empty() {
        "is not an input of this flow, which has none".to_owned()
    } else {
        let names = names.join(", ");
        format!("is not an input of this flow; its inputs are {names}")
    }
}

impl Input {
    /// `value` in the form of this input's type, or what is wrong with it.
    pub(crate) fn accept(&self, value: &Value) -> Result<Value, String> {
        let value = self.kind.accept(value)?;
        let Some(allowed) = &self.one_of else {
            return Ok(value);
        };
        let is_allowed = |one: &Value| self.kind.accept(one).is_ok_and(|one| one == value);
        if allowed.iter().any(is_allowed) {
            return Ok(value);
        }
        let allowed: Vec<String> = allowed.iter().map(excerpt).collect();
        let allowed = allowed.join(", ");
        Err(format!("must be one of {allowed}, not {}", excerpt(&value)))
    }
}

impl InputType {
    /// `value` in the form of this type, or what is wrong with it.
    pub(crate) fn accept(self, value: &Value) -> Result<Value, String> {
        let accepted = match (self, value) {
            (Self::String, Value::String(_))
            | (Self::Boolean, Value::Bool(_))
            | (Self::Number, Value::Number(_))
            | (Self::List, Value::Array(_))
            | (Self::Object, Value::Object(_)) => Some(value.clone()),
            (Self::Integer, Value::Number(number)) => integer(number),
            (_, Value::String(text)) => self.read(text),
            _ => None,
        };
        accepted.ok_or_else(|| format!("must be {}, not {}", self.words(), excerpt(value)))
    }

    /// The value that a text spells.
    fn read(self, text: &str) -> Option<Value> {
        match self {
            Self::String => None,
            Self::Integer => integer(&text.parse().ok()?),
            Self::Number => text.parse().ok().map(Value::Number),
            Self::Boolean if text.eq_ignore_ascii_case("true") => Some(true.into()),
            Self::Boolean if text.eq_ignore_ascii_case("false") => Some(false.into()),
            Self::Boolean => None,
            Self::Date => {
                // Callers that know only moments send a day as its midnight.
                let day = text.strip_suffix("T00:00:00").unwrap_or(text);
                date(day).map(|date| date.to_string().into())
            }
            Self::Datetime => {
                let moment = moment(text)?.with_timezone(&Utc);
                Some(moment.to_rfc3339_opts(SecondsFormat::AutoSi, true).into())
            }
            Self::List => serde_json::from_str(text).ok().filter(Value::is_array),
            Self::Object => serde_json::from_str(text).ok().filter(Value::is_object),
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::String => "a text",
            Self::Integer => "a whole number of 64 bits",
            Self::Number => "a number",
            Self::Boolean => "`true` or `false`",
            Self::Date => "a date such as `2026-11-24`",
            Self::Datetime => "a moment such as `2026-11-24T10:00:00Z`",
            Self::List => "a list",
            Self::Object => "an object",
        }
    }
}

/// A whole number, also one that is written as `5.0`.
fn integer(number: &Number) -> Option<Value> {
    // Beyond this a floating-point number may stand for several whole ones.
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    if let Some(whole) = number.as_i64() {
        return Some(whole.into());
    }
    let float = number.as_f64().filter(|_| number.is_f64())?;
    (float.fract() == 0.0 && float.abs() <= EXACT_MAX).then(|| Value::from(float as i64))
}

fn date(text: &str) -> Option<NaiveDate> {
    // The parser itself takes years of any length, and signs.
    let well_formed = text.len() == 10 && text.starts_with(|first: char| first.is_ascii_digit());
    well_formed
        .then(|| NaiveDate::parse_from_str(text, "%Y-%m-%d").ok())
        .flatten()
}

/// The moment that a text spells: RFC 3339, without a zone in UTC, or a day for
/// its start.
pub(super) fn moment(text: &str) -> Option<DateTime<FixedOffset>> {
    if let Some(day) = date(text) {
        return Some(day.and_hms_opt(0, 0, 0)?.and_utc().fixed_offset());
    }
    date(text.get(..10)?)?;
    DateTime::parse_from_rfc3339(text).ok().or_else(|| {
        ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f"]
            .iter()
            .find_map(|form| NaiveDateTime::parse_from_str(text, form).ok())
            .map(|moment| moment.and_utc().fixed_offset())
    })
}

/// Enough of a value to recognise it by.
fn excerpt(value: &Value) -> String {
    const CHARS_MAX: usize = 60;
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let mut excerpt: String = text.chars().take(CHARS_MAX).collect();
    if excerpt.len() < text.len() {
        excerpt.push('…');
    }
    format!("`{}`", excerpt.replace(char::is_control, " "))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn declared(inputs: &Value) -> IndexMap<String, Input> {
        serde_json::from_value(inputs.clone()).unwrap()
    }

    fn start(inputs: &Value, given: &Value) -> Result<Value, Vec<String>> {
        accept(&declared(inputs), given.as_object().unwrap())
            .map(Value::Object)
            .map_err(|problems| {
                let show = |problem: InputProblem| format!("{} {}", problem.name, problem.message);
                problems.into_iter().map(show).collect()
            })
    }

    #[test]
    fn a_run_has_every_declared_input_in_its_order() {
        let inputs = json!({
            "z": { "type": "string" },
            "a": { "type": "integer", "default": "7" },
            "m": { "type": "boolean", "required": true },
        });
        let accepted = start(&inputs, &json!({ "m": "True", "a": null })).unwrap();
        assert_eq!(accepted.to_string(), r#"{"z":null,"a":7,"m":true}"#);
    }

    #[test]
    fn all_offending_members_are_named_at_once() {
        let inputs = json!({
            "day": { "type": "date", "required": true },
            "region": { "type": "string", "enum": ["north", "south"] },
            "count": { "type": "integer" },
            "list": { "type": "list", "required": true },
        });
        let given = json!({ "Day": "2026-01-01", "region": "west", "count": 1.5, "list": null });
        assert_eq!(
            start(&inputs, &given).unwrap_err(),
            [
                "Day is not an input of this flow; its inputs are `day`, `region`, `count`, `list`",
                "day is missing",
                "region must be one of `north`, `south`, not `west`",
                "count must be a whole number of 64 bits, not `1.5`",
                "list is missing",
            ]
        );
        assert_eq!(
            start(&json!({}), &json!({ "x": 1 })).unwrap_err(),
            ["x is not an input of this flow, which has none"]
        );
    }

    #[test]
    fn a_text_that_spells_a_value_is_taken_for_it() {
        for (kind, given, expected) in [
            ("integer", json!("-42"), json!(-42)),
            ("integer", json!(5.0), json!(5)),
            ("integer", json!(i64::MIN), json!(i64::MIN)),
            ("number", json!("42"), json!(42)),
            ("number", json!("-4.5e3"), json!(-4500.0)),
            ("number", json!(0.1), json!(0.1)),
            ("boolean", json!("FALSE"), json!(false)),
            ("date", json!("2026-11-24"), json!("2026-11-24")),
            ("date", json!("2026-11-24T00:00:00"), json!("2026-11-24")),
            (
                "datetime",
                json!("2026-11-24T10:00:00+02:00"),
                json!("2026-11-24T08:00:00Z"),
            ),
            (
                "datetime",
                json!("2026-11-24 10:00:00.5"),
                json!("2026-11-24T10:00:00.500Z"),
            ),
            (
                "datetime",
                json!("2026-11-24"),
                json!("2026-11-24T00:00:00Z"),
            ),
            ("list", json!("[1, \"a\"]"), json!([1, "a"])),
            ("list", json!([]), json!([])),
            ("object", json!("{\"a\": null}"), json!({ "a": null })),
            ("string", json!("5"), json!("5")),
        ] {
            let inputs = json!({ "x": { "type": kind } });
            let accepted = start(&inputs, &json!({ "x": given })).unwrap();
            assert_eq!(accepted["x"], expected, "{kind} {given}");
        }
    }

    #[test]
    fn what_spells_nothing_of_the_type_is_refused() {
        for (kind, given) in [
            ("integer", json!("4.5")),
            ("integer", json!("")),
            ("integer", json!(" 4")),
            ("integer", json!("9223372036854775808")),
            ("integer", json!(9_223_372_036_854_775_808_u64)),
            ("integer", json!(1e300)),
            ("integer", json!(true)),
            ("number", json!("NaN")),
            ("number", json!("1e999")),
            ("number", json!("0x10")),
            ("number", json!("1,5")),
            ("boolean", json!("yes")),
            ("boolean", json!(1)),
            ("date", json!("2026-02-29")),
            ("date", json!("24.11.2026")),
            ("date", json!("+026-11-24")),
            ("date", json!("2026-11-24T10:00:00")),
            ("date", json!(20_261_124)),
            ("datetime", json!("2026-11-24T25:00:00Z")),
            ("datetime", json!("tomorrow")),
            ("datetime", json!("ä026-11-24T10:00:00Z")),
            ("list", json!("{}")),
            ("list", json!("[1")),
            ("object", json!("[]")),
            ("object", json!([])),
            ("string", json!(5)),
            ("string", json!({ "a": 1 })),
        ] {
            let inputs = json!({ "x": { "type": kind } });
            let problems = start(&inputs, &json!({ "x": given })).unwrap_err();
            assert!(
                problems[0].starts_with("x must be "),
                "{kind} {given}: {problems:?}"
            );
        }
    }

    #[test]
    fn values_are_compared_as_their_type() {
        let inputs = json!({ "n": { "type": "number", "enum": ["1.5", 2] } });
        assert_eq!(start(&inputs, &json!({ "n": "2" })).unwrap()["n"], 2);
        assert_eq!(start(&inputs, &json!({ "n": 1.5 })).unwrap()["n"], 1.5);
        assert!(start(&inputs, &json!({ "n": 3 })).is_err());
    }
}
