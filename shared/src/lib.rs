//! What the programs of Millstream have in common: the model of flows and
//! runs (pure), and the store that keeps them in Redis.
//!
//! It knows neither the public HTTP API nor how a step works.

pub mod access;
pub mod artifacts;
pub mod byte_size;
pub mod connection;
pub mod duration;
pub mod flow;
pub mod id;
pub mod process;
pub mod retry;
pub mod run;
pub mod store;
