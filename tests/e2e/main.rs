//! The built programs from outside: one module for each promise.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod admission;
mod awaiting;
mod check;
mod command_line;
mod commands;
mod contract;
mod crash;
mod data;
mod databases;
mod draining;
mod durability;
mod failover;
mod faults;
mod files;
mod flows;
mod guide;
mod http;
mod isolation;
mod keys;
mod leases;
mod many_callers;
mod retention;
mod secrets;
mod soak;
mod steps;
mod stores;
