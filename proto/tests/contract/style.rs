//! The style of the contract: names as in Google's style guide, a comment on everything, lines that fit a screen.

use std::collections::BTreeMap;
use std::path::Path;

use crate::contract;

const WIDTH: usize = 130;

fn is_pascal(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_uppercase()) && name.chars().all(|char| char.is_ascii_alphanumeric())
}

fn is_snake(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_lowercase())
        && name
            .chars()
            .all(|char| char.is_ascii_lowercase() || char.is_ascii_digit() || char == '_')
        && !name.contains("__")
        && !name.ends_with('_')
}

#[test]
fn names_follow_the_style_guide() {
    let file = contract(".");
    for message in &file.message_type {
        assert!(is_pascal(message.name()), "message {}", message.name());
        for field in &message.field {
            assert!(is_snake(field.name()), "field {}.{}", message.name(), field.name());
        }
    }
    for service in &file.service {
        assert!(
            is_pascal(service.name()) && service.name().ends_with("Service"),
            "service {}",
            service.name()
        );
        for method in &service.method {
            assert!(is_pascal(method.name()), "method {}", method.name());
            let request = format!(".user.{}Request", method.name());
            assert_eq!(
                method.input_type(),
                request,
                "a method has a request of its own, which can grow"
            );
        }
    }
}

#[test]
fn everything_has_a_comment_that_is_a_sentence() {
    let file = contract(".");
    let comments: BTreeMap<Vec<i32>, String> = file
        .source_code_info
        .iter()
        .flat_map(|info| &info.location)
        .map(|location| (location.path.clone(), location.leading_comments().trim().to_owned()))
        .filter(|(_, comment)| !comment.is_empty())
        .collect();
    // The numbers are those of descriptor.proto: messages are 4, their fields 2; services are 6, their methods 2.
    let mut wanted = Vec::new();
    for (place, message) in (0..).zip(&file.message_type) {
        wanted.push((vec![4, place], message.name().to_owned()));
        for (field, name) in (0..).zip(&message.field) {
            wanted.push((vec![4, place, 2, field], format!("{}.{}", message.name(), name.name())));
        }
    }
    for (place, service) in (0..).zip(&file.service) {
        wanted.push((vec![6, place], service.name().to_owned()));
        for (method, name) in (0..).zip(&service.method) {
            wanted.push((vec![6, place, 2, method], name.name().to_owned()));
        }
    }
    for (path, name) in wanted {
        let comment = comments.get(&path).cloned().unwrap_or_default();
        assert!(
            comment.ends_with('.'),
            "{name} has no comment that ends with a full stop: {comment:?}"
        );
    }
}

#[test]
fn lines_fit_a_screen() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("user/user.proto");
    for (number, line) in std::fs::read_to_string(file).unwrap().lines().enumerate() {
        assert!(
            line.len() <= WIDTH && line.trim_end() == line,
            "line {}: {line}",
            number + 1
        );
    }
}
