//! Which tables a query names.

use std::ops::ControlFlow;

use sqlparser::{
    ast::{Ident, ObjectName, Query, Statement, TableFactor, Visit, Visitor},
    dialect::GenericDialect,
    parser::{Parser, ParserError},
    tokenizer::{Token, TokenWithSpan, Tokenizer},
};

/// The most words and signs in a query. It also bounds how deep it nests.
const TOKENS_MAX: usize = 20_000;

/// The most operators in a query: each may nest one deeper than the one before.
/// The worker's stack for planning is made for more than this.
const OPERATORS_MAX: usize = 1_000;

/// The most `select` in a query: each may stand in the one before.
const SELECTS_MAX: usize = 100;

/// A table that a query takes from outside of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TableName {
    /// Its name as it stands in the query, without quotes.
    pub(crate) name: String,
    /// Whether case counts, as for a quoted name.
    pub(crate) is_quoted: bool,
    /// The line of it in the query, from 1.
    pub(crate) line: u64,
    /// The column of it in the query, from 1.
    pub(crate) column: u64,
}

impl TableName {
    /// Whether it is the name of the step or table `id`.
    pub(crate) fn is(&self, id: &str) -> bool {
        if self.is_quoted {
            self.name == id
        } else {
            self.name.eq_ignore_ascii_case(id)
        }
    }
}

/// Why a text is not a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InvalidSql {
    /// What is wrong.
    pub(crate) message: String,
    /// Where in the query, if that is known: line and column, from 1.
    pub(crate) place: Option<(u64, u64)>,
}

impl InvalidSql {
    fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            place: None,
        }
    }
}

/// The tables that `sql`, one query, takes from outside of it, in their order.
/// Names that its own `with` defines are not among them.
pub(crate) fn tables(sql: &str) -> Result<Vec<TableName>, InvalidSql> {
    let mut statements = parse(sql)?;
    let query = match (statements.pop(), statements.pop()) {
        (Some(Statement::Query(query)), None) => query,
        (Some(_), None) => {
            return Err(InvalidSql::new("must be a query, as in `select …`"));
        }
        (None, _) => return Err(InvalidSql::new("there is no query here")),
        (Some(_), Some(_)) => return Err(InvalidSql::new("must be one query, not several")),
    };
    let mut reader = Reader::default();
    // The reader never stops early.
    let _: ControlFlow<()> = query.visit(&mut reader);
    Ok(reader.tables)
}

/// Looks whether `sql` is one condition that holds or not for a row, without a
/// query in it.
pub(crate) fn check_condition(sql: &str) -> Result<(), InvalidSql> {
    let dialect = GenericDialect {};
    let mut parser = parser(sql, &dialect)?;
    let condition = parser.parse_expr().map_err(|error| explain(&error))?;
    if parser.peek_token_ref().token != Token::EOF {
        return Err(InvalidSql::new(
            "must be one condition and nothing behind it",
        ));
    }
    match condition.visit(&mut NoQuery) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(InvalidSql::new("must have no query in it")),
    }
}

/// Stops at the first query.
struct NoQuery;

impl Visitor for NoQuery {
    type Break = ();

    fn pre_visit_query(&mut self, _query: &Query) -> ControlFlow<()> {
        ControlFlow::Break(())
    }
}

fn parse(sql: &str) -> Result<Vec<Statement>, InvalidSql> {
    let dialect = GenericDialect {};
    let mut parser = parser(sql, &dialect)?;
    parser.parse_statements().map_err(|error| explain(&error))
}

fn parser<'d>(sql: &str, dialect: &'d GenericDialect) -> Result<Parser<'d>, InvalidSql> {
    let tokens = Tokenizer::new(dialect, sql)
        .tokenize_with_location()
        .map_err(|error| InvalidSql {
            message: format!("the SQL is not well formed: {}", error.message),
            place: Some((error.location.line, error.location.column)),
        })?;
    check_size(&tokens)?;
    Ok(Parser::new(dialect).with_tokens_with_locations(tokens))
}

fn check_size(tokens: &[TokenWithSpan]) -> Result<(), InvalidSql> {
    let words = tokens
        .iter()
        .filter(|token| !matches!(token.token, Token::Whitespace(_)));
    let operators = words.clone().filter(|token| is_operator(&token.token));
    let is_select = |token: &&TokenWithSpan| match &token.token {
        Token::Word(word) => {
            word.quote_style.is_none() && word.value.eq_ignore_ascii_case("select")
        }
        _ => false,
    };
    if words.clone().filter(is_select).count() > SELECTS_MAX {
        let message = format!("a query has at most {SELECTS_MAX} `select`");
        return Err(InvalidSql::new(message));
    }
    if words.count() > TOKENS_MAX {
        let message = format!("a query has at most {TOKENS_MAX} words and signs");
        return Err(InvalidSql::new(message));
    }
    if operators.count() > OPERATORS_MAX {
        let message = format!("a query has at most {OPERATORS_MAX} operators");
        return Err(InvalidSql::new(message));
    }
    Ok(())
}

/// Whether a token can make an expression nest deeper without a parenthesis.
fn is_operator(token: &Token) -> bool {
    match token {
        Token::Word(word) => word.quote_style.is_none() && is_operator_word(&word.value),
        Token::Number(..)
        | Token::SingleQuotedString(_)
        | Token::Comma
        | Token::Period
        | Token::LParen
        | Token::RParen
        | Token::Whitespace(_)
        | Token::SemiColon
        | Token::EOF => false,
        _ => true,
    }
}

fn is_operator_word(word: &str) -> bool {
    let words = [
        "and",
        "or",
        "not",
        "is",
        "in",
        "between",
        "like",
        "ilike",
        "union",
        "except",
        "intersect",
        "collate",
        "at",
    ];
    words.iter().any(|known| known.eq_ignore_ascii_case(word))
}

/// The parser tells the place only at the end of its message.
fn explain(error: &ParserError) -> InvalidSql {
    let message = match error {
        ParserError::TokenizerError(message) | ParserError::ParserError(message) => message,
        ParserError::RecursionLimitExceeded => return InvalidSql::new("the SQL nests too deep"),
    };
    let (message, place) = match message.rsplit_once(" at Line: ") {
        Some((message, place)) => (message, read_place(place)),
        None => (message.as_str(), None),
    };
    let parts = message.strip_prefix("Expected: ");
    let message = match parts.and_then(|parts| parts.rsplit_once(", found: ")) {
        Some((expected, "EOF")) => format!("it ends where {expected} is expected"),
        Some((expected, found)) => format!("{expected} is expected here, not `{found}`"),
        None => message.to_owned(),
    };
    InvalidSql {
        message: format!("the SQL is not well formed: {message}"),
        place,
    }
}

fn read_place(text: &str) -> Option<(u64, u64)> {
    let (line, column) = text.split_once(", Column: ")?;
    Some((line.trim().parse().ok()?, column.trim().parse().ok()?))
}

#[derive(Default)]
struct Reader {
    tables: Vec<TableName>,
    /// The queries around the present place, innermost last.
    around: Vec<Around>,
}

/// A query that is being read, and the tables that its `with` defines.
struct Around {
    defined: Vec<String>,
    /// How many of these have been read: only they can be named so far.
    done: usize,
    is_recursive: bool,
}

impl Around {
    fn defines(&self, name: &str) -> bool {
        let visible = self.done + usize::from(self.is_recursive);
        self.defined.iter().take(visible).any(|known| known == name)
    }
}

impl Visitor for Reader {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        let tables = query.with.iter().flat_map(|with| &with.cte_tables);
        self.around.push(Around {
            defined: tables.map(|table| normal(&table.alias.name)).collect(),
            done: 0,
            is_recursive: query.with.as_ref().is_some_and(|with| with.recursive),
        });
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _query: &Query) -> ControlFlow<()> {
        self.around.pop();
        // A `with` is read before all else of its query, so the first queries
        // within a query are the definitions in its `with`, in their order.
        if let Some(outer) = self.around.last_mut()
            && outer.done < outer.defined.len()
        {
            outer.done += 1;
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        // What has arguments is a function that makes a table.
        if let TableFactor::Table {
            name, args: None, ..
        } = factor
        {
            self.note(name);
        }
        ControlFlow::Continue(())
    }
}

impl Reader {
    fn note(&mut self, name: &ObjectName) {
        let idents: Vec<&Ident> = name.0.iter().filter_map(|part| part.as_ident()).collect();
        let Some(first) = idents.first() else {
            return;
        };
        let is_single = name.0.len() == 1;
        let is_defined = |around: &Around| around.defines(&normal(first));
        if is_single && self.around.iter().any(is_defined) {
            return;
        }
        let start = first.span.start;
        self.tables.push(TableName {
            name: if is_single {
                first.value.clone()
            } else {
                name.to_string()
            },
            is_quoted: first.quote_style.is_some() || !is_single,
            line: start.line,
            column: start.column,
        });
    }
}

/// A name as SQL compares it: without case unless it is quoted.
fn normal(ident: &Ident) -> String {
    match ident.quote_style {
        Some(_) => ident.value.clone(),
        None => ident.value.to_ascii_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(sql: &str) -> Vec<String> {
        let tables = tables(sql).unwrap();
        tables.into_iter().map(|table| table.name).collect()
    }

    #[test]
    fn tables_are_found_wherever_a_query_can_name_them() {
        assert_eq!(
            names(
                "select (select max(x) from a), b.* from B join \"c\" on true \
                 where exists (select 1 from d) and y in (select y from e) \
                 union all (select * from f order by (select 1 from g))"
            ),
            ["a", "B", "c", "d", "e", "f", "g"]
        );
        assert_eq!(names("values (1, 2)"), [""; 0]);
    }

    #[test]
    fn what_a_query_defines_itself_is_no_table_from_outside() {
        let sql = "with One as (select * from raw), two as (select * from one) \
                   select * from two join one on true";
        assert_eq!(names(sql), ["raw"]);
        // Inside of its own definition a name still means the table outside.
        assert_eq!(
            names("with raw as (select * from raw) select * from raw"),
            ["raw"]
        );
        // A definition ends with its query.
        let nested = "select * from (with x as (select 1) select * from x) join x on true";
        assert_eq!(names(nested), ["x"]);
        let recursive = "with recursive n as (select 1 as i union all select i + 1 from n) \
                         select * from n";
        assert_eq!(names(recursive), [""; 0]);
        assert_eq!(names("select * from generate_series(1, 3)"), [""; 0]);
    }

    #[test]
    fn case_counts_only_in_quotes() {
        let tables = tables("select * from Orders, \"Orders\"").unwrap();
        assert!(tables[0].is("orders") && tables[0].is("ORDERS"));
        assert!(tables[1].is("Orders") && !tables[1].is("orders"));
        assert_eq!((tables[1].line, tables[1].column), (1, 23));
    }

    #[test]
    fn what_is_not_one_query_is_refused_with_its_place() {
        for (sql, place, message) in [
            (
                "select a\n from ,",
                Some((2, 7)),
                "is expected here, not `,`",
            ),
            ("select 'a", Some((1, 8)), "Unterminated string"),
            (
                "select a from",
                None,
                "it ends where identifier is expected",
            ),
            ("", None, "there is no query here"),
            ("select 1; select 2", None, "one query, not several"),
            ("drop table x", None, "must be a query"),
            ("insert into x select 1", None, "must be a query"),
        ] {
            let error = tables(sql).unwrap_err();
            assert!(error.message.contains(message), "{sql}: {}", error.message);
            assert_eq!(error.place, place, "{sql}: {}", error.message);
        }
    }

    #[test]
    fn a_query_made_to_exhaust_the_stack_is_refused() {
        for bomb in [
            format!("select {}1", "1 + ".repeat(100_000)),
            format!("select {}1", "-".repeat(100_000)),
            format!("select {}1", "not ".repeat(100_000)),
            format!("select {}1{}", "(".repeat(10_000), ")".repeat(10_000)),
            format!("select 1 {}", "union select 1 ".repeat(5_000)),
            format!("select {}1", "1 + ".repeat(1_999)),
            format!("select a{}", "::int".repeat(1_999)),
            format!("select a{}", "[1]".repeat(5_000)),
        ] {
            // It is enough that this returns.
            let _ = tables(&bomb);
        }
    }
}
