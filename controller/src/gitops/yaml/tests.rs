//! What values files mean, and which are refused.

use super::*;

fn read(text: &str) -> Yaml {
    parse(text).unwrap().value
}

#[test]
fn a_number_is_not_the_text_of_its_digits() {
    let root = read("a: 1.10\nb: \"1.10\"\nc: 1.2.0\nd: '1.2.0'\n");
    assert_eq!(root.get("a"), Some(&Yaml::Plain("1.10".into())));
    assert_eq!(root.get("b"), Some(&Yaml::Text("1.10".into())));
    assert_eq!(root.get("c"), root.get("d"));
}

#[test]
fn what_either_version_of_yaml_reads_as_no_text_is_ambiguous() {
    for text in [
        "",
        "~",
        "yes",
        "No",
        "on",
        "12",
        "-1",
        "1e3",
        "1234e5",
        "0x1f",
        "0o7",
        "1_000",
        ".5",
        "1.",
        "1:30",
        "2024-01-02",
        ".inf",
        "-.INF",
        ".NaN",
    ] {
        assert!(is_ambiguous(text), "{text:?}");
    }
    for text in [
        "1.2.0",
        "v1",
        "abc",
        "e5",
        "1e",
        "deadbeef",
        "sha-1",
        "1.2.0-rc.1",
        "a:b",
        "-",
        ".",
    ] {
        assert!(!is_ambiguous(text), "{text:?}");
    }
}

#[test]
fn merge_keys_and_aliases_mean_what_they_bring() {
    let root = read("base: &b {x: 1, y: 2}\nover:\n  <<: *b\n  y: 3\nsame: *b\n");
    assert_eq!(root.get("over"), Some(&read("{x: 1, y: 3}")));
    assert_eq!(root.get("same"), root.get("base"));
}

#[test]
fn a_merge_key_between_quotes_is_a_name() {
    let root = read("over:\n  \"<<\": x\n  '<<b': 1\n");
    assert_eq!(
        root.get("over").and_then(|over| over.get("<<")),
        Some(&Yaml::Text("x".into()))
    );
    assert!(parse("over:\n  <<: x\n").is_err());
}

#[test]
fn files_that_are_no_values_files_are_refused() {
    for text in [
        "",
        "a: [",
        "a: 1\n---\nb: 2\n",
        "a: 1\na: 2\n",
        "? x\n: y\n",
        "a: !thing 1\n",
        "a: &a [*a]\n",
        "{a, b}",
    ] {
        assert!(parse(text).is_err(), "{text:?}");
    }
}

#[test]
fn a_bomb_of_aliases_is_refused() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let of = format!("*a{}", level - 1);
        text.push_str(&format!("a{level}: &a{level} [{}]\n", [of.as_str(); 10].join(", ")));
    }
    assert!(matches!(parse(&text), Err(YamlError::TooLarge(_))));
}
