//! Refined Boundary Optimization: the discriminator learns to tell normal features from synthetic ones.
//!
//! Forward, over the `2n` rows of normal and then synthetic features at once, so that BatchNorm sees both:
//!
//! ```text
//! h_i = W1 x_i + b1    h~_i = h_i + f_i (h_i - h(c_i))            (synthesis.rs: no product for synthetic rows)
//! u = (h - mean) / sqrt(var + eps)      y = g u + b      a = LeakyReLU(y)      l = a . w2
//! L_rbo = mean_normal softplus(l) + mean_synthetic softplus(-l)          (BCE of sigmoid(l) against 0 and 1)
//! ```
//!
//! Backward, with `q` the derivative by the logit, `sigmoid(l) / n` for normal and `(sigmoid(l) - 1) / n` for synthetic rows:
//!
//! ```text
//! dw2 = a^T q                      dy = (q w2^T) LeakyReLU'(y)
//! dg = sum dy u                    db = sum dy
//! dh = g / sqrt(var + eps) (dy - db / 2n - u dg / 2n)
//! dx_i = (dh_i + dh~_i) W1                                          (the ray is constant)
//! dW1 = sum dh_i x_i^T + dh~_i (x_i + f_i (x_i - c_i))^T
//!     = sum_i (dh_i + (1 + f_i) dh~_i) x_i^T - sum_j (sum over i with c_i = c_j of f_i dh~_i) c_j^T
//! db1 = sum dh = 0
//! ```
//!
//! `db1` is zero in exact arithmetic, since BatchNorm takes off whatever constant is added before it. It is set to zero:
//! of the rounding noise that a sum would leave Adam would make full steps.

use pbas_nn::linalg::{Mat, Threads, dot, gemm_into};
use pbas_nn::vectorized;

use super::step::add_to_rows;
use super::sweep::{BLOCK, add_rows, add_sums, each};
use crate::head::{BATCH_NORM_EPS, Discriminator, LEAKY_SLOPE, sigmoid};

/// Weight of a batch in BatchNorm's running statistics.
const BATCH_NORM_MOMENTUM: f32 = 0.1;

/// Gradients of the discriminator, laid out as its tensors.
#[derive(Debug, Clone, Default)]
pub struct DiscriminatorGradient {
    /// `[hidden, dim]`.
    pub weight: Vec<f32>,
    /// `[hidden]`.
    pub bias: Vec<f32>,
    /// `[hidden]`.
    pub norm_weight: Vec<f32>,
    /// `[hidden]`.
    pub norm_bias: Vec<f32>,
    /// `[hidden]`.
    pub output: Vec<f32>,
}

/// The features that are the centres of a batch.
#[derive(Debug, Clone, Copy)]
pub enum CenterRows<'a> {
    /// Rows of the batch itself.
    Batch,
    /// Other rows, `[count, dim]`.
    Other(&'a [f32]),
}

/// One batch of projected features with the centres and rays that synthesis chose.
#[derive(Debug, Clone, Copy)]
pub struct RefinementBatch<'a> {
    /// Normal features `x`, `[n, dim]`.
    pub normal: &'a [f32],
    /// Where the centres are.
    pub centers: CenterRows<'a>,
    /// Row of each feature's centre, `[n]`.
    pub nearest: &'a [usize],
    /// `f`, `[n]`.
    pub factors: &'a [f32],
}

/// Buffers of one step.
#[derive(Debug, Clone, Default)]
pub struct Refinement {
    /// `h`, then the slope of the LeakyReLU, then `dy`, then `dh`: `[2n, hidden]`.
    hidden: Vec<f32>,
    /// `h(c)` and later the gradient that falls on each centre, `[centres, hidden]`; empty for centres in the batch.
    center_hidden: Vec<f32>,
    unit: Vec<f32>,
    /// Sums over blocks of rows, and the loss of each block.
    partial: Vec<f32>,
    block_loss: Vec<f64>,
    /// Rows of the batch by their centre: those of centre `c` are `by_center[first[c]..first[c + 1]]`.
    first: Vec<usize>,
    by_center: Vec<usize>,
    /// Logits, `[2n]`.
    pub logits: Vec<f32>,
    /// Gradients of the discriminator.
    pub gradient: DiscriminatorGradient,
}

impl Refinement {
    /// Forward and backward. Returns the loss, updates the running statistics, leaves the discriminator's gradients in
    /// [`Refinement::gradient`] and writes those of the normal features to `feature_gradient`, `[n, dim]`.
    pub fn run(
        &mut self,
        s: &mut Discriminator,
        batch: RefinementBatch<'_>,
        feature_gradient: &mut [f32],
        threads: Threads,
    ) -> f64 {
        let (dim, units) = (s.dim, s.hidden);
        let n = batch.normal.len() / dim;
        let rows = 2 * n;
        self.hidden.resize(rows * units, 0.0);
        self.unit.resize(rows * units, 0.0);
        self.forward_hidden(s, batch, threads);
        let (mean, var) = self.batch_statistics(rows, units, threads);
        let unbiased = rows as f32 / (rows as f32 - 1.0).max(1.0);
        for j in 0..units {
            s.running_mean[j] += BATCH_NORM_MOMENTUM * (mean[j] - s.running_mean[j]);
            s.running_var[j] += BATCH_NORM_MOMENTUM * (var[j] * unbiased - s.running_var[j]);
        }
        let inverse: Vec<f32> = var.iter().map(|v| 1.0 / (v + BATCH_NORM_EPS).sqrt()).collect();

        let g = &mut self.gradient;
        for v in [&mut g.bias, &mut g.norm_weight, &mut g.norm_bias, &mut g.output] {
            v.clear();
            v.resize(units, 0.0);
        }
        g.weight.resize(units * dim, 0.0);
        let norm = Norm { mean: &mean, inverse: &inverse, gain: &s.norm_weight, shift: &s.norm_bias };
        let loss = self.through_activation(&norm, &s.output, units, threads);
        self.backward_hidden(s, batch, feature_gradient, threads);
        loss / n as f64
    }

    /// From `h` to the logits and the loss, and back to `dh`.
    fn through_activation(&mut self, norm: &Norm<'_>, output: &[f32], units: usize, threads: Threads) -> f64 {
        let rows = self.hidden.len() / units;
        let n = rows / 2;
        let g = &mut self.gradient;
        self.logits.resize(rows, 0.0);
        let blocks = rows.div_ceil(BLOCK);
        // Of each block: the sums for `w2`, `g` and `b`, and a row of activated values.
        self.partial.resize(blocks * 4 * units, 0.0);
        self.block_loss.resize(blocks, 0.0);
        let values = self.hidden.chunks_mut(BLOCK * units).zip(self.unit.chunks_mut(BLOCK * units));
        let sums = self.partial.chunks_exact_mut(4 * units).zip(&mut self.block_loss);
        let parts = values.zip(self.logits.chunks_mut(BLOCK)).zip(sums);
        each(threads, parts, |block, (((hidden, unit), logits), (sums, loss))| {
            vectorized!({
                sums.fill(0.0);
                *loss = 0.0;
                let (sums, activated) = sums.split_at_mut(3 * units);
                let both = hidden.chunks_exact_mut(units).zip(unit.chunks_exact_mut(units));
                for (r, ((row, unit), logit)) in both.zip(logits).enumerate() {
                    *logit = forward_row(row, unit, activated, norm, output);
                    let synthetic = block * BLOCK + r >= n;
                    let signed = if synthetic { -f64::from(*logit) } else { f64::from(*logit) };
                    *loss += signed.max(0.0) + (-signed.abs()).exp().ln_1p();
                    let q = (sigmoid(*logit) - if synthetic { 1.0 } else { 0.0 }) / n as f32;
                    backward_row(row, unit, activated, output, q, sums);
                }
            });
        });
        for sums in self.partial.chunks_exact(4 * units) {
            add_rows(&mut g.output, &sums[..units]);
            add_rows(&mut g.norm_weight, &sums[units..2 * units]);
            add_rows(&mut g.norm_bias, &sums[2 * units..3 * units]);
        }
        let (by_gain, by_shift) = (&g.norm_weight[..units], &g.norm_bias[..units]);
        let (gain, inverse) = (&norm.gain[..units], &norm.inverse[..units]);
        let scale = 1.0 / rows as f32;
        let parts = self.hidden.chunks_mut(BLOCK * units).zip(self.unit.chunks(BLOCK * units));
        each(threads, parts, |_, (hidden, unit)| {
            vectorized!({
                for (row, unit) in hidden.chunks_exact_mut(units).zip(unit.chunks_exact(units)) {
                    for j in 0..units {
                        row[j] =
                            gain[j] * inverse[j] * (row[j] - (by_shift[j] + unit[j] * by_gain[j]) * scale);
                    }
                }
            });
        });
        self.block_loss.iter().sum()
    }

    /// `h` of normal rows by a product, of synthetic rows from those and the centres'.
    fn forward_hidden(&mut self, s: &Discriminator, batch: RefinementBatch<'_>, threads: Threads) {
        let (dim, units) = (s.dim, s.hidden);
        let n = batch.nearest.len();
        let first_layer = |rows: &[f32], out: &mut [f32]| {
            let weight = Mat::new(&s.weight, units, dim).t();
            gemm_into(out, Mat::new(rows, rows.len() / dim, dim), weight, false, threads);
            add_to_rows(out, &s.bias, threads);
        };
        let (normal, synthetic) = self.hidden.split_at_mut(n * units);
        first_layer(batch.normal, normal);
        let centers: &[f32] = match batch.centers {
            CenterRows::Batch => normal,
            CenterRows::Other(rows) => {
                self.center_hidden.resize(rows.len() / dim * units, 0.0);
                first_layer(rows, &mut self.center_hidden);
                &self.center_hidden
            }
        };
        each(threads, synthetic.chunks_mut(BLOCK * units), |block, rows| {
            vectorized!({
                for (i, out) in (block * BLOCK..).zip(rows.chunks_exact_mut(units)) {
                    let (h, f) = (&normal[i * units..(i + 1) * units], batch.factors[i]);
                    let c = &centers[batch.nearest[i] * units..(batch.nearest[i] + 1) * units];
                    for ((o, h), c) in out.iter_mut().zip(h).zip(c) {
                        *o = h + f * (h - c);
                    }
                }
            });
        });
    }

    /// From `dh` to the gradients of the first layer's weight and of the normal features.
    fn backward_hidden(
        &mut self,
        s: &Discriminator,
        batch: RefinementBatch<'_>,
        feature_gradient: &mut [f32],
        threads: Threads,
    ) {
        let (dim, units) = (s.dim, s.hidden);
        let n = batch.nearest.len();
        let (normal, synthetic) = self.hidden.split_at_mut(n * units);
        let parts = normal.chunks_mut(BLOCK * units).zip(synthetic.chunks(BLOCK * units));
        each(threads, parts, |_, (normal, synthetic)| {
            vectorized!(normal.iter_mut().zip(synthetic).for_each(|(a, b)| *a += b));
        });
        gemm_into(
            feature_gradient,
            Mat::new(normal, n, units),
            Mat::new(&s.weight, units, dim),
            false,
            threads,
        );
        // f dh~ goes to the feature's own row and, negative, to its centre's.
        let parts = synthetic.chunks_mut(BLOCK * units).zip(normal.chunks_mut(BLOCK * units));
        each(threads, parts.zip(batch.factors.chunks(BLOCK)), |_, ((synthetic, normal), factors)| {
            vectorized!({
                let rows = synthetic.chunks_exact_mut(units).zip(normal.chunks_exact_mut(units));
                for ((row, own), f) in rows.zip(factors) {
                    for (v, o) in row.iter_mut().zip(own) {
                        *v *= f;
                        *o += *v;
                    }
                }
            });
        });
        let count = match batch.centers {
            CenterRows::Batch => n,
            CenterRows::Other(rows) => rows.len() / dim,
        };
        by_center(&mut self.first, &mut self.by_center, batch.nearest, count);
        let (first, by_center) = (&self.first, &self.by_center);
        self.center_hidden.fill(0.0);
        let falls_on: &mut [f32] = match batch.centers {
            CenterRows::Batch => normal,
            CenterRows::Other(_) => &mut self.center_hidden,
        };
        each(threads, falls_on.chunks_mut(BLOCK * units), |block, targets| {
            vectorized!({
                for (c, target) in (block * BLOCK..count).zip(targets.chunks_exact_mut(units)) {
                    for &i in &by_center[first[c]..first[c + 1]] {
                        let row = &synthetic[i * units..(i + 1) * units];
                        target.iter_mut().zip(row).for_each(|(t, v)| *t -= v);
                    }
                }
            });
        });
        let g = &mut self.gradient.weight;
        gemm_into(g, Mat::new(normal, n, units).t(), Mat::new(batch.normal, n, dim), false, threads);
        if let CenterRows::Other(rows) = batch.centers {
            let count = rows.len() / dim;
            let fallen = Mat::new(&self.center_hidden, count, units);
            gemm_into(g, fallen.t(), Mat::new(rows, count, dim), true, threads);
        }
    }

    /// Mean and biased variance of each hidden unit over the batch, in two passes.
    fn batch_statistics(&mut self, rows: usize, units: usize, threads: Threads) -> (Vec<f32>, Vec<f32>) {
        let (mut mean, mut var) = (vec![0.0f32; units], vec![0.0f32; units]);
        add_sums(&mut mean, &self.hidden, &mut self.partial, threads, |h, _| h);
        mean.iter_mut().for_each(|m| *m /= rows as f32);
        let by_mean = &mean[..];
        add_sums(&mut var, &self.hidden, &mut self.partial, threads, |h, j| {
            (h - by_mean[j]) * (h - by_mean[j])
        });
        var.iter_mut().for_each(|v| *v /= rows as f32);
        (mean, var)
    }
}

/// Sorts rows by their centre, rows of one centre in order.
fn by_center(first: &mut Vec<usize>, sorted: &mut Vec<usize>, nearest: &[usize], count: usize) {
    first.clear();
    first.resize(count + 1, 0);
    nearest.iter().for_each(|&c| first[c + 1] += 1);
    (0..count).for_each(|c| first[c + 1] += first[c]);
    sorted.resize(nearest.len(), 0);
    // Each place is taken from the front; afterwards `first[c]` is where centre `c + 1` begins.
    for (i, &c) in nearest.iter().enumerate() {
        sorted[first[c]] = i;
        first[c] += 1;
    }
    first.rotate_right(1);
    first[0] = 0;
}

/// BatchNorm of one batch, each `[hidden]`.
struct Norm<'a> {
    mean: &'a [f32],
    /// `1 / sqrt(var + eps)`.
    inverse: &'a [f32],
    gain: &'a [f32],
    shift: &'a [f32],
}

/// One row of `h` -> its logit; leaves `u` in `unit`, the LeakyReLU's slope in `row` and `a` in `activated`.
#[inline(always)]
fn forward_row(
    row: &mut [f32],
    unit: &mut [f32],
    activated: &mut [f32],
    norm: &Norm<'_>,
    output: &[f32],
) -> f32 {
    let n = row.len();
    let (mean, inverse, gain, shift) =
        (&norm.mean[..n], &norm.inverse[..n], &norm.gain[..n], &norm.shift[..n]);
    let (unit, activated, output) = (&mut unit[..n], &mut activated[..n], &output[..n]);
    for j in 0..n {
        unit[j] = (row[j] - mean[j]) * inverse[j];
        let y = unit[j] * gain[j] + shift[j];
        row[j] = if y > 0.0 { 1.0 } else { LEAKY_SLOPE };
        activated[j] = y * row[j];
    }
    dot(activated, output)
}

/// From the derivative `q` by the logit to `dy` (in place of the slope in `row`), adding to the sums for `w2`, `g`, `b` in `block`.
#[inline(always)]
fn backward_row(row: &mut [f32], unit: &[f32], activated: &[f32], output: &[f32], q: f32, block: &mut [f32]) {
    let n = row.len();
    let (by_output, rest) = block.split_at_mut(n);
    let (by_gain, by_shift) = rest.split_at_mut(n);
    let (unit, activated, output) = (&unit[..n], &activated[..n], &output[..n]);
    let by_shift = &mut by_shift[..n];
    for j in 0..n {
        by_output[j] += q * activated[j];
        row[j] *= q * output[j];
        by_gain[j] += row[j] * unit[j];
        by_shift[j] += row[j];
    }
}
