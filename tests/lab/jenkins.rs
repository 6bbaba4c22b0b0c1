//! Jenkins, as far as the lab needs it: runs the `sh` steps of one stage of the Jenkinsfile, the very commands, with the
//! environment that the file gives them. It must not know what a stage is about.

mod groovy;
#[cfg(test)]
mod recorder;
#[cfg(test)]
mod scripts;

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail};

use self::groovy::{Pipeline, Setting, Stage};
use crate::process::{Output, Program};

/// The longest stage waits for a verdict.
const DEADLINE: Duration = Duration::from_mins(5);

/// A Jenkinsfile that can be run stage by stage.
#[derive(Debug, Clone)]
pub struct Jenkins {
    path: PathBuf,
    pipeline: Pipeline,
}

impl Jenkins {
    /// Reads a declarative Jenkinsfile.
    pub fn new(jenkinsfile: impl Into<PathBuf>) -> anyhow::Result<Self> {
        let path = jenkinsfile.into();
        let reading = || format!("reading {}", path.display());
        let text = fs::read_to_string(&path).with_context(reading)?;
        let pipeline = Pipeline::parse(&text).with_context(reading)?;
        Ok(Self { path, pipeline })
    }

    /// The names of the stages, in order.
    pub fn stages(&self) -> impl Iterator<Item = &str> {
        self.pipeline.stages.iter().map(|stage| stage.name.as_str())
    }

    /// The scripts of the stage's `sh` steps.
    pub fn scripts(&self, stage: &str) -> anyhow::Result<&[String]> {
        Ok(&self.stage(stage)?.scripts)
    }

    /// Runs the stage's `sh` steps as Jenkins does (`sh -xe`), in a workspace that has nothing but the folder `deploy` beside the
    /// Jenkinsfile, and stops at the first one that fails; its output is then the last one. `env` goes before what the Jenkinsfile sets, and has to bring what the Jenkinsfile
    /// takes from Jenkins's credentials. Nothing else but PATH is inherited.
    pub async fn run_stage(&self, name: &str, env: &BTreeMap<String, String>) -> anyhow::Result<Output> {
        let workspace = tempfile::tempdir().context("making a workspace")?;
        let workspace = workspace.path();
        let deploy = self.path.parent().unwrap_or(Path::new("/")).join("deploy");
        symlink(deploy, workspace.join("deploy")).context("making a workspace")?;
        let running = || format!("running the stage `{name}` of {}", self.path.display());
        let stage = self.stage(name)?;
        let env = self.environment(stage, env).with_context(running)?;
        let mut all: Option<Output> = None;
        for script in &stage.scripts {
            let file = tempfile::NamedTempFile::new().context("making a script")?;
            fs::write(file.path(), script)?;
            let mut program = Program::new("sh")
                .arg("-xe")
                .arg(file.path())
                .clean_env()
                .dir(workspace);
            program = program
                .env("WORKSPACE", workspace)
                .env("HOME", workspace)
                .env("STAGE_NAME", name);
            for (key, value) in &env {
                program = program.env(key, value);
            }
            let output = program.output(DEADLINE).await.with_context(running)?;
            let before = all.take();
            let joined = join(before, output);
            if !joined.status.success() {
                return Ok(joined);
            }
            all = Some(joined);
        }
        all.context("it has no sh step").with_context(running)
    }

    fn stage(&self, name: &str) -> anyhow::Result<&Stage> {
        self.pipeline
            .stages
            .iter()
            .find(|stage| stage.name == name)
            .with_context(|| {
                format!(
                    "{} has no stage `{name}`; it has {:?}",
                    self.path.display(),
                    self.stages().collect::<Vec<_>>()
                )
            })
    }

    fn environment(&self, stage: &Stage, given: &BTreeMap<String, String>) -> anyhow::Result<BTreeMap<String, String>> {
        let mut env = BTreeMap::new();
        for (key, setting) in self.pipeline.environment.iter().chain(&stage.environment) {
            match setting {
                Setting::Text(text) => {
                    env.insert(key.clone(), text.clone());
                }
                Setting::Credentials(id) => {
                    let parts = [key.clone(), format!("{key}_USR"), format!("{key}_PSW")];
                    if !parts.iter().any(|part| given.contains_key(part)) {
                        bail!("{key} comes from the credentials `{id}`; give it in the environment");
                    }
                }
            }
        }
        for (key, value) in &self.pipeline.parameters {
            env.insert(key.clone(), value.clone());
        }
        env.extend(given.iter().map(|(key, value)| (key.clone(), value.clone())));
        Ok(env)
    }
}

fn join(before: Option<Output>, after: Output) -> Output {
    let Some(mut before) = before else { return after };
    before.stdout.extend(after.stdout);
    before.stderr.extend(after.stderr);
    Output {
        status: after.status,
        ..before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project() -> Jenkins {
        Jenkins::new(crate::project_root().join("Jenkinsfile")).unwrap()
    }

    fn given(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    /// A `serin` that only prints its arguments, one a line, and the token.
    fn stand_in(code: u8) -> (tempfile::TempDir, String) {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("serin");
        fs::write(
            &path,
            format!("#!/bin/sh\nprintf '%s\\n' \"$@\" \"token=$SERIN_GIT_TOKEN\"\nexit {code}\n"),
        )
        .unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let search = format!("{}:{}", dir.path().display(), std::env::var("PATH").unwrap());
        (dir, search)
    }

    #[tokio::test]
    async fn the_canary_stage_calls_serin_with_what_the_jenkinsfile_says() {
        let (_dir, path) = stand_in(0);
        let env = given(&[
            ("PATH", &path),
            ("VERSION", "1.1.0"),
            ("GIT_TOKEN", "secret"),
            ("CONFIG_REPOSITORY", "http://git"),
        ]);
        let output = project().run_stage("Production: canary revision", &env).await.unwrap();
        assert!(!String::from_utf8_lossy(&output.stderr).contains("secret"));
        let text = output.text().unwrap();
        let lines: Vec<_> = text.lines().collect();
        let expected = "revision create --repository http://git --branch main --path deploy/environments/prod --file values.yaml \
                        --canary canary --image-repository registry.example.com/user-service --image-tag 1.1.0 --revision 1.1.0 \
                        --cluster production --rollout user-service-prod/user-service token=secret";
        assert_eq!(lines, expected.split_whitespace().collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_change_of_configuration_comes_with_the_parameter_set() {
        let (_dir, path) = stand_in(0);
        let env = given(&[
            ("PATH", &path),
            ("VERSION", "1"),
            ("GIT_TOKEN", "t"),
            ("SET", "env.GREETING=good day"),
        ]);
        let text = project()
            .run_stage("Production: canary revision", &env)
            .await
            .unwrap()
            .text()
            .unwrap();
        assert!(text.contains("--set\nenv.GREETING=good day\n"), "{text}");
    }

    #[tokio::test]
    async fn the_verdict_stage_waits_for_the_revision_and_hands_serins_exit_code_on() {
        for code in [0, 3, 124] {
            let (_dir, path) = stand_in(code);
            let env = given(&[
                ("PATH", &path),
                ("VERSION", "1.1.0"),
                ("WAIT", "50m"),
                ("KUBECONFIG", "k"),
            ]);
            let output = project().run_stage("Production: verdict", &env).await.unwrap();
            assert_eq!(output.status.code(), Some(code.into()));
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let expected =
                "wait user-service --namespace user-service-prod --for=promoted --revision 1.1.0 --timeout 50m token=";
            assert_eq!(
                text.lines().collect::<Vec<_>>(),
                expected.split_whitespace().collect::<Vec<_>>()
            );
        }
    }

    #[tokio::test]
    async fn the_stage_fails_when_serin_fails() {
        let (_dir, path) = stand_in(3);
        let env = given(&[("PATH", &path), ("VERSION", "1"), ("GIT_TOKEN", "t")]);
        let output = project().run_stage("Production: canary revision", &env).await.unwrap();
        assert_eq!(output.status.code(), Some(3));
    }

    #[tokio::test]
    async fn missing_credentials_are_named() {
        let error = project()
            .run_stage("Production: canary revision", &given(&[("VERSION", "1")]))
            .await
            .unwrap_err();
        assert!(
            format!("{error:#}").contains("GIT_TOKEN comes from the credentials"),
            "{error:#}"
        );
        let error = project().run_stage("Nonsense", &BTreeMap::new()).await.unwrap_err();
        assert!(error.to_string().contains("no stage `Nonsense`"), "{error}");
    }
}
