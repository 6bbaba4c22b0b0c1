//! Calls and failures at random: independent ones, or in bursts. Must not know any rule.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use rand_distr::{Binomial, Distribution, Poisson};
use serin_core::analysis::sequential::{Arms, BurstEstimate, Tally};

/// Failing calls in a row, on average, when they come in bursts.
pub(crate) const BURST: f64 = 10.0;
const STABLE_PODS: usize = 10;

/// What is true.
#[derive(Debug, Clone, Copy)]
pub(crate) struct World {
    pub(crate) rps: f64,
    /// Share of failing calls.
    pub(crate) canary: f64,
    pub(crate) stable: f64,
    pub(crate) bursts: bool,
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
        let mut chain = |rate: f64| Chain {
            failing: rng.random_bool(rate),
            left: 0,
        };
        let canary = chain(world.canary);
        let stable = std::array::from_fn(|_| chain(world.stable));
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
        let canary = if self.world.bursts {
            self.canary.calls(canary_calls, self.world.canary, &mut self.rng)
        } else {
            self.independent(canary_calls, self.world.canary)
        };
        let stable = if self.world.bursts {
            self.pods(calls * (1.0 - weight)).iter().fold(Tally::default(), sum)
        } else {
            let stable_calls = self.arrivals(calls * (1.0 - weight));
            self.independent(stable_calls, self.world.stable)
        };
        Arms { canary, stable }
    }

    /// Exactly so many calls of each arm.
    pub(crate) fn exactly(&mut self, canary: u64, stable: u64) -> Arms {
        Arms {
            canary: self.independent(canary, self.world.canary),
            stable: self.independent(stable, self.world.stable),
        }
    }

    /// φ̂ and stable's calls over `ticks` before the rollout.
    pub(crate) fn baseline(&mut self, ticks: u32, seconds: f64) -> (f64, Tally) {
        let (mut estimate, mut all) = (BurstEstimate::default(), Tally::default());
        for _ in 0..ticks {
            let pods = self.pods(self.world.rps * seconds);
            estimate.tick(&pods);
            all = pods.iter().fold(all, sum);
        }
        (estimate.phi(), all)
    }

    fn pods(&mut self, calls: f64) -> [Tally; STABLE_PODS] {
        let mut pods = [Tally::default(); STABLE_PODS];
        for (i, pod) in pods.iter_mut().enumerate() {
            let total = self.arrivals(calls / 10.0);
            *pod = match self.stable.get_mut(i) {
                Some(chain) if self.world.bursts => chain.calls(total, self.world.stable, &mut self.rng),
                _ => self.independent(total, self.world.stable),
            };
        }
        pods
    }

    fn arrivals(&mut self, mean: f64) -> u64 {
        Poisson::new(mean).map_or(0, |poisson| whole(poisson.sample(&mut self.rng)))
    }

    fn independent(&mut self, total: u64, rate: f64) -> Tally {
        let bad = Binomial::new(total, rate).map_or(0, |binomial| binomial.sample(&mut self.rng));
        Tally::new(bad, total)
    }
}

impl Chain {
    fn calls(&mut self, total: u64, rate: f64, rng: &mut SmallRng) -> Tally {
        let (mut bad, mut open) = (0, total);
        while open > 0 {
            if self.left == 0 {
                self.failing = !self.failing;
                let mean = if self.failing {
                    BURST
                } else {
                    BURST * (1.0 - rate) / rate
                };
                // Geometric, at least 1.
                let uniform: f64 = rng.random_range(f64::MIN_POSITIVE..1.0);
                self.left = 1 + whole(uniform.ln() / (-mean.recip()).ln_1p());
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
