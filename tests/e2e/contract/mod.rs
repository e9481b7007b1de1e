//! What existing callers rely on, to the letter: names, paths, spelling,
//! defaults, and each way a request can be refused.

mod administration;
mod arguments;
mod authentication;
mod idempotency;
mod inputs;
mod later;
mod refusals;
mod replies;
mod timeouts;
mod vault;
