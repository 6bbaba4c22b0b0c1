//! Six numbers as one short text that gives back the very same bits. Must not know what the numbers mean.
//!
//! Floats in an API object pass through other people's JSON parsers, some of which are off in the last digit (serde_json
//! without `float_roundtrip` is), and Kubernetes advises against them. A test that continues must not depend on that:
//! the bits travel as base 64 (RFC 4648 §5, without padding), 64 characters for six numbers.

use serde::{Deserialize, Deserializer, Serializer, de::Error};

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

pub(crate) fn encode(numbers: &[f64; 6]) -> String {
    let mut text = String::with_capacity(64);
    for pair in numbers.chunks(3) {
        // Three numbers are 24 bytes: 32 characters of six bits each.
        let bytes: Vec<u8> = pair.iter().flat_map(|x| x.to_bits().to_be_bytes()).collect();
        for three in bytes.chunks(3) {
            let word = three.iter().fold(0usize, |word, byte| word << 8 | usize::from(*byte));
            for shift in [18, 12, 6, 0] {
                let letter = ALPHABET.get(word >> shift & 63).copied().unwrap_or(b'A');
                text.push(char::from(letter));
            }
        }
    }
    text
}

pub(crate) fn decode(text: &str) -> Option<[f64; 6]> {
    if text.len() != 64 {
        return None;
    }
    let mut words = [0u64; 6];
    for (i, letter) in text.bytes().enumerate() {
        let six = u64::try_from(ALPHABET.iter().position(|a| *a == letter)?).ok()?;
        // Six bits at bit position 6i of 384; a letter may lie across two numbers.
        let (first, offset) = (6 * i / 64, 6 * i % 64);
        if offset <= 58 {
            *words.get_mut(first)? |= six << (58 - offset);
        } else {
            *words.get_mut(first)? |= six >> (offset - 58);
            *words.get_mut(first + 1)? |= six << (122 - offset);
        }
    }
    let numbers = words.map(f64::from_bits);
    numbers.iter().all(|x| x.is_finite()).then_some(numbers)
}

/// For `#[serde(with = "exact::six")]`.
pub(crate) mod six {
    use super::{Deserialize, Deserializer, Error, Serializer, decode, encode};

    pub(crate) fn serialize<S: Serializer>(numbers: &[f64; 6], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&encode(numbers))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[f64; 6], D::Error> {
        let text = String::deserialize(deserializer)?;
        decode(&text).ok_or_else(|| D::Error::custom("not six finite numbers in base 64"))
    }
}

/// For `#[serde(with = "exact::one")]`: the shortest decimal that reads back as the same number.
pub(crate) mod one {
    use super::{Deserialize, Deserializer, Error, Serializer};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde calls")]
    pub(crate) fn serialize<S: Serializer>(number: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(number)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        let text = String::deserialize(deserializer)?;
        let number: f64 = text.parse().map_err(D::Error::custom)?;
        if number.is_finite() {
            Ok(number)
        } else {
            Err(D::Error::custom("not a finite number"))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn gives_back_the_same_bits(numbers in proptest::array::uniform6(proptest::num::f64::NORMAL)) {
            let back = decode(&encode(&numbers)).unwrap();
            prop_assert_eq!(numbers.map(f64::to_bits), back.map(f64::to_bits));
        }

        #[test]
        fn refuses_other_texts_without_a_panic(text in "\\PC{0,70}") {
            let _ = decode(&text);
        }
    }

    #[test]
    fn refuses_what_is_no_number() {
        assert_eq!(decode(&encode(&[f64::NAN; 6])), None);
        assert_eq!(decode("AAAA"), None);
    }
}
