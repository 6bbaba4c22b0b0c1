//! Changes a subtree of a values file and nothing else: comments, order, anchors and quoting stay. Pure; knows no Git.
//!
//! The difference between what stands there and what is wanted is turned into the smallest edits of the text; where a
//! place cannot be edited finely, its nearest mapping is written anew. Then the result is parsed again: it is accepted only
//! if it means the old file with just that subtree changed, and if every byte around the subtree is the old one.

use std::collections::BTreeMap;
use std::ops::Range;

use granit_parser::ScalarStyle;

use super::yaml::{Entry, KeyPath, Node, Shape, Yaml, YamlError, is_ambiguous, parse};

/// A values file that has been read.
#[derive(Debug)]
pub struct Values {
    pub(super) text: String,
    pub(super) root: Node,
}

impl Values {
    pub fn parse(text: impl Into<String>) -> Result<Self, YamlError> {
        let text = text.into();
        let root = parse(&text)?;
        Ok(Self { text, root })
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    /// All that the file says.
    pub fn root(&self) -> &Yaml {
        &self.root.value
    }

    /// A subtree of the file; an error names the key.
    pub fn subtree(&self, path: &KeyPath) -> Result<&Yaml, YamlError> {
        self.root
            .value
            .at(path)
            .ok_or_else(|| YamlError::NoKey(path.to_string()))
    }

    /// The text of this file with a subtree changed to what is wanted.
    pub fn with_subtree(&self, path: &KeyPath, wanted: &Yaml) -> Result<String, YamlError> {
        if self.subtree(path)? == wanted {
            return Ok(self.text.clone());
        }
        let Some(entry) = find(&self.root, path) else {
            return Err(YamlError::Entangled(path.to_string()));
        };
        let mut expected = self.root.value.clone();
        expected.set(path, wanted.clone())?;
        let fine = self.change(entry, wanted);
        let whole = self.replace(entry, wanted).map(|edit| vec![edit]);
        [fine, whole]
            .into_iter()
            .flatten()
            .filter_map(|edits| self.apply(edits))
            .find(|text| self.is_only_that(text, entry, &expected))
            .ok_or_else(|| YamlError::Entangled(path.to_string()))
    }

    fn is_only_that(&self, text: &str, entry: &Entry, expected: &Yaml) -> bool {
        let before = self.text.get(..entry.value_from).unwrap_or_default();
        // An entry added at the very end comes after the comment on the last line.
        let after = self.text.get(self.line_end(entry.end())..).unwrap_or_default();
        text.starts_with(before) && text.ends_with(after) && parse(text).is_ok_and(|root| root.value == *expected)
    }

    pub(super) fn apply(&self, mut edits: Vec<Edit>) -> Option<String> {
        // Stable: of two insertions at one place, the inner mapping's was made first.
        edits.sort_by_key(|edit| edit.range.start);
        let mut text = String::with_capacity(self.text.len() + 256);
        let mut at = 0;
        for edit in edits {
            text.push_str(self.text.get(at..edit.range.start)?);
            text.push_str(&edit.text);
            at = edit.range.end;
        }
        text.push_str(self.text.get(at..)?);
        Some(text)
    }

    /// The smallest edits that make the entry's value the wanted one; none where only writing it anew helps.
    fn change(&self, entry: &Entry, wanted: &Yaml) -> Option<Vec<Edit>> {
        if entry.value.value == *wanted {
            return Some(Vec::new());
        }
        self.inside(&entry.value, wanted)
            .or_else(|| self.replace(entry, wanted).map(|edit| vec![edit]))
    }

    pub(super) fn inside(&self, node: &Node, wanted: &Yaml) -> Option<Vec<Edit>> {
        if node.value == *wanted {
            return Some(Vec::new());
        }
        match (&node.shape, wanted) {
            (Shape::Scalar(style), Yaml::Plain(_) | Yaml::Text(_)) => {
                let here = self.text.get(node.start..node.end)?;
                let on_one_line = !here.is_empty() && !here.contains('\n');
                let inline = !matches!(style, ScalarStyle::Literal | ScalarStyle::Folded);
                (on_one_line && inline).then(|| vec![Edit::new(node.start..node.end, scalar(wanted, Some(*style)))])
            }
            (Shape::List { items, .. }, Yaml::List(wanted)) if items.len() == wanted.len() => {
                let edits: Option<Vec<_>> = items
                    .iter()
                    .zip(wanted)
                    .map(|(item, wanted)| self.inside(item, wanted))
                    .collect();
                Some(edits?.into_iter().flatten().collect())
            }
            (Shape::List { flow: false, items }, Yaml::List(wanted)) => self.block_list(items, wanted),
            (Shape::Map { flow: true, entries }, Yaml::Map(wanted)) => self.flow_map(node, entries, wanted),
            (Shape::Map { flow: false, entries }, Yaml::Map(wanted)) => self.block_map(node, entries, wanted),
            _ => None,
        }
    }

    fn flow_map(&self, node: &Node, entries: &[Entry], wanted: &BTreeMap<String, Yaml>) -> Option<Vec<Edit>> {
        let same_keys = entries.len() == wanted.len()
            && entries
                .iter()
                .all(|entry| entry.name().is_some_and(|name| wanted.contains_key(name)));
        let fine = || -> Option<Vec<Edit>> {
            let edits: Option<Vec<_>> = entries
                .iter()
                .map(|entry| self.inside(&entry.value, wanted.get(entry.name()?)?))
                .collect();
            Some(edits?.into_iter().flatten().collect())
        };
        if same_keys && let Some(edits) = fine() {
            return Some(edits);
        }
        // A block mapping grows better than an empty `{}`, so the entry around it is written anew.
        (!entries.is_empty()).then(|| vec![Edit::new(node.start..node.end, flow(&Yaml::Map(wanted.clone())))])
    }

    fn block_map(&self, node: &Node, entries: &[Entry], wanted: &BTreeMap<String, Yaml>) -> Option<Vec<Edit>> {
        let merged = |key: &str| node.value.get(key).is_some() && !entries.iter().any(|entry| entry.is(key));
        // What comes through `<<` can be overridden here, but not taken away.
        let Yaml::Map(current) = &node.value else { return None };
        if current.keys().any(|key| merged(key) && !wanted.contains_key(key)) {
            return None;
        }
        let keeps = |entry: &&Entry| entry.name().is_none_or(|name| wanted.contains_key(name));
        let last = entries.iter().rfind(keeps)?;
        let column = self.column(last.key_start);
        let mut edits = Vec::new();
        for entry in entries {
            let Some(name) = entry.name() else { continue };
            match wanted.get(name) {
                Some(wanted) => edits.extend(self.change(entry, wanted)?),
                None => edits.push(self.remove(entry)?),
            }
        }
        let mut added = String::new();
        for (key, value) in wanted {
            let stands = entries.iter().any(|entry| entry.is(key));
            if !stands && current.get(key) != Some(value) {
                added.push_str(self.newline());
                added.push_str(&block_entry(key, value, column, self.newline()));
            }
        }
        if !added.is_empty() {
            let at = self.line_end(last.end());
            edits.push(Edit::new(at..at, added));
        }
        Some(edits)
    }

    fn remove(&self, entry: &Entry) -> Option<Edit> {
        let start = self.line_start(entry.key_start);
        let alone = self.text.get(start..entry.key_start)?.chars().all(|c| c == ' ');
        let end = self.line_end(entry.end());
        let end = end + self.newline_at(end);
        alone.then(|| Edit::new(start..end, String::new()))
    }

    /// Writes the value of a block mapping's entry anew.
    fn replace(&self, entry: &Entry, wanted: &Yaml) -> Option<Edit> {
        let node = &entry.value;
        let anchor = node
            .anchor
            .as_ref()
            .map(|anchor| format!(" {anchor}"))
            .unwrap_or_default();
        let column = self.column(entry.key_start);
        let is_block = |value: &Yaml| match value {
            Yaml::Map(map) => !map.is_empty(),
            Yaml::List(items) => !items.is_empty(),
            Yaml::Plain(_) | Yaml::Text(_) => false,
        };
        if !is_block(wanted) {
            return Some(Edit::new(
                entry.value_from..entry.end(),
                format!("{anchor} {}", flow(wanted)),
            ));
        }
        let stands_below = matches!(
            node.shape,
            Shape::Map { flow: false, .. } | Shape::List { flow: false, .. }
        ) && self.text.get(entry.value_from..node.start)?.contains('\n');
        if stands_below && matches!(wanted, Yaml::Map(_)) && matches!(node.shape, Shape::Map { .. }) {
            // The line of the key keeps its comment and its anchor.
            let start = self.line_start(node.start);
            let lines = block(wanted, self.column(node.start), self.newline());
            return Some(Edit::new(start..node.end, lines));
        }
        let lines = block(wanted, column + 2, self.newline());
        Some(Edit::new(
            entry.value_from..entry.end(),
            format!("{anchor}{}{lines}", self.newline()),
        ))
    }

    pub(super) fn newline(&self) -> &'static str {
        if self.text.contains("\r\n") { "\r\n" } else { "\n" }
    }

    pub(super) fn newline_at(&self, at: usize) -> usize {
        let rest = self.text.get(at..).unwrap_or_default();
        ["\r\n", "\n"]
            .iter()
            .find(|newline| rest.starts_with(**newline))
            .map_or(0, |newline| newline.len())
    }

    pub(super) fn line_start(&self, at: usize) -> usize {
        self.text
            .get(..at)
            .unwrap_or_default()
            .rfind('\n')
            .map_or(0, |newline| newline + 1)
    }

    /// Where the line ends, before its line break.
    pub(super) fn line_end(&self, at: usize) -> usize {
        let rest = self.text.get(at..).unwrap_or_default();
        let line = rest.split('\n').next().unwrap_or_default();
        at + line.strip_suffix('\r').unwrap_or(line).len()
    }

    fn column(&self, at: usize) -> usize {
        at - self.line_start(at)
    }
}

#[derive(Debug)]
pub(super) struct Edit {
    range: Range<usize>,
    text: String,
}

impl Edit {
    pub(super) fn new(range: Range<usize>, text: String) -> Self {
        Self { range, text }
    }
}

/// The entry at the end of a path, if block mappings lead there in the text itself.
fn find<'n>(root: &'n Node, path: &KeyPath) -> Option<&'n Entry> {
    let mut node = root;
    let mut found = None;
    for key in path.keys() {
        let Shape::Map { flow: false, entries } = &node.shape else {
            return None;
        };
        let entry = entries.iter().find(|entry| entry.is(key))?;
        node = &entry.value;
        found = Some(entry);
    }
    found
}

fn scalar(value: &Yaml, style: Option<ScalarStyle>) -> String {
    match value {
        Yaml::Plain(text) => text.clone(),
        Yaml::Text(text) => match style {
            Some(ScalarStyle::DoubleQuoted) => quoted(text),
            Some(ScalarStyle::SingleQuoted) if !text.chars().any(char::is_control) => {
                format!("'{}'", text.replace('\'', "''"))
            }
            _ if is_plain(text) => text.clone(),
            _ => quoted(text),
        },
        Yaml::List(_) | Yaml::Map(_) => flow(value),
    }
}

/// Whether a text may stand without quotes anywhere, also in a flow collection.
fn is_plain(text: &str) -> bool {
    let first = text.starts_with(|c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '_'));
    let rest = text
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || matches!(c, '/' | '_' | '.' | '-' | ':' | '@' | '+'));
    first && rest && !text.ends_with(':') && !is_ambiguous(text)
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for char in text.chars() {
        match char {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}') => {
                out.push_str(&format!("\\U{:08x}", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn flow(value: &Yaml) -> String {
    match value {
        Yaml::Plain(_) | Yaml::Text(_) => scalar(value, None),
        Yaml::List(items) => format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Yaml::Map(map) => {
            let entries: Vec<_> = map
                .iter()
                .map(|(key, value)| format!("{}: {}", word(key), flow(value)))
                .collect();
            format!("{{{}}}", entries.join(", "))
        }
    }
}

fn word(key: &str) -> String {
    scalar(&Yaml::Text(key.to_owned()), None)
}

/// A collection in block style; no line break at the end.
fn block(value: &Yaml, column: usize, newline: &str) -> String {
    let lines: Vec<String> = match value {
        Yaml::Map(map) => map
            .iter()
            .map(|(key, value)| block_entry(key, value, column, newline))
            .collect(),
        Yaml::List(items) => items.iter().map(|item| list_item(item, column, newline)).collect(),
        Yaml::Plain(_) | Yaml::Text(_) => vec![format!("{}{}", " ".repeat(column), flow(value))],
    };
    lines.join(newline)
}

/// An item of a block list with its dash; no line break at the end.
pub(super) fn list_item(item: &Yaml, column: usize, newline: &str) -> String {
    let dash = format!("{}- ", " ".repeat(column));
    match item {
        Yaml::Map(map) if !map.is_empty() => {
            let lines = block(item, column + 2, newline);
            format!("{dash}{}", lines.trim_start())
        }
        _ => format!("{dash}{}", flow(item)),
    }
}

fn block_entry(key: &str, value: &Yaml, column: usize, newline: &str) -> String {
    let head = format!("{}{}:", " ".repeat(column), word(key));
    match value {
        Yaml::Map(map) if !map.is_empty() => format!("{head}{newline}{}", block(value, column + 2, newline)),
        Yaml::List(items) if !items.is_empty() => format!("{head}{newline}{}", block(value, column + 2, newline)),
        _ => format!("{head} {}", flow(value)),
    }
}

#[cfg(test)]
#[path = "values_tests.rs"]
mod tests;
