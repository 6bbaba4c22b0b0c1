//! The story of `make demo`: one good revision is promoted, two bad ones are reverted in Git, live. It must not know how any
//! part of the lab works, and asks Serin for nothing but its status line: the report is what others say.

mod pushes;
mod report;
mod table;
mod watch;

use std::{fs, sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, api::PostParams};
use serde_json::json;

use self::{
    pushes::Pushes,
    report::{Outcome, Report},
    watch::Live,
};
use crate::{
    Lab, Options, project_root,
    site::{Environment, Serin, Setup, Site},
};

/// The namespace that argocd/README.md installs Serin into.
const NAMESPACE: &str = "serin-system";
/// Calls a second: enough to tell good from bad in seconds.
const RATE: u32 = 250;
/// No chapter of the story takes longer.
const CHAPTER: Duration = Duration::from_secs(120);

/// Runs the story; an error says what did not come true.
pub async fn run() -> anyhow::Result<()> {
    let begun = std::time::Instant::now();
    let site = install().await?;
    let outcome = tokio::select! {
        outcome = tell(&site) => outcome,
        interrupted = interrupted() => interrupted.and_then(|()| anyhow::bail!("interrupted")),
    };
    if outcome.is_err() && !crate::process::tail(&site.lab.dir().join("logs"), 1).is_empty() {
        eprintln!("logs: {}", site.lab.dir().join("logs").display());
    }
    site.lab.stop().await;
    outcome?;
    println!("\nEverything came true, in {} s.", begun.elapsed().as_secs());
    Ok(())
}

/// Leaves production running, and prints how to reach it, until somebody ends it.
pub async fn up() -> anyhow::Result<()> {
    let site = install().await?;
    let (_serin, environment) = production(&site).await?;
    let lab = &site.lab;
    println!(
        "\n\
         The lab runs; Ctrl-C ends it.\n\n\
         cluster            export KUBECONFIG={}\n\
         kubectl            {}\n\
         Prometheus         {}\n\
         config repository  git clone {}\n\
         logs               {}\n\n\
         Images 1.0.0 and 1.1.0 of user-service are good, 1.2.0 fails 20 % of its calls, 1.3.0 is slow. To try one:\n\n\
         \x20 SERIN_GIT_TOKEN={} target/debug/serin revision create --repository {} --path {} \\\n\
         \x20   --image-tag 1.1.0 --revision 1.1.0 --cluster {} --rollout {}/{}\n\
         \x20 target/debug/serin status -A",
        lab.control_plane.kubeconfig_admin().display(),
        lab.tools.kubectl.display(),
        lab.prometheus.url(),
        lab.git.url_with_token(crate::site::CONFIG),
        lab.dir().join("logs").display(),
        lab.git.token(),
        lab.git.url(crate::site::CONFIG),
        environment.folder(),
        crate::site::CLUSTER,
        environment.namespace(),
        crate::site::SERVICE,
    );
    interrupted().await?;
    lab.stop().await;
    Ok(())
}

async fn install() -> anyhow::Result<Arc<Site>> {
    let lab = Lab::start(Options::default()).await?;
    let site = Site::install(Arc::new(lab)).await?;
    for good in ["1.0.0", "1.1.0"] {
        site.push_image(good, &[])?;
    }
    site.push_image("1.2.0", &[("FAULT_ERROR_RATE", "0.2")])?;
    site.push_image("1.3.0", &[("FAULT_LATENCY", "800ms")])?;
    Ok(site)
}

/// Serin for the whole cluster, and the environment `prod` with its clients.
async fn production(site: &Arc<Site>) -> anyhow::Result<(Serin, Environment)> {
    let namespace: Namespace = serde_json::from_value(json!({ "metadata": { "name": NAMESPACE } }))?;
    let namespaces: Api<Namespace> = Api::all(site.lab.control_plane.client());
    namespaces
        .create(&PostParams::default(), &namespace)
        .await
        .with_context(|| format!("making the namespace {NAMESPACE}"))?;
    let serin = Serin::install(site, "serin", NAMESPACE, false).await?;
    let values = json!({
        "load": { "rate": RATE },
        "rollout": {
            // Production's own objectives; what few calls can prove is a point, not half of one.
            "analysis": {
                "successRate": { "objective": "99%", "tolerance": "0.2%", "passTolerance": "1%" },
                "latency": [{ "share": "99%", "within": "500ms" }],
                "baseline": "10s",
            },
            "plan": { "steps": [
                { "weight": 5, "hold": "4s", "atMost": "90s" },
                { "weight": 25, "hold": "4s", "atMost": "90s" },
                { "weight": 50, "hold": "4s", "atMost": "90s" },
                { "weight": 100, "hold": "4s", "atMost": "90s" },
            ] },
        },
    });
    let environment = Environment::start(
        site,
        "prod",
        Setup {
            values,
            own_serin: false,
        },
    )
    .await?;
    Ok((serin, environment))
}

async fn tell(site: &Arc<Site>) -> anyhow::Result<()> {
    let (_serin, environment) = production(site).await?;
    let pushes = Pushes::watch(site.config.path());
    let live = Live::show(&environment);
    let mut report = Report::default();
    println!("\n1.0.0 runs as stable under {RATE} calls a second.");
    for (revision, what, expected) in [
        ("1.1.0", "is good", Outcome::Promoted),
        (
            "1.2.0",
            "fails 20 % of its calls, once it gets any",
            Outcome::RolledBack,
        ),
        (
            "1.3.0",
            "answers in 800 ms; the objective is 99 % within 500 ms",
            Outcome::RolledBack,
        ),
    ] {
        println!("\n{revision} {what}. The pipeline commits it.");
        let chapter = report::Chapter::begin(&environment, revision).await?;
        let commit = environment.commit(revision, None).await?;
        let ended = environment.until_phase(expected.phase(), revision, CHAPTER).await;
        ended.with_context(|| format!("{revision} ought to end as {}", expected.phase()))?;
        report
            .revisions
            .push(chapter.end(&environment, &pushes, &commit, expected).await?);
    }
    drop(live);
    show(&environment, &report).await?;
    let path = project_root().join("target/demo/report.json");
    fs::create_dir_all(path.parent().unwrap_or(&path))?;
    fs::write(&path, serde_json::to_vec_pretty(&report)?).with_context(|| format!("writing {}", path.display()))?;
    println!("\nreport: {}", path.display());
    let broken = report.broken();
    ensure!(
        broken.is_empty(),
        "not everything came true:\n  {}",
        broken.join("\n  ")
    );
    Ok(())
}

async fn show(environment: &Environment, report: &Report) -> anyhow::Result<()> {
    println!("\nThe config repository:\n");
    let format = "--format=%h %<(24,trunc)%an %s";
    print!(
        "{}",
        environment
            .site
            .config
            .run(&["log", format, "main", "--", &environment.folder()])
            .await?
    );
    println!("\nEvents of the rollout:\n");
    for event in environment.events().await? {
        let at = event
            .event_time
            .map(|time| time.0.strftime("%T").to_string())
            .unwrap_or_default();
        let (reason, note) = (event.reason.unwrap_or_default(), event.note.unwrap_or_default());
        println!("{at}  {reason:<18} {note}");
    }
    println!("\n{}", table::of(report));
    Ok(())
}

async fn interrupted() -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
