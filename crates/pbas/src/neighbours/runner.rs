//! The distances of a picture's patches, ready to run at one picture size.

use pbas_nn::linalg::{Threads, vectorized};

use super::grid::{Blend, blends};
use super::{CoarseGrid, Neighbours, PackedBank, may_look};
use crate::Result;
use crate::head::FeatureScale;
use crate::patch::PatchEmbedding;

/// A view's banks, laid out, and the grids between which distances travel.
#[derive(Debug)]
pub(crate) struct NeighbourRunner {
    grid: CoarseGrid,
    banks: Vec<(FeatureScale, PackedBank)>,
    /// For each head by what a distance is multiplied.
    factors: Vec<f32>,
    /// From the coarse grid to the heads'.
    rows: Vec<Blend>,
    columns: Vec<Blend>,
}

impl NeighbourRunner {
    /// Lays out the banks; a distance counts `weight` for each deviation.
    ///
    /// # Errors
    /// An instruction set was asked for that this processor lacks.
    pub fn new(neighbours: &Neighbours, weight: f64, embedding: &PatchEmbedding) -> Result<Self> {
        let pack = |b: &super::Bank| Ok((b.scale.clone(), PackedBank::new(&b.rows, b.scale.mean.len())?));
        let banks = neighbours.banks.iter().map(pack).collect::<Result<Vec<_>>>()?;
        let factors = neighbours.deviations.iter().map(|d| (weight / d) as f32).collect();
        Ok(Self::laid_out(banks, factors, embedding))
    }

    fn laid_out(
        banks: Vec<(FeatureScale, PackedBank)>,
        factors: Vec<f32>,
        embedding: &PatchEmbedding,
    ) -> Self {
        let grid = CoarseGrid::new(embedding);
        let ((height, width), (rows, columns)) = (grid.shape(), embedding.grid());
        Self { grid, banks, factors, rows: blends(height, rows), columns: blends(width, columns) }
    }

    /// The same banks for another picture size.
    pub fn resized(&self, embedding: &PatchEmbedding) -> Self {
        Self::laid_out(self.banks.clone(), self.factors.clone(), embedding)
    }

    /// The grid on which distances are measured.
    pub fn grid(&self) -> &CoarseGrid {
        &self.grid
    }

    /// For each head by what a distance is multiplied.
    pub fn factors(&self) -> &[f32] {
        &self.factors
    }

    /// From the coarse grid to the heads': rows and columns.
    pub fn to_heads(&self) -> (&[Blend], &[Blend]) {
        (&self.rows, &self.columns)
    }

    /// Distance to each bank, `[banks][positions of the coarse grid]`.
    fn distances(&self, pooled: &[f32], threads: Threads) -> Vec<Vec<f32>> {
        let features = self.grid.features(pooled);
        let each = |(scale, bank): &(FeatureScale, PackedBank)| {
            let mut scaled = features.clone();
            vectorized(|| scale.apply(&mut scaled));
            bank.distances(&scaled, threads)
        };
        self.banks.iter().map(each).collect()
    }

    /// Adds to the logits of every head, `[positions, heads]`, what the distances say.
    pub fn add_to(&self, logits: &mut [f32], pooled: &[f32], threads: Threads) {
        let distances = self.distances(pooled, threads);
        let heads = self.factors.len();
        for head in 0..heads {
            self.add(logits, &self.nearest(&distances, head), heads, head);
        }
    }

    /// As [`NeighbourRunner::add_to`], for the logits of one head, `[positions]`.
    pub fn add_to_head(&self, logits: &mut [f32], pooled: &[f32], head: usize, threads: Threads) {
        let distances = self.distances(pooled, threads);
        self.add(logits, &self.nearest(&distances, head), 1, 0);
    }

    /// The least distance to the banks that a head may look into, times its factor, `[positions of the coarse grid]`.
    fn nearest(&self, distances: &[Vec<f32>], head: usize) -> Vec<f32> {
        let mut banks =
            distances.iter().enumerate().filter(|(b, _)| may_look(head, *b, self.banks.len())).map(|b| b.1);
        let mut least = banks.next().cloned().unwrap_or_default();
        for other in banks {
            least.iter_mut().zip(other).for_each(|(l, &d)| *l = l.min(d));
        }
        least.iter_mut().for_each(|l| *l *= self.factors[head]);
        least
    }

    /// Brings values of the coarse grid to the heads' and adds them to every `stride`-th number from `first` on.
    fn add(&self, logits: &mut [f32], coarse: &[f32], stride: usize, first: usize) {
        let width = self.grid.shape().1;
        let lines = logits.chunks_exact_mut(self.columns.len() * stride);
        let mut line_of = vec![0.0; width];
        for (row, line) in self.rows.iter().zip(lines) {
            line_of.fill(0.0);
            for (i, w) in row.weights.iter().enumerate() {
                let source = &coarse[(row.first + i) * width..][..width];
                line_of.iter_mut().zip(source).for_each(|(l, s)| *l += w * s);
            }
            for (column, logits) in self.columns.iter().zip(line.chunks_exact_mut(stride)) {
                let source = &line_of[column.first..];
                logits[first] += column.weights.iter().zip(source).map(|(w, s)| w * s).sum::<f32>();
            }
        }
    }
}
