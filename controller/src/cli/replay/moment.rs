//! A time as it is written on the command line. Pure: the present is an argument.

use jiff::{SignedDuration, Timestamp};

/// A point in time, or so long ago.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    /// Then.
    At(Timestamp),
    /// So long before the present.
    Ago(SignedDuration),
}

impl Moment {
    /// The time that is meant.
    pub(super) fn resolve(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(at) => at,
            Self::Ago(span) => now.checked_sub(span).unwrap_or(Timestamp::MIN),
        }
    }
}

/// Reads a time.
pub(super) fn parse(text: &str) -> Result<Moment, String> {
    if let Ok(at) = text.parse() {
        return Ok(Moment::At(at));
    }
    match text.parse::<SignedDuration>() {
        Ok(span) if !span.is_negative() => Ok(Moment::Ago(span)),
        _ => Err("write a time such as 2026-11-20T10:00:00Z, or how long ago it was, such as 90m".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_time_or_how_long_ago() {
        let now: Timestamp = "2026-11-20T12:00:00Z".parse().unwrap();
        let at = |text: &str| parse(text).map(|moment| moment.resolve(now).to_string());
        assert_eq!(at("2026-11-20T10:00:00Z").unwrap(), "2026-11-20T10:00:00Z");
        assert_eq!(at("2026-11-20T11:00:00+01:00").unwrap(), "2026-11-20T10:00:00Z");
        assert_eq!(at("1h30m").unwrap(), "2026-11-20T10:30:00Z");
        assert!(at("yesterday").unwrap_err().contains("90m"));
        assert!(at("-5m").is_err());
    }
}
