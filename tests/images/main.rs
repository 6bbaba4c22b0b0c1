//! The images, built by the pipeline's own scripts from what cargo built, started read-only and without privileges, and called.
//! One binary, one storage for images, all stories at once. It must not know what a story is about.
//!
//! It needs root (for mounts and namespaces) and the programs in target/image: tests/images/build.sh makes them, or run.sh those of a release.

mod container;
mod controller;
mod names;
mod push;
mod service;
mod workshop;

use std::{pin::Pin, process::ExitCode, sync::Arc};

use anyhow::Context as _;
use libtest_mimic::{Arguments, Failed, Trial};
use tokio::runtime::Builder;

use self::workshop::Workshop;

type Told = Pin<Box<dyn Future<Output = anyhow::Result<()>> + Send>>;

/// A story and its name.
struct Story(&'static str, fn(Arc<Workshop>) -> Told);

macro_rules! stories {
    ($($room:ident::$name:ident),* $(,)?) => {
        vec![$(Story(stringify!($name), |workshop| Box::pin($room::$name(workshop)))),*]
    };
}

fn stories() -> Vec<Story> {
    stories![
        workshop::dockerfiles_have_no_findings,
        workshop::two_clean_builds_give_one_digest,
        service::the_image_is_one_static_program_within_its_size,
        service::it_answers_calls_read_only_and_without_privileges,
        service::it_finds_its_database_by_name,
        controller::the_image_has_what_serin_needs_within_its_size,
        controller::serin_commits_to_a_repository_from_its_container,
        controller::ssh_knows_who_it_is,
        push::the_pipelines_push_arrives_by_digest,
        push::a_refused_push_fails_the_stage,
    ]
}

fn main() -> ExitCode {
    run().unwrap_or_else(|error| {
        eprintln!("tests of images: {error:#}");
        ExitCode::FAILURE
    })
}

fn run() -> anyhow::Result<ExitCode> {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(2);
    if arguments.list {
        let trials = stories().into_iter().map(|story| Trial::test(story.0, || Ok(())));
        return Ok(libtest_mimic::run(&arguments, trials.collect()).exit_code());
    }
    serin::runtime::client::install_tls();
    let runtime = Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("starting the runtime")?;
    let workshop = Arc::new(runtime.block_on(Workshop::open())?);
    let trial = |Story(name, story): Story| {
        let (workshop, runtime) = (workshop.clone(), runtime.handle().clone());
        let told = move || {
            runtime
                .block_on(story(workshop))
                .map_err(|error| Failed::from(format!("{error:#}")))
        };
        Trial::test(name, told)
    };
    let conclusion = libtest_mimic::run(&arguments, stories().into_iter().map(trial).collect());
    Ok(conclusion.exit_code())
}
