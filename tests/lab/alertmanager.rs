//! The real Alertmanager, which notifies nobody. It must not know who tells it what.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use crate::{
    net::Net,
    process::{Child, Output, Program},
    project_root,
    wait::eventually,
};

const READY: Duration = Duration::from_secs(30);
/// Installing it, where that has not been done.
const SETUP: Duration = Duration::from_mins(10);

/// A running Alertmanager. It ends when it is dropped.
#[derive(Debug)]
pub struct Alertmanager {
    url: String,
    http: reqwest::Client,
    _child: Child,
}

impl Alertmanager {
    /// Starts one with its data in this folder, installed by the lab's own script.
    pub async fn start(net: &Net, dir: &Path) -> anyhow::Result<Self> {
        let setup = Program::new(project_root().join("tests/lab/setup/alertmanager.sh"));
        let printed = setup.output(SETUP).await.and_then(Output::text)?;
        let program = printed.lines().next();
        let program = program.context("tests/lab/setup/alertmanager.sh printed no path")?;
        let home = dir.join("alertmanager");
        fs::create_dir_all(&home)?;
        let config = home.join("alertmanager.yml");
        // JSON is YAML.
        let nobody = json!({ "route": { "receiver": "nobody" }, "receivers": [{ "name": "nobody" }] });
        fs::write(&config, nobody.to_string())?;
        let listen = format!("{}:{}", net.infra(), net.free_port()?);
        let child = alone(Path::new(program))
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.path={}", home.join("data").display()))
            .arg(format!("--web.listen-address={listen}"))
            // It has no peers, and listens for none.
            .arg("--cluster.listen-address=")
            .dir(&home)
            .log(home.join("alertmanager.log"))
            .spawn()
            .await?;
        let (url, http) = (format!("http://{listen}"), reqwest::Client::new());
        eventually("Alertmanager is ready", READY, async || {
            let ready = http.get(format!("{url}/-/ready")).send().await;
            let ready = ready.with_context(|| format!("asking Alertmanager; see {}", child.log_path()))?;
            ensure!(ready.status().is_success(), "it says {}", ready.status());
            Ok(())
        })
        .await?;
        Ok(Self {
            url,
            http,
            _child: child,
        })
    }

    /// Its base URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The alerts that it has and that are not over.
    pub async fn alerts(&self) -> anyhow::Result<Vec<Value>> {
        let response = self.http.get(format!("{}/api/v2/alerts", self.url)).send().await;
        let response = response.and_then(reqwest::Response::error_for_status);
        let alerts = response.context("asking Alertmanager for its alerts")?.json().await;
        alerts.context("reading Alertmanager's alerts")
    }
}

/// Debian's reads its templates from where its package puts them. Where that is only unpacked, it sees it there, and nobody else does.
fn alone(program: &Path) -> Program {
    const OVER: &str = r#"
        mount -t overlay overlay -o "lowerdir=$1/usr/share:/usr/share" /usr/share
        shift
        exec "$@"
    "#;
    let root = program.ancestors().nth(3);
    match root.filter(|root| *root != Path::new("/") && root.join("usr/share").is_dir()) {
        Some(root) => Program::new("unshare")
            .args(["--mount", "sh", "-ec", OVER, "sh"])
            .arg(root)
            .arg(program),
        None => Program::new(program),
    }
}
