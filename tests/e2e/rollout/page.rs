//! The page, in a browser that watches it from start to end.

use std::sync::Arc;

use anyhow::{Context as _, ensure};
use lab::{Lab, browser::Browser, project_root, site::Environment};
use serde::Deserialize;
use serde_json::json;
use serin::api::CanaryRolloutStatus;

use super::{
    site::environment,
    witness::{PROMOTION, ROLLBACK},
};
use crate::story::{SOON, eventually};

/// Remembers each phase that the page has shown since, and what went wrong in it.
const WATCH: &str = r##"
    window.watched = [];
    window.wrong = [];
    const look = () => {
      const phase = document.querySelector("#phase .badge")?.textContent.replace(/[^A-Za-z]/g, "");
      if (phase && window.watched.at(-1) !== phase) window.watched.push(phase);
    };
    new MutationObserver(look).observe(document.getElementById("now"), { subtree: true, childList: true, characterData: true });
    addEventListener("error", (event) => window.wrong.push(String(event.message)));
    addEventListener("unhandledrejection", (event) => window.wrong.push(String(event.reason)));
    addEventListener("securitypolicyviolation", (event) => window.wrong.push(`${event.violatedDirective}: ${event.blockedURI}`));
    look();
"##;

/// What the page shows.
const LOOK: &str = r##"
    const text = (element) => element?.textContent.trim() ?? "";
    const word = (element) => text(element).replace(/[^A-Za-z]/g, "");
    const find = (selector) => document.querySelector(selector);
    const all = (selector) => [...document.querySelectorAll(selector)];
    const figure = (term) => text(all("#weight div").find((one) => text(one.querySelector("dt")) === term)?.querySelector("dd")?.firstChild);
    const elsewhere = performance.getEntriesByType("resource").map((one) => one.name).filter((name) => !name.startsWith(location.origin));
    return {
      phase: word(find("#phase .badge")),
      message: text(find("#message")),
      wanted: figure("wanted"),
      observed: figure("on the route"),
      revision: text(find("#revision dd strong")),
      step: text(find("#plan .now .share")),
      evidence: all("#evidence article").map((one) => [text(one.querySelector("h3").firstChild), text(one.querySelector(".sentence"))]),
      history: all("#history tbody tr").map((row) => [text(row.querySelector("th")), word(row.querySelector(".badge"))]),
      images: all("#arms td:nth-of-type(2)").map(text),
      told: all("#told li strong").map((one) => word(one)),
      watched: window.watched,
      wrong: [...window.wrong, ...elsewhere],
    };
"##;

#[derive(Debug, Deserialize)]
struct Shown {
    phase: String,
    message: String,
    wanted: String,
    observed: String,
    revision: String,
    step: String,
    evidence: Vec<(String, String)>,
    history: Vec<(String, String)>,
    /// Stable's and the canary's.
    images: Vec<String>,
    /// Reasons, newest first.
    told: Vec<String>,
    watched: Vec<String>,
    wrong: Vec<String>,
}

struct Reader<'a> {
    environment: &'a Environment,
    browser: Browser,
}

impl Reader<'_> {
    async fn look(&self) -> anyhow::Result<Shown> {
        serde_json::from_value(self.browser.ask(LOOK).await?).context("reading what the page shows")
    }

    /// The page says of the trial what status says.
    async fn sees_the_trial(&self, weight: i32) -> anyhow::Result<()> {
        eventually("the page shows the trial as status does", SOON, async || {
            let (status, shown) = (self.environment.status().await?, self.look().await?);
            agrees(&status, &shown)?;
            ensure!(shown.step == format!("{weight} %"), "{shown:?}");
            ensure!(
                shown.images == ["user-service:1.0.0", "user-service:1.1.0"],
                "{:?}",
                shown.images
            );
            Ok(())
        })
        .await
    }

    /// The page says at the end all that status says, and has shown these phases on the way, in this order.
    async fn sees_the_end(&self, says: &str, phases: &[&str], picture: &str) -> anyhow::Result<()> {
        eventually("the page shows the end as status does", SOON, async || {
            let (status, shown) = (self.environment.status().await?, self.look().await?);
            agrees(&status, &shown)?;
            let is_settled = shown.message.starts_with(says);
            ensure!(
                is_settled && status.message.as_deref() == Some(&shown.message),
                "{:?} {shown:?}",
                status.message
            );
            let evidence = status.evidence.iter();
            let evidence: Vec<_> = evidence.map(|one| (one.metric.clone(), one.sentence.clone())).collect();
            ensure!(evidence == shown.evidence, "{evidence:?} {shown:?}");
            let past = status.history.iter();
            let past: Vec<_> = past.map(|one| (one.revision.clone(), one.outcome.clone())).collect();
            ensure!(past == shown.history, "{past:?} {shown:?}");
            // The last phase's name is the last event's reason.
            ensure!(shown.told.contains(&shown.phase), "{:?}", shown.told);
            Ok(())
        })
        .await?;
        let shown = self.look().await?;
        let mut rest = shown.watched.iter();
        let missed = phases.iter().find(|phase| !rest.any(|shown| shown == *phase));
        ensure!(
            missed.is_none(),
            "{missed:?} was not shown in its place: {:?}",
            shown.watched
        );
        ensure!(shown.wrong.is_empty(), "{:?}", shown.wrong);
        // Those of docs/ are copies of these, cut below.
        self.browser
            .picture(&project_root().join("target/page").join(picture))
            .await
    }
}

fn agrees(status: &CanaryRolloutStatus, shown: &Shown) -> anyhow::Result<()> {
    let weight = status.weight.unwrap_or_default();
    let revision = status.revision.as_ref().map(|revision| revision.name.as_str());
    ensure!(
        status.phase.as_deref() == Some(&shown.phase)
            && format!("{} %", weight.wanted) == shown.wanted
            && format!("{} %", weight.observed) == shown.observed
            && revision == Some(&shown.revision),
        "status: {:?}, {weight:?}, {revision:?}; the page: {shown:?}",
        status.phase
    );
    Ok(())
}

/// A good revision and a bad one, watched by a person who opened the page once.
pub(super) async fn watched(lab: Arc<Lab>) -> anyhow::Result<()> {
    let plan = json!({ "steps": [{ "weight": 25, "hold": "8s", "atMost": "90s" }, { "weight": 100, "hold": "2s", "atMost": "60s" }] });
    let environment = environment(&lab, "page", json!({ "rollout": { "plan": plan } })).await?;
    let serin = environment.serin.as_ref().context("it has no Serin of its own")?;
    let browser = Browser::start(&lab.net).await?;
    let (side, namespace) = (serin.side_port().await?, environment.namespace());
    browser.open(&format!("{side}/")).await?;
    let reader = Reader {
        environment: &environment,
        browser,
    };
    // As a person does: from the list of all rollouts, by its name.
    eventually("the list has the rollout", SOON, async || {
        let follow = format!("const link = document.querySelector('a[href$=\"/{namespace}/user-service\"]'); link?.click(); return !!link;");
        ensure!(reader.browser.ask(&follow).await? == json!(true), "no link");
        Ok(())
    })
    .await?;
    eventually("the rollout's page is live", SOON, async || {
        let line = reader
            .browser
            .ask("return document.title + document.getElementById('line').textContent;")
            .await?;
        ensure!(
            line.as_str()
                .is_some_and(|line| line.contains("user-service") && line.contains("live")),
            "{line}"
        );
        Ok(())
    })
    .await?;
    reader.browser.ask(WATCH).await?;

    environment.commit("1.1.0", None).await?;
    let quarter = |s: &CanaryRolloutStatus| s.weight.is_some_and(|w| w.observed == 25);
    environment.until("25 % on the canary", ROLLBACK, quarter).await?;
    reader.sees_the_trial(25).await?;
    environment.until_phase("Promoted", "1.1.0", PROMOTION).await?;
    let good = ["Starting", "Progressing", "Promoting", "Promoted"];
    reader.sees_the_end("1.1.0 is promoted", &good, "page-good.png").await?;

    environment.commit("1.2.0", None).await?;
    environment.until_phase("RolledBack", "1.2.0", ROLLBACK).await?;
    let bad = ["Promoted", "Starting", "Progressing", "RollingBack", "RolledBack"];
    reader
        .sees_the_end("1.2.0 was rolled back: ", &bad, "page-bad.png")
        .await?;
    reader.browser.close().await
}
