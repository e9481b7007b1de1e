//! JSON files: one array of objects, or one object a line.
//!
//! An object's members are columns; the columns of a table are the members of
//! all its objects, and an object without one of them has a missing value
//! there. Texts stay texts. A member that holds lists or objects of one shape
//! in all rows becomes a column of lists or structs; where the shapes differ
//! it becomes text, which holds the JSON.

mod items;
mod shape;

use std::borrow::Cow;

use indexmap::IndexMap;
use serde_json::value::RawValue;

use self::{items::Items, shape::Shape};
use super::{
    TableError,
    batches::{Batches, COLUMNS_MAX, Columns},
    error::Shown,
    read::Source,
    rejects::Rejects,
    sink::Sink,
};

/// How objects follow on one another in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// As the items of one array.
    Array,
    /// One on each line.
    Lines,
}

/// Reads these columns of the files.
pub(super) fn read(
    source: &Source<'_>,
    columns: &Columns,
    layout: Layout,
    rejects: &mut Rejects,
    sink: &mut Sink<'_>,
) -> Result<(), TableError> {
    let declared = source.step.columns.is_some();
    let mut table = Batches::new(columns, declared, sink)?;
    let mut met = vec![false; columns.len()];
    for (position, file) in source.files.iter().enumerate() {
        table.start_file(position)?;
        met.fill(false);
        let mut objects = 0u64;
        let mut items = Items::open(file, layout, source.work)?;
        while items.advance()? {
            match fill(&mut table, columns, &items, &mut met) {
                Ok(()) => {
                    objects += 1;
                    table.end_row()?;
                }
                Err(error) => {
                    rejects.add(error, items.raw())?;
                    table.drop_row()?;
                }
            }
        }
        let missing = columns.keys().zip(&met).find(|(_, met)| !**met);
        if let (Some((name, _)), true, 1..) = (missing, declared, objects) {
            return Err(TableError::refused(
                "no_such_column",
                format!("{}: no object has a member {}", file.shown, Shown(name)),
            ));
        }
    }
    table.finish()
}

/// Puts the object at hand into `table`, and notes which columns it has.
fn fill(
    table: &mut Batches<'_, '_, '_>,
    columns: &Columns,
    items: &Items<'_>,
    met: &mut [bool],
) -> Result<(), TableError> {
    for (name, value) in items.members()? {
        if let Some(column) = columns.get_index_of(&*name) {
            met[column] = true;
            let set = set(table, column, value.get());
            set.map_err(|reason| items.bad_item(reason))?;
        }
    }
    Ok(())
}

fn set(table: &mut Batches<'_, '_, '_>, column: usize, json: &str) -> Result<(), String> {
    match json.as_bytes().first() {
        Some(b'n') => table.set(column, None),
        Some(b'"') => {
            let text: Cow<'_, str> = unescaped(json)?;
            table.set(column, Some(&text))
        }
        _ => table.set(column, Some(json)),
    }
}

/// The text that a JSON string stands for.
fn unescaped(json: &str) -> Result<Cow<'_, str>, String> {
    let inner = json
        .strip_prefix('"')
        .and_then(|json| json.strip_suffix('"'));
    match inner {
        Some(inner) if !inner.contains('\\') => Ok(Cow::Borrowed(inner)),
        _ => serde_json::from_str(json)
            .map(Cow::Owned)
            .map_err(|error| error.to_string()),
    }
}

/// The columns that are members of the objects in all files, with types that fit
/// every value.
pub(super) fn infer(
    source: &Source<'_>,
    layout: Layout,
    rejects: &Rejects,
) -> Result<Columns, TableError> {
    let mut columns: IndexMap<String, Shape> = IndexMap::new();
    for file in source.files {
        let mut items = Items::open(file, layout, source.work)?;
        while items.advance()? {
            let members = match items.members() {
                Ok(members) => members,
                Err(error) => {
                    rejects.pass(error)?;
                    continue;
                }
            };
            for (name, value) in members {
                if let Some(shape) = columns.get_mut(&*name) {
                    shape.observe(value.get());
                    continue;
                }
                if columns.len() == COLUMNS_MAX {
                    return Err(items.too_many_columns());
                }
                columns.insert(name.into_owned(), Shape::of(value.get()));
            }
        }
    }
    let kind = |(name, shape): (String, Shape)| (name, shape.column_kind());
    Ok(columns.into_iter().map(kind).collect())
}

/// The members of an object, as they stand in the file.
type Members<'a> = Vec<(Cow<'a, str>, &'a RawValue)>;

#[cfg(test)]
mod tests {
    use millstream_shared::flow::step::ColumnType;

    use crate::tables::tests::Place;

    #[test]
    fn the_members_of_all_objects_are_the_columns() {
        let place = Place::new();
        place.put(
            "a.json",
            r#" [ {"id": 1, "name": "x\u00e9"} , {"id": 2.5, "new": true}, {} ] "#,
        );
        assert_eq!(
            place.shown("a.json"),
            [
                "id: Float64, name: Utf8, new: Boolean",
                "1.0 xé ∅",
                "2.5 ∅ true",
                "∅ ∅ ∅"
            ]
        );
    }

    #[test]
    fn one_object_a_line_with_blank_lines_and_a_byte_order_mark() {
        let place = Place::new();
        place.put(
            "a.ndjson",
            "\u{feff}{\"a\":1}\r\n\n{\"a\":null}\n{\"a\":-3}",
        );
        assert_eq!(place.shown("a.ndjson"), ["a: Int64", "1", "∅", "-3"]);
    }

    #[test]
    fn lists_and_objects_stay_nested_and_mixtures_are_json_text() {
        let place = Place::new();
        place.put(
            "a.ndjson",
            r#"{"tags":["x","y"],"at":{"lat":1,"lon":2.5},"any":{"a":1}}
{"tags":[],"at":null,"any":[18446744073709551616]}"#,
        );
        let shown = place.shown("a.ndjson");
        assert!(
            shown[0].starts_with("tags: List(Utf8), at: Struct("),
            "{}",
            shown[0]
        );
        assert!(shown[0].ends_with("any: Utf8"), "{}", shown[0]);
        assert_eq!(shown[1], r#"[x, y] {lat: 1, lon: 2.5} {"a":1}"#);
        assert_eq!(shown[2], "[] ∅ [18446744073709551616]");
    }

    #[test]
    fn a_text_stays_a_text() {
        let place = Place::new();
        place.put("a.json", r#"[{"zip":"0150","day":"2026-11-24","none":""}]"#);
        assert_eq!(
            place.shown("a.json"),
            ["zip: Utf8, day: Utf8, none: Utf8", "0150 2026-11-24 "]
        );
    }

    #[test]
    fn declared_columns_are_taken_and_the_others_left_out() {
        let place = Place::new();
        place.put(
            "a.json",
            r#"[{"amount": 12345678901234567890.123456789, "day": "2026-11-24", "x": 1},
                {"amount": "0.1", "day": null}]"#,
        );
        let columns = [("day", ColumnType::Date), ("amount", ColumnType::Decimal)];
        assert_eq!(
            place.shown_as("a.json", &columns),
            [
                "day: Date32, amount: Decimal128(38, 9)",
                "2026-11-24 12345678901234567890.123456789",
                "∅ 0.100000000"
            ]
        );
        let error = place.refusal_as("a.json", &[("total", ColumnType::Number)]);
        assert_eq!(error, "a.json: no object has a member `total`");
    }

    #[test]
    fn a_bad_object_is_named_with_its_line_and_reason() {
        let place = Place::new();
        for (file, text, expected) in [
            (
                "a.ndjson",
                "{\"a\":1}\n{\"a\":}\n",
                "a.ndjson, line 2: expected value (column 6)",
            ),
            (
                "b.ndjson",
                "{\"a\":1}\n[1]\n",
                "b.ndjson, line 2: invalid type: sequence, expected an object",
            ),
            (
                "c.json",
                "[{\"a\":1},\n\n{\"a\":1,\n\"a\":2}]",
                "c.json, line 3: column a is there twice",
            ),
            (
                "d.json",
                "[{\"a\":1},\n{\"a\":\n2 3}]",
                "d.json, line 3: expected `,` or `}` (column 3)",
            ),
            (
                "e.json",
                "\n{\"a\":1}",
                "e.json, line 2: expected an array of objects; `format: ndjson` reads one object a line",
            ),
            (
                "f.json",
                "[{\"a\":1},\n]",
                "f.json, line 2: expected an object",
            ),
            (
                "g.json",
                "[{\"a\":1}\n",
                "g.json, line 1: the array is not closed behind this item",
            ),
            (
                "h.json",
                "[{\"a\":1}]\n]",
                "h.json, line 2: something stands behind the array",
            ),
            ("i.json", "[", "i.json, line 1: the array is not closed"),
            (
                "j.json",
                "",
                "j.json, line 1: expected an array of objects; `format: ndjson` reads one object a line",
            ),
        ] {
            place.put(file, text);
            assert_eq!(place.refusal(file), expected);
        }
        std::fs::write(place.path("k.ndjson"), b"{\"a\":1}\n{\"a\":\"\xff\"}\n").unwrap();
        assert_eq!(place.refusal("k.ndjson"), "k.ndjson, line 2: is not UTF-8");

        place.put("l.ndjson", "{\"a\":1}\n{\"a\":\"12x\"}\n");
        let error = place.refusal_as("l.ndjson", &[("a", ColumnType::Integer)]);
        assert_eq!(
            error,
            "l.ndjson, line 2: column a: `12x` is not a whole number"
        );
    }

    #[test]
    fn brackets_and_quotes_within_texts_end_nothing() {
        let place = Place::new();
        place.put("a.json", r#"[{"a":"],[}{\"\\"},{"a":"\\"}]"#);
        assert_eq!(place.shown("a.json"), ["a: Utf8", r#"],[}{"\"#, "\\"]);
    }

    #[test]
    fn an_empty_array_is_a_table_without_rows() {
        let place = Place::new();
        place.put("a.json", "[ ]");
        assert_eq!(place.shown("a.json"), [""]);
        place.put("b.json", "[{},{}]");
        assert_eq!(place.shown("b.json"), ["", "", ""]);
    }
}
