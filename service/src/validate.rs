//! What a field of a request may hold. It must not know where the values come from or go to.

use std::fmt;

/// RFC 5321 leaves this many bytes for an address.
const MAX_EMAIL_BYTES: usize = 254;
const MAX_DISPLAY_NAME_BYTES: usize = 200;

/// A value that a field cannot hold; says which field, and what it may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    /// The path in the request, such as `user.email`.
    pub(crate) field: &'static str,
    pub(crate) rule: &'static str,
}

/// All that is wrong with a request, so that its sender need not find out one by one. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Violations(Vec<Violation>);

impl Violations {
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Violation> {
        self.0.iter()
    }
}

impl From<Violation> for Violations {
    fn from(violation: Violation) -> Self {
        Self(vec![violation])
    }
}

impl fmt::Display for Violations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, Violation { field, rule }) in self.0.iter().enumerate() {
            let between = if number == 0 { "" } else { "; " };
            write!(f, "{between}{field}: {rule}")?;
        }
        Ok(())
    }
}

/// Both values, or what is wrong with either.
pub(crate) fn both<A, B>(a: Result<A, Violation>, b: Result<B, Violation>) -> Result<(A, B), Violations> {
    match (a, b) {
        (Ok(a), Ok(b)) => Ok((a, b)),
        (a, b) => Err(Violations(a.err().into_iter().chain(b.err()).collect())),
    }
}

/// Accepts what may be an address. Only a message sent there can show whether it is one.
pub(crate) fn email(text: &str) -> Result<String, Violation> {
    let violation = |rule| {
        Err(Violation {
            field: "user.email",
            rule,
        })
    };
    if text.is_empty() {
        return violation("must not be empty");
    }
    if text.len() > MAX_EMAIL_BYTES {
        return violation("must have at most 254 bytes");
    }
    if text.chars().any(|char| char.is_whitespace() || char.is_control()) {
        return violation("must not contain spaces or control characters");
    }
    match text.rsplit_once('@') {
        Some((local, domain)) if !local.is_empty() && !domain.is_empty() && !local.contains('@') => Ok(text.to_owned()),
        _ => violation("must be an address such as name@example.com"),
    }
}

/// Accepts any text of a sensible size that fits on one line.
pub(crate) fn display_name(text: &str) -> Result<String, Violation> {
    let violation = |rule| {
        Err(Violation {
            field: "user.display_name",
            rule,
        })
    };
    if text.len() > MAX_DISPLAY_NAME_BYTES {
        return violation("must have at most 200 bytes");
    }
    if text.chars().any(char::is_control) {
        return violation("must not contain control characters");
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_accepted() {
        let longest = format!("{}@example.com", "a".repeat(242));
        for accepted in ["a@b", "ada.lovelace+math@example.com", "käthe@exämple.de", &longest] {
            assert_eq!(email(accepted).as_deref(), Ok(accepted));
        }
    }

    #[test]
    fn what_cannot_be_an_address_is_refused() {
        let too_long = format!("{}@example.com", "a".repeat(243));
        for refused in [
            "",
            "ada",
            "@example.com",
            "ada@",
            "a@b@c",
            "a b@c",
            " a@b",
            "a@b\n",
            &too_long,
        ] {
            assert_eq!(email(refused).unwrap_err().field, "user.email", "{refused:?}");
        }
    }

    #[test]
    fn names_are_one_line_of_limited_size() {
        for accepted in ["", "Ada Lovelace", "山田 太郎", &"a".repeat(200)] {
            assert!(display_name(accepted).is_ok(), "{accepted:?}");
        }
        for refused in ["a\nb", "a\0b", &"a".repeat(201)] {
            assert!(display_name(refused).is_err(), "{refused:?}");
        }
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once() {
        let violations = both(email("ada"), display_name("a\nb")).unwrap_err();
        assert_eq!(
            violations.to_string(),
            "user.email: must be an address such as name@example.com; \
             user.display_name: must not contain control characters"
        );
        assert_eq!(
            both(email("a@b"), display_name("")),
            Ok(("a@b".to_owned(), String::new()))
        );
    }
}
