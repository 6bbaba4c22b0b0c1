//! Which plain scalars are texts: the two versions of YAML do not agree. It must not know where they stand.

pub(super) fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

/// Whether YAML 1.1 or 1.2 would read this plain scalar as something else than a text.
///
/// Helm reads YAML 1.1 (`yes`, `0777`, `1:30`), others 1.2: what either takes for a number or a boolean is no text here.
pub(in super::super) fn is_ambiguous(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    if is_null(text)
        || matches!(
            lower.as_str(),
            "y" | "n" | "yes" | "no" | "on" | "off" | "true" | "false" | "=" | "<<"
        )
    {
        return true;
    }
    let unsigned = lower.strip_prefix(['-', '+']).unwrap_or(&lower);
    if matches!(unsigned, ".inf" | ".nan") {
        return true;
    }
    let of = |prefix: &str, digits: fn(char) -> bool| {
        unsigned
            .strip_prefix(prefix)
            .is_some_and(|rest| !rest.is_empty() && rest.chars().all(|c| c == '_' || digits(c)))
    };
    of("0x", |c| c.is_ascii_hexdigit())
        || of("0o", |c| c.is_digit(8))
        || of("0b", |c| c.is_digit(2))
        || is_decimal(unsigned)
        || is_base_sixty(unsigned)
        || is_date(text)
}

fn is_decimal(text: &str) -> bool {
    let (mantissa, exponent) = match text.split_once('e') {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let digits = |text: &str| text.chars().all(|c| c.is_ascii_digit() || c == '_');
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let exponent_ok = exponent.is_none_or(|exponent| {
        let exponent = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
        !exponent.is_empty() && digits(exponent)
    });
    mantissa.chars().any(|c| c.is_ascii_digit())
        && !whole.starts_with('_')
        && digits(whole)
        && digits(fraction)
        && exponent_ok
}

fn is_base_sixty(text: &str) -> bool {
    text.contains(':')
        && text.chars().all(|c| c.is_ascii_digit() || matches!(c, ':' | '_' | '.'))
        && text.split(':').all(|part| part.chars().any(|c| c.is_ascii_digit()))
}

fn is_date(text: &str) -> bool {
    let mut parts = text.splitn(3, '-');
    let numeric = |part: Option<&str>, len: std::ops::RangeInclusive<usize>| {
        part.is_some_and(|part| len.contains(&part.len()) && part.chars().all(|c| c.is_ascii_digit()))
    };
    numeric(parts.next(), 4..=4)
        && numeric(parts.next(), 1..=2)
        && parts
            .next()
            .is_some_and(|day| day.starts_with(|c: char| c.is_ascii_digit()))
}
