use proptest::prelude::*;

use super::*;

const FILE: &str = r#"# The environment prod.
replicas: 3 # of stable

stable: # what serves now
  # never by hand
  image:
    repository: &repo registry.example.com/user-service
    tag: "1.0.0" # the tag
  revision: '1.0.0'
  env: {}
canary:
  image:
    repository: *repo
    tag: "1.0.0"
  revision: '1.0.0'
  env: {}

# At the end.
rollout: {steps: [5, 25], hold: 2m}
"#;

fn path(dotted: &str) -> KeyPath {
    KeyPath::parse(dotted)
}

fn edit(text: &str, key: &str, wanted: &str) -> String {
    let wanted = Values::parse(wanted).unwrap();
    Values::parse(text)
        .unwrap()
        .with_subtree(&path(key), wanted.root())
        .unwrap()
}

fn set(text: &str, key: &str, pairs: &[(&str, Yaml)]) -> String {
    let values = Values::parse(text).unwrap();
    let mut wanted = values.subtree(&path(key)).unwrap().clone();
    for (key, value) in pairs {
        wanted.set(&path(key), value.clone()).unwrap();
    }
    values.with_subtree(&path(key), &wanted).unwrap()
}

fn word_of(text: &str) -> Yaml {
    Yaml::Text(text.into())
}

fn changed_lines<'t>(old: &'t str, new: &'t str) -> (Vec<&'t str>, Vec<&'t str>) {
    let gone = old
        .lines()
        .filter(|line| !new.lines().any(|other| other == *line))
        .collect();
    let come = new
        .lines()
        .filter(|line| !old.lines().any(|other| other == *line))
        .collect();
    (gone, come)
}

#[test]
fn only_the_changed_values_change() {
    let new = set(
        FILE,
        "canary",
        &[("image.tag", word_of("1.1.0")), ("revision", word_of("1.1.0"))],
    );
    let canary = FILE.find("canary:").unwrap();
    let (head, tail) = FILE.split_at(canary);
    let expected = format!(
        "{head}{}",
        tail.replacen("\"1.0.0\"", "\"1.1.0\"", 1)
            .replacen("'1.0.0'", "'1.1.0'", 1)
    );
    assert_eq!(new, expected);
}

#[test]
fn promotion_copies_values_and_keeps_the_comments_and_anchors_of_stable() {
    let canary = set(
        FILE,
        "canary",
        &[
            ("image.tag", word_of("1.1.0")),
            ("revision", word_of("1.1.0")),
            ("env.MODE", word_of("fast")),
        ],
    );
    let values = Values::parse(canary.clone()).unwrap();
    let wanted = values.subtree(&path("canary")).unwrap().clone();
    let new = values.with_subtree(&path("stable"), &wanted).unwrap();
    let values = Values::parse(new.clone()).unwrap();
    assert_eq!(
        values.subtree(&path("stable")).unwrap(),
        values.subtree(&path("canary")).unwrap()
    );
    assert!(
        new.contains("    tag: \"1.1.0\" # the tag\n  revision: '1.1.0'\n  env:\n    MODE: fast\ncanary:"),
        "{new}"
    );
    assert!(new.contains("repository: &repo registry"), "{new}");
    assert!(
        new.starts_with(
            "# The environment prod.\nreplicas: 3 # of stable\n\nstable: # what serves now\n  # never by hand\n"
        ),
        "{new}"
    );
}

#[test]
fn a_text_that_looks_like_a_number_stays_a_text() {
    for style in ["1.0.0", "'1.0.0'", "\"1.0.0\""] {
        let new = set(
            &format!("canary:\n  tag: {style} # c\n"),
            "canary",
            &[("tag", word_of("1.10"))],
        );
        let tag = Values::parse(new.clone())
            .unwrap()
            .subtree(&path("canary.tag"))
            .unwrap()
            .clone();
        assert_eq!(tag, word_of("1.10"), "{new}");
        assert!(new.ends_with(" # c\n"), "{new}");
    }
    assert_eq!(
        set("canary: {tag: v1}\n", "canary", &[("tag", word_of("1e5"))]),
        "canary: {tag: \"1e5\"}\n"
    );
}

#[test]
fn a_number_is_copied_as_it_is_spelled() {
    assert_eq!(edit("a: {x: 1}\nb: 1.10\n", "b", "1.100"), "a: {x: 1}\nb: 1.100\n");
}

#[test]
fn keys_come_and_go_without_touching_their_neighbours() {
    let text = "a:\n  x: 1 # one\n  # about y\n  y: 2\n  z:\n    q: 1\nb: 1";
    assert_eq!(
        edit(text, "a", "{x: 1, z: {q: 1, r: t}}"),
        "a:\n  x: 1 # one\n  # about y\n  z:\n    q: 1\n    r: t\nb: 1"
    );
    assert_eq!(
        edit(text, "a.z", "{}"),
        "a:\n  x: 1 # one\n  # about y\n  y: 2\n  z: {}\nb: 1"
    );
    assert_eq!(edit("a:\nb: 1\n", "a", "{k: v}"), "a:\n  k: v\nb: 1\n");
    assert_eq!(edit("b: 1\na:", "a", "[1, \"2\"]"), "b: 1\na:\n  - 1\n  - \"2\"");
    assert_eq!(
        edit("a:\n  k: |\n    text\n\nb: 1\n", "a", "{k: x, m: y}"),
        "a:\n  k: x\n  m: y\n\nb: 1\n"
    );
}

#[test]
fn line_breaks_stay_as_they_are() {
    assert_eq!(
        edit("a:\r\n  k: v\r\nb: 1\r\n", "a", "{k: w, m: x}"),
        "a:\r\n  k: w\r\n  m: x\r\nb: 1\r\n"
    );
}

#[test]
fn an_aliased_subtree_is_written_out_before_it_differs() {
    let text = "stable: &s\n  tag: a\n  env: {}\ncanary: *s # same\n";
    assert_eq!(
        edit(text, "canary", "{tag: b, env: {}}"),
        "stable: &s\n  tag: a\n  env: {}\ncanary:\n  env: {}\n  tag: b # same\n"
    );
    let merged = "stable: &s\n  tag: a\n  env: {}\ncanary:\n  <<: *s\n";
    assert_eq!(
        edit(merged, "canary", "{tag: b, env: {}}"),
        "stable: &s\n  tag: a\n  env: {}\ncanary:\n  <<: *s\n  tag: b\n"
    );
}

#[test]
fn an_anchor_that_others_use_is_never_changed_under_them() {
    let text = "stable:\n  tag: &t a\nother: *t\n";
    let wanted = Values::parse("{tag: b}").unwrap();
    let error = Values::parse(text)
        .unwrap()
        .with_subtree(&path("stable"), wanted.root())
        .unwrap_err();
    assert!(matches!(error, YamlError::Entangled(_)), "{error}");
}

#[test]
fn a_missing_key_is_named() {
    let error = Values::parse("a: 1\n")
        .unwrap()
        .subtree(&path("canary.image"))
        .unwrap_err();
    assert!(error.to_string().contains("canary.image"), "{error}");
}

fn leaf() -> impl Strategy<Value = Yaml> {
    prop_oneof![
        "[ -~é\\n]{0,12}".prop_map(Yaml::Text),
        prop_oneof![Just("null"), Just("true"), Just("3"), Just("1.10")].prop_map(|text| Yaml::Plain(text.into())),
    ]
}

fn tree() -> impl Strategy<Value = Yaml> {
    leaf().prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Yaml::List),
            prop::collection::btree_map("[a-d]|[ -~]{1,6}", inner, 0..4).prop_map(Yaml::Map),
        ]
    })
}

/// Writes a tree as a person might: some of it flow, some block, with comments.
fn write(value: &Yaml, column: usize, salt: u64) -> String {
    let pad = " ".repeat(column);
    match value {
        Yaml::Map(map) if !map.is_empty() && !salt.is_multiple_of(3) => map
            .iter()
            .enumerate()
            .map(|(at, (key, value))| {
                let comment = if (salt >> at).is_multiple_of(2) {
                    format!("{pad}# about {at}\n")
                } else {
                    String::new()
                };
                format!(
                    "{comment}{pad}{}:{}",
                    word(key),
                    write_value(value, column, salt / 3 + at as u64)
                )
            })
            .collect(),
        other => format!("{pad}{}\n", flow(other)),
    }
}

fn write_value(value: &Yaml, column: usize, salt: u64) -> String {
    match value {
        Yaml::Map(map) if !map.is_empty() && !salt.is_multiple_of(3) => {
            format!(" # head\n{}", write(value, column + 2, salt))
        }
        Yaml::List(items) if !items.is_empty() && salt.is_multiple_of(2) => {
            let pad = " ".repeat(column + (salt % 4) as usize);
            format!(
                "\n{}",
                items
                    .iter()
                    .map(|item| format!("{pad}- {} # item\n", flow(item)))
                    .collect::<String>()
            )
        }
        other => format!(" {}{}\n", flow(other), if salt.is_multiple_of(2) { " # c" } else { "" }),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn stable_becomes_canary_and_nothing_else_changes(
        stable in tree(), canary in tree(), other in tree(), salts in prop::array::uniform3(any::<u64>()), newline in any::<bool>(),
    ) {
        let head = format!("# top\nother:{}", write_value(&other, 0, salts[0]));
        let mut tail = format!("# between\ncanary:{}# end", write_value(&canary, 0, salts[2]));
        if newline { tail.push('\n'); }
        let text = format!("{head}stable:{}{tail}", write_value(&stable, 0, salts[1]));
        let values = Values::parse(text.clone()).unwrap();
        prop_assert_eq!(values.subtree(&path("stable")).unwrap(), &stable);
        let new = values.with_subtree(&path("stable"), &canary).unwrap();
        prop_assert!(new.starts_with(&head) && new.ends_with(&tail), "{}\n=>\n{}", text, new);
        let values = Values::parse(new.clone()).unwrap();
        prop_assert_eq!(values.subtree(&path("stable")).unwrap(), &canary);
        prop_assert_eq!(values.subtree(&path("canary")).unwrap(), &canary);
        prop_assert_eq!(values.with_subtree(&path("stable"), &canary).unwrap(), new);
    }

    #[test]
    fn one_changed_value_changes_one_line(stable in tree(), tag in "[a-z0-9.]{1,8}") {
        let mut old = Yaml::Map(BTreeMap::from([("deep".into(), stable)]));
        old.set(&path("image.tag"), word_of("first")).unwrap();
        let text = format!("stable:\n{}", write(&old, 2, 1));
        let new = set(&text, "stable", &[("image.tag", word_of(&tag))]);
        let (gone, come) = changed_lines(&text, &new);
        prop_assert!(gone.len() <= 1 && come.len() <= 1, "{}\n=>\n{}", text, new);
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "[a-c:{}\\[\\]&*!|>'\"#, \\n-]{0,60}") {
        let _ = Values::parse(text);
    }
}
