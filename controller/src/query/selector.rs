//! Which queries can be counted exactly: selectors, alone or in `sum(…)`, added up with `+`. What is inside of a selector's
//! braces is the server's to judge.
//!
//! Everything else loses what counting needs: a `sum` of an expression hides which of its series began anew, and a `rate` is
//! no count at all.

use super::template::Problem;

/// The selectors of a query.
pub(super) fn split(query: &str) -> Result<Vec<String>, Problem> {
    let mut rest = query.trim();
    let mut selectors = Vec::new();
    loop {
        let (selector, after) = term(rest)?;
        selectors.push(selector.to_owned());
        match after.trim_start().strip_prefix('+') {
            Some(next) => rest = next.trim_start(),
            None if after.trim().is_empty() => return Ok(selectors),
            None => return Err(no_count(after.trim())),
        }
    }
}

/// One selector, perhaps in `sum(…)`, and what follows it.
fn term(text: &str) -> Result<(&str, &str), Problem> {
    let name_ends = text
        .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'))
        .unwrap_or(text.len());
    let (name, after) = text.split_at(name_ends);
    if name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(no_count(text));
    }
    if let Some(inner) = after.trim_start().strip_prefix('(') {
        return match name {
            "sum" => in_sum(inner),
            "rate" | "irate" | "increase" | "delta" | "idelta" => Err(Problem::new(format!(
                "`{name}` estimates how a counter grew; write the counter itself, and Serin counts exactly"
            ))),
            _ => Err(no_count(text)),
        };
    }
    let Some(matchers) = after.strip_prefix('{') else {
        return if name.is_empty() {
            Err(no_count(text))
        } else {
            Ok((name, after))
        };
    };
    let Some(length) = closing(matchers) else {
        return Err(Problem::new("a `{` in it is never closed"));
    };
    let (selector, after) = text.split_at(name_ends + 1 + length + 1);
    match after.trim_start().chars().next() {
        None | Some('+' | ')') => Ok((selector, after)),
        Some('[') => Err(Problem::new(
            "it selects a range; leave the brackets out, Serin asks for the range that it needs",
        )),
        Some(_) => Err(no_count(after.trim())),
    }
}

fn in_sum(text: &str) -> Result<(&str, &str), Problem> {
    let (selector, after) = term(text.trim_start())?;
    match after.trim_start().strip_prefix(')') {
        Some(after) => Ok((selector, after)),
        None => Err(no_count(after.trim())),
    }
}

/// Where the braces end; braces inside of strings are no braces.
fn closing(text: &str) -> Option<usize> {
    let (mut quote, mut escaped) = (None, false);
    for (at, c) in text.char_indices() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some(open) if c == '\\' && open != '`' => escaped = true,
            Some(open) if c == open => quote = None,
            None if matches!(c, '"' | '\'' | '`') => quote = Some(c),
            None if c == '}' => return Some(at),
            Some(_) | None => {}
        }
    }
    None
}

fn no_count(at: &str) -> Problem {
    let at: String = at.chars().take(40).collect();
    let at = if at.is_empty() {
        "nothing".to_owned()
    } else {
        format!("`{at}`")
    };
    Problem::new(format!(
        "it can't be counted exactly at {at}; write a counter's selector, or `sum(selector)`, and add several with `+`"
    ))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn selectors_sums_of_one_and_their_additions_are_counted() {
        for (query, selectors) in [
            ("a_total", vec!["a_total"]),
            ("sum(a_total)", vec!["a_total"]),
            (r#" a:b{x="}+",y='\'}'} "#, vec![r#"a:b{x="}+",y='\'}'}"#]),
            (
                r#"sum( a{x="1"} ) + b{y="2"}+c"#,
                vec![r#"a{x="1"}"#, r#"b{y="2"}"#, "c"],
            ),
            (r#"{__name__=~"a|b"}"#, vec![r#"{__name__=~"a|b"}"#]),
        ] {
            assert_eq!(split(query).unwrap(), selectors, "{query}");
        }
    }

    #[test]
    fn all_else_is_refused_with_what_would_be_right() {
        for (query, says) in [
            ("rate(a[1m])", "`rate` estimates"),
            ("sum(increase(a[1m]))", "`increase` estimates"),
            ("a{x=\"1\"}[5m]", "leave the brackets out"),
            ("sum by (pod) (a)", "can't be counted exactly"),
            ("sum(a) by (pod)", "can't be counted exactly at `by (pod)`"),
            ("a - b", "can't be counted exactly at `- b`"),
            ("a + ", "can't be counted exactly at nothing"),
            ("1", "can't be counted exactly"),
            ("max(a)", "can't be counted exactly"),
            ("a{x=\"1\"} offset 5m", "can't be counted exactly at `offset 5m`"),
            ("a{x=\"1", "never closed"),
            ("sum(a", "can't be counted exactly at nothing"),
            ("a{b=\"c\"})", "can't be counted exactly"),
        ] {
            let said = split(query).unwrap_err().to_string();
            assert!(said.contains(says), "{query}: {said}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,60}") {
            let _ = split(&text);
        }
    }
}
