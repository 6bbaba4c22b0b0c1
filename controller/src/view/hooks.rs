//! The hooks of a trial as people are shown them. Pure.

use jiff::Timestamp;
use serde::Serialize;

use crate::api::HookStatus;

/// How an occasion stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Stand {
    /// An answer is waited for.
    Waits,
    Passed,
    /// It said no, or nothing in time.
    Failed,
    /// Nobody waits for it any more.
    Over,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Hook<'a> {
    pub(crate) name: &'a str,
    /// When it is asked, such as `Step, step 2`.
    pub(crate) at: String,
    pub(crate) stand: Stand,
    /// How it stands, in words.
    pub(crate) word: &'static str,
    pub(crate) since: Timestamp,
    pub(crate) until: Option<Timestamp>,
    /// What happens without a yes; told while that can still happen.
    pub(crate) otherwise: Option<&'static str>,
    pub(crate) answer: &'a str,
}

pub(crate) fn of(hook: &HookStatus) -> Hook<'_> {
    let (stand, word) = match hook.state.as_str() {
        "Waiting" => (Stand::Waits, "is being asked"),
        "Asked" => (Stand::Waits, "could not say yet, and is asked again"),
        "Passed" => (Stand::Passed, "passed"),
        "Failed" => (Stand::Failed, "failed"),
        "TimedOut" => (Stand::Failed, "did not answer in time"),
        "PassedOver" => (Stand::Over, "was passed over"),
        _ => (Stand::Over, "is not waited for any more"),
    };
    let otherwise = match hook.on_failure.as_deref() {
        Some("RollBack") => Some("rolls back"),
        Some("Pause") => Some("waits for a person"),
        Some("Continue") => Some("goes on"),
        _ => None,
    };
    let step = hook.step.map(|step| format!(", step {step}")).unwrap_or_default();
    let again = match hook.attempt {
        0 => String::new(),
        attempt => format!(", asked for the {} time", nth(attempt.saturating_add(1))),
    };
    Hook {
        name: &hook.name,
        at: format!("{}{step}{again}", hook.point),
        stand,
        word,
        since: hook.since,
        until: hook.until,
        otherwise: otherwise.filter(|_| matches!(stand, Stand::Waits | Stand::Failed)),
        answer: &hook.answer,
    }
}

fn nth(number: i32) -> String {
    let ending = match (number % 10, number % 100) {
        (1, tens) if tens != 11 => "st",
        (2, tens) if tens != 12 => "nd",
        (3, tens) if tens != 13 => "rd",
        _ => "th",
    };
    format!("{number}{ending}")
}

impl Hook<'_> {
    /// All that there is to say, in one line; a time says what it is the time of.
    pub(crate) fn sentence(&self, clock: impl Fn(Timestamp) -> String) -> String {
        let mut words = format!("{} ({}) {}", self.name, self.at, self.word);
        match (self.until, self.otherwise) {
            (Some(until), Some(then)) => words.push_str(&format!(
                "; since {}, until {}, then it {then}",
                clock(self.since),
                clock(until)
            )),
            (Some(until), None) => {
                words.push_str(&format!("; since {}, until {}", clock(self.since), clock(until)));
            }
            (None, Some(then)) => words.push_str(&format!("; it {then}")),
            (None, None) => {}
        }
        if !self.answer.is_empty() {
            words.push_str(": ");
            words.push_str(self.answer);
        }
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(hook: serde_json::Value) -> String {
        let hook: HookStatus = serde_json::from_value(hook).unwrap();
        of(&hook).sentence(|at| at.strftime("%H:%M").to_string())
    }

    #[test]
    fn a_gate_says_for_whom_until_when_and_what_then() {
        let waits = says(serde_json::json!({
            "name": "window", "point": "Step", "step": 2, "attempt": 1, "state": "Asked", "since": "2026-11-20T10:00:00Z",
            "until": "2026-11-20T10:10:00Z", "onFailure": "Pause", "answer": "HTTP 503",
        }));
        assert_eq!(
            waits,
            "window (Step, step 2, asked for the 2nd time) could not say yet, and is asked again; since 10:00, until 10:10, then it \
             waits for a person: HTTP 503"
        );
        let no = says(serde_json::json!({
            "name": "smoke", "point": "BeforeRollout", "state": "Failed", "since": "2026-11-20T10:00:00Z",
            "onFailure": "RollBack", "answer": "HTTP 403: closed",
        }));
        assert_eq!(no, "smoke (BeforeRollout) failed; it rolls back: HTTP 403: closed");
        let yes = says(serde_json::json!({
            "name": "smoke", "point": "BeforeRollout", "state": "Passed", "since": "2026-11-20T10:00:00Z", "onFailure": "RollBack",
        }));
        assert_eq!(yes, "smoke (BeforeRollout) passed");
        assert_eq!(
            [1, 2, 3, 4, 11, 12, 21].map(nth).join(" "),
            "1st 2nd 3rd 4th 11th 12th 21st"
        );
    }
}
