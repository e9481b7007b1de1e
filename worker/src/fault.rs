//! Places between effects at which tests let the process die.

/// A place between two effects.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(not(debug_assertions), expect(dead_code, reason = "only tests look"))]
pub(crate) struct Point(&'static str);

// Of a change in a database.

/// Nothing has begun.
pub(crate) const BEFORE_BEGIN: Point = Point("before_begin");
/// The marker is written, and nothing is committed.
pub(crate) const AFTER_MARKER: Point = Point("after_marker");
/// Some rows are on their way.
pub(crate) const MID_COPY: Point = Point("mid_copy");
/// Everything is done and nothing committed.
pub(crate) const BEFORE_COMMIT: Point = Point("before_commit");
/// Everything is committed, and no checkpoint tells.
pub(crate) const AFTER_COMMIT: Point = Point("after_commit");

// Of a file or a folder that is written.

/// All of it is in the draft.
pub(crate) const DRAFT_WRITTEN: Point = Point("draft_written");
/// The draft is on disk, and in its place is what was there before.
pub(crate) const BEFORE_RENAME: Point = Point("before_rename");
/// The old folder is no longer in its place, and the new one not yet. This takes
/// a file system that cannot exchange names.
pub(crate) const MID_SWAP: Point = Point("mid_swap");
/// It is in its place, and no checkpoint tells.
pub(crate) const AFTER_RENAME: Point = Point("after_rename");

// Of objects in a store.

/// Some parts of an object are in its store, and nobody sees it.
pub(crate) const MID_UPLOAD: Point = Point("mid_upload");
/// All of what is written is in its store, and nobody sees it.
pub(crate) const BEFORE_APPEARANCE: Point = Point("before_appearance");
/// Some objects of several are seen.
pub(crate) const MID_APPEARANCE: Point = Point("mid_appearance");
/// All are seen, and no checkpoint tells.
pub(crate) const AFTER_APPEARANCE: Point = Point("after_appearance");

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

/// Whether the process is to end at this point when it comes there.
pub(crate) fn is_set(point: Point) -> bool {
    #[cfg(debug_assertions)]
    return set_at(point).is_some();
    #[cfg(not(debug_assertions))]
    {
        let _ = point;
        false
    }
}

/// What the variable says behind the name of this point, if it names it.
#[cfg(debug_assertions)]
#[expect(
    clippy::disallowed_methods,
    reason = "this is for tests alone and no setting"
)]
fn set_at(point: Point) -> Option<String> {
    let fault = std::env::var("MILLSTREAM_FAULT").ok()?;
    let (named, rest) = fault.split_once(':').unwrap_or((&fault, ""));
    (named == point.0).then(|| rest.to_owned())
}

#[cfg(debug_assertions)]
fn reached(point: Point) {
    use std::sync::atomic::{AtomicUsize, Ordering};

    static TIMES: AtomicUsize = AtomicUsize::new(0);
    let Some(fault) = set_at(point) else {
        return;
    };
    let mut parts = fault.split(':');
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
