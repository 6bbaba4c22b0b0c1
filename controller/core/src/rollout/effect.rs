//! What a decision asks the outside world to do. Data only, and each effect may be carried out twice.

use jiff::Timestamp;

use super::hooks::Occasion;
use super::state::{Commit, Pushed, Revision, State};
use crate::Weight;

/// Something to do, in the order of the list. `SetWeight(0)` after a failure always comes first.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Write the canary's share to the route, both weights in one write.
    SetWeight(Weight),
    /// See that the arm Services and the route stand; the canary's Service selects only this revision's pods.
    EnsureObjects {
        /// The `pod-template-hash` that gets the canary's traffic.
        pin: String,
    },
    /// Set the canary Deployment's replicas.
    ScaleCanary(i32),
    /// Set the minimum of stable's autoscaler.
    SetMinimum {
        /// The HorizontalPodAutoscaler's name.
        autoscaler: String,
        /// Its `minReplicas`.
        minimum: i32,
    },
    /// Ask whether the trial of this revision would work at all.
    AskPreflight(Revision),
    /// Ask why the traffic of this revision does not follow its weight.
    AskCauses(Revision),
    /// Ask for what stable did before the trial of this revision.
    AskBaseline(Revision),
    /// Ask the config repository where the canary's revision comes from.
    AskOrigin(Revision),
    /// Commit the rollback of this revision.
    CommitRollback {
        /// What failed.
        revision: Revision,
        /// What stable ran when the trial began.
        baseline: Revision,
        /// The commit that brought it, where it was found.
        commit: Option<Commit>,
        /// The promotion commit to undo with it.
        promoted: Option<Pushed>,
        /// Why, for the commit's trailers.
        reason: String,
    },
    /// Commit the promotion of this revision.
    CommitPromotion {
        /// What passed.
        revision: Revision,
        /// What stable has to be in Git.
        baseline: Revision,
        /// The commit that brought it, where it was found.
        commit: Option<Commit>,
    },
    /// Ask a hook, unless that was done for this very occasion; ask again what it said.
    RunHook(Occasion),
    /// Tell Argo CD to look at Git now.
    Refresh,
    /// Tell people.
    Note(Note),
    /// Delete the generated route: all traffic goes to the apex Service's own pods.
    RemoveRoute,
    /// Let go of everything: the finalizer may go, and what Serin made goes with the rollout.
    Release,
}

impl Effect {
    /// The word for it in traces.
    pub fn word(&self) -> &'static str {
        match self {
            Self::SetWeight(_) => "SetWeight",
            Self::EnsureObjects { .. } => "EnsureObjects",
            Self::ScaleCanary(_) => "ScaleCanary",
            Self::SetMinimum { .. } => "SetMinimum",
            Self::AskPreflight(_) => "AskPreflight",
            Self::AskCauses(_) => "AskCauses",
            Self::AskBaseline(_) => "AskBaseline",
            Self::AskOrigin(_) => "AskOrigin",
            Self::CommitRollback { .. } => "CommitRollback",
            Self::CommitPromotion { .. } => "CommitPromotion",
            Self::RunHook(_) => "RunHook",
            Self::Refresh => "Refresh",
            Self::Note(_) => "Note",
            Self::RemoveRoute => "RemoveRoute",
            Self::Release => "Release",
        }
    }
}

/// An event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Whether it is a warning.
    pub kind: NoteKind,
    /// The event's reason, in CamelCase.
    pub reason: &'static str,
    /// A sentence.
    pub message: String,
}

/// The two kinds of events that Kubernetes knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoteKind {
    /// As it should be.
    Normal,
    /// Somebody should know.
    Warning,
}

/// The answer of the state machine.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// The new memory.
    pub state: State,
    /// What to do, in this order, before the state is written.
    pub effects: Vec<Effect>,
    /// What happens now and next, for a person.
    pub message: String,
    /// When to look again although nothing changed.
    pub wake: Option<Timestamp>,
}
