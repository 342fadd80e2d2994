//! Scores of good pictures -> how rare a score is among good parts, threshold, and what the threshold can promise.
//!
//! Every good picture is scored by the head that has not seen it, so each head has a sample of honest scores, and for a new
//! picture each head's score has a rank in its own sample: an exact statement (split conformal prediction). The picture's score
//! is what more than half of the heads agree on; docs/threshold.md has the proof.

mod good_scores;
mod heads;

pub use good_scores::GoodScores;
pub use heads::HeadScores;

use serde::{Deserialize, Serialize};
use statrs::distribution::{Beta, ContinuousCDF};

use crate::score::{ScoreMap, top_share_mean};
use crate::settings::{Folds, Scoring};
use crate::statistics::{Robust, quantile};
use crate::view::PatchScale;
use crate::{Error, Result};

/// Least deviation of image scores, in logits: identical pictures have no spread to go by.
const LEAST_DEVIATION: f64 = 0.05;
/// Least deviation of patch logits.
const LEAST_PATCH_DEVIATION: f64 = 1e-6;
/// Most pictures that are named for standing out: whoever looks through them wants all, but a line must end.
pub(crate) const SUSPECTS_NAMED: usize = 50;
/// With fewer pictures nothing can be said to stand out.
const FEWEST_FOR_SUSPECTS: usize = 8;
/// Wanted rates that make sense.
pub const RATES: std::ops::RangeInclusive<f64> = 1e-6..=0.5;

/// How the threshold was found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Wanted share of good parts that are rejected.
    pub false_reject_rate: f64,
    /// A picture whose image score is above this is anomalous.
    pub threshold: f64,
    /// A pixel above this belongs to a region.
    pub pixel_threshold: f64,
    /// Whether every score is of a picture that its head has not seen.
    pub held_out: bool,
    /// For each head the scores of the good pictures that it has not seen.
    pub heads: HeadScores,
    /// After a recalibration: what the heads together give for good pictures that none of them has seen.
    pub together: Option<GoodScores>,
    /// Highest value in the map of each good picture, drawn by a head that has not seen it.
    pub peaks: GoodScores,
    /// What was promised before, oldest first.
    pub history: Vec<Promise>,
}

/// What a threshold promises.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Promise {
    /// Wanted share of good parts that are rejected.
    pub false_reject_rate: f64,
    /// The threshold for it.
    pub threshold: f64,
    /// Good pictures behind it.
    pub pictures: usize,
    /// Proven: a new good part, drawn as these were, is rejected with at most this probability. `None` where the pictures were
    /// trained on.
    pub proven_rate: Option<f64>,
    /// With 95 % confidence over the choice of the good pictures, the share of good parts rejected in the long run is at most this.
    pub confident_rate: Option<f64>,
    /// Good pictures that would prove the wanted rate.
    pub pictures_needed: usize,
}

impl Promise {
    /// Whether the wanted rate is proven; otherwise the threshold rests on a model of the tail, an estimate.
    #[must_use]
    pub fn is_proven(&self) -> bool {
        self.proven_rate.is_some_and(|proven| is_within(proven, self.false_reject_rate))
    }
}

/// How many of `heads` must agree: more than half.
#[must_use]
pub fn quorum(heads: usize) -> usize {
    heads / 2 + 1
}

impl Calibration {
    /// A calibration from the scores of good pictures.
    ///
    /// # Errors
    /// A rate out of range, or a score that is not a number.
    pub fn new(
        heads: Vec<GoodScores>,
        peaks: GoodScores,
        held_out: bool,
        false_reject_rate: f64,
        scoring: Scoring,
    ) -> Result<Self> {
        let mut c = Self {
            false_reject_rate,
            threshold: 0.0,
            pixel_threshold: 0.0,
            held_out,
            heads: heads.into(),
            together: None,
            peaks,
            history: Vec::new(),
        };
        c.set_rate(false_reject_rate, scoring)?;
        Ok(c)
    }

    /// Sets both thresholds for another wanted share of rejected good parts; the old promise goes into the history.
    ///
    /// # Errors
    /// As [`Calibration::new`]; nothing is changed then.
    pub fn change_rate(&mut self, rate: f64, scoring: Scoring) -> Result<()> {
        let old = self.promise();
        self.set_rate(rate, scoring)?;
        if old.false_reject_rate != rate {
            self.history.push(old);
        }
        Ok(())
    }

    fn set_rate(&mut self, rate: f64, scoring: Scoring) -> Result<()> {
        check_rate(rate)?;
        let all = self.heads.iter().chain(&self.together).chain([&self.peaks]);
        if self.heads.is_empty()
            || all.clone().any(|s| s.is_empty() || s.ascending().iter().any(|v| !v.is_finite()))
        {
            return Err(Error::input("scores of the good pictures: expected finite numbers of every head"));
        }
        self.false_reject_rate = rate;
        let rarity = self.rarity_at(rate);
        self.threshold = match scoring {
            Scoring::Sigmoid => sigmoid(self.sample().score_at(rarity)),
            Scoring::Rarity { .. } => rarity,
        };
        self.pixel_threshold = self.peaks.score_at(-rate.log10());
        Ok(())
    }

    /// Takes new good pictures, none of which any head has seen, in place of those of training; the old promise goes into
    /// the history. `scores` holds what [`Calibration::together`] gives for each, `peaks` the highest values of their maps.
    ///
    /// # Errors
    /// As [`Calibration::new`].
    pub fn renew(&mut self, scores: Vec<f64>, peaks: Vec<f64>, rate: f64, scoring: Scoring) -> Result<()> {
        let old = self.promise();
        let mut new =
            Self { together: Some(scores.into()), peaks: peaks.into(), held_out: true, ..self.clone() };
        new.set_rate(rate, scoring)?;
        new.history.push(old);
        *self = new;
        Ok(())
    }

    /// The scores that a single sample's rank is taken in; of several heads the first one's.
    fn sample(&self) -> &GoodScores {
        self.together.as_ref().unwrap_or(&self.heads[0])
    }

    fn factor(&self) -> f64 {
        factor(if self.together.is_some() { 1 } else { self.heads.len() })
    }

    /// The rarity above which a picture is rejected at a rate.
    fn rarity_at(&self, rate: f64) -> f64 {
        -(rate / self.factor()).log10()
    }

    /// What the heads say together: the rarity that more than half of them reach. `scores` has one for each head.
    #[must_use]
    pub fn agreed(&self, scores: &[f64]) -> f64 {
        let mut rarities: Vec<f64> = self.heads.iter().zip(scores).map(|(h, &s)| h.rarity(s)).collect();
        rarities.sort_unstable_by(|a, b| b.total_cmp(a));
        rarities[quorum(rarities.len()) - 1]
    }

    /// What [`Calibration::renew`] wants of a picture: the heads' common value before it is ranked.
    #[must_use]
    pub fn value(&self, scores: &[f64], scoring: Scoring) -> f64 {
        match scoring {
            Scoring::Sigmoid => scores[0],
            Scoring::Rarity { .. } => self.agreed(scores),
        }
    }

    /// Image score, rank score, p-value and whether the picture is rejected, from the score of each head.
    #[must_use]
    pub fn judge(&self, scores: &[f64], scoring: Scoring) -> Judgement {
        self.judge_value(self.value(scores, scoring), scoring)
    }

    /// As [`Calibration::judge`], from what [`Calibration::value`] gives of the scores: a picture can be judged by another calibration of
    /// the same heads without being looked at again.
    #[must_use]
    pub fn judge_value(&self, value: f64, scoring: Scoring) -> Judgement {
        let rarity = match (&self.together, scoring) {
            (Some(sample), _) => sample.rarity(value),
            (None, Scoring::Sigmoid) => self.heads[0].rarity(value),
            (None, Scoring::Rarity { .. }) => value,
        };
        let (image_score, rank_score) = match scoring {
            Scoring::Sigmoid => (sigmoid(value), value),
            Scoring::Rarity { .. } => (rarity, rarity),
        };
        Judgement {
            image_score,
            rank_score,
            p_value: (self.factor() * 10f64.powf(-rarity)).min(1.0),
            rejected: image_score > self.threshold,
        }
    }

    /// What the threshold promises.
    #[must_use]
    pub fn promise(&self) -> Promise {
        let samples: Vec<&GoodScores> =
            self.together.as_ref().map_or(self.heads.iter().collect(), |t| vec![t]);
        let counts: Vec<usize> = samples.iter().map(|s| s.len()).collect();
        let wanted = self.false_reject_rate / factor(samples.len());
        let proven = proven_rate(&counts, self.false_reject_rate);
        // Each head's share of confidence is lost apart; the union bound adds them.
        let doubt = 0.05 / samples.len() as f64;
        let agree = quorum(samples.len()) as f64;
        let confident = counts.iter().map(|&n| confident_rate(n, wanted, doubt)).sum::<f64>() / agree;
        let needed = |heads: usize| {
            let each = (factor(heads) / self.false_reject_rate - 1.0 - 1e-9).ceil() as usize;
            each * heads
        };
        let (pictures, heads) = (counts.iter().sum(), samples.len());
        // Where the heads are as many as the rule has for so many pictures, a training on more pictures goes by it too.
        let by_rule = self.together.is_none() && Folds::Auto.of(pictures, self.false_reject_rate) == heads;
        Promise {
            false_reject_rate: self.false_reject_rate,
            threshold: self.threshold,
            pictures,
            proven_rate: self.held_out.then_some(proven),
            confident_rate: self.held_out.then_some(confident.min(1.0)),
            pictures_needed: needed(if by_rule { Folds::Auto.proving_most() } else { heads }),
        }
    }
}

/// By what the probability that one head exceeds a rarity has to be multiplied to bound that of the picture's: of `K` heads
/// `m` must agree, and `P(m of K) <= sum of P / m` (Markov's inequality for their number).
fn factor(heads: usize) -> f64 {
    heads as f64 / quorum(heads) as f64
}

/// The false-reject rate that is proven where `rate` is wanted and so many good pictures calibrate each head
/// (docs/threshold.md); 1 for no heads, of which nothing is known.
#[must_use]
pub fn proven_rate(pictures_of_heads: &[usize], rate: f64) -> f64 {
    let heads = pictures_of_heads.len();
    if heads == 0 {
        return 1.0;
    }
    let each = |&n: &usize| (rate / factor(heads)).max(1.0 / (n as f64 + 1.0));
    (pictures_of_heads.iter().map(each).sum::<f64>() / quorum(heads) as f64).min(1.0)
}

/// Whether so many good pictures for each head prove a rate.
#[must_use]
pub fn proves(pictures_of_heads: &[usize], rate: f64) -> bool {
    is_within(proven_rate(pictures_of_heads, rate), rate)
}

/// Whether a proven rate is the wanted one or finer, but for rounding.
fn is_within(proven: f64, wanted: f64) -> bool {
    proven <= wanted * (1.0 + 1e-9)
}

/// Upper bound, at confidence `1 - doubt`, on the share of good parts above the threshold of a rate in a sample of `n`: the threshold
/// lies at or above the `(c + 1)`-th highest score, `c + 1 = floor(rate (n + 1))`, and the share above that one has the
/// distribution Beta(c + 1, n - c) (order statistics; Vovk 2012, "Conditional validity of inductive conformal predictors").
fn confident_rate(n: usize, rate: f64, doubt: f64) -> f64 {
    let above = ((rate * (n as f64 + 1.0) + 1e-9).floor() as usize).max(1);
    if above > n {
        return 1.0;
    }
    Beta::new(above as f64, (n + 1 - above) as f64).map_or(1.0, |b| b.inverse_cdf(1.0 - doubt))
}

/// Refuses a wanted rate that no threshold can mean.
///
/// # Errors
/// A rate outside [`RATES`].
pub fn check_rate(rate: f64) -> Result<()> {
    if RATES.contains(&rate) {
        return Ok(());
    }
    Err(Error::caller(format!("false-reject rate: expected 0.000001 to 0.5, found {rate}"))
        .with_hint("0.01 rejects one good part in a hundred"))
}

fn sigmoid(logit: f64) -> f64 {
    1.0 / (1.0 + (-logit).exp())
}

/// What follows from the scores of a picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Judgement {
    /// What a user is shown.
    pub image_score: f64,
    /// What pictures are ranked by.
    pub rank_score: f64,
    /// Bound on the probability that a good picture scores as high; proven down to [`Promise::proven_rate`] at the finest,
    /// below that an estimate.
    pub p_value: f64,
    /// Whether the picture is above the threshold.
    pub rejected: bool,
}

/// The scale of a head in the map, from its patch logits for good pictures that it has not seen. The published score is left on its
/// own scale.
#[must_use]
pub fn patch_scale<'a, T: AsRef<[f32]> + 'a>(
    pictures: impl Iterator<Item = &'a T> + Clone,
    scoring: Scoring,
) -> PatchScale {
    if scoring == Scoring::Sigmoid {
        return PatchScale::IDENTITY;
    }
    let values = pictures.flat_map(|p| p.as_ref()).map(|&v| f64::from(v));
    let n = values.clone().count().max(1) as f64;
    let mean = values.clone().sum::<f64>() / n;
    let variance = values.map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0).max(1.0);
    PatchScale { mean, deviation: variance.sqrt().max(LEAST_PATCH_DEVIATION) }
}

/// The score of a picture by one head in one view, from its patches' logits.
#[must_use]
pub fn patches_score(patches: &[f32], scoring: Scoring) -> f64 {
    f64::from(match scoring {
        Scoring::Sigmoid => top_share_mean(patches, 0.0),
        Scoring::Rarity { top_share } => top_share_mean(patches, top_share),
    })
}

/// Good pictures whose scores stand out: more than `far` robust deviations above the median of their head's, highest first. They may be defective, or show
/// another part. `scores` holds (head, score) for each picture. A head may have unseen few pictures, so all heads share one deviation, of
/// what lies between a picture's score and its head's median.
#[must_use]
pub fn suspects(scores: &[(usize, f64)], far: f64) -> Vec<usize> {
    if scores.len() < FEWEST_FOR_SUSPECTS {
        return Vec::new();
    }
    let heads = scores.iter().map(|s| s.0 + 1).max().unwrap_or(0);
    let of_head = |h: usize| scores.iter().filter(|s| s.0 == h).map(|s| s.1).collect::<Vec<f64>>();
    let medians: Vec<f64> = (0..heads).map(|h| quantile(&of_head(h), 0.5).unwrap_or(0.0)).collect();
    let above: Vec<f64> = scores.iter().map(|&(head, score)| score - medians[head]).collect();
    let Some(usual) = Robust::of(&above, LEAST_DEVIATION) else { return Vec::new() };
    let deviations = above.iter().map(|&a| usual.above(a)).enumerate();
    let mut found: Vec<(usize, f64)> = deviations.filter(|(_, d)| *d > far).collect();
    found.sort_by(|a, b| b.1.total_cmp(&a.1));
    found.into_iter().map(|(i, _)| i).collect()
}

/// Largest value of a map.
#[must_use]
pub fn peak(map: &ScoreMap) -> f64 {
    map.values.iter().copied().fold(f32::NEG_INFINITY, f32::max).into()
}

#[cfg(test)]
mod tests;
