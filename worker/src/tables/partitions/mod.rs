//! Tables that are spread over folders by the values of some columns, such as
//! `country=NO/year=2026/part.parquet`.

mod read;
mod write;

pub(super) use read::Partitions;
pub(super) use write::{Spread, is_part_of, write};

/// What stands for a missing value in the name of a folder.
const NULL: &str = "__HIVE_DEFAULT_PARTITION__";

/// `text` as a part of the name of a folder.
fn escaped(text: &str) -> String {
    let is_plain =
        |byte: u8| byte >= 0x80 || byte.is_ascii_alphanumeric() || b" _-.,+@()".contains(&byte);
    let mut name = Vec::with_capacity(text.len());
    for byte in text.bytes() {
        if is_plain(byte) {
            name.push(byte);
        } else {
            name.extend(format!("%{byte:02X}").bytes());
        }
    }
    String::from_utf8_lossy(&name).into_owned()
}

/// What a part of the name of a folder stands for.
fn unescaped(name: &str) -> String {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let [first, behind @ ..] = rest {
        let digits = behind
            .get(..2)
            .filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))
            .and_then(|digits| std::str::from_utf8(digits).ok());
        let escaped = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match (first, escaped) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &behind[2..];
            }
            _ => {
                bytes.push(*first);
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::{Value, json};

    use super::{escaped, unescaped};
    use crate::tables::{
        Table,
        tests::{Place, shown},
    };

    fn table(place: &Place) -> Table {
        place.put(
            "in.csv",
            "id,country,day,n\n1,NO,2026-11-24,1\n2,,2026-11-25,2\n3,a/b=% c,2026-11-24,3\n4,NO,2026-11-24,4\n",
        );
        place.read("in.csv").unwrap()
    }

    fn step(format: &str, columns: Value) -> Value {
        json!({ "path": "out", "from": "x", "format": format, "partition_by": columns })
    }

    #[test]
    fn a_text_outlives_the_name_of_a_folder() {
        for text in ["NO", "a/b=% c", "..", "\n", "ø:", "%2", "100%"] {
            let name = escaped(text);
            assert!(!name.contains(['/', '=', '\n']), "{name}");
            assert_eq!(unescaped(&name), text);
        }
        assert_eq!(unescaped("%+1"), "%+1");
    }

    #[test]
    fn folders_named_by_values_give_them_back() {
        let place = Place::new();
        let table = table(&place);
        for format in ["csv", "ndjson", "parquet", "arrow", "xlsx"] {
            let name = if format == "xlsx" { "excel" } else { format };
            place
                .write_step(&table, step(name, json!(["country", "day"])))
                .unwrap();
            let file = format!("out/country=NO/day=2026-11-24/part.{format}");
            assert!(place.path(&file).is_file(), "{file}");
            let mut rows = place.shown(&format!("out/**/*.{format}"));
            rows[1..].sort();
            assert_eq!(
                rows,
                [
                    "id: Int64, n: Int64, country: Utf8, day: Date32",
                    "1 1 NO 2026-11-24",
                    "2 2 ∅ 2026-11-25",
                    "3 3 a/b=% c 2026-11-24",
                    "4 4 NO 2026-11-24",
                ]
            );
        }
        let step =
            json!({ "path": "out/*/*/*.xlsx", "columns": { "n": "string", "day": "string" } });
        let read = place.read_step(step).unwrap().table;
        assert_eq!(shown(&read)[0], "n: Utf8, day: Utf8");
    }

    #[test]
    fn a_folder_is_replaced_as_a_whole() {
        let place = Place::new();
        let table = table(&place);
        place
            .write_step(&table, step("csv", json!(["country"])))
            .unwrap();
        place.put("in.csv", "id,country\n9,SE\n");
        let other = place.read("in.csv").unwrap();
        place
            .write_step(&other, step("csv", json!(["country"])))
            .unwrap();
        assert_eq!(place.shown("out/*/*"), ["id: Int64, country: Utf8", "9 SE"]);
        assert_eq!(place.names("."), ["in.csv", "out"]);
        // Without rows it is empty.
        place.put("in.csv", "id,country\n");
        let empty = place.read("in.csv").unwrap();
        place
            .write_step(&empty, step("csv", json!(["country"])))
            .unwrap();
        assert_eq!(place.names("out"), [""; 0]);
    }

    #[test]
    fn a_folder_with_something_else_in_it_is_not_replaced() {
        let place = Place::new();
        let table = table(&place);
        for other in [
            "out/notes.txt",
            "out/year=2026/x.csv",
            "out/country=NO/notes.txt",
            "out/country=NO/month=1/mine/part.csv",
        ] {
            fs::create_dir_all(place.path(other).parent().unwrap()).unwrap();
            place.put(other, "x");
            let error = place.write_step(&table, step("csv", json!(["country"])));
            let error = error.unwrap_err().to_string();
            assert!(
                error.starts_with("`out` cannot be replaced: it holds `"),
                "{error}"
            );
            assert_eq!(place.text(other), "x");
            fs::remove_dir_all(place.path("out")).unwrap();
        }
        place.put("out", "x");
        let error = place.write_step(&table, step("csv", json!(["country"])));
        assert!(error.unwrap_err().to_string().contains("it is a file"));
    }

    #[test]
    fn the_repeat_mends_what_a_crash_has_left() {
        let place = Place::new();
        let table = table(&place);
        fs::create_dir_all(place.path(".millstream-run-step.old/country=XX")).unwrap();
        fs::create_dir_all(place.path(".millstream-run-step-AbC.tmp/country=NO")).unwrap();
        let nothing = step("csv", json!(["country", "nothing"]));
        let error = place.write_step(&table, nothing).unwrap_err().to_string();
        assert_eq!(
            error,
            "`partition_by` names a column `nothing`, which the table has not"
        );
        assert_eq!(place.names("."), ["in.csv", "out"]);
        assert_eq!(place.names("out"), ["country=XX"]);
        place
            .write_step(&table, step("csv", json!(["country"])))
            .unwrap();
        assert_eq!(place.names("."), ["in.csv", "out"]);
        assert_eq!(
            place.names("out"),
            [
                "country=NO",
                "country=__HIVE_DEFAULT_PARTITION__",
                "country=a%2Fb%3D%25 c"
            ]
        );
    }

    #[test]
    fn folders_above_those_that_steps_may_touch_give_nothing() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("env=prod");
        fs::create_dir_all(folder.join("a=1")).unwrap();
        fs::write(folder.join("a=1/x.csv"), "n\n1\n").unwrap();
        let place = Place::within(&folder);
        let path = folder.join("a=1/x.csv");
        let path = path.to_str().unwrap();
        assert_eq!(place.shown(path), ["n: Int64, a: Int64", "1 1"]);
    }

    #[test]
    fn what_cannot_name_folders_is_refused() {
        let place = Place::new();
        place.put("in.csv", "a,b\n1.5,x\n");
        let table = place.read("in.csv").unwrap();
        for (columns, expected) in [
            (
                json!(["a"]),
                "column `a` is Float64, by which no folders are named; make it a text in a `sql` step",
            ),
            (
                json!(["a", "b"]),
                "`partition_by` names every column, so that nothing is left for the files",
            ),
        ] {
            let error = place.write_step(&table, step("csv", columns)).unwrap_err();
            assert_eq!(error.to_string(), expected);
            assert!(!place.path("out").exists());
        }
        for (file, text) in [("p/a=1/x.csv", "n\n1\n"), ("p/b=1/x.csv", "n\n1\n")] {
            fs::create_dir_all(place.path(file).parent().unwrap()).unwrap();
            place.put(file, text);
        }
        assert_eq!(
            place.refusal("p/*/*.csv"),
            "p/a=1/x.csv and p/b=1/x.csv lie in folders that are named after different columns"
        );
    }
}
