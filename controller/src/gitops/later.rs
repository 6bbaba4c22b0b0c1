//! What became of a branch after a commit, in people's words: who changed a rollout's files later, and what that keeps Serin from.
//! Reads only.

use super::error::{Error, Result};
use super::layout::Arms;
use super::objects::{Commit, Walk};
use super::repository::Mirror;
use super::rollback::RollbackRequest;
use super::spec::Subject;

/// So many commits are named, at most.
const NAMED: usize = 5;

/// The commits that changed the rollout's file after another one, newest first.
pub(super) async fn behind(mirror: &Mirror, head: &str, after: &str, subject: &Subject) -> Result<Vec<Commit>> {
    if mirror.resolve(after).await?.is_none() {
        // It is gone with a history that was rewritten.
        return Ok(Vec::new());
    }
    let (range, files) = (format!("{after}..{head}"), subject.files());
    mirror.log(&range, Walk::Branch { files: &files }, NAMED).await
}

/// As people speak of commits.
pub(super) fn described(commits: &[Commit]) -> Vec<String> {
    let words = |commit: &Commit| {
        let id = commit.sha.get(..12).unwrap_or(&commit.sha);
        format!("{id} {:?} by {}", commit.subject(), commit.author)
    };
    commits.iter().map(words).collect()
}

/// The error that says what keeps even the rollout's own fields from being restored, and who can tell more.
pub(super) async fn blocked(
    mirror: &Mirror,
    head: &str,
    request: &RollbackRequest,
    after: &str,
    because: &Error,
) -> Result<Error> {
    let subject = &request.subject;
    let mut commits = behind(mirror, head, after, subject).await?;
    // Only what came after the file could be used for the last time.
    for at in 0..commits.len() {
        let Some(commit) = commits.get(at) else { break };
        let arms = Arms::once(mirror, &commit.sha, subject).await?;
        if arms.is_some_and(|arms| arms.nameless(&subject.layout).is_none()) {
            commits.truncate(at.max(1));
            break;
        }
    }
    let mut why = because.to_string();
    if let Some(source) = std::error::Error::source(because) {
        why.push_str(&format!(": {source}"));
    }
    Ok(Error::RollbackBlocked {
        repository: mirror.repo().name(),
        revision: request.revision.clone(),
        why,
        paths: subject.files(),
        commits: described(&commits),
    })
}

/// The error for a canary's commit that was on the branch and is not any more, although its revision stands there.
pub(super) fn gone(mirror: &Mirror, subject: &Subject, canary: &str) -> Error {
    let files = subject.files().join(", ");
    mirror.rewritten(
        canary,
        format!("put the canary's subtree in {files} back to stable's by hand"),
    )
}
