//! Scores of good pictures -> scale of each view, threshold, and what the threshold can promise.

use serde::{Deserialize, Serialize};

use crate::score::{ScoreMap, top_share_mean};
use crate::settings::Scoring;
use crate::view::{LogitScale, ViewScale};

/// Least deviation of image scores, in deviations of patch scores: with one picture, or identical ones, there is no spread
/// to go by, and scores must stay readable.
const LEAST_SHARE: f64 = 0.05;
/// Least deviation of the views' sum, in the unit of its members.
const LEAST_SUM_DEVIATION: f64 = 0.1;
/// How far above the others a good picture's score stands out.
const OUTLIER_DEVIATIONS: f64 = 5.0;
/// With so few pictures nothing can be said to stand out.
const FEWEST_FOR_OUTLIER: usize = 10;
/// Least deviation of patch logits.
const LEAST_DEVIATION: f64 = 1e-6;

/// How the threshold was found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// A picture whose score is above this is anomalous: the highest score of a good picture.
    pub threshold: f64,
    /// A pixel above this belongs to a region: the highest value in the map of a good picture.
    pub pixel_threshold: f64,
    /// Good pictures that gave the scores.
    pub pictures: usize,
    /// Whether every one of them was scored by a head that had not seen it.
    pub held_out: bool,
    /// Standard deviation of the sum of the views' scores over good pictures; scores are given in it.
    pub combined_deviation: f64,
}

impl Calibration {
    /// The false-reject rate that the highest of `n` scores supports: a new good picture, drawn as these were, is
    /// the highest of `n + 1` with probability `1 / (n + 1)` at most (exchangeability).
    ///
    /// `None` where the pictures were trained on: their scores promise nothing. With fold heads a good picture is scored
    /// by one head and a new picture by the mean of all, whose scores spread less, so the rate is an upper estimate.
    #[must_use]
    pub fn false_reject_rate(&self) -> Option<f64> {
        self.held_out.then(|| 1.0 / (self.pictures as f64 + 1.0))
    }
}

/// Mean and standard deviation; the deviation is never below `least`.
fn moments(values: impl Iterator<Item = f64> + Clone, least: f64) -> (f64, f64) {
    let n = values.clone().count().max(1) as f64;
    let mean = values.clone().sum::<f64>() / n;
    let var = values.map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0).max(1.0);
    (mean, var.sqrt().max(least))
}

/// The scale of a head from its patch logits for good pictures that it has not seen. The published score is left on its
/// own scale.
#[must_use]
pub fn logit_scale<'a>(pictures: impl Iterator<Item = &'a Vec<f32>> + Clone, scoring: Scoring) -> LogitScale {
    match scoring {
        Scoring::Sigmoid => LogitScale::IDENTITY,
        Scoring::Deviations { .. } => {
            let (mean, deviation) = moments(pictures.flatten().map(|&v| f64::from(v)), LEAST_DEVIATION);
            LogitScale { mean, deviation }
        }
    }
}

/// The scale of a view from the patch scores of its good pictures, one list a picture.
#[must_use]
pub fn view_scale(pictures: &[Vec<f32>], scoring: Scoring, heads: Vec<LogitScale>) -> ViewScale {
    let images = pictures.iter().map(|p| patches_score(p, scoring));
    let (image_mean, image_deviation) = moments(images, LEAST_SHARE);
    ViewScale { image_mean, image_deviation, heads }
}

/// The score of a picture in one view, from its patches' scores, before it is brought to scale.
#[must_use]
pub fn patches_score(patches: &[f32], scoring: Scoring) -> f64 {
    f64::from(match scoring {
        Scoring::Sigmoid => top_share_mean(patches, 0.0),
        Scoring::Deviations { top_share } => top_share_mean(patches, top_share),
    })
}

/// What a user is shown for a rank score (the sum of the views' scores in its own unit).
#[must_use]
pub fn image_score(rank_score: f64, scoring: Scoring) -> f64 {
    match scoring {
        Scoring::Sigmoid => 1.0 / (1.0 + (-rank_score).exp()),
        Scoring::Deviations { .. } => rank_score,
    }
}

/// The picture whose score stands out from all other good pictures: more than five of the others'
/// deviations above their mean. It alone sets the threshold, so a person should look at it.
#[must_use]
pub fn outlier(sums: &[f64]) -> Option<usize> {
    let highest = (0..sums.len()).max_by(|&a, &b| sums[a].total_cmp(&sums[b]))?;
    let others = sums.iter().enumerate().filter(|(i, _)| *i != highest).map(|(_, &s)| s);
    let enough = sums.len() > FEWEST_FOR_OUTLIER;
    let (mean, deviation) = moments(others, LEAST_SUM_DEVIATION);
    (enough && sums[highest] > mean + OUTLIER_DEVIATIONS * deviation).then_some(highest)
}

/// Threshold from the image scores and maps of good pictures. `scores` are sums over views before they are
/// divided by their deviation.
#[must_use]
pub fn calibrate(sums: &[f64], map_peaks: &[f64], scoring: Scoring, held_out: bool) -> Calibration {
    let combined_deviation = match scoring {
        Scoring::Sigmoid => 1.0,
        Scoring::Deviations { .. } => moments(sums.iter().copied(), LEAST_SUM_DEVIATION).1,
    };
    let highest = |v: &[f64]| v.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    Calibration {
        threshold: image_score(highest(sums) / combined_deviation, scoring),
        pixel_threshold: highest(map_peaks),
        pictures: sums.len(),
        held_out,
        combined_deviation,
    }
}

/// Largest value of a map.
#[must_use]
pub fn peak(map: &ScoreMap) -> f64 {
    map.values.iter().copied().fold(f32::NEG_INFINITY, f32::max).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threshold_is_the_highest_good_score_in_its_own_unit() {
        let c =
            calibrate(&[1.0, 3.0, 5.0], &[0.5, 0.25, 0.125], Scoring::Deviations { top_share: 0.01 }, true);
        assert!((c.combined_deviation - 2.0).abs() < 1e-12);
        assert!((c.threshold - 2.5).abs() < 1e-12);
        assert_eq!((c.pixel_threshold, c.false_reject_rate()), (0.5, Some(0.25)));
        let same = calibrate(&[1.0; 4], &[0.0; 4], Scoring::Deviations { top_share: 0.01 }, true);
        assert!(same.threshold.is_finite());
        let mut sums: Vec<f64> = (0..20).map(|i| f64::from(i % 5)).collect();
        assert_eq!(outlier(&sums), None);
        sums[7] = 30.0;
        assert_eq!(outlier(&sums), Some(7));
        assert_eq!(outlier(&[0.0, 0.1, 90.0]), None, "too few to say");
        let (pictures, scoring) = ([vec![1.0, 3.0], vec![1.0, 5.0]], Scoring::Deviations { top_share: 0.5 });
        let head = logit_scale(pictures.iter(), scoring);
        assert_eq!((head.mean, head.apply(2.5)), (2.5, 0.0));
        assert_eq!(logit_scale(pictures.iter(), Scoring::Sigmoid), LogitScale::IDENTITY);
        assert_eq!(view_scale(&pictures, scoring, vec![head]).image_mean, 4.0);
    }
}
