//! Canaries turn bad: one among the others, then all others in the same second; and how long their traffic took to be gone. It must
//! not know how the controller finds out.
//!
//! # The sample that shows a failure
//! By design no single tick fails a canary, so the tick with which the verdict came is looked up in status. Its samples can be asked
//! for one scrape after its end: from then on `away` counts. What an answer of the source shows, it shows when that answer has been
//! made: from then on `answered` counts, which leaves out the source's own time and nothing else.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use jiff::Timestamp;
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};
use lab::clock::now;
use serin::api::CanaryRollout;
use serin_core::rollout::{PhaseName, State};
use tokio::time::sleep;

use crate::bench::Measured;
use crate::objects::{self, Rollout, namespace, shape};
use crate::{sleep_until, witness};

/// The longest wait for traffic to be gone.
const AWAY: Duration = Duration::from_secs(150);

/// Which sample failed a canary is asked when all of them have lost their traffic, and so long for each after that: a status comes
/// later, and whoever asks for a thousand again and again takes the API server from the controller.
const ASKED: Duration = Duration::from_millis(15);

/// A canary that lost its traffic.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gone {
    /// Milliseconds since the samples that failed it could be asked for.
    pub(crate) away: f64,
    /// Milliseconds since the last answer before, of those that showed failures.
    pub(crate) answered: Option<f64>,
}

impl Measured {
    /// One canary turns bad among the others.
    pub(crate) async fn single(&self) -> anyhow::Result<Option<Gone>> {
        let chosen = self.place.progressing().nth(self.place.progressing().count() / 2);
        let chosen = chosen.context("nothing progresses")?;
        let away = self.turn_bad(&[chosen]).await?;
        Ok(away.first().copied())
    }

    /// All others do.
    pub(crate) async fn all(&self) -> anyhow::Result<(Vec<Gone>, usize)> {
        let all: Vec<_> = self.place.progressing().collect();
        let chosen = all.get(all.len() / 2).copied();
        let others: Vec<_> = all.into_iter().filter(|of| Some(*of) != chosen).collect();
        let away = self.turn_bad(&others).await?;
        Ok((away, others.len()))
    }

    /// From the beginning of the next tick on; in the order in which they lost their traffic.
    async fn turn_bad(&self, rollouts: &[Rollout]) -> anyhow::Result<Vec<Gone>> {
        let log = self.place.cluster.audit_log().context("the cluster has no audit log")?;
        let interval = i64::try_from(shape().interval.as_millis())?;
        let begins = (now().as_millisecond() / interval + 1) * interval;
        let answered = self.place.source.answered();
        self.place.source.turn_bad(rollouts.iter().copied(), begins);
        let sample = begins + interval + i64::try_from(shape().scrape.as_millis())?;
        sleep_until(sample).await;
        let (began, end) = (Timestamp::from_millisecond(begins)?, Instant::now() + AWAY);
        let namespaces: Vec<_> = (0..self.place.count.div_ceil(objects::IN_NAMESPACE))
            .map(namespace)
            .collect();
        let pause = ASKED * u32::try_from(rollouts.len())?;
        let (mut samples, mut last) = (HashMap::new(), None::<Instant>);
        let zeros: HashMap<Rollout, Timestamp> = loop {
            sleep(Duration::from_secs(2)).await;
            let mut zeros = witness::zeros(log, &namespaces, began)?;
            zeros.retain(|of, _| rollouts.contains(of));
            let is_over = Instant::now() > end;
            if zeros.len() < rollouts.len() && !is_over {
                continue;
            }
            let since = *last.get_or_insert_with(Instant::now);
            if since.elapsed() >= pause || is_over {
                let unknown: Vec<_> = zeros.keys().filter(|of| !samples.contains_key(*of)).copied().collect();
                samples.extend(self.deciding(&unknown).await?);
                last = Some(Instant::now());
            }
            if samples.len() == zeros.len() || is_over {
                break zeros;
            }
        };
        let asked = self.place.source.asked_since(answered);
        let mut away = Vec::new();
        for (of, at) in zeros {
            let sample = samples
                .get(&of)
                .with_context(|| format!("{of:?} does not say which sample failed it"))?;
            let shown = asked
                .iter()
                .filter(|asked| asked.failures > 0 && asked.at < at)
                .map(|asked| asked.at);
            away.push(Gone {
                away: milliseconds(Timestamp::from_millisecond(*sample)?, at),
                answered: shown.max().map(|shown| milliseconds(shown, at)),
            });
        }
        away.sort_by(|one, other| one.away.total_cmp(&other.away));
        Ok(away)
    }

    /// When the samples were there with which these rollouts failed, in milliseconds.
    async fn deciding(&self, rollouts: &[Rollout]) -> anyhow::Result<HashMap<Rollout, i64>> {
        let mut told = Vec::new();
        // As the API server has them at hand: it has enough to do.
        for namespace in rollouts.iter().map(|of| of.namespace()).collect::<BTreeSet<_>>() {
            let there: Api<CanaryRollout> = Api::namespaced(self.place.cluster.client(), &namespace);
            told.extend(there.list(&ListParams::default().match_any()).await?.items);
        }
        let mut samples = HashMap::new();
        for rollout in told {
            let of = Rollout::of(&rollout.namespace().unwrap_or_default(), &rollout.name_any());
            let Some(of) = of.filter(|of| rollouts.contains(of)) else {
                continue;
            };
            let Some(machine) = rollout.status.and_then(|status| status.machine) else {
                continue;
            };
            let state: State = machine.read()?;
            if let Some(run) = state
                .phase
                .run()
                .filter(|_| state.phase.name() == PhaseName::RollingBack)
            {
                samples.insert(
                    of,
                    run.as_of.as_millisecond() + i64::try_from(shape().scrape.as_millis())?,
                );
            }
        }
        Ok(samples)
    }
}

fn milliseconds(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64() * 1_000.0
}
