//! The tables that a program takes and makes: files in its folder, or its
//! standard streams.

use std::{
    fs::{self, File},
    io::{self, PipeReader, PipeWriter},
    path::Path,
    process::Stdio,
    sync::Arc,
};

use millstream_shared::{
    flow::{
        command::{TABLES_ROOT, file_name, variable},
        expression::Scope,
        step::{
            CommandTables, Format, MadeTable, MadeVia, OnBadRow, ReadStep, TakenTable, TakenVia,
            WriteStep,
        },
    },
    id::StepId,
};
use serde_json::Value;

use crate::{
    steps::{Services, StepContext, StepError, read::until_cancelled},
    stores::Location,
    tables::{self, Files, Reading, Table, TableError, Writing},
};

/// The tables of one command, in its folder.
pub(super) struct Exchange<'a> {
    step: &'a CommandTables,
    context: &'a StepContext,
    folder: &'a Path,
}

/// Where the standard input of a program comes from.
pub(super) enum Input {
    /// What the step says it is.
    Given,
    /// A file.
    File(File),
    /// A table as it is written.
    Table(PipeReader, Feed),
}

/// What the standard output of a program becomes.
pub(super) enum Output {
    /// The value of its step.
    Value,
    /// A file, which is read when it has ended.
    File(File),
    /// A table as it is printed.
    Table(PipeWriter, Catch),
}

/// A table on its way into a program.
pub(super) struct Feed {
    table: Table,
    into: PipeWriter,
    services: Arc<Services>,
}

/// A table on its way out of a program.
pub(super) struct Catch {
    name: String,
    out_of: PipeReader,
    services: Arc<Services>,
}

impl<'a> Exchange<'a> {
    /// The tables `step` in `folder`.
    pub(super) fn new(step: &'a CommandTables, context: &'a StepContext, folder: &'a Path) -> Self {
        Self {
            step,
            context,
            folder,
        }
    }

    /// `scope` with the paths of the tables.
    pub(super) fn scope(&self, scope: &Scope) -> Scope {
        let paths = self
            .paths()
            .map(|(step, path)| (step.to_string(), Value::from(path)));
        scope.with(TABLES_ROOT, &Value::Object(paths.collect()))
    }

    /// The environment variables with the paths of the tables.
    pub(super) fn variables(&self) -> Vec<(String, String)> {
        let paths = self.paths();
        paths.map(|(step, path)| (variable(step), path)).collect()
    }

    /// How many rows the program takes.
    pub(super) fn rows_in(&self) -> u64 {
        let tables = self.step.taken.keys();
        tables
            .filter_map(|step| self.context.table(step).ok())
            .map(Table::rows)
            .sum()
    }

    /// Puts the tables where the program finds them, and says what its standard
    /// input is.
    pub(super) async fn hand_over(&self) -> Result<Input, StepError> {
        let mut input = Input::Given;
        for (step, taken) in &self.step.taken {
            let table = self.context.table(step)?.clone();
            let is_stdin = taken.via == TakenVia::Stdin;
            if is_stdin && taken.format == Format::ArrowStream {
                let (reader, into) = io::pipe().map_err(no_stream)?;
                let services = Arc::clone(&self.context.services);
                input = Input::Table(
                    reader,
                    Feed {
                        table,
                        into,
                        services,
                    },
                );
                continue;
            }
            self.write(step, taken, table).await?;
            if is_stdin {
                let file = self.folder.join(file_name(step, taken.format));
                input = Input::File(File::open(file).map_err(no_stream)?);
            }
        }
        Ok(input)
    }

    /// What its standard output becomes.
    pub(super) fn output(&self) -> Result<Output, StepError> {
        let Some(made) = &self.step.made else {
            return Ok(Output::Value);
        };
        let name = self.made_name(made);
        match (made.via, made.format) {
            (MadeVia::File, _) => Ok(Output::Value),
            (MadeVia::Stdout, Format::ArrowStream) => {
                let (out_of, writer) = io::pipe().map_err(no_stream)?;
                let services = Arc::clone(&self.context.services);
                let catch = Catch {
                    name: "standard output".to_owned(),
                    out_of,
                    services,
                };
                Ok(Output::Table(writer, catch))
            }
            (MadeVia::Stdout, _) => {
                let file = File::create(self.folder.join(name)).map_err(no_stream)?;
                Ok(Output::File(file))
            }
        }
    }

    /// Reads the table that the program, which has ended, has left in a file;
    /// none where it was to leave none.
    pub(super) async fn take_back(&self) -> Result<Option<Table>, StepError> {
        let Some(made) = &self.step.made else {
            return Ok(None);
        };
        if made.via == MadeVia::Stdout && made.format == Format::ArrowStream {
            return Ok(None);
        }
        let name = self.made_name(made);
        let file = self.folder.join(&name);
        match fs::symlink_metadata(&file) {
            Ok(facts) if facts.is_file() => {}
            Ok(_) => return Err(no_table(&format!("`{name}` is no plain file"))),
            Err(_) => return Err(no_table(&format!("the program has left no file `{name}`"))),
        }
        let step = ReadStep {
            path: name,
            connection: None,
            format: Some(made.format),
            columns: made.columns.clone(),
            csv: made.csv.clone(),
            excel: None,
            on_bad_row: OnBadRow::Fail,
            reject_limit: None,
            rejects: None,
        };
        let folder = self.folder.to_owned();
        let label = self.context.label();
        let reading = self.context.services.tables.on_files(move |work| {
            let reading = Reading {
                location: &Location::Local(step.path.clone()),
                step: &step,
                rejects_location: None,
                label: &label,
            };
            let files = Files::new(&[folder])?;
            let prepared = tables::prepare(&files, &reading, work)?;
            Ok(tables::read(&prepared, &files, work)?.table)
        });
        Ok(Some(until_cancelled(self.context, reading).await?))
    }

    async fn write(
        &self,
        step: &StepId,
        taken: &TakenTable,
        table: Table,
    ) -> Result<(), StepError> {
        let step = WriteStep {
            path: file_name(step, taken.format),
            from: step.clone(),
            connection: None,
            format: Some(taken.format),
            csv: taken.csv.clone(),
            partition_by: Vec::new(),
        };
        let folder = self.folder.to_owned();
        let label = self.context.label();
        let writing = self.context.services.tables.on_files(move |work| {
            let writing = Writing {
                location: &Location::Local(step.path.clone()),
                step: &step,
                label: &label,
            };
            let feed = tables::Feed::Table(table);
            tables::write(&Files::new(&[folder])?, &writing, &feed, work)
        });
        until_cancelled(self.context, writing).await?;
        Ok(())
    }

    fn made_name(&self, made: &MadeTable) -> String {
        file_name(&self.context.step, made.format)
    }

    fn paths(&self) -> impl Iterator<Item = (&StepId, String)> {
        let files = self.step.files(&self.context.step);
        files.map(|(step, name)| {
            let path = self.folder.join(name).to_string_lossy().into_owned();
            (step, path)
        })
    }
}

impl Feed {
    /// Writes the table as far as the program reads it.
    pub(super) async fn run(self) -> Result<(), TableError> {
        let Self {
            table,
            into,
            services,
        } = self;
        let engine = &services.tables;
        engine
            .on_pipe(move |work| tables::write_stream(&table, into, work))
            .await
    }
}

impl Catch {
    /// Reads the table to the end of what the program prints.
    pub(super) async fn run(self) -> Result<Table, TableError> {
        let Self {
            name,
            mut out_of,
            services,
        } = self;
        let engine = &services.tables;
        let reading = move |work: &tables::Work| {
            let read = tables::read_stream(&name, &out_of, work);
            if read.is_err() {
                // A program is not disturbed because of what it printed: how
                // it ends tells more.
                let _ = io::copy(&mut out_of, &mut io::sink());
            }
            read
        };
        engine.on_pipe(reading).await
    }
}

impl Input {
    /// What the program gets, and the table that is to be written into it.
    /// `is_given` where the step says what it reads.
    pub(super) fn into_stream(self, is_given: bool) -> (Stdio, Option<Feed>) {
        match self {
            Self::Given if is_given => (Stdio::piped(), None),
            Self::Given => (Stdio::null(), None),
            Self::File(file) => (file.into(), None),
            Self::Table(reader, feed) => (reader.into(), Some(feed)),
        }
    }
}

impl Output {
    /// What the program gets, and the table that is to be read from it.
    pub(super) fn into_stream(self) -> (Stdio, Option<Catch>) {
        match self {
            Self::Value => (Stdio::piped(), None),
            Self::File(file) => (file.into(), None),
            Self::Table(writer, catch) => (writer.into(), Some(catch)),
        }
    }
}

fn no_stream(error: io::Error) -> StepError {
    StepError::transient(
        "command_start",
        format!("no stream could be made for the command: {error}"),
    )
}

fn no_table(reason: &str) -> StepError {
    let message = format!("{reason}, in which `tables: {{ out }}` says that its table is");
    StepError::permanent("no_output_table", message)
}
