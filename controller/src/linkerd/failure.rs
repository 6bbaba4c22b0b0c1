//! Which answers count as failures. Must not know where the labels come from.

use super::metrics;

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

/// Codes that Linkerd counts as success although a client has not got what it asked for: RESOURCE_EXHAUSTED, UNIMPLEMENTED.
pub const HIDDEN_FAILURES: [u8; 2] = [8, 12];

/// A word that is no gRPC status code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no gRPC status code; write its name, such as UNIMPLEMENTED, or its number, 0 to 16")]
pub struct UnknownCode(pub String);

/// The number of a gRPC status code given by name or number.
pub fn code_number(code: &str) -> Result<u8, UnknownCode> {
    let known = |n: &u8| usize::from(*n) < CODES.len();
    let by_name = || {
        CODES
            .iter()
            .position(|name| *name == code)
            .and_then(|n| u8::try_from(n).ok())
    };
    code.parse()
        .ok()
        .filter(known)
        .or_else(by_name)
        .ok_or_else(|| UnknownCode(code.to_owned()))
}

/// Whether a response with these labels failed: Linkerd's own classification, and the codes that a rollout adds.
///
/// Not by `grpc_status` alone: a call that the *client* cancelled shows as status 2 and is classified `success`.
/// Linkerd itself takes 2, 4, 7, 13, 14 and 15 for failures; UNIMPLEMENTED and RESOURCE_EXHAUSTED are no failures to it.
pub fn is_failure(classification: &str, grpc_status: &str, extra_codes: &[u8]) -> bool {
    classification == metrics::FAILURE || grpc_status.parse().is_ok_and(|code: u8| extra_codes.contains(&code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clients_cancel_is_no_failure_although_its_status_is_unknown() {
        assert!(!is_failure("success", "2", &[]));
        assert!(is_failure("failure", "14", &[]));
    }

    #[test]
    fn added_codes_count_whatever_linkerd_thinks_of_them() {
        assert!(!is_failure("success", "12", &[]));
        assert!(is_failure("success", "12", &[8, 12]));
        assert!(!is_failure("success", "", &[8, 12]), "plain HTTP has no code");
    }

    #[test]
    fn codes_are_read_by_name_and_by_number() {
        assert_eq!(code_number("UNIMPLEMENTED"), Ok(12));
        assert_eq!(code_number("16"), Ok(16));
        assert_eq!(code_number("17"), Err(UnknownCode("17".into())));
        assert_eq!(code_number("unimplemented!"), Err(UnknownCode("unimplemented!".into())));
    }
}
