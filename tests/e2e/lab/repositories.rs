//! Stories of the config repositories' server.

use std::{fs, path::PathBuf, sync::Arc};

use anyhow::{Context as _, ensure};
use lab::{
    Lab,
    git_server::{Access, GitServer, Outage},
    process::Program,
};
use tempfile::TempDir;

use crate::story::SOON;

pub(super) async fn asks_for_a_token(lab: Arc<Lab>) -> anyhow::Result<()> {
    let work = tempfile::tempdir()?;
    lab.git.create("tokens", &seed(&work)?).await?;
    lab.git.allow("reader", Access::ReadOnly);
    let url = |token: &str| format!("http://any:{token}@{}/tokens.git", lab.git.address());
    let clone = async |token: &str, name: &str| git(&lab, &work, &["clone", "-q", &url(token), name]).await;
    clone(lab.git.token(), "good").await?;
    ensure!(
        fs::read_to_string(work.path().join("good/values.yaml"))? == "a: 1\n",
        "the seed is not there"
    );
    let error = clone("wrong", "bad").await.err().context("a wrong token was let in")?;
    ensure!(format!("{error:#}").contains("Authentication failed"), "{error:#}");

    commit(&lab, &work, "good", "b: 2\n").await?;
    git(&lab, &work, &["-C", "good", "push", "-q", "origin", "HEAD:main"]).await?;
    clone("reader", "reading").await?;
    ensure!(
        fs::read_to_string(work.path().join("reading/values.yaml"))? == "b: 2\n",
        "the push is not there"
    );
    commit(&lab, &work, "reading", "c: 3\n").await?;
    let refused = git(&lab, &work, &["-C", "reading", "push", "-q", "origin", "HEAD:main"]).await;
    let error = refused.err().context("a reader could push")?;
    ensure!(format!("{error:#}").contains("403"), "{error:#}");
    Ok(())
}

pub(super) async fn refuses_one_of_two_pushes(lab: Arc<Lab>) -> anyhow::Result<()> {
    let work = tempfile::tempdir()?;
    let repository = lab.git.create("race", &seed(&work)?).await?;
    let url = lab.git.url_with_token("race");
    for name in ["one", "two"] {
        git(&lab, &work, &["clone", "-q", &url, name]).await?;
        // Larger than what git sends in one piece, so that it comes in chunks and compressed.
        let large = (0..400_000)
            .map(|n| format!("{name}: {n}\n"))
            .collect::<Vec<_>>()
            .concat();
        commit(&lab, &work, name, &large).await?;
    }
    let push = async |name: &str| git(&lab, &work, &["-C", name, "push", "-q", "origin", "HEAD:main"]).await;
    let (one, two) = tokio::join!(push("one"), push("two"));
    ensure!(one.is_ok() != two.is_ok(), "{one:?} and {two:?}");
    let winner = if one.is_ok() { "one" } else { "two" };
    let text = repository.file("main", "values.yaml").await?;
    ensure!(
        text.starts_with(winner) && text.lines().count() == 400_000,
        "the repository has another text"
    );
    Ok(())
}

pub(super) async fn stops_pushes(lab: Arc<Lab>) -> anyhow::Result<()> {
    // A server of its own: an outage is for all repositories.
    let (work, home) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let server = GitServer::start(&lab.tools, &lab.net, home.path(), "token").await?;
    let repository = server.create("config", &seed(&work)?).await?;
    git(&lab, &work, &["clone", "-q", &server.url_with_token("config"), "clone"]).await?;
    commit(&lab, &work, "clone", "b: 2\n").await?;
    let begin = repository.head("main").await?;
    let push = async || git(&lab, &work, &["-C", "clone", "push", "-q", "origin", "HEAD:main"]).await;
    let refused = async |word: &str| {
        let error = push().await.err().with_context(|| format!("{word}: pushed"))?;
        ensure!(format!("{error:#}").contains(word), "{word}: {error:#}");
        ensure!(repository.head("main").await? == begin, "{word}: the branch has moved");
        anyhow::Ok(())
    };
    repository.set_pre_receive("echo 'policy: no pushes on Fridays' >&2; exit 1")?;
    refused("no pushes on Fridays").await?;
    repository.clear_pre_receive()?;
    server.set_outage(Outage::Unavailable);
    refused("503").await?;
    server.set_outage(Outage::Refused);
    refused("fatal").await?;
    server.set_outage(Outage::None);
    push().await?;
    ensure!(repository.head("main").await? != begin, "the push is not there");
    Ok(())
}

fn seed(work: &TempDir) -> anyhow::Result<PathBuf> {
    let seed = work.path().join("seed");
    fs::create_dir(&seed)?;
    fs::write(seed.join("values.yaml"), "a: 1\n")?;
    Ok(seed)
}

async fn commit(lab: &Lab, work: &TempDir, clone: &str, text: &str) -> anyhow::Result<()> {
    fs::write(work.path().join(clone).join("values.yaml"), text)?;
    let identity = ["-c", "user.name=Ann", "-c", "user.email=ann@example.com"];
    let words = [&["-C", clone], &identity[..], &["commit", "-q", "-a", "-m", "Change"]].concat();
    git(lab, work, &words).await
}

async fn git(lab: &Lab, work: &TempDir, args: &[&str]) -> anyhow::Result<()> {
    let git = Program::new(&lab.tools.git)
        .clean_env()
        .env("HOME", work.path())
        .env("GIT_TERMINAL_PROMPT", "0");
    git.args(args.iter().copied())
        .dir(work.path())
        .output(SOON)
        .await?
        .text()
        .map(drop)
}
