//! Rollouts while something breaks.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};
use jiff::{SignedDuration, Timestamp};
use lab::{
    Lab,
    alertmanager::Alertmanager,
    faults::{Behind, Fault, Proxy},
    kubelet::sidecar::{PodInfo, Sidecar},
    prometheus::{Prometheus, Targets},
    site::{CANARY, Detours, Environment, Setup},
};
use serde_json::json;
use serin::{api::CanaryRolloutStatus, notify::Problem, runtime::crash::Point};

use super::{
    alerted,
    lost_pods::lose_one,
    report::report,
    site::{environment, environment_beside, site},
    trail,
    witness::{
        PROMOTION, ROLLBACK, an_event_says, commits, delivery_blocked, history_tells, nobody_meets, traffic_away,
        weights,
    },
};
use crate::story::{SOON, eventually, throughout};

fn is_blind(status: &CanaryRolloutStatus) -> bool {
    status
        .conditions
        .iter()
        .any(|c| c.type_ == "Blind" && c.status == "True")
}

pub(super) async fn loses_sight(lab: Arc<Lab>) -> anyhow::Result<()> {
    let plan = json!({
        "blindDeadline": "8s",
        "steps": [{ "weight": 10, "hold": "2s", "atMost": "90s" }, { "weight": 50, "hold": "8s", "atMost": "90s" }, { "weight": 100, "hold": "2s", "atMost": "60s" }],
    });
    let home = tempfile::tempdir()?;
    let alertmanager = Alertmanager::start(&lab.net, home.path()).await?;
    let (site, notify) = (site(&lab).await?, home.path().join("notify.yaml"));
    // It is on this machine.
    std::fs::write(
        &notify,
        json!({ "allow": [format!("{}/32", lab.net.infra())] }).to_string(),
    )?;
    let setup = Setup {
        values: json!({ "rollout": { "plan": plan, "notify": alerted::spec(&alertmanager) } }),
        own_serin: true,
    };
    let serin = json!({ "extraArgs": ["--notify-file", notify] });
    let environment = Environment::start_with(&site, "blind", setup, &serin, Detours::default()).await?;
    let serin = environment.serin.as_ref().context("it has no Serin of its own")?;
    environment.commit("1.1.0", None).await?;
    let half = |s: &CanaryRolloutStatus| s.weight.is_some_and(|w| w.observed == 50);
    environment.until("50 % on the canary", ROLLBACK, half).await?;
    serin.to_prometheus.cut();
    environment
        .until("Serin is blind", Duration::from_mins(3), is_blind)
        .await?;
    traffic_away(&environment)?;
    alerted::has(&alertmanager, &environment, Problem::Blind, "1.1.0", true).await?;
    for action in ["promote", "rollback"] {
        ensure!(
            commits(&environment, action, "1.1.0").await? == 0,
            "there is a commit: {action}"
        );
    }
    let before = weights(&environment)?;
    serin.to_prometheus.heal();
    environment.until_phase("Promoted", "1.1.0", PROMOTION).await?;
    let since = weights(&environment)?;
    let since = since.get(before.len()..).unwrap_or_default();
    ensure!(
        since == [10, 50, 100, 75, 50, 0],
        "sight returns to the first step: {since:?}"
    );
    alerted::has(&alertmanager, &environment, Problem::Blind, "1.1.0", false).await
}

/// Prometheus takes questions and answers none: whoever aborts does not wait for it.
pub(super) async fn aborts_without_an_answer(lab: Arc<Lab>) -> anyhow::Result<()> {
    let environment = unanswered(&lab, "unanswered", "1.1.0").await?;
    let aborted = lab::clock::now();
    environment.order("abort").await?;
    environment.until_phase("RolledBack", "1.1.0", ROLLBACK).await?;
    nobody_meets(&environment, "1.1.0")?;
    gone_soon_after(&environment, aborted)?;
    let rollbacks = commits(&environment, "rollback", "1.1.0").await?;
    ensure!(rollbacks == 1, "{rollbacks} rollback commits");
    Ok(())
}

/// The same: pods that are lost take their traffic with them before any question was given up.
pub(super) async fn loses_pods_without_an_answer(lab: Arc<Lab>) -> anyhow::Result<()> {
    /// Its image goes away.
    const REVISION: &str = "1.1.8";
    site(&lab).await?.push_image(REVISION, &[])?;
    let environment = unanswered(&lab, "lost-unanswered", REVISION).await?;
    lose_one(&environment, REVISION).await?;
    eventually("no canary pod is ready", SOON, async || {
        let status = environment.deployment(CANARY).await?.status.unwrap_or_default();
        ensure!(status.ready_replicas.is_none_or(|ready| ready == 0));
        Ok(())
    })
    .await?;
    let lost = lab::clock::now();
    let zero = |s: &CanaryRolloutStatus| s.weight.is_some_and(|weight| weight.observed == 0);
    environment.until("nothing on the canary", SOON, zero).await?;
    gone_soon_after(&environment, lost)
}

/// Nobody waited for a question that had just begun to hang: it is given up after 10 s, and asked again in parts. What asks for it has to
/// start and to be heard on a busy machine.
fn gone_soon_after(environment: &Environment, instant: Timestamp) -> anyhow::Result<()> {
    let later = traffic_away(environment)?.duration_since(instant);
    ensure!(
        later < SignedDuration::from_secs(8),
        "the weight was 0 only {later:#} later"
    );
    Ok(())
}

/// A canary with traffic, in the midst of a step, whose Prometheus has begun to answer nothing.
async fn unanswered(lab: &Arc<Lab>, name: &str, revision: &str) -> anyhow::Result<Environment> {
    let plan = json!({ "steps": [{ "weight": 10, "hold": "5m", "atMost": "10m" }, { "weight": 100, "hold": "2s" }] });
    let setup = Setup {
        values: json!({ "rollout": { "plan": plan } }),
        own_serin: true,
    };
    let site = site(lab).await?;
    let environment = Environment::start_with(&site, name, setup, &json!({}), Detours::default()).await?;
    environment.commit(revision, None).await?;
    let ten = |s: &CanaryRolloutStatus| s.weight.is_some_and(|w| w.observed == 10);
    environment.until("10 % on the canary", ROLLBACK, ten).await?;
    eventually("a call meets it", SOON, async || {
        let calls = environment.calls()?;
        let met = calls.iter().any(|call| call.revision.as_deref() == Some(revision));
        ensure!(met, "none of {} did", calls.len());
        Ok(())
    })
    .await?;
    let serin = environment.serin.as_ref().context("it has no Serin of its own")?;
    serin.to_prometheus.silence();
    // One may be about how fast calls are, which is asked for once between many ticks.
    eventually("two questions hang", SOON, async || {
        let held = serin.to_prometheus.held();
        ensure!(held >= 2, "{held} hang");
        Ok(())
    })
    .await?;
    Ok(environment)
}

/// Has a Prometheus scrape the pods of one namespace only.
#[derive(Debug)]
struct Only {
    namespace: &'static str,
    targets: Arc<Targets>,
}

impl Sidecar for Only {
    fn pod_started(&self, pod: &PodInfo) {
        if pod.namespace == self.namespace {
            self.targets.pod_started(pod);
        }
    }

    fn pod_stopped(&self, pod: &PodInfo) {
        self.targets.pod_stopped(pod);
    }
}

/// Prometheus itself ends in the middle of a step and comes back after two minutes, which nobody has samples of. That is less than
/// the blind deadline: the weight stands still meanwhile, and the step goes on afterwards.
pub(super) async fn sits_an_outage_out(lab: Arc<Lab>) -> anyhow::Result<()> {
    // One of its own: the others need theirs.
    let home = tempfile::tempdir()?;
    let prometheus = Prometheus::start(&lab.tools, &lab.net, home.path()).await?;
    let only = Only {
        namespace: "user-service-no-prometheus",
        targets: prometheus.targets(),
    };
    lab.kubelet.add_sidecar(Arc::new(only));
    let plan = json!({
        "blindDeadline": "5m",
        "steps": [{ "weight": 25, "hold": "10s", "atMost": "4m" }, { "weight": 100, "hold": "2s", "atMost": "60s" }],
    });
    let values = json!({ "load": { "rate": 40 }, "rollout": { "plan": plan } });
    let environment = environment_beside(&lab, "no-prometheus", prometheus.url(), values).await?;
    environment.commit("1.1.0", None).await?;
    let quarter = |s: &CanaryRolloutStatus| s.weight.is_some_and(|w| w.observed == 25);
    environment.until("25 % on the canary", ROLLBACK, quarter).await?;
    prometheus.stop().await;
    let unseen = |s: &CanaryRolloutStatus| s.message.as_deref().is_some_and(|m| m.contains("no samples: "));
    environment
        .until("Serin says that it sees nothing", Duration::from_secs(30), unseen)
        .await?;
    throughout("the weight stands still", Duration::from_mins(2), || async {
        let status = environment.status().await?;
        ensure!(
            status.phase.as_deref() == Some("Progressing") && quarter(&status) && !is_blind(&status),
            "{:?} at {:?}: {:?}",
            status.phase,
            status.weight,
            status.message
        );
        Ok(())
    })
    .await?;
    ensure!(weights(&environment)? == [0, 25], "{:?}", weights(&environment)?);
    prometheus.start_again().await?;
    environment.until_phase("Promoted", "1.1.0", PROMOTION).await?;
    ensure!(
        weights(&environment)? == [0, 25, 100, 75, 50, 0],
        "{:?}",
        weights(&environment)?
    );
    let rollbacks = commits(&environment, "rollback", "1.1.0").await?;
    ensure!(rollbacks == 0, "a good revision was rolled back");
    let said = "its weight stood still for two minutes";
    report(&environment, "good, Prometheus away for 2 min", "1.1.0", said).await?;
    Ok(())
}

/// No tick is seen twice, and none is missing but the one in which a weight changed: a restart computes the others again.
fn goes_on_tick_by_tick(status: &CanaryRolloutStatus) -> anyhow::Result<()> {
    let samples = status.samples.as_ref().context("status keeps no ticks")?;
    let ends: Vec<i64> = samples.ticks.iter().map(|tick| tick.end.as_second()).collect();
    let steps = ends.iter().zip(ends.iter().skip(1)).map(|(one, next)| next - one);
    // Ticks of two seconds.
    let gaps: Vec<i64> = steps.filter(|step| *step != 2).collect();
    let weights: std::collections::BTreeSet<i32> = samples.ticks.iter().map(|tick| tick.weight).collect();
    ensure!(
        gaps.iter().all(|gap| matches!(gap, 4 | 6)) && gaps.len() <= 8,
        "ticks are missing or seen twice: {gaps:?} in {ends:?}"
    );
    ensure!(weights.len() > 3, "few weights were seen: {weights:?}");
    Ok(())
}

pub(super) async fn is_killed(lab: Arc<Lab>) -> anyhow::Result<()> {
    let dies_at = lab.dir().join("killed-dies-at");
    let setup = Setup {
        values: json!({}),
        own_serin: true,
    };
    // Without a lease it is back at once.
    let serin = json!({ "extraArgs": ["--no-lease", "--crash-file", dies_at] });
    let environment = Environment::start_with(&site(&lab).await?, "killed", setup, &serin, Detours::default()).await?;
    let serin = environment.serin.as_ref().context("it has no Serin of its own")?;
    environment.commit("1.1.0", None).await?;
    let at = |weight: i32| move |s: &CanaryRolloutStatus| s.weight.is_some_and(|w| w.observed == weight);
    environment.until("25 % on the canary", ROLLBACK, at(25)).await?;
    serin.kill().await?;
    let promoting = |s: &CanaryRolloutStatus| s.phase.as_deref() == Some("Promoting");
    environment.until("it is promoting", PROMOTION, promoting).await?;
    serin.kill().await?;
    let status = environment.until_phase("Promoted", "1.1.0", PROMOTION).await?;
    goes_on_tick_by_tick(&status)?;
    ensure!(
        commits(&environment, "promote", "1.1.0").await? == 1,
        "not one promotion commit"
    );
    ensure!(
        weights(&environment)? == [0, 10, 25, 50, 100, 75, 50, 0],
        "{:?}",
        weights(&environment)?
    );

    environment.commit("1.2.0", None).await?;
    environment.until("10 % on the canary", ROLLBACK, at(10)).await?;
    // Argo CD takes a holiday: nothing waits for it but the end.
    let application = environment.application();
    environment.site.argocd.pause_application(&application).await?;
    let rolling = |s: &CanaryRolloutStatus| s.phase.as_deref() == Some("RollingBack");
    let deaths = [
        Point::BeforeWeight,
        Point::AfterWeight,
        Point::BeforeStatus,
        Point::AfterStatus,
        Point::BeforePush,
        Point::AfterPush,
        Point::BeforeStatus,
        Point::AfterStatus,
    ];
    std::fs::write(&dies_at, deaths.map(Point::name).join("\n"))?;
    eventually("it has died at each step of the rollback", ROLLBACK, || async {
        let left = std::fs::read_to_string(&dies_at).unwrap_or_default();
        ensure!(!dies_at.exists(), "it lives, and is to die at {left:?}");
        Ok(())
    })
    .await?;
    let pushed = |s: &CanaryRolloutStatus| rolling(s) && s.rollback.as_ref().is_some_and(|r| r.commit.is_some());
    environment.until("the rollback is pushed", ROLLBACK, pushed).await?;
    traffic_away(&environment)?;
    names_what_keeps_the_commit_away(&environment).await?;
    environment.site.argocd.resume_application(&application).await?;
    environment.until_phase("RolledBack", "1.2.0", ROLLBACK).await?;
    ensure!(
        commits(&environment, "rollback", "1.2.0").await? == 1,
        "not one rollback commit"
    );
    trail::is_told_once(&environment, ("1.1.0", "1.2.0")).await?;
    let kinds = [
        ("Canary", "1.1.0"),
        ("Promote", "1.1.0"),
        ("Canary", "1.2.0"),
        ("Roll back", "1.2.0"),
    ];
    history_tells(&environment, &kinds).await?;
    nobody_meets(&environment, "1.2.0")
}

/// Somebody has Argo CD skip the Application as well: status and an event name it, until that ends.
async fn names_what_keeps_the_commit_away(environment: &Environment) -> anyhow::Result<()> {
    const REASON: &str = "ReconcileSkipped";
    let application = environment.application();
    let annotate = async |to: &str| {
        let args = ["annotate", "application", &application, "-n", "argocd", to];
        environment.site.kubectl(&args, b"").await.map(drop)
    };
    let is_blocked = |s: &CanaryRolloutStatus| {
        delivery_blocked(s).is_some_and(|(reason, says)| reason == REASON && says.contains(&application))
    };
    annotate("argocd.argoproj.io/skip-reconcile=true").await?;
    let named = "status names what keeps the commit from the cluster";
    environment.until(named, ROLLBACK, is_blocked).await?;
    an_event_says(environment, REASON).await?;
    annotate("argocd.argoproj.io/skip-reconcile-").await?;
    let over = "nothing keeps it away any more";
    environment.until(over, ROLLBACK, |s| !is_blocked(s)).await.map(drop)
}

/// How often Prometheus is asked until nonsense has had its chance: a few ticks.
const ASKED: u64 = 12;

pub(super) async fn hears_nonsense(lab: Arc<Lab>) -> anyhow::Result<()> {
    let site = site(&lab).await?;
    let address = (lab.net.infra(), lab.net.free_port()?).into();
    let prometheus = Proxy::start(address, Behind::Prometheus, lab.prometheus.url()).await?;
    let detours = Detours {
        prometheus: Some(prometheus.address()),
        ..Detours::default()
    };
    let values = json!({ "rollout": { "plan": { "blindDeadline": "90s", "steps": [
        { "weight": 25, "hold": "2s", "atMost": "120s" },
        { "weight": 60, "hold": "2s", "atMost": "90s" },
        { "weight": 100, "hold": "2s", "atMost": "90s" },
    ] } } });
    let setup = Setup {
        values,
        own_serin: true,
    };
    let environment = Environment::start_with(&site, "nonsense", setup, &json!({}), detours).await?;
    let serin = environment.serin.as_ref().context("it has no Serin of its own")?;
    environment.commit("1.1.0", None).await?;
    let at = |weight: i32| move |s: &CanaryRolloutStatus| s.weight.is_some_and(|w| w.observed == weight);
    environment.until("25 % on the canary", ROLLBACK, at(25)).await?;
    for fault in [
        Fault::OldData,
        Fault::NoData,
        Fault::NotANumber,
        Fault::Warnings,
        Fault::Garbage,
        Fault::Broken,
    ] {
        prometheus.set(Some(fault));
        let before = prometheus.met().get(&fault).copied().unwrap_or_default();
        eventually("nonsense is heard", SOON, || async {
            let heard = prometheus.met().get(&fault).copied().unwrap_or_default() - before;
            ensure!(heard >= ASKED, "{fault:?}: {heard} times");
            Ok(())
        })
        .await?;
        ensure!(
            weights(&environment)? == [0, 25],
            "{fault:?}: {:?}",
            weights(&environment)?
        );
        ensure!(
            environment.status().await?.phase.as_deref() == Some("Progressing"),
            "{fault:?} ends the trial"
        );
    }
    prometheus.set(None);

    // The API server is gone for longer than a lease lasts.
    environment.until("60 % on the canary", PROMOTION, at(60)).await?;
    serin.to_api.cut();
    eventually("who can't renew the lease ends", SOON, || async {
        let pods = serin.pods().await?;
        let restarts = pods
            .iter()
            .filter_map(|pod| pod.status.as_ref()?.container_statuses.as_ref()?.first())
            .map(|container| container.restart_count)
            .sum::<i32>();
        ensure!(restarts > 0, "it still runs");
        Ok(())
    })
    .await?;
    ensure!(
        weights(&environment)?.last() == Some(&60),
        "who wrote a weight while the API server was gone?"
    );
    serin.to_api.heal();
    environment.until_phase("Promoted", "1.1.0", PROMOTION).await?;
    ensure!(
        commits(&environment, "promote", "1.1.0").await? == 1,
        "not one promotion commit"
    );
    Ok(())
}

/// The canary begins to fail when Serin can no longer write, nor lead. Nothing that happened meanwhile is lost: it is counted when the API
/// server is back, and the traffic goes before anything else is done.
pub(super) async fn turns_bad_while_the_api_server_is_gone(lab: Arc<Lab>) -> anyhow::Result<()> {
    let down = lab.dir().join("bad-while-the-api-server-is-gone");
    let plan = json!({ "steps": [{ "weight": 25, "hold": "60s", "atMost": "4m" }, { "weight": 100, "hold": "2s", "atMost": "60s" }] });
    let values = json!({
        // Seven failures one after the other would open the circuit, and nobody would meet the canary any more.
        "canary": { "env": { "FAULT_ERROR_RATE": "0.2", "FAULT_WHILE": down } },
        "rollout": { "plan": plan },
    });
    let environment = environment(&lab, "api-gone", values).await?;
    let serin = environment.serin.as_ref().context("it has no Serin of its own")?;
    environment.commit("1.1.0", None).await?;
    let quarter = |s: &CanaryRolloutStatus| s.weight.is_some_and(|w| w.observed == 25);
    environment.until("25 % on the canary", ROLLBACK, quarter).await?;
    serin.to_api.cut();
    std::fs::write(&down, "").context("making the canary bad")?;
    eventually("clients met the bad canary", SOON * 2, || async {
        let failed = environment.calls()?.iter().filter(|call| call.is_failure()).count();
        ensure!(failed > 24, "{failed} failures");
        Ok(())
    })
    .await?;
    ensure!(
        weights(&environment)? == [0, 25],
        "who wrote a weight while the API server was gone? {:?}",
        weights(&environment)?
    );
    serin.to_api.heal();
    environment.until_phase("RolledBack", "1.1.0", ROLLBACK).await?;
    ensure!(weights(&environment)? == [0, 25, 0], "{:?}", weights(&environment)?);
    for (action, count) in [("rollback", 1), ("promote", 0)] {
        let is = commits(&environment, action, "1.1.0").await?;
        ensure!(is == count, "{is} commits: {action}");
    }
    nobody_meets(&environment, "1.1.0")
}
