//! From a text to its nodes. It must not know what is done with them.

use std::collections::{BTreeMap, HashMap};

use granit_parser::{Event, Parser, ScalarStyle, Span, StructureStyle};

use super::scalars::{is_ambiguous, is_null};
use super::{Yaml, YamlError};

/// Larger files are no values files, and parsing them would cost other rollouts time.
const MAX_BYTES: usize = 1024 * 1024;
/// A few aliases of aliases can mean billions of nodes; no values file comes near this number.
const MAX_NODES: usize = 200_000;
const MAX_DEPTH: usize = 64;

/// A node: what it means, and the bytes that say so.
#[derive(Debug)]
pub(in super::super) struct Node {
    pub(in super::super) value: Yaml,
    pub(in super::super) shape: Shape,
    /// Of a block collection: its first entry. A null that nobody wrote has `start == end`.
    pub(in super::super) start: usize,
    pub(in super::super) end: usize,
    /// The `&name` in front, as written.
    pub(in super::super) anchor: Option<String>,
}

#[derive(Debug)]
pub(in super::super) enum Shape {
    Scalar(ScalarStyle),
    Alias,
    List { flow: bool, items: Vec<Node> },
    Map { flow: bool, entries: Vec<Entry> },
}

#[derive(Debug)]
pub(in super::super) struct Entry {
    key: Key,
    pub(in super::super) key_start: usize,
    /// The first byte after the colon.
    pub(in super::super) value_from: usize,
    pub(in super::super) value: Node,
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
    pub(in super::super) fn name(&self) -> Option<&str> {
        match &self.key {
            Key::Name(name) => Some(name),
            Key::Merge => None,
        }
    }

    pub(in super::super) fn is(&self, name: &str) -> bool {
        self.name() == Some(name)
    }

    /// The end of the entry's own text.
    pub(in super::super) fn end(&self) -> usize {
        self.value.end.max(self.value_from)
    }
}

/// Parses a text that holds one document.
pub(in super::super) fn parse(text: &str) -> Result<Node, YamlError> {
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
        let (id, anchor, value, shape, start, end) = match event {
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
                (id, anchor, value, shape, start, end)
            }
            Event::Alias(id) => {
                // An alias inside of its own anchor has no value; no tool reads such a file.
                let Some(value) = self.anchors.get(&id).cloned() else {
                    return Err(unsupported("an alias of what contains it", span));
                };
                self.count(size(&value))?;
                (0, None, value, Shape::Alias, range.start, range.end)
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
                (id, anchor, value, shape, range.start, end)
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
                (id, anchor, value, shape, range.start, end)
            }
            _ => return Err(unsupported("something unknown", span)),
        };
        if id != 0 {
            self.anchors.insert(id, value.clone());
        }
        Ok(Node {
            value,
            shape,
            start,
            end: end.max(start),
            anchor,
        })
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
