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
    time::{Duration, Instant},
};

use ::lab::{
    Lab, Options, clock,
    gate::{self, Gate},
    process::Program,
};
use anyhow::Context as _;
use libtest_mimic::{Arguments, Trial};
use tokio::{
    runtime::{Builder, Runtime},
    time::interval,
};

use self::story::Story;

/// So many that fail may be a matter of the machine and are told again. More are not.
const TOLD_AGAIN: usize = 3;
/// A story's longest time, and that of its lab.
const AGAIN: Duration = Duration::from_mins(17);
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

/// Tells those that failed once more, each in a lab of its own: whether they hold where nobody takes the machine from them. Both times
/// are said: one that fails beside others is a matter to look into even then.
fn tell_again(runtime: &Runtime, took: &Took, num_failed: u64) -> anyhow::Result<bool> {
    let failed: Vec<_> = {
        let took = took.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = took.iter().filter(|(.., failure)| failure.is_some());
        failed.map(|(_, name, _)| *name).collect()
    };
    // One that panicked has left no word.
    if failed.len() > TOLD_AGAIN || u64::try_from(failed.len()) != Ok(num_failed) {
        return Ok(false);
    }
    let program = std::env::current_exe().context("finding this program, to tell stories again")?;
    let mut all_held = true;
    for name in failed {
        eprintln!("this one is told again, alone: {name}");
        let told = runtime.block_on(Program::new(&program).args(["--exact", name]).output(AGAIN));
        let told = told.with_context(|| format!("telling {name} again"))?;
        eprintln!(
            "{}{}",
            String::from_utf8_lossy(&told.stdout),
            String::from_utf8_lossy(&told.stderr)
        );
        let held = told.status.success();
        let word = if held {
            "it held when it was told again, alone"
        } else {
            "it failed again"
        };
        eprintln!("{word}: {name}");
        all_held &= held;
    }
    Ok(all_held)
}

/// Says when the machine's clock was moved: everything that is measured in the lab has a time by it.
async fn watch_the_clock() {
    let clocks = || (clock::now(), Instant::now());
    let mut before = clocks();
    let mut seconds = interval(Duration::from_secs(1));
    loop {
        seconds.tick().await;
        let now = clocks();
        let (by_the_clock, passed) = (now.0.duration_since(before.0), now.1.duration_since(before.1));
        let moved = by_the_clock.as_secs_f64() - passed.as_secs_f64();
        if moved.abs() > 0.5 {
            println!(
                "the machine's clock was moved by {moved:.1} s, and shows {:.0} now",
                now.0
            );
        }
        before = now;
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
    runtime.spawn(watch_the_clock());
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
    let held_in_the_end = conclusion.num_filtered_out == 0
        && conclusion.has_failed()
        && tell_again(&runtime, &took, conclusion.num_failed)?;
    if held_in_the_end {
        eprintln!("some held only when they were told again: see above what they said first");
    }
    Ok(if permissions.is_err() {
        ExitCode::FAILURE
    } else if held_in_the_end {
        ExitCode::SUCCESS
    } else {
        conclusion.exit_code()
    })
}
