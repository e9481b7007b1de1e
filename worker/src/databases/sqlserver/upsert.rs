//! Statements that bring staged rows into a table by their keys.
//!
//! No `merge`: others that merge at the same time could make it fail or write a
//! row twice. Instead the rows that there are, and the places of those that there
//! are not, are locked first.

use crate::databases::{
    kind::Kind,
    names::{Parts, STAGE, quoted},
    session::Load,
};

/// The statements of one upsert.
pub(super) struct Upsert<'a> {
    parts: Parts,
    /// Its keys, and whether they are bytes.
    keys: Vec<(&'a str, bool)>,
}

impl<'a> Upsert<'a> {
    /// Those of a load.
    pub(super) fn of(load: &Load<'a>) -> Self {
        let is_bytes = |key: &String| {
            let mut columns = load.columns.iter();
            columns.any(|(name, kind)| name == key && *kind == Kind::Bytes)
        };
        let keys = load.keys.iter().map(|key| (key.as_str(), is_bytes(key)));
        Self {
            keys: keys.collect(),
            // A table whose name begins so is gone with its connection.
            parts: Parts::new(
                &load.table,
                quoted(&format!("#{STAGE}"), '['),
                &load.names(),
                load.keys,
                '[',
            ),
        }
    }

    /// The staging table.
    pub(super) fn stage(&self) -> &str {
        &self.parts.stage
    }

    /// Answers a row where there is a unique index on exactly the keys.
    pub(super) fn find_unique_index(&self) -> String {
        let table = literal(&self.parts.table);
        let count = self.keys.len();
        let names = self.keys.iter().map(|(key, _)| literal(key));
        let names = names.collect::<Vec<_>>().join(", ");
        format!(
            "select top (1) 1 from sys.indexes i where i.object_id = object_id({table}) \
             and i.is_unique = 1 and i.is_disabled = 0 and i.has_filter = 0 \
             and {count} = (select count(*) from sys.index_columns c \
             where c.object_id = i.object_id and c.index_id = i.index_id and c.key_ordinal > 0) \
             and {count} = (select count(*) from sys.index_columns c join sys.columns n \
             on n.object_id = c.object_id and n.column_id = c.column_id \
             where c.object_id = i.object_id and c.index_id = i.index_id and c.key_ordinal > 0 \
             and n.name in ({names}))"
        )
    }

    /// Makes the staging table, with the types of the table.
    pub(super) fn make_stage(&self) -> String {
        let Parts { table, stage, .. } = &self.parts;
        let columns = self.parts.columns();
        format!("select top (0) {columns} into {stage} from {table}")
    }

    /// Asks for the keys that several staged rows have. (`concat_ws` would pass
    /// over missing ones and wants two at least.)
    pub(super) fn find_duplicate(&self) -> String {
        let shown = self.keys.iter().map(|(key, is_bytes)| {
            let style = if *is_bytes { ", 1" } else { "" };
            format!("convert(nvarchar(max), {}{style})", quoted(key, '['))
        });
        let shown = shown.collect::<Vec<_>>().join(" + N', ' + ");
        let (stage, keys) = (&self.parts.stage, self.parts.keys());
        format!("select top (1) {shown} from {stage} group by {keys} having count(*) > 1")
    }

    /// Counts the staged rows whose keys the table has, and sees to it that this
    /// stays so until the transaction ends.
    pub(super) fn count_known(&self) -> String {
        let Parts { table, stage, .. } = &self.parts;
        let same = self.parts.same_keys();
        format!(
            "select count_big(*) from {stage} s where exists \
             (select 1 from {table} t with (updlock, holdlock) where {same})"
        )
    }

    /// Gives the rows that there are their new values; none where every column is
    /// a key.
    pub(super) fn update(&self) -> Option<String> {
        let Parts { table, stage, .. } = &self.parts;
        let (same, assignments) = (self.parts.same_keys(), self.parts.assignments("", "s."));
        (!assignments.is_empty())
            .then(|| format!("update t set {assignments} from {table} t join {stage} s on {same}"))
    }

    /// Adds the rows that there are not.
    pub(super) fn insert(&self) -> String {
        let Parts { table, stage, .. } = &self.parts;
        let (same, columns) = (self.parts.same_keys(), self.parts.columns());
        format!(
            "insert into {table} ({columns}) select {columns} from {stage} s \
             where not exists (select 1 from {table} t where {same})"
        )
    }
}

/// A text as it stands in statements, whatever is in it.
pub(super) fn literal(text: &str) -> String {
    format!("N{}", quoted(text, '\''))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::databases::names::TableName;

    fn upsert(columns: &[&str], keys: &[&'static str]) -> Upsert<'static> {
        let names = |names: &[&str]| -> Vec<String> {
            names.iter().map(|name| (*name).to_owned()).collect()
        };
        let (columns, key_names) = (names(columns), names(keys));
        Upsert {
            parts: Parts::new(
                &TableName::of("s.it's"),
                "[#stage]".to_owned(),
                &columns,
                &key_names,
                '[',
            ),
            keys: keys.iter().map(|key| (*key, *key == "b")).collect(),
        }
    }

    #[test]
    fn rows_are_brought_by_their_keys() {
        let upsert = upsert(&["k]", "b", "v"], &["k]", "b"]);
        assert_eq!(
            upsert.make_stage(),
            "select top (0) [k]]], [b], [v] into [#stage] from [s].[it's]"
        );
        assert_eq!(
            upsert.find_duplicate(),
            "select top (1) convert(nvarchar(max), [k]]]) + N', ' + convert(nvarchar(max), [b], 1) \
             from [#stage] group by [k]]], [b] having count(*) > 1"
        );
        assert_eq!(
            upsert.count_known(),
            "select count_big(*) from [#stage] s where exists (select 1 from [s].[it's] t \
             with (updlock, holdlock) where t.[k]]] = s.[k]]] and t.[b] = s.[b])"
        );
        assert_eq!(
            upsert.update().unwrap(),
            "update t set [v] = s.[v] from [s].[it's] t join [#stage] s \
             on t.[k]]] = s.[k]]] and t.[b] = s.[b]"
        );
        assert_eq!(
            upsert.insert(),
            "insert into [s].[it's] ([k]]], [b], [v]) select [k]]], [b], [v] from [#stage] s \
             where not exists (select 1 from [s].[it's] t \
             where t.[k]]] = s.[k]]] and t.[b] = s.[b])"
        );
        let index = upsert.find_unique_index();
        assert!(index.contains("object_id(N'[s].[it''s]')"), "{index}");
        assert!(
            index.contains("2 = (") && index.contains("in (N'k]', N'b')"),
            "{index}"
        );
    }

    #[test]
    fn nothing_is_updated_where_all_is_key() {
        assert_eq!(upsert(&["k"], &["k"]).update(), None);
    }
}
