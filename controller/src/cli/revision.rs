//! `serin revision`: what a pipeline calls to bring a canary revision. It maps flags to a request of the Git room, no more.

use anyhow::{Context as _, Result};
use clap::Args;

use crate::gitops::{CreateRequest, Credentials, GitOps, Identity, RepoSpec, Subject};

/// Flags of `serin revision create`.
#[derive(Args, Debug, Clone)]
pub struct RevisionCreate {
    /// Address of the config repository: https://…, ssh://…, git@host:path.
    #[arg(long, value_name = "URL")]
    repository: String,
    /// Branch to commit to.
    #[arg(long, default_value = "main")]
    branch: String,
    /// Folder of the environment in the repository.
    #[arg(long, value_name = "DIR")]
    path: String,
    /// Values file below the folder.
    #[arg(long, default_value = "values.yaml")]
    file: String,
    /// Key of the canary's subtree in the values file.
    #[arg(long, default_value = "canary", value_name = "KEY")]
    canary: String,
    /// Key of stable's subtree in the values file.
    #[arg(long, default_value = "stable", value_name = "KEY")]
    stable: String,
    /// Tag of the canary's image.
    #[arg(long, value_name = "TAG")]
    image_tag: String,
    /// Repository of the canary's image, if it changes.
    #[arg(long, value_name = "REPOSITORY")]
    image_repository: Option<String>,
    /// Name of the revision.
    #[arg(long, value_name = "NAME")]
    revision: String,
    /// A further value below the canary's subtree, as in env.KEY=VALUE; may be given several times.
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    set: Vec<(String, String)>,
    /// Id of the cluster whose Serin shall judge the revision.
    #[arg(long, value_name = "ID")]
    cluster: String,
    /// The rollout.
    #[arg(long, value_name = "NAMESPACE/NAME")]
    rollout: String,
    /// Author of the commit.
    #[arg(long, value_name = "NAME <MAIL>")]
    author: Option<String>,
    /// Subject line of the commit.
    #[arg(long, value_name = "SUBJECT")]
    message: Option<String>,
    /// User for https; its token is read from the environment variable `SERIN_GIT_TOKEN`.
    #[arg(
        long,
        env = "SERIN_GIT_USERNAME",
        value_name = "USER",
        default_value = "serin",
        hide_env_values = true
    )]
    git_username: String,
}

/// Commits the revision and prints the commit as JSON; nothing is left behind on this machine.
pub async fn run(args: RevisionCreate) -> Result<()> {
    // Not a flag: an argument is there for every user of the machine to see.
    let credentials = match std::env::var("SERIN_GIT_TOKEN") {
        Ok(token) if !token.is_empty() => Credentials::Token {
            username: args.git_username.clone(),
            token,
        },
        _ => Credentials::None,
    };
    let (repo, request) = request(args, credentials)?;
    let folder = tempfile::Builder::new()
        .prefix("serin-")
        .tempdir()
        .context("cannot make a temporary folder")?;
    let git = GitOps::new(folder.path(), request.author.clone().unwrap_or_default());
    let created = git.create_canary(&repo, &request).await.with_context(|| {
        format!(
            "cannot commit revision {} of {}",
            request.revision,
            request.subject.rollout()
        )
    })?;
    let printed = serde_json::json!({ "commit": created.sha, "branch": repo.branch, "revision": request.revision });
    println!("{printed}");
    Ok(())
}

fn request(args: RevisionCreate, credentials: Credentials) -> Result<(RepoSpec, CreateRequest)> {
    let (namespace, name) = args
        .rollout
        .split_once('/')
        .context("--rollout must be NAMESPACE/NAME")?;
    let author = args.author.as_deref().map(Identity::parse).transpose()?;
    let subject = Subject {
        cluster: args.cluster,
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        path: args.path,
        file: args.file,
        stable: args.stable,
        canary: args.canary,
    };
    let request = CreateRequest {
        subject,
        revision: args.revision,
        image_tag: args.image_tag,
        image_repository: args.image_repository,
        set: args.set,
        author,
        message: args.message,
    };
    Ok((
        RepoSpec {
            url: args.repository,
            branch: args.branch,
            credentials,
        },
        request,
    ))
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write it as KEY=VALUE".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        create: RevisionCreate,
    }

    const GIVEN: &[&str] = &[
        "serin",
        "--repository",
        "https://h/x.git",
        "--path",
        "deploy/environments/prod",
        "--image-tag",
        "1.1.0",
        "--revision",
        "1.1.0",
        "--cluster",
        "c1",
        "--rollout",
        "ns/user-service",
        "--set",
        "env.A=b=c",
        "--set",
        "env.B=",
        "--author",
        "A <a@b>",
    ];

    #[test]
    fn flags_become_a_request() {
        let (repo, request) = request(Line::try_parse_from(GIVEN).unwrap().create, Credentials::None).unwrap();
        assert_eq!(
            (repo.branch.as_str(), request.subject.rollout().as_str()),
            ("main", "ns/user-service")
        );
        assert_eq!(request.subject.file_path(), "deploy/environments/prod/values.yaml");
        assert_eq!(
            request.set,
            [("env.A".into(), "b=c".into()), ("env.B".into(), String::new())]
        );
        assert!(request.check().is_ok() && repo.check().is_ok());
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_the_flag() {
        let with = |flag: &str, value: &str| Line::try_parse_from(GIVEN.iter().copied().chain([flag, value]));
        assert!(with("--set", "novalue").is_err());
        let mut lines = GIVEN.to_vec();
        lines[12] = "no-slash";
        let error = request(Line::try_parse_from(lines).unwrap().create, Credentials::None).unwrap_err();
        assert!(error.to_string().contains("--rollout"), "{error}");
    }
}
