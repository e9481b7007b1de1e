//! What a run may change, and what is there then.

use std::{fs, path::Path};

use super::super::Place;

/// What a run changes: a table of the database, a file or a folder of its own.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Change {
    Append,
    Replace,
    Upsert,
    Create,
    CreateKeyed,
    Execute,
    Csv,
    Parquet,
    Folder,
}

/// Every change.
pub(super) const CHANGES: [Change; 9] = [
    Change::Append,
    Change::Replace,
    Change::Upsert,
    Change::Create,
    Change::CreateKeyed,
    Change::Execute,
    Change::Csv,
    Change::Parquet,
    Change::Folder,
];

/// The files that the rows come from, and how many they hold: so few that most
/// workers die before or after them, and so many that they die halfway.
pub(super) const SOURCES: [(&str, usize); 2] = [("few.csv", 5), ("many.csv", 8000)];

impl Change {
    /// Whether it is made in the database.
    pub(super) fn is_in_database(self) -> bool {
        !matches!(self, Self::Csv | Self::Parquet | Self::Folder)
    }

    /// Puts there what is there before.
    pub(super) async fn prepare(self, place: &Place, name: &str) {
        let files = place.service.files();
        match self {
            Self::Create | Self::CreateKeyed => {}
            Self::Csv => fs::write(files.join(format!("{name}.csv")), "old").unwrap(),
            Self::Parquet => fs::write(files.join(format!("{name}.parquet")), "old").unwrap(),
            Self::Folder => {
                let old = files.join(name).join("part=old");
                fs::create_dir_all(&old).unwrap();
                fs::write(old.join("part.csv"), "id,name\n1,old\n").unwrap();
            }
            _ => {
                // Without a key, a row that came twice shows.
                let key = match self {
                    Self::Upsert => " primary key",
                    _ => "",
                };
                let old = "(1, 'old', 'a'), (10, 'old', 'b')";
                let sql = format!(
                    "create table {name} (id integer not null{key}, name varchar(100), \
                     part varchar(10)); insert into {name} values {old}"
                );
                place.database.run(&sql).await;
            }
        }
    }

    /// The steps that make it, with the rows of `source`.
    pub(super) fn steps(self, name: &str, source: &str) -> [String; 2] {
        let load = |further: &str| {
            format!("load: {{ connection: db, table: {name}, from: rows, {further} }}")
        };
        let write =
            |path: &str, further: &str| format!("write: {{ path: {path}, from: rows{further} }}");
        let made = match self {
            Self::Append => load("mode: append"),
            Self::Replace => load("mode: replace"),
            Self::Upsert => load("mode: upsert, keys: [id]"),
            Self::Create => load("mode: append, create: true"),
            Self::CreateKeyed => load("mode: upsert, keys: [id], create: true"),
            // Doing it twice would show.
            Self::Execute => format!(
                "needs: [rows], execute: {{ connection: db, sql: \
                 'update {name} set name = concat_ws(''+'', name, name)' }}"
            ),
            Self::Csv => write(&format!("{name}.csv"), ""),
            Self::Parquet => write(&format!("{name}.parquet"), ""),
            Self::Folder => write(name, ", format: csv, partition_by: [part]"),
        };
        // What two runs do at once may lock one another out.
        let retry = "retry: { attempts: 20, backoff: constant, initial: 100ms }";
        [
            format!("{{ id: rows, read: {{ path: {source} }} }}"),
            format!("{{ id: last, {made}, {retry} }}"),
        ]
    }

    /// What is there, without the name.
    pub(super) async fn result(self, place: &Place, name: &str) -> Vec<String> {
        if self.is_in_database() {
            let sql =
                format!("select concat_ws('|', id, name, part) from {name} order by id, name");
            return place.database.texts(&sql).await;
        }
        let place = place.service.files();
        match self {
            Self::Csv => files(&place.join(format!("{name}.csv"))),
            Self::Parquet => files(&place.join(format!("{name}.parquet"))),
            _ => files(&place.join(name)),
        }
    }
}

/// A file, or all files below a folder, each by its path there and its bytes.
fn files(path: &Path) -> Vec<String> {
    if path.is_file() {
        return vec![format!("{:?}", fs::read(path).unwrap())];
    }
    let entries = fs::read_dir(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        found.extend(
            files(&entry.path())
                .into_iter()
                .map(|file| format!("{name}/{file}")),
        );
    }
    found.sort();
    found
}

/// Hidden files and folders: drafts that nobody has taken away.
pub(super) fn drafts(place: &Place) -> Vec<String> {
    let entries = fs::read_dir(place.service.files()).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with('.')).collect()
}

/// Puts the files there that the rows come from.
pub(super) fn put_sources(place: &Place) {
    for (file, count) in SOURCES {
        let row = |id: usize| format!("{id},name {id},{}\n", ["a", "b", "c"][id % 3]);
        let rows: String = (10..10 + count).map(row).collect();
        place.put(file, &format!("id,name,part\n{rows}"));
    }
}

/// The points at which a worker can be made to die.
pub(super) const POINTS: [&str; 9] = [
    "before_begin",
    "after_marker",
    "mid_copy",
    "before_commit",
    "after_commit",
    "draft_written",
    "before_rename",
    "mid_swap",
    "after_rename",
];
