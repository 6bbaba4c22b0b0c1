//! `serin replay`: what a finished rollout did, and what a spec would have done in an incident of the past.

use std::{fmt::Write as _, fs, path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};
use jiff::{SignedDuration, Timestamp};
use lab::{Lab, binary, clock, process::Program, prometheus::Prometheus, site::SERVICE};
use serde_json::{Value, json};

use super::{site::environment, witness::ROLLBACK};

const DEADLINE: Duration = Duration::from_secs(60);

/// Runs `serin replay` for its JSON.
async fn replay(lab: &Lab, prometheus: &str, args: &[&str]) -> anyhow::Result<Value> {
    let program = Program::new(binary("serin")?)
        .env("KUBECONFIG", lab.control_plane.kubeconfig_admin())
        .env("SERIN_PROMETHEUS_URL", prometheus)
        .args(["replay", "-o", "json"])
        .args(args.iter().copied());
    let printed = program.output(DEADLINE).await?.text().context("serin replay")?;
    serde_json::from_str(&printed).with_context(|| format!("it printed {printed}"))
}

/// What `serin replay` says when it can't.
async fn refusal(lab: &Lab, prometheus: &str, args: &[&str]) -> anyhow::Result<String> {
    match replay(lab, prometheus, args).await {
        Ok(replayed) => anyhow::bail!("it was replayed: {replayed}"),
        Err(error) => Ok(format!("{error:#}")),
    }
}

fn at<'a>(value: &'a Value, pointer: &str) -> anyhow::Result<&'a Value> {
    value
        .pointer(pointer)
        .with_context(|| format!("there is no {pointer} in {value}"))
}

pub(super) async fn finished(lab: Arc<Lab>) -> anyhow::Result<()> {
    // Enough calls to tell by the first of them when the weight was given.
    let environment = environment(&lab, "replayed", json!({ "load": { "rate": 60 } })).await?;
    environment.commit("1.2.0", None).await?;
    let status = environment.until_phase("RolledBack", "1.2.0", ROLLBACK).await?;
    let evidence = status.evidence.first().context("status has no evidence")?;
    let (namespace, url) = (environment.namespace(), lab.prometheus.url());
    let of = [SERVICE, "-n", namespace.as_str()];

    let weights = environment.weights()?;
    let first = weights
        .iter()
        .find(|write| write.percent() > 0)
        .context("no weight was written")?;

    // By itself it finds the trial and its pods, and about when they got their first calls.
    let replayed = replay(&lab, url, &of).await?;
    let began: Timestamp = serde_json::from_value(at(&replayed, "/replay/began")?.clone())?;
    let calls = environment.calls()?;
    let met = calls
        .iter()
        .filter(|call| call.revision.as_deref() == Some("1.2.0"))
        .map(|call| call.start);
    let met = met.min().context("no call met the canary")?;
    let apart = began.duration_since(met).abs();
    ensure!(
        apart <= SignedDuration::from_secs(4),
        "the first call met the canary at {met}, in the replay it had its weight at {began}"
    );

    // From the very instant of the first weight it judges the very calls that the controller judged.
    let rollout: Value = serde_json::to_value(environment.rollout().await?)?;
    let hash = at(&rollout, "/status/machine/phase/RolledBack/revision/hash")?
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let live = [evidence.bad, evidence.total, evidence.other_bad, evidence.other_total];
    let mut tried = Vec::new();
    let mut found = None;
    let mut near = None;
    // The controller sees its weight on the route a moment after it was written, which may be in a later tick where the
    // machine does much else.
    for later in [0, 250, 500, 1_000, 2_000, 3_000] {
        let from = first.at.checked_add(SignedDuration::from_millis(later))?.to_string();
        let file = tempfile::NamedTempFile::new()?;
        let recording = file.path().to_string_lossy().into_owned();
        let more = ["--from", &from, "--canary-hash", &hash, "--record", &recording];
        let args: Vec<&str> = of.into_iter().chain(more).collect();
        let replayed = replay(&lab, url, &args).await?;
        let counted = |name: &str| anyhow::Ok(at(&replayed, &format!("/replay/steps/0/{name}"))?.as_i64());
        let judged = [
            counted("canary/bad")?,
            counted("canary/total")?,
            counted("stable/bad")?,
            counted("stable/total")?,
        ];
        if judged == live.map(Some) {
            found = Some((replayed, file));
            break;
        }
        if within_a_tick(judged, live) {
            near = near.or(Some((replayed, file)));
        }
        tried.push(judged);
    }
    // One that judged the very same calls ends when the rollout did; one that is a tick apart may end a tick later.
    let earliest = SignedDuration::from_secs(if found.is_some() { -1 } else { -3 });
    let (replayed, recording) = found
        .or(near)
        .with_context(|| format!("the controller judged {live:?}, replays {tried:?}"))?;
    let highest = weights.iter().map(lab::audit::WeightWrite::percent).max();
    ensure!(at(&replayed, "/replay/end/weight")?.as_i64() == highest, "{replayed}");
    // Where Prometheus came to know the canary's pods after they had their weight, a replay can begin with their first sample only, and
    // so lacks a tick at the beginning; with all later ones it may come to no end.
    let ticks = status.samples.context("status keeps no ticks")?.ticks;
    let was_out_of_sight = ticks.first().is_some_and(|tick| tick.canary.requests == 0);
    let outcome = at(&replayed, "/replay/end/outcome")?;
    if *outcome != "open" || !was_out_of_sight {
        ensure!(*outcome == "rolledBack", "{replayed}");
        ensure!(*at(&replayed, "/replay/end/metric")? == evidence.metric, "{replayed}");
        let when: Timestamp = serde_json::from_value(at(&replayed, "/replay/end/at")?.clone())?;
        let gone = status
            .rollback
            .and_then(|rollback| rollback.traffic_at)
            .context("status does not say when the traffic was gone")?;
        let apart = gone.duration_since(when);
        // One look of the controller, on a machine that does much else.
        ensure!(
            apart >= earliest && apart <= SignedDuration::from_secs(8),
            "the traffic was gone at {gone}, in the replay at {when}"
        );
    }

    // Its recording gives the same to the last bit.
    let recording = recording.path().to_string_lossy();
    let again = replay(&lab, url, &[SERVICE, "-n", &namespace, "--samples", &recording]).await?;
    ensure!(replayed == again, "{replayed}\nand from its samples\n{again}");
    Ok(())
}

/// Whether two judgements are a tick apart at most: a scrape that came late, on a machine that does much else, is there for the
/// replay and was not for the controller.
fn within_a_tick(judged: [Option<i64>; 4], live: [i64; 4]) -> bool {
    const TICK: [i64; 4] = [20, 20, 20, 180];
    let apart = judged.into_iter().zip(live);
    apart
        .zip(TICK)
        .all(|((judged, live), tick)| judged.is_some_and(|judged| (judged - live).abs() <= tick))
}

/// The past of two Deployments as raw samples, every ten seconds: from `begin` on, the canary answers 5 calls a second and fails 5 %
/// of them; stable answers 95 and fails one in a thousand.
fn incident(begin: Timestamp, before: i64, minutes: i64) -> String {
    let mut text = String::new();
    let begin = begin.as_second();
    let mut series = |deployment: &str, hash: &str, calls_a_scrape: i64, failures_in_a_thousand: i64, since: i64| {
        let labels = format!(
            r#"job="linkerd-proxy",namespace="past",deployment="{deployment}",pod="{deployment}-{hash}-a",pod_template_hash="{hash}",instance="10.0.0.1:4191""#
        );
        let inbound = format!(r#"{labels},direction="inbound",srv_port="8080",route_name="default",status_code="200""#);
        let mut each = |metric: &str, of: &dyn Fn(i64) -> i64| {
            for scrape in 0..=((minutes * 60 - since) / 10) {
                let _ = writeln!(text, "{metric} {} {}", of(scrape), begin + since + scrape * 10);
            }
        };
        each(&format!("proxy_build_info{{{labels}}}"), &|_| 1);
        each(&format!("process_start_time_seconds{{{labels}}}"), &|_| {
            begin + since - 5
        });
        let failed = |scrape: i64| scrape * calls_a_scrape * failures_in_a_thousand / 1_000;
        each(
            &format!(r#"response_total{{{inbound},classification="failure",grpc_status="14"}}"#),
            &failed,
        );
        each(
            &format!(r#"response_total{{{inbound},classification="success",grpc_status="0"}}"#),
            &|scrape| scrape * calls_a_scrape - failed(scrape),
        );
        for bound in serin::linkerd::latency::LATENCY_BOUNDS_MS
            .iter()
            .map(u64::to_string)
            .chain(["+Inf".to_owned()])
        {
            each(
                &format!(r#"response_latency_ms_bucket{{{inbound},le="{bound}"}}"#),
                &|scrape| scrape * calls_a_scrape,
            );
        }
    };
    series("web", "s1", 950, 1, -before * 60);
    series("web-canary", "c1", 50, 50, 0);
    // What another exporter shows of the same pods: 6 of the canary's 20 checkouts are bad, and it takes six times the memory.
    let mut own = |pod: &str, checkouts: i64, bad: i64, memory: f64, since: i64| {
        let labels = format!(r#"job="app",namespace="past",pod="{pod}""#);
        let scrapes = || (0..=((minutes * 60 - since) / 10)).map(|scrape| (scrape, begin + since + scrape * 10));
        for (metric, each) in [("checkouts_total", checkouts), ("checkouts_bad_total", bad)] {
            for (scrape, at) in scrapes() {
                let _ = writeln!(text, "{metric}{{{labels}}} {} {at}", scrape * each);
            }
        }
        for (_, at) in scrapes() {
            let _ = writeln!(text, "memory_mb{{{labels}}} {memory} {at}");
        }
    };
    own("web-s1-a", 380, 0, 100.5, -before * 60);
    own("web-canary-c1-a", 20, 6, 600.5, 0);
    text + "# EOF\n"
}

async fn backfill(lab: &Lab, home: &Path, samples: &str) -> anyhow::Result<()> {
    let data = home.join("prometheus/data");
    fs::create_dir_all(&data)?;
    let file = home.join("incident.om");
    fs::write(&file, samples)?;
    let promtool = Program::new(&lab.tools.promtool)
        .args(["tsdb", "create-blocks-from", "openmetrics"])
        .arg(&file)
        .arg(&data);
    promtool.output(DEADLINE).await?.text().context("promtool")?;
    Ok(())
}

/// The same incident by metrics of the user's own, with margins for success that nobody breaks.
async fn own_metrics(lab: &Lab, url: &str, home: &Path, rollout: &Value, stretch: &[&str; 2]) -> anyhow::Result<()> {
    let of_arm = r#"{namespace="{{namespace}}",pod=~"{{pods}}"}"#;
    let [from, to] = *stretch;
    let spec = |name: &str, bad: &str, dry_run: bool| {
        let metrics = json!([
            {
                "name": "checkout", "bad": format!("sum({bad}{of_arm})"), "total": format!("sum(checkouts_total{of_arm})"),
                "passTolerance": "5%", "dryRun": dry_run,
            },
            { "name": "memory", "query": format!("max(memory_mb{of_arm})"), "max": 500, "breaches": 3, "dryRun": !dry_run },
        ]);
        let mut rollout = rollout.clone();
        let success = json!({ "objective": "80%", "tolerance": "10%", "passTolerance": "20%" });
        let analysis = json!({
            "baseline": "25m", "successRate": success, "latencyAgainstStable": "DryRun", "metrics": metrics,
        });
        *rollout
            .pointer_mut("/spec/analysis")
            .context("the rollout has no analysis")? = analysis;
        let path = home.join(name);
        fs::write(&path, serde_json::to_vec(&rollout)?)?;
        anyhow::Ok(path.to_string_lossy().into_owned())
    };
    let recording = home.join("own.jsonl");
    let recording = recording.to_string_lossy();
    let counters = spec("counters.yaml", "checkouts_bad_total", false)?;
    let of = ["--from", from, "--to", to];
    let args: Vec<&str> = ["-f", &counters]
        .into_iter()
        .chain(of)
        .chain(["--record", &recording])
        .collect();
    let replayed = replay(lab, url, &args).await?;
    ensure!(*at(&replayed, "/replay/end/metric")? == "checkout", "{replayed}");
    let reason = at(&replayed, "/replay/end/reason")?.as_str().unwrap_or_default();
    // 40 of the canary's a tick; the first tick of a young pod counts from zero.
    ensure!(
        reason.starts_with("30.0 % of ") && reason.contains("were bad by checkout"),
        "{reason}"
    );
    let again = replay(lab, url, &["-f", &counters, "--samples", &recording]).await?;
    ensure!(replayed == again, "{replayed}\nand from its samples\n{again}");

    // The very samples by a single value, for three ticks.
    let value = spec("value.yaml", "checkouts_bad_total", true)?;
    let replayed = replay(lab, url, &["-f", &value, "--samples", &recording]).await?;
    ensure!(*at(&replayed, "/replay/end/metric")? == "memory", "{replayed}");
    let reason = at(&replayed, "/replay/end/reason")?.as_str().unwrap_or_default();
    ensure!(
        reason.starts_with("memory is 600.5 on canary, stable 100.5"),
        "{reason}"
    );

    // Another query is another metric, which the samples do not have; and what is no counter is said, with its field.
    let other = spec("other.yaml", "memory_mb", false)?;
    let replayed = replay(lab, url, &["-f", &other, "--samples", &recording]).await?;
    ensure!(*at(&replayed, "/leftOut")? == json!(["checkout"]), "{replayed}");
    let args: Vec<&str> = ["-f", &other].into_iter().chain(of).collect();
    let wrong = refusal(lab, url, &args).await?;
    ensure!(
        wrong.contains("spec.analysis.metrics[0].bad: memory_mb of ") && wrong.contains("is no counter"),
        "{wrong}"
    );
    Ok(())
}

pub(super) async fn incident_story(lab: Arc<Lab>) -> anyhow::Result<()> {
    let home = tempfile::tempdir()?;
    // Two hours ago, at a whole minute.
    let now = clock::now().as_second();
    let begin = Timestamp::from_second((now - 7_200).div_euclid(60) * 60)?;
    backfill(&lab, home.path(), &incident(begin, 30, 30)).await?;
    let prometheus = Prometheus::start(&lab.tools, &lab.net, home.path()).await?;
    let url = prometheus.url();
    let spec = home.path().join("rollout.yaml");
    let rollout = json!({
        "apiVersion": "serin.dev/v1alpha1", "kind": "CanaryRollout", "metadata": { "name": "web", "namespace": "past" },
        "spec": {
            "service": { "name": "web", "port": 8080 },
            "stable": { "deployment": "web" }, "canary": { "deployment": "web-canary" },
            "analysis": { "baseline": "25m" },
            "git": { "repository": "https://git.example.com/config.git", "path": "prod" },
        },
    });
    fs::write(&spec, serde_json::to_vec(&rollout)?)?;
    let (spec, recording) = (spec.to_string_lossy(), home.path().join("incident.jsonl"));
    let (recording, picture) = (recording.to_string_lossy(), home.path().join("incident.svg"));
    let from = begin.to_string();
    let to = begin.checked_add(SignedDuration::from_mins(25))?.to_string();
    let of = ["-f", &spec, "--from", &from, "--to", &to, "--compare", "flagger,argo"];
    let with = |more: &[&'static str]| of.iter().copied().chain(more.iter().copied()).collect::<Vec<&str>>();

    let record = ["--record", &recording, "--svg", &picture.to_string_lossy()];
    let args: Vec<&str> = of.iter().copied().chain(record).collect();
    let replayed = replay(&lab, url, &args).await?;
    ensure!(*at(&replayed, "/replay/end/outcome")? == "rolledBack", "{replayed}");
    ensure!(*at(&replayed, "/replay/end/weight")? == 5, "{replayed}");
    let (served, failed) = (
        at(&replayed, "/replay/served/requests")?,
        at(&replayed, "/replay/served/failures")?,
    );
    // 100 calls a tick, 5 of them failed; proven within four ticks, and known half a tick later.
    let (served, failed) = (served.as_i64().unwrap_or(0), failed.as_i64().unwrap_or(0));
    ensure!(
        (200..=600).contains(&served) && served == 20 * failed,
        "{failed} of {served}"
    );
    let flagger = at(&replayed, "/peers/0/end/at")?
        .as_str()
        .unwrap_or_default()
        .parse::<Timestamp>()?;
    ensure!(
        flagger == begin.checked_add(SignedDuration::from_mins(6))?,
        "{replayed}"
    );
    ensure!(
        fs::read_to_string(&picture)?.contains("Flagger, threshold 5"),
        "{}",
        picture.display()
    );

    let again = replay(
        &lab,
        url,
        &["-f", &spec, "--samples", &recording, "--compare", "flagger,argo"],
    )
    .await?;
    ensure!(replayed == again, "{replayed}\nand from its samples\n{again}");
    let divided = replay(&lab, url, &with(&["--traffic", "plan"])).await?;
    ensure!(*at(&divided, "/replay/end/outcome")? == "rolledBack", "{divided}");

    own_metrics(&lab, url, home.path(), &rollout, &[from.as_str(), to.as_str()]).await?;

    // What is not there is named.
    let absent = refusal(&lab, url, &with(&["--canary", "nobody"])).await?;
    ensure!(
        absent.contains("has no series of the Deployment past/nobody"),
        "{absent}"
    );
    let port = refusal(&lab, url, &with(&["--container-port", "9999"])).await?;
    ensure!(port.contains("answered no call on port 9999"), "{port}");
    let cut = fs::read_to_string(&*recording)?;
    fs::write(&*recording, cut.get(..cut.len() / 2).unwrap_or_default())?;
    let cut_off = refusal(&lab, url, &["-f", &spec, "--samples", &recording]).await?;
    ensure!(cut_off.contains(": line "), "{cut_off}");
    prometheus.stop().await;
    let gone = refusal(&lab, url, &of).await?;
    ensure!(gone.contains("check that it runs"), "{gone}");
    Ok(())
}
