//! Words that thousands of rollouts say alike: each is kept once, whoever says it. It must not know what is said.
//!
//! Ten thousand rollouts have a hundred thousand conditions, and a hundred words for them. A word is forgotten a while after nobody says
//! it any more, so that sentences with numbers in them do not pile up.

use std::collections::HashSet;
use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// So many are kept before anyone looks which of them are still said.
const FEW: usize = 256;

static SAID: LazyLock<Mutex<Said>> = LazyLock::new(|| {
    Mutex::new(Said {
        words: HashSet::new(),
        most: FEW,
    })
});

struct Said {
    words: HashSet<Arc<str>>,
    /// With so many, those that nobody says are forgotten.
    most: usize,
}

impl Said {
    fn word(&mut self, text: &str) -> Arc<str> {
        if let Some(word) = self.words.get(text) {
            return word.clone();
        }
        if self.words.len() >= self.most {
            self.words.retain(|word| Arc::strong_count(word) > 1);
            self.most = FEW.max(2 * self.words.len());
        }
        let word: Arc<str> = text.into();
        self.words.insert(word.clone());
        word
    }
}

/// A text that lies in one place with all that are equal to it. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Word(Arc<str>);

impl Word {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Word {
    fn from(text: &str) -> Self {
        Self(SAID.lock().unwrap_or_else(PoisonError::into_inner).word(text))
    }
}

impl Default for Word {
    fn default() -> Self {
        Self::from("")
    }
}

impl Deref for Word {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl PartialEq<str> for Word {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for Word {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl fmt::Debug for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl Serialize for Word {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self)
    }
}

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = Word;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }

            fn visit_str<E>(self, text: &str) -> Result<Word, E> {
                Ok(text.into())
            }
        }

        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_words_lie_in_one_place() {
        let (one, other): (Word, Word) = (
            "samples come in".into(),
            serde_json::from_str(r#""samples come in""#).unwrap(),
        );
        assert!(Arc::ptr_eq(&one.0, &other.0));
        assert_eq!(serde_json::to_string(&one).unwrap(), r#""samples come in""#);
        assert_eq!((one.as_str(), &*Word::default()), ("samples come in", ""));
    }

    #[test]
    fn words_that_nobody_says_any_more_are_forgotten() {
        let mut said = Said {
            words: HashSet::new(),
            most: FEW,
        };
        let kept = said.word("Ready");
        for nth in 0..100 * FEW {
            drop(said.word(&format!("5 of {nth} calls")));
        }
        assert!(said.words.len() <= FEW, "{}", said.words.len());
        assert!(Arc::ptr_eq(&kept, &said.word("Ready")));
        let all: Vec<_> = (0..4 * FEW).map(|nth| said.word(&nth.to_string())).collect();
        assert!(said.words.len() >= all.len(), "those that are said stay");
    }
}
