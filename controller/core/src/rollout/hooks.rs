//! Hooks: questions to others at certain points of a rollout. Most are gates, whose answer is waited for. It must not know who is
//! asked, nor how.

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::plan::{FieldError, Plan};
use super::state::{Ending, Paused, Phase, Progressing, RollingBack, Run, Starting};

/// So often hooks may be asked in one trial: what was answered stands in status, which has a bound.
pub const MOST_OCCASIONS: usize = 64;
/// The longest time that a gate may take: none waits for ever.
pub const LONGEST_TIMEOUT: SignedDuration = SignedDuration::from_hours(24);
/// What status holds of the words of an answer, in bytes.
const LONGEST_WORDS: usize = 200;

/// Somebody who is asked, or told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// Its name, unique in a plan.
    pub name: String,
    /// When it is asked.
    pub at: Vec<HookPoint>,
    /// The longest wait for its answer; above zero and up to [`LONGEST_TIMEOUT`].
    pub timeout: SignedDuration,
    /// What happens when its answer is no, or does not come. Points that are no gates have no use for it.
    pub on_failure: OnHookFailure,
}

/// When a hook is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum HookPoint {
    /// The canary's pods are ready; it gets no traffic before the answer.
    BeforeRollout,
    /// A step has its weight; it does not pass before the answer, and is judged meanwhile.
    Step,
    /// A step was entered; its weight is not written before the answer.
    BeforeTrafficIncrease,
    /// The last step would pass; the promotion does not begin before the answer.
    BeforePromotion,
    /// The revision runs as stable. Nothing waits for the answer.
    AfterPromotion,
    /// A revision is rolled back, and its traffic is gone. Nothing waits for the answer.
    OnRollback,
}

impl HookPoint {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::BeforeRollout,
        Self::Step,
        Self::BeforeTrafficIncrease,
        Self::BeforePromotion,
        Self::AfterPromotion,
        Self::OnRollback,
    ];

    /// Whether something waits for the answer.
    pub fn is_gate(self) -> bool {
        !matches!(self, Self::AfterPromotion | Self::OnRollback)
    }

    /// Whether it is once for each step, and not once for a trial.
    pub fn is_of_a_step(self) -> bool {
        matches!(self, Self::Step | Self::BeforeTrafficIncrease)
    }

    /// Its word in a spec and in what is sent.
    pub fn word(self) -> &'static str {
        match self {
            Self::BeforeRollout => "BeforeRollout",
            Self::Step => "Step",
            Self::BeforeTrafficIncrease => "BeforeTrafficIncrease",
            Self::BeforePromotion => "BeforePromotion",
            Self::AfterPromotion => "AfterPromotion",
            Self::OnRollback => "OnRollback",
        }
    }
}

/// What a gate does when the answer is no, or does not come in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum OnHookFailure {
    /// The revision is rolled back.
    #[default]
    RollBack,
    /// The weight is held for a person: `resume` asks again, `promote` goes past it.
    Pause,
    /// The rollout goes on.
    Continue,
}

/// One occasion to ask a hook: it is asked once, and asked again only with the same words until the answer is there.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Occasion {
    /// The hook's name.
    pub hook: String,
    /// When.
    pub point: HookPoint,
    /// Index of the step, at points of a step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<usize>,
    /// How often a person has had it asked again.
    #[serde(default, skip_serializing_if = "is_first")]
    pub attempt: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
fn is_first(attempt: &u32) -> bool {
    *attempt == 0
}

impl fmt::Display for Occasion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "hook {} ({}", self.hook, self.point.word())?;
        if let Some(step) = self.step {
            write!(f, ", step {}", step + 1)?;
        }
        f.write_str(")")
    }
}

/// A hook that was asked in a trial.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookRun {
    /// What for.
    #[serde(flatten)]
    pub occasion: Occasion,
    /// Since when an answer is waited for.
    pub since: Timestamp,
    /// What was answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<HookAnswer>,
}

/// How a hook's occasion ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum HookAnswer {
    /// Yes.
    Passed,
    /// No, and why.
    Failed(String),
    /// None came in time; what kept it, as far as is known.
    TimedOut(String),
    /// A person went past it, or it was taken out of the plan.
    PassedOver,
}

/// What was heard of an occasion that is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HookView {
    /// Yes.
    Passed,
    /// No, and why.
    Failed(String),
    /// Nothing yet, and what keeps it; it is asked again.
    Pending(String),
}

impl HookRun {
    /// Asked at this instant.
    pub(super) fn begin(occasion: Occasion, now: Timestamp) -> Self {
        Self {
            occasion,
            since: now,
            answer: None,
        }
    }

    /// Whether it is about this hook at this point.
    pub(super) fn is_of(&self, hook: &Hook, point: HookPoint, step: Option<usize>) -> bool {
        self.occasion.hook == hook.name && self.occasion.point == point && self.occasion.step == step
    }

    /// What went wrong, if it did.
    pub(super) fn failure(&self) -> Option<String> {
        let Self { occasion, answer, .. } = self;
        match answer.as_ref()? {
            HookAnswer::Failed(why) => Some(format!("{occasion} failed: {why}")),
            HookAnswer::TimedOut(why) if why.is_empty() => Some(format!("{occasion} did not answer in time")),
            HookAnswer::TimedOut(why) => Some(format!("{occasion} did not answer in time: {why}")),
            HookAnswer::Passed | HookAnswer::PassedOver => None,
        }
    }
}

/// What others say: the first line that says something, without control characters, and no longer than status has room for.
pub fn first_line(text: &str) -> String {
    let line = text.lines().map(str::trim).find(|line| !line.is_empty());
    let plain = line.unwrap_or_default().chars().filter(|c| !c.is_control());
    let mut words: String = plain.take(LONGEST_WORDS).collect();
    words.truncate(words.floor_char_boundary(LONGEST_WORDS));
    words
}

impl Plan {
    /// The hook of this name.
    pub fn hook(&self, name: &str) -> Option<&Hook> {
        self.hooks.iter().find(|hook| hook.name == name)
    }

    /// What the plan does when an occasion of a gate failed.
    pub(super) fn on_failure(&self, run: &HookRun) -> OnHookFailure {
        // One that was taken out of the plan holds nothing up.
        let hook = self.hook(&run.occasion.hook);
        hook.map_or(OnHookFailure::Continue, |hook| hook.on_failure)
    }
}

/// What is wrong with hooks, each by its field.
pub(super) fn problems(hooks: &[Hook], steps: usize) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (i, hook) in hooks.iter().enumerate() {
        let at = |name: &str| format!("spec.hooks[{i}]{name}");
        if hooks.iter().take(i).any(|known| known.name == hook.name) {
            let problem = format!("{} stands there twice", hook.name);
            errors.push(FieldError::new(at(".name"), problem));
        }
        let mut points = hook.at.iter().enumerate();
        if hook.at.is_empty() || points.any(|(nth, point)| hook.at.iter().take(nth).any(|known| known == point)) {
            errors.push(FieldError::new(at(".at"), "give one point or several, each once"));
        }
        if hook.timeout <= SignedDuration::ZERO || hook.timeout > LONGEST_TIMEOUT {
            let problem = "it must be longer than nothing and up to 24h: no gate waits for ever";
            errors.push(FieldError::new(at(".timeout"), problem));
        }
    }
    let points = hooks.iter().flat_map(|hook| &hook.at);
    let occasions: usize = points.map(|point| if point.is_of_a_step() { steps } else { 1 }).sum();
    if occasions > MOST_OCCASIONS {
        let problem = format!(
            "they would be asked {occasions} times in one rollout, and {MOST_OCCASIONS} is the most: name fewer points of \
             steps, or fewer steps"
        );
        errors.push(FieldError::new("spec.hooks", problem));
    }
    errors
}

impl Phase {
    /// The hooks whose answers are waited for, or listened for, in this phase.
    pub fn open_hooks(&self) -> impl Iterator<Item = &HookRun> {
        let (runs, gates): (&[HookRun], bool) = match self {
            Self::Starting(Starting { run, .. })
            | Self::Progressing(Progressing { run, .. })
            | Self::Paused(Paused { run, .. }) => (&run.hooks, true),
            Self::RollingBack(RollingBack { run, .. }) => (&run.hooks, false),
            Self::Promoted(Ending { hooks, .. }) | Self::RolledBack(Ending { hooks, .. }) => (hooks, false),
            Self::Promoting(_) | Self::Idle(_) | Self::Withdrawn(_) => (&[], false),
        };
        runs.iter()
            .filter(move |run| run.answer.is_none() && run.occasion.point.is_gate() == gates)
    }
}

impl Run {
    /// The gates that are waited for.
    pub(super) fn waits_for_hooks(&self) -> bool {
        let mut runs = self.hooks.iter();
        runs.any(|run| run.answer.is_none() && run.occasion.point.is_gate())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_others_are_one_short_line() {
        assert_eq!(first_line("\n  no:\u{7} closed \nmore"), "no: closed");
        assert_eq!(first_line(&"x".repeat(500)).len(), LONGEST_WORDS);
        assert_eq!(first_line(&"語".repeat(500)).chars().count(), LONGEST_WORDS / 3);
        assert_eq!(first_line(""), "");
    }

    #[test]
    fn an_occasion_is_small_in_status_and_is_read_again() {
        let run = HookRun::begin(
            Occasion {
                hook: "smoke".into(),
                point: HookPoint::BeforeRollout,
                step: None,
                attempt: 0,
            },
            Timestamp::UNIX_EPOCH,
        );
        let text = serde_json::to_string(&run).unwrap();
        assert_eq!(
            text,
            r#"{"hook":"smoke","point":"BeforeRollout","since":"1970-01-01T00:00:00Z"}"#
        );
        assert_eq!(serde_json::from_str::<HookRun>(&text).unwrap(), run);
        for point in HookPoint::ALL {
            assert_eq!(serde_json::to_value(point).unwrap(), point.word());
        }
    }
}
