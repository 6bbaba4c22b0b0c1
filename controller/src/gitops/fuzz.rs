//! What must hold for any values file and any text in a commit message: for `cargo fuzz`, and for properties in the tests.

use super::kustomize::{self, NewRevision};
use super::trailers::{Action, Message, Trailers, named, read, reverts};
use super::values::Values;
use super::yaml::KeyPath;

/// No panic; and where stable's subtree is put in the canary's place, nothing else of the file changes: not its meaning, and
/// not its text around the two.
///
/// # Panics
/// When that does not hold.
pub fn values_file(bytes: &[u8]) {
    let Ok(values) = Values::parse(String::from_utf8_lossy(bytes)) else {
        return;
    };
    let (stable, canary) = (KeyPath::parse("stable"), KeyPath::parse("canary"));
    let Ok(wanted) = values.subtree(&stable).cloned() else {
        return;
    };
    let Ok(text) = values.with_subtree(&canary, &wanted) else {
        return;
    };
    let edited = Values::parse(text).unwrap_or_else(|error| panic!("the edit left no YAML: {error}"));
    let mut expected = values.root().clone();
    let is_set = expected.set(&canary, wanted).is_ok();
    assert!(is_set && *edited.root() == expected, "the edit changed something else");
    let key = std::slice::from_ref(&canary);
    assert_eq!(
        values.outside(key, edited.root()),
        edited.outside(key, values.root()),
        "the edit changed the text around it"
    );
}

/// No panic; and where a new revision is set in a file of Kustomize, it is what the file says afterwards, and nothing of the text
/// around it changes.
///
/// # Panics
/// When that does not hold.
pub fn kustomize_file(bytes: &[u8]) {
    let Ok(values) = Values::parse(String::from_utf8_lossy(bytes)) else {
        return;
    };
    let Ok(arm) = kustomize::arm(values.root(), None) else {
        return;
    };
    let set = [("env.MODE".to_owned(), "fast: # \"1\"".to_owned())];
    let new = NewRevision {
        name: "1.1.0",
        tag: "1.1.0",
        repository: None,
        set: &set,
    };
    let Ok(wanted) = kustomize::with_revision(values.root(), &arm.says, None, new) else {
        return;
    };
    let Ok(text) = kustomize::with_arm(&values, &wanted) else {
        return;
    };
    let edited = Values::parse(text).unwrap_or_else(|error| panic!("the edit left no YAML: {error}"));
    let says = kustomize::arm(edited.root(), None).map(|arm| arm.says);
    assert!(
        says.is_ok_and(|says| says == wanted),
        "it says something else: {edited:?}"
    );
    let keys = kustomize::keys(values.root());
    assert_eq!(
        values.outside(&keys, edited.root()),
        edited.outside(&keys, values.root()),
        "the edit changed the text around it"
    );
}

/// No panic on any message; and what is written with any revision and any reason is read back as one set of trailers, which
/// names no commit but the one that it answers.
///
/// # Panics
/// When that does not hold.
pub fn message(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    drop((read(&text), named(&text)));
    let (revision, reason) = text.split_once('\0').unwrap_or((&text, &text));
    let sha = "0123456789abcdef0123456789abcdef01234567";
    let written = Message {
        subject: format!("Roll back shop/web ({revision} failed)"),
        paragraphs: vec![reverts(sha)],
        trailers: Trailers {
            trial: None,
            cluster: "east".to_owned(),
            rollout: "shop/web".to_owned(),
            revision: revision.to_owned(),
            action: Action::Rollback,
            reason: Some(reason.to_owned()),
        },
    }
    .text();
    let sets = read(&written);
    assert_eq!(sets.len(), 1, "one set of trailers: {written:?}");
    for set in sets {
        let is_ours = set.cluster == "east" && set.rollout == "shop/web" && set.action == Action::Rollback;
        assert!(is_ours, "the text says something else: {written:?}");
    }
    assert_eq!(named(&written), [sha], "another commit is named: {written:?}");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    fn lines() -> impl Strategy<Value = String> {
        let line = prop::sample::select(vec![
            "stable:",
            "canary:",
            "  image: a # why",
            "  replicas: 3",
            "  list: [1, 2]",
            "  - x",
            "  env: {A: b}",
            "canary: {}",
            "stable: &s",
            "  <<: *s",
            "canary: *s",
            "other: |",
            "  text",
            "---",
            "# stable:",
            "  \"quoted\": 'v'",
            "\tbad",
            "",
            "stable: {image: a}",
            "canary: null",
            "  canary: 1",
            "tail: last",
        ]);
        (
            prop::collection::vec(line, 0..14),
            prop::sample::select(vec!["\n", "\r\n"]),
            any::<bool>(),
        )
            .prop_map(|(lines, end, last)| lines.join(end) + if last { end } else { "" })
    }

    fn kustomizations() -> impl Strategy<Value = String> {
        let line = prop::sample::select(vec![
            "resources: [../base]",
            "images:",
            "  - name: web # why",
            "    newTag: '1.0.0'",
            "    digest: sha256:abc",
            "- name: other",
            "commonAnnotations:",
            "  serin.dev/revision: 1.0.0",
            "commonAnnotations: {team: a}",
            "configMapGenerator:",
            "  - name: web",
            "    literals: [MODE=slow, LEVEL=1]",
            "    literals:",
            "      - MODE=slow # why",
            "kind: Deployment",
            "spec:",
            "  template:",
            "    metadata:",
            "      annotations: {a: b}",
            "    spec:",
            "      containers:",
            "        - name: web",
            "          image: r:5000/web:1 # ours",
            "          env: [{name: MODE, value: slow}]",
            "spec: {template: {spec: {containers: [{image: a}]}}}",
            "# why",
            "",
        ]);
        prop::collection::vec(line, 0..12).prop_map(|lines| lines.join("\n"))
    }

    fn texts() -> impl Strategy<Value = String> {
        let part = prop::sample::select(vec![
            "1.2.0",
            "\n",
            "\n\n",
            "\r\n\r\n",
            ":",
            "Serin-Cluster: west",
            "Serin-Rollout: other/one",
            "Serin-Action: promote",
            "Serin-Revision: 9",
            "Serin-Reason: none",
            "This reverts commit ",
            "This promotes commit ",
            "ffffffffffffffffffffffffffffffffffffffff",
            ".",
            "\0",
            "\u{2028}",
            "é",
            " ",
        ]);
        prop::collection::vec(part, 0..12).prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn an_edit_of_anything_like_a_values_file_changes_nothing_else(text in lines()) {
            super::values_file(text.as_bytes());
        }

        #[test]
        fn a_new_revision_in_anything_like_a_kustomization_changes_nothing_else(text in kustomizations()) {
            super::kustomize_file(text.as_bytes());
        }

        #[test]
        fn any_bytes_are_a_values_file_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            super::values_file(&bytes);
        }

        #[test]
        fn no_reason_and_no_revision_can_forge_trailers_or_name_commits(text in texts()) {
            super::message(text.as_bytes());
        }

        #[test]
        fn any_bytes_are_a_message(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            super::message(&bytes);
        }
    }

    #[test]
    fn the_seeds_hold() {
        for (folder, check) in [
            ("values_file", super::values_file as fn(&[u8])),
            ("kustomize_file", super::kustomize_file),
            ("message", super::message),
        ] {
            let folder = format!("{}/fuzz/corpus/{folder}", env!("CARGO_MANIFEST_DIR"));
            let seeds: Vec<_> = std::fs::read_dir(folder).unwrap().collect();
            assert!(seeds.len() >= 2);
            for seed in seeds {
                check(&std::fs::read(seed.unwrap().path()).unwrap());
            }
        }
    }
}
