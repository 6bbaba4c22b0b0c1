//! Long-lived streams as status shows them: how many there are, and how many an earlier weight sent where they are. Pure; nothing
//! is decided by them.

use serin_core::rollout::{Observation, Phase};

use crate::api::StreamsStatus;

/// From so many on they are worth a word: fewer are the calls of the very moment.
const FEW: i64 = 3;

/// What the last tick says; what was said before stands until the next one, or until the trial is over.
pub(super) fn after(before: Option<StreamsStatus>, phase: &Phase, observation: &Observation) -> Option<StreamsStatus> {
    phase.run()?;
    let Some(tick) = observation.ticks.last() else {
        return before;
    };
    let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let old = tick.open.old(observation.weight.canary());
    let percent = u128::from(old) * 100 / u128::from(tick.open.all().max(1));
    Some(StreamsStatus {
        canary: number(tick.open.canary),
        stable: number(tick.open.stable),
        old: number(old),
        old_percent: i32::try_from(percent).unwrap_or(100),
    })
}

/// What a person has to know of them.
pub(super) fn sentence(streams: &StreamsStatus) -> Option<String> {
    let StreamsStatus {
        canary,
        stable,
        old,
        old_percent,
    } = streams;
    (*old >= FEW).then(|| {
        let all = canary.saturating_add(*stable);
        format!(
            "{old} of {all} open streams ({old_percent} %) are where an earlier weight sent them, and stay until they end; a maximum \
             connection age of the service moves them"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_calls_of_the_moment_are_not_worth_a_word() {
        let of = |old| StreamsStatus {
            canary: 4,
            stable: 16,
            old,
            old_percent: 80,
        };
        assert_eq!(sentence(&of(2)), None);
        let said = sentence(&of(16)).unwrap();
        assert!(said.starts_with("16 of 20 open streams (80 %)"), "{said}");
    }
}
