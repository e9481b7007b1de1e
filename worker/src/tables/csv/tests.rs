//! What of CSV files becomes which table.

use millstream_shared::flow::step::ColumnType;

use super::blocks::ROW_BYTES_MAX;
use crate::tables::tests::{Place, shown};
use serde_json::{Value, json};

#[test]
fn types_fit_every_value() {
    let place = Place::new();
    place.put(
        "a.csv",
        "id,zip,amount,open,day,at,note,none\n\
         1,0150,1,true,2026-11-24,2026-11-24T10:00:00Z,\"a, b\",\n\
         2,5003,2.5,FALSE,,2026-11-24 11:00:00,,\n",
    );
    assert_eq!(
        place.shown("a.csv"),
        [
            "id: Int64, zip: Utf8, amount: Float64, open: Boolean, day: Date32, \
             at: Timestamp(µs, \"UTC\"), note: Utf8, none: Utf8",
            "1 0150 1.0 true 2026-11-24 2026-11-24T10:00:00Z a, b ∅",
            "2 5003 2.5 false ∅ 2026-11-24T11:00:00Z ∅ ∅",
        ]
    );
}

#[test]
fn a_value_far_down_decides_the_type() {
    let place = Place::new();
    let mut text = "n\n".to_owned();
    (0..20_000).for_each(|n| text.push_str(&format!("{n}\n")));
    text.push_str("late\n");
    place.put("a.csv", &text);
    let table = place.read("a.csv").unwrap();
    assert_eq!(table.rows(), 20_001);
    assert_eq!(place.shown("a.csv")[0], "n: Utf8");
}

#[test]
fn line_ends_blank_lines_and_quotes_are_understood() {
    let place = Place::new();
    place.put(
        "a.csv",
        "\u{feff}a,b\r\n\r\n\"x \"\"y\"\"\",\"two\r\nlines\"\r\n5\" pipe,\"\"\r\n\"last\",",
    );
    assert_eq!(
        place.shown("a.csv"),
        [
            "a: Utf8, b: Utf8",
            "x \"y\" two\r\nlines",
            "5\" pipe ∅",
            "last ∅"
        ]
    );
}

#[test]
fn what_ends_a_line_within_quotes_ends_no_line_of_the_file() {
    let place = Place::new();
    for (text, expected) in [
        (
            "\"a\rb\",c\n1,2\n3,4\n",
            ["a\rb: Int64, c: Int64", "1 2", "3 4"],
        ),
        (
            "\"a\rb\",c\r\n1,2\r\n3,4\r\n",
            ["a\rb: Int64, c: Int64", "1 2", "3 4"],
        ),
        (
            "\"a\nb\",c\r1,2\r3,4\r",
            ["a\nb: Int64, c: Int64", "1 2", "3 4"],
        ),
    ] {
        place.put("a.csv", text);
        assert_eq!(place.shown("a.csv"), expected, "{text:?}");
    }
    // Wherever the first line end stands, however the file is read.
    let name = "x".repeat(300_000);
    place.put("a.csv", &format!("{name}\r1\r2\r"));
    assert_eq!(place.read("a.csv").unwrap().rows(), 2);
}

#[test]
fn blank_lines_take_no_memory() {
    let place = Place::new();
    let header: Vec<String> = (0..300).map(|column| format!("c{column}")).collect();
    let row = format!("{}{}", "a".repeat(2 << 20), ",".repeat(299));
    let blank = "\n".repeat(4 << 20);
    place.put("a.csv", &format!("{}\n{row}\n{blank}", header.join(",")));
    assert_eq!(place.read("a.csv").unwrap().rows(), 1);
}

#[test]
fn declared_columns_are_taken_and_the_others_left_out() {
    let place = Place::new();
    place.put("a.csv", "x,amount,id\n1,10.10,007\n");
    let columns = [("id", ColumnType::Integer), ("amount", ColumnType::Decimal)];
    assert_eq!(
        place.shown_as("a.csv", &columns),
        ["id: Int64, amount: Decimal128(38, 9)", "7 10.100000000"]
    );
    let error = place.refusal_as("a.csv", &[("total", ColumnType::Number)]);
    assert_eq!(
        error,
        "a.csv: there is no column `total`, only x, amount, id"
    );
}

#[test]
fn a_bad_row_is_named_with_its_line_and_reason() {
    let place = Place::new();
    for (text, expected) in [
        ("a,b\n1,2\n\n3\n", "line 4: expected 2 fields, found 1"),
        ("a\n1\n2,3\n", "line 3: expected 1 field, found 2"),
        (
            "a,b\r\n\"x\r\ny\",1\r\n1,2,3\r\n",
            "line 4: expected 2 fields, found 3",
        ),
        (
            "a,b\n1,\"2\n3,4\n",
            "line 2: a quote that opens here is never closed",
        ),
        (
            "a,b\n1,2\n\"x\ny\",\"z\n",
            "line 4: a quote that opens here is never closed",
        ),
        (
            "a,b\n\"1\"x,2\n",
            "line 2: something stands behind a closing quote; a quote within a quoted field is written twice",
        ),
        ("a,a\n1,2\n", "line 1: the header names column `a` twice"),
    ] {
        place.put("bad.csv", text);
        assert_eq!(place.refusal("bad.csv"), format!("bad.csv, {expected}"));
    }
    std::fs::write(place.path("bad.csv"), b"a,b\n1,2\n3,\xff\n").unwrap();
    assert_eq!(
        place.refusal("bad.csv"),
        "bad.csv, line 3: is not UTF-8 at byte offset 10; is it `csv: { encoding: windows-1252 }` or another one?"
    );
}

#[test]
fn a_value_that_does_not_fit_is_named_with_its_line_and_column() {
    let place = Place::new();
    let mut text = "id,amount\n".to_owned();
    (2..17).for_each(|n| text.push_str(&format!("{n},{n}\n")));
    place.put("orders.csv", &(text + "17,12x\n"));
    for (column_type, reason) in [
        (ColumnType::Number, "is not a number"),
        (ColumnType::Integer, "is not a whole number"),
        (ColumnType::Decimal, "is not a decimal number"),
    ] {
        let error = place.refusal_as("orders.csv", &[("amount", column_type)]);
        assert_eq!(
            error,
            format!("orders.csv, line 17: column amount: `12x` {reason}")
        );
    }
}

#[test]
fn a_row_without_end_is_cut_off() {
    let place = Place::new();
    let text = format!("a\n\"{}", "x\n".repeat(ROW_BYTES_MAX / 2));
    place.put("a.csv", &text);
    let error = place.refusal("a.csv");
    assert!(
        error.starts_with("a.csv, line 2: a row of more than 64 MiB"),
        "{error}"
    );
}

#[test]
fn an_empty_file_is_refused_and_a_header_alone_is_not() {
    let place = Place::new();
    place.put("a.csv", "\n");
    assert_eq!(
        place.refusal("a.csv"),
        "a.csv is empty; a CSV file starts with a header line"
    );
    place.put("b.csv", "a,,c\n");
    assert_eq!(place.shown("b.csv"), ["a: Utf8, column_2: Utf8, c: Utf8"]);
}

#[test]
fn several_files_are_one_table_where_their_columns_are_the_same() {
    let place = Place::new();
    place.put("2.csv", "b,a\nx,2.5\n");
    place.put("1.csv", "a,b\n1,2026-11-24\n");
    assert_eq!(
        place.shown("*.csv"),
        ["a: Float64, b: Utf8", "1.0 2026-11-24", "2.5 x"]
    );
    place.put("3.csv", "a,b,c\n1,2,3\n");
    let error = place.refusal("*.csv");
    assert_eq!(
        error,
        "3.csv: column `c` is not in 1.csv, which is read with it"
    );
    place.put("3.csv", "a\n1\n");
    assert_eq!(
        place.refusal("*.csv"),
        "3.csv: there is no column `b`, only a"
    );
}

#[test]
fn rows_stand_as_the_flow_says() {
    let place = Place::new();
    let read = |options: Value| {
        let step = json!({ "path": "a.csv", "csv": options });
        shown(&place.read_step(step).unwrap().table)
    };
    place.put("a.csv", "a;b\n'x;''y';1,5\nNULL;n/a\n'NULL';\n");
    assert_eq!(
        read(json!({ "delimiter": ";", "quote": "'", "nulls": ["NULL", "n/a"] })),
        ["a: Utf8, b: Utf8", "x;'y 1,5", "∅ ∅", "NULL ∅"]
    );
    place.put("a.csv", "1\t\"x\n2\t\n");
    let options = json!({ "delimiter": "\t", "quote": "", "header": false });
    assert_eq!(
        read(options.clone()),
        ["column_1: Int64, column_2: Utf8", "1 \"x", "2 ∅"]
    );
    let step = json!({ "path": "a.csv", "csv": options,
        "columns": { "id": "integer", "text": "string" } });
    let table = place.read_step(step).unwrap().table;
    assert_eq!(shown(&table), ["id: Int64, text: Utf8", "1 \"x", "2 ∅"]);
    let step = json!({ "path": "a.csv", "csv": options, "columns": { "id": "integer" } });
    let error = place.read_step(step).err().unwrap().to_string();
    assert_eq!(error, "a.csv, line 1: expected 1 field, found 2");
    place.put("a.csv", "");
    assert_eq!(read(options), [""]);
}

#[test]
fn files_in_other_encodings_are_read_and_wrong_ones_named() {
    let place = Place::new();
    let read = |encoding: &str| {
        let step = json!({ "path": "a.csv", "csv": { "encoding": encoding } });
        place.read_step(step).map(|read| shown(&read.table))
    };
    let expected = ["navn: Utf8, æ: Int64", "Bjørn 1"];
    let text = "navn,æ\r\nBjørn,1\r\n";
    let utf16: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let with_mark = [b"\xff\xfe", &utf16[..]].concat();
    std::fs::write(place.path("a.csv"), &with_mark).unwrap();
    assert_eq!(read("utf-16").unwrap(), expected);
    let error = read("utf-8").err().unwrap().to_string();
    assert_eq!(
        error,
        "a.csv, line 1: is not UTF-8 at byte offset 0; it looks like `csv: { encoding: utf-16 }`"
    );
    std::fs::write(place.path("a.csv"), &with_mark[..with_mark.len() - 1]).unwrap();
    let error = read("utf-16").err().unwrap().to_string();
    assert_eq!(
        error,
        format!(
            "a.csv: is not UTF-16 at byte offset {}",
            with_mark.len() - 2
        )
    );
    let latin: Vec<u8> = text.chars().map(|c| c as u8).collect();
    std::fs::write(place.path("a.csv"), latin).unwrap();
    for encoding in ["windows-1252", "iso-8859-1"] {
        assert_eq!(read(encoding).unwrap(), expected);
    }
}

#[test]
fn lines_may_end_with_a_carriage_return_alone() {
    let place = Place::new();
    place.put("a.csv", "\u{feff}a,b\r1,\"x\ry\"\r\r2,z\r3\r");
    let error = place.refusal("a.csv");
    assert_eq!(error, "a.csv, line 6: expected 2 fields, found 1");
    place.put("a.csv", "a,b\r1,\"x\ry\"\r\r2,z");
    assert_eq!(place.shown("a.csv"), ["a: Int64, b: Utf8", "1 x\ry", "2 z"]);
    place.put("a.csv", "a,b\n1,x\ry\n");
    assert_eq!(place.shown("a.csv"), ["a: Int64, b: Utf8", "1 x\ry"]);
}

#[test]
fn written_rows_stand_as_the_flow_says() {
    let place = Place::new();
    place.put("a.csv", "a,b\nx;'y,1\n,2\n");
    let table = place.read("a.csv").unwrap();
    let options = json!({ "delimiter": ";", "quote": "'", "header": false });
    let step = json!({ "path": "b.csv", "from": "x", "csv": options });
    place.write_step(&table, step).unwrap();
    assert_eq!(place.text("b.csv"), "'x;''y';1\n;2\n");
}
