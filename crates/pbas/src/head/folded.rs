//! Inference: feature scale, projection, first linear layer and BatchNorm are one affine map (algorithm.md,
//! section 5). Heads of one view are stacked, so all of them cost one matrix product ([`super::GridHead`]).

use pbas_nn::linalg::PackedMatrix;
use rayon::prelude::*;

use super::{BATCH_NORM_EPS, Head};
use crate::Result;

/// Heads of one view folded for inference: `logit_h(z) = sum_i output[h, i] LeakyReLU((A_h z + b_h)_i)`.
#[derive(Debug, Clone)]
pub(crate) struct FoldedHead {
    pub(crate) dim: usize,
    pub(crate) hidden: usize,
    pub(crate) heads: usize,
    /// `[heads * hidden, dim]`.
    pub(crate) weight: Vec<f32>,
    /// `[heads * hidden]`.
    pub(crate) bias: Vec<f32>,
    /// `[heads * hidden]`.
    pub(crate) output: Vec<f32>,
}

impl FoldedHead {
    /// Folds `A = G W1 P R`, `b = G (W1 (p - P R m) + b1 - mean) + beta` with `G` the BatchNorm's scale, `R` and `m`
    /// the reciprocal deviation and the mean of the head's feature scale.
    ///
    /// # Errors
    /// An instruction set was asked for that this processor lacks.
    ///
    /// # Panics
    /// If `heads` is empty or its members differ in size.
    pub(crate) fn new(heads: &[&Head]) -> Result<Self> {
        let (dim, hidden) = (heads[0].projection.dim, heads[0].discriminator.hidden);
        let units = heads.len() * hidden;
        let mut folded = Self {
            dim,
            hidden,
            heads: heads.len(),
            weight: vec![0.0; units * dim],
            bias: vec![0.0; units],
            output: heads.iter().flat_map(|h| &h.discriminator.output).copied().collect(),
        };
        let rooms = folded.weight.chunks_exact_mut(hidden * dim).zip(folded.bias.chunks_exact_mut(hidden));
        let jobs: Vec<_> = heads.iter().zip(rooms).collect();
        jobs.into_par_iter().with_max_len(1).try_for_each(|(head, (product, biases))| -> Result<()> {
            let (p, s) = (&head.projection, &head.discriminator);
            assert_eq!((p.dim, s.hidden), (dim, hidden), "heads of one size");
            // W1 P, the only product of matrices in it, by the network's own kernel (that of training reads the sizes of
            // the caches from the system first, which takes as long as the product); the rest in float64.
            PackedMatrix::new(&transposed(&p.weight, dim), &vec![0.0; dim], dim)?
                .multiply(&s.weight, hidden, None, product);
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
                biases[i] = (bias * gain + f64::from(s.norm_bias[i])) as f32;
            }
            Ok(())
        })?;
        Ok(folded)
    }
}

/// A square matrix turned over, by blocks that fit a few cache lines each way.
fn transposed(matrix: &[f32], dim: usize) -> Vec<f32> {
    const BLOCK: usize = 16;
    let mut out = vec![0.0; dim * dim];
    for first_row in (0..dim).step_by(BLOCK) {
        for first_column in (0..dim).step_by(BLOCK) {
            for row in first_row..dim.min(first_row + BLOCK) {
                for column in first_column..dim.min(first_column + BLOCK) {
                    out[column * dim + row] = matrix[row * dim + column];
                }
            }
        }
    }
    out
}
