//! Distance to the nearest good patch: the second kind of evidence, added to the logits of a view's heads.
//!
//! The heads' boundary is smooth; a bank of patches remembers each kind of good texture as it is. For every fold of the good pictures the
//! bank keeps a coreset of its patches (Roth et al., "Towards Total Recall in Industrial Anomaly Detection", CVPR 2022, with the patches of
//! [`CoarseGrid`]), in the scale of that fold. Head `h`, which has not seen fold `h`, is joined by the distance to the banks of all
//! other folds:
//!
//! `fused_h = logit_h + weight * min over f != h of d_f / deviation_h + usual_weight * min over f != h of (d_f - mean_hi) / deviation_hi`
//!
//! where `i` is the nearest row of bank `f`, and `mean_hi` and `deviation_hi` are of the distances at which patches of the other folds that head
//! `h` has seen lie from this row, where it is their nearest ([`Usual`]): what is far on plain ground is near where good parts vary.
//!
//! Nothing in it depends on the pictures of fold `h`, so a rank among their scores is exact as it is without it (docs/threshold.md).

mod bank;
mod coreset;
mod grid;
mod runner;
mod subspace;

pub(crate) use bank::{Near, PackedBank, minus_half_square};
pub(crate) use coreset::coreset;
pub(crate) use grid::Blend;
pub use grid::CoarseGrid;
pub(crate) use runner::{Line, NeighbourRunner};

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
    /// How far good patches usually lie from each row; `None` in models of before.
    pub usual: Option<Usual>,
}

/// Distances at which good patches lie from the rows of a bank, for each head that may look into it ([`place`]).
#[derive(Debug, Clone, PartialEq)]
pub struct Usual {
    /// Mean, `[heads, count]`.
    pub mean: Weights,
    /// Standard deviation, positive, `[heads, count]`.
    pub deviation: Weights,
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

/// How many heads may look into a bank.
#[must_use]
pub fn lookers(banks: usize) -> usize {
    (banks - 1).max(1)
}

/// Which of the heads that may look into a bank a head is, in their order.
#[must_use]
pub fn place(head: usize, bank: usize) -> usize {
    head - usize::from(head > bank)
}
