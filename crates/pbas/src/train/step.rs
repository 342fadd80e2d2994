//! One training step: ABL, AFS and RBO on one batch, one summed loss, one update of both parts of the head.

use pbas_nn::linalg::{Mat, Threads, gemm_into};
use pbas_nn::vectorized;

use super::boundary::Boundary;
use super::centers::{Centers, nearest_neighbour};
use super::params::{Decay, Moments};
use super::refinement::{CenterRows, Refinement, RefinementBatch};
use super::sweep::{BLOCK, add_sums, each};
use super::synthesis::ray_factors;
use crate::head::{Head, Projection};

/// Rates of one step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rates {
    /// Learning rate of the projection.
    pub projection: f32,
    /// Learning rate of the discriminator.
    pub discriminator: f32,
    /// Coupled L2 of the projection.
    pub projection_decay: f32,
    /// Decoupled decay of the discriminator.
    pub discriminator_decay: f32,
    /// Weight of `L_abl` in the sum.
    pub boundary_weight: f32,
}

/// Where the centres of a batch come from.
#[derive(Debug, Clone, Copy)]
pub enum BatchCenters<'a> {
    /// The most similar of fixed centres.
    Fixed(&'a Centers),
    /// The nearest of the first `candidates` rows of the batch; no gradient reaches them as centres.
    Neighbours {
        /// Rows that may be centres.
        candidates: usize,
        /// Which patch each row of the batch is; a patch is never its own centre, drawn twice or not.
        identity: &'a [u64],
    },
}

/// Where the synthetic anomalies of a batch are put.
#[derive(Debug, Clone, Copy)]
pub enum BatchSynthesis<'a> {
    /// On the ray from the centre, so many mean radii beyond each feature: `k`, `[n]`.
    Rays(&'a [f32]),
    /// At these differences from each projected feature, whatever its centre: `[n, dim]`.
    Offsets(&'a [f32]),
    /// Nowhere: the boundary loss alone trains the projection, and the discriminator stays as it is.
    Nowhere,
}

/// What a step measured before its update.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepLosses {
    /// `L_abl`, the mean radius (before its weight).
    pub boundary: f64,
    /// `L_rbo`; 0 without synthetic anomalies.
    pub refinement: f64,
}

/// A head in training with its optimisers and the buffers of a step.
#[derive(Debug, Clone)]
pub struct HeadTrainer {
    /// The head; its tensors are updated in place.
    pub head: Head,
    /// Steps done.
    pub steps: u64,
    /// Moments of each trained tensor: projection weight, bias; discriminator weight, bias, norm weight, norm bias, output.
    pub moments: Vec<Moments>,
    boundary: Boundary,
    refinement: Refinement,
    /// Projected rows, `[n, dim]`.
    features: Vec<f32>,
    feature_gradient: Vec<f32>,
    nearest: Vec<usize>,
    /// How far each anomaly lies beyond its feature, `[n]`.
    factors: Vec<f32>,
    /// Where rays of length one to given differences begin, `[n, dim]`, and which of them is each row's: its own.
    origins: Vec<f32>,
    own: Vec<usize>,
    projection_gradient: Vec<f32>,
    /// Sums over blocks of rows.
    partial: Vec<f32>,
}

impl HeadTrainer {
    /// Starts from `head`.
    #[must_use]
    pub fn new(head: Head) -> Self {
        let (p, s) = (&head.projection, &head.discriminator);
        let tensors: [&[f32]; 7] =
            [&p.weight, &p.bias, &s.weight, &s.bias, &s.norm_weight, &s.norm_bias, &s.output];
        let moments = tensors.iter().map(|t| Moments::zeros(t.len())).collect();
        Self {
            head,
            steps: 0,
            moments,
            boundary: Boundary::default(),
            refinement: Refinement::default(),
            features: Vec::new(),
            feature_gradient: Vec::new(),
            nearest: Vec::new(),
            factors: Vec::new(),
            origins: Vec::new(),
            own: Vec::new(),
            projection_gradient: Vec::new(),
            partial: Vec::new(),
        }
    }

    /// One step on `batch` `[n, dim]`.
    ///
    /// # Panics
    /// If the lengths do not fit each other.
    pub fn step(
        &mut self,
        batch: &[f32],
        centers: BatchCenters<'_>,
        synthesis: BatchSynthesis<'_>,
        rates: Rates,
        threads: Threads,
    ) -> StepLosses {
        let losses = self.losses_and_gradients(batch, centers, synthesis, rates.boundary_weight, threads);
        // Projection weight and bias, and the five tensors of the discriminator unless that has nothing to learn from.
        let trained = if matches!(synthesis, BatchSynthesis::Nowhere) { 2 } else { 7 };
        self.update(rates, trained, threads);
        losses
    }

    /// Forward and backward; the gradients stay in the buffers.
    fn losses_and_gradients(
        &mut self,
        batch: &[f32],
        centers: BatchCenters<'_>,
        synthesis: BatchSynthesis<'_>,
        boundary_weight: f32,
        threads: Threads,
    ) -> StepLosses {
        let dim = self.head.projection.dim;
        let n = batch.len() / dim;
        assert_eq!(batch.len(), n * dim, "whole rows");
        self.features.resize(n * dim, 0.0);
        self.feature_gradient.resize(n * dim, 0.0);
        let normal = &mut self.features;
        project(normal, &self.head.projection, batch, threads);
        let center_rows = match centers {
            BatchCenters::Fixed(c) => {
                self.nearest = c.nearest_by_cosine(normal, threads);
                self.boundary.measure(normal, &c.data, &self.nearest, dim, threads);
                CenterRows::Other(&c.data)
            }
            BatchCenters::Neighbours { candidates, identity } => {
                let bank = candidates.min(n);
                let (rows, own) = (&normal[..bank * dim], &identity[..bank]);
                self.nearest = nearest_neighbour(normal, identity, rows, own, dim, threads);
                self.boundary.measure(normal, rows, &self.nearest, dim, threads);
                CenterRows::Batch
            }
        };
        let dx = &mut self.feature_gradient;
        let discriminator = &mut self.head.discriminator;
        let refinement = match synthesis {
            BatchSynthesis::Rays(scales) => {
                assert_eq!(scales.len(), n, "one scale a row");
                ray_factors(&mut self.factors, &self.boundary, scales);
                let (nearest, factors) = (&self.nearest, &self.factors);
                let chosen = RefinementBatch { normal, centers: center_rows, nearest, factors };
                self.refinement.run(discriminator, chosen, dx, threads)
            }
            BatchSynthesis::Offsets(offsets) => {
                assert_eq!(offsets.len(), n * dim, "one difference an entry");
                // x + e = x + 1 (x - (x - e)): each row has a centre of its own, from which the ray is its offset.
                self.origins.clear();
                self.origins.extend(normal.iter().zip(offsets).map(|(x, e)| x - e));
                self.own.clear();
                self.own.extend(0..n);
                self.factors.clear();
                self.factors.resize(n, 1.0);
                let (centers, factors) = (CenterRows::Other(&self.origins), &self.factors);
                let chosen = RefinementBatch { normal, centers, nearest: &self.own, factors };
                self.refinement.run(discriminator, chosen, dx, threads)
            }
            BatchSynthesis::Nowhere => {
                dx.fill(0.0);
                0.0
            }
        };
        self.boundary.add_gradient(dx, dim, boundary_weight, threads);
        // P(z) = W z + b:  dW = dx^T z,  db = sum dx.
        self.projection_gradient.resize(dim * dim + dim, 0.0);
        let (weight, bias) = self.projection_gradient.split_at_mut(dim * dim);
        gemm_into(weight, Mat::new(dx, n, dim).t(), Mat::new(batch, n, dim), false, threads);
        bias.fill(0.0);
        add_sums(bias, dx, &mut self.partial, threads, |v, _| v);
        StepLosses { boundary: f64::from(self.boundary.mean_radius), refinement }
    }

    fn update(&mut self, rates: Rates, trained: usize, threads: Threads) {
        self.steps += 1;
        let dim = self.head.projection.dim;
        let (weight, bias) = self.projection_gradient.split_at(dim * dim);
        let g = &self.refinement.gradient;
        let (p, s) = (&mut self.head.projection, &mut self.head.discriminator);
        let (coupled, decoupled) =
            (Decay::Coupled(rates.projection_decay), Decay::Decoupled(rates.discriminator_decay));
        let parts: [(&mut [f32], &[f32], f32, Decay); 7] = [
            (&mut p.weight, weight, rates.projection, coupled),
            (&mut p.bias, bias, rates.projection, coupled),
            (&mut s.weight, &g.weight, rates.discriminator, decoupled),
            (&mut s.bias, &g.bias, rates.discriminator, decoupled),
            (&mut s.norm_weight, &g.norm_weight, rates.discriminator, decoupled),
            (&mut s.norm_bias, &g.norm_bias, rates.discriminator, decoupled),
            (&mut s.output, &g.output, rates.discriminator, decoupled),
        ];
        for ((tensor, gradient, rate, decay), moments) in
            parts.into_iter().zip(&mut self.moments).take(trained)
        {
            moments.update(tensor, gradient, self.steps, rate, decay, threads);
        }
    }

    /// What the last step found: the chosen centre and the distance of each row of the batch, and the projected rows.
    #[must_use]
    pub fn last_batch(&self) -> (&[usize], &[f32], &[f32]) {
        (&self.nearest, &self.boundary.distance, &self.features)
    }
}

/// `out = P(z)` for rows `z`, on all threads: [`Projection::apply`] into a buffer that is kept.
pub fn project(out: &mut [f32], p: &Projection, z: &[f32], threads: Threads) {
    let n = z.len() / p.dim;
    gemm_into(out, Mat::new(z, n, p.dim), Mat::new(&p.weight, p.dim, p.dim).t(), false, threads);
    add_to_rows(out, &p.bias, threads);
}

/// Adds a bias to every row.
pub(super) fn add_to_rows(rows: &mut [f32], bias: &[f32], threads: Threads) {
    each(threads, rows.chunks_mut(BLOCK * bias.len()), |_, rows| {
        vectorized!({
            for row in rows.chunks_exact_mut(bias.len()) {
                row.iter_mut().zip(bias).for_each(|(o, b)| *o += b);
            }
        });
    });
}

#[cfg(test)]
mod tests;
