//! `serin status -w`: goes on showing. On a terminal a screen that is drawn again at each change and each second; elsewhere a line a
//! change, for the logs of pipelines. What is shown is decided in [`crate::view`].

mod around;
mod lines;
mod screen;
mod terminal;

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, stdout};
use std::time::Duration;

use anyhow::Context as _;
use futures::StreamExt as _;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, ResourceExt as _};
use tokio::time::MissedTickBehavior;

use self::around::Around;
use self::screen::Screen;
use self::terminal::{Key, Terminal};
use crate::api::CanaryRollout;
use crate::runtime::clock;

/// What is watched.
pub(super) struct Watched {
    pub(super) client: Client,
    pub(super) api: Api<CanaryRollout>,
    /// The rollout; all of them if none is named.
    pub(super) name: Option<String>,
    /// Whether the namespaces are told.
    pub(super) namespaces: bool,
}

/// Arms, autoscalers and events are asked for so often, and of one rollout only.
const AROUND: Duration = Duration::from_secs(5);

/// Shows until the person has seen enough, the rollout is gone, or the program is interrupted.
pub(super) async fn run(watched: Watched) -> anyhow::Result<()> {
    if let Some(name) = &watched.name {
        // A name that is wrong is an error now, not a screen that stays empty.
        let read = watched.api.get(name).await;
        read.with_context(|| format!("reading the rollout {name}"))?;
    }
    if stdout().is_terminal() {
        on_terminal(watched).await
    } else {
        in_lines(watched).await
    }
}

type Rollouts = BTreeMap<(String, String), CanaryRollout>;

fn key(rollout: &CanaryRollout) -> (String, String) {
    (rollout.namespace().unwrap_or_default(), rollout.name_any())
}

fn config(name: Option<&str>) -> watcher::Config {
    match name {
        Some(name) => watcher::Config::default().fields(&format!("metadata.name={name}")),
        None => watcher::Config::default(),
    }
}

async fn in_lines(watched: Watched) -> anyhow::Result<()> {
    let mut seen = Rollouts::new();
    let mut events = watcher(watched.api, config(watched.name.as_deref()))
        .default_backoff()
        .boxed();
    // One that is told again is not told twice: a line says what differs from what was last told.
    while let Some(event) = events.next().await {
        match event {
            Ok(watcher::Event::Apply(rollout) | watcher::Event::InitApply(rollout)) => {
                for line in lines::between(seen.get(&key(&rollout)), &rollout, clock::now()) {
                    println!("{line}");
                }
                seen.insert(key(&rollout), rollout);
            }
            Ok(watcher::Event::Delete(rollout)) => {
                println!("{}", lines::gone(&rollout, clock::now()));
                seen.remove(&key(&rollout));
                if watched.name.is_some() {
                    return Ok(());
                }
            }
            Ok(watcher::Event::Init | watcher::Event::InitDone) => {}
            Err(error) => eprintln!("warning: watching rollouts: {error}; trying again"),
        }
    }
    Ok(())
}

async fn on_terminal(watched: Watched) -> anyhow::Result<()> {
    let mut terminal = Terminal::open().context("taking the terminal over")?;
    let mut screen = Screen::new(watched.name.is_some(), watched.namespaces);
    let mut events = watcher(watched.api, config(watched.name.as_deref()))
        .default_backoff()
        .boxed();
    let mut second = tokio::time::interval(Duration::from_secs(1));
    let mut look = tokio::time::interval(AROUND);
    second.set_missed_tick_behavior(MissedTickBehavior::Skip);
    look.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            event = events.next() => match event {
                Some(Ok(watcher::Event::Apply(rollout) | watcher::Event::InitApply(rollout))) => {
                    screen.rollouts.insert(key(&rollout), rollout);
                    screen.trouble = None;
                }
                Some(Ok(watcher::Event::Delete(rollout))) => {
                    screen.rollouts.remove(&key(&rollout));
                    if watched.name.is_some() {
                        drop(terminal);
                        println!("{}", lines::gone(&rollout, clock::now()));
                        return Ok(());
                    }
                }
                // What went while nobody watched is not told: the list begins anew.
                Some(Ok(watcher::Event::Init)) => screen.rollouts.clear(),
                Some(Ok(watcher::Event::InitDone)) => screen.trouble = None,
                Some(Err(error)) => screen.trouble = Some(format!("watching rollouts: {error}; trying again")),
                None => return Ok(()),
            },
            _ = look.tick() => {
                if let Some(rollout) = screen.only() {
                    screen.around = Around::read(&watched.client, rollout).await;
                }
            }
            _ = second.tick() => {}
            key = terminal.key() => match key {
                Key::Quit => return Ok(()),
                Key::Scroll(lines) => screen.scroll(lines),
                Key::Resized => {}
            },
        }
        terminal
            .draw(&mut screen, clock::now())
            .context("drawing on the terminal")?;
    }
}
