//! What is trained on top of the frozen features: a [`Projection`] and a [`Discriminator`].
//!
//! At inference both are one affine map, a LeakyReLU and one weighted sum: [`GridHead`].

pub mod centers;
mod distance;
mod folded;
mod grid;
mod scale;

use pbas_nn::linalg::{Mat, Threads, gemm_into};
use pbas_nn::weights::Weights;
use rand::RngExt;
use rand_distr::{Distribution, Normal};

pub use distance::CenterDistance;
pub(crate) use folded::FoldedHead;
pub use grid::GridHead;
pub use scale::{FeatureScale, ScaleSums};

/// Slope of the LeakyReLU below zero.
pub const LEAKY_SLOPE: f32 = 0.2;
/// Added to the variance in BatchNorm.
pub const BATCH_NORM_EPS: f32 = 1e-5;

/// `P(z) = W z + b`, from patch features to the space where the boundary is.
#[derive(Debug, Clone, PartialEq)]
pub struct Projection {
    /// Entries of a feature, in and out.
    pub dim: usize,
    /// `[dim out, dim in]`.
    pub weight: Weights,
    /// `[dim]`.
    pub bias: Vec<f32>,
}

/// `S(x) = sigmoid(w2 . LeakyReLU(BatchNorm(W1 x + b1)))`, the probability that `x` lies beyond the boundary.
#[derive(Debug, Clone, PartialEq)]
pub struct Discriminator {
    /// Entries of a projected feature.
    pub dim: usize,
    /// Hidden units.
    pub hidden: usize,
    /// First layer, `[hidden, dim]`.
    pub weight: Weights,
    /// First layer, `[hidden]`.
    pub bias: Vec<f32>,
    /// BatchNorm scale (gamma), `[hidden]`.
    pub norm_weight: Vec<f32>,
    /// BatchNorm shift (beta), `[hidden]`.
    pub norm_bias: Vec<f32>,
    /// Running mean, `[hidden]`.
    pub running_mean: Vec<f32>,
    /// Running variance (unbiased), `[hidden]`.
    pub running_var: Vec<f32>,
    /// Last layer, `[hidden]`; it has no bias.
    pub output: Vec<f32>,
}

/// A projection and its discriminator.
#[derive(Debug, Clone, PartialEq)]
pub struct Head {
    /// Trained with Adam.
    pub projection: Projection,
    /// Trained with AdamW.
    pub discriminator: Discriminator,
    /// Scale on which patch features enter, from the pictures that the head trains on; `None`: as they are.
    pub feature_scale: Option<FeatureScale>,
    /// What scores in place of the discriminator, if anything: the ablation without RBO.
    pub distance: Option<CenterDistance>,
}

impl Projection {
    /// `P(z)` of rows `z`, `[n, dim]`.
    ///
    /// # Panics
    /// If `z` has no whole rows.
    #[must_use]
    pub fn apply(&self, z: &[f32], threads: Threads) -> Vec<f32> {
        let n = z.len() / self.dim;
        let mut x = vec![0.0; n * self.dim];
        gemm_into(
            &mut x,
            Mat::new(z, n, self.dim),
            Mat::new(&self.weight, self.dim, self.dim).t(),
            false,
            threads,
        );
        for row in x.chunks_exact_mut(self.dim) {
            row.iter_mut().zip(&self.bias).for_each(|(v, b)| *v += b);
        }
        x
    }
}

impl Head {
    /// Initial values: Xavier normal weights, biases uniform in +-1/sqrt(fan in), BatchNorm 1 and 0
    /// (algorithm.md, section 3).
    pub fn initial(dim: usize, hidden: usize, rng: &mut impl rand::Rng) -> Self {
        let mut linear = |out: usize, fan_in: usize| {
            let deviation = (2.0 / (out + fan_in) as f32).sqrt();
            let normal = Normal::new(0.0, deviation).expect("a positive, finite deviation");
            let weight: Vec<f32> = (0..out * fan_in).map(|_| normal.sample(rng)).collect();
            let bound = 1.0 / (fan_in as f32).sqrt();
            let bias: Vec<f32> = (0..out).map(|_| rng.random_range(-bound..bound)).collect();
            (weight, bias)
        };
        let (weight, bias) = linear(dim, dim);
        let projection = Projection { dim, weight: weight.into(), bias };
        let (weight, bias) = linear(hidden, dim);
        let (output, _) = linear(1, hidden);
        let discriminator = Discriminator {
            dim,
            hidden,
            weight: weight.into(),
            bias,
            norm_weight: vec![1.0; hidden],
            norm_bias: vec![0.0; hidden],
            running_mean: vec![0.0; hidden],
            running_var: vec![1.0; hidden],
            output,
        };
        Self { projection, discriminator, feature_scale: None, distance: None }
    }

    /// Logits of patch features `[n, dim]`, layer after layer, on one thread: the twin of [`GridHead`], and cheaper where
    /// the features are few.
    #[must_use]
    pub fn logits(&self, features: &[f32]) -> Vec<f32> {
        let (p, s) = (&self.projection, &self.discriminator);
        let (n, dim, hidden) = (features.len() / p.dim, p.dim, s.hidden);
        if self.distance.is_some() {
            return distance::logits(self, features, Threads::One);
        }
        let mut z = features.to_vec();
        if let Some(scale) = &self.feature_scale {
            scale.apply(&mut z);
        }
        let x = p.apply(&z, Threads::One);
        let mut h = vec![0.0; n * hidden];
        gemm_into(&mut h, Mat::new(&x, n, dim), Mat::new(&s.weight, hidden, dim).t(), false, Threads::One);
        let logit = |row: &[f32]| {
            let unit = |j: usize| {
                let u = (row[j] + s.bias[j] - s.running_mean[j]) / (s.running_var[j] + BATCH_NORM_EPS).sqrt();
                let y = u * s.norm_weight[j] + s.norm_bias[j];
                s.output[j] * y.max(LEAKY_SLOPE * y)
            };
            (0..hidden).map(unit).sum()
        };
        h.chunks_exact(hidden).map(logit).collect()
    }

    /// The values of every trained tensor with its name and shape, in a fixed order.
    #[must_use]
    pub fn tensors(&self) -> Vec<(&'static str, Vec<usize>, &[f32])> {
        let (p, s) = (&self.projection, &self.discriminator);
        let (d, h) = (p.dim, s.hidden);
        vec![
            ("projection.weight", vec![d, d], &p.weight),
            ("projection.bias", vec![d], &p.bias),
            ("discriminator.weight", vec![h, d], &s.weight),
            ("discriminator.bias", vec![h], &s.bias),
            ("discriminator.norm_weight", vec![h], &s.norm_weight),
            ("discriminator.norm_bias", vec![h], &s.norm_bias),
            ("discriminator.running_mean", vec![h], &s.running_mean),
            ("discriminator.running_var", vec![h], &s.running_var),
            ("discriminator.output", vec![1, h], &s.output),
        ]
    }

    /// The values of every trained tensor for writing, in the order of [`Head::tensors`].
    pub fn tensors_mut(&mut self) -> [&mut [f32]; 9] {
        let (p, s) = (&mut self.projection, &mut self.discriminator);
        [
            &mut p.weight,
            &mut p.bias,
            &mut s.weight,
            &mut s.bias,
            &mut s.norm_weight,
            &mut s.norm_bias,
            &mut s.running_mean,
            &mut s.running_var,
            &mut s.output,
        ]
    }
}

/// The logits of one head out of those of all, `[positions, heads]` ([`GridHead::logits`]).
#[must_use]
pub fn of_head(logits: &[f32], heads: usize, head: usize) -> Vec<f32> {
    logits.iter().skip(head).step_by(heads).copied().collect()
}

/// `1 / (1 + exp(-x))`.
#[must_use]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}
