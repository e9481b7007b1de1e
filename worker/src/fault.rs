//! Places between effects at which tests let the process die.

/// A place between two effects.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(not(debug_assertions), expect(dead_code, reason = "only tests look"))]
pub(crate) struct Point(&'static str);

/// Nothing has begun.
pub(crate) const BEFORE_BEGIN: Point = Point("before_begin");
/// The marker is written, and nothing is committed.
pub(crate) const AFTER_MARKER: Point = Point("after_marker");
/// Some rows are on their way.
pub(crate) const MID_COPY: Point = Point("mid_copy");
/// Everything is done and nothing committed.
pub(crate) const BEFORE_COMMIT: Point = Point("before_commit");
/// Some parts of an object are in its store, and nobody sees it.
pub(crate) const MID_UPLOAD: Point = Point("mid_upload");
/// All of an object is in its store, and nobody sees it.
pub(crate) const BEFORE_APPEARANCE: Point = Point("before_appearance");
/// Some objects of several are seen.
pub(crate) const MID_APPEARANCE: Point = Point("mid_appearance");
/// Everything is committed, and no checkpoint tells.
pub(crate) const AFTER_COMMIT: Point = Point("after_commit");

/// Ends the process where the variable `MILLSTREAM_FAULT` names this point:
/// `<point>:<nth>` at its nth time. With `:freeze` behind it the process stops
/// there instead, until somebody lets it go on. There is none of this in a
/// release.
pub(crate) fn reach(point: Point) {
    #[cfg(debug_assertions)]
    reached(point);
    #[cfg(not(debug_assertions))]
    let _ = point;
}

#[cfg(debug_assertions)]
#[expect(
    clippy::disallowed_methods,
    reason = "this is for tests alone and no setting"
)]
fn reached(point: Point) {
    use std::sync::atomic::{AtomicUsize, Ordering};

    static TIMES: AtomicUsize = AtomicUsize::new(0);
    let Ok(fault) = std::env::var("MILLSTREAM_FAULT") else {
        return;
    };
    let mut parts = fault.split(':');
    if parts.next() != Some(point.0) {
        return;
    }
    let nth = parts.next().and_then(|nth| nth.parse().ok()).unwrap_or(1);
    if TIMES.fetch_add(1, Ordering::Relaxed) + 1 != nth {
        return;
    }
    tracing::warn!(point = point.0, "fault");
    match parts.next() {
        Some("freeze") => {
            // It has no handler, so it stops every thread.
            let _ = nix::sys::signal::raise(nix::sys::signal::Signal::SIGSTOP);
        }
        _ => std::process::abort(),
    }
}
