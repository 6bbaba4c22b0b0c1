//! Git and the desk that asks it. What the commits of this model mean is what `gitops` does on a real branch; a push is a
//! compare-and-swap of the branch's head, as a fast-forward is.

use serin_core::rollout::{Answer, Commit, GitView, Origin, PriorAnswer, PromotionOutcome, Revision, RollbackOutcome};

use serin_core::rollout::state::Pushed;

use super::mutation::Mutation;
use super::world::{FIRST, HOTFIX, Rev, at, rev_of};

/// One commit on the branch.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Entry {
    pub(crate) what: What,
    /// The values after it.
    pub(crate) stable: Rev,
    pub(crate) canary: Rev,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum What {
    /// A canary revision came.
    Canary(Rev),
    /// Ours: answers the commit at this place.
    Promote(usize),
    /// Ours: answers the commits at these places, because this revision failed.
    Rollback(Vec<usize>, Rev),
    /// People's: a hotfix, a promotion by hand, a canary taken back.
    People,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Git {
    pub(crate) log: Vec<Entry>,
    /// People's commits that were ever pushed.
    pub(crate) by_people: usize,
}

/// A question under way.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Job {
    pub(crate) ask: Ask,
    /// Whether the process that asked still lives: else nobody hears the answer.
    pub(crate) heard: bool,
    /// What was computed on a head that may have moved since: the branch's length then, and the commit to push.
    pub(crate) planned: Option<(usize, Entry)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Ask {
    Origin(Rev),
    Rollback {
        rev: Rev,
        commit: Option<usize>,
        promoted: Option<usize>,
    },
    Promotion {
        rev: Rev,
        baseline: Rev,
        commit: Option<usize>,
    },
}

/// The answers that the process holds in its memory.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct Desk {
    pub(crate) origin: Slot,
    pub(crate) rollback: Slot,
    pub(crate) promotion: Slot,
    pub(crate) baseline: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) enum Slot {
    #[default]
    Empty,
    Running(Rev),
    Answered(Rev, Reply),
    Failed(Rev),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Reply {
    Origin {
        commit: Option<usize>,
        at_rest: bool,
        prior: Option<bool>,
    },
    Committed(usize),
    AtRest,
    Superseded,
    AlreadyThere,
    StableChanged,
    CanaryChanged,
    RolledBack,
}

/// What came of looking at the head: an answer, or a commit to push and its answer.
pub(crate) enum Step {
    Settled(Reply),
    Push(Entry),
}

pub(crate) fn sha(place: usize) -> String {
    format!("{place:040}")
}

pub(crate) fn place(sha: &str) -> usize {
    sha.parse().unwrap()
}

impl Git {
    pub(crate) fn new() -> Self {
        let log = vec![Entry {
            what: What::People,
            stable: FIRST,
            canary: FIRST,
        }];
        Self { log, by_people: 1 }
    }

    pub(crate) fn head(&self) -> &Entry {
        self.log.last().unwrap()
    }

    pub(crate) fn commit_canary(&mut self, rev: Rev) {
        let stable = self.head().stable;
        self.people(What::Canary(rev), stable, rev);
    }

    pub(crate) fn hotfix(&mut self) {
        let canary = self.head().canary;
        self.people(What::People, HOTFIX, canary);
    }

    pub(crate) fn take_back(&mut self) {
        let stable = self.head().stable;
        self.people(What::People, stable, stable);
    }

    pub(crate) fn promote_by_hand(&mut self) {
        let canary = self.head().canary;
        self.people(What::People, canary, canary);
    }

    fn people(&mut self, what: What, stable: Rev, canary: Rev) {
        self.by_people += 1;
        self.log.push(Entry { what, stable, canary });
    }

    /// The newest commit that brought this revision.
    fn brought(&self, rev: Rev) -> Option<usize> {
        self.log.iter().rposition(|entry| entry.what == What::Canary(rev))
    }

    fn rollback_of(&self, commit: usize) -> Option<usize> {
        let names = |entry: &Entry| matches!(&entry.what, What::Rollback(places, _) if places.contains(&commit));
        self.log.iter().position(names)
    }

    fn promotion_of(&self, commit: usize) -> Option<usize> {
        self.log.iter().position(|entry| entry.what == What::Promote(commit))
    }

    /// Canary commits since the branch last rested.
    fn since_rest(&self) -> Vec<usize> {
        let rest = self.log.iter().rposition(|entry| entry.stable == entry.canary);
        let from = rest.map_or(0, |place| place + 1);
        let since = self.log.iter().enumerate().skip(from);
        let canaries = since.filter(|(_, entry)| matches!(entry.what, What::Canary(_)));
        canaries.map(|(place, _)| place).collect()
    }

    /// What `gitops` would do on this head.
    pub(crate) fn compute(&self, ask: &Ask, mutation: Mutation) -> Step {
        match ask {
            Ask::Origin(rev) => Step::Settled(self.origin(*rev)),
            Ask::Rollback { rev, commit, promoted } => self.roll_back(*rev, *commit, *promoted, mutation),
            Ask::Promotion { rev, baseline, commit } => self.promote(*rev, *baseline, *commit, mutation),
        }
    }

    fn origin(&self, rev: Rev) -> Reply {
        let answers = self.log.iter().rev().find_map(|entry| match &entry.what {
            What::Promote(commit) => match self.log.get(*commit).map(|e| &e.what) {
                Some(What::Canary(promoted)) if *promoted == rev => Some(true),
                _ => None,
            },
            What::Rollback(_, failed) if *failed == rev => Some(false),
            _ => None,
        });
        let head = self.head();
        Reply::Origin {
            commit: self.brought(rev).filter(|commit| self.promotion_of(*commit).is_none()),
            at_rest: head.stable == head.canary,
            prior: answers,
        }
    }

    fn roll_back(&self, rev: Rev, commit: Option<usize>, promoted: Option<usize>, mutation: Mutation) -> Step {
        let commit = commit.or_else(|| self.brought(rev));
        let forgets = mutation == Mutation::ForgetsWhatItPushed;
        if let Some(done) = commit.and_then(|commit| self.rollback_of(commit)).filter(|_| !forgets) {
            return Step::Settled(Reply::Committed(done));
        }
        let head = self.head();
        let newer = head.canary != rev;
        let promoted = promoted.or_else(|| commit.and_then(|commit| self.promotion_of(commit)));
        let restored = promoted.and_then(|place| {
            let (before, after) = (self.log.get(place.checked_sub(1)?)?, self.log.get(place)?);
            (head.stable == after.stable && before.stable != after.stable).then_some(before.stable)
        });
        if let Some(stable) = restored {
            let mut undone = if newer { vec![] } else { self.since_rest() };
            undone.extend(commit);
            let canary = if newer { head.canary } else { stable };
            return Step::Push(Entry {
                what: What::Rollback(undone, rev),
                stable,
                canary,
            });
        }
        if head.stable == head.canary && !forgets {
            return Step::Settled(Reply::AtRest);
        }
        if newer && !forgets {
            return Step::Settled(Reply::Superseded);
        }
        let mut undone = self.since_rest();
        if undone.is_empty() {
            undone.extend(commit);
        }
        Step::Push(Entry {
            what: What::Rollback(undone, rev),
            stable: head.stable,
            canary: head.stable,
        })
    }

    fn promote(&self, rev: Rev, baseline: Rev, commit: Option<usize>, mutation: Mutation) -> Step {
        let Some(commit) = commit.or_else(|| self.brought(rev)) else {
            return Step::Settled(Reply::CanaryChanged);
        };
        let forgets = mutation == Mutation::ForgetsWhatItPushed;
        if self.rollback_of(commit).is_some() && !forgets {
            return Step::Settled(Reply::RolledBack);
        }
        if let Some(done) = self.promotion_of(commit).filter(|_| !forgets) {
            return Step::Settled(Reply::Committed(done));
        }
        let head = self.head();
        if head.canary != rev {
            return Step::Settled(Reply::CanaryChanged);
        }
        if head.stable == rev && !forgets {
            return Step::Settled(Reply::AlreadyThere);
        }
        if head.stable != baseline && !forgets && mutation != Mutation::OverwritesHotfixes {
            return Step::Settled(Reply::StableChanged);
        }
        Step::Push(Entry {
            what: What::Promote(commit),
            stable: rev,
            canary: rev,
        })
    }
}

impl Ask {
    pub(crate) fn about(&self) -> Rev {
        match self {
            Self::Origin(rev) | Self::Rollback { rev, .. } | Self::Promotion { rev, .. } => *rev,
        }
    }
}

impl Desk {
    fn slot(&mut self, ask: &Ask) -> &mut Slot {
        match ask {
            Ask::Origin(_) => &mut self.origin,
            Ask::Rollback { .. } => &mut self.rollback,
            Ask::Promotion { .. } => &mut self.promotion,
        }
    }

    /// Whether a question is to be started now: one of a kind at a time, and none that was answered.
    pub(crate) fn starts(&mut self, ask: &Ask) -> bool {
        let about = ask.about();
        let slot = self.slot(ask);
        let starts = match slot {
            Slot::Running(_) => false,
            Slot::Answered(same, _) => *same != about,
            Slot::Empty | Slot::Failed(_) => true,
        };
        if starts {
            *slot = Slot::Running(about);
        }
        starts
    }

    pub(crate) fn settle(&mut self, ask: &Ask, reply: Option<Reply>) {
        let about = ask.about();
        *self.slot(ask) = match reply {
            Some(reply) => Slot::Answered(about, reply),
            None => Slot::Failed(about),
        };
    }

    /// Forgets the answers that are no longer asked for; what runs is left to end.
    pub(crate) fn keep_only(&mut self, asked: [bool; 4]) {
        let [origin, rollback, promotion, baseline] = asked;
        for (slot, asked) in [
            (&mut self.origin, origin),
            (&mut self.rollback, rollback),
            (&mut self.promotion, promotion),
        ] {
            if !asked && !matches!(slot, Slot::Running(_)) {
                *slot = Slot::Empty;
            }
        }
        self.baseline &= baseline;
    }

    pub(crate) fn view(&self) -> GitView {
        GitView {
            origin: view(&self.origin, |rev, reply| match reply {
                Reply::Origin { commit, at_rest, prior } => (
                    revision(rev),
                    Origin {
                        commit: commit.map(commit_at),
                        at_rest: *at_rest,
                        prior: prior.map(|promoted| {
                            if promoted {
                                PriorAnswer::Promoted
                            } else {
                                PriorAnswer::RolledBack
                            }
                        }),
                    },
                ),
                other => unreachable!("{other:?} is no origin"),
            }),
            rollback: view(&self.rollback, |rev, reply| {
                let outcome = match reply {
                    Reply::Committed(place) => RollbackOutcome::Committed {
                        id: sha(*place),
                        at: at(0),
                        committed: None,
                        own_fields_because: None,
                    },
                    Reply::Superseded => RollbackOutcome::Superseded,
                    _ => RollbackOutcome::AtRest,
                };
                (revision(rev), outcome)
            }),
            reason: None,
            promotion: view(&self.promotion, |rev, reply| {
                let outcome = match reply {
                    Reply::Committed(place) => PromotionOutcome::Committed {
                        id: sha(*place),
                        at: at(0),
                        committed: None,
                    },
                    Reply::StableChanged => PromotionOutcome::StableChanged,
                    Reply::CanaryChanged => PromotionOutcome::CanaryChanged,
                    Reply::RolledBack => PromotionOutcome::RolledBack,
                    _ => PromotionOutcome::AlreadyThere,
                };
                (revision(rev), outcome)
            }),
        }
    }
}

fn view<T>(slot: &Slot, read: impl Fn(Rev, &Reply) -> T) -> Option<Answer<T>> {
    match slot {
        Slot::Empty | Slot::Running(_) => None,
        Slot::Answered(rev, reply) => Some(Answer::Is(read(*rev, reply))),
        Slot::Failed(_) => Some(Answer::Failed("the repository cannot be reached".into())),
    }
}

/// Origins are asked for canaries.
fn revision(rev: Rev) -> Revision {
    super::world::Side::Canary.revision(rev)
}

fn commit_at(place: usize) -> Commit {
    Commit {
        id: sha(place),
        author: String::new(),
        subject: String::new(),
    }
}

pub(crate) fn rollback(revision: &Revision, commit: Option<&Commit>, promoted: Option<&Pushed>) -> Ask {
    Ask::Rollback {
        rev: rev_of(revision),
        commit: commit.map(|c| place(&c.id)),
        promoted: promoted.map(|p| place(&p.id)),
    }
}

pub(crate) fn promotion(revision: &Revision, baseline: &Revision, commit: Option<&Commit>) -> Ask {
    Ask::Promotion {
        rev: rev_of(revision),
        baseline: rev_of(baseline),
        commit: commit.map(|c| place(&c.id)),
    }
}
