//! Which false-reject rates a number of good pictures can support.

use serde::Serialize;

use crate::calibrate::{proven_rate, proves};
use crate::settings::Folds;
use crate::train::calibration_counts;
use crate::words::percent;

/// Rates that are asked for on production lines.
const RATES: [f64; 6] = [0.1, 0.05, 0.02, 0.01, 0.005, 0.001];

/// A wanted false-reject rate and what it needs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct WantedRate {
    /// The wanted share of good parts rejected.
    pub rate: f64,
    /// Distinct good pictures that it needs.
    pub pictures: usize,
    /// How many more than there are.
    pub more: usize,
}

/// What the count of good pictures supports.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Support {
    /// Good pictures that count: readable, and each picture once.
    pub pictures: usize,
    /// The finest rate that training proves; 1 where it proves nothing.
    pub finest_rate: f64,
    /// Rates often wanted.
    pub wanted: Vec<WantedRate>,
}

/// Fewest good pictures with which a training proves a rate.
#[must_use]
pub fn pictures_for(rate: f64, folds: Folds) -> usize {
    let proves = |pictures: usize| proves(&calibration_counts(pictures, folds, rate), rate);
    let (mut few, mut enough) = (0, 1);
    while !proves(enough) {
        (few, enough) = (enough, 2 * enough);
    }
    while enough - few > 1 {
        let middle = few + (enough - few) / 2;
        if proves(middle) { enough = middle } else { few = middle }
    }
    enough
}

impl Support {
    /// Of so many distinct good pictures, in a training for a false-reject rate.
    #[must_use]
    pub fn of(pictures: usize, folds: Folds, false_reject_rate: f64) -> Self {
        let wanted = |&rate: &f64| {
            let needed = pictures_for(rate, folds);
            WantedRate { rate, pictures: needed, more: needed.saturating_sub(pictures) }
        };
        Self {
            pictures,
            finest_rate: proven_rate(&calibration_counts(pictures, folds, false_reject_rate), 0.0),
            wanted: RATES.iter().map(wanted).collect(),
        }
    }

    /// In plain words.
    #[must_use]
    pub fn text(&self) -> String {
        let finest = format!(
            "{} distinct good pictures prove a false-reject rate of {} at the finest",
            self.pictures,
            percent(self.finest_rate)
        );
        match self.wanted.iter().find(|w| w.rate == 0.01).filter(|w| w.more > 0) {
            Some(w) => format!("{finest}; 1 % needs {} more", w.more),
            None => finest,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As docs/threshold.md has it, and as a model says that was trained on so many.
    #[test]
    fn counts_that_rates_need() {
        for (rate, needed) in [(0.1, 42), (0.05, 87), (0.02, 222), (0.01, 447)] {
            assert_eq!(pictures_for(rate, Folds::Fixed(3)), needed, "{rate}");
            // The rule has more folds, which prove less, but not where that costs the proof of the wanted rate.
            assert_eq!(pictures_for(rate, Folds::Auto), needed, "{rate}");
        }
        // The highest of the kept out 15 % of the pictures: 99 of 654.
        assert_eq!(pictures_for(0.01, Folds::Fixed(1)), 654);
        let s = Support::of(31, Folds::Fixed(3), 0.01);
        // Folds of 11, 10 and 10, of which two must agree.
        assert!((s.finest_rate - (1.0 / 12.0 + 2.0 / 11.0) / 2.0).abs() < 1e-12);
        assert_eq!(
            s.text(),
            "31 distinct good pictures prove a false-reject rate of 13 % at the finest; 1 % needs 416 more"
        );
        assert_eq!(s.wanted[3], WantedRate { rate: 0.01, pictures: 447, more: 416 });
        assert!(Support::of(447, Folds::Auto, 0.01).text().ends_with("of 1 % at the finest"));
        // Folds of 7 and four of 6, of which three must agree.
        let five = Support::of(31, Folds::Auto, 0.01).finest_rate;
        assert!((five - (1.0 / 8.0 + 4.0 / 7.0) / 3.0).abs() < 1e-12);
        assert_eq!(Support::of(1, Folds::Auto, 0.01).finest_rate, 1.0);
        let finest = |rate| percent(Support::of(320, Folds::Auto, rate).finest_rate);
        assert_eq!((finest(0.01), finest(0.02)), ("2.6 %".into(), "1.4 %".into()));
    }
}
