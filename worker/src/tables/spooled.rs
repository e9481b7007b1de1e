//! Rows between tables and services: answers that lie on disk until they are a
//! table or a file, and tables that are written down to be sent.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};

use millstream_shared::flow::step::{Format, ReadStep, TextFormat};

use super::{
    Feed, Files, Reading, Table, TableError,
    files::SourceFile,
    publish::{publish, write_whole},
    read::{Work, prepared, read},
    write::{Rows, write_text_as},
};
use crate::stores::Location;

/// An answer that lies on disk.
pub(crate) struct Spooled {
    pub(crate) path: PathBuf,
    /// What errors call it.
    pub(crate) shown: String,
    pub(crate) bytes: u64,
}

/// Reads answers, one after the other, into one table. This blocks, as all
/// below: [`super::Engine::on_files`] is the place for it.
pub(crate) fn read_spooled(
    answers: &[Spooled],
    (format, step): (Format, &ReadStep),
    files: &Files,
    work: &Work,
) -> Result<Table, TableError> {
    let file = |answer: &Spooled| SourceFile::at(&answer.path, &answer.shown, answer.bytes);
    let reading = Reading {
        location: &Location::Local(String::new()),
        step,
        rejects_location: None,
        label: "",
    };
    let answers = answers.iter().map(file).collect();
    let prepared = prepared(answers, format, &reading, work)?;
    Ok(read(&prepared, files, work)?.table)
}

/// Writes a table as a text into a new file; how many bytes it has.
pub(crate) fn write_text(
    table: &Table,
    format: TextFormat,
    path: &Path,
    work: &Work,
) -> Result<u64, TableError> {
    let failed = |error| TableError::io("writing into --work-folder", error);
    let mut file = File::create(path).map_err(failed)?;
    let feed = Feed::Table(table.clone());
    let mut rows = Rows::of(&feed)?;
    write_whole(&mut file, "the table to send", |draft| {
        write_text_as(format, &mut rows, draft, work)
    })?;
    Ok(file.metadata().map_err(failed)?.len())
}

/// Copies a file to where a flow names one, which appears whole or not at all.
/// `label` names the run and the step.
pub(crate) fn copy_into(
    files: &Files,
    path: &str,
    label: &str,
    from: &Path,
    work: &Work,
) -> Result<u64, TableError> {
    let target = files.target(path)?;
    let reading = |error| TableError::io("reading from --work-folder", error);
    let mut from = File::open(from).map_err(reading)?;
    publish(&target, label, work, |draft| {
        let copied = io::copy(&mut from, draft);
        copied.map_err(reading)?;
        Ok(())
    })
}
