//! docs/reliability.md names only tests that exist.

use std::path::{Path, PathBuf};
use std::{fs, io};

fn sources(folder: &Path, into: &mut String) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path: PathBuf = entry?.path();
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "target") {
                sources(&path, into)?;
            }
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            into.push_str(&fs::read_to_string(path)?);
        }
    }
    Ok(())
}

#[test]
fn every_test_that_the_page_on_reliability_names_exists() {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    let page = fs::read_to_string(root.join("docs/reliability.md")).unwrap();
    let mut code = String::new();
    for folder in ["controller", "tests/e2e", "tests/lab", "service"] {
        sources(&root.join(folder), &mut code).unwrap();
    }
    let quoted = page.split('`').skip(1).step_by(2);
    let is_test = |name: &&str| {
        name.len() > 20
            && name
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    };
    let named: Vec<&str> = quoted.filter(is_test).collect();
    assert!(named.len() >= 30, "{}", named.len());
    let missing: Vec<&&str> = named
        .iter()
        .filter(|name| !code.contains(&format!("fn {name}(")) && !code.contains(&format!("\"{name}\"")))
        .collect();
    assert!(
        missing.is_empty(),
        "docs/reliability.md names tests that do not exist: {missing:?}"
    );
}
