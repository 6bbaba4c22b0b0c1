//! Changes several keys of a file at once, keys that come and go too, and nothing else. Pure; knows no Git.

use std::ops::Range;

use super::values::Values;
use super::yaml::{Entry, KeyPath, Shape, Yaml, YamlError};

impl Values {
    /// The text of this file with these keys as wanted; none takes a key away.
    pub(super) fn with_fields(&self, fields: &[(KeyPath, Option<Yaml>)]) -> Result<String, YamlError> {
        let mut expected = self.root.value.clone();
        for (path, wanted) in fields {
            match wanted {
                Some(wanted) if expected.at(path) != Some(wanted) => expected.set(path, wanted.clone())?,
                None if expected.at(path).is_some() => expected = expected.without(std::slice::from_ref(path)),
                Some(_) | None => {}
            }
        }
        if expected == self.root.value {
            return Ok(self.text.clone());
        }
        let paths: Vec<_> = fields.iter().map(|(path, _)| path.clone()).collect();
        let is_only_that = |text: &String| {
            Values::parse(text.as_str()).is_ok_and(|new| {
                new.root.value == expected && new.outside(&paths, &self.root.value) == self.outside(&paths, &expected)
            })
        };
        self.inside(&self.root, &expected)
            .and_then(|edits| self.apply(edits))
            .filter(is_only_that)
            .ok_or_else(|| {
                let changed = |path: &&KeyPath| expected.at(path) != self.root.value.at(path);
                let name = paths.iter().find(changed).map(ToString::to_string);
                YamlError::Entangled(name.unwrap_or_default())
            })
    }

    /// The text without what stands at these keys, to be compared with the same of another version, in which some of them
    /// may be missing.
    pub(super) fn outside(&self, paths: &[KeyPath], other: &Yaml) -> String {
        let mut cuts: Vec<_> = paths.iter().filter_map(|path| self.cut(path, other)).collect();
        cuts.sort_by_key(|range| range.start);
        let (mut text, mut at) = (String::with_capacity(self.text.len()), 0);
        for range in cuts {
            text.push_str(self.text.get(at..range.start).unwrap_or_default());
            at = at.max(range.end);
        }
        text.push_str(self.text.get(at..).unwrap_or_default());
        text.trim_end().to_owned()
    }

    /// What of the text belongs to a key: its value, or its lines where the other version does not have the key.
    fn cut(&self, path: &KeyPath, other: &Yaml) -> Option<Range<usize>> {
        let here = &self.root.value;
        let comes_or_goes = path
            .prefixes()
            .find(|prefix| stands(here, prefix) != stands(other, prefix));
        let path = comes_or_goes.as_ref().unwrap_or(path);
        here.at(path)?;
        let (entry, is_whole_path) = self.nearest(path)?;
        let end = self.line_end(entry.end());
        if is_whole_path && other.at(path).is_none() {
            return Some(self.line_start(entry.key_start)..end + self.newline_at(end));
        }
        Some(entry.value_from..end)
    }

    /// The entry at the end of a path, or the last one on the way that is not within `{…}`.
    fn nearest(&self, path: &KeyPath) -> Option<(&Entry, bool)> {
        let (mut node, mut found) = (&self.root, None);
        for (depth, key) in path.keys().iter().enumerate() {
            let Shape::Map { flow: false, entries } = &node.shape else {
                break;
            };
            let entry = entries.iter().find(|entry| entry.is(key))?;
            node = &entry.value;
            found = Some((entry, depth + 1 == path.keys().len()));
        }
        found
    }
}

fn stands(root: &Yaml, path: &KeyPath) -> bool {
    match root.at(path) {
        Some(Yaml::Map(map)) => !map.is_empty(),
        Some(Yaml::Plain(text)) => text != "null",
        other => other.is_some(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "\
# An overlay.
resources: [../base]
nameSuffix: -canary # of everything

images:
# ours
- name: web # as in the base
  newTag: \"1.0.0\"
- name: proxy
  newTag: v2 # theirs
";

    fn edit(text: &str, fields: &[(&str, Option<&str>)]) -> Result<String, YamlError> {
        let fields: Vec<_> = fields
            .iter()
            .map(|(path, wanted)| {
                let wanted = wanted.map(|text| Values::parse(text).unwrap().root().clone());
                (KeyPath::parse(path), wanted)
            })
            .collect();
        Values::parse(text)?.with_fields(&fields)
    }

    #[test]
    fn items_of_a_list_change_come_and_go_without_touching_their_neighbours() {
        let images = "[{name: web, newTag: 1.1.0}, {name: proxy, newTag: v2}]";
        assert_eq!(
            edit(FILE, &[("images", Some(images))]).unwrap(),
            FILE.replace("\"1.0.0\"", "\"1.1.0\"")
        );
        let more = "[{name: web, newTag: 1.0.0}, {name: job, newTag: 3.0.0}, {name: proxy, newTag: v2}]";
        let with_more = FILE.replace("- name: proxy", "- name: job\n  newTag: 3.0.0\n- name: proxy");
        assert_eq!(edit(FILE, &[("images", Some(more))]).unwrap(), with_more);
        let fewer = "[{name: web, newTag: 1.0.0}, {name: proxy, newTag: v2}]";
        assert_eq!(edit(&with_more, &[("images", Some(fewer))]).unwrap(), FILE);
    }

    #[test]
    fn a_key_that_comes_and_goes_again_leaves_the_file_as_it_was() {
        let keys = [("commonAnnotations.serin\\.dev/revision", Some("1.1.0"))];
        let with = edit(FILE, &keys).unwrap();
        assert_eq!(with, format!("{FILE}commonAnnotations:\n  serin.dev/revision: 1.1.0\n"));
        assert_eq!(edit(&with, &[(keys[0].0, None)]).unwrap(), FILE);
        let empty = format!("{FILE}commonAnnotations: {{}} # none\n");
        let filled = edit(&empty, &keys).unwrap();
        assert!(
            filled.contains("commonAnnotations:\n  serin.dev/revision: 1.1.0"),
            "{filled}"
        );
        let in_flow = format!("{FILE}commonAnnotations: {{team: a, serin.dev/revision: '1'}} # flow\n");
        assert_eq!(
            edit(&in_flow, &keys).unwrap(),
            format!("{FILE}commonAnnotations: {{team: a, serin.dev/revision: '1.1.0'}} # flow\n")
        );
    }

    #[test]
    fn what_would_change_another_key_is_refused() {
        let text = "images: &i [{name: web, newTag: a}]\nothers: *i\n";
        let error = edit(text, &[("images", Some("[{name: web, newTag: b}]"))]).unwrap_err();
        assert!(
            matches!(&error, YamlError::Entangled(key) if key == "images"),
            "{error}"
        );
    }
}
