//! Names of tables and columns in statements, and statements made of them.

use super::DatabaseError;

/// The staging table of an upsert. It is gone with its connection.
pub(super) const STAGE: &str = "millstream_stage";

/// A table of a database, as a flow names it.
#[derive(Clone, Debug)]
pub(super) struct TableName<'a> {
    pub(super) schema: Option<&'a str>,
    pub(super) name: &'a str,
}

impl<'a> TableName<'a> {
    /// The table `name` or `schema.name`.
    pub(super) fn of(text: &'a str) -> Self {
        match text.split_once('.') {
            Some((schema, name)) => Self {
                schema: Some(schema),
                name,
            },
            None => Self {
                schema: None,
                name: text,
            },
        }
    }

    /// The name as it stands in statements.
    pub(super) fn quoted(&self, quote: char) -> String {
        let name = quoted(self.name, quote);
        match self.schema {
            Some(schema) => format!("{}.{name}", quoted(schema, quote)),
            None => name,
        }
    }
}

/// A name as it stands in statements, whatever is in it. A bracket that opens
/// is closed by its other half.
pub(super) fn quoted(name: &str, quote: char) -> String {
    let end = if quote == '[' { ']' } else { quote };
    let doubled = name.replace(end, &format!("{end}{end}"));
    format!("{quote}{doubled}{end}")
}

/// What steps make for themselves in a database: a table of such a name would be
/// hidden by it, or taken for it.
const OWN: &[&str] = &["millstream_steps", "millstream_stage"];

/// Refuses a table that has the name of one of the steps' own.
pub(super) fn refuse_own(table: &str) -> Result<(), DatabaseError> {
    let name = table.rsplit('.').next().unwrap_or(table);
    if OWN.iter().any(|own| own.eq_ignore_ascii_case(name)) {
        let message = format!("the table `{name}` is what steps note their own work in");
        return Err(DatabaseError::refused("bad_table", message));
    }
    Ok(())
}

/// How many bytes a name has in PostgreSQL, which cuts longer ones off.
const POSTGRES_NAME_MAX: usize = 63;

/// Refuses names that PostgreSQL would cut off, and so could take for others.
pub(super) fn fit_postgres<'n>(
    table: &TableName<'n>,
    columns: impl Iterator<Item = &'n str>,
) -> Result<(), DatabaseError> {
    let mut names = table.schema.into_iter().chain([table.name]).chain(columns);
    let too_long = names.find(|name| name.len() > POSTGRES_NAME_MAX);
    match too_long {
        None => Ok(()),
        Some(name) => {
            let message = format!(
                "the name `{name}` is longer than the {POSTGRES_NAME_MAX} bytes that PostgreSQL keeps"
            );
            Err(DatabaseError::refused("bad_name", message))
        }
    }
}

/// The parts of statements that bring rows from one table into another.
pub(super) struct Parts {
    /// The table that rows are brought into.
    pub(super) table: String,
    /// The staging table.
    pub(super) stage: String,
    columns: Vec<String>,
    keys: Vec<String>,
}

impl Parts {
    /// Parts whose names are quoted so.
    pub(super) fn new(
        table: &TableName<'_>,
        stage: String,
        columns: &[String],
        keys: &[String],
        quote: char,
    ) -> Self {
        let all = |names: &[String]| names.iter().map(|name| quoted(name, quote)).collect();
        Self {
            table: table.quoted(quote),
            stage,
            columns: all(columns),
            keys: all(keys),
        }
    }

    /// The columns, separated by commas.
    pub(super) fn columns(&self) -> String {
        self.columns.join(", ")
    }

    /// The keys, separated by commas.
    pub(super) fn keys(&self) -> String {
        self.keys.join(", ")
    }

    /// Asks for the keys that several rows of the staging table have.
    pub(super) fn find_duplicate(&self) -> String {
        let keys = self.keys();
        format!(
            "select concat_ws(', ', {keys}) from {} group by {keys} having count(*) > 1 limit 1",
            self.stage
        )
    }

    /// Counts the staged rows whose keys the table has.
    pub(super) fn count_known(&self) -> String {
        format!(
            "select count(*) from {} s where exists (select 1 from {} t where {})",
            self.stage,
            self.table,
            self.same_keys()
        )
    }

    /// That a row `t` of the table and a staged row `s` have the same keys.
    pub(super) fn same_keys(&self) -> String {
        let keys = self.keys.iter().map(|key| format!("t.{key} = s.{key}"));
        keys.collect::<Vec<_>>().join(" and ")
    }

    /// The assignments that give a row its new values, which stand in `from`;
    /// empty where every column is a key.
    pub(super) fn assignments(&self, target: &str, from: &str) -> String {
        let others = self.columns.iter().filter(|name| !self.keys.contains(name));
        let assign = others.map(|name| format!("{target}{name} = {from}{name}"));
        assign.collect::<Vec<_>>().join(", ")
    }

    /// Brings the staged rows into the table, in the words that PostgreSQL and
    /// SQLite have for it.
    pub(super) fn merge_on_conflict(&self) -> String {
        let assignments = self.assignments("", "excluded.");
        let then = if assignments.is_empty() {
            "nothing".to_owned()
        } else {
            format!("update set {assignments}")
        };
        format!(
            "insert into {} ({columns}) select {columns} from {} where true on conflict ({}) do {then}",
            self.table,
            self.stage,
            self.keys(),
            columns = self.columns()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_ends_its_quotes() {
        assert_eq!(quoted("a\"; drop table x", '"'), "\"a\"\"; drop table x\"");
        assert_eq!(TableName::of("s.t`").quoted('`'), "`s`.`t```");
        assert_eq!(TableName::of("s.[t]x").quoted('['), "[s].[[t]]x]");
    }

    #[test]
    fn an_upsert_updates_what_is_no_key() {
        let names = |names: &[&str]| {
            names
                .iter()
                .map(|name| (*name).to_owned())
                .collect::<Vec<_>>()
        };
        let table = TableName::of("s.t");
        let parts = |columns: &[&str], keys: &[&str]| {
            Parts::new(&table, STAGE.to_owned(), &names(columns), &names(keys), '"')
        };
        assert_eq!(
            parts(&["k", "a", "b"], &["k"]).merge_on_conflict(),
            "insert into \"s\".\"t\" (\"k\", \"a\", \"b\") select \"k\", \"a\", \"b\" from \
             millstream_stage where true on conflict (\"k\") do update set \"a\" = excluded.\"a\", \
             \"b\" = excluded.\"b\""
        );
        let only_keys = parts(&["k"], &["k"]).merge_on_conflict();
        assert!(only_keys.ends_with("do nothing"), "{only_keys}");
    }
}

#[cfg(test)]
mod limits {
    use super::*;

    #[test]
    fn names_that_would_be_taken_for_others_are_refused() {
        for own in ["millstream_stage", "shop.MILLSTREAM_STEPS"] {
            assert_eq!(refuse_own(own).unwrap_err().code, "bad_table");
        }
        assert!(refuse_own("millstream_stage.sales").is_ok());
        let (fits, long) = ("x".repeat(63), "ø".repeat(32));
        assert!(fit_postgres(&TableName::of(&fits), ["a"].into_iter()).is_ok());
        assert_eq!(
            fit_postgres(&TableName::of(&long), ["a"].into_iter())
                .unwrap_err()
                .code,
            "bad_name"
        );
        assert_eq!(
            fit_postgres(&TableName::of("a.b"), [&*long].into_iter())
                .unwrap_err()
                .code,
            "bad_name"
        );
    }
}
