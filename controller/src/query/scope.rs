//! Keeps a user's query to one namespace: every selector in it gets a matcher of the label `namespace`, beside those that it
//! has. Text only.
//!
//! # Guarantees
//! Whatever is not understood is refused, and what a Prometheus would refuse may pass: every series that an accepted query can
//! read has the label.
//!
//! # Caveats
//! Words that PromQL takes for operators are operators here; a metric of such a name is asked for as `{__name__="…"}`.

use super::template::Problem;

/// Words with a list of labels in brackets behind them.
const WITH_LABELS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];
/// Operators that stand between two operands.
const BETWEEN: [&str; 5] = ["and", "or", "unless", "atan2", "offset"];

/// The query, with every selector kept to this namespace.
///
/// # Errors
/// When it can't be told where its selectors are.
pub(super) fn within(query: &str, namespace: &str) -> Result<String, Problem> {
    let mut scope = Scope {
        rest: query,
        matcher: format!("namespace=\"{namespace}\""),
        out: String::with_capacity(query.len() + 64),
        last: Last::Begin,
    };
    while !scope.rest.is_empty() {
        scope.step()?;
    }
    Ok(scope.out)
}

/// What stands before the place that is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Last {
    Begin,
    /// Something that has a value: only an operator may follow.
    Operand,
    Comparison,
    Other,
}

struct Scope<'a> {
    rest: &'a str,
    matcher: String,
    out: String,
    last: Last,
}

impl<'a> Scope<'a> {
    fn step(&mut self) -> Result<(), Problem> {
        let Some(c) = self.rest.chars().next() else {
            return Ok(());
        };
        match c {
            c if c.is_ascii_whitespace() => {
                let (space, rest) = self.rest.split_at(1);
                self.copy(space, rest);
            }
            '#' => {
                // A comment says nothing, and hides nothing that follows.
                self.rest = self.rest.split_once('\n').map_or("", |(_, rest)| rest);
                self.out.push('\n');
            }
            '"' | '\'' | '`' => {
                let end = string(self.rest).ok_or_else(|| never_ends("a string"))?;
                self.take(end, Last::Operand);
            }
            '{' => {
                self.selector()?;
                self.last = Last::Operand;
            }
            '[' => {
                let end = self.rest.find(']').ok_or_else(|| never_ends("a `[`"))?;
                if self
                    .rest
                    .get(..end)
                    .is_some_and(|range| range.contains(['{', '"', '\'', '`', '(', '#']))
                {
                    return Err(Problem::new(
                        "a range in it is no duration; write a duration such as `[5m]`",
                    ));
                }
                self.take(end + 1, Last::Operand);
            }
            c if c.is_ascii_alphabetic() || c == '_' || c == ':' => self.word()?,
            c if c.is_ascii_digit() || c == '.' => {
                let end = self.end_of(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_'));
                self.take(end, Last::Operand);
            }
            ')' => self.take(1, Last::Operand),
            '=' | '<' | '>' | '!' => self.take(1, Last::Comparison),
            '(' | ',' | '+' | '-' | '*' | '/' | '%' | '^' | '@' => self.take(1, Last::Other),
            other => {
                return Err(Problem::new(format!(
                    "`{other}` in it can't be understood; leave it out, or put it into a string"
                )));
            }
        }
        Ok(())
    }

    /// A word: a metric's name, or something that reads nothing.
    fn word(&mut self) -> Result<(), Problem> {
        let end = self.end_of(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':');
        let (word, after) = self.rest.split_at(end);
        let name = word.to_ascii_lowercase();
        let next = after.trim_start();
        let is = |words: &[&str]| words.contains(&name.as_str());
        let odd = || {
            Problem::new(format!(
                "`{word}` in it stands where a metric could; if it is one, write {{__name__=\"{word}\"}}"
            ))
        };
        if is(&WITH_LABELS) {
            let of_group = name.starts_with("group_") && self.last == Last::Operand && !next.starts_with(['(', '{']);
            if let Some(labels) = next.strip_prefix('(') {
                let (list, rest) = labels.split_once(')').ok_or_else(|| never_ends("a list of labels"))?;
                if list.contains(['{', '(', '"', '\'', '`', '#']) {
                    return Err(Problem::new(format!(
                        "the list of labels behind `{word}` has more than labels"
                    )));
                }
                self.out.push_str(&format!("{word} ({list})"));
                (self.rest, self.last) = (rest, Last::Operand);
                return Ok(());
            }
            if !of_group {
                return Err(odd());
            }
            self.take(end, Last::Operand);
        } else if is(&BETWEEN) {
            if self.last != Last::Operand {
                return Err(odd());
            }
            self.take(end, Last::Other);
        } else if name == "bool" {
            if self.last != Last::Comparison {
                return Err(odd());
            }
            self.take(end, Last::Other);
        } else if is(&["inf", "nan"]) && !next.starts_with('{') {
            self.take(end, Last::Operand);
        } else if next.starts_with('(') || followed_by_labels(next) {
            // A function or an aggregation; what it is given is looked at in its turn.
            self.take(end, Last::Other);
        } else if next.starts_with('{') {
            self.copy(word, next);
            self.selector()?;
            self.last = Last::Operand;
        } else {
            self.out.push_str(&format!("{word}{{{}}}", self.matcher));
            (self.rest, self.last) = (after, Last::Operand);
        }
        Ok(())
    }

    /// The braces of a selector, with our matcher before all others.
    fn selector(&mut self) -> Result<(), Problem> {
        let inside = self.rest.get(1..).unwrap_or_default();
        let end = closing(inside).ok_or_else(|| never_ends("a `{`"))?;
        let (matchers, rest) = inside.split_at(end);
        let bare = outside_of_strings(matchers);
        let or = bare.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        if bare.contains('#') || or.into_iter().any(|word| word == "or") {
            return Err(Problem::new(
                "a selector in it has more than matchers; write matchers with commas between them",
            ));
        }
        let comma = if matchers.trim().is_empty() { "" } else { "," };
        self.out.push_str(&format!("{{{}{comma}{matchers}}}", self.matcher));
        self.rest = rest.get(1..).unwrap_or_default();
        Ok(())
    }

    fn end_of(&self, belongs: impl Fn(char) -> bool) -> usize {
        self.rest.find(|c| !belongs(c)).unwrap_or(self.rest.len())
    }

    fn take(&mut self, bytes: usize, last: Last) {
        let (taken, rest) = self.rest.split_at(bytes);
        self.copy(taken, rest);
        self.last = last;
    }

    fn copy(&mut self, taken: &str, rest: &'a str) {
        self.out.push_str(taken);
        self.rest = rest;
    }
}

/// Whether an aggregation's labels come before what it aggregates.
fn followed_by_labels(next: &str) -> bool {
    let end = next.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(next.len());
    let (word, after) = next.split_at(end);
    ["by", "without"].contains(&word.to_ascii_lowercase().as_str()) && after.trim_start().starts_with('(')
}

/// The length of the string at the beginning, with both quotes.
fn string(text: &str) -> Option<usize> {
    let mut chars = text.char_indices();
    let (_, quote) = chars.next()?;
    let mut escaped = false;
    for (at, c) in chars {
        match c {
            _ if escaped => escaped = false,
            '\\' if quote != '`' => escaped = true,
            c if c == quote => return Some(at + c.len_utf8()),
            _ => {}
        }
    }
    None
}

/// Where the braces end; braces inside of strings are no braces.
fn closing(text: &str) -> Option<usize> {
    let mut at = 0;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        match rest.chars().next()? {
            '"' | '\'' | '`' => at += string(rest)?,
            '}' => return Some(at),
            '{' => return None,
            c => at += c.len_utf8(),
        }
    }
    None
}

/// The text without what stands in strings.
fn outside_of_strings(text: &str) -> String {
    let (mut out, mut at) = (String::new(), 0);
    while let Some(c) = text.get(at..).and_then(|rest| rest.chars().next()) {
        match c {
            '"' | '\'' | '`' => at += text.get(at..).and_then(string).unwrap_or(text.len()),
            c => {
                out.push(c);
                at += c.len_utf8();
            }
        }
    }
    out
}

fn never_ends(what: &str) -> Problem {
    Problem::new(format!("{what} in it never ends"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_selector_is_kept_to_the_namespace() {
        for (query, is) in [
            ("up", r#"up{namespace="a"}"#),
            ("up{}", r#"up{namespace="a"}"#),
            (r#"{__name__=~".+"}"#, r#"{namespace="a",__name__=~".+"}"#),
            (
                r#"up {pod="}x",} offset 5m"#,
                r#"up{namespace="a",pod="}x",} offset 5m"#,
            ),
            (r#"up{namespace="b"}"#, r#"up{namespace="a",namespace="b"}"#),
            (
                "sum by (pod) (x) / on(pod) group_left sum(y)",
                r#"sum by (pod) (x{namespace="a"}) / on (pod) group_left sum(y{namespace="a"})"#,
            ),
            (
                "sum(rate(x[5m:1m])) > bool 1e-3",
                r#"sum(rate(x{namespace="a"}[5m:1m])) > bool 1e-3"#,
            ),
            (
                "a and b unless c",
                r#"a{namespace="a"} and b{namespace="a"} unless c{namespace="a"}"#,
            ),
            ("x # or secret\n+ y", "x{namespace=\"a\"} \n+ y{namespace=\"a\"}"),
            ("x @ start() - -Inf", r#"x{namespace="a"} @ start() - -Inf"#),
            (
                "histogram_quantile(0.9, sum(x) without (pod))",
                r#"histogram_quantile(0.9, sum(x{namespace="a"}) without (pod))"#,
            ),
            (
                "topk(3, count_values(\"v{\", x))",
                "topk(3, count_values(\"v{\", x{namespace=\"a\"}))",
            ),
        ] {
            assert_eq!(within(query, "a").unwrap(), is, "{query}");
        }
    }

    #[test]
    fn what_could_hide_a_selector_is_refused() {
        for query in [
            "sum(by)",
            "by + 1",
            "and",
            "x > (bool)",
            "on",
            "x[5m",
            "x{a=\"b",
            "x{a=\"1\"{b=\"2\"}",
            "sum(x) by (pod{})",
            "x[{secret}]",
            "x{pod=\"a\" or namespace=\"b\"}",
            "x{ # }\n pod=\"a\"}",
            "x;y",
            "\u{e9}",
            "offset",
            "group_left",
        ] {
            assert!(within(query, "a").is_err(), "{query}: {:?}", within(query, "a"));
        }
    }

    proptest! {
        /// Whatever a user writes: where a selector's braces stand, ours come first.
        #[test]
        fn no_text_makes_it_panic_or_leaves_a_selector_without(text in "[a-z{}()\\[\\]\"'`,=~!+#@ \n_0-9]{0,40}") {
            if let Ok(query) = within(&text, "a") {
                let braces = outside_of_strings(&query).matches('{').count();
                prop_assert!(query.matches("{namespace=\"a\"").count() >= braces, "{text:?} → {query:?}");
            }
        }

        #[test]
        fn any_text_at_all_is_survived(text in "\\PC{0,60}") {
            let _ = within(&text, "a");
        }
    }
}
