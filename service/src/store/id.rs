//! The ids of users: UUIDs of version 7, whose order is that of creation. It must not know how users are kept.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use thiserror::Error;

/// Says which user. Ordered by time of creation, so that it is also the key for paging.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct UserId(u128);

/// A text that is no user's id.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("not a user id")]
pub(crate) struct NotAnId;

impl UserId {
    /// The id of a user created `now`: RFC 9562's version 7, made unique by 74 bits of `random`.
    pub(crate) fn new(now: Timestamp, random: u128) -> Self {
        const VERSION_7: u128 = 0x7 << 76;
        const VARIANT: u128 = 0b10 << 62;
        const RANDOM: u128 = (0xfff << 64) | ((1 << 62) - 1);
        let milliseconds = u128::try_from(now.as_millisecond()).unwrap_or_default() & ((1 << 48) - 1);
        Self((milliseconds << 80) | VERSION_7 | VARIANT | (random & RANDOM))
    }

    pub(crate) fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }

    pub(crate) fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let group = |shift: u32, bits: u32| (self.0 >> shift) & ((1 << bits) - 1);
        write!(
            f,
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            group(96, 32),
            group(80, 16),
            group(64, 16),
            group(48, 16),
            group(0, 48)
        )
    }
}

impl FromStr for UserId {
    type Err = NotAnId;

    /// Accepts only the form that ids are given out in: one user has one id.
    fn from_str(text: &str) -> Result<Self, NotAnId> {
        let id = u128::from_str_radix(&text.replace('-', ""), 16)
            .map(Self)
            .map_err(|_| NotAnId)?;
        if id.to_string() == text { Ok(id) } else { Err(NotAnId) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millisecond: i64) -> Timestamp {
        Timestamp::from_millisecond(millisecond).unwrap()
    }

    #[test]
    fn ids_have_the_layout_of_version_7() {
        let id = UserId::new(at(0x0123_4567_89ab), u128::MAX);
        assert_eq!(id.to_string(), "01234567-89ab-7fff-bfff-ffffffffffff");
        assert_eq!(
            UserId::new(at(0), 0).to_string(),
            "00000000-0000-7000-8000-000000000000"
        );
    }

    #[test]
    fn ids_are_ordered_by_creation() {
        assert!(UserId::new(at(1), u128::MAX) < UserId::new(at(2), 0));
    }

    #[test]
    fn only_the_form_given_out_is_an_id() {
        let id = UserId::new(at(1_700_000_000_000), 42);
        let text = id.to_string();
        assert_eq!(text.parse(), Ok(id));
        for refused in [
            "",
            "x",
            "-",
            "+1",
            &text.to_uppercase(),
            &text.replace('-', ""),
            &format!("{text}0"),
        ] {
            assert_eq!(refused.parse::<UserId>(), Err(NotAnId), "{refused}");
        }
    }
}
