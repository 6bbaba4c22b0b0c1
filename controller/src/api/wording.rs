//! Texts with `{{variables}}`, as whoever is told of a rollout may want them. Knows no receiver.

use crate::query::{Piece, pieces};

/// The variables, with what each stands for.
pub const WORDS: [(&str, &str); 14] = [
    ("cluster", "the cluster's name"),
    ("namespace", "the rollout's namespace"),
    ("rollout", "the rollout's name"),
    ("revision", "the revision that is told of"),
    ("event", "what happened, such as RollingBack"),
    ("title", "what happened, as a sentence begins"),
    ("message", "why, and what comes next"),
    (
        "problem",
        "the condition, such as RollbackBlocked; empty where there is none",
    ),
    ("step", "the step, such as 2/4; empty where there is none"),
    ("weight", "the canary's share in percent"),
    (
        "commit",
        "the commit that brought the revision; empty while it is not known",
    ),
    ("author", "who committed it"),
    ("subject", "the first line of its message"),
    (
        "link",
        "the address that the controller's configuration gives for the rollout; empty without one",
    ),
];

/// A text with variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wording(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    /// An index into [`WORDS`].
    Word(usize),
}

impl Wording {
    /// Reads a text.
    ///
    /// # Errors
    /// An unknown variable, one that does not end, or nothing at all.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Err("it is empty; write a text, or leave it out".to_owned());
        }
        let pieces = pieces(text).map_err(|problem| problem.to_string())?;
        let parts = pieces.into_iter().map(|piece| match piece {
            Piece::Text(text) => Ok(Part::Text(text.to_owned())),
            Piece::Name(name) => match WORDS.iter().position(|(known, _)| *known == name) {
                Some(index) => Ok(Part::Word(index)),
                None => {
                    let known: Vec<_> = WORDS.iter().map(|(name, _)| format!("{{{{{name}}}}}")).collect();
                    Err(format!(
                        "`{{{{{name}}}}}` is no variable; there are {}",
                        known.join(", ")
                    ))
                }
            },
        });
        Ok(Self(parts.collect::<Result<_, _>>()?))
    }

    /// The text with what `word` says in the variables' places. What is put in is never read for variables again.
    pub fn render(&self, word: impl Fn(&str) -> String) -> String {
        let said = |part: &Part| match part {
            Part::Text(text) => text.clone(),
            Part::Word(index) => WORDS.get(*index).map(|(name, _)| word(name)).unwrap_or_default(),
        };
        self.0.iter().map(said).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_variable_that_is_documented_is_known() {
        for (name, _) in WORDS {
            let wording = Wording::parse(&format!("<{{{{ {name} }}}}>")).unwrap();
            assert_eq!(wording.render(str::to_owned), format!("<{name}>"));
        }
    }

    #[test]
    fn what_is_put_in_is_not_read_again_and_nonsense_is_named() {
        let wording = Wording::parse("{{subject}}!").unwrap();
        assert_eq!(wording.render(|_| "{{cluster}}".to_owned()), "{{cluster}}!");
        assert!(
            Wording::parse("{{secret}}")
                .unwrap_err()
                .contains("there are {{cluster}}")
        );
        assert!(Wording::parse("{{rollout").unwrap_err().contains("does not end"));
        assert!(Wording::parse(" ").unwrap_err().contains("empty"));
    }
}
