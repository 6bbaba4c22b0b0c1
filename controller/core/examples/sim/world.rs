//! Calls and failures at random: independent ones, or in bursts. Must not know any rule.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use rand_distr::{Binomial, Distribution, Poisson};
use serde::Serialize;
use serin_core::analysis::sequential::{Arms, BurstEstimate, Tally};

use crate::rules::count;

/// Failing calls in a row, on average, when they come in bursts.
pub(crate) const BURST: f64 = 10.0;
const STABLE_PODS: usize = 10;

/// How failing calls come together, on each pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Bursts {
    /// Each call fails by itself.
    None,
    /// In runs of geometric length along the pod's calls; a run goes on in the next tick.
    Runs,
    /// The same, but each tick is drawn anew: a run ends with its tick.
    RunsInTick,
    /// Clusters of geometric size, each at once: it brings its own calls if the tick has fewer.
    Clusters,
    /// Clusters of exactly ten, each at once.
    Tens,
}

/// What is true.
#[derive(Debug, Clone, Copy)]
pub(crate) struct World {
    pub(crate) rps: f64,
    /// Share of failing calls.
    pub(crate) canary: f64,
    pub(crate) stable: f64,
    pub(crate) bursts: Bursts,
}

/// One history of it.
pub(crate) struct Traffic {
    world: World,
    rng: SmallRng,
    canary: Chain,
    stable: [Chain; STABLE_PODS],
}

/// A pod whose calls fail in runs: a chain of two states, whose share of failing calls is exact for any traffic.
#[derive(Default, Clone, Copy)]
struct Chain {
    failing: bool,
    left: u64,
}

impl Traffic {
    pub(crate) fn new(world: World, seed: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let canary = Chain::somewhere(world.canary, &mut rng);
        let stable = std::array::from_fn(|_| Chain::somewhere(world.stable, &mut rng));
        Self {
            world,
            rng,
            canary,
            stable,
        }
    }

    /// What both arms do in one tick at the canary's share of the calls.
    pub(crate) fn tick(&mut self, weight: f64, seconds: f64) -> Arms {
        let calls = self.world.rps * seconds;
        let canary_calls = self.arrivals(calls * weight);
        let World { canary, bursts, .. } = self.world;
        let canary = self.canary.calls(canary_calls, canary, bursts, &mut self.rng);
        let stable = if bursts == Bursts::None {
            let stable_calls = self.arrivals(calls * (1.0 - weight));
            independent(stable_calls, self.world.stable, &mut self.rng)
        } else {
            self.pods(calls * (1.0 - weight)).iter().fold(Tally::default(), sum)
        };
        Arms { canary, stable }
    }

    /// Exactly so many calls of each arm.
    pub(crate) fn exactly(&mut self, canary: u64, stable: u64) -> Arms {
        Arms {
            canary: independent(canary, self.world.canary, &mut self.rng),
            stable: independent(stable, self.world.stable, &mut self.rng),
        }
    }

    /// The burst estimate and stable's calls over `ticks` before the rollout.
    pub(crate) fn baseline(&mut self, ticks: u32, seconds: f64) -> (BurstEstimate, Tally) {
        let (mut estimate, mut all) = (BurstEstimate::default(), Tally::default());
        for _ in 0..ticks {
            let pods = self.pods(self.world.rps * seconds);
            estimate.tick(&pods);
            all = pods.iter().fold(all, sum);
        }
        (estimate, all)
    }

    fn pods(&mut self, calls: f64) -> [Tally; STABLE_PODS] {
        let mut pods = [Tally::default(); STABLE_PODS];
        for (i, pod) in pods.iter_mut().enumerate() {
            let total = self.arrivals(calls / 10.0);
            if let Some(chain) = self.stable.get_mut(i) {
                *pod = chain.calls(total, self.world.stable, self.world.bursts, &mut self.rng);
            }
        }
        pods
    }

    fn arrivals(&mut self, mean: f64) -> u64 {
        poisson(mean, &mut self.rng)
    }
}

impl Chain {
    /// As it is found when one begins to watch. The first call begins a run, which turns `failing` around.
    fn somewhere(rate: f64, rng: &mut SmallRng) -> Self {
        Self {
            failing: !rng.random_bool(rate),
            left: 0,
        }
    }

    fn calls(&mut self, total: u64, rate: f64, bursts: Bursts, rng: &mut SmallRng) -> Tally {
        match bursts {
            Bursts::None => independent(total, rate, rng),
            Bursts::Runs => self.runs(total, rate, rng),
            Bursts::RunsInTick => Self::somewhere(rate, rng).runs(total, rate, rng),
            Bursts::Clusters | Bursts::Tens => {
                let clusters = poisson(count(total) * rate / BURST, rng);
                let size = |rng: &mut SmallRng| {
                    if bursts == Bursts::Tens {
                        10
                    } else {
                        geometric(BURST, rng)
                    }
                };
                let bad = (0..clusters).map(|_| size(rng)).sum();
                Tally::new(bad, total.max(bad))
            }
        }
    }

    fn runs(&mut self, total: u64, rate: f64, rng: &mut SmallRng) -> Tally {
        let (mut bad, mut open) = (0, total);
        while open > 0 {
            if self.left == 0 {
                self.failing = !self.failing;
                let fine = BURST * (1.0 - rate) / rate;
                self.left = geometric(if self.failing { BURST } else { fine }, rng);
            }
            let run = self.left.min(open);
            self.left -= run;
            open -= run;
            if self.failing {
                bad += run;
            }
        }
        Tally::new(bad, total)
    }
}

fn independent(total: u64, rate: f64, rng: &mut SmallRng) -> Tally {
    let bad = Binomial::new(total, rate).map_or(0, |binomial| binomial.sample(rng));
    Tally::new(bad, total)
}

fn poisson(mean: f64, rng: &mut SmallRng) -> u64 {
    Poisson::new(mean).map_or(0, |poisson| whole(poisson.sample(rng)))
}

/// At least 1.
fn geometric(mean: f64, rng: &mut SmallRng) -> u64 {
    let uniform: f64 = rng.random_range(f64::MIN_POSITIVE..1.0);
    1 + whole(uniform.ln() / (-mean.recip()).ln_1p())
}

fn sum(mut all: Tally, pod: &Tally) -> Tally {
    all.add(pod);
    all
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "draws of counts, far below 2^52"
)]
fn whole(x: f64) -> u64 {
    x as u64
}
