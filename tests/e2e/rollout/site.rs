//! The one installation that all stories of rollouts share, made by whichever comes first.

use std::sync::Arc;

use lab::{
    Lab,
    site::{Environment, Setup, Site},
};
use serde_json::Value;
use tokio::sync::OnceCell;

static SITE: OnceCell<Arc<Site>> = OnceCell::const_new();

/// The installation, with the revisions that stories commit in its image store.
pub(super) async fn site(lab: &Arc<Lab>) -> anyhow::Result<Arc<Site>> {
    let install = async || {
        let site = Site::install(lab.clone()).await?;
        for good in ["1.0.0", "1.1.0", "1.1.1"] {
            site.push_image(good, &[])?;
        }
        site.push_image("1.2.0", &[("FAULT_ERROR_RATE", "0.2")])?;
        site.push_image("1.3.0", &[("FAULT_LATENCY", "1500ms")])?;
        Ok(site)
    };
    SITE.get_or_try_init(install).await.cloned()
}

/// An environment with a Serin of its own, and these values over the lab's.
pub(super) async fn environment(lab: &Arc<Lab>, name: &str, values: Value) -> anyhow::Result<Environment> {
    let site = site(lab).await?;
    Environment::start(
        &site,
        name,
        Setup {
            values,
            own_serin: true,
        },
    )
    .await
}
