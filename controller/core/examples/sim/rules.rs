//! The rules that are compared, each as it is documented. Must not know what is true.
//!
//! - **Flagger** and **Argo Rollouts**: see `serin_core::analysis::peers`; their one metric is the success rate.
//! - **Kayenta** (its default judge): a point a minute and arm; three times a Mann-Whitney test over all points so far at
//!   98 % confidence; High if the interval of the shift lies above a quarter of the estimated shift. Every hour for three
//!   hours, as recommended, where the rollout takes that long; else every ten minutes for half an hour.
//! - **z-test**: two proportions, pooled, one-sided at 1 %, over all counts so far, looked at after every tick.

use serin_core::analysis::peers::{self, Measurement};
use serin_core::analysis::sequential::{
    Arms, Comparison, Decision, MetricSpec, Role, StepInfo, Tally, TestSpec, TestState,
};

/// The success rate that Flagger and Argo Rollouts are told to keep: their documented 99 %.
const ALLOWED: f64 = 0.01;

pub(crate) trait Rule {
    fn begin_step(&mut self, _step: StepInfo) {}
    /// One tick of `seconds`; whether it rolls back now.
    fn tick(&mut self, arms: &Arms, seconds: f64) -> bool;
    /// Steps that had been proven when they ended.
    fn proven(&self) -> u32 {
        0
    }
}

pub(crate) struct Serin {
    spec: TestSpec,
    state: TestState,
    proven: u32,
    begun: bool,
}

/// What a team can set; the rest is frozen from stable.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    pub(crate) alpha: f64,
    pub(crate) tolerance: f64,
    pub(crate) pass_tolerance: f64,
}

pub(crate) const DEFAULTS: Settings = Settings {
    alpha: 0.01,
    tolerance: 0.002,
    pass_tolerance: 0.005,
};

impl Serin {
    /// The success rate against stable and, if asked, an objective of 99 % beside it.
    pub(crate) fn new(steps: u32, frozen: (f64, Tally), objective: bool) -> Option<Self> {
        Self::with(DEFAULTS, steps, frozen, objective)
    }

    pub(crate) fn with(set: Settings, steps: u32, frozen: (f64, Tally), objective: bool) -> Option<Self> {
        let metric = MetricSpec {
            name: "success-rate".to_owned(),
            verb: "failed".to_owned(),
            relative: Some(Comparison::against_stable(1.0, set.tolerance, set.pass_tolerance).ok()?),
            absolute: objective.then(|| Comparison::objective(ALLOWED).ok()).flatten(),
            role: Role::Judged,
            weight: 1.0,
        };
        let spec = TestSpec::new(set.alpha, 0.05, steps, vec![metric]).ok()?;
        Some(Self {
            state: TestState::start(&spec, &[frozen]),
            spec,
            proven: 0,
            begun: false,
        })
    }

    /// ln M, towards FAIL, and ln L, towards PASS.
    pub(crate) fn evidence(&self) -> (f64, f64) {
        let report = self.state.report(&self.spec);
        let relative = report.metrics.first().and_then(|metric| metric.relative);
        (report.ln_m, relative.map_or(0.0, |strand| strand.ln_pass))
    }

    fn is_proven(&self) -> bool {
        self.begun && self.state.decision(&self.spec) == Decision::Pass
    }
}

impl Rule for Serin {
    fn begin_step(&mut self, step: StepInfo) {
        self.proven = self.proven();
        self.begun = true;
        self.state.begin_step(step);
    }

    fn tick(&mut self, arms: &Arms, _seconds: f64) -> bool {
        matches!(self.state.observe(&self.spec, [*arms]), Decision::Fail(_))
    }

    fn proven(&self) -> u32 {
        self.proven + u32::from(self.is_proven())
    }
}

/// Keeps the first tick of each step from a rule.
pub(crate) struct FirstDropped<R> {
    rule: R,
    first: bool,
}

impl<R: Rule> FirstDropped<R> {
    pub(crate) fn new(rule: R) -> Self {
        Self { rule, first: true }
    }
}

impl<R: Rule> Rule for FirstDropped<R> {
    fn begin_step(&mut self, step: StepInfo) {
        self.first = true;
        self.rule.begin_step(step);
    }

    fn tick(&mut self, arms: &Arms, seconds: f64) -> bool {
        !std::mem::take(&mut self.first) && self.rule.tick(arms, seconds)
    }

    fn proven(&self) -> u32 {
        self.rule.proven()
    }
}

/// Gives a rule that asks once a minute the counts of its minute.
pub(crate) struct EachMinute<R> {
    rule: R,
    seconds: f64,
    minute: Arms,
}

pub(crate) trait MinuteRule {
    fn minute(&mut self, arms: &Arms) -> bool;
}

impl<R: MinuteRule> EachMinute<R> {
    pub(crate) fn new(rule: R) -> Self {
        Self {
            rule,
            seconds: 0.0,
            minute: Arms::default(),
        }
    }
}

impl<R: MinuteRule> Rule for EachMinute<R> {
    fn tick(&mut self, arms: &Arms, seconds: f64) -> bool {
        self.minute.add(arms);
        self.seconds += seconds;
        if self.seconds < 60.0 {
            return false;
        }
        self.seconds = 0.0;
        self.rule.minute(&std::mem::take(&mut self.minute))
    }
}

/// The success rate under a peer's rule.
pub(crate) struct Peer<R>(pub(crate) R);

impl<R: peers::MinuteRule> MinuteRule for Peer<R> {
    fn minute(&mut self, arms: &Arms) -> bool {
        let success = Measurement {
            calls: arms.canary,
            allowed: ALLOWED,
        };
        self.0.minute(&[success])
    }
}

pub(crate) struct Kayenta {
    /// Minutes between two judgements; there are three.
    every: u32,
    minutes: u32,
    canary: Vec<f64>,
    stable: Vec<f64>,
}

impl MinuteRule for Kayenta {
    fn minute(&mut self, arms: &Arms) -> bool {
        self.minutes += 1;
        for (points, tally) in [(&mut self.canary, arms.canary), (&mut self.stable, arms.stable)] {
            if tally.total > 0 && self.minutes <= 3 * self.every {
                points.push(tally.rate());
            }
        }
        self.minutes <= 3 * self.every && self.minutes.is_multiple_of(self.every) && self.is_high()
    }
}

impl Kayenta {
    pub(crate) fn in_rollout_of(seconds: f64) -> Self {
        Self {
            every: if seconds >= 3.0 * 3600.0 { 60 } else { 10 },
            minutes: 0,
            canary: Vec::new(),
            stable: Vec::new(),
        }
    }

    fn is_high(&self) -> bool {
        let (n, m) = (real(self.canary.len()), real(self.stable.len()));
        let each = self.canary.iter();
        let mut shifts: Vec<f64> = each.flat_map(|c| self.stable.iter().map(move |s| c - s)).collect();
        shifts.sort_by(f64::total_cmp);
        // The interval's ends are order statistics of the shifts, by the normal approximation at 98 %.
        let rank = n * m / 2.0 - 2.326 * (n * m * (n + m + 1.0) / 12.0).sqrt();
        let at = |rank: f64| shifts.get(position(rank)).copied();
        match (at(rank), at(n * m / 2.0)) {
            (Some(low), Some(estimate)) if rank >= 0.0 => low > 0.25 * estimate.abs(),
            _ => false,
        }
    }
}

#[derive(Default)]
pub(crate) struct ZTest {
    all: Arms,
}

impl Rule for ZTest {
    fn tick(&mut self, arms: &Arms, _seconds: f64) -> bool {
        self.all.add(arms);
        let (c, s) = (self.all.canary, self.all.stable);
        if c.total == 0 || s.total == 0 {
            return false;
        }
        let mut both = c;
        both.add(&s);
        let p = both.rate();
        let reciprocals = count(c.total).recip() + count(s.total).recip();
        let error = (p * (1.0 - p) * reciprocals).sqrt();
        error > 0.0 && (c.rate() - s.rate()) / error > 2.326
    }
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
pub(crate) fn count(n: u64) -> f64 {
    n as f64
}

fn real(n: usize) -> f64 {
    u64::try_from(n).map_or(f64::MAX, count)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rank, checked to be at least 0"
)]
fn position(rank: f64) -> usize {
    rank.max(0.0) as usize
}
