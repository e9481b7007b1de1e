//! The engine's errors as one sentence for the author of a query.

use std::sync::Arc;

use datafusion::{
    arrow::error::ArrowError,
    common::{Column, DataFusionError, SchemaError},
    sql::sqlparser::parser::ParserError,
};

use super::{TableError, memory::Budget};

const COLUMNS_SHOWN_MAX: usize = 30;
const CHARS_MAX: usize = 500;

/// Whether memory or room on disk ran out.
pub(super) fn is_full(error: &DataFusionError) -> bool {
    matches!(root(error), DataFusionError::ResourcesExhausted(_))
}

/// What `error` means to the author of the query.
pub(super) fn explained(error: DataFusionError, budget: &Budget) -> TableError {
    match of_feed(error) {
        Ok(error) => error,
        Err(error) => of_engine(&error, budget),
    }
}

/// The error of what a query takes its rows from, if it is that.
fn of_feed(error: DataFusionError) -> Result<TableError, DataFusionError> {
    match error {
        DataFusionError::External(inner) => match inner.downcast::<TableError>() {
            Ok(error) => Ok(*error),
            Err(inner) => Err(DataFusionError::External(inner)),
        },
        DataFusionError::Context(text, inner) => {
            of_feed(*inner).map_err(|inner| DataFusionError::Context(text, Box::new(inner)))
        }
        // Several parts of a query may have met it: one of them is enough.
        DataFusionError::Shared(inner) => match Arc::try_unwrap(inner) {
            Ok(inner) => of_feed(inner),
            Err(inner) if is_interrupted(&inner) => Ok(TableError::Interrupted),
            Err(inner) => Err(DataFusionError::Shared(inner)),
        },
        error if is_interrupted(&error) => Ok(TableError::Interrupted),
        error => Err(error),
    }
}

fn is_interrupted(error: &DataFusionError) -> bool {
    match root(error) {
        DataFusionError::External(inner) => matches!(
            inner.downcast_ref::<TableError>(),
            Some(TableError::Interrupted)
        ),
        _ => false,
    }
}

fn of_engine(error: &DataFusionError, budget: &Budget) -> TableError {
    let refused = |message: String| TableError::refused("bad_sql", message);
    match root(error) {
        DataFusionError::ResourcesExhausted(reason) => {
            eprintln!("XX {reason}");
            tracing::debug!(reason, "the query engine has no more memory or disk");
            budget.full("the query")
        }
        DataFusionError::IoError(error) => budget.disk_failed("the query", error),
        DataFusionError::SchemaError(error, _) => refused(schema_sentence(error)),
        DataFusionError::SQL(error, _) => {
            refused(format!("the SQL cannot be read: {}", syntax(error)))
        }
        DataFusionError::ArrowError(error, _) => match &**error {
            ArrowError::IoError(_, error) => budget.disk_failed("the query", error),
            error => refused(sentence(&error.to_string())),
        },
        DataFusionError::Plan(message)
        | DataFusionError::Execution(message)
        | DataFusionError::Configuration(message) => refused(sentence(message)),
        DataFusionError::NotImplemented(message) => {
            refused(format!("not supported: {}", sentence(message)))
        }
        DataFusionError::External(error) => refused(sentence(&error.to_string())),
        other => TableError::Fault {
            message: format!("the query engine failed: {}", sentence(&other.message())),
        },
    }
}

/// The error itself, without what it is wrapped in; the first of several.
fn root(error: &DataFusionError) -> &DataFusionError {
    match error {
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => root(inner),
        DataFusionError::Shared(inner) => root(inner),
        DataFusionError::Collection(errors) => errors.first().map_or(error, root),
        DataFusionError::External(inner) => {
            inner.downcast_ref::<DataFusionError>().map_or(error, root)
        }
        _ => error,
    }
}

fn schema_sentence(error: &SchemaError) -> String {
    match error {
        SchemaError::FieldNotFound {
            field,
            valid_fields,
        } => {
            let name = field.flat_name();
            let alike = valid_fields
                .iter()
                .find(|valid| valid.name.eq_ignore_ascii_case(&field.name));
            let hint = match alike {
                Some(alike) => format!(
                    "; names with capital letters stand in double quotes: \"{}\"",
                    alike.name
                ),
                None => String::new(),
            };
            format!(
                "there is no column `{name}`, only {}{hint}",
                listed(valid_fields)
            )
        }
        SchemaError::AmbiguousReference { field } => {
            format!("column `{}` is in more than one table", field.flat_name())
        }
        other => sentence(&other.to_string()),
    }
}

fn listed(columns: &[Column]) -> String {
    if columns.is_empty() {
        return "none".to_owned();
    }
    let shown = columns
        .iter()
        .take(COLUMNS_SHOWN_MAX)
        .map(Column::flat_name);
    let mut list = shown.collect::<Vec<_>>().join(", ");
    if columns.len() > COLUMNS_SHOWN_MAX {
        list.push_str(&format!(" and {} more", columns.len() - COLUMNS_SHOWN_MAX));
    }
    list
}

fn syntax(error: &ParserError) -> String {
    match error {
        ParserError::TokenizerError(message) | ParserError::ParserError(message) => {
            sentence(message)
        }
        ParserError::RecursionLimitExceeded => "it is nested too deeply".to_owned(),
    }
}

/// `message` in one line, without the names that the engine gives to where
/// tables are kept.
fn sentence(message: &str) -> String {
    let message = message.replace("datafusion.public.", "");
    let message = message.split_whitespace().collect::<Vec<_>>().join(" ");
    let message = message.trim_end_matches('.');
    match message.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{}…", &message[..end]),
        None => message.to_owned(),
    }
}
