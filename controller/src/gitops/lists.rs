//! Lists of which items come and go: matched by their names, so that the others keep their lines and comments. Pure.

use super::values::{Edit, Values, list_item};
use super::yaml::{Node, Yaml};

impl Values {
    /// The edits that make a block list the wanted one; none where only writing it anew helps.
    pub(super) fn block_list(&self, items: &[Node], wanted: &[Yaml]) -> Option<Vec<Edit>> {
        let old: Vec<_> = items.iter().map(|item| identity(&item.value)).collect();
        let new: Vec<_> = wanted.iter().map(identity).collect();
        let is_twice = |ids: &[String]| {
            ids.iter()
                .enumerate()
                .any(|(at, id)| ids.iter().skip(at + 1).any(|other| other == id))
        };
        if is_twice(&old) || is_twice(&new) {
            return None;
        }
        let kept: Vec<_> = old.iter().filter(|id| new.contains(id)).collect();
        // Items in another order are another list.
        if kept.is_empty() || !new.iter().filter(|id| old.contains(id)).eq(kept) {
            return None;
        }
        let first = items.first()?;
        let first_line = self.line_start(first.start);
        let column = self.dash(first)?;
        let mut edits = Vec::new();
        let mut at = None;
        for (id, value) in new.iter().zip(wanted) {
            if let Some(item) = old.iter().position(|other| other == id).and_then(|nth| items.get(nth)) {
                edits.extend(self.inside(item, value)?);
                at = Some(self.line_end(item.end));
                continue;
            }
            let text = list_item(value, column, self.newline());
            match at {
                Some(at) => edits.push(Edit::new(at..at, format!("{}{text}", self.newline()))),
                None => edits.push(Edit::new(first_line..first_line, format!("{text}{}", self.newline()))),
            }
        }
        for (item, id) in items.iter().zip(&old) {
            if !new.contains(id) {
                self.dash(item)?;
                let end = self.line_end(item.end);
                edits.push(Edit::new(
                    self.line_start(item.start)..end + self.newline_at(end),
                    String::new(),
                ));
            }
        }
        Some(edits)
    }

    /// The column of an item's dash, where the item begins on a line of its own.
    fn dash(&self, item: &Node) -> Option<usize> {
        let before = self.text.get(self.line_start(item.start)..item.start)?;
        let column = before.find('-')?;
        let is_alone = before.chars().all(|c| matches!(c, ' ' | '-')) && before.matches('-').count() == 1;
        is_alone.then_some(column)
    }
}

/// What tells an item from the others: a mapping's `name`, the name in `NAME=value`, else all of it.
fn identity(item: &Yaml) -> String {
    match item {
        Yaml::Map(_) => match item.get("name").and_then(Yaml::as_scalar) {
            Some(name) => name.to_owned(),
            None => format!("{item:?}"),
        },
        Yaml::Text(text) => text.split_once('=').map_or(text.as_str(), |(name, _)| name).to_owned(),
        other => format!("{other:?}"),
    }
}
