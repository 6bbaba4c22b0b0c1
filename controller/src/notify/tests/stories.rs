//! What is news between two statuses.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serin_core::Weight;
use serin_core::rollout::{
    Baseline, Ending, PauseReason, Paused, Phase, Preflight, Progressing, PromoteStage, Promoting, RestNote, Revision,
    RollbackGit, RollbackReason, RollingBack, Run, Starting, State, Way,
};

use super::super::*;
use super::stand::began;
use crate::api::{AnnouncementStatus, CanaryRolloutStatus, Condition, NotifyStatus, parse};

fn named(name: &str) -> Revision {
    Revision {
        name: name.to_owned(),
        hash: format!("h{name}"),
    }
}

fn run(revision: &str, began: Timestamp) -> Run {
    let spec = serde_saphyr::from_str(
        "{service: {name: s, port: 1}, stable: {deployment: s}, canary: {deployment: c}, git: {repository: 'https://g/r.git', path: p}}",
    )
    .unwrap();
    let plan = parse(&spec).unwrap().plan;
    Run::begin(named(revision), named("1"), None, &plan, began)
}

fn starting(run: Run) -> Phase {
    Phase::Starting(Starting {
        since: run.began,
        run,
        preflight: Preflight::default(),
        baseline: Baseline::default(),
    })
}

fn progressing(run: Run, step: usize) -> Phase {
    Phase::Progressing(Progressing {
        since: run.began,
        run,
        step,
        from: Weight::ZERO,
        weight_at: None,
    })
}

fn paused(run: Run, reason: PauseReason) -> Phase {
    Phase::Paused(Paused {
        since: run.began,
        run,
        step: 0,
        reason,
        weight: Weight::ZERO,
    })
}

fn rolling_back(run: Run) -> Phase {
    Phase::RollingBack(RollingBack {
        since: run.began,
        run,
        reason: RollbackReason::Aborted("bad colours".to_owned()),
        traffic_at: None,
        promoted: None,
        on_canary: false,
        own_fields_because: None,
        git: RollbackGit::Committing,
    })
}

fn promoting(run: Run, stage: PromoteStage) -> Phase {
    Phase::Promoting(Promoting {
        since: run.began,
        run,
        way: Way::Trial,
        stage,
        commit: None,
    })
}

fn ending(run: &Run) -> Ending {
    Ending {
        revision: run.revision.clone(),
        commit: None,
        began: run.began,
        at: run.began,
        answer: None,
        reason: "it is over".to_owned(),
        traffic_at: None,
        hooks: vec![],
    }
}

fn moment((state, status): &(State, CanaryRolloutStatus)) -> Moment<'_> {
    Moment { state, status }
}

/// Each phase with the problems that there are in it.
fn told(story: &[(Phase, &[Problem])]) -> Vec<AnnouncementStatus> {
    let moments: Vec<_> = story
        .iter()
        .map(|(phase, problems)| {
            let conditions = Problem::ALL.iter().map(|problem| Condition {
                type_: problem.condition().into(),
                // This one is said by its contrary.
                status: if problems.contains(problem) ^ (*problem == Problem::SpecRefused) {
                    "True"
                } else {
                    "False"
                }
                .into(),
                message: "why".into(),
                reason: "Reason".into(),
                last_transition_time: Time(began()),
                observed_generation: None,
            });
            let state = State {
                phase: phase.clone(),
                ..State::default()
            };
            let status = CanaryRolloutStatus {
                phase: Some(phase.name().to_string()),
                message: Some("what\ncomes next".to_owned()),
                conditions: conditions.collect(),
                ..CanaryRolloutStatus::default()
            };
            (state, status)
        })
        .collect();
    let pairs = moments.iter().zip(moments.iter().skip(1));
    pairs
        .flat_map(|(before, after)| news(moment(before), moment(after), began()))
        .collect()
}

fn lines(story: &[(Phase, &[Problem])]) -> Vec<String> {
    let line = |one: AnnouncementStatus| {
        let problem = one.problem.map(|problem| format!(" {problem}")).unwrap_or_default();
        let over = if one.over { " over" } else { "" };
        format!("{} {}{problem}{over}", one.revision, one.event)
    };
    told(story).into_iter().map(line).collect()
}

#[test]
fn each_transition_of_a_trial_is_news_once_and_what_only_goes_on_is_none() {
    let run = run("2", began());
    let none: &[Problem] = &[];
    let story = vec![
        (Phase::Idle(RestNote::Quiet), none),
        (starting(run.clone()), none),
        (starting(run.clone()), none),
        (progressing(run.clone(), 0), none),
        (progressing(run.clone(), 0), none),
        (progressing(run.clone(), 1), none),
        (paused(run.clone(), PauseReason::Operator), none),
        (paused(run.clone(), PauseReason::Approval), none),
        (progressing(run.clone(), 1), none),
        (promoting(run.clone(), PromoteStage::Committing), none),
        (promoting(run.clone(), PromoteStage::Applying), none),
        (Phase::Promoted(ending(&run)), none),
        (Phase::Promoted(ending(&run)), none),
        (Phase::Idle(RestNote::Quiet), none),
    ];
    let expected = [
        "Started",
        "Step",
        "Step",
        "Paused",
        "Paused",
        "Resumed",
        "Promoting",
        "Promoted",
    ];
    assert_eq!(lines(&story), expected.map(|event| format!("2 {event}")));
}

#[test]
fn a_rollback_says_why_and_a_revision_that_made_way_is_told_of_before_its_successor() {
    let (old, new) = (run("2", began()), run("3", began()));
    let none: &[Problem] = &[];
    let story = [
        (progressing(old.clone(), 0), none),
        (starting(new.clone()), none),
        (rolling_back(new.clone()), none),
        (Phase::RolledBack(ending(&new)), none),
    ];
    assert_eq!(
        lines(&story),
        ["2 Superseded", "3 Started", "3 RollingBack", "3 RolledBack"]
    );
    let told = told(&story);
    assert_eq!(told[2].message, "aborted by an operator: bad colours");
    assert_eq!(told[1].message, "what comes next", "in one line");
}

#[test]
fn a_problem_is_news_when_it_begins_and_when_it_is_over_and_under_the_revision_that_had_it() {
    let (old, new) = (run("2", began()), run("3", began()));
    let story: [(Phase, &[Problem]); 5] = [
        (progressing(old.clone(), 0), &[]),
        (paused(old.clone(), PauseReason::Blind), &[Problem::Blind]),
        (paused(old.clone(), PauseReason::Blind), &[Problem::Blind]),
        (rolling_back(old.clone()), &[Problem::RollbackBlocked]),
        (starting(new), &[]),
    ];
    assert_eq!(
        lines(&story),
        [
            "2 Paused",
            "2 Problem Blind",
            "2 Problem Blind over",
            "2 RollingBack",
            "2 Problem RollbackBlocked",
            "2 Problem RollbackBlocked over",
            "2 Superseded",
            "3 Started",
        ]
    );
}

#[test]
fn a_spec_that_is_refused_is_news_in_any_phase() {
    let run = run("2", began());
    let story: [(Phase, &[Problem]); 4] = [
        (Phase::Idle(RestNote::Quiet), &[]),
        (Phase::Idle(RestNote::Quiet), &[Problem::SpecRefused]),
        (Phase::Idle(RestNote::Quiet), &[Problem::SpecRefused]),
        (starting(run), &[]),
    ];
    assert_eq!(
        lines(&story),
        [" Problem SpecRefused", "2 Problem SpecRefused over", "2 Started"]
    );
    // A rollout that is created with such a spec has no condition before.
    let created = &told(&story)[0];
    assert_eq!((created.message.as_str(), created.since), ("why", Some(began())));
}

/// What is told of a repository that did not answer since `began`, by what stands in the outbox.
fn told_of_git(pending: bool, outbox: Option<&NotifyStatus>, seconds: i64) -> (Vec<String>, Option<NotifyStatus>) {
    let condition = |is: bool| Condition {
        type_: "GitPending".into(),
        status: if is { "True" } else { "False" }.into(),
        message: "the host hangs".into(),
        reason: "HostTimedOut".into(),
        last_transition_time: Time(began()),
        observed_generation: None,
    };
    let status = |is| CanaryRolloutStatus {
        conditions: vec![condition(is)],
        notify: outbox.cloned().map(Box::new),
        ..CanaryRolloutStatus::default()
    };
    let state = State {
        phase: rolling_back(run("2", began())),
        ..State::default()
    };
    let (before, after) = ((state.clone(), status(true)), (state, status(pending)));
    let now = began().checked_add(jiff::SignedDuration::from_secs(seconds)).unwrap();
    let news = news(moment(&before), moment(&after), now);
    let said = news
        .iter()
        .map(|one| format!("{}{}", one.message, if one.over { "!" } else { "" }));
    let said = said.collect();
    (said, next(outbox, news, &[], &[], None).0)
}

#[test]
fn a_repository_that_does_not_answer_is_told_when_it_has_not_for_a_while_and_once_over_restarts() {
    assert_eq!(told_of_git(true, None, 119), (vec![], None), "it may pass");
    assert_eq!(told_of_git(false, None, 300).0, Vec::<String>::new(), "it has passed");
    let (said, outbox) = told_of_git(true, None, 120);
    assert_eq!(said, ["the host hangs"]);
    // All that the next process knows is the status.
    assert_eq!(told_of_git(true, outbox.as_ref(), 150), (vec![], outbox.clone()));
    let (said, after) = told_of_git(false, outbox.as_ref(), 180);
    assert_eq!((said, after), (vec!["GitPending is over!".to_owned()], None));
}

#[test]
fn ends_that_are_read_again_from_git_are_no_news() {
    let run = run("2", began());
    let ended = State {
        phase: Phase::RolledBack(ending(&run)),
        ..State::default()
    };
    let (before, after) = (Default::default(), (ended, CanaryRolloutStatus::default()));
    assert_eq!(news(moment(&before), moment(&after), began()), []);
}
