//! What became of each revision: from the API server's audit log, the clients' records and Git. It must not read what Serin
//! says of itself.

use anyhow::{Context as _, ensure};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use user_client::load::record::Call;

use super::pushes::Pushes;
use crate::{
    audit::WeightWrite,
    clock,
    site::{CANARY, Environment, SERVICE, revision},
};

/// Slower calls break production's latency objective.
const SLOW: SignedDuration = SignedDuration::from_millis(500);
/// From weight 0 on, new calls meet the revision no longer than this.
const GRACE: SignedDuration = SignedDuration::from_secs(1);
/// How long clients' records are waited for.
const RECORDS: SignedDuration = SignedDuration::from_secs(3);

/// `target/demo/report.json`.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    pub(super) revisions: Vec<Revision>,
}

/// How a revision ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) enum Outcome {
    Promoted,
    RolledBack,
}

impl Outcome {
    /// The phase in which it is seen.
    pub(super) fn phase(self) -> &'static str {
        match self {
            Self::Promoted => "Promoted",
            Self::RolledBack => "RolledBack",
        }
    }

    fn action(self) -> &'static str {
        match self {
            Self::Promoted => "promote",
            Self::RolledBack => "rollback",
        }
    }
}

/// One revision.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Revision {
    #[serde(rename = "revision")]
    pub(super) name: String,
    pub(super) outcome: Outcome,
    pub(super) weights: Vec<Weight>,
    pub(super) stable: Served,
    pub(super) canary: Served,
    /// From the first call that failed on the canary, or was slow there, to weight 0 on the route; none for a good one.
    pub(super) first_failure_to_weight_zero_seconds: Option<f64>,
    /// From weight 0 to the rollback commit on the branch.
    pub(super) weight_zero_to_commit_seconds: Option<f64>,
    /// From weight 0 to Deployments that carry the rest state again.
    pub(super) weight_zero_to_in_line_seconds: Option<f64>,
    /// Calls that were due later than a second after the last weight 0 and met the revision on the canary.
    pub(super) calls_after_weight_zero: usize,
    pub(super) commits: Commits,
    /// What ought to be so, and is not.
    pub(super) broken: Vec<String>,
}

/// A weight that was written.
#[derive(Debug, Serialize)]
pub(super) struct Weight {
    pub(super) at: Timestamp,
    pub(super) percent: i64,
    pub(super) by: String,
}

/// Calls that an arm answered, as their clients counted them.
#[derive(Debug, Serialize)]
pub(super) struct Served {
    pub(super) requests: usize,
    pub(super) failures: usize,
    pub(super) slow: usize,
}

/// The commits' ids.
#[derive(Debug, Serialize)]
pub(super) struct Commits {
    pub(super) canary: String,
    /// The promotion or the rollback.
    pub(super) answer: String,
}

impl Report {
    /// All that ought to be so and is not.
    pub(super) fn broken(&self) -> Vec<String> {
        let of = |r: &Revision| r.broken.iter().map(|b| format!("{}: {b}", r.name)).collect::<Vec<_>>();
        self.revisions.iter().flat_map(of).collect()
    }
}

/// One revision's part of the story, from before its commit on.
pub(super) struct Chapter {
    revision: String,
    baseline: String,
    begun: Timestamp,
    values: String,
}

impl Chapter {
    pub(super) async fn begin(environment: &Environment, name: &str) -> anyhow::Result<Self> {
        Ok(Self {
            revision: name.to_owned(),
            baseline: revision(&environment.deployment(SERVICE).await?),
            begun: clock::now(),
            values: environment.values().await?,
        })
    }

    /// Gathers what the witnesses say, when the revision has ended.
    pub(super) async fn end(
        self,
        environment: &Environment,
        pushes: &Pushes,
        canary_commit: &str,
        outcome: Outcome,
    ) -> anyhow::Result<Revision> {
        let Self {
            revision,
            baseline,
            begun,
            values,
        } = self;
        let rest = if outcome == Outcome::Promoted {
            &revision
        } else {
            &baseline
        };
        let in_line = environment
            .until_arms(rest, rest, std::time::Duration::from_secs(20))
            .await?;
        let answer = answer(environment, outcome.action(), &revision).await?;
        let writes: Vec<WeightWrite> = environment
            .weights()?
            .into_iter()
            .filter(|write| write.at >= begun)
            .collect();
        let last = writes.last().context("no weight was written")?;
        let gone = last.at;
        let calls = records(environment, begun, gone).await?;

        let mut broken = Vec::new();
        let mut expect = |holds: bool, what: String| {
            if !holds {
                broken.push(what);
            }
        };
        expect(
            last.percent() == 0,
            format!("the canary's last weight is {} %", last.percent()),
        );
        let late: Vec<&Call> = match outcome {
            // After a promotion it is stable that answers with the revision.
            Outcome::Promoted => vec![],
            Outcome::RolledBack => calls
                .iter()
                .filter(|c| met(c, &revision) && c.start > gone.saturating_add(GRACE).unwrap_or(gone))
                .collect(),
        };
        expect(
            late.is_empty(),
            format!("{} calls met it later than a second after weight 0", late.len()),
        );
        let percents: Vec<i64> = writes.iter().map(WeightWrite::percent).collect();
        match outcome {
            Outcome::Promoted => {
                let failed = calls.iter().filter(|call| call.is_failure()).count();
                expect(failed == 0, format!("{failed} calls failed"));
                let climbed = percents.windows(4).any(|w| w == [5, 25, 50, 100]);
                expect(climbed, format!("the weights were {percents:?}"));
            }
            Outcome::RolledBack => {
                let now = environment.values().await?;
                expect(now == values, "the values file is not what it was before".to_owned());
            }
        }
        let bad = |call: &&Call| on_canary(call) && (call.is_failure() || call.latency() > SLOW);
        let first_bad = calls.iter().filter(bad).map(|call| call.end).min();
        let since_gone = |at: Timestamp| at.duration_since(gone).as_secs_f64();
        let rolled_back = outcome == Outcome::RolledBack;
        expect(!rolled_back || first_bad.is_some(), "no call of it was bad".to_owned());
        Ok(Revision {
            outcome,
            weights: writes
                .iter()
                .map(|w| Weight {
                    at: w.at,
                    percent: w.percent(),
                    by: w.user.clone(),
                })
                .collect(),
            stable: served(&calls, |call| call.instance.is_some() && !on_canary(call)),
            canary: served(&calls, on_canary),
            first_failure_to_weight_zero_seconds: first_bad.filter(|_| rolled_back).map(|at| -since_gone(at)),
            weight_zero_to_commit_seconds: pushes.at(&answer).filter(|_| rolled_back).map(since_gone),
            weight_zero_to_in_line_seconds: rolled_back.then(|| since_gone(in_line)),
            calls_after_weight_zero: late.len(),
            commits: Commits {
                canary: canary_commit.to_owned(),
                answer,
            },
            name: revision,
            broken,
        })
    }
}

fn met(call: &Call, revision: &str) -> bool {
    call.revision.as_deref() == Some(revision)
}

/// Whether a pod of the canary's Deployment answered.
fn on_canary(call: &Call) -> bool {
    let pod = call.instance.as_deref().and_then(|name| name.strip_prefix(CANARY));
    pod.is_some_and(|rest| rest.starts_with('-'))
}

fn served(calls: &[Call], arm: impl Fn(&Call) -> bool) -> Served {
    let of = || calls.iter().filter(|call| arm(call));
    Served {
        requests: of().count(),
        failures: of().filter(|call| call.is_failure()).count(),
        slow: of().filter(|call| call.latency() > SLOW).count(),
    }
}

/// Calls that were due since, as soon as the records reach beyond the end of the canary's traffic.
async fn records(environment: &Environment, since: Timestamp, gone: Timestamp) -> anyhow::Result<Vec<Call>> {
    let until = gone.saturating_add(RECORDS)?;
    loop {
        let calls = environment.calls()?;
        if calls.last().is_some_and(|call| call.start > until) {
            return Ok(calls.into_iter().filter(|call| call.start >= since).collect());
        }
        ensure!(
            clock::now() < until.saturating_add(SignedDuration::from_secs(20))?,
            "the clients' records end early"
        );
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

/// The one commit that answers the revision.
async fn answer(environment: &Environment, action: &str, revision: &str) -> anyhow::Result<String> {
    let log = environment
        .site
        .config
        .run(&["log", "-z", "--format=%H%n%B", "main", "--", &environment.folder()])
        .await?;
    let (action, named) = (format!("Serin-Action: {action}"), format!("Serin-Revision: {revision}"));
    let lines = |message: &str, wanted: &str| message.lines().any(|line| line == wanted);
    let ids: Vec<String> = log
        .split('\0')
        .filter(|message| lines(message, &action) && lines(message, &named))
        .filter_map(|message| message.lines().next().map(str::to_owned))
        .collect();
    ensure!(
        ids.len() == 1,
        "{} commits say {action} of {revision}, not one",
        ids.len()
    );
    ids.into_iter().next().context("no commit")
}
