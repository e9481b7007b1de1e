//! The routes of administration.

pub(super) mod dataflows;
pub(super) mod keys;
