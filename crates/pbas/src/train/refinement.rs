//! Refined Boundary Optimization: the discriminator learns to tell normal features from synthetic ones.
//!
//! Forward, over the `2n` rows of normal and then synthetic features at once, so that BatchNorm sees both:
//!
//! ```text
//! h = X W1^T + b1      u = (h - mean) / sqrt(var + eps)      y = g u + b      a = LeakyReLU(y)      l = a . w2
//! L_rbo = mean_normal softplus(l) + mean_synthetic softplus(-l)          (BCE of sigmoid(l) against 0 and 1)
//! ```
//!
//! Backward, with `q` the derivative by the logit, `sigmoid(l) / n` for normal and `(sigmoid(l) - 1) / n` for synthetic rows:
//!
//! ```text
//! dw2 = a^T q                      dy = (q w2^T) LeakyReLU'(y)
//! dg = sum dy u                    db = sum dy
//! dh = g / sqrt(var + eps) (dy - db / 2n - u dg / 2n)
//! dW1 = dh^T X                     dX = dh W1                       db1 = sum dh = 0
//! ```
//!
//! `db1` is zero in exact arithmetic, since BatchNorm takes off whatever constant is added before it. It is set to zero:
//! of the rounding noise that a sum would leave Adam would make full steps.

use pbas_nn::linalg::{Mat, Threads, add_column_sums, gemm_into};

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

/// Buffers of one step.
#[derive(Debug, Clone, Default)]
pub struct Refinement {
    /// `h`, then `u`, then `dy`, then `dh`: `[2n, hidden]`.
    hidden: Vec<f32>,
    unit: Vec<f32>,
    /// Logits, `[2n]`.
    pub logits: Vec<f32>,
    /// Gradients of the discriminator.
    pub gradient: DiscriminatorGradient,
}

impl Refinement {
    /// Forward and backward over `features` `[2n, dim]` (normal rows first). Returns the loss, updates the running
    /// statistics, leaves the discriminator's gradients in [`Refinement::gradient`] and writes the features' to `feature_gradient`.
    pub fn run(
        &mut self,
        s: &mut Discriminator,
        features: &[f32],
        feature_gradient: &mut [f32],
        threads: Threads,
    ) -> f64 {
        let (dim, units) = (s.dim, s.hidden);
        let rows = features.len() / dim;
        let n = rows / 2;
        self.hidden.resize(rows * units, 0.0);
        self.unit.resize(rows * units, 0.0);
        let x = Mat::new(features, rows, dim);
        gemm_into(&mut self.hidden, x, Mat::new(&s.weight, units, dim).t(), false, threads);
        for row in self.hidden.chunks_exact_mut(units) {
            row.iter_mut().zip(&s.bias).for_each(|(h, b)| *h += b);
        }
        let (mean, var) = self.batch_statistics(rows, units);
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
        self.logits.clear();
        let mut loss = 0.0f64;
        let mut activated = vec![0.0f32; units];
        // Sums over all rows are made of sums over blocks of 64: float32 sums of thousands of rows lose digits.
        let mut block = vec![0.0f32; 3 * units];
        for (r, (row, unit)) in
            self.hidden.chunks_exact_mut(units).zip(self.unit.chunks_exact_mut(units)).enumerate()
        {
            let mut lanes = [0.0f32; 8];
            for j in 0..units {
                let u = (row[j] - mean[j]) * inverse[j];
                unit[j] = u;
                let y = u * s.norm_weight[j] + s.norm_bias[j];
                row[j] = if y > 0.0 { 1.0 } else { LEAKY_SLOPE };
                activated[j] = y * row[j];
            }
            for (j, a) in activated.iter().enumerate() {
                lanes[j % 8] += a * s.output[j];
            }
            let logit: f32 = lanes.iter().sum();
            self.logits.push(logit);
            let synthetic = r >= n;
            let signed = if synthetic { -f64::from(logit) } else { f64::from(logit) };
            loss += signed.max(0.0) + (-signed.abs()).exp().ln_1p();
            let q = (sigmoid(logit) - if synthetic { 1.0 } else { 0.0 }) / n as f32;
            let (output, rest) = block.split_at_mut(units);
            let (norm_weight, norm_bias) = rest.split_at_mut(units);
            for j in 0..units {
                output[j] += q * activated[j];
                let dy = q * s.output[j] * row[j];
                row[j] = dy;
                norm_weight[j] += dy * unit[j];
                norm_bias[j] += dy;
            }
            if (r + 1) % 64 == 0 || r + 1 == rows {
                for (sum, part) in [&mut g.output, &mut g.norm_weight, &mut g.norm_bias].into_iter().zip([
                    output,
                    norm_weight,
                    norm_bias,
                ]) {
                    sum.iter_mut().zip(part.iter_mut()).for_each(|(s, p)| *s += std::mem::take(p));
                }
            }
        }
        for (row, unit) in self.hidden.chunks_exact_mut(units).zip(self.unit.chunks_exact(units)) {
            for j in 0..units {
                let centred = row[j] - (g.norm_bias[j] + unit[j] * g.norm_weight[j]) / rows as f32;
                row[j] = s.norm_weight[j] * inverse[j] * centred;
            }
        }
        let dh = Mat::new(&self.hidden, rows, units);
        gemm_into(&mut g.weight, dh.t(), x, false, threads);
        gemm_into(feature_gradient, dh, Mat::new(&s.weight, units, dim), false, threads);
        loss / n as f64
    }

    /// Mean and biased variance of each hidden unit over the batch, in two passes.
    fn batch_statistics(&self, rows: usize, units: usize) -> (Vec<f32>, Vec<f32>) {
        let mut mean = vec![0.0f32; units];
        add_column_sums(&mut mean, &self.hidden);
        mean.iter_mut().for_each(|m| *m /= rows as f32);
        let (mut var, mut block) = (vec![0.0f32; units], vec![0.0f32; units]);
        for chunk in self.hidden.chunks(64 * units) {
            block.fill(0.0);
            for row in chunk.chunks_exact(units) {
                for j in 0..units {
                    let d = row[j] - mean[j];
                    block[j] += d * d;
                }
            }
            var.iter_mut().zip(&block).for_each(|(v, b)| *v += b);
        }
        var.iter_mut().for_each(|v| *v /= rows as f32);
        (mean, var)
    }
}
