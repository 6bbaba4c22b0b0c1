//! Every way in which a write of traffic can fail, each with what to do next. Must not know why it was written.

use std::time::Duration;

use serin_core::Weight;

/// Why an object could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The API server did not answer.
    #[error("{doing} {object}: the API server did not answer within {after:?}; whether it was done is not known")]
    Timeout {
        /// What was being done.
        doing: &'static str,
        /// To what.
        object: String,
        /// How long was waited.
        after: Duration,
    },
    /// Somebody wrote it meanwhile, again and again.
    #[error("{doing} {object}: it changes under our hands; see its managedFields for who else writes it")]
    Conflict {
        /// What was being done.
        doing: &'static str,
        /// To what.
        object: String,
    },
    /// Serin may not.
    #[error("{doing} {object} is forbidden: {message}; grant it to Serin's ServiceAccount")]
    Forbidden {
        /// What was being done.
        doing: &'static str,
        /// To what.
        object: String,
        /// The API server's words.
        message: String,
    },
    /// It is not there.
    #[error("{doing} {object}: it does not exist")]
    NotFound {
        /// What was being done.
        doing: &'static str,
        /// To what.
        object: String,
    },
    /// The cluster does not know this kind.
    #[error(
        "{doing} {object}: the cluster serves none of {wanted}; install its CRDs, or choose another spec.route.kind"
    )]
    KindNotServed {
        /// What was being done.
        doing: &'static str,
        /// To what.
        object: String,
        /// The versions that Serin can use, best first.
        wanted: String,
    },
    /// The adopted route does not split between the arms.
    #[error("writing the weights of {object}: {why}")]
    Misfit {
        /// Which.
        object: String,
        /// What it lacks.
        why: String,
    },
    /// It is someone else's.
    #[error("{object} exists and is not this rollout's but {owner}'s; rename or remove it")]
    Foreign {
        /// Which.
        object: String,
        /// Whose it is, as far as can be told.
        owner: String,
    },
    /// It is being deleted; it can be made again when it is gone.
    #[error("{object} is being deleted; it is made again when it is gone")]
    Deleting {
        /// Which.
        object: String,
    },
    /// The weight was lowered since it was read: that may be an unrecorded fail, and is not overwritten by more.
    #[error(
        "{object}: the canary's weight was lowered from {from} to {to} while {wanted} was being written; judge again before raising it"
    )]
    Lowered {
        /// Which.
        object: String,
        /// What was read before.
        from: Weight,
        /// What stands now.
        to: Weight,
        /// What was to be written.
        wanted: Weight,
    },
    /// The apex Service lacks the port.
    #[error("spec.service.port: the Service {service} has no port {port}")]
    NoSuchPort {
        /// Which Service.
        service: String,
        /// Which port.
        port: u16,
    },
    /// The API server refused for another reason, or could not be reached.
    #[error("{doing} {object} failed: {source}")]
    Api {
        /// What was being done.
        doing: &'static str,
        /// To what.
        object: String,
        /// The API server's words.
        #[source]
        source: Box<kube::Error>,
    },
}

impl Error {
    /// Sorts an error of the client.
    pub(super) fn of(doing: &'static str, object: &str, error: kube::Error) -> Self {
        let object = object.to_owned();
        let kube::Error::Api(status) = &error else {
            return Self::Api {
                doing,
                object,
                source: Box::new(error),
            };
        };
        match status.code {
            403 => Self::Forbidden {
                doing,
                object,
                message: status.message.clone(),
            },
            // Only an object that is missing is named in the answer; an unknown kind is a bare 404.
            404 if status.details.as_ref().is_some_and(|d| !d.name.is_empty()) => Self::NotFound { doing, object },
            404 => Self::KindNotServed {
                doing,
                object,
                wanted: "the versions that it served before".to_owned(),
            },
            409 => Self::Conflict { doing, object },
            _ => Self::Api {
                doing,
                object,
                source: Box::new(error),
            },
        }
    }

    /// Whether the API server found the patch not to fit the object: a `test` in it failed, or the result is invalid.
    pub(super) fn is_unfit(&self) -> bool {
        matches!(self, Self::Api { source, .. } if matches!(&**source, kube::Error::Api(status) if status.code == 422))
    }
}
