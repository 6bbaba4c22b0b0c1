//! What must hold for any text in a rollout's command annotation: for `cargo fuzz`, and for properties in the tests.

use crate::api::Order;

/// No panic; and what is a command has an id, so that it is answered once.
///
/// # Panics
/// When that does not hold.
pub fn command(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let Some(command) = Order::parse(&text) else { return };
    let json: serde_json::Value =
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("a command that is no JSON: {error}"));
    assert_eq!(
        json.get("id").and_then(|id| id.as_str()),
        Some(command.id.as_str()),
        "{text}"
    );
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_are_a_command_or_none(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            super::command(&bytes);
        }

        #[test]
        fn any_json_is_a_command_or_none(id in ".{0,12}", verb in "(promote|abort|pause|promote-full|x)", reason in ".{0,20}") {
            super::command(serde_json::json!({ "id": id, "verb": verb, "reason": reason }).to_string().as_bytes());
            super::command(serde_json::json!({ "verb": verb, "reason": [reason] }).to_string().as_bytes());
        }
    }

    #[test]
    fn a_huge_command_is_cut_or_none() {
        let huge = "x".repeat(200_000);
        let command = |id: &str| {
            let order = serde_json::json!({ "id": id, "verb": "pause", "reason": huge }).to_string();
            crate::api::Order::parse(&order)
        };
        assert!(command(&huge).is_none());
        assert_eq!(command("1").map(|command| command.reason.len()), Some(1024));
    }

    #[test]
    fn the_seeds_hold() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/command");
        let seeds: Vec<_> = std::fs::read_dir(folder).unwrap().collect();
        assert!(seeds.len() >= 2);
        for seed in seeds {
            super::command(&std::fs::read(seed.unwrap().path()).unwrap());
        }
    }
}
