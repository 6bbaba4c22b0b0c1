//! The id of a trial: what log lines, events, status and commits of one trial have in common. Pure.

use jiff::Timestamp;

/// Characters of an id: 48 bits, so that ten million trials of a team share none by chance.
const LENGTH: usize = 12;

/// The id of the trial of a rollout, by the rollout's uid and the trial's beginning: the same after a restart, and never that of
/// another trial, of the same revision or of a rollout that has the name again.
pub fn trial_id(uid: &str, began: Timestamp) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, format!("{uid} {began}").as_bytes());
    let mut id: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    id.truncate(LENGTH);
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_trial_has_an_id_of_its_own_and_keeps_it() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let one = trial_id("uid", at(1));
        assert_eq!((one.len(), &one), (LENGTH, &trial_id("uid", at(1))));
        assert_ne!(one, trial_id("uid", at(2)));
        assert_ne!(one, trial_id("another", at(1)));
    }
}
