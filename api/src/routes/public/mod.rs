//! The routes that existing callers rely on: their names, paths, spelling and
//! defaults do not change.

mod followed;
pub(super) mod output;
pub(super) mod start;
mod start_body;
mod start_options;
pub(super) mod status;
