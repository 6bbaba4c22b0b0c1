//! How many stories are told at once: as many as the machine has time for. Stories wait, but their clients, proxies and services
//! compute: with too many at once calls miss their deadlines, with too few a quick machine idles. It must not know what is told.

use std::{
    fs, io,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use tokio::{sync::Notify, time::timeout};

/// So many are told at once however busy the machine is …
const AT_LEAST: usize = 4;
/// … and so many however idle, if no more threads than that ask here.
pub const AT_MOST: usize = 12;
/// Another begins where so much of the machine's time was left over …
const LEFT_OVER: f64 = 0.2;
/// … over so long, and so long after the one before: what a story costs shows once it has begun.
const LOOK: Duration = Duration::from_secs(5);
/// Who waits asks again after so long at the latest.
const AGAIN: Duration = Duration::from_millis(250);

/// Lets stories begin.
#[derive(Debug, Default)]
pub struct Gate {
    inside: Mutex<Inside>,
    ended: Notify,
}

#[derive(Debug, Default)]
struct Inside {
    told: usize,
    looked: Option<(Instant, Spent)>,
}

/// A story that has begun; it ends when this is dropped.
#[derive(Debug)]
pub struct Turn<'a>(&'a Gate);

impl Gate {
    /// Waits until another story may begin.
    ///
    /// # Errors
    /// When the kernel does not tell what the machine does.
    pub async fn enter(&self) -> anyhow::Result<Turn<'_>> {
        loop {
            if self.lock().lets_in(Instant::now(), Spent::read)? {
                return Ok(Turn(self));
            }
            // One that has ended makes room at once; time that is left over is told by nobody.
            let _ = timeout(AGAIN, self.ended.notified()).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.lock().told -= 1;
        self.0.ended.notify_one();
    }
}

impl Inside {
    fn lets_in(&mut self, now: Instant, read: impl Fn() -> anyhow::Result<Spent>) -> anyhow::Result<bool> {
        let is_time = self.looked.is_none_or(|(at, _)| now.duration_since(at) >= LOOK);
        if self.told >= AT_LEAST && !is_time {
            return Ok(false);
        }
        let spent = read()?;
        let before = self.looked.replace((now, spent));
        let has_time = before.is_some_and(|(_, before)| spent.left_over_since(before) > LEFT_OVER);
        let lets_in = self.told < AT_LEAST || has_time;
        self.told += usize::from(lets_in);
        Ok(lets_in)
    }
}

/// The time of all processors since the machine was started, in the kernel's units.
#[derive(Debug, Clone, Copy)]
struct Spent {
    all: u64,
    idle: u64,
}

impl Spent {
    fn read() -> anyhow::Result<Self> {
        let read = || -> io::Result<Self> {
            Self::of(&fs::read_to_string("/proc/stat")?).ok_or(io::ErrorKind::InvalidData.into())
        };
        read().context("reading in /proc/stat how busy the machine is")
    }

    /// `cpu user nice system idle iowait irq softirq steal …`; what a guest takes is in `user` as well.
    fn of(stat: &str) -> Option<Self> {
        let line = stat.lines().next()?.strip_prefix("cpu ")?;
        let times: Vec<u64> = line
            .split_whitespace()
            .map_while(|time| time.parse().ok())
            .take(8)
            .collect();
        Some(Self {
            all: times.iter().sum(),
            idle: times.get(3)? + times.get(4)?,
        })
    }

    /// The share of the time since then that nobody took.
    #[expect(clippy::cast_precision_loss, reason = "a share of some hundreds")]
    fn left_over_since(self, before: Self) -> f64 {
        let all = self.all.saturating_sub(before.all).max(1);
        self.idle.saturating_sub(before.idle) as f64 / all as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asks so many times, a second apart, on a machine that has so much of each second left over.
    fn ask(inside: &mut Inside, (since, times): (u64, u64), left_over: u64) -> Vec<bool> {
        let began = Instant::now();
        let lets_in = |second: u64| {
            let read = || {
                Ok(Spent {
                    all: second * 100,
                    idle: second * left_over,
                })
            };
            inside.lets_in(began + Duration::from_secs(second), read).unwrap()
        };
        (since..since + times).map(lets_in).collect()
    }

    #[test]
    fn on_a_busy_machine_the_least_begin_at_once_and_no_others() {
        let let_in = ask(&mut Inside::default(), (0, 30), 5);
        assert_eq!(let_in.iter().filter(|lets_in| **lets_in).count(), AT_LEAST);
        assert!(let_in.iter().take(AT_LEAST).all(|lets_in| *lets_in));
    }

    #[test]
    fn on_an_idle_machine_another_begins_after_each_look() {
        let mut inside = Inside::default();
        ask(&mut inside, (0, 4), 60);
        let let_in = ask(&mut inside, (4, 10), 60);
        let at: Vec<_> = let_in
            .iter()
            .enumerate()
            .filter(|(_, lets_in)| **lets_in)
            .map(|(at, _)| at)
            .collect();
        assert_eq!(at, [4, 9], "{let_in:?}");
    }

    #[test]
    fn what_nobody_took_is_idle_and_what_waits_for_a_disk() {
        let spent = |text: &str| Spent::of(text).unwrap();
        let before = spent("cpu  10 0 10 70 10 0 0 0 5 0\ncpu0 1 2 3 4");
        let after = spent("cpu  30 0 20 130 20 0 0 0 9 0\ncpu0 1 2 3 4");
        assert!((after.left_over_since(before) - 0.7).abs() < 1e-9);
        assert!(Spent::of("intr 1 2 3").is_none());
    }

    #[tokio::test]
    async fn who_has_ended_makes_room_for_another() {
        let gate = Gate::default();
        let turn = gate.enter().await.unwrap();
        assert_eq!(gate.lock().told, 1);
        drop(turn);
        assert_eq!(gate.lock().told, 0);
    }
}
