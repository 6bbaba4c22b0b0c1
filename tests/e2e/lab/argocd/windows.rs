//! The stand-in for Argo CD keeps a project's sync windows, lets people through those that say so, and goes on by itself after them.

use std::{sync::Arc, time::Duration};

use anyhow::ensure;
use jiff::SignedDuration;
use lab::{Lab, argocd::REFRESH, clock};
use serde_json::json;

use super::{
    NEVER, QUICK,
    place::{Place, at},
};
use crate::{
    story::{SOON, eventually, throughout},
    window::{self, Window},
};

/// Long enough for what a window holds up to happen if it did not.
const A_WHILE: Duration = Duration::from_secs(5);

pub(crate) async fn keeps(lab: Arc<Lab>) -> anyhow::Result<()> {
    let place = Place::new(&lab, "windows", NEVER).await?;
    let first = place.repository.head("main").await?;
    place.synced_at(&first, SOON).await?;
    let (project, projects) = ("user-service-windows", place.projects());
    let window = Window::of_the_readme(clock::now())?;
    let late = clock::now().checked_add(SignedDuration::from_hours(1))?;
    let set = async |may_people| window::set(&projects, project, &[window.until(late, may_people)?]).await;

    set(false).await?;
    let text = place.values().await?;
    let second = place.commit(&text.replace("1.0.0", "1.1.0")).await?;
    place.refresh().await?;
    eventually("it has seen the commit", QUICK, || async {
        let status = place.status().await?;
        ensure!(*at(&status, "/sync/revision") == json!(second), "{status}");
        Ok(())
    })
    .await?;
    throughout("nothing is synced, and nothing is said of it", A_WHILE, || async {
        let status = place.status().await?;
        ensure!(at(&status, "/sync/status") == "OutOfSync", "{status}");
        ensure!(
            *at(&status, "/operationState/syncResult/revision") == json!(first),
            "{status}"
        );
        ensure!(*at(&status, "/conditions") == json!([]), "{status}");
        ensure!(
            place.revision("user-service-canary").await? == "1.0.0",
            "it was applied"
        );
        Ok(())
    })
    .await?;

    // People ask, and wait as well, until the window lets them through.
    window::sync(&place.applications, project).await?;
    eventually("the sync says what it waits for", QUICK, || async {
        let status = place.status().await?;
        ensure!(at(&status, "/operationState/phase") == "Running", "{status}");
        ensure!(
            at(&status, "/operationState/message") == "Sync operation blocked by sync window",
            "{status}"
        );
        Ok(())
    })
    .await?;
    set(true).await?;
    let status = place.synced_at(&second, QUICK).await?;
    ensure!(
        *at(&status, "/operationState/operation/initiatedBy") == json!({ "username": "ann" }),
        "{status}"
    );
    ensure!(
        place.revision("user-service-canary").await? == "1.1.0",
        "the commit is not there"
    );
    let asked = place.application().await?;
    ensure!(
        asked.data.get("operation").is_none(),
        "the question is still there: {asked:?}"
    );

    // The window ends by its own time, with nobody's help.
    let third = place.commit(&text).await?;
    place.refresh().await?;
    eventually("the question was heard", QUICK, || async {
        let annotations = place.application().await?.metadata.annotations.unwrap_or_default();
        ensure!(!annotations.contains_key(REFRESH), "it was not");
        Ok(())
    })
    .await?;
    ensure!(
        place.revision("user-service-canary").await? == "1.1.0",
        "it was applied"
    );
    let end = clock::now().checked_add(SignedDuration::from_secs(2))?;
    window::set(&projects, project, &[window.until(end, false)?]).await?;
    let status = place.synced_at(&third, QUICK).await?;
    ensure!(clock::now() > end, "it was synced before the window was over");
    ensure!(
        *at(&status, "/operationState/operation/initiatedBy") == json!({ "automated": true }),
        "{status}"
    );
    place.end().await
}
