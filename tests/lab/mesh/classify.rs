//! What Linkerd thinks of an answer. Pure; it must not know how answers are counted.

use http::{HeaderMap, StatusCode};

/// The names of the gRPC status codes; a name's place is its number.
const CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// Failures to Linkerd, whatever one may think of the others.
const FAILURES: [u32; 6] = [2, 4, 7, 13, 14, 15];
const UNKNOWN: u32 = 2;

/// The code of calls that the mesh itself gives up.
pub(super) const UNAVAILABLE: u32 = 14;
/// The code of calls that no rule matches.
pub(super) const UNIMPLEMENTED: u32 = 12;

/// The name of a gRPC status, as outbound route metrics have it.
pub(super) fn code_name(code: u32) -> &'static str {
    let index = usize::try_from(code).unwrap_or(usize::MAX);
    CODES.get(index).copied().unwrap_or("UNKNOWN")
}

/// The gRPC status in headers or trailers.
pub(super) fn grpc_status(headers: &HeaderMap) -> Option<u32> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}

/// How a call ended, as `response_total` has it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    Grpc {
        failure: bool,
        status: u32,
    },
    Http {
        failure: bool,
    },
    /// The connection or the stream broke.
    Broken {
        error: &'static str,
    },
}

impl Class {
    /// A complete answer. `status` is what headers or trailers said; nobody said anything when the client went away.
    pub(super) fn of(is_grpc: bool, http: StatusCode, status: Option<u32>) -> Self {
        match status {
            Some(status) => Self::Grpc {
                failure: FAILURES.contains(&status),
                status,
            },
            // Not a failure, though its number is one of a failure.
            None if is_grpc && !http.is_server_error() => Self::Grpc {
                failure: false,
                status: UNKNOWN,
            },
            None => Self::Http {
                failure: http.is_server_error(),
            },
        }
    }

    /// Whether circuit breakers count it.
    pub(super) fn is_failure(&self) -> bool {
        match self {
            Self::Grpc { failure, .. } | Self::Http { failure } => *failure,
            Self::Broken { .. } => true,
        }
    }

    /// The labels `classification`, `grpc_status` and `error`.
    pub(super) fn labels(&self) -> String {
        let word = |failure: bool| if failure { "failure" } else { "success" };
        match self {
            Self::Grpc { failure, status } => {
                format!(
                    "classification=\"{}\",grpc_status=\"{status}\",error=\"\"",
                    word(*failure)
                )
            }
            Self::Http { failure } => format!("classification=\"{}\",grpc_status=\"\",error=\"\"", word(*failure)),
            Self::Broken { error } => format!("classification=\"failure\",grpc_status=\"\",error=\"{error}\""),
        }
    }
}

/// How a call broke, as the labels `error` of the outbound route metrics have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Broken {
    /// Nothing was available for too long.
    FailFast,
    Cancel,
    Refused,
    Reset,
    GoAway,
    Io,
    Unknown,
}

impl Broken {
    /// Looks for the HTTP/2 error behind one of hyper's.
    pub(super) fn of(error: &(dyn std::error::Error + 'static)) -> Self {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(error) = error.downcast_ref::<h2::Error>() {
                return match error.reason() {
                    _ if error.is_go_away() => Self::GoAway,
                    Some(h2::Reason::CANCEL) => Self::Cancel,
                    Some(h2::Reason::REFUSED_STREAM) => Self::Refused,
                    Some(_) => Self::Reset,
                    None if error.is_io() => Self::Io,
                    None => Self::Unknown,
                };
            }
            if error.is::<std::io::Error>() {
                return Self::Io;
            }
            next = error.source();
        }
        Self::Unknown
    }

    /// Whether the server ended this one stream, so that the client's is to end the same way.
    pub(super) fn is_of_the_stream(self) -> bool {
        matches!(self, Self::Cancel | Self::Refused | Self::Reset)
    }

    pub(super) fn label(self) -> &'static str {
        match self {
            Self::FailFast => "FAIL_FAST",
            Self::Cancel => "CANCEL",
            Self::Refused => "REFUSED",
            Self::Reset => "RESET",
            Self::GoAway => "GO_AWAY",
            Self::Io => "IO",
            Self::Unknown => "UNKNOWN",
        }
    }

    /// What `response_total` says.
    pub(super) fn class(self) -> Class {
        let error = match self {
            Self::Cancel => "h2(CANCEL)",
            Self::Refused => "h2(REFUSED_STREAM)",
            Self::Reset => "h2(INTERNAL_ERROR)",
            Self::GoAway => "h2(NO_ERROR)",
            Self::FailFast | Self::Io | Self::Unknown => "unclassified",
        };
        Class::Broken { error }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(is_grpc: bool, http: u16, status: Option<u32>) -> String {
        Class::of(is_grpc, StatusCode::from_u16(http).unwrap(), status).labels()
    }

    #[test]
    fn six_codes_are_failures() {
        let failures: Vec<_> = (0..=16)
            .filter(|code| labels(true, 200, Some(*code)).contains("failure"))
            .collect();
        assert_eq!(failures, [2, 4, 7, 13, 14, 15]);
    }

    #[test]
    fn a_clients_cancel_is_a_success_with_the_status_unknown() {
        assert_eq!(
            labels(true, 200, None),
            r#"classification="success",grpc_status="2",error="""#
        );
    }

    #[test]
    fn plain_http_is_judged_by_its_status() {
        assert_eq!(
            labels(false, 404, None),
            r#"classification="success",grpc_status="",error="""#
        );
        assert_eq!(
            labels(false, 503, None),
            r#"classification="failure",grpc_status="",error="""#
        );
    }

    #[test]
    fn codes_have_names_and_unknown_numbers_are_unknown() {
        assert_eq!(code_name(0), "OK");
        assert_eq!(code_name(14), "UNAVAILABLE");
        assert_eq!(code_name(99), "UNKNOWN");
    }
}
