//! The routes of administration.

pub(super) mod connections;
pub(super) mod dataflows;
pub(super) mod keys;
pub(super) mod secrets;
