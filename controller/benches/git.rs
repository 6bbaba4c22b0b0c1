//! Rollbacks in a monorepo of 20,000 commits and 2,000 rollouts: 30 one by one, and 30 that wait together. The bar is 512 MB
//! of memory, git's processes included. `make bench-git` writes `target/bench/git.json`.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a benchmark may end where something is not as it was made"
)]

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use serin::gitops::{Credentials, GitOps, Hand, Identity, Layout, RepoSpec, RollbackOutcome, RollbackRequest, Subject};

const COMMITS: usize = 20_000;
const ROLLOUTS: usize = 2_000;
const ROLLBACKS: usize = 30;
/// A canary comes with every so manieth of the last commits.
const APART: usize = 10;
const LIMIT_MB: u64 = 512;

fn values(canary: &str, replicas: usize) -> String {
    format!(
        "# An environment.\nreplicas: {replicas}\nstable:\n  image:\n    repository: registry.example.com/web\n    tag: \"1.0.0\"\n  revision: \"1.0.0\"\n  env: {{}}\ncanary:\n  image:\n    repository: registry.example.com/web\n    tag: \"{canary}\"\n  revision: \"{canary}\"\n  env: {{}}\n"
    )
}

fn folder(rollout: usize) -> String {
    format!("teams/t{:02}/envs/e{rollout:04}", rollout % 50)
}

/// The repository as the input of `git fast-import`.
fn stream() -> String {
    let mut stream = String::new();
    let mut commit = |nth: usize, message: &str, files: &[(String, String)]| {
        let when = 1_700_000_000 + nth * 60;
        write!(
            stream,
            "commit refs/heads/main\ncommitter Ann <ann@example.com> {when} +0000\ndata {}\n{message}\n",
            message.len()
        )
        .unwrap();
        for (path, text) in files {
            write!(stream, "M 100644 inline {path}\ndata {}\n{text}\n", text.len()).unwrap();
        }
    };
    let all: Vec<_> = (0..ROLLOUTS)
        .map(|rollout| (format!("{}/values.yaml", folder(rollout)), values("1.0.0", 1)))
        .collect();
    commit(0, "Begin", &all);
    let first_canary = COMMITS - 2 * ROLLBACKS * APART;
    for nth in 1..COMMITS {
        let since = nth.saturating_sub(first_canary);
        if nth >= first_canary && since.is_multiple_of(APART) {
            let rollout = since / APART;
            let message = format!(
                "Canary\n\nSerin-Cluster: c1\nSerin-Rollout: prod/{rollout}\nSerin-Revision: 1.1.0\nSerin-Action: canary\n"
            );
            commit(
                nth,
                &message,
                &[(format!("{}/values.yaml", folder(rollout)), values("1.1.0", 1))],
            );
        } else {
            // Others work on the other rollouts.
            let rollout = 2 * ROLLBACKS + nth % (ROLLOUTS - 2 * ROLLBACKS);
            let file = format!("{}/values.yaml", folder(rollout));
            commit(nth, "Scale", &[(file, values("1.0.0", nth))]);
        }
    }
    stream
}

fn git(dir: &Path, args: &[&str]) -> String {
    let output = Command::new("git").current_dir(dir).args(args).output().unwrap();
    assert!(
        output.status.success(),
        "git {args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// A host's repository; it counts the pushes.
fn origin(folder: &Path) -> PathBuf {
    git(folder, &["init", "-q", "--bare", "-b", "main", "origin.git"]);
    let origin = folder.join("origin.git");
    let mut import = Command::new("git")
        .current_dir(&origin)
        .args(["fast-import", "--quiet"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    import.stdin.take().unwrap().write_all(stream().as_bytes()).unwrap();
    assert!(import.wait().unwrap().success());
    let hook = origin.join("hooks/post-receive");
    fs::write(
        &hook,
        format!("#!/bin/sh\necho >>'{}'\n", folder.join("pushes").display()),
    )
    .unwrap();
    fs::set_permissions(&hook, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    origin
}

fn pushes(folder: &Path) -> usize {
    fs::read_to_string(folder.join("pushes"))
        .unwrap_or_default()
        .lines()
        .count()
}

/// The processor time of this process and of those below it that have ended, in ms: other work on the machine does not count.
fn processor_ms() -> u64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    // After the name, which may hold anything: utime, stime, cutime, cstime, in hundredths of a second.
    let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
    let hundredths: u64 = fields
        .skip(11)
        .take(4)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    hundredths * 10
}

/// What a process and all below it hold, in kB.
#[derive(Debug, Clone, Copy, Default)]
struct Held {
    /// Memory of their own.
    own: u64,
    /// With pages of files, which several may share and which the kernel takes back.
    resident: u64,
}

/// The processes below one, found from parent to child: to read all of the machine's would be work of its own.
fn held(pid: u32) -> Held {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok()
    };
    let mut all = Held {
        own: field("RssAnon:").unwrap_or_default(),
        resident: field("VmRSS:").unwrap_or_default(),
    };
    for task in fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten()
    {
        let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        for child in children.split_whitespace().filter_map(|child| child.parse().ok()) {
            let Held { own, resident } = held(child);
            (all.own, all.resident) = (all.own + own, all.resident + resident);
        }
    }
    all
}

/// The most that was ever held.
#[derive(Debug, Default)]
struct Peak {
    own: AtomicU64,
    resident: AtomicU64,
}

/// Looks at the memory thirty times a second.
fn watch_memory() -> Arc<Peak> {
    let peak = Arc::new(Peak::default());
    let seen = peak.clone();
    let me = std::process::id();
    assert!(
        Path::new(&format!("/proc/{me}/task/{me}/children")).exists(),
        "this kernel does not tell children; memory cannot be measured"
    );
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(Duration::from_millis(33));
        loop {
            ticks.tick().await;
            let now = tokio::task::spawn_blocking(move || held(me)).await.unwrap_or_default();
            seen.own.fetch_max(now.own, Ordering::Relaxed);
            seen.resident.fetch_max(now.resident, Ordering::Relaxed);
        }
    });
    peak
}

fn rollback(rollout: usize) -> RollbackRequest {
    RollbackRequest {
        trial: None,
        subject: Subject {
            cluster: "c1".to_owned(),
            namespace: "prod".to_owned(),
            name: rollout.to_string(),
            path: folder(rollout),
            layout: Layout::Helm {
                file: "values.yaml".to_owned(),
                stable: "stable".to_owned(),
                canary: "canary".to_owned(),
            },
        },
        revision: "1.1.0".to_owned(),
        canary_commit: None,
        promotion: None,
        reason: "20 % of calls failed".to_owned(),
        keep_successor: true,
    }
}

fn is_committed(outcome: &RollbackOutcome) -> bool {
    matches!(
        outcome,
        RollbackOutcome::Committed {
            own_fields_because: None,
            ..
        }
    )
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let folder = tempfile::tempdir().unwrap();
    let begin = Instant::now();
    let origin = origin(folder.path());
    let made = begin.elapsed();
    assert_eq!(git(&origin, &["rev-list", "--count", "main"]), COMMITS.to_string());
    let peak = watch_memory();
    let gitops = GitOps::new(folder.path().join("cache"), Identity::default());
    let repo = RepoSpec {
        url: format!("file://{}", origin.display()),
        branch: "main".to_owned(),
        credentials: Credentials::None,
        api_token: None,
        ca: None,
        hand: Hand::default(),
    };
    let begin = Instant::now();
    gitops.head(&repo).await.unwrap();
    let cloned = begin.elapsed();

    let (begin, mut each, used) = (Instant::now(), Vec::new(), processor_ms());
    for rollout in 0..ROLLBACKS {
        let begin = Instant::now();
        let outcome = gitops.roll_back(&repo, &rollback(rollout)).await.unwrap();
        assert!(is_committed(&outcome), "{outcome:?}");
        each.push(begin.elapsed());
    }
    let (singly, single_pushes, singly_used) = (begin.elapsed(), pushes(folder.path()), processor_ms() - used);
    let requests: Vec<_> = (ROLLBACKS..2 * ROLLBACKS).map(rollback).collect();
    let (begin, used) = (Instant::now(), processor_ms());
    let outcomes = futures::future::join_all(requests.iter().map(|request| gitops.roll_back(&repo, request))).await;
    let (coalesced, coalesced_used) = (begin.elapsed(), processor_ms() - used);
    assert!(
        outcomes.iter().all(|outcome| outcome.as_ref().is_ok_and(is_committed)),
        "{outcomes:?}"
    );
    let commits: usize = git(&origin, &["rev-list", "--count", "main"]).parse().unwrap();
    assert_eq!(commits, COMMITS + 2 * ROLLBACKS, "each rollback is one commit");

    each.sort();
    let ms = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    let mb = |of: &AtomicU64| of.load(Ordering::Relaxed) / 1024;
    let (own_mb, peak_mb) = (mb(&peak.own), mb(&peak.resident));
    let report = json!({
        "git": git(&origin, &["--version"]),
        "repository": {"commits": COMMITS, "rollouts": ROLLOUTS, "madeInMs": ms(made)},
        "cloneMs": ms(cloned),
        "singly": {
            "rollbacks": ROLLBACKS, "pushes": single_pushes, "ms": ms(singly), "processorMs": singly_used,
            "medianMs": each.get(ROLLBACKS / 2).copied().map(ms), "slowestMs": each.last().copied().map(ms),
        },
        "coalesced": {
            "rollbacks": ROLLBACKS, "pushes": pushes(folder.path()) - single_pushes, "ms": ms(coalesced),
            "processorMs": coalesced_used,
        },
        "memory": {
            "peakMb": peak_mb, "ownMb": own_mb, "limitMb": LIMIT_MB,
            "of": "this process, git's, and the host's side of each call, with the pages of files that they share counted for each",
        },
    });
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bench");
    fs::create_dir_all(&target).unwrap();
    let text = serde_json::to_string_pretty(&report).expect("JSON of our own");
    fs::write(target.join("git.json"), format!("{text}\n")).unwrap();
    println!("{text}");
    assert!(peak_mb <= LIMIT_MB, "{peak_mb} MB, and the bar is {LIMIT_MB} MB");
}
