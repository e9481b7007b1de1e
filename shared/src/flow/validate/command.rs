//! What steps that run programs must satisfy by themselves.

use super::files::{check_columns, check_is, check_marks};
use crate::flow::{
    finding::{At, Finding, Path},
    step::{CommandLimits, CommandStep, CommandTables, Format, MadeTable, TakenTable, TakenVia},
};

/// The fewest files that a program can do with.
const OPEN_FILES_MIN: u64 = 16;

/// Checks what a step says of its program, which stands at `path`.
pub(super) fn check(step: &CommandStep, path: &Path, findings: &mut Vec<Finding>) {
    if step.program.trim().is_empty() {
        findings.push(Finding::new(path.member("program"), "must name a program"));
    }
    for name in step.env.keys() {
        if name.is_empty() || name.contains(['=', '\0']) {
            findings.push(Finding {
                path: path.member("env").member(name),
                at: At::Name,
                message: "the name of a variable is not empty and has no `=`".to_owned(),
            });
        }
    }
    check_limits(&step.limits, &path.member("limits"), findings);
    if let Some(tables) = &step.tables {
        let path = path.member("tables");
        check_tables(tables, &path, findings);
        let takes_input = |table: &TakenTable| table.via == TakenVia::Stdin;
        let inputs = tables.taken.values().filter(|table| takes_input(table));
        if inputs.count() + usize::from(step.stdin.is_some()) > 1 {
            let message = "standard input is one table or `stdin`, not several of them";
            findings.push(Finding::new(path, message));
        }
    }
}

fn check_tables(tables: &CommandTables, path: &Path, findings: &mut Vec<Finding>) {
    if tables.taken.is_empty() && tables.made.is_none() {
        let message = "must have tables in `in` or one in `out`";
        findings.push(Finding::new(path.clone(), message));
    }
    for (table, TakenTable { format, csv, .. }) in &tables.taken {
        let path = path.member("in").member(table.as_str());
        if let Some(csv) = csv {
            let path = path.member("csv");
            check_is(Format::Csv, Some(*format), &path, findings);
            check_marks(
                csv.delimiter.byte(),
                Some(csv.quote.byte()),
                &path,
                findings,
            );
        }
    }
    if let Some(made) = &tables.made {
        check_made(made, &path.member("out"), findings);
    }
}

fn check_made(made: &MadeTable, path: &Path, findings: &mut Vec<Finding>) {
    if let Some(columns) = &made.columns {
        check_columns(
            columns,
            Some(made.format),
            &path.member("columns"),
            findings,
        );
    }
    if let Some(csv) = &made.csv {
        let path = path.member("csv");
        check_is(Format::Csv, Some(made.format), &path, findings);
        check_marks(csv.delimiter.byte(), csv.quote.byte(), &path, findings);
    }
}

fn check_limits(limits: &CommandLimits, path: &Path, findings: &mut Vec<Finding>) {
    let least = [
        ("processes", limits.processes, 1),
        ("open_files", limits.open_files, OPEN_FILES_MIN),
        ("cpu_time", limits.cpu_time.map(|time| time.as_millis()), 1),
    ];
    for (name, given, least) in least {
        if given.is_some_and(|given| given < least) {
            let message = match name {
                "cpu_time" => "must be at least `1ms`".to_owned(),
                _ => format!("must be at least {least}"),
            };
            findings.push(Finding::new(path.member(name), message));
        }
    }
}
