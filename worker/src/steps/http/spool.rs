//! Files of one attempt on disk: what is too large for memory on its way to a
//! service, or from one into a table or a file.

use std::path::PathBuf;

use tempfile::TempDir;
use tokio::sync::OnceCell;

use crate::{steps::StepError, work_folder::WorkFolder};

/// A folder that is made when the first file is wanted, and gone with the
/// attempt.
pub(super) struct Spool<'w> {
    work_folder: &'w WorkFolder,
    folder: OnceCell<TempDir>,
}

impl<'w> Spool<'w> {
    pub(super) fn new(work_folder: &'w WorkFolder) -> Self {
        Self {
            work_folder,
            folder: OnceCell::new(),
        }
    }

    /// Where the file of this name is.
    pub(super) async fn path(&self, name: &str) -> Result<PathBuf, StepError> {
        let make = async || self.work_folder.for_request();
        let folder = self.folder.get_or_try_init(make).await.map_err(failed)?;
        Ok(folder.path().join(name))
    }
}

/// The work folder cannot be written. There may be room later.
pub(super) fn failed(error: std::io::Error) -> StepError {
    let message = format!("writing into --work-folder failed: {error}");
    StepError::transient("work_folder", message)
}
