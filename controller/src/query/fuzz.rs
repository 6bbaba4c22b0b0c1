//! What must hold for any query that a user writes into a rollout: for `cargo fuzz`, and for properties in the tests.

use super::{CounterQuery, ValueQuery, Variables, scope};

const OURS: &str = "namespace=\"a\"";

/// No panic; and a query that is taken reads one namespace only: each selector of it begins with our matcher, and nothing that could
/// name a metric stands without one.
///
/// # Panics
/// When that does not hold.
pub fn query(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let variables = Variables {
        namespace: "a",
        ..Variables::sample()
    };
    let counters = CounterQuery::parse(&text).and_then(|query| query.render_within(&variables));
    let value = ValueQuery::parse(&text).and_then(|query| query.render_within(&variables));
    let bare = scope::within(&text, "a");
    for kept in counters.into_iter().flatten().chain(value).chain(bare) {
        reads_ours_only(&kept);
    }
}

/// By other means than [`scope`]: the query is cut into words, strings and signs.
fn reads_ours_only(query: &str) {
    let mut rest = query;
    while let Some(c) = rest.chars().next() {
        let length = match c {
            '"' | '\'' | '`' => string(rest),
            '{' => {
                let inside = rest.get(1..).unwrap_or_default();
                assert!(inside.starts_with(OURS), "a selector without the namespace: {query}");
                let after = inside.get(OURS.len()..).unwrap_or_default();
                assert!(after.starts_with([',', '}']), "the matcher goes on: {query}");
                1 + OURS.len()
            }
            c => c.len_utf8(),
        };
        rest = rest.get(length..).unwrap_or_default();
    }
    // Nothing hides behind a comment.
    assert!(!outside_of_strings(query).contains('#'), "a comment: {query}");
}

fn string(text: &str) -> usize {
    let mut chars = text.char_indices();
    let quote = chars.next().map(|(_, quote)| quote);
    while let Some((at, c)) = chars.next() {
        if c == '\\' && quote != Some('`') {
            chars.next();
        } else if Some(c) == quote {
            return at + 1;
        }
    }
    panic!("a string that never ends: {text}")
}

fn outside_of_strings(query: &str) -> String {
    let (mut out, mut rest) = (String::new(), query);
    while let Some(c) = rest.chars().next() {
        let length = if matches!(c, '"' | '\'' | '`') {
            string(rest)
        } else {
            out.push(c);
            c.len_utf8()
        };
        rest = rest.get(length..).unwrap_or_default();
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    fn texts() -> impl Strategy<Value = String> {
        let part = prop::sample::select(vec![
            "up",
            "sum",
            "(",
            ")",
            " by (pod) ",
            "{",
            "}",
            "pod=\"x\"",
            ",",
            "\"",
            "'",
            "`",
            "\\",
            "#",
            "\n",
            " or ",
            "[5m]",
            "[",
            "]",
            "{{pods}}",
            "{{namespace}}",
            "{{",
            "}}",
            "offset",
            " 5m",
            "@",
            "1e3",
            "=~",
            "!=",
            "group_left",
            "on",
            "and",
            "é",
            "inf",
        ]);
        prop::collection::vec(part, 0..14).prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn whatever_a_user_writes_reads_one_namespace(text in texts()) {
            super::query(text.as_bytes());
        }
    }

    #[test]
    fn the_seeds_hold() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/query");
        let seeds: Vec<_> = std::fs::read_dir(folder).unwrap().collect();
        assert!(seeds.len() >= 3);
        for seed in seeds {
            super::query(&std::fs::read(seed.unwrap().path()).unwrap());
        }
    }
}
