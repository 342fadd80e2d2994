//! Distance to the nearest good patch: the second kind of evidence, added to the logits of a view's heads.
//!
//! The heads' boundary is smooth; a bank of patches remembers each kind of good texture as it is. For every fold of the good pictures the
//! bank keeps a coreset of its patches (Roth et al., "Towards Total Recall in Industrial Anomaly Detection", CVPR 2022, with the patches of
//! [`CoarseGrid`]), in the scale of that fold. Head `h`, which has not seen fold `h`, is joined by the distance to the banks of all
//! other folds:
//!
//! `fused_h = logit_h + weight * min over f != h of d_f / deviation_h`
//!
//! Nothing in it depends on the pictures of fold `h`, so a rank among their scores is exact as it is without it (docs/threshold.md).

mod bank;
mod coreset;
mod grid;
mod runner;
mod subspace;

pub(crate) use bank::{PackedBank, minus_half_square};
pub(crate) use coreset::coreset;
pub(crate) use grid::Blend;
pub use grid::CoarseGrid;
pub(crate) use runner::NeighbourRunner;

use pbas_nn::weights::Weights;

use crate::head::FeatureScale;

/// What a view remembers of good patches.
#[derive(Debug, Clone, PartialEq)]
pub struct Neighbours {
    /// One bank a fold of the good pictures, of that fold's patches alone; without folds one of the pictures that the head trained on.
    pub banks: Vec<Bank>,
    /// For each head what is counted as one: the deviation of distances between folds that it has seen.
    pub deviations: Vec<f64>,
}

/// Patches of one fold.
#[derive(Debug, Clone, PartialEq)]
pub struct Bank {
    /// Scale of the fold's features.
    pub scale: FeatureScale,
    /// `[count, dim]`, as z-scores; numbers that float16 holds exactly.
    pub rows: Weights,
}

impl Bank {
    /// How many patches are kept.
    #[must_use]
    pub fn count(&self) -> usize {
        self.rows.len() / self.scale.mean.len().max(1)
    }
}

/// Whether a head may look into a bank: never into that of the fold which it has not seen.
#[must_use]
pub fn may_look(head: usize, bank: usize, banks: usize) -> bool {
    banks == 1 || head != bank
}
