//! What a rollout remembers between two decisions: all of it stands in status, so that a restart goes on from there.

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::hooks::HookRun;
use super::plan::Plan;
use crate::Weight;
use crate::analysis::{Analysis, Evidence, Following};

/// What an arm runs: the name that the config repository gave it, and the hash of the pod template that carries it.
///
/// The name alone is not enough: a change of configuration alone is a revision too. Hashes of two arms are never
/// compared, as their templates differ in labels; names are.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Revision {
    /// The pod template's `serin.dev/revision`, else its hash.
    pub name: String,
    /// The ReplicaSet's `pod-template-hash`.
    pub hash: String,
}

impl Revision {
    /// Whether its name is its hash, for want of the annotation: then the names of two arms are never compared either.
    pub fn is_unnamed(&self) -> bool {
        self.name == self.hash
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// A commit in the config repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {
    /// The full object id.
    pub id: String,
    /// Name and address of its author.
    #[serde(default)]
    pub author: String,
    /// The first line of its message.
    #[serde(default)]
    pub subject: String,
}

/// An object id of Git as people read it: its first twelve characters.
pub fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

/// Somebody else wrote the weights.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contest {
    /// Who, as far as the route tells.
    pub by: String,
    /// How often in this trial.
    pub times: u32,
}

/// What the canary's weight stands on: pods that are ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Footing {
    /// Stable's replicas when the canary last had the pods for its weight: what it lacks is counted beside these. A stable
    /// that grows takes nothing from a canary that grows after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beside: Option<i32>,
    /// Since when too few of its pods are ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub short_since: Option<Timestamp>,
    /// What the weight was lowered to for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lowered: Option<Lowered>,
    /// How often that was in the trial, since a person last said that it goes on.
    #[serde(default, skip_serializing_if = "is_none_yet")]
    pub times: u32,
}

impl Footing {
    fn is_new(&self) -> bool {
        *self == Self::default()
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks by reference")]
fn is_none_yet(times: &u32) -> bool {
    *times == 0
}

/// A weight that is lower than wanted, as pods were lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lowered {
    /// What the ready pods could carry.
    pub to: Weight,
    /// When that was decided.
    pub at: Timestamp,
}

/// One trial of one revision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Run {
    /// On trial.
    pub revision: Revision,
    /// What stable ran when the trial began.
    pub baseline: Revision,
    /// The commit that brought the revision, where it was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<Commit>,
    /// When the trial began.
    pub began: Timestamp,
    /// Ticks up to here are in the analysis.
    pub as_of: Timestamp,
    /// The end of the last tick in which the judged arm was seen.
    pub fresh_at: Timestamp,
    /// The analysis's memory.
    pub analysis: Analysis,
    /// Whether traffic follows the step's weight.
    #[serde(default)]
    pub following: Following,
    /// What its weight stands on.
    #[serde(default, skip_serializing_if = "Footing::is_new")]
    pub footing: Footing,
    /// Who wrote the weights beside Serin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contest: Option<Contest>,
    /// The hooks that were asked so far.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<HookRun>,
}

/// The memory of a rollout.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// The canary's revision that was last started or recorded: only another one can start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<Revision>,
    /// Since when the live canary weight is zero.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quiet_since: Option<Timestamp>,
    /// Since when a rollout that is being deleted is without a route.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub routeless_since: Option<Timestamp>,
    /// The command that was answered last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_command: Option<CommandAnswer>,
    /// What stable's autoscaler is held at, and what it gets back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub floor: Option<Floor>,
    /// Revisions that were promoted, newest first; one that was rolled back since is not among them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub promoted: Vec<Revision>,
    /// Where it stands.
    pub phase: Phase,
}

impl State {
    /// Whether `next` is this, with more ticks counted: what is lost when it is not recorded can be counted again.
    pub fn counts_up_to(&self, next: &Self) -> bool {
        let mut counted = self.clone();
        if let (Some(run), Some(of)) = (counted.phase.run_mut(), next.phase.run()) {
            run.as_of = of.as_of;
            run.fresh_at = of.fresh_at;
            run.analysis = of.analysis.clone();
            run.following = of.following.clone();
        }
        counted == *next
    }
}

/// Stable's autoscaler may not take it down while its traffic is elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Floor {
    /// The HorizontalPodAutoscaler's name.
    pub autoscaler: String,
    /// The `minReplicas` that it gets back.
    pub original: i32,
    /// The `minReplicas` that it has meanwhile: stable's replicas when the first weight rose.
    pub held: i32,
}

/// The answer to an operator's command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CommandAnswer {
    /// The command's own id.
    pub id: String,
    /// What was asked.
    pub verb: String,
    /// Whose it was, if the sender said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Why, in the operator's words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Whether it was done.
    pub accepted: bool,
    /// What was done, or why not.
    pub message: String,
}

/// The phases of the design, each with what only it has to remember.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[expect(
    clippy::large_enum_variant,
    reason = "there is one a rollout, and it is in a trial when it matters"
)]
pub enum Phase {
    /// Nothing to judge.
    Idle(RestNote),
    /// Waiting for the canary's capacity, at weight 0.
    Starting(Starting),
    /// At a step's weight, judging.
    Progressing(Progressing),
    /// Holding a weight for a person, or for sight.
    Paused(Paused),
    /// From the last step to the end of the hand-over to stable.
    Promoting(Promoting),
    /// From weight 0 to the rollback commit applied.
    RollingBack(RollingBack),
    /// People took the revision back themselves.
    Withdrawn(Ending),
    /// The revision runs as stable.
    Promoted(Ending),
    /// The revision is out of Git and of the cluster.
    RolledBack(Ending),
}

impl Default for Phase {
    fn default() -> Self {
        Self::Idle(RestNote::Quiet)
    }
}

/// Why nothing is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum RestNote {
    /// The canary runs what stable runs.
    #[default]
    Quiet,
    /// Stable moved and the canary did not.
    Stale,
    /// The canary's revision was rolled back before; `retry` starts it.
    Held,
}

/// Whether what holds for a whole trial was frozen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Baseline {
    /// It has to be asked for what stable did before.
    #[default]
    Wanted,
    /// It is in the analysis.
    Frozen,
}

/// Whether a start would work, as far as is known.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Preflight {
    /// It has to be asked for.
    #[default]
    Wanted,
    /// This stands in its way: nothing is begun until it is mended.
    Refused(String),
    /// Nothing stands in its way.
    Passed,
}

/// See [`Phase::Starting`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Starting {
    /// The trial.
    pub run: Run,
    /// Whether it can work at all.
    #[serde(default)]
    pub preflight: Preflight,
    /// Whether its baseline is frozen.
    pub baseline: Baseline,
    /// When the wait for capacity began.
    pub since: Timestamp,
}

/// See [`Phase::Progressing`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Progressing {
    /// The trial.
    pub run: Run,
    /// Index of the step.
    pub step: usize,
    /// When the step was entered.
    pub since: Timestamp,
    /// The weight from which this step rises.
    pub from: Weight,
    /// When the step's weight was first seen on the route.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight_at: Option<Timestamp>,
}

/// Why a rollout waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PauseReason {
    /// An operator said so.
    Operator,
    /// The step asks for an approval before the next one.
    Approval,
    /// The step's time is over without a verdict.
    Inconclusive,
    /// No fresh scrape for the blind deadline.
    Blind,
    /// Stable no longer runs the baseline.
    StableChanged,
    /// Somebody lowered the canary's weight, or raises it again and again.
    WeightContested,
    /// A metric of the user's own can't be read.
    MetricUnusable,
    /// The step's time is over, and its calls do not go where the weight says.
    TrafficNotFollowing,
    /// The spec made no sense, or named what was not there.
    SpecRefused,
    /// A hook said no, or said nothing in time.
    Hook,
    /// Its pods were lost again and again.
    PodsLost,
}

/// See [`Phase::Paused`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Paused {
    /// The trial.
    pub run: Run,
    /// Index of the step that was interrupted.
    pub step: usize,
    /// Why.
    pub reason: PauseReason,
    /// The weight that is held.
    pub weight: Weight,
    /// Since when.
    pub since: Timestamp,
}

/// How far a promotion is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum PromoteStage {
    /// The promotion commit is wanted.
    Committing,
    /// It is pushed; stable has to run the revision.
    Applying,
    /// Traffic returns to stable, share by share.
    Returning {
        /// Index into the shares of the return.
        share: usize,
        /// When this share's weight was first seen on the route.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        weight_at: Option<Timestamp>,
    },
    /// All traffic is back; the canary is scaled down after the drain.
    Draining,
}

/// What a promotion rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Way {
    /// The revision passed its last step; all traffic is on the canary.
    #[default]
    Trial,
    /// It was promoted before, and lately; all traffic stays on stable, and the canary has none.
    FastReturn,
}

/// See [`Phase::Promoting`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Promoting {
    /// The trial.
    pub run: Run,
    /// What it rests on.
    #[serde(default)]
    pub way: Way,
    /// How far it is.
    pub stage: PromoteStage,
    /// When it began.
    pub since: Timestamp,
    /// Our commit, once pushed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<Pushed>,
}

/// A commit of ours that is in the config repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pushed {
    /// The full object id.
    pub id: String,
    /// When the push was answered.
    pub at: Timestamp,
    /// When it was made, as it says itself; decides nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub committed: Option<Timestamp>,
}

/// Why a revision is taken back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum RollbackReason {
    /// The analysis failed; the deciding evidence.
    Failed(Evidence),
    /// A step's time was over without a verdict, and the rollout says that this fails.
    Inconclusive,
    /// An operator's abort, with the reason given.
    Aborted(String),
    /// Canary capacity did not come in time.
    ProgressDeadline,
    /// Stable did not run the promoted revision in time.
    PromoteDeadline,
    /// A hook said no, or said nothing in time; which one, and why.
    Hook(String),
}

impl fmt::Display for RollbackReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(evidence) => f.write_str(&evidence.sentence),
            Self::Inconclusive => f.write_str("no verdict in the step's time"),
            Self::Aborted(why) if why.is_empty() => f.write_str("aborted by an operator"),
            Self::Aborted(why) => write!(f, "aborted by an operator: {why}"),
            Self::ProgressDeadline => f.write_str("the canary's pods were not ready in time"),
            Self::Hook(why) => f.write_str(why),
            Self::PromoteDeadline => f.write_str("stable did not run the promoted revision in time"),
        }
    }
}

/// How far a rollback is in Git.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RollbackGit {
    /// The commit is wanted.
    Committing,
    /// The commit is pushed; the cluster has to follow.
    Applying(Pushed),
    /// Git was at rest already: people were faster.
    AtRest,
}

/// See [`Phase::RollingBack`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RollingBack {
    /// The trial.
    pub run: Run,
    /// Why.
    pub reason: RollbackReason,
    /// When it was decided.
    pub since: Timestamp,
    /// When the canary's traffic was first seen to be gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic_at: Option<Timestamp>,
    /// Where the promotion commit was pushed before: both arms have to be restored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promoted: Option<Pushed>,
    /// Whether traffic has to stand on the canary meanwhile: stable runs the failed promotion.
    #[serde(default)]
    pub on_canary: bool,
    /// Why the commit restores the rollout's own fields only, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own_fields_because: Option<String>,
    /// How far it is in Git.
    pub git: RollbackGit,
}

/// How a revision ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ending {
    /// The trial.
    pub revision: Revision,
    /// The commit that brought it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<Commit>,
    /// When the trial began.
    pub began: Timestamp,
    /// When it ended.
    pub at: Timestamp,
    /// Our promotion or rollback commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Pushed>,
    /// Why, in words.
    pub reason: String,
    /// When the canary's traffic was gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic_at: Option<Timestamp>,
    /// The hooks that are told of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<HookRun>,
}

/// What is known of a trial to its end and beyond.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trial<'a> {
    /// On trial.
    pub revision: &'a Revision,
    /// The commit that brought it, where it was found.
    pub commit: Option<&'a Commit>,
    /// When it began.
    pub began: Timestamp,
}

impl Trial<'_> {
    /// Whether it is the same: a revision may be tried again, and its commit be found later.
    pub fn is(self, other: Trial<'_>) -> bool {
        (&self.revision.name, self.began) == (&other.revision.name, other.began)
    }
}

/// The name of a phase: what a person reads, and what metrics are labelled with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the phases are described at Phase")]
pub enum PhaseName {
    Idle,
    Starting,
    Progressing,
    Paused,
    Promoting,
    RollingBack,
    Withdrawn,
    Promoted,
    RolledBack,
}

impl PhaseName {
    /// The word for it in status, metrics and logs.
    pub fn word(self) -> &'static str {
        match self {
            Self::Idle => "Idle",
            Self::Starting => "Starting",
            Self::Progressing => "Progressing",
            Self::Paused => "Paused",
            Self::Promoting => "Promoting",
            Self::RollingBack => "RollingBack",
            Self::Withdrawn => "Withdrawn",
            Self::Promoted => "Promoted",
            Self::RolledBack => "RolledBack",
        }
    }
}

impl fmt::Display for PhaseName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl Phase {
    /// The phase's name.
    pub fn name(&self) -> PhaseName {
        match self {
            Self::Idle(_) => PhaseName::Idle,
            Self::Starting(_) => PhaseName::Starting,
            Self::Progressing(_) => PhaseName::Progressing,
            Self::Paused(_) => PhaseName::Paused,
            Self::Promoting(_) => PhaseName::Promoting,
            Self::RollingBack(_) => PhaseName::RollingBack,
            Self::Withdrawn(_) => PhaseName::Withdrawn,
            Self::Promoted(_) => PhaseName::Promoted,
            Self::RolledBack(_) => PhaseName::RolledBack,
        }
    }

    /// The trial that is under way.
    pub fn run(&self) -> Option<&Run> {
        match self {
            Self::Starting(Starting { run, .. })
            | Self::Progressing(Progressing { run, .. })
            | Self::Paused(Paused { run, .. })
            | Self::Promoting(Promoting { run, .. })
            | Self::RollingBack(RollingBack { run, .. }) => Some(run),
            Self::Idle(_) | Self::Withdrawn(_) | Self::Promoted(_) | Self::RolledBack(_) => None,
        }
    }

    /// What the canary's weight was lowered to, as pods were lost, while it is.
    pub fn lowered(&self) -> Option<Lowered> {
        match self {
            Self::Progressing(_) | Self::Paused(_) | Self::Promoting(_) => self.run()?.footing.lowered,
            _ => None,
        }
    }

    /// How the last revision ended.
    pub fn ending(&self) -> Option<&Ending> {
        match self {
            Self::Withdrawn(ending) | Self::Promoted(ending) | Self::RolledBack(ending) => Some(ending),
            _ => None,
        }
    }

    /// The trial that is under way, or that ended.
    pub fn trial(&self) -> Option<Trial<'_>> {
        let run = self.run().map(|run| Trial {
            revision: &run.revision,
            commit: run.commit.as_ref(),
            began: run.began,
        });
        run.or_else(|| {
            self.ending().map(|ending| Trial {
                revision: &ending.revision,
                commit: ending.commit.as_ref(),
                began: ending.began,
            })
        })
    }

    fn run_mut(&mut self) -> Option<&mut Run> {
        match self {
            Self::Starting(Starting { run, .. })
            | Self::Progressing(Progressing { run, .. })
            | Self::Paused(Paused { run, .. })
            | Self::Promoting(Promoting { run, .. })
            | Self::RollingBack(RollingBack { run, .. }) => Some(run),
            Self::Idle(_) | Self::Withdrawn(_) | Self::Promoted(_) | Self::RolledBack(_) => None,
        }
    }

    /// Since when ticks are wanted for a decision; `None` where nothing is judged.
    pub fn samples_since(&self) -> Option<Timestamp> {
        match self {
            Self::Progressing(Progressing {
                weight_at: None,
                from,
                run,
                ..
            }) if from.is_zero() && run.footing.lowered.is_none() => None,
            Self::Starting(_)
            | Self::RollingBack(_)
            | Self::Promoting(Promoting {
                stage: PromoteStage::Draining,
                ..
            }) => None,
            _ => self.run().map(|run| run.as_of),
        }
    }
}

impl Run {
    /// A trial that begins now.
    pub fn begin(revision: Revision, baseline: Revision, commit: Option<Commit>, plan: &Plan, now: Timestamp) -> Self {
        Self {
            revision,
            baseline,
            commit,
            began: now,
            as_of: now,
            fresh_at: now,
            analysis: plan.analysis(&crate::analysis::Baseline::default()),
            following: Following::default(),
            footing: Footing::default(),
            contest: None,
            hooks: Vec::new(),
        }
    }
}

/// The time after a span, never beyond the end of time.
pub(crate) fn after(at: Timestamp, span: SignedDuration) -> Timestamp {
    at.checked_add(span).unwrap_or(Timestamp::MAX)
}
