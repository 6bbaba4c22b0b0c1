//! What a client is told when a call fails: a code by the gRPC rules, a message for people, and details for programs
//! (google.rpc: ErrorInfo always, and what fits). It must tell nothing of our insides.

use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

use crate::page::UnknownToken;
use crate::store::StoreError;
use crate::validate::{Violation, Violations};

/// The domain of every ErrorInfo's reason.
const DOMAIN: &str = user_proto::SERVICE_NAME;
const USER: &str = "user.User";
/// When a client may come again; they add jitter of their own.
const RETRY_AFTER: Duration = Duration::from_secs(1);

fn details(reason: &str) -> ErrorDetails {
    let mut details = ErrorDetails::new();
    details.set_error_info(reason, DOMAIN, []);
    details
}

/// What the same call may get over, a little later.
fn retryable(code: Code, reason: &str, message: &str) -> Status {
    let mut details = details(reason);
    details.set_retry_info(Some(RETRY_AFTER));
    Status::with_error_details(code, message, details)
}

impl From<StoreError> for Status {
    fn from(error: StoreError) -> Self {
        let message = error.to_string();
        match error {
            StoreError::NotFound(id) => not_found(&id.to_string()),
            StoreError::EmailTaken(email) => {
                let mut details = details("EMAIL_TAKEN");
                details.set_resource_info(USER, email, "", "another user has this e-mail address");
                Self::with_error_details(Code::AlreadyExists, message, details)
            }
            StoreError::Stale(id) => {
                let mut details = details("STALE_ETAG");
                details.set_resource_info(USER, id.to_string(), "", "the etag is not the present one");
                Self::with_error_details(Code::Aborted, message, details)
            }
            StoreError::RequestReused => Violations::from(Violation {
                field: "request_id",
                rule: "was used to create another user; use a new one for each user",
            })
            .into(),
            StoreError::Unavailable(source) => {
                // Readiness tells of an outage once; this would tell of it with each call.
                tracing::debug!(error = %source, "the database does not answer");
                retryable(
                    Code::Unavailable,
                    "DATABASE_UNAVAILABLE",
                    "users can't be reached at the moment; try again",
                )
            }
            StoreError::SchemaBehind(source) => {
                tracing::warn!(
                    error = &source as &dyn std::error::Error,
                    "the database's schema is older than this version needs: migrate it, or set DATABASE_MIGRATE=apply"
                );
                retryable(
                    Code::Unavailable,
                    "SCHEMA_BEHIND",
                    "this can't be done before the database is brought further; try again later",
                )
            }
            StoreError::Broken(source) => {
                tracing::error!(
                    error = &source as &dyn std::error::Error,
                    "the database does not do what it should"
                );
                Self::with_error_details(Code::Internal, "an error of the service", details("INTERNAL"))
            }
        }
    }
}

/// Nobody has this id.
pub(super) fn not_found(id: &str) -> Status {
    let message = format!("no user has the id {id:.64}");
    let mut details = details("USER_NOT_FOUND");
    details.set_resource_info(USER, format!("{id:.64}"), "", "no user has this id");
    Status::with_error_details(Code::NotFound, message, details)
}

/// The database has no schema yet, as far as this process knows.
pub(crate) fn starting() -> Status {
    retryable(Code::Unavailable, "STARTING", "the service is starting; try again")
}

/// Too much at once: this call was not begun.
pub(crate) fn overloaded() -> Status {
    retryable(
        Code::ResourceExhausted,
        "OVERLOADED",
        "too many calls at once (MAX_CONCURRENT_CALLS); try again",
    )
}

/// The request is larger than this process reads.
pub(crate) fn too_large(message: &str) -> Status {
    Status::with_error_details(Code::ResourceExhausted, message, details("MESSAGE_TOO_LARGE"))
}

/// The client's own time for the call is over.
pub(crate) fn too_late() -> Status {
    Status::with_error_details(
        Code::DeadlineExceeded,
        "the deadline passed before the call was done",
        details("DEADLINE_EXCEEDED"),
    )
}

impl From<Violations> for Status {
    fn from(violations: Violations) -> Self {
        let message = violations.to_string();
        let fields: Vec<_> = violations
            .iter()
            .map(|violation| FieldViolation::new(violation.field, violation.rule))
            .collect();
        let mut details = details("INVALID_FIELDS");
        details.set_bad_request(fields);
        Self::with_error_details(Code::InvalidArgument, message, details)
    }
}

impl From<Violation> for Status {
    fn from(violation: Violation) -> Self {
        Violations::from(violation).into()
    }
}

impl From<UnknownToken> for Status {
    fn from(_: UnknownToken) -> Self {
        Violation {
            field: "page_token",
            rule: "is not a next_page_token of ListUsers; leave it empty to start again",
        }
        .into()
    }
}
