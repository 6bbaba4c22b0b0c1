//! What can go wrong with the config repository, said so that somebody can act on it. It must not know Kubernetes.

use super::yaml::YamlError;

pub type Result<T, E = Error> = std::result::Result<T, E>;

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
    #[error("{repository} has no branch {branch}; check git.branch")]
    NoBranch { repository: String, branch: String },
    #[error(
        "{repository} has only a shallow history of {branch}, and reverting in it would delete files; serve the whole history"
    )]
    Shallow { repository: String, branch: String },
    #[error(
        "the history of {branch} in {repository} was rewritten: {known} is no longer part of it; Serin stops there. Find out who forced the push; to accept it, remove {cache}"
    )]
    Rewritten {
        repository: String,
        branch: String,
        known: String,
        cache: String,
    },
    #[error("{repository} refuses pushes to {branch}: {words}; allow Serin's identity to push there")]
    Refused {
        repository: String,
        branch: String,
        words: String,
    },
    #[error("{repository} has no file {file} at commit {commit}; check git.path, and the file's name below it")]
    NoFile {
        repository: String,
        file: String,
        commit: String,
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
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Start { .. }
            | Self::Disk { .. }
            | Self::TimedOut { .. }
            | Self::Failed { .. }
            | Self::Damaged { .. }
            | Self::Contended { .. }
            | Self::Interrupted { .. }
            | Self::NotLeader { .. } => ErrorKind::Transient,
            Self::Shared(error) => error.kind(),
            Self::Refused { .. } => ErrorKind::Refused,
            Self::NoBranch { .. }
            | Self::NoFile { .. }
            | Self::Values { .. }
            | Self::Nothing(_)
            | Self::Invalid { .. } => ErrorKind::Input,
            Self::Shallow { .. } | Self::Rewritten { .. } | Self::Unsafe { .. } => ErrorKind::Stopped,
        }
    }
}
