//! Stories of the pipeline's stage `Push`, its very step, to a registry that wants a password.

use std::{fs, sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};
use lab::{
    jenkins::Jenkins,
    process::{Child, Output, Program},
    project_root,
    wait::eventually,
};

use crate::workshop::{VERSION, Workshop};

const USER: &str = "jenkins";
const PASSWORD: &str = "let-me-push";
/// Of this password, by bcrypt: the registry takes no other.
const HTPASSWD: &str = "jenkins:$2b$04$Ay4LMgK1zFHlY/hNOiLUnOesBI17nXRiuRkFl/qvEjV8bTCZT6FZ.\n";
const PATIENCE: Duration = Duration::from_secs(30);

/// A registry that is up. It ends when it is dropped.
struct Registry {
    address: String,
    _folder: tempfile::TempDir,
    _process: Child,
}

impl Registry {
    async fn start(workshop: &Workshop) -> anyhow::Result<Self> {
        let folder = workshop.folder()?;
        let address = format!("{}:{}", workshop.net.infra(), workshop.net.free_port()?);
        let passwords = folder.path().join("htpasswd");
        fs::write(&passwords, HTPASSWD)?;
        let config = serde_json::json!({
            "version": "0.1",
            "log": { "level": "warn" },
            "storage": { "filesystem": { "rootdirectory": folder.path().join("data") } },
            "http": { "addr": address, "secret": "of the test" },
            "auth": { "htpasswd": { "realm": "registry", "path": passwords } },
        });
        // JSON is YAML.
        let path = folder.path().join("config.yml");
        fs::write(&path, config.to_string())?;
        let program = Program::new(&workshop.registry).arg("serve").arg(&path);
        let process = program.log(folder.path().join("log")).spawn().await?;
        let registry = Self {
            address,
            _folder: folder,
            _process: process,
        };
        eventually("the registry answers", PATIENCE, async || registry.get("", false).await).await?;
        Ok(registry)
    }

    async fn get(&self, path: &str, with_password: bool) -> anyhow::Result<reqwest::Response> {
        let client = reqwest::Client::builder().no_proxy().build()?;
        let mut request = client.get(format!("http://{}/v2/{path}", self.address));
        request = request.header("accept", "application/vnd.oci.image.manifest.v1+json");
        if with_password {
            request = request.basic_auth(USER, Some(PASSWORD));
        }
        Ok(request.send().await?)
    }

    /// The Jenkinsfile's stage, with what Jenkins's credentials would bring.
    async fn push(&self, workshop: &Workshop, password: &str) -> anyhow::Result<Output> {
        let image = format!("{}/user-service", self.address);
        workshop.tag_service(&image).await?;
        let mut env = workshop.env();
        let more = [
            ("IMAGE", image.as_str()),
            ("REGISTRY_USR", USER),
            ("REGISTRY_PSW", password),
        ];
        env.extend(more.map(|(name, value)| (name.to_owned(), value.to_owned())));
        Jenkins::new(project_root().join("Jenkinsfile"))?
            .run_stage("Push", &env)
            .await
    }
}

pub(crate) async fn the_pipelines_push_arrives_by_digest(workshop: Arc<Workshop>) -> anyhow::Result<()> {
    let registry = Registry::start(&workshop).await?;
    workshop.trust(&registry.address)?;
    let output = registry.push(&workshop, PASSWORD).await?;
    ensure!(
        !String::from_utf8_lossy(&output.stderr).contains(PASSWORD),
        "the password is echoed"
    );
    let digest = output.text().context("the stage Push")?;
    let by_digest = format!("user-service/manifests/{}", digest.trim());
    ensure!(
        registry.get(&by_digest, false).await?.status() == 401,
        "anybody may read it"
    );
    let found = registry.get(&by_digest, true).await?;
    ensure!(found.status() == 200, "{digest}: {}", found.status());
    let by_tag = registry.get(&format!("user-service/manifests/{VERSION}"), true).await?;
    let named = by_tag
        .headers()
        .get("docker-content-digest")
        .context("the tag has no digest")?;
    ensure!(named.to_str()? == digest.trim(), "the tag is {named:?}");

    let again = registry.push(&workshop, PASSWORD).await?.text()?;
    ensure!(again == digest, "the same image is {digest}, then {again}");
    Ok(())
}

pub(crate) async fn a_refused_push_fails_the_stage(workshop: Arc<Workshop>) -> anyhow::Result<()> {
    let registry = Registry::start(&workshop).await?;
    workshop.trust(&registry.address)?;
    let output = registry.push(&workshop, "wrong").await?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(!output.status.success() && output.stdout.is_empty(), "{output:?}");
    ensure!(
        said.contains("logging in to") && said.contains("what to do: renew"),
        "{said}"
    );
    Ok(())
}
