//! Scores and labels sorted once; ROC AUC, average precision and the best F1 in one sweep each.

use std::ops::Range;

use rayon::slice::ParallelSliceMut;
use serde::Serialize;

use crate::{Error, Result};

/// The best F1 and where it is reached.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct F1Max {
    /// Harmonic mean of precision and recall, 0 to 1.
    pub f1: f64,
    /// Items with a score `>=` this are called defective. One of the scores given (-0.0 is given as 0.0); of
    /// several thresholds with the same F1 the lowest, which finds the most defects.
    pub threshold: f32,
    /// Part of the items called defective that are.
    pub precision: f64,
    /// Part of the defective items that are called so.
    pub recall: f64,
}

/// Scores of defective (positive) and good (negative) items, sorted: 4 bytes an item.
#[derive(Debug, Clone)]
pub struct RankingCurve {
    // Ascending sort keys.
    positives: Vec<u32>,
    negatives: Vec<u32>,
}

/// All items with one score, called defective together with all above them.
pub(super) struct Step {
    pub(super) key: u32,
    /// Positives at or above this score.
    pub(super) tp: usize,
    /// Negatives at or above this score.
    pub(super) fp: usize,
    /// Which positives have exactly this score, as indices in ascending order of score.
    pub(super) entering: Range<usize>,
}

impl RankingCurve {
    /// One score and label an item; `true` is defective.
    ///
    /// # Errors
    /// Lengths that differ, or a NaN score. Infinite scores are ranked.
    pub fn new(scores: &[f32], positive: &[bool]) -> Result<Self> {
        if scores.len() != positive.len() {
            return Err(Error::caller(format!(
                "labels: expected {} as there are scores, found {}",
                scores.len(),
                positive.len()
            )));
        }
        check_no_nan(scores)?;
        let count = positive.iter().filter(|&&p| p).count();
        let mut positives = Vec::with_capacity(count);
        let mut negatives = Vec::with_capacity(scores.len() - count);
        for (&score, &p) in scores.iter().zip(positive) {
            (if p { &mut positives } else { &mut negatives }).push(sort_key(score));
        }
        positives.par_sort_unstable();
        negatives.par_sort_unstable();
        Ok(Self::from_sorted(positives, negatives))
    }

    /// Both ascending keys of [`sort_key`].
    pub(super) fn from_sorted(positives: Vec<u32>, negatives: Vec<u32>) -> Self {
        Self { positives, negatives }
    }

    /// Number of defective items.
    pub fn positives(&self) -> usize {
        self.positives.len()
    }

    /// Ascending sort keys of the defective items.
    pub(super) fn positive_keys(&self) -> &[u32] {
        &self.positives
    }

    /// Number of good items.
    pub fn negatives(&self) -> usize {
        self.negatives.len()
    }

    /// Area under the ROC curve; see [`super::auroc`]. `None` without defective or without good items.
    pub fn auroc(&self) -> Option<f64> {
        self.check_classes()?;
        // Twice the pairs in the right order, ties as half a pair: whole numbers, so nothing is rounded.
        let (mut twice, mut tp, mut fp) = (0u128, 0, 0);
        for step in self.steps() {
            twice += (step.fp - fp) as u128 * (step.tp + tp) as u128;
            (tp, fp) = (step.tp, step.fp);
        }
        Some(twice as f64 / (2 * tp as u128 * fp as u128) as f64)
    }

    /// Average precision; see [`super::average_precision`]. `None` without defective or without good items.
    pub fn average_precision(&self) -> Option<f64> {
        self.check_classes()?;
        let mut sum = 0.0;
        for step in self.steps().filter(|s| !s.entering.is_empty()) {
            sum += step.entering.len() as f64 * (step.tp as f64 / (step.tp + step.fp) as f64);
        }
        Some(sum / self.positives.len() as f64)
    }

    /// The highest F1; see [`super::f1_max`]. `None` without defective or without good items.
    pub fn f1_max(&self) -> Option<F1Max> {
        self.check_classes()?;
        let positives = self.positives.len();
        // F1 = 2 tp / (called + positives); compared as fractions of whole numbers, so that equal is equal.
        let fraction = |s: &Step| (s.tp as u128, (s.tp + s.fp + positives) as u128);
        let best = self.steps().reduce(|best, step| {
            let ((a, b), (c, d)) = (fraction(&best), fraction(&step));
            if c * b >= a * d { step } else { best }
        })?;
        let (tp, whole) = fraction(&best);
        Some(F1Max {
            f1: (2 * tp) as f64 / whole as f64,
            threshold: score_of(best.key),
            precision: best.tp as f64 / (best.tp + best.fp) as f64,
            recall: best.tp as f64 / positives as f64,
        })
    }

    /// The highest part of the defective items that a threshold finds while calling at most a share `limit` of the good ones defective; equal
    /// scores are called together. 0 where not one can be found so. `None` without defective or without good items.
    pub fn recall_at(&self, limit: f64) -> Option<f64> {
        self.check_classes()?;
        let allowed = limit * self.negatives.len() as f64;
        let tp = self.steps().take_while(|s| s.fp as f64 <= allowed).last().map_or(0, |s| s.tp);
        Some(tp as f64 / self.positives.len() as f64)
    }

    fn check_classes(&self) -> Option<()> {
        (!self.positives.is_empty() && !self.negatives.is_empty()).then_some(())
    }

    /// One step a distinct score, highest first.
    pub(super) fn steps(&self) -> impl Iterator<Item = Step> + '_ {
        let (mut p, mut n) = (self.positives.len(), self.negatives.len());
        std::iter::from_fn(move || {
            let top = |keys: &[u32], len: usize| len.checked_sub(1).map(|i| keys[i]);
            let key = top(&self.positives, p).max(top(&self.negatives, n))?;
            let before = p;
            while top(&self.positives, p) == Some(key) {
                p -= 1;
            }
            while top(&self.negatives, n) == Some(key) {
                n -= 1;
            }
            let (tp, fp) = (self.positives.len() - p, self.negatives.len() - n);
            Some(Step { key, tp, fp, entering: p..before })
        })
    }
}

/// Scores must not be NaN: it has no rank.
pub(super) fn check_no_nan(scores: &[f32]) -> Result<()> {
    match scores.iter().position(|s| s.is_nan()) {
        Some(i) => Err(Error::caller(format!("score {i} of {}: expected a number, found NaN", scores.len()))),
        None => Ok(()),
    }
}

/// A whole number that orders as the scores do; the two zeros are one.
pub(super) fn sort_key(score: f32) -> u32 {
    let bits = (score + 0.0).to_bits(); // -0.0 + 0.0 = 0.0
    if bits >> 31 == 1 { !bits } else { bits | 1 << 31 }
}

/// The score that [`sort_key`] was given.
fn score_of(key: u32) -> f32 {
    f32::from_bits(if key >> 31 == 1 { key ^ 1 << 31 } else { !key })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_order_as_scores_and_come_back() {
        let rising = [
            f32::NEG_INFINITY,
            -2.5,
            -f32::MIN_POSITIVE,
            -1e-45,
            0.0,
            1e-45,
            0.5,
            1.0,
            f32::MAX,
            f32::INFINITY,
        ];
        for pair in rising.windows(2) {
            assert!(sort_key(pair[0]) < sort_key(pair[1]), "{pair:?}");
        }
        for score in rising {
            assert_eq!(score_of(sort_key(score)).to_bits(), score.to_bits());
        }
        assert_eq!(sort_key(-0.0), sort_key(0.0));
    }
}
