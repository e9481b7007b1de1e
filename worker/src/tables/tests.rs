//! What the tests of tables share: a folder with files, and tables as text.

use std::{
    fs,
    path::{Path, PathBuf},
};

use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use millstream_shared::flow::step::{ColumnType, Format, ReadStep, WriteStep};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{
    ByteSize, Engine, Feed, Files, Reading, Table, TableError, TableSettings, Writing,
    memory::Budget,
    prepare,
    read::{Read, Work, read},
    write,
};
use crate::stores::Location;

/// A folder that is gone when the test ends.
pub(super) struct Place {
    folder: tempfile::TempDir,
    files: Files,
    pub(super) work: Work,
}

impl Place {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::new(&[folder.path().to_owned()]).unwrap();
        Self::with(folder, files)
    }

    /// A place whose steps may touch another folder.
    pub(super) fn within(folder: &Path) -> Self {
        let files = Files::new(&[folder.to_owned()]).unwrap();
        Self::with(tempfile::tempdir().unwrap(), files)
    }

    fn with(folder: tempfile::TempDir, files: Files) -> Self {
        Self {
            files,
            work: Work {
                budget: budget(256 << 20),
                cancelled: CancellationToken::new(),
            },
            folder,
        }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn put(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    /// What lies in a folder, in order.
    pub(super) fn names(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(folder)).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    pub(super) fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    pub(super) fn read(&self, path: &str) -> Result<Table, TableError> {
        self.read_as(path, None)
    }

    pub(super) fn read_as(
        &self,
        path: &str,
        columns: Option<&[(&str, ColumnType)]>,
    ) -> Result<Table, TableError> {
        let mut step = json!({ "path": path });
        if let Some(columns) = columns {
            let column = |(name, kind): &(&str, ColumnType)| ((*name).to_owned(), json!(kind));
            step["columns"] = columns.iter().map(column).collect();
        }
        Ok(self.read_step(step)?.table)
    }

    /// What a step reads that stands so in a flow.
    pub(super) fn read_step(&self, step: Value) -> Result<Read, TableError> {
        let step: ReadStep = serde_json::from_value(step).unwrap();
        let local = |path: &String| Location::Local(path.clone());
        let rejects = step.rejects.as_ref().map(|rejects| local(&rejects.path));
        let reading = Reading {
            location: &local(&step.path),
            step: &step,
            rejects_location: rejects.as_ref(),
            label: "run-step",
        };
        read(
            &prepare(&self.files, &reading, &self.work)?,
            &self.files,
            &self.work,
        )
    }

    pub(super) fn write(&self, table: &Table, path: &str) -> Result<Format, TableError> {
        self.write_step(table, json!({ "path": path, "from": "x" }))
    }

    /// Writes `table` as a step does that stands so in a flow.
    pub(super) fn write_step(&self, table: &Table, step: Value) -> Result<Format, TableError> {
        let step: WriteStep = serde_json::from_value(step).unwrap();
        let writing = Writing {
            location: &Location::Local(step.path.clone()),
            step: &step,
            label: "run-step",
        };
        Ok(write(
            &self.files,
            &writing,
            &Feed::Table(table.clone()),
            &self.work,
        )?
        .format)
    }

    /// The columns of a table read from `path`, and then its rows.
    pub(super) fn shown(&self, path: &str) -> Vec<String> {
        shown(&self.read(path).unwrap())
    }

    pub(super) fn shown_as(&self, path: &str, columns: &[(&str, ColumnType)]) -> Vec<String> {
        shown(&self.read_as(path, Some(columns)).unwrap())
    }

    /// Why `path` cannot be read.
    pub(super) fn refusal(&self, path: &str) -> String {
        self.read(path).unwrap_err().to_string()
    }

    pub(super) fn refusal_as(&self, path: &str, columns: &[(&str, ColumnType)]) -> String {
        let error = self.read_as(path, Some(columns)).unwrap_err();
        error.to_string()
    }
}

/// The columns of a table, and then its rows, with `∅` for a missing value.
pub(super) fn shown(table: &Table) -> Vec<String> {
    let fields = table.schema().fields().iter();
    let fields = fields.map(|field| format!("{}: {}", field.name(), field.data_type()));
    let mut lines = vec![fields.collect::<Vec<_>>().join(", ")];
    let options = FormatOptions::default().with_null("∅");
    let mut reader = table.open().unwrap();
    while let Some(batch) = reader.next() {
        let batch = batch.unwrap();
        let columns = batch.columns().iter();
        let columns: Vec<_> = columns
            .map(|column| ArrayFormatter::try_new(column, &options).unwrap())
            .collect();
        for row in 0..batch.num_rows() {
            let values = columns.iter().map(|column| column.value(row).to_string());
            lines.push(values.collect::<Vec<_>>().join(" "));
        }
    }
    lines
}

/// Settings with room for small tests.
pub(crate) fn settings() -> TableSettings {
    TableSettings {
        files: Vec::new(),
        memory: Some(ByteSize::of(256 << 20)),
        spill_size: ByteSize::of(1 << 30),
    }
}

/// So much memory, and much disk.
pub(super) fn budget(memory: u64) -> Budget {
    let memory = Some(ByteSize::of(memory));
    let settings = TableSettings {
        memory,
        ..settings()
    };
    Budget::new(&settings, &std::env::temp_dir()).unwrap()
}

/// An engine that spills to the system's folder for temporary files.
pub(crate) fn new_engine(settings: &TableSettings) -> Engine {
    Engine::new(settings, &std::env::temp_dir()).unwrap()
}
