//! The `{{ … }}` in flows: Jinja expressions, sandboxed and with limits.
//!
//! What differs from Jinja elsewhere: in a text `null` is nothing, `true` and
//! `false` are in small letters, lists and maps are JSON; `tojson` escapes
//! nothing for HTML; there are the filters `fromjson` and `strftime`.

mod error;
mod filters;
mod json;
mod references;

use std::{collections::BTreeMap, fmt, io, sync::LazyLock};

use minijinja::{
    Environment, Output, State, UndefinedBehavior,
    machinery::tokenize,
    syntax::SyntaxConfig,
    value::{Serde, Value as JinjaValue, ValueKind, merge_maps},
};
use serde_json::Value;

pub use error::ExpressionError;
pub use references::{Reference, condition_references, references};

/// The longest template, in bytes.
pub const TEMPLATE_BYTES_MAX: usize = 64 * 1024;

/// The most words and signs inside the `{{ }}` and `{% %}` of one template. It
/// also bounds how deep expressions nest.
pub const TEMPLATE_TOKENS_MAX: usize = 1000;

/// The most that one rendering makes, in bytes.
pub const OUTPUT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// How much work one template may cause. An instruction costs 1, a byte of
/// text 1/64; some tens of milliseconds at the very most.
const FUEL: u64 = 500_000;

/// How deep loops and calls may nest.
const RECURSION_MAX: usize = 100;

/// What all expressions share; nothing in it depends on a flow.
static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(environment);

/// What an expression can name: `inputs`, `steps`, `run`, `args`, and in a few
/// places `secrets`.
///
/// Cloning it is cheap.
#[derive(Clone)]
pub struct Scope(JinjaValue);

impl Scope {
    /// A scope in which the members of the JSON object `members` can be named.
    pub fn new(members: &Value) -> Self {
        Self(JinjaValue::from(Serde(members)))
    }

    /// The same scope with one member more.
    #[must_use]
    pub fn with(&self, name: &str, value: &Value) -> Self {
        let member = BTreeMap::from([(name.to_owned(), JinjaValue::from(Serde(value)))]);
        Self(merge_maps([self.0.clone(), member.into()]))
    }
}

impl fmt::Debug for Scope {
    /// Without its values: there can be secrets among them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scope(…)")
    }
}

/// `template` with every `{{ … }}` in its texts replaced by its value; a text
/// that is one expression becomes the value itself, with its type. The names of
/// members are never templates.
pub fn render(template: &Value, scope: &Scope) -> Result<Value, ExpressionError> {
    let mut room = Room::of(OUTPUT_BYTES_MAX);
    render_within(template, scope, &mut room)
}

/// The same with room for about so many bytes of JSON; nothing where that is not
/// enough.
pub fn render_up_to(
    template: &Value,
    scope: &Scope,
    bytes_max: usize,
) -> Result<Option<Value>, ExpressionError> {
    let mut room = Room::of(bytes_max);
    match render_within(template, scope, &mut room) {
        Err(_) if room.is_used_up => Ok(None),
        rendered => rendered.map(Some),
    }
}

fn render_within(
    template: &Value,
    scope: &Scope,
    room: &mut Room,
) -> Result<Value, ExpressionError> {
    match template {
        Value::String(text) => render_value(text, scope, room),
        Value::Array(items) => items
            .iter()
            .map(|item| render_within(item, scope, room))
            .collect(),
        Value::Object(members) => members
            .iter()
            .map(|(name, value)| Ok((name.clone(), render_within(value, scope, room)?)))
            .collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(template.clone()),
    }
}

/// `template` with every `{{ … }}` replaced, as text.
pub fn render_text(template: &str, scope: &Scope) -> Result<String, ExpressionError> {
    let mut room = Room::of(OUTPUT_BYTES_MAX);
    render_text_within(template, scope, &mut room)
}

/// Whether a bare expression such as `steps.load.rows > 0` holds.
pub fn is_true(expression: &str, scope: &Scope) -> Result<bool, ExpressionError> {
    check_size(expression, true)?;
    let fail = |error| ExpressionError::new(expression, &error);
    let compiled = ENVIRONMENT.compile_expression(expression).map_err(fail)?;
    let value = compiled.eval(scope.0.clone()).map_err(fail)?;
    if value.is_undefined() {
        // Only printing says which name it is that has no value.
        let printed = format!("{{{{ {expression} }}}}");
        render_text(&printed, scope)?;
    }
    Ok(value.is_true())
}

/// Whether `text` holds anything for Jinja to do.
pub fn is_template(text: &str) -> bool {
    ["{{", "{%", "{#"].iter().any(|mark| text.contains(mark))
}

fn render_value(text: &str, scope: &Scope, room: &mut Room) -> Result<Value, ExpressionError> {
    check_size(text, false)?;
    // What is not an expression by itself, such as `a }} and {{ b`, does not compile.
    let sole = sole_expression(text)
        .and_then(|inner| Some((inner, ENVIRONMENT.compile_expression(inner).ok()?)));
    let Some((inner, compiled)) = sole else {
        return render_text_within(text, scope, room).map(Value::String);
    };
    let value = compiled
        .eval(scope.0.clone())
        .map_err(|error| ExpressionError::new(inner, &error))?;
    if value.is_undefined() {
        // Printing names what is undefined. It prints nothing for an `if`
        // without `else`, which is the one undefined value that is meant.
        render_text_within(text, scope, room)?;
        return Ok(Value::Null);
    }
    json::from_jinja(&value, room).map_err(|cause| ExpressionError::because(text, &cause))
}

fn render_text_within(
    text: &str,
    scope: &Scope,
    room: &mut Room,
) -> Result<String, ExpressionError> {
    check_size(text, false)?;
    let mut written = Bounded {
        bytes: Vec::new(),
        room: *room,
    };
    if is_template(text) {
        let fail = |error| ExpressionError::new(text, &error);
        let template = ENVIRONMENT.template_from_str(text).map_err(fail)?;
        let rendered = template.render_captured_to(scope.0.clone(), &mut written);
        room.is_used_up |= written.room.is_used_up;
        rendered.map_err(fail)?;
    } else {
        written.bytes = text.into();
    }
    room.left = room.left.saturating_sub(written.bytes.len());
    String::from_utf8(written.bytes)
        .map_err(|_| ExpressionError::because(text, "the result is not a text"))
}

/// The expression in a text that may be exactly one `{{ … }}`. A line break at
/// the end does not count, since block texts of YAML have one.
fn sole_expression(text: &str) -> Option<&str> {
    let inner = text
        .trim_end_matches(['\r', '\n'])
        .strip_prefix("{{")?
        .strip_suffix("}}")?;
    let inner = inner.strip_prefix(['-', '+']).unwrap_or(inner);
    Some(inner.strip_suffix(['-', '+']).unwrap_or(inner))
}

/// Refuses what is too long, or may nest too deep, to be compiled.
fn check_size(text: &str, is_expression: bool) -> Result<(), ExpressionError> {
    if text.len() <= TEMPLATE_TOKENS_MAX {
        return Ok(());
    }
    if !is_expression && !is_template(text) {
        return Ok(());
    }
    if text.len() > TEMPLATE_BYTES_MAX {
        let cause = format!("a template has at most {TEMPLATE_BYTES_MAX} bytes");
        return Err(ExpressionError::because(text, &cause));
    }
    let tokens = tokenize(text, is_expression, ENVIRONMENT.syntax().clone());
    if tokens.take(TEMPLATE_TOKENS_MAX + 1).count() > TEMPLATE_TOKENS_MAX {
        let cause = format!(
            "a template has at most {TEMPLATE_TOKENS_MAX} words and signs inside its `{{{{ }}}}`"
        );
        return Err(ExpressionError::because(text, &cause));
    }
    Ok(())
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(RECURSION_MAX);
    environment.set_syntax(syntax());
    environment.set_formatter(format);
    // Errors name the expression only in this mode.
    environment.set_debug(true);
    // A namespace can hold itself, so that values nest without end; `debug`
    // prints all there is.
    environment.remove_global("namespace");
    environment.remove_global("debug");
    environment.add_filter("tojson", filters::tojson);
    environment.add_filter("string", filters::string);
    environment.remove_filter("pprint");
    environment.add_filter("fromjson", filters::fromjson);
    environment.add_filter("strftime", filters::strftime);
    environment
}

fn syntax() -> SyntaxConfig {
    SyntaxConfig::builder()
        .keep_trailing_newline(true)
        .build()
        .expect("the delimiters are those of Jinja")
}

/// How a value stands in a text: `null` as nothing, `true` and `false` in small
/// letters, lists and maps as JSON.
fn format(
    out: &mut Output<'_>,
    state: &mut State<'_, '_>,
    value: &JinjaValue,
) -> Result<(), minijinja::Error> {
    match value.kind() {
        ValueKind::None
        | ValueKind::Bool
        | ValueKind::Seq
        | ValueKind::Map
        | ValueKind::Iterable => Ok(out.write_str(&filters::string(value)?)?),
        _ => minijinja::escape_formatter(out, state, value),
    }
}

/// How much a rendering may still make, in bytes.
#[derive(Clone, Copy)]
struct Room {
    left: usize,
    /// What there was at first.
    all: usize,
    /// Whether something did not fit.
    is_used_up: bool,
}

impl Room {
    fn of(bytes: usize) -> Self {
        Self {
            left: bytes,
            all: bytes,
            is_used_up: false,
        }
    }

    /// Notes that something does not fit, and says so.
    fn used_up(&mut self) -> String {
        self.is_used_up = true;
        format!("the result has more than {} bytes", self.all)
    }
}

/// Where a rendering goes: it refuses more than it has room for.
struct Bounded {
    bytes: Vec<u8>,
    room: Room,
}

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > self.room.left {
            return Err(io::Error::other(self.room.used_up()));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use serde_json::json;

    use super::*;

    fn scope() -> Scope {
        Scope::new(&json!({
            "inputs": { "day": "2026-11-24", "region": null, "count": 3, "on": false },
            "steps": { "load": { "rows": 12, "value": { "items": [1, "two", null, 4.5] } } },
            "run": { "id": "r1" },
            "args": {},
        }))
    }

    fn value(template: &str) -> Value {
        render(&json!(template), &scope()).unwrap()
    }

    fn error(template: &str) -> String {
        let error = render(&json!(template), &scope()).unwrap_err().to_string();
        assert!(!error.contains('\n'), "{error}");
        error
    }

    #[test]
    fn a_text_that_is_one_expression_keeps_its_type() {
        for (template, expected) in [
            ("{{ steps.load.rows }}", json!(12)),
            ("{{steps.load.rows + 0.5}}", json!(12.5)),
            ("{{- inputs.count / 2 -}}", json!(1.5)),
            ("{{ inputs.on }}", json!(false)),
            ("{{ inputs.region }}", json!(null)),
            (
                "{{ steps.load.value }}",
                json!({ "items": [1, "two", null, 4.5] }),
            ),
            (
                "{{ steps['load'].value['items'][1:] }}",
                json!(["two", null, 4.5]),
            ),
            ("{{ range(3) }}", json!([0, 1, 2])),
            (
                "{{ {'a': {'b': (1, 2)}} }}",
                json!({ "a": { "b": [1, 2] } }),
            ),
            ("{{ 'x' if inputs.on }}", json!(null)),
            ("{{ '}} {{' }}", json!("}} {{")),
            ("{{ steps.load.rows }}\n", json!(12)),
            ("plain", json!("plain")),
            ("", json!("")),
        ] {
            assert_eq!(value(template), expected, "{template}");
        }
    }

    #[test]
    fn anything_else_becomes_text() {
        for (template, expected) in [
            ("{{ steps.load.rows }} rows", "12 rows"),
            (" {{ steps.load.rows }}", " 12"),
            ("{{ inputs.count }}{{ inputs.count }}", "33"),
            ("a {{ inputs.region }}.", "a ."),
            ("is {{ inputs.on }}", "is false"),
            (
                "v={{ steps.load.value['items'] }}",
                "v=[1,\"two\",null,4.5]",
            ),
            ("v={{ {'a': none} }}", "v={\"a\":null}"),
            ("<{{ '<&>' }}>\n", "<<&>>\n"),
            ("{# note #}x", "x"),
            ("{% for i in range(3) if i %}{{ i }},{% endfor %}", "1,2,"),
            ("{% set n = 2 %}{% if n > 1 %}many{% endif %}", "many"),
        ] {
            assert_eq!(value(template), json!(expected), "{template}");
            assert_eq!(render_text(template, &scope()).unwrap(), expected);
        }
    }

    #[test]
    fn values_pass_through_unchanged_inside_of_lists_and_maps() {
        let given = json!({
            "inputs": {
                "all": [i64::MIN, i64::MAX, u64::MAX, 0.1, 1.0, -0.0, 1e300, true, null, "é\u{0}"],
                "order": { "z": 1, "a": { "y": 2, "b": [] } },
                "many": (0..50_000).collect::<Vec<_>>(),
            }
        });
        let scope = Scope::new(&given);
        let template = json!({ "{{ x }}": ["{{ inputs }}", 5, null] });
        let rendered = render(&template, &scope).unwrap();
        assert_eq!(rendered, json!({ "{{ x }}": [given["inputs"], 5, null] }));
        assert_eq!(
            rendered["{{ x }}"][0]["order"].to_string(),
            given["inputs"]["order"].to_string()
        );
    }

    #[test]
    fn an_error_names_the_expression_and_the_cause() {
        for (template, parts) in [
            (
                "{{ inputs.nope }}",
                ["in `inputs.nope`:", "`inputs.nope` is undefined"],
            ),
            (
                "a {{ inputs.nope }} b",
                ["inputs.nope", "`inputs.nope` is undefined"],
            ),
            (
                "{{ inputs.nope.deeper }}",
                ["inputs.nope", "`inputs.nope` is undefined"],
            ),
            ("{{ nope + 1 }}", ["nope + 1", "`nope` is undefined"]),
            ("{{ [1, inputs.nope] }}", ["inputs.nope", "is undefined"]),
            ("{{ 1 + }}", ["in `{{ 1 + }}`:", "unexpected `}}`"]),
            ("{{ 'a' + 1 }}", ["'a' + 1", "+"]),
            ("{{ 1 | nope }}", ["1 | nope", "filter nope is unknown"]),
            ("{{ 10 ** 30 }}", ["10 ** 30", "does not fit into 64 bits"]),
            ("{{ 1 / 0 }}", ["in `1 / 0`", "unable to calculate"]),
            ("{{ 1e308 * 10 }}", ["1e308 * 10", "not a finite number"]),
            ("{{ 'x' | fromjson }}", ["fromjson", "the text is not JSON"]),
            (
                "{{ inputs.day | strftime('%Q') }}",
                ["strftime", "is not a pattern"],
            ),
            (
                "{{ 'soon' | strftime('%Y') }}",
                ["strftime", "`soon` is not a date"],
            ),
            (
                "{% include 'x' %}",
                ["include", "unknown statement include"],
            ),
            (
                "{% macro m() %}{% endmacro %}",
                ["macro", "unknown statement macro"],
            ),
        ] {
            let error = error(template);
            for part in parts {
                assert!(error.contains(part), "{template}: {error}");
            }
        }
    }

    #[test]
    fn filters_for_data_flows() {
        for (template, expected) in [
            ("{{ '{\"a\": [1]}' | fromjson }}", json!({ "a": [1] })),
            (
                "{{ inputs.day | strftime('%Y/%m/%d') }}",
                json!("2026/11/24"),
            ),
            (
                "{{ '2026-11-24T23:30:00+02:00' | strftime('%H%z') }}",
                json!("23+0200"),
            ),
            (
                "{{ steps.load.value | tojson }}",
                json!("{\"items\":[1,\"two\",null,4.5]}"),
            ),
            ("{{ 'a b/c' | urlencode }}", json!("a%20b/c")),
            (
                "{{ inputs.region | default('north', true) }}",
                json!("north"),
            ),
            ("{{ inputs.nope | default(0) }}", json!(0)),
            ("{{ inputs.nope is defined }}", json!(false)),
        ] {
            assert_eq!(value(template), expected, "{template}");
        }
    }

    #[test]
    fn a_condition_holds_or_tells_why_it_cannot_be_told() {
        let holds = |condition| is_true(condition, &scope());
        assert!(holds("steps.load.rows > 0 and not inputs.on").unwrap());
        assert!(!holds("inputs.region").unwrap());
        assert!(!holds("steps.load.value['items'][2]").unwrap());
        for (condition, cause) in [
            ("inputs.nope", "`inputs.nope` is undefined"),
            ("inputs.nope > 1", "undefined"),
            ("inputs.count >", "unexpected end of input"),
            ("{{ inputs.on }}", "unexpected"),
        ] {
            let error = holds(condition).unwrap_err().to_string();
            assert!(error.contains(cause), "{condition}: {error}");
        }
    }

    #[test]
    fn work_without_end_is_cut_off() {
        for bomb in [
            "{% for i in range(9999) %}{% for j in range(9999) %}{% endfor %}{% endfor %}",
            "{% for i in range(9999) %}{% for j in range(9999) %}x{{ j }}{% endfor %}{% endfor %}",
            "{{ range(99999999999) }}",
            "{{ 'x' * 99999999999 }}",
            "{{ 'x' * 8000000 }}",
            "{{ [[[[0] * 999] * 999] * 999] * 999 }}",
            "a{{ [[[[0] * 999] * 999] * 999] * 999 }}",
            "{{ ([[[[0] * 999] * 999] * 999] * 999) | tojson }}",
            "{{ ([[[[0] * 999] * 999] * 999] * 999) | string | length }}",
            "{% for i in [1] recursive %}{{ loop([1]) }}{% endfor %}",
            "{% set x = namespace(a=[]) %}",
            "{{ 9 ** 9 ** 9 ** 9 }}",
            "{{ '%0999999999d' | format(1) }}",
            "{{ 'x' | indent(999999999) }}",
        ] {
            let started = Instant::now();
            let error = error(bomb);
            let took = started.elapsed();
            // Without optimisation it is some ten times as slow as it will be.
            assert!(took.as_secs() < 10, "{bomb}: {took:?} for {error}");
        }
    }

    #[test]
    fn what_does_not_fit_into_the_room_that_is_given_is_told_from_an_error() {
        let room = |template: &str| render_up_to(&json!([template]), &scope(), 100);
        assert_eq!(room("{{ 'x' * 90 }}"), Ok(Some(json!(["x".repeat(90)]))));
        for large in ["{{ 'x' * 200 }}", "a {{ 'x' * 200 }}", "{{ [1] * 60 }}"] {
            assert_eq!(room(large), Ok(None), "{large}");
        }
        assert!(room("{{ 1 / 0 }}").is_err());
        // A step has room of its own, and says how much.
        let error = render(&json!("{{ [0] * 3000000 }}"), &scope()).unwrap_err();
        assert!(
            error.to_string().contains("more than 4194304 bytes"),
            "{error}"
        );
    }

    #[test]
    fn the_texts_of_one_rendering_share_their_room() {
        let big = json!(vec!["{{ 'x' * 1000000 }}"; 5]);
        let error = render(&big, &scope()).unwrap_err().to_string();
        assert!(error.contains("more than 4194304 bytes"), "{error}");
    }

    #[test]
    fn expressions_made_to_exhaust_the_stack_are_refused_or_survived() {
        for length in [TEMPLATE_TOKENS_MAX / 2 - 10, 20_000] {
            for (start, repeated, end) in [
                ("{{ 1", " + 1", " }}"),
                ("{{ ", "-", "1 }}"),
                ("{{ ", "not ", "1 }}"),
                ("{{ ", "(", "1 }}"),
                ("{{ ", "[", "1 }}"),
                ("{{ x", ".a", " }}"),
                ("{{ x", "[0]", " }}"),
                ("{{ 1", "|abs", " }}"),
                ("{{ 1", " if 1 else 1", " }}"),
                ("{{ 1", " is odd", " }}"),
                ("", "{% if 1 %}", ""),
                ("{% if 1 %}", "{% elif 1 %}", "{% endif %}"),
                (
                    "{% for a in [1] %}",
                    "{% set x = [x] %}",
                    "{{ x }}{% endfor %}",
                ),
            ] {
                let bomb = format!("{start}{}{end}", repeated.repeat(length));
                // It is enough that these return.
                let _ = render(&json!(bomb), &scope());
                let _ = references(&bomb);
            }
        }
    }

    #[test]
    fn a_loop_cannot_hand_a_growing_value_to_its_next_turn() {
        let template = "{% for i in range(3) %}{{ x is defined }} {% set x = [i] %}{% endfor %}";
        assert_eq!(value(template), json!("false false false "));
    }

    #[test]
    fn a_scope_takes_another_member_and_shows_no_value() {
        let scope = scope().with("secrets", &json!({ "token": "canary" }));
        let template = "{{ secrets.token }} {{ inputs.count }}";
        assert_eq!(render_text(template, &scope).unwrap(), "canary 3");
        assert!(!format!("{scope:?}").contains("canary"));
        let error = render_text("{{ secrets.other }}", &scope).unwrap_err();
        assert!(error.to_string().contains("`secrets.other` is undefined"));
    }

    #[test]
    fn rendering_takes_microseconds() {
        let scope = scope();
        let template = json!("sales-{{ inputs.day }}-{{ steps.load.rows }}.csv");
        render(&template, &scope).unwrap();
        let started = Instant::now();
        for _ in 0..1000 {
            render(&template, &scope).unwrap();
        }
        let each = started.elapsed() / 1000;
        // Without optimisation, on a busy machine.
        assert!(each.as_micros() < 1000, "{each:?}");
    }
}
