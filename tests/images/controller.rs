//! Stories of the controller's image.

use std::{fs, sync::Arc};

use anyhow::{Context as _, ensure};
use lab::{git_server::GitServer, project_root, tools::Tools};

use crate::{
    container::Container,
    workshop::{VERSION, Workshop, size},
};

const MOST: u64 = 200_000_000;
/// What Debian's part may take; the program has the rest.
const MOST_OF_BASE: u64 = 100_000_000;
const TOKEN: &str = "token-of-the-container";

pub(crate) async fn the_image_has_what_serin_needs_within_its_size(workshop: Arc<Workshop>) -> anyhow::Result<()> {
    let image = &workshop.controller;
    let (all, program) = (size(&image.rootfs)?, image.rootfs.join("usr/local/bin/serin"));
    let program = fs::metadata(program).context("looking for the program")?.len();
    ensure!(all - program <= MOST_OF_BASE, "the base has {} bytes", all - program);
    if Workshop::is_release()? {
        ensure!(all <= MOST, "{all} bytes");
    }
    ensure!(
        image.config.user == "65532:65532" && image.config.cmd == ["controller"],
        "{:?}",
        image.config
    );
    let version = image.config.labels.get("org.opencontainers.image.version");
    ensure!(version.is_some_and(|version| version == VERSION), "{:?}", image.config);
    let authorities = fs::read_to_string(image.rootfs.join("etc/ssl/certs/ca-certificates.crt"))?;
    ensure!(
        authorities.matches("BEGIN CERTIFICATE").count() > 100,
        "too few certificate authorities"
    );

    let said = Container::of(&workshop, image, &["--version"])?
        .output()
        .await?
        .text()?;
    ensure!(said.starts_with("serin "), "{said}");
    for (command, wanted) in [("git --version", "git version 2."), ("gpg --version", "gpg (GnuPG) 2.")] {
        let container = Container::of(&workshop, image, &[])?.command(&["sh", "-c", command]);
        let said = container.output().await?.text().context(command)?;
        ensure!(said.starts_with(wanted), "{command}: {said}");
    }
    let written = Container::of(&workshop, image, &[])?.command(&["sh", "-c", ": >/usr/local/bin/serin || : >/file"]);
    let output = written.output().await?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        !output.status.success() && said.contains("Read-only file system"),
        "{output:?}"
    );
    Ok(())
}

pub(crate) async fn serin_commits_to_a_repository_from_its_container(workshop: Arc<Workshop>) -> anyhow::Result<()> {
    let folder = workshop.folder()?;
    let (tools, seed) = (Tools::load()?, folder.path().join("seed"));
    let environment = "deploy/environments/prod";
    fs::create_dir_all(seed.join(environment))?;
    let values = format!("{environment}/values.yaml");
    fs::copy(project_root().join(&values), seed.join(&values))?;
    let server = GitServer::start(&tools, &workshop.net, folder.path(), TOKEN).await?;
    let repository = server.create("config", &seed).await?;
    let before = repository.head("main").await?;

    let digest = format!("sha256:{}", "5f".repeat(32));
    let url = server.url("config");
    let set = format!("image.digest={digest}");
    let args = [
        &[
            "revision",
            "create",
            "--repository",
            &url,
            "--branch",
            "main",
            "--path",
            environment,
        ][..],
        &[
            "--file",
            "values.yaml",
            "--canary",
            "canary",
            "--image-tag",
            VERSION,
            "--revision",
            VERSION,
        ],
        &[
            "--set",
            &set,
            "--cluster",
            "test",
            "--rollout",
            "user-service-prod/user-service",
        ],
    ];
    let container = Container::of(&workshop, &workshop.controller, &args.concat())?
        .env("SERIN_GIT_USERNAME", "serin")
        .env("SERIN_GIT_TOKEN", TOKEN);
    let output = container.output().await?;
    ensure!(
        !String::from_utf8_lossy(&output.stderr).contains(TOKEN),
        "the token is shown"
    );
    let said = output.text().context("serin revision create")?;
    let head = repository.head("main").await?;
    ensure!(head != before && said.contains(&head), "{said}");
    let written = repository.file("main", &values).await?;
    let canary = written.split_once("\ncanary:").context("no canary")?.1;
    ensure!(canary.contains(VERSION) && canary.contains(&digest), "{written}");
    Ok(())
}

pub(crate) async fn ssh_knows_who_it_is(workshop: Arc<Workshop>) -> anyhow::Result<()> {
    // Nobody listens there: it gets as far as that.
    let url = format!(
        "ssh://git@{}:{}/config.git",
        workshop.net.infra(),
        workshop.net.free_port()?
    );
    let container = Container::of(&workshop, &workshop.controller, &[])?.command(&["git", "ls-remote", &url]);
    let output = container.env("HOME", "/tmp").output().await?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        !output.status.success() && said.contains("Connection refused"),
        "{said}"
    );
    Ok(())
}
