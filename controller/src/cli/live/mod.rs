//! `serin status -w`: goes on showing. On a terminal a screen that is drawn again at each change and each second; elsewhere a line a
//! change, for the logs of pipelines. What is shown is decided in [`crate::view`].

mod around;
mod lines;
mod screen;
mod seen;
mod terminal;
mod text;

use std::io::{ErrorKind, IsTerminal as _, Write as _, stdout};
use std::time::Duration;

use anyhow::Context as _;
use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client};
use tokio::time::MissedTickBehavior;

use self::around::Around;
use self::screen::Screen;
use self::seen::{Change, Seen};
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

fn config(name: Option<&str>) -> watcher::Config {
    match name {
        Some(name) => watcher::Config::default().fields(&format!("metadata.name={name}")),
        None => watcher::Config::default(),
    }
}

async fn in_lines(watched: Watched) -> anyhow::Result<()> {
    let mut seen = Seen::default();
    let mut events = watcher(watched.api, config(watched.name.as_deref()))
        .default_backoff()
        .boxed();
    while let Some(event) = events.next().await {
        let changes = match event {
            Ok(event) => seen.take(event),
            Err(error) => {
                eprintln!("warning: watching rollouts: {error}; trying again");
                continue;
            }
        };
        for change in changes {
            let (told, is_over) = match &change {
                // One that is told again is not told twice: a line says what differs from what was told last.
                Change::Told(key, before) => {
                    let now = seen.rollouts.get(key);
                    let told = now.map(|now| lines::between(before.as_deref(), now, clock::now()));
                    (told.unwrap_or_default(), false)
                }
                Change::Gone(rollout) => (vec![lines::gone(rollout, clock::now())], watched.name.is_some()),
            };
            if is_over | !print(&told)? {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Whether there is still somebody who reads.
fn print(lines: &[String]) -> anyhow::Result<bool> {
    let mut out = stdout().lock();
    for line in lines {
        match writeln!(out, "{line}") {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(false),
            written => written.context("writing to standard output")?,
        }
    }
    Ok(true)
}

/// Never without a reading.
async fn read(reading: &mut Option<BoxFuture<'static, Around>>) -> Around {
    match reading {
        Some(reading) => reading.await,
        None => std::future::pending().await,
    }
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
    // Read aside, so that an API server that is slow holds up no key.
    let mut reading: Option<BoxFuture<'static, Around>> = None;
    loop {
        tokio::select! {
            event = events.next() => match event {
                Some(Ok(event)) => {
                    screen.trouble = None;
                    for change in screen.take(event) {
                        match change {
                            Change::Told(..) => look.reset_immediately(),
                            Change::Gone(rollout) if watched.name.is_some() => {
                                drop(terminal);
                                print(&[lines::gone(&rollout, clock::now())])?;
                                return Ok(());
                            }
                            Change::Gone(_) => {}
                        }
                    }
                }
                Some(Err(error)) => screen.trouble = Some(format!("watching rollouts: {error}; trying again")),
                None => return Ok(()),
            },
            around = read(&mut reading) => {
                screen.around = around;
                reading = None;
            }
            _ = look.tick(), if reading.is_none() => {
                let client = watched.client.clone();
                let of = screen.only().cloned();
                reading = of.map(|rollout| async move { Around::read(&client, &rollout).await }.boxed());
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
