//! Named points at which a test may have the process die, as if it were killed there. Inert unless `--crash-file` was given.
//! Must not know what is done between the points.
//!
//! A point fires when the first line of the file names it; the line is removed first, and the file with the last one, so that the
//! next life goes on to the next point.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

static FILE: OnceLock<PathBuf> = OnceLock::new();

/// A place between two effects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// A weight is wanted, and not written.
    BeforeWeight,
    /// A weight is written, and stands in no status.
    AfterWeight,
    /// Services and route are wanted, and not made.
    BeforeObjects,
    /// The canary is to be scaled, and is not.
    BeforeScale,
    /// All effects are carried out, and the state that they belong to is not recorded.
    BeforeStatus,
    /// The state is recorded, and nothing of what it wants is done.
    AfterStatus,
    /// A commit is made, and not pushed.
    BeforePush,
    /// A commit is pushed, and nobody was told.
    AfterPush,
}

impl Point {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::BeforeWeight,
        Self::AfterWeight,
        Self::BeforeObjects,
        Self::BeforeScale,
        Self::BeforeStatus,
        Self::AfterStatus,
        Self::BeforePush,
        Self::AfterPush,
    ];

    /// As the file names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::BeforeWeight => "before-weight",
            Self::AfterWeight => "after-weight",
            Self::BeforeObjects => "before-objects",
            Self::BeforeScale => "before-scale",
            Self::BeforeStatus => "before-status",
            Self::AfterStatus => "after-status",
            Self::BeforePush => "before-push",
            Self::AfterPush => "after-push",
        }
    }
}

/// From now on the points are live: each looks into this file. A second call changes nothing.
pub fn arm(file: PathBuf) {
    drop(FILE.set(file));
}

/// Dies here, if that is asked for.
pub fn here(point: Point) {
    let Some(file) = FILE.get() else { return };
    if is_named(file, point) {
        std::process::abort();
    }
}

/// Whether the file's first line names the point; the line is gone then.
fn is_named(file: &Path, point: Point) -> bool {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let (first, rest) = text.split_once('\n').unwrap_or((&text, ""));
    if first.trim() != point.name() {
        return false;
    }
    let gone = if rest.trim().is_empty() {
        std::fs::remove_file(file)
    } else {
        std::fs::write(file, rest)
    };
    gone.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_fire_in_the_order_of_the_file_and_each_line_once() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("dies-at");
        assert!(!is_named(&file, Point::AfterPush), "no file, no end");
        std::fs::write(&file, "before-push\nafter-push\n").unwrap();
        assert!(!is_named(&file, Point::AfterPush), "not its turn");
        assert!(is_named(&file, Point::BeforePush) && !is_named(&file, Point::BeforePush));
        assert!(is_named(&file, Point::AfterPush));
        assert!(!file.exists());
    }
}
