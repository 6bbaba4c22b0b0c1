//! The commands of the documents, and a shell in which a person gives them, with the names of an environment in place of those of the
//! documents. It must not know in which situation they are given.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::symlink,
    path::Path,
    sync::Mutex,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use lab::{
    binary,
    process::{Program, tail},
    site::{CLUSTER, CONFIG, Environment},
};
use tempfile::TempDir;

const DOCUMENTS: [(&str, &str); 2] = [
    ("docs/operating.md", include_str!("../../../../docs/operating.md")),
    (
        "docs/troubleshooting.md",
        include_str!("../../../../docs/troubleshooting.md"),
    ),
];

/// They are given where the real one runs.
const NO_ARGOCD: &str = "the lab's Argo CD is a stand-in, without its command line";
const NO_LINKERD: &str = "the lab's mesh is a stand-in, without Linkerd's command line";

/// All that is not run, as the documents write it, and why: what it takes are programs from outside.
const NOT_RUN: [(&str, &str); 8] = [
    ("argocd app terminate-op", NO_ARGOCD),
    ("argocd app sync", NO_ARGOCD),
    ("argocd app get user-service-staging --refresh", NO_ARGOCD),
    ("argocd app sync user-service-staging", NO_ARGOCD),
    ("argocd app history user-service-staging", NO_ARGOCD),
    ("argocd app terminate-op user-service-staging", NO_ARGOCD),
    ("linkerd check --proxy -n user-service-prod", NO_LINKERD),
    (
        "linkerd diagnostics proxy-metrics POD -n user-service-prod | grep outbound_grpc_route_backend_response_statuses_total",
        NO_LINKERD,
    ),
];

/// What the programs of the documents are.
const PROGRAMS: [&str; 7] = ["serin", "kubectl", "curl", "argocd", "flux", "git", "ssh-keyscan"];
/// A command that goes on by itself, by what tells that it does, is ended after some seconds.
const WATCHED: [(&str, &str, &str); 2] = [
    (" -w", "serin status", "timeout 10 serin status"),
    (" -f ", "kubectl logs", "timeout 10 kubectl logs"),
];
/// What `timeout` ends with then.
pub(super) const ENDED: i32 = 124;
const LONGEST: Duration = Duration::from_mins(7);

/// A shell with the programs of the documents on its path.
pub(super) struct Shell<'a> {
    environment: &'a Environment,
    /// The revision that stands in the place of the documents'.
    pub(super) revision: String,
    /// One of stable's, in the place of the documents' POD.
    pub(super) pod: String,
    folder: TempDir,
    /// Each command as it is run here: where it stands, and what has to go before it.
    commands: BTreeMap<String, (String, String)>,
    given: Mutex<BTreeSet<String>>,
}

impl<'a> Shell<'a> {
    pub(super) async fn open(environment: &'a Environment, revision: &str) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir().context("making a folder for the programs")?;
        let lab = &environment.site.lab;
        let serin = binary("serin")?;
        let programs: [(&str, &Path); 4] = [
            ("serin", &serin),
            ("kubectl-serin", &serin),
            ("kubectl", &lab.tools.kubectl),
            ("git", &lab.tools.git),
        ];
        let argocd = lab.argocd.as_deref().map(|program| ("argocd", program));
        for (name, program) in programs.into_iter().chain(argocd) {
            symlink(program, folder.path().join(name)).with_context(|| format!("linking {name}"))?;
        }
        fs::copy(lab.control_plane.kubeconfig_admin(), folder.path().join("kubeconfig"))?;
        let mut shell = Self {
            environment,
            revision: revision.to_owned(),
            pod: String::new(),
            folder,
            commands: BTreeMap::new(),
            given: Mutex::default(),
        };
        let url = lab.git.url_with_token(CONFIG);
        let namespace = environment.namespace();
        shell
            .sh(&format!(
                "env -u GIT_DIR git clone --quiet {url} config && kubectl config set-context --current --namespace={namespace}"
            ))
            .await?;
        let pod = "kubectl get pods -l app.kubernetes.io/name=user-service -o name | head -n 1";
        let pod = shell.sh(pod).await?;
        pod.trim().trim_start_matches("pod/").clone_into(&mut shell.pod);
        shell.commands = shell.read();
        Ok(shell)
    }

    /// Gives a command that stands in a document, and returns what it says, once it ended with this code.
    pub(super) async fn give(&self, command: &str, code: i32) -> anyhow::Result<String> {
        let (place, run) = self.found(command)?;
        let output = self.program(&run).output(LONGEST).await?;
        ensure!(
            output.status.code() == Some(code),
            "{place}: `{run}` ended with {:?}, not {code}: {}{}",
            output.status.code(),
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        self.was_given(command);
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Gives a command that stands in a document and goes on by itself; it ends when what is done beside it is.
    pub(super) async fn give_beside(
        &self,
        command: &str,
        beside: impl AsyncFnOnce() -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let (place, run) = self.found(command)?;
        let log = self.folder.path().join("beside.log");
        let going = self.program(&run).log(&log).spawn().await?;
        let done = beside().await;
        let ended = going.exited();
        going.kill().await;
        done.with_context(|| format!("beside {place}, which said: {}", tail(&log, 10)))?;
        ensure!(ended.is_none(), "{place}: `{run}` did not go on: {ended:?}");
        self.was_given(command);
        Ok(())
    }

    /// Where a command stands, and how it is given here.
    fn found(&self, command: &str) -> anyhow::Result<(&str, String)> {
        let here = self.here(command);
        let (place, before) = self
            .commands
            .get(&here)
            .with_context(|| format!("no document has the command {command} ({here}) any more"))?;
        let run = WATCHED
            .iter()
            .fold(format!("{before}{here}"), |run, (sign, goes_on, ends)| {
                if run.contains(sign) {
                    run.replace(goes_on, ends)
                } else {
                    run
                }
            });
        Ok((place, run))
    }

    fn was_given(&self, command: &str) {
        let mut given = self.given.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        given.insert(self.here(command));
    }

    /// What no document says, for what is around its commands.
    pub(super) async fn sh(&self, script: &str) -> anyhow::Result<String> {
        self.program(script)
            .output(LONGEST)
            .await?
            .text()
            .with_context(|| script.to_owned())
    }

    /// Each command of the documents was given, or stands in the list of those that are not.
    pub(super) fn was_given_all(&self) -> anyhow::Result<()> {
        let has_argocd = self.environment.site.argocd.real().is_some();
        let not_run = NOT_RUN.iter().filter(|(_, why)| !(has_argocd && *why == NO_ARGOCD));
        let not_run: BTreeSet<_> = not_run.map(|(command, _)| self.here(command)).collect();
        let given = self.given.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let missing: Vec<_> = self
            .commands
            .iter()
            .filter(|(command, _)| !given.contains(*command) && !not_run.contains(*command))
            .collect();
        ensure!(
            missing.is_empty(),
            "no story gives these commands of the documents: {missing:#?}"
        );
        let stale: Vec<_> = not_run
            .iter()
            .filter(|command| given.contains(*command) || !self.commands.contains_key(*command))
            .collect();
        ensure!(
            stale.is_empty(),
            "listed as not run, and run or in no document: {stale:#?}"
        );
        Ok(())
    }

    fn program(&self, script: &str) -> Program {
        let path = std::env::var("PATH").unwrap_or_default();
        let site = &self.environment.site;
        let lab = &site.lab;
        let shell = match site.argocd.real() {
            // With what it needs to reach its server.
            Some(argocd) => argocd.command().with_command("/bin/sh", &[]),
            None => Program::new("/bin/sh"),
        };
        shell
            .args(["-c", script])
            .env("PATH", format!("{}:{path}", self.folder.path().display()))
            .env("KUBECONFIG", self.folder.path().join("kubeconfig"))
            .env("GIT_DIR", self.folder.path().join("config/.git"))
            .env("SERIN_PROMETHEUS_URL", lab.prometheus.url())
            .env("SERIN_GIT_TOKEN", lab.git.token())
            .dir(self.folder.path())
    }

    fn read(&self) -> BTreeMap<String, (String, String)> {
        let mut all = BTreeMap::new();
        for (name, document) in DOCUMENTS {
            for (nth, part) in document.split("```").enumerate() {
                let found = if nth % 2 == 0 { inline(part) } else { block(part) };
                for (command, before) in found {
                    let place = format!("{name}: {command}");
                    all.insert(self.here(&command), (place, self.named(&before)));
                }
            }
        }
        all
    }

    /// A command as it is given here. What stands in a sentence may lack what follows from it.
    pub(super) fn here(&self, command: &str) -> String {
        let mut command = command
            .replace('…', "")
            .replace("[ROLLOUT] -n NAMESPACE", "NAME")
            .trim()
            .to_owned();
        let words: Vec<_> = command.split_whitespace().collect();
        match words.as_slice() {
            ["serin", "approve" | "pause" | "resume" | "promote" | "abort" | "check"]
            | ["kubectl", "serin", "pause"] => {
                command.push_str(" NAME");
            }
            ["argocd", "app", _] => command.push_str(" user-service-prod"),
            _ => {}
        }
        self.named(&command)
    }

    fn named(&self, text: &str) -> String {
        let environment = self.environment;
        let (namespace, url) = (environment.namespace(), environment.site.lab.git.url(CONFIG));
        let manuals = self.folder.path().join("manuals").display().to_string();
        let serin = environment.serin.as_ref().map_or("serin", |serin| serin.release());
        // What listens on the machine's own address would be in the way of all other labs.
        let address = environment.site.lab.net.infra().to_string();
        [
            ("NAME", "user-service -n user-service-prod"),
            ("FOLDER", manuals.as_str()),
            ("POD", &self.pod),
            ("user-service-prod", &namespace),
            ("user-service-staging", &namespace),
            ("serin-system", &namespace),
            ("deployment/serin", &format!("deployment/{serin}")),
            ("port-forward", &format!("port-forward --address {address}")),
            ("localhost", &address),
            ("https://git.example.com/platform/config.git", &url),
            ("deploy/environments/prod", &environment.folder()),
            ("--cluster prod", &format!("--cluster {CLUSTER}")),
            ("1.2.0", &self.revision),
        ]
        .iter()
        .fold(text.to_owned(), |text, (there, here)| text.replace(there, here))
    }
}

/// The commands of a block of code: of a session those after its prompts. A variable that is set goes before those that need it.
fn block(block: &str) -> Vec<(String, String)> {
    let (language, lines) = block.split_once('\n').unwrap_or_default();
    let whole = lines.replace("\\\n", "");
    let (mut found, mut before) = (Vec::new(), String::new());
    for line in whole.lines() {
        let line = match language {
            "sh" => line,
            "console" => line.strip_prefix("$ ").unwrap_or_default(),
            _ => "",
        };
        let line = line.split("   #").next().unwrap_or_default();
        let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let sets = line.split_once("=$(").map(|(name, _)| name.to_owned());
        found.push((
            line.clone(),
            if sets.is_some() { String::new() } else { before.clone() },
        ));
        if sets.is_some() {
            before = format!("{line}\n");
        }
    }
    found
}

/// Those inside of sentences and tables.
fn inline(text: &str) -> Vec<(String, String)> {
    let spans = text.split('`').skip(1).step_by(2);
    let is_command = |span: &&str| {
        let mut words = span.split_whitespace();
        let program = words.next().unwrap_or_default();
        PROGRAMS.contains(&program) && (words.next().is_some() || program == "ssh-keyscan")
    };
    spans
        .filter(is_command)
        .map(|span| (span.to_owned(), String::new()))
        .collect()
}
