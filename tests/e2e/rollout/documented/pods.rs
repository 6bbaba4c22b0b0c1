//! What is asked of pods by way of the API server: their logs, and their ports. It must not know of any rollout.

use anyhow::ensure;
use lab::site::Environment;

use super::commands::{ENDED, Shell};
use crate::story::{SOON, eventually};

/// Each is well, as docs/troubleshooting.md finds out.
pub(super) async fn are_reached(shell: &Shell<'_>) -> anyhow::Result<()> {
    let follow = "kubectl logs -f deployment/user-service -n user-service-prod";
    let told = shell.give(follow, ENDED).await?;
    ensure!(told.contains("user-service starts"), "{told}");
    let told = shell
        .give("kubectl logs deployment/serin -n serin-system | grep user-service", 0)
        .await?;
    ensure!(!told.is_empty(), "Serin says nothing of the rollout");

    let service = "kubectl port-forward svc/user-service 8080:80 -n user-service-prod";
    let well = "curl localhost:8080/health && curl localhost:8080/metrics";
    shell
        .give_beside(service, async || answers(shell, well, "# TYPE ").await)
        .await?;
    let ready = "curl -i localhost:8080/ready";
    shell
        .give_beside("kubectl port-forward POD 8080:8080", async || {
            answers(shell, ready, "HTTP/1.1 200 OK").await
        })
        .await?;
    let page = shell.here("curl -sS localhost:8080");
    shell
        .give_beside(
            "kubectl port-forward -n serin-system deployment/serin 8080",
            async || {
                eventually("the page is there", SOON, async || {
                    let page = shell.sh(&page).await?;
                    ensure!(page.contains("· Serin</title>"), "{page}");
                    Ok(())
                })
                .await
            },
        )
        .await
}

/// What is asked beside a port-forward, which takes a moment.
async fn answers(shell: &Shell<'_>, command: &str, says: &str) -> anyhow::Result<()> {
    eventually(command, SOON, async || {
        let told = shell.give(command, 0).await?;
        ensure!(told.contains(says), "{told}");
        Ok(())
    })
    .await
}

/// A pod that crashed, and is well again.
pub(super) async fn tell_of_the_life_before(shell: &Shell<'_>, environment: &Environment) -> anyhow::Result<()> {
    let kubelet = &environment.site.lab.kubelet;
    ensure!(
        kubelet.kill_pod(&environment.namespace(), &shell.pod),
        "there is no pod {}",
        shell.pod
    );
    eventually("the pod is well again", SOON, async || {
        let status = "{.status.containerStatuses[0].restartCount} {.status.containerStatuses[0].ready}";
        let status = shell
            .sh(&format!("kubectl get pod {} -o jsonpath='{status}'", shell.pod))
            .await?;
        ensure!(status == "1 true", "{status}");
        Ok(())
    })
    .await?;
    let told = shell
        .give("kubectl logs POD -n user-service-prod -c user-service --previous", 0)
        .await?;
    // It was killed, and had no time to say that it stops.
    ensure!(
        told.contains("user-service starts") && !told.contains("stopped"),
        "{told}"
    );
    Ok(())
}
