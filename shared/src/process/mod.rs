//! What the programs do at start and end: settings of Redis, logs, the stop
//! signal, the operations port.

pub mod logging;
pub mod ops;
mod program;
mod redis_settings;
mod secrets_key;
mod stop;

pub use program::run_program;
pub use redis_settings::RedisSettings;
pub use secrets_key::SecretsKeysParser;
pub use stop::stop_signal;
