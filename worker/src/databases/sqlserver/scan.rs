//! What a text in T-SQL would do, as far as its words tell: SQL Server has no
//! transaction that can only read, and lets any text end the one that it is in.
//!
//! Names in quotes or brackets, texts and comments are passed over. The words
//! that are looked for are reserved, so that nothing else is called so without
//! quotes. What could be read in two ways is refused.

use std::iter::{Enumerate, Peekable};
use std::str::Chars;

use crate::databases::error::DatabaseError;

/// Words that a query has no use for: they change something, end the
/// transaction, or reach out of the database. Some begin nothing by themselves
/// but stand in statements that do, such as `enable trigger`.
const CHANGING: &[&str] = &[
    "add",
    "alter",
    "backup",
    "begin",
    "bulk",
    "checkpoint",
    "commit",
    "create",
    "dbcc",
    "delete",
    "deny",
    "drop",
    "dump",
    "exec",
    "execute",
    "grant",
    "identity_insert",
    "insert",
    "into",
    "kill",
    "load",
    "merge",
    "opendatasource",
    "openquery",
    "openrowset",
    "proc",
    "procedure",
    "raiserror",
    "reconfigure",
    "restore",
    "revert",
    "revoke",
    "rollback",
    "save",
    "set",
    "setuser",
    "shutdown",
    "tran",
    "transaction",
    "trigger",
    "truncate",
    "update",
    "updatetext",
    "use",
    "waitfor",
    "writetext",
];

/// A part of a text that matters here.
#[derive(Clone, Debug, PartialEq)]
enum Token {
    /// A word that is no variable and has no quotes, in small letters.
    Word(String),
    /// A variable or a placeholder, without its `@`.
    Variable(String),
    /// A sign, a number, or something in quotes.
    Other(char),
}

/// Refuses what is not plainly a query.
pub(super) fn refuse_changes(sql: &str) -> Result<(), DatabaseError> {
    let tokens = tokens(sql)?;
    // The first word of a text may be the name of a procedure, which it calls.
    let mut start = tokens.iter();
    let first = start.find(|token| !matches!(token, Token::Other(';' | '(')));
    match first {
        Some(Token::Word(word)) if matches!(word.as_str(), "select" | "with") => {}
        _ => {
            return Err(refused(
                "a query begins with `select` or `with`: `execute` is for everything else",
            ));
        }
    }
    for (place, token) in tokens.iter().enumerate() {
        let Token::Word(word) = token else { continue };
        let next = match tokens.get(place + 1) {
            Some(Token::Word(next)) => next.as_str(),
            _ => "",
        };
        let changes = match word.as_str() {
            // A way of joining.
            "merge" => !matches!(next, "join" | "union"),
            // A number that a sequence has given stays given.
            "next" => next == "value",
            word => CHANGING.contains(&word),
        };
        if changes {
            return Err(refused(format!(
                "`{word}` is not for a query, which can change nothing: a name of that kind stands \
                 in brackets, and `execute` is for changes"
            )));
        }
    }
    Ok(())
}

/// Refuses what would end the transaction that holds the marker.
pub(in crate::databases) fn refuse_transactions(sql: &str) -> Result<(), DatabaseError> {
    let tokens = tokens(sql)?;
    for (place, token) in tokens.iter().enumerate() {
        let Token::Word(word) = token else { continue };
        let next = match tokens.get(place + 1) {
            Some(Token::Word(next)) => next.as_str(),
            _ => "",
        };
        let is_control = match word.as_str() {
            "commit" | "rollback" => true,
            "begin" => matches!(next, "tran" | "transaction" | "distributed"),
            "save" => matches!(next, "tran" | "transaction"),
            _ => false,
        };
        if is_control {
            return Err(refused(format!(
                "`{word}` is not for steps: each statement has a transaction of its own, which \
                 holds that the step is done"
            )));
        }
    }
    Ok(())
}

/// How many placeholders there are: the largest `@P1`, `@P2`, …
pub(super) fn placeholders(sql: &str) -> Result<usize, DatabaseError> {
    let numbers = tokens(sql)?.into_iter().filter_map(|token| match token {
        Token::Variable(name) => name.strip_prefix(['p', 'P'])?.parse().ok(),
        _ => None,
    });
    Ok(numbers.max().unwrap_or(0))
}

fn refused(message: impl Into<String>) -> DatabaseError {
    DatabaseError::refused("statement_refused", message)
}

fn tokens(sql: &str) -> Result<Vec<Token>, DatabaseError> {
    let mut letters = sql.chars().enumerate().peekable();
    let mut tokens = Vec::new();
    while let Some((place, letter)) = letters.next() {
        let next = letters.peek().map(|(_, next)| *next);
        match (letter, next) {
            (letter, _) if letter.is_whitespace() => {}
            ('-', Some('-')) => pass_line(&mut letters)?,
            ('/', Some('*')) => pass_comment(&mut letters, place)?,
            ('\'' | '"' | '[', _) => {
                let end = if letter == '[' { ']' } else { letter };
                pass_quoted(&mut letters, end, place)?;
                tokens.push(Token::Other(letter));
            }
            ('0'..='9', _) => {
                pass_number(&mut letters, letter, place)?;
                tokens.push(Token::Other('0'));
            }
            ('@', _) => tokens.push(Token::Variable(word(&mut letters))),
            (letter, _) if is_of_word(letter) && letter != '$' => {
                let rest = word(&mut letters);
                tokens.push(Token::Word(format!("{letter}{rest}").to_ascii_lowercase()));
            }
            (letter, _) => tokens.push(Token::Other(letter)),
        }
    }
    Ok(tokens)
}

type Letters<'a> = Peekable<Enumerate<Chars<'a>>>;

fn is_of_word(letter: char) -> bool {
    letter.is_alphanumeric() || matches!(letter, '_' | '#' | '$' | '@')
}

fn word(letters: &mut Letters<'_>) -> String {
    let mut word = String::new();
    while let Some((_, letter)) = letters.next_if(|(_, letter)| is_of_word(*letter)) {
        word.push(letter);
    }
    word
}

/// Passes over a comment to the end of its line.
fn pass_line(letters: &mut Letters<'_>) -> Result<(), DatabaseError> {
    while let Some((place, letter)) = letters.next() {
        let next = letters.peek().map(|(_, next)| *next);
        match (letter, next) {
            ('\n', _) => return Ok(()),
            ('\r', Some('\n')) => {}
            ('\r' | '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}', _) => {
                return Err(refused(format!(
                    "the comment at character {place} has a line break in it that not everybody \
                     takes for one"
                )));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Passes over a comment, and those within it.
fn pass_comment(letters: &mut Letters<'_>, start: usize) -> Result<(), DatabaseError> {
    letters.next();
    let mut depth = 1;
    while let Some((_, letter)) = letters.next() {
        let next = letters.peek().map(|(_, next)| *next);
        match (letter, next) {
            ('/', Some('*')) => depth += 1,
            ('*', Some('/')) => depth -= 1,
            _ => continue,
        }
        letters.next();
        if depth == 0 {
            return Ok(());
        }
    }
    Err(unfinished("comment", start))
}

/// Passes over something in quotes, where two of them stand for one.
fn pass_quoted(letters: &mut Letters<'_>, end: char, start: usize) -> Result<(), DatabaseError> {
    while let Some((_, letter)) = letters.next() {
        if letter == end && letters.next_if(|(_, next)| *next == end).is_none() {
            return Ok(());
        }
    }
    Err(unfinished("quoted part", start))
}

fn unfinished(what: &str, start: usize) -> DatabaseError {
    let message = format!("the {what} that begins at character {start} has no end");
    DatabaseError::refused("syntax_error", message)
}

/// Passes over a number. A word may follow one without a space, and which
/// letters are still those of the number is not worth knowing.
fn pass_number(letters: &mut Letters<'_>, first: char, start: usize) -> Result<(), DatabaseError> {
    let is_digit = |(_, letter): &(usize, char)| letter.is_ascii_digit() || *letter == '.';
    let is_x = |(_, letter): &(usize, char)| matches!(letter, 'x' | 'X');
    if first == '0' && letters.next_if(is_x).is_some() {
        while letters
            .next_if(|(_, letter)| letter.is_ascii_hexdigit())
            .is_some()
        {}
    } else {
        while letters.next_if(is_digit).is_some() {}
        let is_e = |(_, letter): &(usize, char)| matches!(letter, 'e' | 'E');
        if letters.next_if(is_e).is_some() {
            letters.next_if(|(_, letter)| matches!(letter, '+' | '-'));
            while letters.next_if(is_digit).is_some() {}
        }
    }
    match letters.peek() {
        Some((_, letter)) if is_of_word(*letter) => Err(refused(format!(
            "a word follows the number at character {start} without a space"
        ))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_can_change_nothing() {
        for sql in [
            "delete from t",
            "select 1; delete from t",
            "select 1 delete from t",
            "select * into #x from t",
            "with x as (select 1 a) insert t select a from x",
            "SELECT 1;\nUpDaTe t set a = 1",
            "sp_rename 'a', 'b'",
            "[sp_rename] 'a', 'b'",
            "; exec p",
            "select 'it''s' /* /* */ ' */ commit -- '",
            "select [a]]b] commit",
            "select \"a\"\"'\" commit --'",
            "select 1 -- '\r\ncommit",
            "select $commit",
            "select a.commit",
            "select next value for s",
            "select 1; enable trigger x on t",
            "merge t using s on 1 = 1 when matched then delete;",
            "select * from openrowset('x', 'y', 'delete t')",
            "select 1 as a rollback",
            "declare @a int",
            "",
        ] {
            let error = refuse_changes(sql).unwrap_err();
            assert_eq!(error.code, "statement_refused", "{sql}");
        }
    }

    #[test]
    fn names_texts_and_comments_are_no_words() {
        for sql in [
            "select [set], \"update\", 'delete', @commit, x.[into] from [drop] t /* insert */",
            " -- commit\r\n ;with x as (select 1 a) (select * from x)",
            "(select 1) union all (select 0x0F + 1e5 + 1.5e-3)",
            "select * from a inner merge join b on a.i = b.i option (merge union)",
            "select updated, created_at, @@rowcount, #into.a, value, next from #into",
            "select case when 1 = 1 then 2 end from t for json path",
            "select N'ø', straße from größe where a = '--'",
        ] {
            assert_eq!(refuse_changes(sql), Ok(()), "{sql}");
        }
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        for sql in [
            "select 1commit",
            "select 0xcommit",
            "select 1ecommit",
            "select 1 -- a\rcommit",
        ] {
            let error = refuse_changes(sql).unwrap_err();
            assert_eq!(error.code, "statement_refused", "{sql}");
        }
        for sql in [
            "select 'a",
            "select [a]]",
            "select /* /* */ 1",
            "select \"a",
        ] {
            assert_eq!(
                refuse_changes(sql).unwrap_err().code,
                "syntax_error",
                "{sql}"
            );
        }
    }

    #[test]
    fn a_statement_cannot_end_the_transaction_of_its_marker() {
        for sql in [
            "begin tran",
            "insert t values (1); COMMIT",
            "if 1 = 1 begin rollback transaction end",
            "begin /* x */ transaction x",
            "save tran a",
            "begin distributed transaction",
        ] {
            let error = refuse_transactions(sql).unwrap_err();
            assert_eq!(error.code, "statement_refused", "{sql}");
        }
        for sql in [
            "begin try delete t end try begin catch throw end catch",
            "if 1 = 1 begin delete t end -- commit",
            "update t set [commit] = 'rollback', save = 1",
        ] {
            assert_eq!(refuse_transactions(sql), Ok(()), "{sql}");
        }
    }

    #[test]
    fn placeholders_are_counted_by_the_largest() {
        for (sql, count) in [
            ("select @P1, @P3", 3),
            ("select '@P9', [@P8], @param, @P /* @P7 */ -- @P6", 0),
            ("select @p2+@P1, @@P5, @P12x", 2),
        ] {
            assert_eq!(placeholders(sql).unwrap(), count, "{sql}");
        }
    }
}
