//! Inference: feature scale, projection, first linear layer and BatchNorm are one affine map (algorithm.md,
//! section 5). Heads of one view are stacked, so all of them cost one matrix product.

use super::{BATCH_NORM_EPS, Head, LEAKY_SLOPE};
use pbas_nn::linalg::{Mat, Threads, gemm_into};

/// Positions scored at a time: their hidden values stay in the second-level cache.
const BAND: usize = 128;

/// Heads of one view folded for inference: `logit_h(z) = sum_i output[h, i] LeakyReLU((A_h z + b_h)_i)`.
#[derive(Debug, Clone)]
pub struct FoldedHead {
    pub(super) dim: usize,
    pub(super) hidden: usize,
    pub(super) heads: usize,
    /// `[heads * hidden, dim]`.
    pub(super) weight: Vec<f32>,
    /// `[heads * hidden]`.
    pub(super) bias: Vec<f32>,
    /// `[heads * hidden]`.
    pub(super) output: Vec<f32>,
}

impl FoldedHead {
    /// Folds `A = G W1 P R`, `b = G (W1 (p - P R m) + b1 - mean) + beta` with `G` the BatchNorm's scale, `R` and `m`
    /// the reciprocal deviation and the mean of the head's feature scale.
    ///
    /// # Panics
    /// If `heads` is empty or its members differ in size.
    #[must_use]
    pub fn new(heads: &[&Head]) -> Self {
        let (dim, hidden) = (heads[0].projection.dim, heads[0].discriminator.hidden);
        let mut folded =
            Self { dim, hidden, heads: heads.len(), weight: vec![], bias: vec![], output: vec![] };
        for head in heads {
            let (p, s) = (&head.projection, &head.discriminator);
            assert_eq!((p.dim, s.hidden), (dim, hidden), "heads of one size");
            // W1 P, the only product of matrices in it, at the speed of the GEMM; the rest in float64.
            let mut product = vec![0.0f32; hidden * dim];
            gemm_into(
                &mut product,
                Mat::new(&s.weight, hidden, dim),
                Mat::new(&p.weight, dim, dim),
                false,
                Threads::All,
            );
            for (i, row) in product.chunks_exact_mut(dim).enumerate() {
                let gain = f64::from(s.norm_weight[i])
                    / (f64::from(s.running_var[i]) + f64::from(BATCH_NORM_EPS)).sqrt();
                let mut bias = f64::from(s.bias[i]) - f64::from(s.running_mean[i]);
                for (w, p) in s.weight[i * dim..(i + 1) * dim].iter().zip(&p.bias) {
                    bias += f64::from(*w) * f64::from(*p);
                }
                for (j, v) in row.iter_mut().enumerate() {
                    let mut wide = f64::from(*v);
                    if let Some(scale) = &head.feature_scale {
                        wide /= f64::from(scale.deviation[j]);
                        bias -= wide * f64::from(scale.mean[j]);
                    }
                    *v = (wide * gain) as f32;
                }
                folded.bias.push((bias * gain + f64::from(s.norm_bias[i])) as f32);
            }
            folded.weight.extend(product);
            folded.output.extend(&s.output);
        }
        folded
    }

    /// Heads that were folded.
    #[must_use]
    pub fn heads(&self) -> usize {
        self.heads
    }

    /// Logits of each head for unscaled patch features `[positions, dim]`: `[positions, heads]`. The twin of
    /// [`super::GridHead`], for features that lie on no grid.
    ///
    /// # Panics
    /// If `features` is not a whole number of patch features.
    #[must_use]
    pub fn logits(&self, features: &[f32]) -> Vec<f32> {
        assert_eq!(features.len() % self.dim, 0, "whole patch features");
        let units = self.heads * self.hidden;
        let weight = Mat::new(&self.weight, units, self.dim).t();
        let mut logits = Vec::with_capacity(features.len() / self.dim * self.heads);
        let mut hidden = Vec::new();
        for band in features.chunks(BAND * self.dim) {
            let count = band.len() / self.dim;
            hidden.resize(count * units, 0.0);
            gemm_into(&mut hidden, Mat::new(band, count, self.dim), weight, false, Threads::One);
            for row in hidden.chunks_exact_mut(units) {
                row.iter_mut().zip(&self.bias).for_each(|(v, b)| *v += b);
                logits.extend(
                    row.chunks_exact(self.hidden)
                        .zip(self.output.chunks_exact(self.hidden))
                        .map(|(row, output)| weighted_leaky(row, output)),
                );
            }
        }
        logits
    }
}

/// `sum_i output[i] LeakyReLU(row[i])`, in eight running sums so that it vectorises in a fixed order.
#[inline(always)]
pub(super) fn weighted_leaky(row: &[f32], output: &[f32]) -> f32 {
    let mut lanes = [0.0f32; 8];
    let whole = row.len() - row.len() % 8;
    for i in (0..whole).step_by(8) {
        for l in 0..8 {
            let y = row[i + l];
            lanes[l] += output[i + l] * y.max(LEAKY_SLOPE * y);
        }
    }
    let tail: f32 = (whole..row.len()).map(|i| output[i] * row[i].max(LEAKY_SLOPE * row[i])).sum();
    lanes.iter().sum::<f32>() + tail
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::head::FeatureScale;

    /// Scale, project, first layer, BatchNorm, LeakyReLU, last layer, one after the other in float64.
    fn reference(head: &Head, z: &[f32]) -> f64 {
        let scale = head.feature_scale.as_ref().unwrap();
        let (p, s) = (&head.projection, &head.discriminator);
        let z: Vec<f64> =
            (0..p.dim).map(|j| f64::from(z[j] - scale.mean[j]) / f64::from(scale.deviation[j])).collect();
        let linear = |w: &[f32], b: f32, x: &[f64]| -> f64 {
            f64::from(b) + w.iter().zip(x).map(|(w, x)| f64::from(*w) * x).sum::<f64>()
        };
        let x: Vec<f64> =
            (0..p.dim).map(|i| linear(&p.weight[i * p.dim..(i + 1) * p.dim], p.bias[i], &z)).collect();
        (0..s.hidden)
            .map(|i| {
                let h = linear(&s.weight[i * p.dim..(i + 1) * p.dim], s.bias[i], &x);
                let n =
                    (h - f64::from(s.running_mean[i])) / f64::from(s.running_var[i] + BATCH_NORM_EPS).sqrt();
                let y = n * f64::from(s.norm_weight[i]) + f64::from(s.norm_bias[i]);
                f64::from(s.output[i]) * if y > 0.0 { y } else { f64::from(LEAKY_SLOPE) * y }
            })
            .sum()
    }

    #[test]
    fn folding_agrees_with_layer_after_layer() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let (dim, hidden) = (33, 21);
        let mut heads: Vec<Head> = (0..3).map(|_| Head::initial(dim, hidden, &mut rng)).collect();
        for head in &mut heads {
            let s = &mut head.discriminator;
            for v in [&mut s.norm_weight, &mut s.norm_bias, &mut s.running_mean, &mut s.running_var] {
                v.iter_mut().for_each(|v| *v += rng.random_range(-0.4..0.4));
            }
        }
        let mut random =
            |n: usize, low: f32| -> Vec<f32> { (0..n).map(|_| rng.random_range(low..2.0)).collect() };
        for head in &mut heads {
            head.feature_scale = Some(FeatureScale { mean: random(dim, -2.0), deviation: random(dim, 0.2) });
        }
        let features = random(301 * dim, -2.0);
        let folded = FoldedHead::new(&heads.iter().collect::<Vec<_>>());
        let logits = folded.logits(&features);
        for (position, z) in features.chunks_exact(dim).enumerate() {
            for (h, head) in heads.iter().enumerate() {
                let layers = f64::from(head.logits(z)[0]);
                let (fast, slow) = (f64::from(logits[position * 3 + h]), reference(head, z));
                for found in [fast, layers] {
                    assert!((found - slow).abs() < 2e-4 * slow.abs().max(1.0), "{found} {slow}");
                }
            }
        }
    }
}
