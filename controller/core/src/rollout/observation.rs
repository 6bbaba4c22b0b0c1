//! What was seen of the outside world before a decision. Values only: how they were read is the adapters' business.

use jiff::Timestamp;

use super::hooks::{HookView, Occasion};
use super::state::{Commit, Revision};
use crate::Weight;
use crate::analysis::{Baseline, Sides, Tick};

/// One look at everything that a decision needs.
#[derive(Debug, Clone, PartialEq)]
pub struct Observation {
    /// The stable Deployment.
    pub stable: Arm,
    /// The canary Deployment.
    pub canary: Arm,
    /// The autoscaler of the stable Deployment; looked for during a trial, and while there is something to give back.
    pub autoscaler: Option<Autoscaler>,
    /// The canary's weight on the route.
    pub weight: LiveWeight,
    /// What Linkerd says of the route; `None` while it says nothing.
    pub route_accepted: Option<bool>,
    /// Whether every call goes by the weights.
    pub sides: Sides,
    /// Who wrote the weights last, if it was not Serin.
    pub writer: Option<String>,
    /// The answer to [`super::Effect::AskCauses`].
    pub causes: Option<Answer<String>>,
    /// The `pod-template-hash` that the canary's Service selects, if it stands.
    pub pinned: Option<String>,
    /// Ticks since [`super::Phase::samples_since`], in order.
    pub ticks: Vec<Tick>,
    /// Whether these are all that there are.
    pub sampling: Sampling,
    /// The answer to [`super::Effect::AskPreflight`]: warnings, or what stands in the way of a start.
    pub preflight: Option<Answer<Vec<String>>>,
    /// The answer to [`super::Effect::AskBaseline`]: what stable did before the trial.
    pub baseline: Option<Answer<Baseline>>,
    /// What the config repository answered so far.
    pub git: GitView,
    /// What hooks answered so far to [`super::Effect::RunHook`].
    pub hooks: Vec<(Occasion, HookView)>,
    /// An operator's command that was not answered yet.
    pub command: Option<Command>,
    /// Whether the rollout is being deleted.
    pub deleted: bool,
}

/// What Prometheus said when it was asked for ticks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Sampling {
    /// It answered, or nothing was to be asked.
    #[default]
    Answered,
    /// It could not be asked, or its answer could not be used: why.
    Failed(String),
    /// It has not answered yet. Nothing is decided that its answer could contradict.
    Awaited,
}

impl Sampling {
    /// Why there is no answer, if it will not come.
    pub fn problem(&self) -> Option<&str> {
        match self {
            Self::Failed(why) => Some(why),
            Self::Answered | Self::Awaited => None,
        }
    }
}

/// One arm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arm {
    /// What it is to run; `None` while the Deployment controller has not caught up with its template.
    pub revision: Option<Revision>,
    /// Replicas wanted.
    pub desired: i32,
    /// Ready pods of `revision`.
    pub ready: i32,
    /// Ready pods of any revision.
    pub ready_any: i32,
    /// Whether every replica runs `revision` and is available.
    pub settled: bool,
}

/// A HorizontalPodAutoscaler, as far as a decision needs to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Autoscaler {
    /// Its name.
    pub name: String,
    /// Its `minReplicas`; 1 where it says nothing.
    pub minimum: i32,
}

/// The weight as the route says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LiveWeight {
    /// There is no route yet: all traffic goes to the apex Service's own pods, that is, to stable.
    Absent,
    /// The canary's share.
    At(Weight),
}

impl LiveWeight {
    /// The canary's share, zero without a route.
    pub fn canary(self) -> Weight {
        match self {
            Self::Absent => Weight::ZERO,
            Self::At(weight) => weight,
        }
    }
}

/// Answers of the config repository to what the last decisions asked; each is kept as long as it is asked for, and says which
/// revision it is about: one that took its time may come when another revision is on trial.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct GitView {
    /// To [`super::Effect::AskOrigin`].
    pub origin: Option<Answer<(Revision, Origin)>>,
    /// To [`super::Effect::CommitRollback`].
    pub rollback: Option<Answer<(Revision, RollbackOutcome)>>,
    /// To [`super::Effect::CommitPromotion`].
    pub promotion: Option<Answer<(Revision, PromotionOutcome)>>,
    /// The word for the first of these that failed, as a condition's reason.
    pub reason: Option<&'static str>,
}

/// An answer, or why there is none yet; it is asked again meanwhile.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer<T> {
    /// It was answered.
    Is(T),
    /// The last try failed, for this reason.
    Failed(String),
}

impl<T> Answer<(Revision, T)> {
    /// The answer if it is about this revision. A failed try is about whatever is asked: it is asked again.
    pub fn about(&self, revision: &Revision) -> Option<Answer<&T>> {
        match self {
            Self::Is((about, answer)) => (about == revision).then_some(Answer::Is(answer)),
            Self::Failed(why) => Some(Answer::Failed(why.clone())),
        }
    }
}

/// Where a canary revision came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The canary commit that brought it, if there is one whose revision was not promoted since.
    pub commit: Option<Commit>,
    /// Whether Git's head is at rest: the canary's subtree equals stable's.
    pub at_rest: bool,
    /// How Serin answered this revision before.
    pub prior: Option<PriorAnswer>,
}

/// An answer that stands in Git's trailers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PriorAnswer {
    /// It was promoted.
    Promoted,
    /// It was rolled back.
    RolledBack,
}

/// What came of a rollback commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RollbackOutcome {
    /// It is on the branch (by us, now or before a crash).
    Committed {
        /// Its object id.
        id: String,
        /// When the push was answered.
        at: Timestamp,
        /// When it was made, as it says itself.
        committed: Option<Timestamp>,
        /// Why only the rollout's own fields were restored; none when its commits were truly reverted.
        own_fields_because: Option<String>,
    },
    /// Git was at rest already.
    AtRest,
    /// The head carries another canary revision: there is nothing of the failed one to undo.
    Superseded,
}

/// What came of a promotion commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PromotionOutcome {
    /// It is on the branch (by us, now or before a crash).
    Committed {
        /// Its object id.
        id: String,
        /// When the push was answered.
        at: Timestamp,
        /// When it was made, as it says itself.
        committed: Option<Timestamp>,
    },
    /// The head's stable carries the judged canary already: people promoted it themselves.
    AlreadyThere,
    /// The head's stable is not the baseline.
    StableChanged,
    /// The head's canary is not the judged revision.
    CanaryChanged,
    /// The revision was rolled back.
    RolledBack,
}

/// An operator's command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// Unique, so that it is answered once.
    pub id: String,
    /// What is asked.
    pub verb: Verb,
    /// Why, in the operator's words.
    pub reason: String,
    /// Whose it is, as the API server knows them; none when the sender did not say.
    pub by: Option<String>,
}

/// What an operator can ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Skip the rest of the step.
    Promote,
    /// Skip all steps and the analysis.
    PromoteFull,
    /// Pass an approval.
    Approve,
    /// Hold the weight.
    Pause,
    /// Go on.
    Resume,
    /// Roll back.
    Abort,
    /// Start a revision that was rolled back before.
    Retry,
}

impl Verb {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Promote,
        Self::PromoteFull,
        Self::Approve,
        Self::Pause,
        Self::Resume,
        Self::Abort,
        Self::Retry,
    ];

    /// As one word: in the annotation, and the verb of Kubernetes's authorization that it takes.
    pub fn word(self) -> &'static str {
        match self {
            Self::PromoteFull => "promote-full",
            other => other.name(),
        }
    }

    /// As it is written on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Promote => "promote",
            Self::PromoteFull => "promote --full",
            Self::Approve => "approve",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Abort => "abort",
            Self::Retry => "retry",
        }
    }
}
