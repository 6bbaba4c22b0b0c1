//! What can go wrong with the config repository, said so that somebody can act on it. It must not know Kubernetes.

use super::fault::Fault;
use super::pulls::PullRequest;
use super::yaml::YamlError;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The reason of [`Error::RollbackBlocked`], which is a condition of its own.
pub const ROLLBACK_BLOCKED: &str = "RollbackBlocked";

/// An error of the room; secrets are taken out of git's words before they come here.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot start git to {doing}; install git 2.38 or newer and put it on PATH")]
    Start { doing: String, source: std::io::Error },
    #[error("cannot {doing}: {path} cannot be written; check the cache's volume (full? read-only?)")]
    Disk {
        doing: String,
        path: String,
        source: std::io::Error,
    },
    #[error("{doing} of {repository} took longer than {seconds} s and was stopped; check that the host answers")]
    TimedOut {
        doing: String,
        repository: String,
        seconds: u64,
    },
    #[error(
        "cannot {doing} with a key: {path} is not in memory, and keys are never written to a disk; mount an emptyDir with `medium: Memory` and name it in SERIN_KEYS_DIR"
    )]
    NotInMemory { doing: String, path: String },
    #[error("cannot {doing} {repository}: {fault} ({words})")]
    Remote {
        doing: String,
        repository: String,
        fault: Fault,
        words: String,
    },
    #[error(
        "a commit for {repository} could not be signed, and none was made: {words}; check the key in the Secret of git.signing"
    )]
    Signing { repository: String, words: String },
    #[error("cannot {doing} {repository}: {words}; check the address, the network and the credentials")]
    Failed {
        doing: String,
        repository: String,
        words: String,
    },
    #[error(
        "the mirror of {repository} is damaged ({words}); it is fetched anew at the next try. If it happens again, check the cache's volume"
    )]
    Damaged { repository: String, words: String },
    #[error("{repository} has no branch {branch}; check git.branch, and that git.repository is no login page")]
    NoBranch { repository: String, branch: String },
    #[error(
        "{repository} has only a shallow history of {branch}, and reverting in it would delete files; serve the whole history"
    )]
    Shallow { repository: String, branch: String },
    #[error(
        "the history of {branch} in {repository} was rewritten: {known} is no longer part of it; Serin stops there. Find out who forced the push; to accept it, {accept}"
    )]
    Rewritten {
        repository: String,
        branch: String,
        known: String,
        /// What somebody does who accepts it.
        accept: String,
    },
    #[error("{repository} refuses pushes to {branch}: {words}; allow Serin's identity to push there")]
    Refused {
        repository: String,
        branch: String,
        words: String,
    },
    #[error(
        "the rollback of {revision} in {repository} is blocked: {why}{}. Traffic is on stable; put the canary's subtree in {paths} back to stable's by hand, or mend the file so that Serin can",
        behind(commits), paths = paths.join(", ")
    )]
    RollbackBlocked {
        repository: String,
        revision: String,
        /// What stands in the way.
        why: String,
        /// The conflicting paths.
        paths: Vec<String>,
        /// The commits behind them, newest first: id, subject line, author.
        commits: Vec<String>,
    },
    #[error(
        "{repository} refuses pushes to {branch} ({words}); the commit stands on the branch {proposal}: {}. Serin waits until it has landed",
        request.advice()
    )]
    Proposed {
        repository: String,
        branch: String,
        /// The branch for a pull request.
        proposal: String,
        /// The host's own.
        words: String,
        /// What became of the pull request.
        request: Box<PullRequest>,
    },
    #[error("{repository} has no file {file} at commit {commit}; check git.path, and the file's name below it")]
    NoFile {
        repository: String,
        file: String,
        commit: String,
    },
    #[error("cannot use {file} of {repository}: {why}")]
    File {
        repository: String,
        file: String,
        why: String,
    },
    #[error("cannot use {file} of {repository}")]
    Values {
        repository: String,
        file: String,
        source: YamlError,
    },
    #[error("{branch} of {repository} moved on {tries} times while Serin computed its commit; it is tried again")]
    Contended {
        repository: String,
        branch: String,
        tries: u32,
    },
    #[error(
        "a commit to {repository} was not made: its tree would be wrong ({why}); this is a defect of Serin, please report it"
    )]
    Unsafe { repository: String, why: String },
    #[error("this controller no longer holds the lease; nothing was pushed to {repository}")]
    NotLeader { repository: String },
    #[error("the write to {repository} was interrupted; it is tried again")]
    Interrupted { repository: String },
    /// Of several writes that went together.
    #[error(transparent)]
    Shared(std::sync::Arc<Error>),
    #[error("there is nothing to commit: {0}")]
    Nothing(String),
    #[error("{what} is {value:?}, and that cannot be: {why}")]
    Invalid {
        what: &'static str,
        value: String,
        why: &'static str,
    },
}

/// What an error asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// Trying again later may help by itself.
    Transient,
    /// The host does not let Serin push.
    Refused,
    /// The repository, the file or the request must be corrected by somebody.
    Input,
    /// Serin must not go on by itself.
    Stopped,
}

impl Error {
    /// The error itself, where several share it.
    pub fn own(&self) -> &Self {
        match self {
            Self::Shared(error) => error.own(),
            own => own,
        }
    }

    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Remote { fault, .. } if fault.is_input() => ErrorKind::Input,
            Self::Start { .. }
            | Self::Disk { .. }
            | Self::NotInMemory { .. }
            | Self::Remote { .. }
            | Self::TimedOut { .. }
            | Self::Failed { .. }
            | Self::Damaged { .. }
            | Self::Contended { .. }
            | Self::Interrupted { .. }
            | Self::NotLeader { .. } => ErrorKind::Transient,
            Self::Shared(error) => error.kind(),
            Self::Refused { .. } | Self::Proposed { .. } => ErrorKind::Refused,
            Self::Signing { .. }
            | Self::RollbackBlocked { .. }
            | Self::NoBranch { .. }
            | Self::NoFile { .. }
            | Self::File { .. }
            | Self::Values { .. }
            | Self::Nothing(_)
            | Self::Invalid { .. } => ErrorKind::Input,
            Self::Shallow { .. } | Self::Rewritten { .. } | Self::Unsafe { .. } => ErrorKind::Stopped,
        }
    }

    /// The word for it in a condition, and an event's reason.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Start { .. } => "NoGitProgram",
            Self::Disk { .. } => "DiskNotWritable",
            Self::NotInMemory { .. } => "NoMemoryForKeys",
            Self::TimedOut { .. } => "HostTimedOut",
            Self::Remote { fault, .. } => fault.reason(),
            Self::Signing { .. } => "SigningFailed",
            Self::Failed { .. } => "GitFailed",
            Self::Damaged { .. } => "MirrorDamaged",
            Self::NoBranch { .. } => "NoSuchBranch",
            Self::Shallow { .. } => "ShallowHistory",
            Self::Rewritten { .. } => "HistoryRewritten",
            Self::Refused { .. } => "PushRefused",
            Self::Proposed { .. } => "PullRequestNeeded",
            Self::RollbackBlocked { .. } => ROLLBACK_BLOCKED,
            Self::NoFile { .. } => "NoSuchFile",
            Self::File { .. } | Self::Values { .. } => "BadValuesFile",
            Self::Contended { .. } => "BranchContended",
            Self::Unsafe { .. } => "UnsafeCommit",
            Self::NotLeader { .. } => "NotLeader",
            Self::Interrupted { .. } => "Interrupted",
            Self::Shared(error) => error.reason(),
            Self::Nothing(_) => "NothingToCommit",
            Self::Invalid { .. } => "InvalidField",
        }
    }
}

fn behind(commits: &[String]) -> String {
    if commits.is_empty() {
        String::new()
    } else {
        format!("; changed by {}", commits.join("; "))
    }
}
