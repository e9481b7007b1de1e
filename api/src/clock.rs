//! The time of day. Durations are measured on the runtime's own clock.

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> u64 {
    u64::try_from(chrono::Utc::now().timestamp_millis()).unwrap_or_default()
}
