//! Bets against "nothing has changed", and what they have won.
//!
//! # The rule and why its false alarms are bounded
//!
//! Each new value gets a *smoothed rank among itself and all before it*: `p = (above + u * equal) / n`, where `above` counts values that
//! are higher, `equal` those that are equal (itself among them), `n` is their number and `u` is uniform in 0..1. If the values are
//! exchangeable (any order of them was as probable), then these `p` are independent and uniform in 0..1 (Vovk, Gammerman and Shafer 2005,
//! "Algorithmic learning in a random world", theorem 8.1). So against a new `p` nobody can have a game that wins in the mean: a stake on
//! the density `f` with `integral of f over 0..1 <= 1` becomes `f(p)` times itself, at most 1 in expectation whatever came before.
//!
//! The starting capital of 1 is divided, once and for ever, among the games (density, first value that is bet on). A game waits, its part
//! untouched, until its value comes, then stakes all it has on every value. A sum of such games is a non-negative supermartingale that
//! begins at 1, so by Ville's inequality (1939) **the probability that it ever reaches `1 / level` is at most `level`**: not at one look, but
//! over all values there will ever be.
//!
//! Games that begin late are why a change after a long quiet time is found about as soon as one after a short: a single game that begins
//! at the first value has lost nearly everything by then. The part of those that begin at value `k` is `1 / (1 + ln k) - 1 / (1 + ln (k + 1))`,
//! which adds up to 1 and falls only a little faster than `1 / k`.

/// Densities `k p^(k - 1)` that are bet on, of `p` (values too high) and of `1 - p` (values too low).
const POWERS: [f64; 3] = [0.2, 0.45, 0.75];
/// A `p` this near to 0 is taken as this: the density is bounded then, and its integral only falls.
const LEAST: f64 = 1e-9;
/// What the games have won is not counted beyond this: numbers stay finite, and the alarm stands anyway.
const MOST: f64 = 1e30;

/// Towards where values moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Higher than before.
    Higher,
    /// Lower than before.
    Lower,
}

/// The capital of all games.
#[derive(Debug, Clone, PartialEq)]
pub struct Martingale {
    seen: u64,
    /// Of games that have begun, by density.
    higher: [f64; POWERS.len()],
    lower: [f64; POWERS.len()],
    highest: f64,
}

impl Default for Martingale {
    fn default() -> Self {
        Self { seen: 0, higher: [0.0; POWERS.len()], lower: [0.0; POWERS.len()], highest: 1.0 }
    }
}

/// The part of the capital of games that begin at value `k`, counted from 1, or later.
fn waiting(k: u64) -> f64 {
    1.0 / (1.0 + (k as f64).ln())
}

impl Martingale {
    /// Bets on a value's smoothed rank.
    pub fn bet(&mut self, p: f64) {
        self.seen += 1;
        let new = (waiting(self.seen) - waiting(self.seen + 1)) / (2 * POWERS.len()) as f64;
        let play = |capital: &mut f64, power: f64, p: f64| {
            let density = power * p.clamp(LEAST, 1.0).powf(power - 1.0);
            *capital = ((*capital + new) * density).min(MOST);
        };
        for (i, power) in POWERS.into_iter().enumerate() {
            play(&mut self.higher[i], power, p);
            play(&mut self.lower[i], power, 1.0 - p);
        }
        self.highest = self.highest.max(self.capital());
    }

    /// The capital now; 1 at the beginning.
    #[must_use]
    pub fn capital(&self) -> f64 {
        self.higher.iter().chain(&self.lower).sum::<f64>() + waiting(self.seen + 1)
    }

    /// The highest it has ever been.
    #[must_use]
    pub fn highest(&self) -> f64 {
        self.highest
    }

    /// Towards where the games win that have won most.
    #[must_use]
    pub fn direction(&self) -> Direction {
        if self.higher.iter().sum::<f64>() >= self.lower.iter().sum::<f64>() {
            Direction::Higher
        } else {
            Direction::Lower
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The proof's premise: no density has a mean above 1, and the parts add up to 1.
    #[test]
    fn games_are_fair_and_parts_add_up() {
        let (steps, before) = (200_000, Martingale::default());
        let mean = (0..steps).map(|i| {
            let mut after = before.clone();
            after.bet((f64::from(i) + 0.5) / f64::from(steps));
            after.capital()
        });
        let mean = mean.sum::<f64>() / f64::from(steps);
        assert!(mean <= 1.0 + 1e-9 && mean > 0.95, "{mean}");
        let begun: f64 = (1..=5000u64).map(|k| waiting(k) - waiting(k + 1)).sum();
        assert!((begun + waiting(5001) - 1.0).abs() < 1e-12);
        assert_eq!(Martingale::default().capital(), 1.0);
    }

    #[test]
    fn numbers_stay_finite_and_the_direction_is_told() {
        for (p, towards) in [(0.0, Direction::Higher), (1.0, Direction::Lower)] {
            let mut m = Martingale::default();
            (0..10_000).for_each(|_| m.bet(p));
            assert!(m.capital().is_finite() && m.highest() >= MOST / 10.0, "{m:?}");
            assert_eq!(m.direction(), towards);
        }
    }
}
