//! Stories of very many rollouts on one controller: it is a process of its own over a real API server, what stands there is written
//! by the story, and a stand-in answers as Prometheus. How long things take is the bench's (`make bench-scale`).

mod objects;
mod place;
mod source;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use jiff::Timestamp;
use kube::{
    Api, ResourceExt as _,
    api::{ListParams, Patch, PatchParams},
};
use lab::audit::WeightWrite;
use serde_json::json;
use serin::api::{CanaryRollout, CanaryRolloutStatus};

use self::{
    objects::{COUNT, NAMESPACE, NEXT_WEIGHT, Role, Rollout},
    place::Place,
    source::Wait,
};
use crate::story::{Story, eventually};

/// Everything that one controller has to do here.
const WORKED_OFF: Duration = Duration::from_secs(90);

pub(crate) fn stories() -> Vec<Story> {
    vec![Story::new(
        "a_query_that_hangs_a_spec_that_errs_and_a_repository_of_garbage_hold_up_none_of_200_rollouts",
        |_| hold_nobody_up(),
    )]
}

/// The bad ones are at it from the first look on, and stay so. Meanwhile good canaries go on to their next step, bad ones lose their
/// traffic and are rolled back in Git, and specs of those at rest are taken in.
async fn hold_nobody_up() -> anyhow::Result<()> {
    let place = Place::start().await?;
    let told = tell(&place).await;
    let logs = place.stop(told.is_err()).await;
    told.with_context(|| logs.map_or_else(String::new, |logs| format!("see {}", logs.display())))
}

async fn tell(place: &Place) -> anyhow::Result<()> {
    let (hangs, errs, garbage) = (only(Role::Hangs)?, only(Role::Errs)?, only(Role::Garbage)?);
    eventually("the query hangs", WORKED_OFF, || async {
        place.alive()?;
        ensure!(!place.source.waits().is_empty(), "it has not come");
        Ok(())
    })
    .await?;
    eventually("the spec is refused", WORKED_OFF, || async {
        let status = place.status(errs).await?;
        let valid = status.conditions.iter().find(|c| c.type_ == "SpecValid");
        ensure!(valid.is_some_and(|c| c.status == "False"), "{valid:?}");
        Ok(())
    })
    .await?;
    place.source.turn_bad(garbage);
    eventually("the rollback waits for the repository", WORKED_OFF, || async {
        let status = place.status(garbage).await?;
        let pending = status.conditions.iter().find(|c| c.type_ == "GitPending");
        ensure!(pending.is_some_and(|c| c.status == "True"), "{:?}", status.conditions);
        Ok(())
    })
    .await?;

    // Of all that follows nothing depends on the three, and they go on with what they do.
    let began = lab::clock::now();
    let with = |role| all().filter(move |of| of.role() == role).collect::<BTreeSet<_>>();
    let (good, bad, rest) = (with(Role::Good), with(Role::Bad), with(Role::Rest));
    for of in &bad {
        place.source.turn_bad(*of);
    }
    place.source.open();
    let edited: BTreeSet<_> = rest.iter().copied().step_by(10).collect();
    edit(place, &edited).await?;

    let decided = eventually("all others have gone on", WORKED_OFF, || async {
        place.alive()?;
        let decided = decisions(&place.weights()?, began, &good, &bad);
        let left: Vec<_> = good.union(&bad).filter(|of| !decided.contains_key(of)).collect();
        ensure!(
            left.is_empty(),
            "{} have not, {:?} among them",
            left.len(),
            left.first()
        );
        Ok(decided)
    })
    .await?;
    eventually("all bad ones are rolled back in Git", WORKED_OFF, || async {
        let answered = place.rollbacks().await?;
        ensure!(answered == bad, "{} of {}", answered.len(), bad.len());
        Ok(())
    })
    .await?;
    eventually("the new specs are taken in", WORKED_OFF, || async {
        let taken = taken_in(place).await?;
        let left = edited.difference(&taken).count();
        ensure!(left == 0, "{left} of {} are not", edited.len());
        Ok(())
    })
    .await?;

    // Whoever has to wait for the query would have decided between two of its tries, and nobody while one hung.
    let waits = place.source.waits();
    let meanwhile = decided.values().filter(|at| during(&waits, **at)).count();
    ensure!(
        meanwhile * 2 > decided.len(),
        "{meanwhile} of {} decisions were made while the query hung: {waits:?}",
        decided.len()
    );

    // The three are where they were, or lower.
    let weights = place.weights()?;
    let last = |of: Rollout| weights.iter().rev().find(|write| write.name == of.name());
    ensure!(last(hangs).is_none_or(|write| write.canary == 0), "{:?}", last(hangs));
    ensure!(last(errs).is_some_and(|write| write.canary == 0), "{:?}", last(errs));
    ensure!(
        last(garbage).is_some_and(|write| write.canary == 0),
        "{:?}",
        last(garbage)
    );
    eventually("it is said whose query takes too long", WORKED_OFF, || async {
        let said = place.status(hangs).await?.message.unwrap_or_default();
        ensure!(said.contains("did not answer within"), "{said}");
        Ok(())
    })
    .await?;
    let phase = place.status(garbage).await?.phase;
    ensure!(phase.as_deref() == Some("RollingBack"), "{phase:?}");
    Ok(())
}

fn all() -> impl Iterator<Item = Rollout> {
    (0..COUNT).map(Rollout)
}

fn only(role: Role) -> anyhow::Result<Rollout> {
    all().find(|of| of.role() == role).context("nobody has this role")
}

/// Changes the specs of these, which are at rest.
async fn edit(place: &Place, rollouts: &BTreeSet<Rollout>) -> anyhow::Result<()> {
    let api = rollouts_of(place);
    let edit = Patch::Merge(json!({ "spec": { "plan": { "fastReturn": 2 } } }));
    for of in rollouts {
        api.patch(&of.name(), &PatchParams::default(), &edit).await?;
    }
    Ok(())
}

/// Those whose second spec the controller has seen.
async fn taken_in(place: &Place) -> anyhow::Result<BTreeSet<Rollout>> {
    let all = rollouts_of(place).list(&ListParams::default()).await?;
    let seen = all.items.iter().filter(|rollout| {
        let observed = rollout.status.as_ref().and_then(|status| status.observed_generation);
        rollout.metadata.generation > Some(1) && observed == rollout.metadata.generation
    });
    Ok(seen.filter_map(|rollout| Rollout::of(&rollout.name_any())).collect())
}

fn rollouts_of(place: &Place) -> Api<CanaryRollout> {
    Api::namespaced(place.client(), NAMESPACE)
}

/// When each of these had the weight written that its canary deserves.
fn decisions(
    weights: &[WeightWrite],
    began: Timestamp,
    good: &BTreeSet<Rollout>,
    bad: &BTreeSet<Rollout>,
) -> BTreeMap<Rollout, Timestamp> {
    let of = weights.iter().filter_map(|write| {
        let of = Rollout::of(&write.name)?;
        let wanted = match write.percent() {
            0 => bad,
            NEXT_WEIGHT => good,
            _ => return None,
        };
        (write.at >= began && wanted.contains(&of)).then_some((of, write.at))
    });
    of.collect()
}

fn during(waits: &[Wait], at: Timestamp) -> bool {
    waits
        .iter()
        .any(|wait| wait.from <= at && wait.to.is_none_or(|to| at < to))
}

impl Place {
    async fn status(&self, of: Rollout) -> anyhow::Result<CanaryRolloutStatus> {
        let rollout = rollouts_of(self).get(&of.name()).await?;
        rollout.status.context("it has no status")
    }
}
