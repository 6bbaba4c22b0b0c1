//! What git means by its words where it has no exit code for it. Pure text.

/// Whether git had no room to write to.
pub(super) fn is_full(stderr: &str) -> bool {
    stderr.contains("No space left on device")
}

/// What a hook of the host said.
pub(super) fn remote_lines(stderr: &str) -> String {
    let lines = stderr.lines().filter_map(|line| line.strip_prefix("remote:"));
    lines
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect::<Vec<_>>()
        .join("\n")
}

pub(super) fn is_damage(words: &str) -> bool {
    let signs = [
        "not a git repository",
        "bad object",
        "bad tree object",
        "not a tree object",
        "Not a valid object name",
        "loose object",
        "could not parse",
        "unable to parse",
        "Could not read",
        "revision walk setup failed",
        "inflate",
        "missing blob",
        "missing tree",
        "missing commit",
        "unable to read",
        "is corrupt",
        "is likely corrupt",
        "is empty",
        "object file",
        "packfile",
        "did not send all necessary objects",
        "bad config",
        "unresolvable reference",
        "broken ref",
    ];
    // What ssh's failures end with speaks of the host, not of the mirror.
    let words = words.replace("Could not read from remote repository", "");
    signs.iter().any(|sign| words.contains(sign)) && !words.contains("remote: ")
}
