//! The scripts of deploy/ci, run with stand-ins for tools that need a network or a service: what they call, what stops them, and
//! that no secret gets out. It must not know in which order the pipeline runs them; see `recorder`.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output},
};

const DIGEST: &str = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef";
const SECRET: &str = "s3cret-of-the-pipeline";

/// A machine with nothing but the system's programs and these stand-ins.
struct Machine {
    folder: tempfile::TempDir,
    env: BTreeMap<String, String>,
}

impl Machine {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("bin")).unwrap();
        let machine = Self {
            folder,
            env: BTreeMap::new(),
        };
        let (search, out) = (
            format!("{}:/usr/bin:/bin", machine.path("bin").display()),
            machine_path(&machine, "out"),
        );
        machine.with("PATH", &search).with("OUT", &out)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        self.env.insert(name.to_owned(), value.to_owned());
        self
    }

    /// A tool that notes its arguments and what it reads, and then does this.
    fn tool(self, name: &str, does: &str) -> Self {
        let path = self.path("bin").join(name);
        let log = machine_path(&self, "log");
        let script = format!(
            "#!/bin/sh\necho \"{name} $*\" >>{log}\n[ -t 0 ] || case \"$*\" in *-stdin*) {{ sed 's/^/stdin /'; echo; }} >>{log} ;; esac\n{does}\n"
        );
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        self
    }

    fn file(self, name: &str) -> Self {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "{}").unwrap();
        self
    }

    fn run(&self, script: &str, args: &[&str]) -> Output {
        Command::new(scripts().join(script))
            .args(args)
            .env_clear()
            .envs(&self.env)
            .env("HOME", self.folder.path())
            .current_dir(self.folder.path())
            .output()
            .unwrap()
    }

    /// What the tools were called with.
    fn calls(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }
}

fn machine_path(machine: &Machine, name: &str) -> String {
    machine.path(name).to_string_lossy().into_owned()
}

fn scripts() -> PathBuf {
    crate::project_root().join("deploy/ci")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[track_caller]
fn assert_fails(output: &Output, with: &[&str]) {
    let said = said(output);
    assert!(!output.status.success(), "{said}");
    for part in with.iter().chain(&["what to do: "]) {
        assert!(said.contains(part), "{part:?} is not in {said}");
    }
}

#[track_caller]
fn assert_succeeds(output: &Output) {
    assert!(output.status.success(), "{}", said(output));
}

#[test]
fn each_script_says_how_it_is_called_and_takes_nothing_else() {
    let mut seen = 0;
    for entry in fs::read_dir(scripts()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if name == "lib.sh" {
            continue;
        }
        seen += 1;
        let machine = Machine::new();
        let help = machine.run(name, &["--help"]);
        let text = String::from_utf8(help.stdout).unwrap();
        assert!(
            help.status.success() && text.contains(&format!("deploy/ci/{name}")),
            "{name}: {text}"
        );
        assert_fails(
            &machine.run(name, &["one", "two", "three"]),
            &["reading the command line", "--help"],
        );
    }
    assert!(seen > 10, "{seen} scripts");
}

#[test]
fn shellcheck_finds_nothing() {
    let setup = Command::new(crate::project_root().join("tests/lab/setup/linters.sh"))
        .output()
        .unwrap();
    assert_succeeds(&setup);
    let tools = String::from_utf8(setup.stdout).unwrap();
    let files = fs::read_dir(scripts()).unwrap().map(|entry| entry.unwrap().path());
    let mut shellcheck = Command::new(tools.lines().nth(1).unwrap());
    let output = shellcheck
        .args(["-x", "--source-path=SCRIPTDIR"])
        .args(files)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn the_jenkinsfile_calls_scripts_that_are_there() {
    let jenkinsfile = fs::read_to_string(crate::project_root().join("Jenkinsfile")).unwrap();
    let called = jenkinsfile
        .split("deploy/ci/")
        .skip(1)
        .filter_map(|rest| rest.split_once(".sh"));
    let mut count = 0;
    for (name, _) in called {
        count += 1;
        assert!(scripts().join(format!("{name}.sh")).exists(), "{name}");
    }
    assert!(count > 10, "{count}");
}

#[test]
fn a_missing_tool_or_variable_is_named() {
    for (script, tool) in [
        ("scan.sh", "trivy"),
        ("sbom.sh", "syft"),
        ("secrets.sh", "gitleaks"),
        ("canary.sh", "serin"),
    ] {
        let mut machine = Machine::new();
        for name in
            "CONFIG_REPOSITORY CONFIG_BRANCH CONFIG_USER GIT_TOKEN ENVIRONMENT ROLLOUT CLUSTER IMAGE VERSION".split(' ')
        {
            machine = machine.with(name, "x");
        }
        assert_fails(&machine.run(script, &[]), &[&format!("looking for {tool}"), "install"]);
    }
    assert_fails(&Machine::new().run("push.sh", &[]), &["IMAGE is not set"]);
    assert_fails(&Machine::new().run("integration.sh", &[]), &["TARGET is not set"]);
}

#[test]
fn a_finding_of_the_scanner_is_an_error() {
    let machine = Machine::new()
        .file("out/user-service.tar")
        .tool("trivy", "echo CVE-1; exit 1");
    let output = machine.run("scan.sh", &["user-service"]);
    assert_fails(&output, &["scanning the image of user-service", "exit code 1"]);
    let calls = machine.calls();
    assert!(
        calls.contains("--severity HIGH,CRITICAL") && calls.contains("--exit-code 1"),
        "{calls}"
    );
    let machine = Machine::new().file("out/user-service.tar").tool("trivy", "");
    assert_succeeds(&machine.run("scan.sh", &["user-service"]));
    assert_fails(
        &Machine::new().tool("trivy", "").run("scan.sh", &[]),
        &["user-service.tar is absent"],
    );
}

fn pusher(buildah: &str) -> Machine {
    let machine = Machine::new().tool("buildah", buildah);
    machine
        .with("IMAGE", "registry.example.com/user-service")
        .with("VERSION", "1.4.0")
        .with("REGISTRY_USR", "jenkins")
        .with("REGISTRY_PSW", SECRET)
}

#[test]
fn what_is_pushed_is_named_by_its_digest() {
    let digest =
        r#"while [ "$#" -gt 0 ]; do [ "$1" = --digestfile ] && printf %s "$DIGEST_OF_TEST" >"$2"; shift; done"#;
    let machine = pusher(digest).with("DIGEST_OF_TEST", DIGEST);
    let output = machine.run("push.sh", &[]);
    assert_succeeds(&output);
    assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{DIGEST}\n"));
    let calls = machine.calls();
    assert!(
        calls.contains("buildah login --username jenkins --password-stdin registry.example.com\n"),
        "{calls}"
    );
    assert!(
        calls.contains(&format!("stdin {SECRET}")),
        "the password comes on standard input: {calls}"
    );
    assert_eq!(calls.matches(SECRET).count(), 1, "{calls}");
    assert!(!said(&output).contains(SECRET));
    assert_fails(
        &pusher("exit 7").run("push.sh", &[]),
        &["logging in to registry.example.com", "jenkins"],
    );
    assert_fails(
        &pusher("").run("push.sh", &[]),
        &["pushing registry.example.com/user-service:1.4.0"],
    );
}

fn signer() -> Machine {
    let machine = Machine::new().tool("cosign", "").file("out/user-service.spdx.json");
    machine
        .with("IMAGE", "registry.example.com/user-service")
        .with("DIGEST", DIGEST)
        .with("COSIGN_KEY", "cosign.key")
        .with("COSIGN_PASSWORD", SECRET)
        .with("REGISTRY_USR", "jenkins")
        .with("REGISTRY_PSW", SECRET)
}

#[test]
fn signatures_and_attestations_are_of_the_digest() {
    let machine = signer();
    let output = machine.run("sign.sh", &["user-service"]);
    assert_succeeds(&output);
    let calls = machine.calls();
    let image = format!("registry.example.com/user-service@{DIGEST}");
    let lines: Vec<_> = calls.lines().filter(|line| line.ends_with(&image)).collect();
    assert_eq!(lines.len(), 3, "{calls}");
    assert!(lines[0].starts_with("cosign sign --yes --key cosign.key"), "{calls}");
    assert!(
        lines[1].contains("attest") && lines[1].contains("--type spdxjson --predicate"),
        "{calls}"
    );
    assert_eq!(calls.matches(SECRET).count(), 1, "on standard input only: {calls}");
    assert!(!said(&output).contains(SECRET));
    assert_fails(
        &signer().with("DIGEST", "1.4.0").run("sign.sh", &[]),
        &["'1.4.0' is no digest"],
    );
    let bare = signer().with("OUT", "nowhere");
    assert_fails(&bare.run("sign.sh", &[]), &["user-service.spdx.json is absent"]);
}

#[test]
fn the_canary_is_committed_with_its_digest_and_the_token_is_told_to_nobody() {
    let mut machine = Machine::new()
        .tool("serin", "")
        .with("DIGEST", DIGEST)
        .with("GIT_TOKEN", SECRET);
    for name in [
        "CONFIG_REPOSITORY",
        "CONFIG_BRANCH",
        "CONFIG_USER",
        "ENVIRONMENT",
        "ROLLOUT",
        "CLUSTER",
        "IMAGE",
        "VERSION",
    ] {
        machine = machine.with(name, name);
    }
    let output = machine.run("canary.sh", &[]);
    assert_succeeds(&output);
    let calls = machine.calls();
    assert!(
        calls.contains(&format!(
            "--revision VERSION --set image.digest={DIGEST} --cluster CLUSTER"
        )),
        "{calls}"
    );
    assert!(!calls.contains(SECRET) && !said(&output).contains(SECRET));
}

#[test]
fn the_reason_of_a_rollback_is_kept_for_the_report() {
    let machine = Machine::new()
        .tool(
            "serin",
            "echo '{}'; echo 'Progressing' >&2; echo '1.4.0 was rolled back: 12 % of calls failed' >&2; exit 3",
        )
        .with("ROLLOUT", "user-service-prod/user-service")
        .with("VERSION", "1.4.0")
        .with("WAIT", "1h");
    let output = machine.run("verdict.sh", &[]);
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "{}\n");
    assert!(said(&output).contains("Progressing"), "{}", said(&output));
    let kept = fs::read_to_string(machine.path("verdict.txt")).unwrap();
    assert_eq!(kept, "1.4.0 was rolled back: 12 % of calls failed\n");
}

fn caller(line: &str) -> Machine {
    let write =
        format!("while [ \"$#\" -gt 0 ]; do [ \"$1\" = --record ] && printf '%s\\n' '{line}' >\"$2\"; shift; done");
    Machine::new()
        .tool("user-load", &write)
        .with("TARGET", "dev:50051")
        .with("VERSION", "1.4.0")
}

#[test]
fn integration_tests_want_good_answers_of_the_new_revision() {
    let line = |code: &str, revision: &str| {
        format!(r#"{{"start":1,"end":2,"method":"GetUser","code":"{code}","revision":"{revision}"}}"#)
    };
    assert_succeeds(&caller(&line("OK", "1.4.0")).run("integration.sh", &[]));
    for (code, revision) in [("UNAVAILABLE", "1.4.0"), ("OK", "1.3.0")] {
        let output = caller(&line(code, revision)).run("integration.sh", &[]);
        assert_fails(&output, &["calling dev:50051", "not every call", code, revision]);
    }
    let silent = Machine::new()
        .tool("user-load", "")
        .with("TARGET", "dev:50051")
        .with("VERSION", "1");
    assert_fails(&silent.run("integration.sh", &[]), &["no call was finished"]);
}

#[test]
fn the_version_names_the_commit() {
    let output = Machine::new().run("version.sh", &[]);
    // An archive without history has none to name.
    if crate::project_root().join(".git").exists() {
        assert_succeeds(&output);
        let text = String::from_utf8(output.stdout).unwrap();
        let (version, commit) = text.trim().rsplit_once('-').unwrap();
        assert!(version.split('.').count() >= 3 && commit.len() == 12, "{text}");
    } else {
        assert_fails(&output, &["reading the commit"]);
    }
}

fn git(folder: &Path, args: &[&str]) -> String {
    let output = Command::new("git")
        .args(["-c", "user.name=Ann", "-c", "user.email=ann@example.com", "-C"])
        .arg(folder)
        .args(args)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .output()
        .unwrap();
    assert_succeeds(&output);
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Commits one file; returns the commit.
fn commit(folder: &Path, file: &str, message: &str) -> String {
    let path = folder.join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, message).unwrap();
    git(folder, &["add", "."]);
    git(folder, &["commit", "--quiet", "--message", message]);
    git(folder, &["rev-parse", "HEAD"])
}

#[test]
fn only_commits_of_serin_that_change_environments_are_passed_over() {
    let promotion =
        "Promote 1.4.0\n\nSerin-Cluster: c\nSerin-Rollout: a/b\nSerin-Revision: 1.4.0\nSerin-Action: promote";
    let values = "deploy/environments/prod/values.yaml";
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    git(folder, &["init", "--quiet"]);
    let is_own = |since: &str| {
        let machine = Machine::new()
            .with("SINCE", since)
            .with("DIR", &folder.to_string_lossy());
        machine.run("serins-own.sh", &[]).status.code()
    };
    let first = commit(folder, "service/main.rs", "Begin");
    assert_eq!(is_own(""), Some(2), "there is nothing before it");
    let code = commit(folder, "service/main.rs", "Change the code");
    assert_eq!(is_own(&first), Some(1));
    let own = commit(folder, values, promotion);
    assert_eq!(is_own(&code), Some(0));
    assert_eq!(is_own(""), Some(0), "the newest one alone");
    assert_eq!(is_own(&first), Some(1), "somebody's commit is among them");
    assert_eq!(is_own(&own), Some(1), "it is built again by hand");
    let by_hand = commit(folder, values, "Scale up");
    assert_eq!(is_own(&own), Some(1), "a person's change of an environment");
    commit(folder, "service/main.rs", promotion);
    assert_eq!(is_own(&by_hand), Some(1), "a trailer that a person wrote onto code");
    let newest = git(folder, &["rev-parse", "HEAD"]);
    // More names than a pipe holds.
    for nth in 0..3_000 {
        fs::write(folder.join(format!("service/generated_code_number_{nth:04}.rs")), "").unwrap();
    }
    commit(folder, values, promotion);
    assert_eq!(is_own(&newest), Some(1), "a trailer that a person wrote onto much code");
    assert_eq!(
        is_own("0123456789012345678901234567890123456789"),
        Some(1),
        "a commit that is gone"
    );
}
