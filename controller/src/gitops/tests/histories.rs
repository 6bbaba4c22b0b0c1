//! Rollbacks and promotions over generated histories. The history is made in one go, as a model that knows what each commit
//! left; what must hold afterwards is computed from the model, not from the code under test.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::Stdio;

use proptest::prelude::*;

use super::*;

/// What the values file and its neighbourhood say.
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
    fn new() -> Self {
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

    /// Whether a commit since the last rest state brought the canary that stands there.
    fn has_canary(&self) -> bool {
        let whole: Vec<&State> = self
            .line
            .iter()
            .map(|at| &self.commits[*at].state)
            .filter(|s| !s.broken)
            .collect();
        let rest = whole.iter().rposition(|s| s.canary == s.stable);
        let since = &whole[rest.unwrap_or(0)..];
        since
            .windows(2)
            .any(|pair| pair[0].canary != pair[1].canary && pair[1].canary != pair[1].stable)
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
            let state = &made.state;
            let mut file = |path: &str, text: &str| {
                write!(stream, "M 100644 inline {path}\ndata {}\n{text}\n", text.len()).unwrap();
            };
            file(FILE, &state.values());
            file("README.md", &format!("{}\n", state.readme));
            file("envs/prod/notes.md", &format!("{}\n", state.comment));
            file("envs/staging/values.yaml", &format!("canary: {}\n", state.neighbour));
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
        World::over(folder)
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

/// The lines that stand outside of these top-level keys.
fn outside<'t>(text: &'t str, keys: &[&str]) -> Vec<&'t str> {
    let mut inside = false;
    let is_outside = |line: &&str| {
        if !line.starts_with(' ') {
            inside = keys.contains(line);
        }
        !inside
    };
    text.lines().filter(is_outside).collect()
}

/// One commit on the old head, which touches the values file only, and there nothing outside of these keys.
fn only_that(world: &World, old: &str, before: &str, keys: &[&str]) {
    let new = world.head();
    assert_eq!(
        world.origin(&["rev-parse", "main^"]).trim(),
        old,
        "no commit of anybody is lost"
    );
    assert_eq!(
        world.origin(&["diff-tree", "-r", "--name-only", old, &new]).trim(),
        FILE
    );
    assert_eq!(
        outside(&world.file(), keys),
        outside(before, keys),
        "nothing else changed"
    );
}

fn arm(world: &World, key: &str) -> Yaml {
    let values = Values::parse(world.file()).unwrap();
    values.subtree(&KeyPath::parse(key)).unwrap().clone()
}

async fn rollback_holds(model: &Model) {
    let (world, head) = (model.world(), model.head());
    let (old, before) = (world.head(), world.file());
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
        ..
    } = &outcome
    else {
        panic!("{outcome:?}")
    };
    assert_eq!(*sha, world.head());
    let message = world.origin(&["log", "-1", "--format=%B", "main"]);
    assert_eq!(
        message.contains("Only the rollout's own fields were restored"),
        own_fields_because.is_some(),
        "the commit says what it is: {message}"
    );
    let stable = Values::parse(before.as_str()).unwrap();
    assert_eq!(
        arm(&world, "canary"),
        *stable.subtree(&KeyPath::parse("stable")).unwrap(),
        "the canary rests"
    );
    only_that(&world, &old, &before, &["canary:"]);
    world.gitops.create_canary(&world.repo, &other_rollout()).await.unwrap();
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

/// A rollout that stands in the same file.
fn other_rollout() -> CreateRequest {
    CreateRequest {
        subject: Subject {
            name: "other".to_owned(),
            stable: "other.stable".to_owned(),
            canary: "other.canary".to_owned(),
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
    let (old, before) = (world.head(), world.file());
    let outcome = world.promote(&name(head.canary), &name(head.stable)).await.unwrap();
    let may_be_made = head.canary != head.stable && model.has_canary() && model.baseline() == head.stable;
    let PromoteOutcome::Committed { sha } = &outcome else {
        assert!(!may_be_made, "{outcome:?}");
        assert_eq!(world.head(), old);
        return;
    };
    assert!(head.canary != head.stable, "{outcome:?}");
    assert_eq!(
        arm(&world, "stable"),
        arm(&world, "canary"),
        "stable has the canary's values whole"
    );
    only_that(&world, &old, &before, &["stable:"]);
    let again = world.promote(&name(head.canary), &name(head.stable)).await.unwrap();
    assert_eq!(again, PromoteOutcome::AlreadyCommitted { sha: sha.clone() });
    assert_eq!(world.head(), *sha, "a second run changes nothing");

    world.gitops.create_canary(&world.repo, &other_rollout()).await.unwrap();
    let (old, before) = (world.head(), world.file());
    let outcome = world.roll_back(&name(head.canary), Some(sha)).await.unwrap();
    assert!(matches!(outcome, RollbackOutcome::Committed { .. }), "{outcome:?}");
    assert_eq!(arm(&world, "stable"), arm(&world, "canary"));
    assert_eq!(
        arm(&world, "stable").get("revision").unwrap().as_scalar(),
        Some(name(head.stable).as_str())
    );
    only_that(&world, &old, &before, &["stable:", "canary:"]);
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

fn played(events: &[Event]) -> Model {
    let mut model = Model::new();
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

fn few() -> ProptestConfig {
    ProptestConfig {
        cases: 16,
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
        run(rollback_holds(&played(&events)));
    }

    #[test]
    fn a_rollback_is_blocked_while_nobody_can_read_the_file_and_made_when_it_is_mended(
        events in prop::collection::vec(event(), 1..8)
    ) {
        run(a_blocked_rollback_holds(&mut played(&events)));
    }

    #[test]
    fn a_promotion_changes_stables_subtree_only_and_can_be_rolled_back(
        events in prop::collection::vec(event(), 1..10)
    ) {
        run(promotion_holds(&played(&events)));
    }
}
