//! Stories of kubectl's ways to a pod: the API server asks the lab's kubelet, as it asks any kubelet.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    path::PathBuf,
    process::ExitStatus,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use kube::Api;
use lab::{
    Lab,
    process::{Child, Program},
};
use serde_json::json;

use super::cluster::{create, deploy, image, list, namespace, ready_pods};
use crate::story::{SOON, eventually};

/// A container that says "begun", and then what is written into a file of its name.
const TALKER: &str = ": > $NAME && echo begun && exec tail -n +1 -f $NAME";

pub(super) async fn reads_logs(lab: Arc<Lab>) -> anyhow::Result<()> {
    let client = namespace(&lab, "reads-logs").await?;
    let kubectl = Kubectl::new(&lab, "reads-logs")?;
    image(&lab, "reads-logs:1")?;
    let container = |name: &str| {
        json!({
            "name": name, "image": "reads-logs:1", "command": ["sh", "-c", TALKER],
            "env": [{"name": "NAME", "value": name}],
        })
    };
    let pods: Api<Pod> = Api::namespaced(client, "reads-logs");
    create(
        &pods,
        json!({"metadata": {"name": "talker"}, "spec": {"containers": [container("one"), container("other")]}}),
    )
    .await?;
    kubectl.says(&["talker", "-c", "one"], "begun\n").await?;
    let folder = lab.dir().join("pods/reads-logs_talker");
    let say = |line: &str| -> anyhow::Result<()> {
        let mut file = OpenOptions::new().append(true).open(folder.join("one"))?;
        Ok(writeln!(file, "{line}")?)
    };
    say("a line")?;
    say("and another")?;
    kubectl
        .says(&["talker", "-c", "one"], "begun\na line\nand another\n")
        .await?;
    kubectl.says(&["talker", "-c", "other"], "begun\n").await?;
    kubectl
        .says(&["talker", "-c", "one", "--tail=2"], "a line\nand another\n")
        .await?;
    kubectl.says(&["talker", "-c", "one", "--tail=0"], "").await?;
    kubectl
        .says(&["talker", "-c", "one", "--limit-bytes=7"], "begun\na")
        .await?;
    for (options, reason) in [
        (["--previous"], "has not ended yet"),
        (["--timestamps"], "have no time"),
        (["--since=1m"], "have no time"),
    ] {
        let refused = kubectl
            .refuses(&[&["logs", "talker", "-c", "one"][..], &options[..]].concat())
            .await?;
        ensure!(refused.contains(reason), "{options:?}: {refused}");
    }

    let (follower, heard) = kubectl
        .begin("follower", &["logs", "-f", "talker", "-c", "one"], &[])
        .await?;
    let hears = async |line: &str| {
        eventually("it is heard", SOON, || async {
            let heard = fs::read_to_string(&heard)?;
            ensure!(heard.ends_with(line), "{heard}");
            Ok(())
        })
        .await
    };
    hears("and another\n").await?;
    say("the last word")?;
    hears("the last word\n").await?;
    ensure!(lab.kubelet.kill_pod("reads-logs", "talker"), "there is no pod");
    let status = tokio::time::timeout(SOON, follower.wait()).await;
    ensure!(
        status.as_ref().is_ok_and(ExitStatus::success),
        "the run is over, and it ended with {status:?}"
    );
    kubectl
        .says(
            &["talker", "-c", "one", "--previous"],
            "begun\na line\nand another\nthe last word\n",
        )
        .await?;
    kubectl.says(&["talker", "-c", "one"], "begun\n").await
}

pub(super) async fn forwards_ports(lab: Arc<Lab>) -> anyhow::Result<()> {
    let client = namespace(&lab, "forwards-ports").await?;
    let kubectl = Kubectl::new(&lab, "forwards-ports")?;
    deploy(
        &client,
        "forwards-ports",
        &image(&lab, "forwards-ports:1")?,
        1,
        &json!({}),
    )
    .await?;
    let services: Api<Service> = Api::namespaced(client.clone(), "forwards-ports");
    let spec = json!({"selector": {"app.kubernetes.io/name": "web"}, "ports": [{"port": 80, "targetPort": "http"}]});
    create(&services, json!({"metadata": {"name": "web"}, "spec": spec})).await?;
    let ready = ready_pods(&client, "forwards-ports", 1).await?;
    let pod = ready
        .first()
        .and_then(|pod| pod.metadata.name.as_deref())
        .context("no pod")?;
    let address = lab.net.infra().to_string();
    // The first is how kubectl asks since 1.31, the other how it asked before.
    for (to, port, websockets) in [
        ("svc/web", 80, "true"),
        ("deployment/web", 8080, "true"),
        (pod, 8080, "false"),
    ] {
        let local = lab.net.free_port()?;
        let ports = format!("{local}:{port}");
        let args = ["port-forward", "--address", &address, to, &ports];
        let variable = [("KUBECTL_PORT_FORWARD_WEBSOCKETS", websockets)];
        let (forward, _) = kubectl.begin(&format!("forward-{local}"), &args, &variable).await?;
        let url = format!("http://{address}:{local}/env");
        let http = reqwest::Client::builder().timeout(Duration::from_secs(5)).build()?;
        let ask = async || anyhow::Ok(http.get(&url).send().await?.error_for_status()?.text().await?);
        eventually("the pod answers", SOON, ask)
            .await
            .map_err(|error| error.context(forward.obituary()))?;
        let answers = try_join_all((0..20).map(|_| ask())).await?;
        ensure!(
            answers.iter().all(|answer| answer.contains("forwards-ports:1")),
            "{answers:?}"
        );
        forward.kill().await;
    }
    only_the_api_server_may_ask(&lab, &client, pod).await
}

async fn only_the_api_server_may_ask(lab: &Lab, client: &kube::Client, pod: &str) -> anyhow::Result<()> {
    let node = list(client, "forwards-ports")
        .await?
        .pop()
        .and_then(|pod| pod.spec?.node_name);
    let node = Api::<Node>::all(client.clone())
        .get(&node.context("the pod has no node")?)
        .await?;
    let port = node
        .status
        .and_then(|status| Some(status.daemon_endpoints?.kubelet_endpoint?.port));
    let port = port.context("the node has no port")?;
    let anybody = reqwest::Client::builder()
        .tls_danger_accept_invalid_certs(true)
        .build()?;
    let url = format!(
        "https://{}:{port}/containerLogs/forwards-ports/{pod}/web",
        lab.net.infra()
    );
    let answer = anybody.get(url).send().await;
    ensure!(answer.is_err(), "it answered one without a certificate: {answer:?}");
    Ok(())
}

/// An admin at the command line, in a namespace.
struct Kubectl {
    program: Program,
    logs: PathBuf,
}

impl Kubectl {
    fn new(lab: &Lab, namespace: &str) -> anyhow::Result<Self> {
        let logs = lab.dir().join("logs/kubectl").join(namespace);
        fs::create_dir_all(&logs)?;
        let program = Program::new(&lab.tools.kubectl)
            .env("KUBECONFIG", lab.control_plane.kubeconfig_admin())
            .args(["--namespace", namespace]);
        Ok(Self { program, logs })
    }

    /// Waits until these options of `kubectl logs` show exactly this.
    async fn says(&self, options: &[&str], expected: &str) -> anyhow::Result<()> {
        eventually(&format!("logs {options:?}"), SOON, || async {
            let program = self.program.clone().arg("logs").args(options);
            let told = program.output(SOON).await?.text()?;
            ensure!(told == expected, "{told:?} instead of {expected:?}");
            Ok(())
        })
        .await
    }

    /// What it says of a command that is refused.
    async fn refuses(&self, args: &[&str]) -> anyhow::Result<String> {
        let output = self.program.clone().args(args).output(SOON).await?;
        ensure!(!output.status.success(), "{args:?} was not refused");
        Ok(String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// A command that goes on by itself, and the file with what it says.
    async fn begin(&self, name: &str, args: &[&str], env: &[(&str, &str)]) -> anyhow::Result<(Child, PathBuf)> {
        let log = self.logs.join(name);
        let program = self.program.clone().args(args).log(&log);
        let program = env
            .iter()
            .fold(program, |program, (name, value)| program.env(name, value));
        Ok((program.spawn().await?, log))
    }
}
