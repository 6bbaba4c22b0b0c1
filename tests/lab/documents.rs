//! What the documents say can be followed: links lead somewhere, examples are taken, fields are there. It knows no cluster.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;
use serin::api::{CanaryRollout, parse};

use crate::project_root;

/// All pages that people read.
fn pages() -> Vec<(PathBuf, String)> {
    let root = project_root();
    let mut files: Vec<PathBuf> = [
        "README.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "argocd/README.md",
        "service/README.md",
    ]
    .map(|name| root.join(name))
    .to_vec();
    for folder in ["docs", "docs/adr"] {
        let entries = fs::read_dir(root.join(folder)).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        files.extend(paths.filter(|path| path.extension().is_some_and(|ending| ending == "md")));
    }
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        (path, text)
    };
    files.into_iter().map(read).collect()
}

/// The lines outside of blocks of code.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut in_code = false;
    text.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        in_code ^= is_fence;
        !in_code && !is_fence
    })
}

/// The blocks of YAML.
fn blocks(text: &str) -> impl Iterator<Item = &str> {
    text.split("\n```yaml\n")
        .skip(1)
        .filter_map(|block| block.split("\n```").next())
}

/// The anchors of a page's headings, as Git hosts make them.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = prose(text).filter(|line| line.starts_with('#'));
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    let anchor = |line: &str| {
        let text = line.trim_start_matches('#').trim().to_lowercase();
        text.chars().filter(kept).collect::<String>().replace(' ', "-")
    };
    headings.map(anchor).collect()
}

/// Where a page's links into this repository lead: a file, and perhaps a heading.
fn links(text: &str) -> Vec<(String, String)> {
    let mut links = Vec::new();
    for line in prose(text) {
        for after in line.split("](").skip(1) {
            let target = after.split(')').next().unwrap();
            if !target.contains("://") {
                let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
                links.push((file.to_owned(), anchor.to_owned()));
            }
        }
    }
    links
}

#[test]
fn each_link_leads_to_a_file_and_a_heading() {
    let mut seen = 0;
    for (page, text) in pages() {
        let folder = page.parent().unwrap_or(Path::new("/"));
        for (file, anchor) in links(&text) {
            let target = if file.is_empty() {
                page.clone()
            } else {
                folder.join(&file)
            };
            let says = format!("{}: {file}#{anchor}", page.display());
            assert!(target.exists(), "{says}: there is no such file");
            if !anchor.is_empty() {
                let text = fs::read_to_string(&target).unwrap();
                assert!(anchors(&text).contains(&anchor), "{says}: there is no such heading");
            }
            seen += 1;
        }
    }
    assert!(seen > 100, "{seen} links");
}

#[test]
fn each_rollout_of_the_documents_is_one_that_serin_takes() {
    let mut seen = 0;
    for (page, text) in pages() {
        for block in blocks(&text).filter(|block| block.contains("kind: CanaryRollout")) {
            let rollout: CanaryRollout = serde_saphyr::from_str(block).unwrap();
            assert!(parse(&rollout.spec).is_ok(), "{}: {block}", page.display());
            seen += 1;
        }
    }
    assert!(seen >= 2, "{seen} rollouts");
}

/// Whether the definition has a field such as `plan.steps[].weight`.
fn has_field(spec: &Value, path: &str) -> bool {
    let mut at = spec;
    for name in path.split('.') {
        let (name, is_list) = name.strip_suffix("[]").map_or((name, false), |name| (name, true));
        let Some(field) = at.pointer(&format!("/properties/{name}")) else {
            return false;
        };
        at = if is_list { &field["items"] } else { field };
    }
    true
}

/// Whoever comes from Flagger or Argo Rollouts finds here what a field of theirs is called now.
#[test]
fn each_field_that_others_are_led_to_is_there() {
    let root = project_root();
    let definition: Value =
        serde_saphyr::from_str(&fs::read_to_string(root.join("crds/canaryrollouts.serin.dev.yaml")).unwrap()).unwrap();
    let spec = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    let text = fs::read_to_string(root.join("docs/migrate.md")).unwrap();
    let mut seen = 0;
    for row in text.lines().filter(|line| line.starts_with("| ")) {
        let Some((_, ours)) = row.trim_end_matches(" |").rsplit_once(" | ") else {
            continue;
        };
        for code in ours.split('`').skip(1).step_by(2) {
            let path = code.split(':').next().unwrap().trim_start_matches("spec.");
            let first = path.split(['.', '[']).next().unwrap();
            if has_field(spec, first) {
                assert!(has_field(spec, path), "docs/migrate.md: there is no {path}");
                seen += 1;
            }
        }
    }
    assert!(seen > 25, "{seen} fields");
    assert!(!has_field(spec, "plan.steps[].nothing"));
}
