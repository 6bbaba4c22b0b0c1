//! What must hold for any bytes that come back as Prometheus's answer: for `cargo fuzz`, and for properties in the tests.

use super::answer::decode;

/// No panic; and what Prometheus itself calls partial or failed is never taken for an answer.
///
/// # Panics
/// When that does not hold.
pub fn answer(bytes: &[u8]) {
    let decoded = decode(bytes);
    let Ok(json) = serde_json::from_slice::<serde_json::Value>(bytes) else {
        // What nobody reads is passed over, and may hold any bytes.
        let is_json = serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_ok();
        assert!(decoded.is_err() || is_json, "what is no JSON is no answer");
        return;
    };
    let warns = json
        .get("warnings")
        .and_then(|w| w.as_array())
        .is_some_and(|w| !w.is_empty());
    let fails = json.get("status").and_then(|s| s.as_str()) != Some("success");
    assert!(decoded.is_err() || !(warns || fails), "a partial answer looks whole");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    fn parts() -> impl Strategy<Value = String> {
        let part = prop::sample::select(vec![
            r#"{"status":"success","#,
            r#"{"status":"error","errorType":"timeout","error":"query timed out","#,
            r#""data":{"resultType":"matrix","result":["#,
            r#""data":{"resultType":"vector","result":["#,
            r#"{"metric":{"pod":"a","classification":"failure"},"values":[[1700000000.5,"NaN"],[1e308,"-1"],[2,"+Inf"]]}"#,
            r#"{"metric":{},"values":[[1,"3"]]},"#,
            r#"{"metric":{"pod":1},"value":[1,"3"]}"#,
            "]}",
            r#","warnings":["partial"]"#,
            r#","infos":["x"]"#,
            "}",
            "null",
        ]);
        prop::collection::vec(part, 0..8).prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_answer_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            super::answer(&bytes);
        }

        #[test]
        fn anything_like_an_answer_is_an_answer_or_an_error(text in parts()) {
            super::answer(text.as_bytes());
        }
    }

    #[test]
    fn the_seeds_hold() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/prometheus_answer");
        let seeds: Vec<_> = std::fs::read_dir(folder).unwrap().collect();
        assert!(seeds.len() >= 4);
        for seed in seeds {
            super::answer(&std::fs::read(seed.unwrap().path()).unwrap());
        }
    }
}
