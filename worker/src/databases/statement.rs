//! Statements as flows hold them.

use serde_json::Value;

use super::error::DatabaseError;

/// A statement for a database, with the values of its placeholders.
pub(crate) struct Statement<'a> {
    pub(super) sql: &'a str,
    pub(super) params: &'a [Value],
}

impl Statement<'_> {
    /// Fails where the statement has another number of placeholders.
    pub(super) fn check_params(&self, wanted: usize) -> Result<(), DatabaseError> {
        let given = self.params.len();
        if wanted == given {
            return Ok(());
        }
        let message =
            format!("the statement has {wanted} placeholders and `params` {given} values");
        Err(DatabaseError::refused("wrong_params", message))
    }

    /// Whether it may change what tables, users or the like there are, or be
    /// several statements in one: whatever does not plainly read or change rows.
    pub(super) fn is_definition(&self) -> bool {
        let word = first_word(self.sql).to_ascii_lowercase();
        !matches!(
            word.as_str(),
            "call"
                | "delete"
                | "do"
                | "insert"
                | "replace"
                | "select"
                | "table"
                | "update"
                | "values"
                | "with"
        )
    }
}

/// Refuses what would end the transaction that holds the marker.
pub(super) fn refuse_transactions(sql: &str) -> Result<(), DatabaseError> {
    let word = first_word(sql).to_ascii_lowercase();
    let is_control = matches!(
        word.as_str(),
        "begin"
            | "start"
            | "commit"
            | "rollback"
            | "abort"
            | "end"
            | "savepoint"
            | "release"
            | "xa"
    );
    if is_control {
        let message = format!(
            "`{word}` is not for steps: each statement has a transaction of its own, which holds \
             that the step is done"
        );
        return Err(DatabaseError::refused("statement_refused", message));
    }
    Ok(())
}

/// The first word of a statement, behind its comments.
fn first_word(sql: &str) -> &str {
    let rest = behind_comments(sql);
    let end = rest.find(|letter: char| !letter.is_ascii_alphabetic());
    &rest[..end.unwrap_or(rest.len())]
}

/// What stands behind the comments that a text starts with.
fn behind_comments(sql: &str) -> &str {
    let mut rest = sql.trim_start();
    loop {
        let behind = if let Some(comment) = rest.strip_prefix("--") {
            comment.split_once('\n').map_or("", |(_, behind)| behind)
        } else if let Some(comment) = rest.strip_prefix("/*") {
            comment.split_once("*/").map_or("", |(_, behind)| behind)
        } else {
            return rest;
        };
        rest = behind.trim_start();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_cannot_end_the_transaction_of_its_marker() {
        for sql in ["commit", " /* x */ -- y\n ROLLBACK to a", "Begin;"] {
            let refused = refuse_transactions(sql).unwrap_err();
            assert_eq!(refused.code, "statement_refused");
        }
        for sql in ["insert into t values (1)", "-- commit", "", "/* commit"] {
            assert!(refuse_transactions(sql).is_ok(), "{sql}");
        }
    }
}
