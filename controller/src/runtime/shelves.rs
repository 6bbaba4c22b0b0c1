//! Objects of one kind by namespace and name, kept as text in little room: what those of a namespace have in common with the first of
//! them is kept once. It must not know what the objects are.
//!
//! Most objects of a namespace say the same in the same words: two Deployments of one chart differ in a tenth of their text. So each is
//! compressed by LZ4 ([the block format]) with the first one of its namespace as the dictionary. Those that have nothing in common
//! with it take the room of their text.
//!
//! [the block format]: https://github.com/lz4/lz4/blob/dev/doc/lz4_Block_format.md

use std::collections::HashMap;

use lz4_flex::block::{compress_prepend_size_with_dict, decompress_size_prepended_with_dict};

/// Bytes of the first object that the others are compressed with.
const COMMON: usize = 16 * 1024;

/// The objects, with what else is known of each.
#[derive(Debug)]
pub struct Shelves<A>(HashMap<Box<str>, Shelf<A>>);

/// Those of a namespace.
#[derive(Debug)]
struct Shelf<A> {
    /// The text of the first one, which may be gone by now.
    common: Box<[u8]>,
    objects: HashMap<Box<str>, Object<A>>,
}

#[derive(Debug)]
struct Object<A> {
    about: A,
    packed: Box<[u8]>,
}

impl<A> Default for Shelves<A> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<A> Shelves<A> {
    /// Keeps the object, and gives back what was known of the one that was there under its name.
    pub fn put(&mut self, (namespace, name): (&str, &str), about: A, text: &[u8]) -> Option<A> {
        let shelf = self.0.entry(namespace.into()).or_insert_with(|| Shelf {
            common: text.get(..COMMON).unwrap_or(text).into(),
            objects: HashMap::new(),
        });
        let object = Object {
            about,
            packed: compress_prepend_size_with_dict(text, &shelf.common).into_boxed_slice(),
        };
        let before = shelf.objects.insert(name.into(), object);
        before.map(|before| before.about)
    }

    /// The object's text, as it was put here.
    pub fn text(&self, namespace: &str, name: &str) -> Option<Vec<u8>> {
        let shelf = self.0.get(namespace)?;
        let packed = &shelf.objects.get(name)?.packed;
        // What was packed with these bytes is unpacked with them.
        decompress_size_prepended_with_dict(packed, &shelf.common).ok()
    }

    /// What is known of the object.
    pub fn about(&self, namespace: &str, name: &str) -> Option<&A> {
        Some(&self.0.get(namespace)?.objects.get(name)?.about)
    }

    /// The same, to be changed.
    pub fn about_mut(&mut self, namespace: &str, name: &str) -> Option<&mut A> {
        Some(&mut self.0.get_mut(namespace)?.objects.get_mut(name)?.about)
    }

    /// Forgets the object, and gives back what was known of it.
    pub fn remove(&mut self, namespace: &str, name: &str) -> Option<A> {
        let shelf = self.0.get_mut(namespace)?;
        let removed = shelf.objects.remove(name);
        if shelf.objects.is_empty() {
            self.0.remove(namespace);
        }
        removed.map(|removed| removed.about)
    }

    /// The bytes that the objects' texts take.
    #[cfg(test)]
    fn bytes(&self) -> usize {
        let shelves = self.0.values();
        shelves
            .map(|shelf| {
                let packed = shelf.objects.values().map(|object| object.packed.len());
                shelf.common.len() + packed.sum::<usize>()
            })
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_objects_have_in_common_is_kept_once() {
        let text = |nth: usize| {
            let settings: Vec<_> = (0..40).map(|i| format!(r#""setting-{i}":"value-{i}""#)).collect();
            format!(r#"{{"name":"web-{nth}",{}}}"#, settings.join(","))
        };
        let mut shelves = Shelves::default();
        for nth in 0..100 {
            shelves.put(("prod", &format!("web-{nth}")), (), text(nth).as_bytes());
        }
        assert!(
            shelves.bytes() < text(0).len() + 100 * 40,
            "{} of {}",
            shelves.bytes(),
            text(0).len()
        );
        assert_eq!(shelves.text("prod", "web-42"), Some(text(42).into_bytes()));
    }

    #[test]
    fn those_that_stay_are_read_when_the_first_one_is_gone() {
        let mut shelves = Shelves::default();
        shelves.put(("prod", "web"), 1, b"a Deployment of the web");
        shelves.put(("prod", "shop"), 2, b"a Deployment of the shop");
        assert_eq!(shelves.remove("prod", "web"), Some(1));
        assert_eq!(
            shelves.text("prod", "shop").as_deref(),
            Some(&b"a Deployment of the shop"[..])
        );
        assert_eq!((shelves.text("prod", "web"), shelves.text("dev", "shop")), (None, None));
        assert_eq!(shelves.remove("prod", "shop"), Some(2));
        assert_eq!((shelves.remove("prod", "shop"), shelves.bytes()), (None, 0));
    }

    proptest! {
        #[test]
        fn each_text_comes_back_as_it_was(texts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..600), 1..8)) {
            let mut shelves = Shelves::default();
            for (nth, text) in texts.iter().enumerate() {
                shelves.put(("prod", &nth.to_string()), nth, text);
            }
            for (nth, text) in texts.iter().enumerate() {
                let name = nth.to_string();
                prop_assert_eq!(shelves.text("prod", &name), Some(text.clone()));
                prop_assert_eq!(shelves.about("prod", &name), Some(&nth));
            }
        }
    }
}
