//! Rollbacks and promotions over generated histories. The history is made in one go, as a model that knows what each commit
//! left; what must hold afterwards is computed from the model, not from the code under test.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::Stdio;

use proptest::prelude::*;

use super::*;

/// How the arms stand in the repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Two subtrees of a values file.
    Values,
    /// Two overlays of Kustomize.
    Overlays,
    /// Two patches of Deployments.
    Patches,
}

const KINDS: [Kind; 3] = [Kind::Values, Kind::Overlays, Kind::Patches];

impl Kind {
    fn layout(self, of: &str) -> Layout {
        let file = |arm: &str| match self {
            Self::Patches => format!("{of}{arm}.yaml"),
            _ => format!("{of}{arm}/kustomization.yaml"),
        };
        let key = |arm: &str| {
            if of.is_empty() {
                arm.to_owned()
            } else {
                format!("{of}.{arm}")
            }
        };
        match self {
            Self::Values => Layout::Helm {
                file: "values.yaml".to_owned(),
                stable: key("stable"),
                canary: key("canary"),
            },
            _ => Layout::Kustomize {
                stable: file("stable"),
                canary: file("canary"),
                image: None,
            },
        }
    }

    /// What the names of another rollout's keys or files begin with.
    fn other(self) -> &'static str {
        match self {
            Self::Values => "other",
            Self::Overlays | Self::Patches => "other-",
        }
    }

    fn subject(self) -> Subject {
        Subject {
            layout: self.layout(""),
            ..subject()
        }
    }

    /// The lines below which an arm's own values stand.
    fn keys(self, arms: &[&str]) -> Vec<String> {
        match self {
            Self::Values => arms.iter().map(|arm| format!("{arm}:")).collect(),
            Self::Overlays => ["images:", "configMapGenerator:", "commonAnnotations:"]
                .map(str::to_owned)
                .to_vec(),
            Self::Patches => ["      annotations:", "    spec:"].map(str::to_owned).to_vec(),
        }
    }

    /// The files that a commit may change.
    fn files(self, arms: &[&str]) -> Vec<String> {
        let mut files = self.subject().files();
        if self != Self::Values {
            files.retain(|file| arms.iter().any(|arm| file.contains(arm)));
        }
        files
    }
}

/// What the arms' files and their neighbourhood say.
#[derive(Debug, Clone, PartialEq, Eq)]
struct State {
    stable: (u32, u32),
    canary: (u32, u32),
    /// Another rollout in the same file.
    other: (u32, u32),
    replicas: u32,
    comment: u32,
    readme: u32,
    neighbour: u32,
    broken: bool,
}

impl State {
    /// Every file, by its path.
    fn files(&self, kind: Kind) -> Vec<(String, String)> {
        let texts = match kind {
            Kind::Values => vec![self.values()],
            Kind::Overlays => vec![self.overlay(self.stable, false), self.overlay(self.canary, true)],
            Kind::Patches => vec![self.patch(self.stable, false), self.patch(self.canary, true)],
        };
        let mut files: Vec<_> = kind.subject().files().into_iter().zip(texts).collect();
        if kind != Kind::Values {
            let other = Subject {
                layout: kind.layout(kind.other()),
                ..subject()
            };
            let (one, two) = ((1, 0), self.other);
            let texts = match kind {
                Kind::Patches => [self.patch(one, false), self.patch(two, false)],
                _ => [self.overlay(one, false), self.overlay(two, false)],
            };
            files.extend(other.files().into_iter().zip(texts));
        }
        files.push(("README.md".to_owned(), format!("{}\n", self.readme)));
        files.push(("envs/prod/notes.md".to_owned(), format!("{}\n", self.comment)));
        files.push((
            "envs/staging/values.yaml".to_owned(),
            format!("canary: {}\n", self.neighbour),
        ));
        files
    }

    /// An arm's kustomization; the canary's has the comment and breaks, stable's has the replicas.
    fn overlay(&self, (revision, env): (u32, u32), is_canary: bool) -> String {
        let config = if env == 0 {
            String::new()
        } else {
            format!("configMapGenerator:\n  - name: web\n    literals:\n      - LEVEL={env} # of all\n")
        };
        let own = if is_canary {
            format!("# Note {}.\nnameSuffix: -canary\n", self.comment)
        } else {
            format!("replicas:\n  - name: web\n    count: {}\n", self.replicas)
        };
        let broken = if is_canary && self.broken { "broken: [\n" } else { "" };
        format!(
            "{own}resources: [../base]\nimages:\n  # ours\n  - name: web\n    newTag: \"{revision}.0.0\" # the tag\ncommonAnnotations:\n  serin.dev/revision: \"{revision}.0.0\"\n{config}{broken}"
        )
    }

    /// The same as a patch of an arm's Deployment.
    fn patch(&self, (revision, env): (u32, u32), is_canary: bool) -> String {
        let config = if env == 0 {
            String::new()
        } else {
            format!("          env:\n            - name: LEVEL\n              value: \"{env}\"\n")
        };
        let own = if is_canary {
            format!("# Note {}.\nmetadata: {{name: web-canary}}\n", self.comment)
        } else {
            format!(
                "metadata: {{name: web, annotations: {{size: \"{}\"}}}}\n",
                self.replicas
            )
        };
        let broken = if is_canary && self.broken { "broken: [\n" } else { "" };
        format!(
            "{own}apiVersion: apps/v1\nkind: Deployment\nspec:\n  template:\n    metadata:\n      labels: {{arm: \"{is_canary}\"}}\n      annotations:\n        serin.dev/revision: \"{revision}.0.0\"\n    spec:\n      containers:\n        - name: web # the only one\n          image: registry.example.com/web:{revision}.0.0\n{config}{broken}"
        )
    }

    fn values(&self) -> String {
        let arm = |(revision, env): (u32, u32)| {
            let env = if env == 0 {
                "  env: {}\n".to_owned()
            } else {
                format!("  env:\n    LEVEL: \"{env}\"\n")
            };
            format!(
                "  image:\n    repository: registry.example.com/web\n    tag: \"{revision}.0.0\"\n  revision: \"{revision}.0.0\"\n{env}"
            )
        };
        let broken = if self.broken { "broken: [\n" } else { "" };
        format!(
            "# Note {}.\nbefore: 1\nstable:\n{}between:\n  replicas: {}\ncanary:\n{}other:\n  stable:\n    image: {{tag: \"1\"}}\n  canary:\n    image: {{tag: \"{}\"}}\n    env: {{LEVEL: \"{}\"}}\nafter: 1\n{broken}",
            self.comment,
            arm(self.stable),
            self.replicas,
            arm(self.canary),
            self.other.0,
            self.other.1,
        )
    }
}

#[derive(Debug, Clone)]
struct Made {
    state: State,
    parents: Vec<usize>,
    message: String,
}

/// A branch while it is made; `line` holds its commits by first parents.
#[derive(Debug)]
struct Model {
    kind: Kind,
    commits: Vec<Made>,
    line: Vec<usize>,
    revision: u32,
    taken_back: Option<(u32, u32)>,
}

/// What somebody does to the branch.
#[derive(Debug, Clone, Copy)]
enum Event {
    Canary {
        trailers: bool,
        env: u32,
    },
    /// A canary that came as a branch, merged with a merge commit.
    Merge,
    /// The same with somebody else's commit in it, as one commit.
    Squash,
    /// A canary, pulled into a person's own line, which then becomes the branch's.
    Pull,
    /// Only the canary's environment changes, not its revision's name.
    Tweak,
    /// Trailers of a canary on a commit that brings none.
    Claim,
    Mixed,
    Replicas,
    Comment,
    Readme,
    Neighbour,
    OtherRollout,
    Hotfix,
    TakeBack,
    BringAgain,
    Promote,
    Break,
    Mend,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (any::<bool>(), 0..3_u32).prop_map(|(trailers, env)| Event::Canary { trailers, env }),
        2 => Just(Event::Merge),
        2 => Just(Event::Squash),
        2 => Just(Event::Pull),
        2 => Just(Event::Tweak),
        1 => Just(Event::Claim),
        1 => Just(Event::Mixed),
        2 => Just(Event::Replicas),
        1 => Just(Event::Comment),
        1 => Just(Event::Readme),
        1 => Just(Event::Neighbour),
        2 => Just(Event::OtherRollout),
        1 => Just(Event::Hotfix),
        1 => Just(Event::TakeBack),
        2 => Just(Event::BringAgain),
        1 => Just(Event::Promote),
        1 => Just(Event::Break),
        1 => Just(Event::Mend),
    ]
}

impl Model {
    fn new(kind: Kind) -> Self {
        let state = State {
            stable: (1, 0),
            canary: (1, 0),
            other: (1, 0),
            replicas: 1,
            comment: 0,
            readme: 0,
            neighbour: 1,
            broken: false,
        };
        let begin = Made {
            state,
            parents: vec![],
            message: "Begin".to_owned(),
        };
        Self {
            kind,
            commits: vec![begin],
            line: vec![0],
            revision: 1,
            taken_back: None,
        }
    }

    fn head(&self) -> State {
        self.commits[*self.line.last().unwrap()].state.clone()
    }

    fn add(&mut self, state: State, parents: Vec<usize>, message: impl Into<String>) -> usize {
        self.commits.push(Made {
            state,
            parents,
            message: message.into(),
        });
        self.commits.len() - 1
    }

    /// A plain commit on the branch.
    fn commit(&mut self, message: impl Into<String>, change: impl FnOnce(&mut State)) {
        let mut state = self.head();
        change(&mut state);
        if state != self.head() {
            let parent = *self.line.last().unwrap();
            let made = self.add(state, vec![parent], message);
            self.line.push(made);
        }
    }

    fn next_canary(&mut self, env: u32) -> (u32, u32) {
        self.revision += 1;
        (self.revision, env)
    }

    fn play(&mut self, event: Event) {
        let parent = *self.line.last().unwrap();
        match event {
            Event::Canary { trailers, env } => {
                let canary = self.next_canary(env);
                let message = if trailers { said(canary.0) } else { "By hand".to_owned() };
                self.commit(message, |s| s.canary = canary);
            }
            Event::Merge => {
                let canary = self.next_canary(0);
                let mut state = self.head();
                state.canary = canary;
                let side = self.add(state.clone(), vec![parent], said(canary.0));
                state.readme += 1;
                let own = self.head();
                let meanwhile = self.add(
                    State {
                        readme: own.readme + 1,
                        ..own
                    },
                    vec![parent],
                    "Meanwhile",
                );
                let merge = self.add(state, vec![meanwhile, side], "Merge branch 'canary'");
                self.line.extend([meanwhile, merge]);
            }
            Event::Squash => {
                let canary = self.next_canary(1);
                let message = format!("Squashed (#7)\n\n* {}\n\n* Scale", said(canary.0));
                self.commit(message, |s| {
                    s.canary = canary;
                    s.replicas += 1;
                });
            }
            Event::Pull => {
                let canary = self.next_canary(0);
                let mut state = self.head();
                let own = self.add(
                    State {
                        neighbour: state.neighbour + 1,
                        ..state.clone()
                    },
                    vec![parent],
                    "Mine",
                );
                state.canary = canary;
                let theirs = self.add(state.clone(), vec![parent], said(canary.0));
                state.neighbour += 1;
                let merge = self.add(state, vec![own, theirs], "Merge branch 'main' of config");
                self.line.extend([own, merge]);
            }
            Event::Tweak => self.commit("Tweak the canary", |s| s.canary.1 += 1),
            Event::Claim => {
                let claimed = self.head().canary.0;
                self.commit(said(claimed), |s| s.replicas += 1);
            }
            Event::Mixed => {
                let canary = self.next_canary(2);
                self.commit("Many things at once", |s| {
                    s.canary = canary;
                    s.readme += 1;
                    s.comment += 1;
                });
            }
            Event::Replicas => self.commit("Scale", |s| s.replicas += 1),
            Event::Comment => self.commit("Say more", |s| s.comment += 1),
            Event::Readme => self.commit("Explain", |s| s.readme += 1),
            Event::Neighbour => self.commit("Another environment", |s| s.neighbour += 1),
            Event::OtherRollout => self.commit("Canary of another rollout", |s| s.other.0 += 1),
            Event::Hotfix => {
                let fixed = self.next_canary(0);
                self.commit("Fix stable", |s| s.stable = fixed);
            }
            Event::TakeBack => {
                self.taken_back = Some(self.head().canary);
                self.commit("Take the canary back", |s| s.canary = s.stable);
            }
            Event::BringAgain => {
                let again = self.taken_back.unwrap_or((1, 3));
                self.commit("Revert \"Take the canary back\"", |s| s.canary = again);
            }
            Event::Promote => self.commit("Promote by hand", |s| s.stable = s.canary),
            Event::Break => self.commit("Break the file", |s| s.broken = true),
            Event::Mend => self.commit("Mend the file", |s| s.broken = false),
        }
    }

    /// The commits since the last rest state that brought a canary, newest first; the first one brought what stands there.
    fn canaries(&self) -> Vec<usize> {
        let state = |at: usize| &self.commits[at].state;
        let line = self.line.iter().copied();
        let whole: Vec<usize> = line.filter(|at| !state(*at).broken).collect();
        let rest = whole.iter().rposition(|at| state(*at).canary == state(*at).stable);
        let since = &whole[rest.unwrap_or(0)..];
        let brings = |pair: &&[usize]| {
            let (before, after) = (state(pair[0]), state(pair[1]));
            before.canary != after.canary && after.canary != after.stable
        };
        since.windows(2).filter(brings).map(|pair| pair[1]).rev().collect()
    }

    fn has_canary(&self) -> bool {
        !self.canaries().is_empty()
    }

    /// Stable as it stood when the present canary was brought.
    fn baseline(&self) -> (u32, u32) {
        let whole = self
            .line
            .iter()
            .map(|at| &self.commits[*at].state)
            .filter(|s| !s.broken);
        let present = self.head().canary;
        let states: Vec<&State> = whole.collect();
        let from = states.iter().rposition(|s| s.canary != present).map_or(0, |at| at + 1);
        states[from].stable
    }

    /// As the input of `git fast-import`.
    fn stream(&self) -> String {
        let mut stream = String::new();
        for (at, made) in self.commits.iter().enumerate() {
            let mark = at + 1;
            let (message, when) = (&made.message, 1_700_000_000 + at);
            write!(stream, "commit refs/heads/made{mark}\nmark :{mark}\ncommitter Ann <ann@example.com> {when} +0000\ndata {}\n{message}\n", message.len()).unwrap();
            for (nth, parent) in made.parents.iter().enumerate() {
                let word = if nth == 0 { "from" } else { "merge" };
                writeln!(stream, "{word} :{}", parent + 1).unwrap();
            }
            stream.push_str("deleteall\n");
            for (path, text) in made.state.files(self.kind) {
                write!(stream, "M 100644 inline {path}\ndata {}\n{text}\n", text.len()).unwrap();
            }
        }
        let head = self.line.last().unwrap() + 1;
        writeln!(stream, "reset refs/heads/main\nfrom :{head}\n").unwrap();
        stream
    }

    fn world(&self) -> World {
        let folder = tempfile::tempdir().unwrap();
        git(folder.path(), &["init", "-q", "--bare", "-b", "main", "origin.git"]);
        let origin = folder.path().join("origin.git");
        let mut import = Command::new("git")
            .current_dir(&origin)
            .args(["fast-import", "--quiet"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        import
            .stdin
            .take()
            .unwrap()
            .write_all(self.stream().as_bytes())
            .unwrap();
        assert!(import.wait().unwrap().success());
        World {
            subject: self.kind.subject(),
            ..World::over(folder)
        }
    }
}

fn said(revision: u32) -> String {
    format!(
        "Canary {revision}\n\nSerin-Cluster: c1\nSerin-Rollout: prod/web\nSerin-Revision: {revision}.0.0\nSerin-Action: canary\n"
    )
}

fn name((revision, _): (u32, u32)) -> String {
    format!("{revision}.0.0")
}

/// The lines that stand neither at these keys nor below them; keys are whole lines.
fn outside<'t>(text: &'t str, keys: &[String]) -> Vec<&'t str> {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let mut inside: Option<usize> = None;
    let is_outside = |line: &&str| {
        if inside.is_none_or(|column| indent(line) <= column) {
            inside = keys.iter().any(|key| key == line).then(|| indent(line));
        }
        inside.is_none()
    };
    text.lines().filter(is_outside).collect()
}

/// The texts of the arms' files.
fn texts(world: &World) -> Vec<String> {
    let files = world.subject.files().into_iter();
    files
        .map(|file| world.origin(&["show", &format!("main:{file}")]))
        .collect()
}

/// One commit on the old head, which touches the files of these arms only, and there nothing but the arms.
fn only_that(model: &Model, world: &World, old: &str, before: &[String], arms: &[&str]) {
    let new = world.head();
    assert_eq!(
        world.origin(&["rev-parse", "main^"]).trim(),
        old,
        "no commit of anybody is lost"
    );
    let changed = world.origin(&["diff-tree", "-r", "--name-only", old, &new]);
    let mut files = model.kind.files(arms);
    files.sort();
    assert_eq!(changed.lines().collect::<Vec<_>>(), files);
    let keys = model.kind.keys(arms);
    for (after, before) in texts(world).iter().zip(before) {
        assert_eq!(outside(after, &keys), outside(before, &keys), "nothing else changed");
    }
}

/// What the arms' files mean is what they mean in a state of the model.
fn means(model: &Model, world: &World, state: &State) {
    let files = state.files(model.kind);
    for (text, file) in texts(world).iter().zip(world.subject.files()) {
        let (_, wanted) = files.iter().find(|(path, _)| *path == file).unwrap();
        let read = |text: &str| serde_saphyr::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(read(text), read(wanted), "{file}:\n{text}");
    }
}

/// The commit's id in the world.
fn id(world: &World, made: usize) -> String {
    let branch = format!("refs/heads/made{}", made + 1);
    world.origin(&["rev-parse", &branch]).trim().to_owned()
}

/// The commit that brought the head's canary is found, whatever others claim, and it says by what.
async fn is_found(model: &Model, world: &World) {
    let Some(newest) = model.canaries().first().copied() else {
        return;
    };
    let found = world
        .gitops
        .find_canary(&world.repo, &world.subject, Some(&name(model.head().canary)))
        .await
        .unwrap()
        .unwrap();
    let says_so = model.commits[newest].message.contains("Serin-Action: canary");
    assert_eq!((found.sha, found.by_trailer), (id(world, newest), says_so));
}

async fn rollback_holds(model: &Model) {
    let (world, head) = (model.world(), model.head());
    is_found(model, &world).await;
    let (old, before) = (world.head(), texts(&world));
    let outcome = world.roll_back(&name(head.canary), None).await.unwrap();
    if head.canary == head.stable {
        assert_eq!(outcome, RollbackOutcome::AlreadyAtRest);
        assert_eq!(world.head(), old);
        return;
    }
    if !model.has_canary() {
        assert_eq!(outcome, RollbackOutcome::Withdrawn);
        assert_eq!(world.head(), old);
        return;
    }
    let RollbackOutcome::Committed {
        sha,
        own_fields_because,
        undone,
    } = &outcome
    else {
        panic!("{outcome:?}")
    };
    assert_eq!(*sha, world.head());
    let brought: Vec<_> = model.canaries().into_iter().map(|at| id(&world, at)).collect();
    assert_eq!(*undone, brought, "every canary commit since the last rest state");
    let message = world.origin(&["log", "-1", "--format=%B", "main"]);
    assert_eq!(
        message.contains("Only the rollout's own fields were restored"),
        own_fields_because.is_some(),
        "the commit says what it is: {message}"
    );
    for canary in &brought {
        assert!(message.contains(&format!("This reverts commit {canary}.")), "{message}");
    }
    let rest = State {
        canary: head.stable,
        ..head.clone()
    };
    means(model, &world, &rest);
    only_that(model, &world, &old, &before, &["canary"]);
    let rest = world.gitops.rest_state(&world.repo, &world.subject).await.unwrap();
    assert!(rest.at_rest, "{rest:?}");
    world
        .gitops
        .create_canary(&world.repo, &other_rollout(model.kind))
        .await
        .unwrap();
    let later = world.head();
    let again = world.roll_back(&name(head.canary), None).await.unwrap();
    assert!(
        matches!(
            again,
            RollbackOutcome::AlreadyCommitted { .. } | RollbackOutcome::AlreadyAtRest
        ),
        "{again:?}"
    );
    assert_eq!(world.head(), later, "a second run changes nothing");
}

/// A rollout that stands in the same file, or beside it.
fn other_rollout(kind: Kind) -> CreateRequest {
    CreateRequest {
        subject: Subject {
            name: "other".to_owned(),
            layout: kind.layout(kind.other()),
            ..subject()
        },
        revision: "77.0.0".to_owned(),
        image_tag: "77.0.0".to_owned(),
        image_repository: None,
        set: vec![],
        author: None,
        message: None,
    }
}

async fn promotion_holds(model: &Model) {
    let (world, head) = (model.world(), model.head());
    let (old, before) = (world.head(), texts(&world));
    let outcome = world.promote(&name(head.canary), &name(head.stable)).await.unwrap();
    let may_be_made = head.canary != head.stable && model.has_canary() && model.baseline() == head.stable;
    let PromoteOutcome::Committed { sha } = &outcome else {
        assert!(!may_be_made, "{outcome:?}");
        assert_eq!(world.head(), old);
        return;
    };
    assert!(head.canary != head.stable, "{outcome:?}");
    let promoted = State {
        stable: head.canary,
        ..head.clone()
    };
    means(model, &world, &promoted);
    only_that(model, &world, &old, &before, &["stable"]);
    let again = world.promote(&name(head.canary), &name(head.stable)).await.unwrap();
    assert_eq!(again, PromoteOutcome::AlreadyCommitted { sha: sha.clone() });
    assert_eq!(world.head(), *sha, "a second run changes nothing");

    world
        .gitops
        .create_canary(&world.repo, &other_rollout(model.kind))
        .await
        .unwrap();
    let (old, before) = (world.head(), texts(&world));
    let outcome = world.roll_back(&name(head.canary), Some(sha)).await.unwrap();
    assert!(matches!(outcome, RollbackOutcome::Committed { .. }), "{outcome:?}");
    let rest = world.gitops.rest_state(&world.repo, &world.subject).await.unwrap();
    assert!(rest.at_rest, "{rest:?}");
    assert_eq!(rest.stable_revision, Some(name(head.stable)));
    only_that(model, &world, &old, &before, &["stable", "canary"]);
}

/// A file that nobody can read any more blocks the rollback; when it is mended, the rollback is made.
async fn a_blocked_rollback_holds(model: &mut Model) {
    let (head, has_canary) = (model.head(), model.has_canary());
    model.play(Event::Break);
    let world = model.world();
    let broken = world.head();
    let outcome = world.roll_back(&name(head.canary), None).await;
    assert_eq!(world.head(), broken, "nothing is pushed");
    if head.canary != head.stable && has_canary {
        let Err(Error::RollbackBlocked { paths, commits, .. }) = &outcome else {
            panic!("{outcome:?}")
        };
        assert_eq!(*paths, [FILE]);
        assert!(
            commits.len() == 1 && commits[0].starts_with(&broken[..12]),
            "{commits:?}"
        );
    } else {
        assert!(outcome.is_err_and(|error| error.kind() == ErrorKind::Input));
    }
    model.play(Event::Mend);
    rollback_holds(model).await;
}

fn played(kind: Kind, events: &[Event]) -> Model {
    let mut model = Model::new(kind);
    for event in events {
        model.play(*event);
    }
    model.play(Event::Mend);
    model
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(test);
}

/// As each case runs git some hundred times; PROPTEST_CASES asks for more.
fn few() -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES").ok();
    ProptestConfig {
        cases: asked.and_then(|cases| cases.parse().ok()).unwrap_or(6),
        max_shrink_iters: 40,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(few())]

    #[test]
    fn a_rollback_rests_the_canary_changes_nothing_else_and_loses_nobodys_commit(
        events in prop::collection::vec(event(), 1..10)
    ) {
        for kind in KINDS {
            run(rollback_holds(&played(kind, &events)));
        }
    }

    #[test]
    fn a_rollback_is_blocked_while_nobody_can_read_the_file_and_made_when_it_is_mended(
        events in prop::collection::vec(event(), 1..8)
    ) {
        run(a_blocked_rollback_holds(&mut played(Kind::Values, &events)));
    }

    #[test]
    fn a_promotion_changes_stables_subtree_only_and_can_be_rolled_back(
        events in prop::collection::vec(event(), 1..10)
    ) {
        for kind in KINDS {
            run(promotion_holds(&played(kind, &events)));
        }
    }
}

/// A revert of a revert, by people: what was rolled back is brought again, and again, and each is answered once.
#[test]
fn a_rollback_that_people_revert_is_a_new_canary_and_is_rolled_back_once() {
    run(async {
        let world = World::new();
        let first = world.create("1.1.0", &[]).await.unwrap().sha;
        let mut answered = vec![first];
        for times in 1..=3 {
            let outcome = world.roll_back("1.1.0", None).await.unwrap();
            let RollbackOutcome::Committed { sha, undone, .. } = outcome else {
                panic!("{outcome:?}")
            };
            assert_eq!(
                undone,
                answered[answered.len() - 1..],
                "what came since, and nothing that is answered"
            );
            assert_eq!(world.file(), VALUES);
            let again = world.roll_back("1.1.0", None).await.unwrap();
            assert!(matches!(again, RollbackOutcome::AlreadyCommitted { .. }), "{again:?}");
            assert_eq!((world.head(), world.commits()), (sha.clone(), 1 + 2 * times));

            let work = world.work();
            git(&work, &["pull", "-q", "--rebase", "origin", "main"]);
            git(&work, &["revert", "--no-edit", &sha]);
            git(&work, &["push", "-q", "origin", "HEAD:main"]);
            assert!(world.file().contains("1.1.0"));
            answered.push(world.head());
        }
    });
}
