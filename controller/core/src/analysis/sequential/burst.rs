//! How much failures come in clusters: the overdispersion φ, from stable's pods before the rollout. Must not know the
//! canary, and is not to be asked once the test runs.
//!
//! ```text
//! φ̂ = max(1, (Σ(f_i − n_i·p̂)² + 5) / (Σ n_i·p̂·(1 − n_i/N) + 5))
//! ```
//!
//! over stable's pods i within each tick, with p̂ and N of that tick: the Pearson statistic of a quasi-likelihood, drawn
//! towards 1 while little has been seen. An outage that meets all pods alike does not count as a burst.
//!
//! What is frozen for a test is larger than φ̂, for two reasons that simulation shows at low traffic:
//! - A burst that is longer than a tick leaves each tick looking tame: ten failures in a row on a pod of one call in two
//!   seconds last a whole tick of 20 s. So the same sums are also formed over blocks of 4 and of 16 ticks, and the largest
//!   counts.
//! - φ describes the variance; a bet of 50 feels the tail. For bursts of geometric length with mean b (φ = 2b − 1) the
//!   expectation of ρ^(X/φ) over one burst X is bounded as the test needs only from about twice that φ on.
//!
//! A larger φ never costs validity (Jensen), only requests, and those only where there are bursts.
//!
//! What was not seen can't be allowed for: at 10 calls a second and 99.9 % it takes two to four hours of stable's pods.

use super::{Tally, real};

/// What is added to both sums, in squared calls: keeps φ̂ near 1 until a handful of failures has been seen.
const SHRINKAGE: f64 = 5.0;
/// Ticks in a block.
const BLOCKS: [u32; 3] = [1, 4, 16];
/// How much of what exceeds 1 is frozen: see the module's head.
const TAIL: f64 = 2.0;

/// The sums of the estimate.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BurstEstimate {
    scales: [Scale; 3],
}

#[derive(Debug, Clone, PartialEq, Default)]
struct Scale {
    observed: f64,
    expected: f64,
    /// The block that is not full yet.
    ticks: u32,
    pods: Vec<Tally>,
}

impl BurstEstimate {
    /// One tick: what each of stable's pods did in it. A pod keeps its position from tick to tick, with a tally of nothing
    /// while it is away; new ones are put at the end.
    pub fn tick(&mut self, pods: &[Tally]) {
        for (scale, ticks) in self.scales.iter_mut().zip(BLOCKS) {
            scale.tick(pods, ticks);
        }
    }

    /// φ̂ of single ticks, at least 1; 1 before anything was seen.
    pub fn per_tick(&self) -> f64 {
        self.scales.first().map_or(1.0, Scale::phi).max(1.0)
    }

    /// The φ to freeze for a test: 1 + 2·(the largest φ̂ of any block − 1). At least 1.
    pub fn phi(&self) -> f64 {
        let largest = self.scales.iter().map(Scale::phi).fold(1.0, f64::max);
        1.0 + TAIL * (largest - 1.0)
    }
}

impl Scale {
    fn tick(&mut self, pods: &[Tally], ticks: u32) {
        if self.pods.len() < pods.len() {
            self.pods.resize(pods.len(), Tally::default());
        }
        for (all, pod) in self.pods.iter_mut().zip(pods) {
            all.add(&Tally::new(pod.bad.min(pod.total), pod.total));
        }
        self.ticks += 1;
        if self.ticks >= ticks {
            self.close();
        }
    }

    fn close(&mut self) {
        let mut all = Tally::default();
        for pod in &self.pods {
            all.add(pod);
        }
        let (rate, calls) = (all.rate(), real(all.total).max(1.0));
        for pod in &self.pods {
            let n = real(pod.total);
            self.observed += (real(pod.bad) - n * rate).powi(2);
            self.expected += n * rate * (1.0 - n / calls);
        }
        self.pods.fill(Tally::default());
        self.ticks = 0;
    }

    fn phi(&self) -> f64 {
        (self.observed + SHRINKAGE) / (self.expected + SHRINKAGE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_one_without_failures_or_calls() {
        let mut estimate = BurstEstimate::default();
        estimate.tick(&[]);
        estimate.tick(&[Tally::new(0, 500), Tally::new(0, 0)]);
        assert!((estimate.phi() - 1.0).abs() < f64::EPSILON);
    }

    #[test]
    fn follows_the_formula() {
        let mut estimate = BurstEstimate::default();
        estimate.tick(&[Tally::new(10, 100), Tally::new(0, 100)]);
        // p̂ = 0.05, N = 200: (25 + 25 + 5)/(2·100·0.05·0.5 + 5)
        assert!((estimate.per_tick() - 5.5).abs() < 1e-12, "{}", estimate.per_tick());
        assert!((estimate.phi() - 10.0).abs() < 1e-12, "{}", estimate.phi());
    }

    #[test]
    fn an_outage_of_all_pods_alike_is_no_burst() {
        let mut estimate = BurstEstimate::default();
        for bad in [0, 50, 0, 100] {
            estimate.tick(&[Tally::new(bad, 100); 4]);
        }
        assert!((estimate.phi() - 1.0).abs() < f64::EPSILON);
    }

    #[test]
    fn failures_in_tens_give_about_ten() {
        let mut estimate = BurstEstimate::default();
        for tick in 0..200u64 {
            let pods: Vec<_> = (0..10u64)
                .map(|pod| Tally::new(if pod == tick % 10 { 10 } else { 0 }, 1_000))
                .collect();
            estimate.tick(&pods);
        }
        assert!((9.0..11.0).contains(&estimate.per_tick()), "{}", estimate.per_tick());
        assert!(estimate.phi() >= estimate.per_tick());
    }

    #[test]
    fn sees_a_burst_that_is_longer_than_a_tick() {
        let mut estimate = BurstEstimate::default();
        // One failing call a tick, ten in a row on a pod: within a tick no more than chance.
        for tick in 0..3_200usize {
            let mut pods = [Tally::new(0, 20); 10];
            if tick % 40 < 10 {
                pods[tick / 40 % 10].bad = 1;
            }
            estimate.tick(&pods);
        }
        assert!(estimate.per_tick() < 1.1, "{estimate:?}");
        assert!(estimate.phi() > 5.0, "{}", estimate.phi());
    }
}
