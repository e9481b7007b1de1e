//! What steps that read and write files must satisfy by themselves.

use indexmap::IndexMap;

use crate::flow::{
    expression::is_template,
    finding::{Finding, Path},
    place::{self, Place},
    step::{ColumnType, Compression, Format, OnBadRow, ReadStep, WriteStep},
};

/// The most words that can stand for a missing value.
const NULLS_MAX: usize = 100;

/// The most columns that folders are named after.
const PARTITION_COLUMNS_MAX: usize = 10;

/// The most rows that may be rejected.
const REJECT_LIMIT_MAX: u32 = 10_000;

/// Checks what a step says of the files that it reads.
pub(super) fn check_read(read: &ReadStep, path: &Path, findings: &mut Vec<Finding>) {
    check_place(&read.path, Use::Read, &path.member("path"), findings);
    check_path(&read.path, read.format, false, path, findings);
    let format = read.format.or_else(|| Format::of_path(&read.path));
    if let Some(csv) = &read.csv {
        let path = path.member("csv");
        check_is(Format::Csv, format, &path, findings);
        check_marks(csv.delimiter.byte(), csv.quote.byte(), &path, findings);
        if csv.nulls.len() > NULLS_MAX {
            let message = format!("at most {NULLS_MAX} words can stand for a missing value");
            findings.push(Finding::new(path.member("nulls"), message));
        }
    }
    if let Some(excel) = &read.excel {
        let path = path.member("excel");
        check_is(Format::Excel, format, &path, findings);
        if excel.header_row == Some(0) {
            let message = "rows are counted from 1";
            findings.push(Finding::new(path.member("header_row"), message));
        }
    }
    check_rejects(read, path, findings);
    if let Some(columns) = &read.columns {
        check_columns(columns, format, &path.member("columns"), findings);
    }
}

/// Checks the columns that are declared, which stand at `path`.
pub(super) fn check_columns(
    columns: &IndexMap<String, ColumnType>,
    format: Option<Format>,
    path: &Path,
    findings: &mut Vec<Finding>,
) {
    if columns.is_empty() {
        findings.push(Finding::new(path.clone(), "must have at least one column"));
    }
    if let Some(format) = format
        && format.is_typed()
    {
        let name = match format {
            Format::Parquet => "a Parquet",
            _ => "an Arrow",
        };
        let message = format!("{name} file says itself which columns it has");
        findings.push(Finding::new(path.clone(), message));
    }
}

/// Checks what a step says of the file that it writes.
pub(super) fn check_write(write: &WriteStep, path: &Path, findings: &mut Vec<Finding>) {
    check_place(&write.path, Use::Write, &path.member("path"), findings);
    if write.partition_by.is_empty() {
        check_path(&write.path, write.format, true, path, findings);
    } else {
        check_partitions(write, path, findings);
    }
    let format = write.format.or_else(|| Format::of_path(&write.path));
    let ending = write.path.rsplit_once('.').map(|(_, ending)| ending);
    if format == Some(Format::Excel)
        && write.partition_by.is_empty()
        && !ending.is_some_and(|ending| ending.eq_ignore_ascii_case("xlsx"))
        && !write.path.ends_with('}')
    {
        let message = "a workbook is written as `.xlsx` and nothing else";
        findings.push(Finding::new(path.member("path"), message));
    }
    if let Some(csv) = &write.csv {
        let path = path.member("csv");
        check_is(Format::Csv, format, &path, findings);
        check_marks(
            csv.delimiter.byte(),
            Some(csv.quote.byte()),
            &path,
            findings,
        );
    }
}

fn check_rejects(read: &ReadStep, path: &Path, findings: &mut Vec<Finding>) {
    let is_rejecting = read.on_bad_row == OnBadRow::Reject;
    for (name, is_given) in [
        ("reject_limit", read.reject_limit.is_some()),
        ("rejects", read.rejects.is_some()),
    ] {
        if is_given && !is_rejecting {
            let message = "has a meaning only with `on_bad_row: reject`";
            findings.push(Finding::new(path.member(name), message));
        }
    }
    if read
        .reject_limit
        .is_some_and(|limit| !(1..=REJECT_LIMIT_MAX).contains(&limit))
    {
        let message = format!("must be from 1 to {REJECT_LIMIT_MAX}");
        findings.push(Finding::new(path.member("reject_limit"), message));
    }
    if let Some(rejects) = &read.rejects {
        let path = path.member("rejects").member("path");
        if rejects.path.trim().is_empty() {
            findings.push(Finding::new(path, "must name a file"));
        } else {
            check_place(&rejects.path, Use::Write, &path, findings);
        }
    }
}

pub(super) fn check_is(
    wanted: Format,
    format: Option<Format>,
    path: &Path,
    findings: &mut Vec<Finding>,
) {
    if format.is_some_and(|format| format != wanted) {
        let files = match wanted {
            Format::Excel => "workbooks",
            _ => "CSV files",
        };
        let message = format!("has a meaning for {files} only, and this is another format");
        findings.push(Finding::new(path.clone(), message));
    }
}

fn check_partitions(write: &WriteStep, path: &Path, findings: &mut Vec<Finding>) {
    if write.path.trim().is_empty() {
        findings.push(Finding::new(path.member("path"), "must name a folder"));
    }
    if write.format.is_none() {
        let message = "needs `format`, since `path` names a folder";
        findings.push(Finding::new(path.member("partition_by"), message));
    }
    let path = path.member("partition_by");
    let columns = &write.partition_by;
    if columns.len() > PARTITION_COLUMNS_MAX {
        let message = format!("at most {PARTITION_COLUMNS_MAX} columns");
        findings.push(Finding::new(path.clone(), message));
    }
    for (index, column) in columns.iter().enumerate() {
        let message = if column.is_empty() {
            "must name a column"
        } else if columns[..index].contains(column) {
            "names a column twice"
        } else {
            continue;
        };
        findings.push(Finding::new(path.item(index), message));
    }
}

pub(super) fn check_marks(
    delimiter: u8,
    quote: Option<u8>,
    path: &Path,
    findings: &mut Vec<Finding>,
) {
    if quote == Some(delimiter) {
        let message = "must not be the delimiter as well";
        findings.push(Finding::new(path.member("quote"), message));
    }
}

/// What is done with a file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    Read,
    Write,
}

/// Checks that a file can lie where its path says, as far as that can be told
/// before its templates are replaced.
fn check_place(file: &str, wanted: Use, path: &Path, findings: &mut Vec<Finding>) {
    let message = match place::of_path(file) {
        Err(unknown) => unknown.to_string(),
        Ok(Place::Web(_)) if wanted == Use::Write => {
            "files are only read over HTTP, not written: write to a local folder or an object \
             store, or send the rows with an `http` step"
                .to_owned()
        }
        Ok(Place::Object { bucket: "", .. }) => "names no bucket".to_owned(),
        Ok(Place::Object { bucket, key, .. })
            if key.trim_matches('/').is_empty() && !is_template(bucket) =>
        {
            format!("names no object in `{bucket}`")
        }
        Ok(_) => return,
    };
    findings.push(Finding::new(path.clone(), message));
}

/// Checks that the format of the file at `file` can be told. It may depend on a
/// template at the end, unless `is_needed_now`.
fn check_path(
    file: &str,
    format: Option<Format>,
    is_needed_now: bool,
    path: &Path,
    findings: &mut Vec<Finding>,
) {
    if file.trim().is_empty() {
        findings.push(Finding::new(path.member("path"), "must name a file"));
        return;
    }
    let file = place::without_query(file);
    let literal_end = file.rsplit('}').next().unwrap_or_default();
    let is_open = is_template(file) && !literal_end.contains(['.', '/']);
    let format = format.or_else(|| Format::of_path(literal_end));
    if let (Some(format), Some(_)) = (format, Compression::of_path(literal_end))
        && !format.is_text()
    {
        let message = "only CSV, JSON and NDJSON files are compressed as a whole; the others are \
                       compressed inside";
        findings.push(Finding::new(path.member("path"), message));
    }
    if format.is_some() || (is_open && !is_needed_now) {
        return;
    }
    let message = "the ending does not tell the format: end with `.csv`, `.json`, `.ndjson`, \
                   `.parquet`, `.arrow`, `.arrows` or `.xlsx`, or give `format`";
    findings.push(Finding::new(path.member("path"), message));
}

#[cfg(test)]
mod tests {
    use crate::flow::Flow;

    fn problems(step: &str) -> Vec<String> {
        let text = format!("id: f\nsteps:\n  - {{ id: a, read: {{ path: x.csv }} }}\n  - {step}\n");
        let problems = Flow::parse(&text).err().map(|invalid| invalid.problems);
        let show = |problem: crate::flow::Problem| format!("{}: {}", problem.path, problem.message);
        problems.into_iter().flatten().map(show).collect()
    }

    #[test]
    fn files_lie_in_stores_and_on_the_web() {
        for fine in [
            "read: { path: 's3://raw/orders/{{ inputs.day }}/*.csv' }",
            "read: { path: 's3://{{ steps.a.value.bucket }}/x.csv' }",
            "read: { path: 'orders/*.csv.gz', connection: lake }",
            "read: { path: 'https://host/a.csv?day={{ steps.a.rows }}' }",
            "read: { path: 'https://host/{{ steps.a.rows }}/a.parquet?x=1.y' }",
            "read: { path: x.csv, on_bad_row: reject, rejects: { path: 'gs://b/r.ndjson' } }",
            "write: { path: 'az://out/day={{ steps.a.rows }}.parquet', from: a }",
            "write: { path: out, connection: lake, from: a, format: csv, partition_by: [x] }",
        ] {
            let fine = fine.replace("inputs.day", "steps.a.rows");
            let found = problems(&format!("{{ id: b, {fine} }}"));
            assert!(found.is_empty(), "{fine}: {found:?}");
        }
    }

    #[test]
    fn where_no_file_can_lie_is_named() {
        for (wrong, path, start) in [
            (
                "read: { path: 'ftp://h/a.csv' }",
                "read.path",
                "`ftp://` leads nowhere",
            ),
            (
                "read: { path: 's3:///a.csv' }",
                "read.path",
                "names no bucket",
            ),
            (
                "write: { path: 'https://h/a.csv', from: a }",
                "write.path",
                "files are only read over HTTP",
            ),
            (
                "read: { path: x.csv, on_bad_row: reject, rejects: { path: 'http://h/r' } }",
                "read.rejects.path",
                "files are only read over HTTP",
            ),
            (
                "write: { path: 's3://b/', from: a, format: csv, partition_by: [x] }",
                "write.path",
                "names no object in `b`",
            ),
            (
                "read: { path: 'https://h/data?format=.csv' }",
                "read.path",
                "the ending does not tell the format",
            ),
        ] {
            let found = problems(&format!("{{ id: b, {wrong} }}"));
            let expected = format!("steps[1].{path}: {start}");
            assert!(found[0].starts_with(&expected), "{wrong}: {found:?}");
        }
    }
}
