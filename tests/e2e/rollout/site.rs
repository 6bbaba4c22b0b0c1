//! The one installation that all stories of rollouts share, made by whichever comes first.

use std::sync::Arc;

use anyhow::Context as _;
use lab::{
    Lab,
    site::{Detours, Environment, Setup, Site},
};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

static SITE: OnceCell<Arc<Site>> = OnceCell::const_new();

/// The installation, with the revisions that stories commit in its image store.
pub(crate) async fn site(lab: &Arc<Lab>) -> anyhow::Result<Arc<Site>> {
    let install = async || {
        let site = Site::install(lab.clone()).await?;
        for good in ["1.0.0", "1.1.0", "1.1.1"] {
            site.push_image(good, &[])?;
        }
        site.push_image("1.2.0", &[("FAULT_ERROR_RATE", "0.2")])?;
        site.push_image("1.3.0", &[("FAULT_LATENCY", "1500ms")])?;
        let claim = lab.dir().join("bad-pod").display().to_string();
        for (tag, faults) in [
            ("1.2.1", vec![("FAULT_ERROR_RATE", "0.5")]),
            ("1.2.2", vec![("FAULT_ERROR_RATE", "0.05")]),
            (
                "1.2.3",
                vec![("FAULT_ERROR_RATE", "0.2"), ("FAULT_CODE", "UNIMPLEMENTED")],
            ),
            ("1.2.4", vec![("FAULT_ERROR_RATE", "0.5"), ("FAULT_ABOVE_RATE", "36")]),
            (
                "1.2.5",
                vec![("FAULT_ERROR_RATE", "0.5"), ("FAULT_CLAIM", claim.as_str())],
            ),
            ("1.2.6", vec![("FAULT_ERROR_RATE", "0.3"), ("FAULT_CODE", "ABORTED")]),
            ("1.2.7", vec![("FAULT_ERROR_RATE", "0.01")]),
            ("1.3.1", vec![("FAULT_LATENCY", "1020ms")]),
            ("1.3.2", vec![("FAULT_LATENCY", "510ms")]),
        ] {
            site.push_image(tag, &faults)?;
        }
        Ok(site)
    };
    SITE.get_or_try_init(install).await.cloned()
}

/// An environment with a Serin of its own, and these values over the lab's.
pub(super) async fn environment(lab: &Arc<Lab>, name: &str, values: Value) -> anyhow::Result<Environment> {
    environment_with(lab, name, values, Detours::default()).await
}

/// The same, with the metrics of this Prometheus.
pub(super) async fn environment_beside(
    lab: &Arc<Lab>,
    name: &str,
    prometheus: &str,
    values: Value,
) -> anyhow::Result<Environment> {
    let address = prometheus.trim_start_matches("http://").parse();
    let detours = Detours {
        prometheus: Some(address.with_context(|| format!("reading {prometheus}"))?),
        ..Detours::default()
    };
    environment_with(lab, name, values, detours).await
}

/// The same, with what stands between its Serin and the parts that it needs.
pub(super) async fn environment_with(
    lab: &Arc<Lab>,
    name: &str,
    values: Value,
    detours: Detours,
) -> anyhow::Result<Environment> {
    let site = site(lab).await?;
    let setup = Setup {
        values,
        own_serin: true,
    };
    Environment::start_with(&site, name, setup, &json!({}), detours).await
}
