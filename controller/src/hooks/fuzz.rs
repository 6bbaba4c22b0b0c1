//! What must hold for anything that a webhook answers: for `cargo fuzz`, and for properties in the tests.

use jiff::Timestamp;
use reqwest::StatusCode;

use super::{Reply, http};
use crate::callout::{Answered, retry_after};

/// What stands before the words of an answer: `HTTP 503: `.
const BEFORE: usize = 10;
/// The longest words of an answer, in bytes.
const LONGEST: usize = 200;

/// Two bytes are the status, up to the end of the line stands `Retry-After`, and the rest is the body. No panic; only what HTTP calls
/// a success passes; and what is said of an answer is one short line without control characters.
///
/// # Panics
/// When that does not hold.
pub fn answer(bytes: &[u8]) {
    let [high, low, rest @ ..] = bytes else { return };
    let Ok(status) = StatusCode::from_u16(u16::from_be_bytes([*high, *low])) else {
        return;
    };
    let mut parts = rest.splitn(2, |byte| *byte == b'\n');
    let after = String::from_utf8_lossy(parts.next().unwrap_or_default());
    let answered = Answered {
        status,
        after: retry_after(&after, Timestamp::UNIX_EPOCH),
        body: parts.next().unwrap_or_default().to_vec(),
    };
    let why = match http::reply(&answered) {
        Reply::Passed => {
            assert!(status.is_success() && status != StatusCode::ACCEPTED, "{status} passes");
            return;
        }
        Reply::Failed(why) | Reply::Undecided { why, .. } | Reply::Trouble { why, .. } => why,
    };
    assert!(why.len() <= BEFORE + LONGEST, "{} bytes: {why}", why.len());
    assert!(!why.contains(char::is_control), "not one line: {why:?}");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    fn answers() -> impl Strategy<Value = Vec<u8>> {
        let after = prop::sample::select(vec![
            "",
            "7",
            "-1",
            "18446744073709551615",
            "Sat, 28 Nov 2026 14:01:00 GMT",
            "Fri, 31 Dec 9999 23:59:60 GMT",
            "Sat, 28 Nov 2026 14:01:00 -9999",
            "soon",
        ]);
        let body = prop::sample::select(vec!["", "no", "\n\n no: \u{7}closed\r\n<html>", "\u{2028}é\0", "  "]);
        (100..1000_u16, after, body, 0..400_usize).prop_map(|(status, after, body, times)| {
            let text = format!("{after}\n{}", body.repeat(times));
            [&status.to_be_bytes()[..], text.as_bytes()].concat()
        })
    }

    proptest! {
        #[test]
        fn whatever_a_webhook_answers_is_a_reply_of_one_short_line(answer in answers()) {
            super::answer(&answer);
        }

        #[test]
        fn any_bytes_are_an_answer_of_a_webhook(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            super::answer(&bytes);
        }
    }

    #[test]
    fn the_seeds_hold() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/webhook_answer");
        let seeds: Vec<_> = std::fs::read_dir(folder).unwrap().collect();
        assert!(seeds.len() >= 3);
        for seed in seeds {
            super::answer(&std::fs::read(seed.unwrap().path()).unwrap());
        }
    }
}
