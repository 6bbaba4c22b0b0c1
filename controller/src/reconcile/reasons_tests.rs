//! That each reason of a condition stands in the documented list, and no other.

use std::collections::BTreeSet;

const LIST: &str = include_str!("../../../docs/conditions.md");
const TROUBLES: &str = include_str!("../../../docs/troubleshooting.md");

/// The words in double quotes that begin with a capital and are one word.
fn words(text: &str) -> BTreeSet<&str> {
    let is_word = |part: &&str| {
        let is_letter = |c: char| c.is_ascii_alphabetic();
        part.len() > 2 && part.chars().all(is_letter) && part.starts_with(|c: char| c.is_ascii_uppercase())
    };
    text.split('"').skip(1).step_by(2).filter(is_word).collect()
}

/// The text between two marks.
fn between<'a>(text: &'a str, from: &str, to: &str) -> &'a str {
    let (_, after) = text.split_once(from).expect("the first mark is there");
    after.split_once(to).expect("the second mark is there").0
}

/// The words in the list's backticks.
fn listed() -> BTreeSet<&'static str> {
    let words = LIST.split('`').skip(1).step_by(2);
    words
        .filter(|word| word.chars().all(|c| c.is_ascii_alphabetic()))
        .collect()
}

#[test]
fn each_reason_is_in_the_documented_list() {
    let conditions = include_str!("conditions.rs");
    let set_here = [
        between(conditions, "let mut list = List {", "/// What changed between"),
        between(conditions, "\nfn git(", "\nfn failure"),
        between(include_str!("refusal.rs"), "fn reason(self) -> &'static str", "\n}\n"),
        between(include_str!("desk.rs"), "fn reason(error: &anyhow::Error)", "\n}\n"),
        between(include_str!("desk.rs"), "ON_ITS_WAY: &str =", ";"),
        between(include_str!("../gitops/error.rs"), "pub fn reason(", "\n    }\n"),
        between(include_str!("../gitops/fault.rs"), "pub fn reason(", "\n    }\n"),
    ];
    let listed = listed();
    let set: BTreeSet<&str> = set_here
        .into_iter()
        .flat_map(words)
        .chain(["RollbackBlocked"])
        .collect();
    assert!(set.len() > 50, "there are reasons: {set:?}");
    let unknown: Vec<_> = set.difference(&listed).collect();
    assert!(unknown.is_empty(), "docs/conditions.md lacks {unknown:?}");
    let gone: Vec<_> = listed
        .difference(&set)
        .filter(|word| !["DeliveryBlocked", "True", "False"].contains(word))
        .collect();
    assert!(gone.is_empty(), "docs/conditions.md has what nobody sets: {gone:?}");
}

#[test]
fn each_condition_is_in_the_list_and_in_the_statuss_own_words() {
    let named = between(include_str!("../api/status.rs"), "/// Ready, SpecValid,", "#[schemars");
    let conditions: BTreeSet<&str> = named
        .split(|c: char| !c.is_ascii_alphabetic())
        .filter(|word| !word.is_empty())
        .chain(["Ready", "SpecValid"])
        .collect();
    assert_eq!(conditions.len(), 12, "{conditions:?}");
    for condition in conditions {
        assert!(
            LIST.contains(&format!("\n| `{condition}` |")),
            "docs/conditions.md lacks {condition}"
        );
        let is_explained = condition == "Ready" || TROUBLES.contains(condition);
        assert!(is_explained, "docs/troubleshooting.md lacks {condition}");
    }
}
