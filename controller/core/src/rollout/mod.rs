//! The state machine of one rollout: `transition(plan, state, observation, now)` is its one line of meaning.
//!
//! It must not know how an observation was made or how an effect is carried out.

mod absorb;
pub mod effect;
pub mod hooks;
pub mod invariants;
pub mod observation;
pub mod outlook;
pub mod plan;
pub mod replay;
pub mod state;
pub mod transition;

pub use absorb::looked_at;
pub use effect::{Decision, Effect, Note, NoteKind};
pub use hooks::{Hook, HookAnswer, HookPoint, HookRun, HookView, Occasion, OnHookFailure, first_line};
pub use observation::{
    Answer, Arm, Autoscaler, Command, GitView, LiveWeight, Observation, Origin, PriorAnswer, PromotionOutcome,
    RollbackOutcome, Sampling, Verb,
};
pub use outlook::{Outlook, StepOutlook};
pub use plan::{Capacity, FieldError, OnInconclusive, Plan, PlanDraft, RouteOrigin, Step, StepDraft, Testers};
pub use state::{
    Baseline, CommandAnswer, Commit, Contest, Ending, Floor, Footing, Lowered, PauseReason, Paused, Phase, PhaseName,
    Preflight, Progressing, PromoteStage, Promoting, RestNote, Revision, RollbackGit, RollbackReason, RollingBack, Run,
    Starting, State, Trial, Way, short,
};
pub use transition::{refused, transition};
