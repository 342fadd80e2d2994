//! Scores of good pictures that a head has not seen, and how rare a score is among them.

use serde::{Deserialize, Serialize};

/// Share of the scores that the tail is fitted to.
const TAIL_SHARE: usize = 5;
/// Fewest scores that the tail is fitted to, where there are as many.
const TAIL_LEAST: usize = 3;
/// With fewer excesses the shape of the tail is noise; it is then exponential.
const SHAPE_LEAST: usize = 20;
/// Heaviest tail that is believed.
const HEAVIEST: f64 = 0.5;
/// Excesses that are missing to [`TAIL_LEAST`] are taken to be as large as this, in the unit of the scores (logits), unless those that are there are
/// larger: one or two scores do not say how little those of good pictures differ (docs/threshold.md).
const USUAL_EXCESS: f64 = 1.0;
/// Least scale of the tail, in the unit of the scores (deviations): identical scores must not make every other score infinitely rare.
const LEAST_SCALE: f64 = 0.05;

/// Scores of good pictures, ascending, with a model of what lies beyond the highest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "Vec<f64>", into = "Vec<f64>")]
pub struct GoodScores {
    ascending: Vec<f64>,
    /// Generalised Pareto distribution of the excess over `from`.
    from: f64,
    scale: f64,
    shape: f64,
}

impl From<Vec<f64>> for GoodScores {
    fn from(mut scores: Vec<f64>) -> Self {
        scores.sort_unstable_by(f64::total_cmp);
        let n = scores.len();
        let tail = (n / TAIL_SHARE).max(TAIL_LEAST).min(n.saturating_sub(1));
        let from = n.checked_sub(1 + tail).map_or(0.0, |i| scores[i]);
        let excess: Vec<f64> = scores[n - tail..].iter().map(|s| s - from).collect();
        let (scale, shape) = fit_tail(&excess);
        Self { ascending: scores, from, scale, shape }
    }
}

impl From<GoodScores> for Vec<f64> {
    fn from(scores: GoodScores) -> Self {
        scores.ascending
    }
}

/// Scale and shape of a generalised Pareto distribution by probability-weighted moments (Hosking and Wallis, 1987); the
/// shape is kept within 0 (exponential) and [`HEAVIEST`]. `excess` ascends.
fn fit_tail(excess: &[f64]) -> (f64, f64) {
    let missing = TAIL_LEAST.saturating_sub(excess.len()) as f64;
    let q = excess.len() as f64;
    let sum = excess.iter().sum::<f64>();
    let mean = (sum / q.max(1.0)).max((sum + missing * USUAL_EXCESS) / (q + missing));
    let mut shape = 0.0;
    if excess.len() >= SHAPE_LEAST {
        let weighted =
            excess.iter().enumerate().map(|(i, y)| y * (1.0 - (i as f64 + 0.65) / q)).sum::<f64>() / q;
        if mean > 2.0 * weighted {
            shape = (2.0 - mean / (mean - 2.0 * weighted)).clamp(0.0, HEAVIEST);
        }
    }
    ((mean * (1.0 - shape)).max(LEAST_SCALE), shape)
}

impl GoodScores {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ascending.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ascending.is_empty()
    }

    /// The scores, ascending.
    #[must_use]
    pub fn ascending(&self) -> &[f64] {
        &self.ascending
    }

    /// How rare a score is: `-log10` of a bound on the probability that a good picture scores as high; 2 means one in 100.
    ///
    /// Up to `log10(n + 1)` this is proven (split conformal prediction, docs/threshold.md): the chance that a new
    /// exchangeable score's rarity exceeds `r` is at most `10^-r`. The `j`-th of `n` ascending scores has the rarity of
    /// `(n - j + 2) / (n + 1)`, between them it is interpolated, which never says more than their ranks do. Beyond the
    /// highest score it goes on along the fitted tail: an estimate. Below the lowest it falls, linearly, below 0: such
    /// scores are still to be ranked.
    #[must_use]
    pub fn rarity(&self, score: f64) -> f64 {
        let n = self.ascending.len();
        let (Some(&lowest), Some(&highest)) = (self.ascending.first(), self.ascending.last()) else {
            return 0.0;
        };
        if score.is_nan() {
            return f64::NAN;
        }
        if score > highest {
            // Ranks prove log10(n + 1) anywhere above the highest score, which itself has the rarity of 2 / (n + 1): the
            // factor of two is made up for along the tail.
            let beyond = self.tail(score) - self.tail(highest);
            return self.of_rank(n) + beyond + beyond.min(std::f64::consts::LOG10_2);
        }
        if score < lowest {
            return (score - lowest) / self.scale;
        }
        let above = self.ascending.partition_point(|s| *s <= score);
        let (j, low) = (above, self.ascending[above - 1]);
        if score <= low {
            // Equal scores all count as high as this one.
            return self.of_rank(self.ascending.partition_point(|s| *s < score) + 1);
        }
        let Some(&high) = self.ascending.get(above) else { return self.of_rank(n) };
        let t = (score - low) / (high - low);
        self.of_rank(j) + t * (self.of_rank(j + 1) - self.of_rank(j))
    }

    /// Rarity of the `j`-th score, counted from 1.
    pub(crate) fn of_rank(&self, j: usize) -> f64 {
        let n = self.ascending.len() as f64;
        -((n - j as f64 + 2.0) / (n + 1.0)).min(1.0).log10()
    }

    /// Makes the tail at least as long as that of `all`, if there are too few scores to tell it.
    pub(super) fn lengthen(&mut self, all: &Self) {
        if self.len() <= TAIL_LEAST {
            self.scale = self.scale.max(all.scale);
        }
    }

    /// Where the tail begins, its scale and its shape.
    pub(crate) fn tail_fit(&self) -> [f64; 3] {
        [self.from, self.scale, self.shape]
    }

    /// `-log10` of the share of the tail beyond a score.
    fn tail(&self, score: f64) -> f64 {
        let y = (score - self.from).max(0.0) / self.scale;
        if self.shape == 0.0 {
            y / std::f64::consts::LN_10
        } else {
            (self.shape * y).ln_1p() / self.shape / std::f64::consts::LN_10
        }
    }

    /// The score of a rarity: the inverse of [`Self::rarity`], by bisection.
    #[must_use]
    pub fn score_at(&self, rarity: f64) -> f64 {
        let (Some(&first), Some(&last)) = (self.ascending.first(), self.ascending.last()) else { return 0.0 };
        let mut step = self.scale.max(last - first);
        let (mut low, mut high) = (first - step, last);
        while self.rarity(high) < rarity && step.is_finite() {
            high += step;
            step *= 2.0;
        }
        step = self.scale.max(last - first);
        while self.rarity(low) > rarity && step.is_finite() {
            low -= step;
            step *= 2.0;
        }
        for _ in 0..200 {
            let middle = 0.5 * (low + high);
            if self.rarity(middle) > rarity {
                high = middle;
            } else {
                low = middle;
            }
        }
        low
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn rarity_is_never_more_than_ranks_prove() {
        let scores = GoodScores::from(vec![3.0, 1.0, 2.0, 2.0, 5.0]);
        let n = scores.len() as f64;
        for i in 0..=500 {
            let s = f64::from(i) * 0.01;
            let above = scores.ascending().iter().filter(|r| **r >= s).count() as f64;
            let proven = -((1.0 + above) / (n + 1.0)).log10();
            assert!(scores.rarity(s) <= proven + 1e-12, "score {s}");
        }
        assert_eq!(scores.rarity(5.0), -(2.0f64 / 6.0).log10());
        assert!(scores.rarity(0.0) < 0.0 && scores.rarity(6.0) > scores.rarity(5.0));
    }

    #[test]
    fn rarity_rises_and_has_an_inverse() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for n in [1usize, 2, 6, 40, 300] {
            let scores = GoodScores::from((0..n).map(|_| rng.random::<f64>().powi(3)).collect::<Vec<_>>());
            let grid: Vec<f64> = (-200..800).map(|i| scores.rarity(f64::from(i) * 0.005)).collect();
            assert!(grid.windows(2).all(|w| w[1] >= w[0]), "{n} scores");
            for r in [-0.5, 0.1, 1.0, 2.0, 4.0] {
                assert!((scores.rarity(scores.score_at(r)) - r).abs() < 1e-6, "{n} scores, rarity {r}");
            }
        }
        assert_eq!(GoodScores::from(vec![]).rarity(1.0), 0.0);
        let same = GoodScores::from(vec![1.0; 7]);
        assert!(same.rarity(1.0).is_finite() && same.rarity(2.0).is_finite() && same.rarity(0.0).is_finite());
    }

    /// One or two scores that happen to lie near each other do not make others rare.
    #[test]
    fn a_tail_of_few_scores_is_about_the_usual() {
        for (scores, scale) in [
            (vec![4.0], USUAL_EXCESS),
            (vec![4.0, 4.3], (0.3 + 2.0 * USUAL_EXCESS) / 3.0),
            (vec![4.0, 4.3, 4.6], (0.3 + 0.6 + USUAL_EXCESS) / 3.0),
            (vec![4.0, 4.3, 4.6, 4.9], (0.3 + 0.6 + 0.9) / 3.0),
            (vec![4.0, 7.0], 3.0),
        ] {
            let scores = GoodScores::from(scores);
            assert!((scores.scale - scale).abs() < 1e-12, "{scores:?}");
            assert!(scores.rarity(5.0) < 1.5, "{scores:?}");
        }
    }

    /// The tail of exponential and of heavy samples is found again.
    #[test]
    fn tail_is_fitted() {
        let quantile = |shape: f64, i: usize| {
            let p = (i as f64 + 0.5) / 2000.0;
            if shape == 0.0 { -(1.0 - p).ln() } else { ((1.0 - p).powf(-shape) - 1.0) / shape }
        };
        for shape in [0.0, 0.25] {
            let scores = GoodScores::from((0..2000).map(|i| quantile(shape, i)).collect::<Vec<_>>());
            assert!((scores.shape - shape).abs() < 0.05, "{shape}: {}", scores.shape);
            let rare = if shape == 0.0 { 1e4f64.ln() } else { (1e4f64.powf(shape) - 1.0) / shape };
            let found = scores.rarity(rare);
            assert!((3.6..4.1).contains(&found), "{shape}: {found}, on the safe side of 4");
        }
    }

    /// The promise itself: of new scores drawn as the others, a share of at most `10^-r` has a rarity above `r`.
    #[test]
    fn promise_holds_over_many_draws() {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        for n in [9usize, 30, 99] {
            let (draws, mut over) = (20_000, [0u32; 2]);
            let rates = [0.1f64, 0.25];
            for _ in 0..draws {
                let mut draw = || -(1.0 - rng.random::<f64>()).ln();
                let scores = GoodScores::from((0..n).map(|_| draw()).collect::<Vec<_>>());
                let rarity = scores.rarity(draw());
                over.iter_mut().zip(rates).for_each(|(o, rate)| *o += u32::from(rarity > -rate.log10()));
            }
            for (o, rate) in over.iter().zip(rates) {
                let (seen, noise) =
                    (f64::from(*o) / f64::from(draws), 4.0 * (rate * (1.0 - rate) / f64::from(draws)).sqrt());
                assert!(seen <= rate + noise, "{n} scores: {seen} above {rate}");
                assert!(
                    seen >= rate - 2.0 / (n as f64 + 1.0) - noise,
                    "{n} scores: {seen} is far below {rate}"
                );
            }
        }
    }
}
