//! The end-to-end stories: one binary, one lab, all stories at once, each in a namespace of its own. It must not know what a
//! story is about; each file brings its own list.

mod access;
mod chaos;
mod crowd;
mod lab;
mod pod;
mod proxy;
mod rollout;
mod story;
mod window;

use std::{
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use ::lab::{
    Lab, Options,
    gate::{self, Gate},
};
use anyhow::Context as _;
use libtest_mimic::{Arguments, Trial};
use tokio::runtime::Builder;

use self::story::Story;

/// All proxies live in this process, and a story that reads a long log must not hold them up.
const THREADS: usize = 8;

fn stories() -> Vec<Story> {
    // Those of rollouts take longer: begun last, they would run alone in the end.
    [rollout::stories(), crowd::stories(), lab::stories(), chaos::stories()]
        .into_iter()
        .flatten()
        .collect()
}

/// Seconds that each story took, and what the ones that failed say.
type Took = Arc<Mutex<Vec<(u64, &'static str, Option<String>)>>>;

/// Where the time went: the first place to look at when the whole takes too long.
fn print_longest(took: &Took) {
    let mut took = took.lock().unwrap_or_else(PoisonError::into_inner);
    took.sort_unstable_by(|one, other| other.cmp(one));
    let all: u64 = took.iter().map(|(seconds, ..)| seconds).sum();
    println!("the longest of {} stories, which took {all} s one by one:", took.len());
    for (seconds, name, _) in took.iter().take(12) {
        println!("  {seconds:>4} s  {name}");
    }
}

/// Once more and last, as whoever reads the end of a log reads this.
fn print_failures(took: &Took) {
    let took = took.lock().unwrap_or_else(PoisonError::into_inner);
    for (seconds, name, failure) in took.iter() {
        if let Some(failure) = failure {
            eprintln!("failed after {seconds} s: {name}: {failure}");
        }
    }
}

fn main() -> ExitCode {
    run().unwrap_or_else(|error| {
        eprintln!("end-to-end tests: {error:#}");
        ExitCode::FAILURE
    })
}

fn run() -> anyhow::Result<ExitCode> {
    if let Some(role) = pod::role() {
        return role.run();
    }
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(gate::AT_MOST);
    if arguments.list {
        let trials = stories()
            .into_iter()
            .map(|story| Trial::test(story.name, || Ok(())).with_ignored_flag(story.is_alone))
            .collect();
        return Ok(libtest_mimic::run(&arguments, trials).exit_code());
    }
    let runtime = Builder::new_multi_thread()
        .worker_threads(THREADS)
        .enable_all()
        .build()
        .context("starting the runtime")?;
    let lab = Arc::new(
        runtime
            .block_on(Lab::start(Options::default()))
            .context("starting the lab")?,
    );
    let (took, gate) = (Took::default(), Arc::new(Gate::default()));
    let trial = |story: Story| {
        let (lab, handle, took, gate) = (lab.clone(), runtime.handle().clone(), took.clone(), gate.clone());
        let is_alone = story.is_alone;
        let name = story.name;
        Trial::test(name, move || {
            let _turn = handle.block_on(gate.enter()).map_err(|error| format!("{error:#}"))?;
            let began = Instant::now();
            let result = handle.block_on(story.run(lab));
            let failure = result.err().map(|error| format!("{error:#}"));
            let mut took = took.lock().unwrap_or_else(PoisonError::into_inner);
            took.push((began.elapsed().as_secs(), name, failure.clone()));
            failure.map_or(Ok(()), |failure| Err(failure.into()))
        })
        .with_ignored_flag(is_alone)
    };
    let conclusion = libtest_mimic::run(&arguments, stories().into_iter().map(trial).collect());
    print_longest(&took);
    let all = conclusion.num_filtered_out == 0 && !conclusion.has_failed();
    let permissions = runtime.block_on(access::judge(&lab, all));
    match &permissions {
        Ok(words) => println!("what the chart allows Serin ... {words}"),
        Err(error) => println!("what the chart allows Serin ... FAILED: {error:#}"),
    }
    runtime.block_on(lab.stop());
    if conclusion.has_failed() || permissions.is_err() {
        // A story that took too long may still hold the lab; then its folder goes with this process's end only.
        let kept = Arc::try_unwrap(lab).map_or_else(|lab| lab.dir().to_owned(), Lab::keep);
        eprintln!("the lab's logs: {}", kept.join("logs").display());
        print_failures(&took);
    }
    Ok(if permissions.is_err() {
        ExitCode::FAILURE
    } else {
        conclusion.exit_code()
    })
}
