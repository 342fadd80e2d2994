//! How well scores tell defective from good: plain slices in, numbers out.
//!
//! A picture or pixel is called defective where its score is `>=` the threshold. All figures are exact, ties
//! included: equal scores enter together, as in scikit-learn. A figure that is not defined (no defective or no
//! good item) is `None`, never 0.
//!
//! For one figure of a few scores use the functions here. For several figures, or for pixels, build a
//! [`RankingCurve`] or a [`PixelCurve`] once: the scores are sorted once and each figure is one sweep.
//! The curves say in an error what the functions answer with `None`: a NaN score, lengths that differ.

mod aupimo;
mod aupro;
mod builder;
mod ranking;

pub use aupimo::AUPIMO_LIMITS;
pub use aupro::PixelCurve;
pub use builder::PixelCurveBuilder;
pub use ranking::{F1Max, RankingCurve};

use crate::image::DefectMask;
use crate::score::ScoreMap;

/// Area under the ROC curve: the probability that a defective item scores above a good one, ties counting half.
///
/// `None` when there is no defective or no good item, a score is NaN, or the lengths differ.
pub fn auroc(scores: &[f32], positive: &[bool]) -> Option<f64> {
    RankingCurve::new(scores, positive).ok()?.auroc()
}

/// Average precision: the sum over distinct scores of the gain in recall times the precision there.
///
/// `None` in the cases of [`auroc`].
pub fn average_precision(scores: &[f32], positive: &[bool]) -> Option<f64> {
    RankingCurve::new(scores, positive).ok()?.average_precision()
}

/// The highest F1 of any threshold, with that threshold.
///
/// `None` in the cases of [`auroc`].
pub fn f1_max(scores: &[f32], positive: &[bool]) -> Option<F1Max> {
    RankingCurve::new(scores, positive).ok()?.f1_max()
}

/// Area under the per-region-overlap curve up to a false positive rate of `limit` (0 < limit <= 1), divided by
/// `limit`; see [`PixelCurve::aupro`]. `masks[i]` belongs to `maps[i]`; `None` is a good picture.
///
/// `None` when there is no defect region or no good pixel, a score is NaN, sizes or lengths differ, or the limit
/// is out of range. For two limits build a [`PixelCurve`].
pub fn aupro(maps: &[ScoreMap], masks: &[Option<&DefectMask>], limit: f64) -> Option<f64> {
    PixelCurve::new(maps, masks).ok()?.aupro(limit)
}
