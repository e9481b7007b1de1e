//! How changes are made, whatever the database: once, however often the step is
//! executed.

use millstream_shared::flow::step::{LoadMode, LoadStep};
use tokio::sync::Mutex;

use super::{
    error::DatabaseError,
    kind::Kind,
    marker::{Change, Marker},
    names::{TableName, quoted},
    rows::{self, Rows},
    statement::Statement,
};
use crate::{
    fault,
    tables::{Feed, FeedReader},
};

/// A table to bring into a database.
pub(crate) struct Load<'a> {
    pub(super) marker: Marker,
    pub(super) table: TableName<'a>,
    pub(super) mode: LoadMode,
    pub(super) keys: &'a [String],
    pub(super) is_made: bool,
    pub(super) columns: Vec<(String, Kind)>,
    key_places: Vec<usize>,
    /// Read once: by the one transaction that brings the rows there.
    reader: Mutex<FeedReader>,
}

impl<'a> Load<'a> {
    /// A load of columns that can be loaded at all, of which the first rows are
    /// there: no transaction is open while they are only being made.
    pub(super) async fn new(
        marker: Marker,
        step: &'a LoadStep,
        from: &Feed,
    ) -> Result<Self, DatabaseError> {
        let key_places = rows::key_places(from.schema(), &step.keys)?;
        let columns = rows::columns(from.schema())?;
        let mut reader = from.open()?;
        reader.wait().await?;
        Ok(Self {
            key_places,
            columns,
            reader: Mutex::new(reader),
            marker,
            table: TableName::of(&step.table),
            mode: step.mode,
            keys: &step.keys,
            is_made: step.create,
        })
    }

    /// The next rows, and how many came before.
    pub(super) async fn next(&self) -> Result<Option<(Rows, u64)>, DatabaseError> {
        let mut reader = self.reader.lock().await;
        let before = reader.rows();
        let Some(batch) = reader.next_made().await.transpose()? else {
            return Ok(None);
        };
        rows::check_keys(&batch, &self.key_places, before)?;
        Ok(Some((Rows::of(&batch)?, before)))
    }

    /// How many rows have been taken, and how many bytes they have.
    pub(super) async fn taken(&self) -> (u64, u64) {
        let reader = self.reader.lock().await;
        (reader.rows(), reader.bytes())
    }

    /// The names of its columns.
    pub(super) fn names(&self) -> Vec<String> {
        self.columns.iter().map(|(name, _)| name.clone()).collect()
    }
}

impl Load<'_> {
    /// Two rows want to be the same one.
    pub(super) fn duplicate(&self, keys: &str) -> DatabaseError {
        let message = format!(
            "two rows of the table have the same keys, {}: {keys}",
            self.named_keys()
        );
        DatabaseError::refused("duplicate_keys", message)
    }

    /// The database cannot tell rows apart by the keys.
    pub(super) fn no_unique_index(&self) -> DatabaseError {
        let table = self.table.quoted('`').replace("`.`", ".");
        let message = format!(
            "{table} has no unique index on exactly {}, which an upsert needs",
            self.named_keys()
        );
        DatabaseError::refused("no_unique_index", message)
    }

    /// The change of an upsert that found so many of its rows there.
    pub(super) async fn upserted(&self, known: u64) -> Change {
        let (rows, _) = self.taken().await;
        Change {
            rows,
            inserted: Some(rows.saturating_sub(known)),
            updated: Some(known),
        }
    }

    /// The statement that makes its table, whose columns are called as
    /// `type_of` says for what they hold and whether they are keys.
    pub(super) fn definition(
        &self,
        quote: char,
        type_of: impl Fn(&Kind, bool) -> String,
    ) -> String {
        let (table, members) = (self.table.quoted(quote), self.members(quote, type_of));
        format!("create table if not exists {table} ({members})")
    }

    /// What stands in the parentheses of that statement.
    pub(super) fn members(&self, quote: char, type_of: impl Fn(&Kind, bool) -> String) -> String {
        let columns = self.columns.iter().map(|(name, kind)| {
            let is_key = self.keys.contains(name);
            let not_null = if is_key { " not null" } else { "" };
            format!(
                "{} {}{not_null}",
                quoted(name, quote),
                type_of(kind, is_key)
            )
        });
        let mut members: Vec<String> = columns.collect();
        if !self.keys.is_empty() {
            let keys = self.keys.iter().map(|key| quoted(key, quote));
            let keys = keys.collect::<Vec<_>>().join(", ");
            members.push(format!("primary key ({keys})"));
        }
        members.join(", ")
    }

    fn named_keys(&self) -> String {
        format!("`{}`", self.keys.join("`, `"))
    }
}

/// A connection of one step's own. Dropping it closes it, and whatever it has
/// not committed is gone.
pub(super) trait Session: Sized + Send {
    /// Whether a change of what tables there are ends the transaction, as in
    /// MySQL.
    const DEFINITIONS_COMMIT: bool;

    /// Makes the table of markers where it is not there.
    fn prepare_markers(&mut self) -> impl Future<Output = Result<(), DatabaseError>> + Send;

    /// Begins the transaction.
    fn begin(&mut self) -> impl Future<Output = Result<(), DatabaseError>> + Send;

    /// Writes a marker for a change that is to come, or answers the change of
    /// the one that is there. Who else is about to write it is waited for.
    fn mark(
        &mut self,
        marker: &Marker,
    ) -> impl Future<Output = Result<Option<Change>, DatabaseError>> + Send;

    /// Completes a marker.
    fn note(
        &mut self,
        marker: &Marker,
        change: Change,
    ) -> impl Future<Output = Result<(), DatabaseError>> + Send;

    /// Makes the table of a load where it is not there.
    fn make_table(
        &mut self,
        load: &Load<'_>,
    ) -> impl Future<Output = Result<(), DatabaseError>> + Send;

    /// Deletes every row of the table of a load.
    fn clear(&mut self, load: &Load<'_>) -> impl Future<Output = Result<(), DatabaseError>> + Send;

    /// Appends the rows of a load to its table.
    fn append(&mut self, load: &Load<'_>)
    -> impl Future<Output = Result<(), DatabaseError>> + Send;

    /// Brings the rows of a load into its table by their keys.
    fn upsert(
        &mut self,
        load: &Load<'_>,
    ) -> impl Future<Output = Result<Change, DatabaseError>> + Send;

    /// Executes a statement and answers how many rows it changed.
    fn change(
        &mut self,
        statement: &Statement<'_>,
    ) -> impl Future<Output = Result<u64, DatabaseError>> + Send;

    /// Makes everything last.
    fn commit(&mut self) -> impl Future<Output = Result<(), DatabaseError>> + Send;

    /// Gives up what was done since the transaction began.
    fn undo(&mut self) -> impl Future<Output = Result<(), DatabaseError>> + Send;

    /// Deletes some markers that nobody will ask for.
    fn delete_old_markers(&mut self) -> impl Future<Output = Result<(), DatabaseError>> + Send;

    /// Takes leave of the database, which would note a connection that only
    /// breaks off.
    fn close(self) -> impl Future<Output = ()> + Send;
}

/// Loads a table, unless that has been done.
pub(super) async fn load<S: Session>(
    mut session: S,
    load: &Load<'_>,
) -> Result<Change, DatabaseError> {
    session.prepare_markers().await?;
    if S::DEFINITIONS_COMMIT && load.is_made {
        session.make_table(load).await?;
    }
    fault::reach(fault::BEFORE_BEGIN);
    session.begin().await?;
    if let Some(done) = session.mark(&load.marker).await? {
        return Ok(done);
    }
    fault::reach(fault::AFTER_MARKER);
    if !S::DEFINITIONS_COMMIT && load.is_made {
        session.make_table(load).await?;
    }
    let change = match load.mode {
        LoadMode::Append | LoadMode::Replace => {
            if load.mode == LoadMode::Replace {
                session.clear(load).await?;
            }
            session.append(load).await?;
            let (rows, _) = load.taken().await;
            Change {
                rows,
                inserted: Some(rows),
                updated: None,
            }
        }
        LoadMode::Upsert => session.upsert(load).await?,
    };
    session.note(&load.marker, change).await?;
    finish(session).await?;
    Ok(change)
}

/// Executes a statement, unless that has been done.
pub(super) async fn execute<S: Session>(
    mut session: S,
    marker: &Marker,
    statement: &Statement<'_>,
) -> Result<Change, DatabaseError> {
    session.prepare_markers().await?;
    fault::reach(fault::BEFORE_BEGIN);
    session.begin().await?;
    if let Some(done) = session.mark(marker).await? {
        return Ok(done);
    }
    fault::reach(fault::AFTER_MARKER);
    let is_definition = S::DEFINITIONS_COMMIT && statement.is_definition();
    if is_definition {
        // It would commit the marker before it is done. So it is executed
        // first, and again if the worker dies before the marker is written.
        session.undo().await?;
    }
    let change = Change {
        rows: session.change(statement).await?,
        ..Change::default()
    };
    if is_definition {
        session.begin().await?;
        if let Some(done) = session.mark(marker).await? {
            return Ok(done);
        }
    }
    session.note(marker, change).await?;
    finish(session).await?;
    Ok(change)
}

async fn finish<S: Session>(mut session: S) -> Result<(), DatabaseError> {
    fault::reach(fault::BEFORE_COMMIT);
    session.commit().await?;
    fault::reach(fault::AFTER_COMMIT);
    // Others will do it where this fails; what the step is for is done.
    if let Err(error) = session.delete_old_markers().await {
        tracing::debug!(
            code = error.code,
            message = error.message,
            "old markers stay"
        );
    }
    session.close().await;
    Ok(())
}
