//! The part of PromQL that is asked of the synthetic source: the samples of one selector, and how much counters rose. Pure; it must not
//! know any series.

use std::collections::HashSet;

/// A query.
#[derive(Debug)]
pub(crate) enum Question {
    /// Raw samples.
    Samples(Selector),
    /// How much counters rose, summed by these labels.
    Buckets { by: Vec<String>, selector: Selector },
}

impl Question {
    /// # Errors
    /// What is not understood.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let Some(rest) = text.strip_prefix("sum by (") else {
            return Selector::parse(text).map(Self::Samples);
        };
        let (by, rest) = rest.split_once(") (increase(").ok_or("a sum of something unknown")?;
        let selector = rest.strip_suffix("))").ok_or("a sum that does not end")?;
        Ok(Self::Buckets {
            by: by.split(',').map(|label| label.trim().to_owned()).collect(),
            selector: Selector::parse(selector)?,
        })
    }
}

/// Which series, and how far back.
#[derive(Debug)]
pub(crate) struct Selector {
    matchers: Vec<Matcher>,
    pub(crate) range_ms: i64,
}

/// One condition. Regular expressions are taken where they are alternatives of plain texts, as Serin's are.
#[derive(Debug)]
struct Matcher {
    label: String,
    values: HashSet<String>,
    negated: bool,
}

impl Selector {
    /// Whether it selects what has these labels.
    pub(crate) fn fits<'a>(&self, label: impl Fn(&str) -> &'a str) -> bool {
        let mut matchers = self.matchers.iter();
        matchers.all(|matcher| matcher.values.contains(label(&matcher.label)) != matcher.negated)
    }

    /// The only values of a label that fit, where these are few.
    pub(crate) fn only(&self, label: &str) -> Option<&HashSet<String>> {
        let mut of = self
            .matchers
            .iter()
            .filter(|matcher| matcher.label == label && !matcher.negated);
        of.next().map(|matcher| &matcher.values)
    }

    /// # Errors
    /// What is not understood.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let (name, rest) = text
            .split_once('{')
            .ok_or_else(|| format!("no selector: {text:.200}"))?;
        let mut matchers = Vec::new();
        if !name.trim().is_empty() {
            matchers.push(Matcher {
                label: "__name__".to_owned(),
                values: HashSet::from([name.trim().to_owned()]),
                negated: false,
            });
        }
        let mut rest = rest;
        loop {
            rest = rest.trim_start_matches([',', ' ']);
            if let Some(after) = rest.strip_prefix('}') {
                rest = after;
                break;
            }
            let quote = rest.find('"').ok_or("a matcher has no value")?;
            let (head, tail) = rest.split_at(quote);
            let at = head.find(['=', '!']).ok_or("a matcher has no operator")?;
            let (label, operator) = head.split_at(at);
            let (value, after) = quoted(tail.get(1..).unwrap_or_default())?;
            let operator = operator.trim();
            matchers.push(Matcher {
                label: label.trim().to_owned(),
                values: match operator {
                    "=" | "!=" => HashSet::from([value]),
                    "=~" | "!~" => alternatives(&value)?,
                    other => return Err(format!("an operator that is none: {other}")),
                },
                negated: operator.starts_with('!'),
            });
            rest = after;
        }
        let range = rest.trim().strip_prefix('[').and_then(|rest| rest.strip_suffix("ms]"));
        let range = range.ok_or_else(|| format!("no range in milliseconds: {rest:.200}"))?;
        Ok(Self {
            matchers,
            range_ms: range.parse().map_err(|_| format!("the range {range}"))?,
        })
    }
}

/// A string up to its closing quote, and what comes after it.
fn quoted(text: &str) -> Result<(String, &str), String> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((value, text.get(at + 1..).unwrap_or_default())),
            '\\' => match chars.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, other)) => value.push(other),
                None => break,
            },
            other => value.push(other),
        }
    }
    Err("a string does not end".to_owned())
}

/// The texts that a pattern of alternatives fits; `(\.0)?` is the one optional part that is known.
fn alternatives(pattern: &str) -> Result<HashSet<String>, String> {
    let mut all = HashSet::new();
    let (mut plain, mut optional) = (String::new(), false);
    let mut chars = pattern.chars().peekable();
    let mut rest = pattern;
    while let Some(c) = chars.next() {
        rest = rest.get(c.len_utf8()..).unwrap_or_default();
        match c {
            '|' => {
                insert(&mut all, &mut plain, &mut optional);
            }
            '\\' => {
                let next = chars.next().ok_or("a pattern ends in a backslash")?;
                rest = rest.get(next.len_utf8()..).unwrap_or_default();
                plain.push(next);
            }
            '(' if rest.starts_with("\\.0)?") => {
                optional = true;
                for _ in 0.."\\.0)?".len() {
                    chars.next();
                }
                rest = rest.get("\\.0)?".len()..).unwrap_or_default();
            }
            '.' | '+' | '*' | '?' | '(' | ')' | '[' | ']' | '{' | '}' | '^' | '$' => {
                return Err(format!("a pattern that is more than alternatives: {pattern:.200}"));
            }
            other => plain.push(other),
        }
    }
    insert(&mut all, &mut plain, &mut optional);
    Ok(all)
}

fn insert(all: &mut HashSet<String>, plain: &mut String, optional: &mut bool) {
    let text = std::mem::take(plain);
    if std::mem::take(optional) {
        all.insert(format!("{text}.0"));
    }
    all.insert(text);
}
