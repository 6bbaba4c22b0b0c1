//! Chaos: everything breaks, in an order that a seed decides, while good and bad revisions arrive; and witnesses who are not
//! Serin say whether the invariants held. It must not know how Serin works.
//!
//! A seed decides the faults, their order and length, and the revisions. What a fault meets is the machine's to decide: a
//! failing seed brings the same faults at the same times again.

mod crew;
mod judge;
mod round;

use std::{collections::BTreeMap, env, sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};
use lab::{
    Lab,
    site::{Serin, Site},
};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use self::{
    crew::{Crew, Replicas},
    round::{Round, deal},
};
use crate::{
    rollout::{
        site::site,
        witness::{ROLLBACK, commits},
    },
    story::Story,
};

/// Where argocd/README.md installs Serin.
const NAMESPACE: &str = "serin-system";

/// The variables of `make chaos`.
const SEED: &str = "CHAOS_SEED";
const ROUNDS: &str = "CHAOS_ROUNDS";

pub(crate) fn stories() -> Vec<Story> {
    vec![Story::alone("chaos_breaks_no_invariant", run)]
}

async fn run(lab: Arc<Lab>) -> anyhow::Result<()> {
    let number = |name: &str, default: u64| match env::var(name) {
        Ok(text) if !text.is_empty() => text.parse().with_context(|| format!("reading {name}={text}")),
        _ => Ok(default),
    };
    let (seed, rounds) = (number(SEED, 1)?, number(ROUNDS, 20)?);
    let replay = || format!("seed {seed}; again: make chaos SEED={seed} ROUNDS={rounds}");
    play(&lab, seed, usize::try_from(rounds)?).await.with_context(replay)
}

async fn play(lab: &Arc<Lab>, seed: u64, rounds: usize) -> anyhow::Result<()> {
    let site = site(lab).await?;
    // Every tip that the branch ever had is remembered.
    site.config.run(&["config", "core.logAllRefUpdates", "true"]).await?;
    let mut rng = StdRng::seed_from_u64(seed);
    let (one, two) = tokio::try_join!(
        Crew::start(&site, "chaos-one", Replicas::One),
        Crew::start(&site, "chaos-two", Replicas::Two)
    )?;
    let crews = [Arc::new(one), Arc::new(two)];
    let stop = CancellationToken::new();
    let drivers = crews.each_ref().map(|crew| {
        let (crew, stop, rng) = (crew.clone(), stop.clone(), StdRng::seed_from_u64(rng.random()));
        tokio::spawn(async move { crew.drive(rng, stop).await })
    });

    let began = tokio::time::Instant::now();
    let mut strangers = Vec::new();
    for Round { crew, trouble } in deal(&mut rng, rounds) {
        let crew = crews.get(crew).context("there are two crews")?;
        let [lasts, after] = [rng.random_range(1000..2500), rng.random_range(200..700)].map(Duration::from_millis);
        println!(
            "chaos: {:5.1} s  {}: {trouble:?} for {lasts:?}",
            began.elapsed().as_secs_f64(),
            crew.name()
        );
        strangers.extend(crew.begin(trouble).await?);
        sleep(lasts).await;
        crew.end(trouble).await?;
        sleep(after).await;
    }
    stop.cancel();
    let mut met: BTreeMap<String, u64> = BTreeMap::new();
    for (crew, driver) in crews.iter().zip(drivers) {
        crew.heal().await;
        let revisions = driver.await.context("a driver panicked")??;
        for (what, times) in crew.met() {
            *met.entry(what).or_default() += times;
        }
        let words = judge::judge(crew.environment(), &revisions)
            .await
            .with_context(|| format!("{}: {revisions:#?}", crew.name()))?;
        println!("chaos: {}: {words}", crew.name());
    }
    judge::history(&site, &strangers).await?;
    one_for_all(&site, &crews).await?;
    println!("chaos: seed {seed}, {rounds} rounds, what was met: {met:?}");
    let total: u64 = met.values().sum();
    ensure!(total > 0, "nothing was met");
    for must in ["killed", "died at a crash point", "frozen"] {
        ensure!(
            met.get(must).is_some_and(|times| *times > 0),
            "no controller was ever {must}"
        );
    }
    Ok(())
}

/// One Serin for the whole cluster takes over from those that each environment had, under its ClusterRole.
async fn one_for_all(site: &Arc<Site>, crews: &[Arc<Crew>; 2]) -> anyhow::Result<()> {
    for crew in crews {
        crew.dismiss().await?;
    }
    site.kubectl(&["create", "namespace", NAMESPACE], b"").await?;
    let _serin = Serin::install(site, "serin", NAMESPACE, false).await?;
    let environment = crews[0].environment();
    environment.commit("1.2.0", None).await?;
    environment.until_phase("RolledBack", "1.2.0", ROLLBACK).await?;
    let found = commits(environment, "rollback", "1.2.0").await?;
    ensure!(found == 1, "{found} rollback commits of 1.2.0");
    let writer = format!("system:serviceaccount:{NAMESPACE}:serin");
    let last = environment.weights()?.pop().context("no weight was written")?;
    ensure!(last.user == writer && last.percent() == 0, "{last:?}");
    Ok(())
}
