//! Rows that do not fit their columns, and are set aside.

use millstream_shared::flow::step::Compression;
use serde::Serialize;

use super::{
    Files, TableError, compression::compressed, publish_elsewhere::publish_at, read::Work,
};
use crate::stores::Location;

/// A row that does not fit.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Reject {
    /// Its file, as the flow names it.
    pub(crate) file: String,
    /// The line on which it starts, from 1; in a sheet the row.
    pub(crate) line: u64,
    /// What is wrong with it.
    pub(crate) reason: String,
    /// The start of it, as it stands in the file.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) row: String,
}

/// The rows of one reading that do not fit.
pub(crate) struct Rejects {
    /// How many there may be. None: the first one fails the step.
    limit: Option<u32>,
    rows: Vec<Reject>,
}

impl Rejects {
    /// A row is kept up to here.
    const ROW_CHARS_MAX: usize = 1000;
    /// How many an error names.
    const NAMED: usize = 3;

    pub(super) fn new(limit: Option<u32>) -> Self {
        Self {
            limit,
            rows: Vec::new(),
        }
    }

    /// Those that were set aside; none where none may be.
    pub(crate) fn rows(&self) -> Option<&[Reject]> {
        self.limit.map(|_| &*self.rows)
    }

    /// Goes on behind a bad row, or fails with `error` where none may be.
    pub(super) fn pass(&self, error: TableError) -> Result<(), TableError> {
        match (&error, self.limit) {
            (TableError::BadRow { .. }, Some(_)) => Ok(()),
            _ => Err(error),
        }
    }

    /// Sets a bad row aside, which reads `row`. Fails with `error` where none
    /// may be, and where there are too many.
    pub(super) fn add(&mut self, error: TableError, row: &[u8]) -> Result<(), TableError> {
        let (Some(limit), TableError::BadRow { file, line, reason }) = (self.limit, &error) else {
            return Err(error);
        };
        if self.rows.len() >= limit as usize {
            return Err(self.too_many(limit, &error));
        }
        let row = String::from_utf8_lossy(row);
        self.rows.push(Reject {
            file: file.clone(),
            line: *line,
            reason: reason.clone(),
            row: row.trim_end().chars().take(Self::ROW_CHARS_MAX).collect(),
        });
        Ok(())
    }

    /// Writes the rows into the file at `location`, one JSON object a line. It is
    /// there also where every row did fit, so that no old one is taken for it.
    pub(super) fn write(
        &self,
        files: &Files,
        location: &Location,
        label: &str,
        work: &Work,
    ) -> Result<(), TableError> {
        let compression = Compression::of_path(&location.shown());
        let label = format!("{label}-rejects");
        publish_at(files, location, &label, work, |draft| {
            compressed(draft, compression, |output| {
                for row in &self.rows {
                    let mut line = serde_json::to_vec(row).map_err(|error| TableError::Fault {
                        message: error.to_string(),
                    })?;
                    line.push(b'\n');
                    let written = output.write_all(&line);
                    written.map_err(|error| TableError::io("writing rejected rows", error))?;
                }
                Ok(())
            })
        })?;
        Ok(())
    }

    fn too_many(&self, limit: u32, last: &TableError) -> TableError {
        let named = self.rows.iter().take(Self::NAMED);
        let mut named: Vec<String> = named
            .map(|row| format!("{}, line {}: {}", row.file, row.line, row.reason))
            .collect();
        if named.is_empty() {
            named.push(last.to_string());
        }
        let named = named.join("; ");
        let message = format!(
            "more rows do not fit than the {limit} that `reject_limit` allows, first {named}"
        );
        TableError::refused("too_many_rejects", message)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::tables::tests::{Place, shown};

    fn rejecting(file: &str, further: Value) -> Value {
        let mut step = json!({ "path": file, "on_bad_row": "reject" });
        let members = step.as_object_mut().unwrap();
        members.extend(further.as_object().unwrap().clone());
        step
    }

    fn noted(place: &Place, step: Value) -> (Vec<String>, Vec<String>) {
        let read = place.read_step(step).unwrap();
        let rows = read.passed.rejects.rows().unwrap().iter();
        let rows =
            rows.map(|row| format!("{}:{} {} <{}>", row.file, row.line, row.reason, row.row));
        (shown(&read.table), rows.collect())
    }

    #[test]
    fn rows_that_do_not_fit_are_left_out_and_named() {
        let place = Place::new();
        place.put("a.csv", "id,n\n1,2\n2,x\n3\n\"4\"z,1\n5,6\n");
        std::fs::write(place.path("b.csv"), b"id,n\n\xff,1\n7,8\n").unwrap();
        let columns = json!({ "columns": { "n": "integer", "id": "integer" } });
        let (table, rows) = noted(&place, rejecting("*.csv", columns));
        assert_eq!(table, ["n: Int64, id: Int64", "2 1", "6 5", "8 7"]);
        assert_eq!(
            rows,
            [
                "a.csv:3 column n: `x` is not a whole number <2,x>",
                "a.csv:4 expected 2 fields, found 1 <3>",
                "a.csv:5 something stands behind a closing quote; a quote within a quoted field is written twice <\"4\"z,1>",
                "b.csv:2 is not UTF-8 at byte offset 5; is it `csv: { encoding: windows-1252 }` or another one? <\u{fffd},1>",
            ]
        );
        // Types are inferred from the rows that stay.
        let (table, rows) = noted(&place, rejecting("a.csv", json!({})));
        assert_eq!(table[0], "id: Int64, n: Utf8");
        assert_eq!(rows.len(), 2);
    }

    #[test]
    fn objects_that_do_not_fit_are_left_out_and_named() {
        let place = Place::new();
        let objects = [
            "{\"a\":1}",
            "{\"a\":}",
            "[2]",
            "{\"a\":1,\"a\":2}",
            "{\"a\":3}",
        ];
        place.put("a.ndjson", &objects.join("\n"));
        place.put("a.json", &format!("[{}]", objects.join(",\n")));
        for file in ["a.ndjson", "a.json"] {
            let (table, rows) = noted(&place, rejecting(file, json!({})));
            assert_eq!(table, ["a: Int64", "1", "3"], "{file}");
            assert_eq!(rows.len(), 3, "{rows:?}");
            assert!(
                rows[1].starts_with(&format!("{file}:3 invalid type")),
                "{rows:?}"
            );
        }
    }

    #[test]
    fn what_breaks_the_rest_of_a_file_fails_in_any_case() {
        let place = Place::new();
        place.put("a.csv", "a,b\n1,\"2\n3,4\n");
        place.put("a.json", "[{\"a\":1}");
        place.put("b.csv", "a,a\n1,2\n");
        for file in ["a.csv", "a.json", "b.csv"] {
            let error = place.read_step(rejecting(file, json!({}))).err().unwrap();
            assert_eq!(error.code(), "bad_row", "{file}");
        }
    }

    #[test]
    fn rejected_rows_do_not_go_into_a_file_that_is_read() {
        let place = Place::new();
        place.put("a.csv", "a\n1\n");
        place.put("b.csv", "a\n1\n");
        std::os::unix::fs::symlink(place.path("b.csv"), place.path("link.csv")).unwrap();
        for (files, rejects) in [
            ("a.csv", "a.csv"),
            ("*.csv", "./b.csv"),
            ("b.csv", "link.csv"),
        ] {
            let step = rejecting(files, json!({ "rejects": { "path": rejects } }));
            let error = place.read_step(step).err().unwrap();
            assert_eq!(error.code(), "file_refused");
            let expected = format!("`{rejects}` cannot be used for rejected rows");
            assert!(error.to_string().starts_with(&expected), "{error}");
        }
        assert_eq!(place.text("b.csv"), "a\n1\n");
    }

    #[test]
    fn too_many_rejected_rows_fail_and_the_first_are_named() {
        let place = Place::new();
        place.put("a.csv", "a\n1\nx\ny\n");
        let step = |limit: u32| {
            let further = json!({ "columns": { "a": "integer" }, "reject_limit": limit,
                "rejects": { "path": "bad.ndjson" } });
            rejecting("a.csv", further)
        };
        let error = place.read_step(step(1)).err().unwrap();
        assert_eq!(error.code(), "too_many_rejects");
        assert_eq!(
            error.to_string(),
            "more rows do not fit than the 1 that `reject_limit` allows, first a.csv, line 3: column a: `x` is not a whole number"
        );
        assert!(!place.path("bad.ndjson").exists());
        assert_eq!(place.read_step(step(2)).unwrap().table.rows(), 1);
        assert_eq!(
            place.text("bad.ndjson"),
            "{\"file\":\"a.csv\",\"line\":3,\"reason\":\"column a: `x` is not a whole number\",\"row\":\"x\"}\n\
             {\"file\":\"a.csv\",\"line\":4,\"reason\":\"column a: `y` is not a whole number\",\"row\":\"y\"}\n"
        );
        place.put("a.csv", "a\n1\n");
        place.read_step(step(2)).unwrap();
        assert_eq!(place.text("bad.ndjson"), "");
    }
}
