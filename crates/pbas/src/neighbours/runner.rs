//! The distances of a picture's patches, ready to run at one picture size.

use pbas_nn::linalg::Threads;
use pbas_nn::vectorized;
use rayon::prelude::*;

use super::bank::{self, BAND};
use super::grid::{Blend, blends};
use super::{CoarseGrid, Neighbours, PackedBank, may_look};
use crate::Result;
use crate::bands::each_band;
use crate::head::FeatureScale;
use crate::patch::PatchEmbedding;
use crate::settings::Settings;
use crate::view::View;

/// Buffers of one thread.
#[derive(Default)]
struct Work {
    features: Vec<f32>,
    scaled: Vec<f32>,
    least: Vec<f32>,
    bank: bank::Work,
}

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
    /// Lays out the banks of a view, if it has any.
    ///
    /// # Errors
    /// As [`NeighbourRunner::new`].
    pub fn of_view(view: &View, settings: &Settings, embedding: &PatchEmbedding) -> Result<Option<Self>> {
        let both = view.neighbours.as_ref().zip(settings.neighbours);
        both.map(|(n, wanted)| Self::new(n, wanted.weight, embedding)).transpose()
    }

    /// Lays out the banks; a distance counts `weight` for each deviation.
    ///
    /// # Errors
    /// An instruction set was asked for that this processor lacks.
    fn new(neighbours: &Neighbours, weight: f64, embedding: &PatchEmbedding) -> Result<Self> {
        let pack = |b: &super::Bank| Ok((b.scale.clone(), PackedBank::new(&b.rows, b.scale.mean.len())?));
        let banks = neighbours.banks.par_iter().with_max_len(1).map(pack).collect::<Result<Vec<_>>>()?;
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

    /// Distances of the patches of the coarse grid to some banks, `[positions, banks]`.
    fn distances(&self, banks: &[usize], pooled: &[f32], threads: Threads) -> Vec<f32> {
        let (height, width) = self.grid.shape();
        let mut out = vec![0.0; height * width * banks.len()];
        if banks.is_empty() {
            return out;
        }
        each_band(threads, &mut out, BAND * banks.len(), 1, |work, band, out| {
            self.band(banks, pooled, band * BAND, out, work);
        });
        out
    }

    /// As [`NeighbourRunner::distances`], of a band of patches from `first` on.
    fn band(&self, banks: &[usize], pooled: &[f32], first: usize, out: &mut [f32], work: &mut Work) {
        let count = out.len() / banks.len();
        let Work { features, scaled, least, bank: buffers } = work;
        features.resize(count * self.grid.dim(), 0.0);
        vectorized!(self.grid.write_features(pooled, first, features));
        least.resize(count, 0.0);
        for (i, &bank) in banks.iter().enumerate() {
            let (scale, rows) = &self.banks[bank];
            scaled.clone_from(features);
            vectorized!(scale.apply(scaled));
            rows.band(scaled, least, buffers);
            out.iter_mut().skip(i).step_by(banks.len()).zip(&*least).for_each(|(out, d)| *out = *d);
        }
    }

    /// Adds to the logits of every head, `[positions, heads]`, what the distances say.
    pub fn add_to(&self, logits: &mut [f32], pooled: &[f32], threads: Threads) {
        let banks: Vec<usize> = (0..self.banks.len()).collect();
        let distances = self.distances(&banks, pooled, threads);
        let heads = self.factors.len();
        for head in 0..heads {
            let seen: Vec<usize> = self.seen(head).collect();
            self.add(logits, &self.nearest(&distances, banks.len(), &seen, head), heads, head);
        }
    }

    /// As [`NeighbourRunner::add_to`], for the logits of one head, `[positions]`.
    pub fn add_to_head(&self, logits: &mut [f32], pooled: &[f32], head: usize, threads: Threads) {
        let banks: Vec<usize> = self.seen(head).collect();
        let distances = self.distances(&banks, pooled, threads);
        let all: Vec<usize> = (0..banks.len()).collect();
        self.add(logits, &self.nearest(&distances, banks.len(), &all, head), 1, 0);
    }

    /// The banks that a head may look into.
    fn seen(&self, head: usize) -> impl Iterator<Item = usize> {
        let banks = self.banks.len();
        (0..banks).filter(move |&bank| may_look(head, bank, banks))
    }

    /// The least of the `columns` of distances, `[positions, width]`, times the head's factor, `[positions]`.
    fn nearest(&self, distances: &[f32], width: usize, columns: &[usize], head: usize) -> Vec<f32> {
        let least = |of: &[f32]| columns.iter().map(|&c| of[c]).reduce(f32::min).unwrap_or_default();
        distances.chunks_exact(width.max(1)).map(|of| least(of) * self.factors[head]).collect()
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

#[cfg(test)]
mod tests {
    use pbas_nn::shape::Shape;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::super::Bank;
    use super::*;
    use crate::patch::Pooling;

    const WEIGHT: f64 = 1.5;

    fn embedding() -> PatchEmbedding {
        let shape = |height, width, channels| Shape { height, width, channels };
        let shapes = [shape(6, 8, 5), shape(3, 4, 7), shape(2, 2, 4)];
        PatchEmbedding::new(&shapes, Pooling::Channels).unwrap()
    }

    fn random(n: usize, rng: &mut ChaCha8Rng) -> Vec<f32> {
        (0..n).map(|_| rng.random_range(-1.0..1.0)).collect()
    }

    fn neighbours(banks: usize, rng: &mut ChaCha8Rng) -> Neighbours {
        let dim = embedding().dim();
        let mut bank = |i: usize| Bank {
            scale: FeatureScale {
                mean: random(dim, rng),
                deviation: (0..dim).map(|_| rng.random_range(0.5..2.0)).collect(),
            },
            rows: random((3 + i) * dim, rng).into(),
        };
        let banks: Vec<Bank> = (0..banks).map(&mut bank).collect();
        Neighbours { deviations: (0..banks.len()).map(|h| 0.5 + h as f64).collect(), banks }
    }

    /// What a head gains at each position of the fine grid, by plain loops in float64.
    fn slow(n: &Neighbours, embedding: &PatchEmbedding, pooled: &[f32], head: usize) -> Vec<f64> {
        let dim = embedding.dim();
        let grid = CoarseGrid::new(embedding);
        let features = grid.features(pooled);
        let nearest = |x: &[f32], bank: &Bank| {
            let distance = |b: &[f32]| {
                let terms = (0..dim).map(|i| {
                    let z = (f64::from(x[i]) - f64::from(bank.scale.mean[i]))
                        / f64::from(bank.scale.deviation[i]);
                    (z - f64::from(b[i])).powi(2)
                });
                terms.sum::<f64>().sqrt()
            };
            bank.rows.chunks(dim).map(distance).fold(f64::INFINITY, f64::min)
        };
        let at = |x: &[f32]| {
            let seen = n.banks.iter().enumerate().filter(|(b, _)| n.banks.len() == 1 || *b != head);
            seen.map(|(_, bank)| nearest(x, bank)).fold(f64::INFINITY, f64::min)
        };
        let coarse: Vec<f64> = features.chunks(dim).map(|x| WEIGHT * at(x) / n.deviations[head]).collect();
        let ((height, width), (rows, columns)) = (grid.shape(), embedding.grid());
        let along = |i: usize, from: usize, to: usize| {
            let at = ((i as f64 + 0.5) * from as f64 / to as f64 - 0.5).clamp(0.0, from as f64 - 1.0);
            (at.floor() as usize, (at.floor() as usize + 1).min(from - 1), at - at.floor())
        };
        let mut fine = Vec::new();
        for i in 0..rows * columns {
            let (y0, y1, ty) = along(i / columns, height, rows);
            let (x0, x1, tx) = along(i % columns, width, columns);
            let line = |y: usize| (1.0 - tx) * coarse[y * width + x0] + tx * coarse[y * width + x1];
            fine.push((1.0 - ty) * line(y0) + ty * line(y1));
        }
        fine
    }

    #[test]
    fn agrees_with_plain_loops() {
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let embedding = embedding();
        for heads in [1, 2, 3, 5] {
            let n = neighbours(heads, &mut rng);
            let runner = NeighbourRunner::new(&n, WEIGHT, &embedding).unwrap();
            let pooled = random(embedding.pooled_len(), &mut rng);
            let before = random(embedding.positions() * heads, &mut rng);
            let mut all = before.clone();
            runner.add_to(&mut all, &pooled, Threads::One);
            let mut on_all_cores = before.clone();
            runner.add_to(&mut on_all_cores, &pooled, Threads::All);
            assert_eq!(all, on_all_cores);
            for head in 0..heads {
                let of = |v: &[f32]| v.iter().skip(head).step_by(heads).copied().collect::<Vec<f32>>();
                let mut one = of(&before);
                runner.add_to_head(&mut one, &pooled, head, Threads::One);
                assert_eq!(one, of(&all), "a head alone and among the others");
                for ((fast, b), gain) in one.iter().zip(of(&before)).zip(slow(&n, &embedding, &pooled, head))
                {
                    let expected = f64::from(b) + gain;
                    assert!((f64::from(*fast) - expected).abs() < 1e-4, "{heads} heads: {fast}, {expected}");
                }
            }
        }
    }

    /// What makes ranks exact: the bank of the fold that a head has not seen changes nothing of what it says.
    #[test]
    fn no_head_looks_into_the_bank_of_its_own_fold() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let embedding = embedding();
        let mut n = neighbours(3, &mut rng);
        let pooled = random(embedding.pooled_len(), &mut rng);
        let evidence = |n: &Neighbours| {
            let mut logits = vec![0.0; embedding.positions() * 3];
            let runner = NeighbourRunner::new(n, WEIGHT, &embedding).unwrap();
            runner.add_to(&mut logits, &pooled, Threads::One);
            logits
        };
        let before = evidence(&n);
        // The picture's own patches: every head that may look finds a distance of 0.
        let bank = &mut n.banks[1];
        let mut features = CoarseGrid::new(&embedding).features(&pooled);
        bank.scale.apply(&mut features);
        bank.rows = features.into();
        let after = evidence(&n);
        for (before, after) in before.chunks(3).zip(after.chunks(3)) {
            assert_eq!(before[1], after[1]);
            assert!(after[0].abs() < 0.01 && after[2].abs() < 0.01 && before[0] > 0.1 && before[2] > 0.1);
        }
    }
}
