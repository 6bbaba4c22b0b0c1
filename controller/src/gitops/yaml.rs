//! A values file as a tree of nodes that know where in the text they stand. Pure; it must not know Git, nor what an arm is.
//!
//! Scalars keep their spelling: `1.10` without quotes is the number that Helm reads, and is not the text `"1.10"`.
//! Comparing spellings, not numbers, means that a copy is a copy.

use std::collections::{BTreeMap, HashMap};

use granit_parser::{Event, Parser, ScalarStyle, Span, StructureStyle};

/// Larger files are no values files, and parsing them would cost other rollouts time.
const MAX_BYTES: usize = 1024 * 1024;
/// A few aliases of aliases can mean billions of nodes; no values file comes near this number.
const MAX_NODES: usize = 200_000;
const MAX_DEPTH: usize = 64;

/// Why a values file cannot be read or edited.
#[derive(Debug, thiserror::Error)]
pub enum YamlError {
    #[error("it is not valid YAML: {0}; correct the file")]
    Syntax(String),
    #[error("it is too large to be a values file ({0}); check git.path, and the file's name below it")]
    TooLarge(String),
    #[error("line {line} has {what}, which Serin does not edit; write it in another way")]
    Unsupported { what: &'static str, line: usize },
    #[error("it has no key {0}; check the names of the arms' subtrees, and add the key to the file")]
    NoKey(String),
    #[error("its key {key} is {found}, and {wanted} is needed there; correct the file")]
    WrongKind {
        key: String,
        found: &'static str,
        wanted: &'static str,
    },
    #[error(
        "key {0} cannot be changed without changing something else too (an anchor in it is used elsewhere); write its value out"
    )]
    Entangled(String),
    #[error(
        "it is {found}, and Serin edits kustomizations and strategic-merge patches of a Deployment, the same for both arms; \
         write the arm as one of these"
    )]
    Shape { found: String },
    #[error("{key} has several entries ({names}); say in git.kustomize.image which one a revision is about")]
    Several { key: String, names: String },
    #[error(
        "{key} names the file {path}, which would not go with a revision; write its content as literals, or share it from the base (../…)"
    )]
    OwnFile { key: String, path: String },
    #[error(
        "{0} cannot be set; with Kustomize only env.NAME can: a literal of an overlay's one configMapGenerator, or the container's env in a patch. Write other values into the file"
    )]
    NotSettable(String),
}

/// What a node means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Yaml {
    /// Null, a boolean or a number, as it is spelled.
    Plain(String),
    /// A string.
    Text(String),
    List(Vec<Yaml>),
    Map(BTreeMap<String, Yaml>),
}

impl Yaml {
    /// The text of a scalar; none for null and for collections.
    pub fn as_scalar(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Plain(text) if text != "null" => Some(text),
            Self::Plain(_) | Self::List(_) | Self::Map(_) => None,
        }
    }

    /// The value below a key of this mapping.
    pub fn get(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Map(map) => map.get(key),
            Self::Plain(_) | Self::Text(_) | Self::List(_) => None,
        }
    }

    /// The value at the end of a path.
    pub fn at(&self, path: &KeyPath) -> Option<&Self> {
        path.0.iter().try_fold(self, |node, key| node.get(key))
    }

    /// Sets the value at the end of a path; mappings on the way are made when they are missing or null.
    pub fn set(&mut self, path: &KeyPath, value: Self) -> Result<(), YamlError> {
        let mut node = self;
        for (depth, key) in path.0.iter().enumerate() {
            if matches!(node, Self::Plain(text) if text == "null") {
                *node = Self::Map(BTreeMap::new());
            }
            let found = node.kind();
            let Self::Map(map) = node else {
                return Err(YamlError::WrongKind {
                    key: KeyPath(path.0.iter().take(depth).cloned().collect()).to_string(),
                    found,
                    wanted: "a mapping",
                });
            };
            node = map.entry(key.clone()).or_insert_with(|| Self::Map(BTreeMap::new()));
        }
        *node = value;
        Ok(())
    }

    /// The same without what stands at these paths; a mapping that is empty then goes too.
    #[must_use]
    pub(super) fn without(&self, paths: &[KeyPath]) -> Self {
        let mut rest = self.clone();
        for path in paths {
            rest.remove(path.keys());
        }
        rest
    }

    fn remove(&mut self, keys: &[String]) {
        let (Self::Map(map), Some((key, below))) = (self, keys.split_first()) else {
            return;
        };
        let Some(node) = map.get_mut(key) else { return };
        node.remove(below);
        if below.is_empty() || matches!(node, Self::Map(map) if map.is_empty()) {
            map.remove(key);
        }
    }

    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Plain(text) if text == "null" => "empty",
            Self::Plain(_) => "a number or a boolean",
            Self::Text(_) => "a text",
            Self::List(_) => "a list",
            Self::Map(_) => "a mapping",
        }
    }
}

/// A path of keys, written with dots: `canary.image.tag`; `\.` is a dot in a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPath(Vec<String>);

impl KeyPath {
    pub fn parse(dotted: &str) -> Self {
        let mut keys = vec![String::new()];
        let mut chars = dotted.chars();
        while let Some(char) = chars.next() {
            match char {
                '.' => keys.push(String::new()),
                '\\' => keys.last_mut().into_iter().for_each(|key| key.extend(chars.next())),
                other => keys.last_mut().into_iter().for_each(|key| key.push(other)),
            }
        }
        Self(keys)
    }

    #[must_use]
    pub fn join(&self, below: &Self) -> Self {
        Self(self.0.iter().chain(&below.0).cloned().collect())
    }

    pub fn keys(&self) -> &[String] {
        &self.0
    }

    /// The paths on the way, the whole one too, from the top.
    pub(super) fn prefixes(&self) -> impl Iterator<Item = Self> {
        (1..=self.0.len()).map(|length| Self(self.0.iter().take(length).cloned().collect()))
    }
}

impl std::fmt::Display for KeyPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let keys: Vec<String> = self.0.iter().map(|key| key.replace('.', "\\.")).collect();
        f.write_str(&keys.join("."))
    }
}

/// A node: what it means, and the bytes that say so.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) value: Yaml,
    pub(super) shape: Shape,
    /// Of a block collection: its first entry. A null that nobody wrote has `start == end`.
    pub(super) start: usize,
    pub(super) end: usize,
    /// The `&name` in front, as written.
    pub(super) anchor: Option<String>,
}

#[derive(Debug)]
pub(super) enum Shape {
    Scalar(ScalarStyle),
    Alias,
    List { flow: bool, items: Vec<Node> },
    Map { flow: bool, entries: Vec<Entry> },
}

#[derive(Debug)]
pub(super) struct Entry {
    key: Key,
    pub(super) key_start: usize,
    /// The first byte after the colon.
    pub(super) value_from: usize,
    pub(super) value: Node,
}

/// What stands before the colon of an entry.
#[derive(Debug)]
enum Key {
    Name(String),
    /// A `<<` without quotes, which brings the entries of other mappings. Between quotes it is a name like any other.
    Merge,
}

impl Entry {
    /// The entry's name; `None` for a `<<` that merges.
    pub(super) fn name(&self) -> Option<&str> {
        match &self.key {
            Key::Name(name) => Some(name),
            Key::Merge => None,
        }
    }

    pub(super) fn is(&self, name: &str) -> bool {
        self.name() == Some(name)
    }

    /// The end of the entry's own text.
    pub(super) fn end(&self) -> usize {
        self.value.end.max(self.value_from)
    }
}

/// Parses a text that holds one document.
pub(super) fn parse(text: &str) -> Result<Node, YamlError> {
    if text.len() > MAX_BYTES {
        return Err(YamlError::TooLarge(format!("{} bytes", text.len())));
    }
    let options = granit_parser::options! { emit_anchor_events: true, emit_comments: false };
    let mut builder = Builder {
        text,
        parser: Parser::new_from_str_with_options(text, options),
        anchors: HashMap::new(),
        nodes: 0,
    };
    builder.document()
}

struct Builder<'t> {
    text: &'t str,
    parser: Parser<'t, granit_parser::StrInput<'t>>,
    anchors: HashMap<usize, Yaml>,
    nodes: usize,
}

impl<'t> Builder<'t> {
    fn next(&mut self) -> Result<(Event<'t>, Span), YamlError> {
        match self.parser.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => Err(YamlError::Syntax(error.to_string())),
            None => Err(YamlError::Syntax("it ends too early".into())),
        }
    }

    fn document(&mut self) -> Result<Node, YamlError> {
        let mut root = None;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamStart | Event::DocumentStart(..) | Event::DocumentEnd => {}
                Event::StreamEnd => {
                    return root.ok_or_else(|| YamlError::Syntax("it is empty".into()));
                }
                event if root.is_none() => root = Some(self.node(event, span, 0)?),
                _ => return Err(unsupported("a second document", span)),
            }
        }
    }

    fn anchor(&mut self, id: usize) -> Result<Option<String>, YamlError> {
        if id == 0 {
            return Ok(None);
        }
        match self.next()? {
            (Event::Anchor(_, name), _) => Ok(Some(format!("&{name}"))),
            (_, span) => Err(unsupported("an anchor of an unknown form", span)),
        }
    }

    fn node(&mut self, event: Event<'t>, span: Span, depth: usize) -> Result<Node, YamlError> {
        if depth > MAX_DEPTH {
            return Err(YamlError::TooLarge(format!("more than {MAX_DEPTH} levels")));
        }
        self.count(1)?;
        let range = span
            .byte_range()
            .ok_or_else(|| unsupported("a node without a place", span))?;
        if event.tag().is_some_and(|tag| tag.core_suffix() != Some("str")) {
            return Err(unsupported("a tag", span));
        }
        let (id, mut node) = match event {
            Event::Scalar(value, style, id, tag) => {
                let anchor = self.anchor(id)?;
                let is_text = tag.is_some() || style != ScalarStyle::Plain || !is_ambiguous(&value);
                let value = if is_text {
                    Yaml::Text(value.into_owned())
                } else if is_null(&value) {
                    Yaml::Plain("null".into())
                } else {
                    Yaml::Plain(value.into_owned())
                };
                // The parser's span of a block scalar reaches to the next token.
                let end = match style {
                    ScalarStyle::Literal | ScalarStyle::Folded => {
                        self.text.get(..range.end).unwrap_or_default().trim_end().len()
                    }
                    _ => range.end,
                };
                let shape = Shape::Scalar(style);
                let start = range.start.min(end);
                (
                    id,
                    Node {
                        value,
                        shape,
                        start,
                        end,
                        anchor,
                    },
                )
            }
            Event::Alias(id) => {
                // An alias inside of its own anchor has no value; no tool reads such a file.
                let Some(value) = self.anchors.get(&id).cloned() else {
                    return Err(unsupported("an alias of what contains it", span));
                };
                self.count(size(&value))?;
                let (start, end) = (range.start, range.end);
                (
                    0,
                    Node {
                        value,
                        shape: Shape::Alias,
                        start,
                        end,
                        anchor: None,
                    },
                )
            }
            Event::SequenceStart(style, id, _) => {
                let anchor = self.anchor(id)?;
                let mut items = Vec::new();
                let end = loop {
                    match self.next()? {
                        (Event::SequenceEnd, span) => break span,
                        (event, span) => items.push(self.node(event, span, depth + 1)?),
                    }
                };
                let value = Yaml::List(items.iter().map(|item| item.value.clone()).collect());
                let flow = style == StructureStyle::Flow;
                let end = if flow {
                    byte_end(end)
                } else {
                    items.last().map_or(range.start, |item| item.end)
                };
                let shape = Shape::List { flow, items };
                (
                    id,
                    Node {
                        value,
                        shape,
                        start: range.start,
                        end,
                        anchor,
                    },
                )
            }
            Event::MappingStart(style, id, _) => {
                let anchor = self.anchor(id)?;
                let mut entries = Vec::new();
                let end = loop {
                    match self.next()? {
                        (Event::MappingEnd, span) => break span,
                        (event, span) => entries.push(self.entry(event, span, depth)?),
                    }
                };
                let value = meaning(&entries, span)?;
                self.count(size(&value))?;
                let flow = style == StructureStyle::Flow;
                let end = if flow {
                    byte_end(end)
                } else {
                    entries.last().map_or(range.start, Entry::end)
                };
                let shape = Shape::Map { flow, entries };
                (
                    id,
                    Node {
                        value,
                        shape,
                        start: range.start,
                        end,
                        anchor,
                    },
                )
            }
            _ => return Err(unsupported("something unknown", span)),
        };
        if id != 0 {
            self.anchors.insert(id, node.value.clone());
        }
        node.end = node.end.max(node.start);
        Ok(node)
    }

    fn entry(&mut self, event: Event<'t>, span: Span, depth: usize) -> Result<Entry, YamlError> {
        let Event::Scalar(key, style, 0, None) = event else {
            return Err(unsupported("a key that is not a plain word", span));
        };
        let range = span.byte_range().unwrap_or_default();
        let after = self.text.get(range.end..).unwrap_or_default();
        let blank = after.len() - after.trim_start_matches([' ', '\t']).len();
        // `{a, b}` and `? key` have no colon right behind their key.
        if !after.trim_start_matches([' ', '\t']).starts_with(':') {
            return Err(unsupported("a key without a colon", span));
        }
        let (event, value_span) = self.next()?;
        let mut value = self.node(event, value_span, depth + 1)?;
        let value_from = range.end + blank + 1;
        if value.end < value_from {
            // A null that nobody wrote is reported at the key.
            value.start = value_from;
            value.end = value_from;
        }
        Ok(Entry {
            key: match (key.as_ref(), style) {
                ("<<", ScalarStyle::Plain) => Key::Merge,
                _ => Key::Name(key.into_owned()),
            },
            key_start: range.start,
            value_from,
            value,
        })
    }

    fn count(&mut self, more: usize) -> Result<(), YamlError> {
        self.nodes += more;
        if self.nodes > MAX_NODES {
            return Err(YamlError::TooLarge(format!(
                "more than {MAX_NODES} nodes, aliases written out"
            )));
        }
        Ok(())
    }
}

/// The mapping that entries mean: `<<` brings what the others do not say.
fn meaning(entries: &[Entry], span: Span) -> Result<Yaml, YamlError> {
    let mut map = BTreeMap::new();
    for entry in entries {
        let Some(name) = entry.name() else { continue };
        if map.insert(name.to_owned(), entry.value.value.clone()).is_some() {
            return Err(unsupported("the same key twice in a mapping", span));
        }
    }
    for entry in entries.iter().filter(|entry| entry.name().is_none()) {
        let sources = match &entry.value.value {
            Yaml::List(items) => items.iter().collect(),
            other => vec![other],
        };
        for source in sources {
            let Yaml::Map(source) = source else {
                return Err(unsupported("a `<<` that is no mapping", span));
            };
            for (key, value) in source {
                map.entry(key.clone()).or_insert_with(|| value.clone());
            }
        }
    }
    Ok(Yaml::Map(map))
}

fn size(value: &Yaml) -> usize {
    match value {
        Yaml::Plain(_) | Yaml::Text(_) => 1,
        Yaml::List(items) => 1 + items.iter().map(size).sum::<usize>(),
        Yaml::Map(map) => 1 + map.values().map(size).sum::<usize>(),
    }
}

fn byte_end(span: Span) -> usize {
    span.byte_range().map_or(0, |range| range.end)
}

fn unsupported(what: &'static str, span: Span) -> YamlError {
    YamlError::Unsupported {
        what,
        line: span.start.line(),
    }
}

fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

/// Whether YAML 1.1 or 1.2 would read this plain scalar as something else than a text.
///
/// Helm reads YAML 1.1 (`yes`, `0777`, `1:30`), others 1.2: what either takes for a number or a boolean is no text here.
pub(super) fn is_ambiguous(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    if is_null(text)
        || matches!(
            lower.as_str(),
            "y" | "n" | "yes" | "no" | "on" | "off" | "true" | "false" | "=" | "<<"
        )
    {
        return true;
    }
    let unsigned = lower.strip_prefix(['-', '+']).unwrap_or(&lower);
    if matches!(unsigned, ".inf" | ".nan") {
        return true;
    }
    let of = |prefix: &str, digits: fn(char) -> bool| {
        unsigned
            .strip_prefix(prefix)
            .is_some_and(|rest| !rest.is_empty() && rest.chars().all(|c| c == '_' || digits(c)))
    };
    of("0x", |c| c.is_ascii_hexdigit())
        || of("0o", |c| c.is_digit(8))
        || of("0b", |c| c.is_digit(2))
        || is_decimal(unsigned)
        || is_base_sixty(unsigned)
        || is_date(text)
}

fn is_decimal(text: &str) -> bool {
    let (mantissa, exponent) = match text.split_once('e') {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let digits = |text: &str| text.chars().all(|c| c.is_ascii_digit() || c == '_');
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let exponent_ok = exponent.is_none_or(|exponent| {
        let exponent = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
        !exponent.is_empty() && digits(exponent)
    });
    mantissa.chars().any(|c| c.is_ascii_digit())
        && !whole.starts_with('_')
        && digits(whole)
        && digits(fraction)
        && exponent_ok
}

fn is_base_sixty(text: &str) -> bool {
    text.contains(':')
        && text.chars().all(|c| c.is_ascii_digit() || matches!(c, ':' | '_' | '.'))
        && text.split(':').all(|part| part.chars().any(|c| c.is_ascii_digit()))
}

fn is_date(text: &str) -> bool {
    let mut parts = text.splitn(3, '-');
    let numeric = |part: Option<&str>, len: std::ops::RangeInclusive<usize>| {
        part.is_some_and(|part| len.contains(&part.len()) && part.chars().all(|c| c.is_ascii_digit()))
    };
    numeric(parts.next(), 4..=4)
        && numeric(parts.next(), 1..=2)
        && parts
            .next()
            .is_some_and(|day| day.starts_with(|c: char| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
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
}
