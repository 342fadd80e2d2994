//! The distances of a picture's patches, ready to run at one picture size.

use std::ops::Range;
use std::sync::Arc;

use pbas_nn::linalg::Threads;
use pbas_nn::vectorized;
use rayon::prelude::*;

use super::bank::{self, BAND, Near};
use super::grid::{Blend, blends};
use super::{Bank, CoarseGrid, Neighbours, PackedBank, may_look, place};
use crate::Result;
use crate::bands::each_band;
use crate::head::FeatureScale;
use crate::patch::PatchEmbedding;
use crate::settings::{NeighbourSettings, Settings};
use crate::view::View;

/// Buffers of one thread.
#[derive(Default)]
struct Work {
    features: Vec<f32>,
    scaled: Vec<f32>,
    nearest: Vec<Near>,
    bank: bank::Work,
}

/// A bank, laid out; cheap to clone.
#[derive(Debug, Clone)]
struct Laid {
    scale: FeatureScale,
    rows: PackedBank,
    /// For each head that may look and each row what a distance counts beside its share of the head's deviation: `[heads][count]`, empty
    /// where nothing is known of what is usual.
    lines: Arc<Vec<Vec<Line>>>,
}

/// `gain * distance + offset`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Line {
    /// By what a distance is multiplied.
    pub gain: f32,
    /// What is added.
    pub offset: f32,
}

impl Laid {
    fn new(bank: &Bank, usual_weight: f64) -> Result<Self> {
        let of_row = |(mean, deviation): (&f32, &f32)| {
            let gain = usual_weight / f64::from(*deviation);
            Line { gain: gain as f32, offset: (-gain * f64::from(*mean)) as f32 }
        };
        let usual = bank.usual.iter().filter(|_| usual_weight != 0.0);
        let heads = usual.flat_map(|u| u.mean.chunks(bank.count()).zip(u.deviation.chunks(bank.count())));
        let lines = heads.map(|(means, deviations)| means.iter().zip(deviations).map(of_row).collect());
        Ok(Self {
            scale: bank.scale.clone(),
            rows: PackedBank::new(&bank.rows, bank.scale.mean.len())?,
            lines: Arc::new(lines.collect()),
        })
    }
}

/// A view's banks, laid out, and the grids between which distances travel.
#[derive(Debug)]
pub(crate) struct NeighbourRunner {
    grid: CoarseGrid,
    banks: Vec<Laid>,
    /// For each head by what a distance is multiplied.
    factors: Vec<f32>,
    /// For each head by what a distance is multiplied in the map; empty where the map counts as the score does.
    map_factors: Vec<f32>,
    /// What a logit counts at most in the map.
    map_limit: f32,
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
        both.map(|(n, wanted)| Self::new(n, wanted, embedding)).transpose()
    }

    /// Lays out the banks; a distance counts by the weights for each deviation.
    ///
    /// # Errors
    /// An instruction set was asked for that this processor lacks.
    fn new(neighbours: &Neighbours, wanted: NeighbourSettings, embedding: &PatchEmbedding) -> Result<Self> {
        let banks = neighbours.banks.par_iter().with_max_len(1);
        let banks = banks.map(|b| Laid::new(b, wanted.usual_weight)).collect::<Result<Vec<_>>>()?;
        let by = |weight: f64| neighbours.deviations.iter().map(move |d| (weight / d) as f32);
        let mut laid_out = Self::laid_out(banks, by(wanted.weight).collect(), embedding);
        laid_out.map_factors = wanted.map_weight.into_iter().flat_map(by).collect();
        laid_out.map_limit = wanted.map_limit.map_or(f32::INFINITY, |limit| limit as f32);
        Ok(laid_out)
    }

    /// Where the map counts as the score does.
    fn laid_out(banks: Vec<Laid>, factors: Vec<f32>, embedding: &PatchEmbedding) -> Self {
        let grid = CoarseGrid::new(embedding);
        let ((height, width), (rows, columns)) = (grid.shape(), embedding.grid());
        Self {
            grid,
            banks,
            factors,
            map_factors: Vec::new(),
            map_limit: f32::INFINITY,
            rows: blends(height, rows),
            columns: blends(width, columns),
        }
    }

    /// The same banks for another picture size, with distances as they are alone. What is usual jumps where two rows are equally near, and which of them
    /// is taken hangs on the last digit: no measure of whether two machines compute alike.
    pub fn distances_alone(&self, embedding: &PatchEmbedding) -> Self {
        let plain = |bank: &Laid| Laid { lines: Arc::default(), ..bank.clone() };
        Self::laid_out(self.banks.iter().map(plain).collect(), self.factors.clone(), embedding)
    }

    /// The grid on which distances are measured.
    pub fn grid(&self) -> &CoarseGrid {
        &self.grid
    }

    /// For each head by what a distance is multiplied.
    pub fn factors(&self) -> &[f32] {
        &self.factors
    }

    /// For each head by what it is multiplied in the map, where nothing else counts; empty where the map counts as the score does.
    pub fn map_factors(&self) -> &[f32] {
        &self.map_factors
    }

    /// What a logit counts at most in the map; infinite where it counts as much as it is.
    pub fn map_limit(&self) -> f32 {
        self.map_limit
    }

    /// For each row of a bank what a distance from it counts beside that, for a head that may look into it; `None` where nothing is known
    /// of what is usual.
    pub fn lines(&self, bank: usize, head: usize) -> Option<&[Line]> {
        self.banks[bank].lines.get(place(head, bank)).map(Vec::as_slice)
    }

    /// From the coarse grid to the heads': rows and columns.
    pub fn to_heads(&self) -> (&[Blend], &[Blend]) {
        (&self.rows, &self.columns)
    }

    /// The rows of some banks that are nearest to the patches of the coarse grid, `[positions, banks]`.
    fn nearest(&self, banks: &[usize], pooled: &[f32], threads: Threads) -> Vec<Near> {
        let (height, width) = self.grid.shape();
        let mut out = vec![Near::default(); height * width * banks.len()];
        if banks.is_empty() {
            return out;
        }
        each_band(threads, &mut out, BAND * banks.len(), 1, |work, band, out| {
            self.band(banks, pooled, band * BAND, out, work);
        });
        out
    }

    /// As [`NeighbourRunner::nearest`], of a band of patches from `first` on.
    fn band(&self, banks: &[usize], pooled: &[f32], first: usize, out: &mut [Near], work: &mut Work) {
        let count = out.len() / banks.len();
        let Work { features, scaled, nearest, bank: buffers } = work;
        features.resize(count * self.grid.dim(), 0.0);
        vectorized!(self.grid.write_features(pooled, first, features));
        nearest.resize(count, Near::default());
        for (i, &bank) in banks.iter().enumerate() {
            let bank = &self.banks[bank];
            scaled.clone_from(features);
            vectorized!(bank.scale.apply(scaled));
            bank.rows.band(scaled, nearest, buffers);
            out.iter_mut().skip(i).step_by(banks.len()).zip(&*nearest).for_each(|(out, n)| *out = *n);
        }
    }

    /// Adds to the logits of some heads, `[positions, heads]`, what the distances say to them. Returns what both are in the map, `[positions, heads]`; nothing
    /// where that is the same.
    pub fn add_to(
        &self,
        heads: Range<usize>,
        logits: &mut [f32],
        pooled: &[f32],
        threads: Threads,
    ) -> Vec<f32> {
        let count = self.banks.len();
        let may_any_look = |bank: &usize| heads.clone().any(|head| may_look(head, *bank, count));
        let banks: Vec<usize> = (0..count).filter(may_any_look).collect();
        let nearest = self.nearest(&banks, pooled, threads);
        // Unlike `min` it leaves what is not a number as it is, for the map to be refused.
        let limited = |&logit: &f32| if logit > self.map_limit { self.map_limit } else { logit };
        let mut in_map: Vec<f32> =
            if self.map_factors.is_empty() { Vec::new() } else { logits.iter().map(limited).collect() };
        for (i, head) in heads.clone().enumerate() {
            let (mut distances, evidence): (Vec<f32>, Vec<f32>) =
                self.evidence(&nearest, &banks, head).unzip();
            self.add(logits, &evidence, heads.len(), i);
            if let Some(factor) = self.map_factors.get(head) {
                distances.iter_mut().for_each(|d| *d *= factor);
                self.add(&mut in_map, &distances, heads.len(), i);
            }
        }
        in_map
    }

    /// What the nearest rows of `banks`, `[positions, banks]`, say to a head, which looks into those that it may, of each position: the least distance, and
    /// what counts: that by its deviation, and the least above what is usual.
    fn evidence<'a>(
        &'a self,
        nearest: &'a [Near],
        banks: &[usize],
        head: usize,
    ) -> impl Iterator<Item = (f32, f32)> + 'a {
        let columns = banks.iter().enumerate().filter(|(_, bank)| may_look(head, **bank, self.banks.len()));
        let columns: Vec<(usize, Option<&[Line]>)> =
            columns.map(|(i, &b)| (i, self.lines(b, head))).collect();
        let of_position = move |of: &[Near]| {
            let (mut distance, mut above) = (f32::INFINITY, f32::INFINITY);
            for &(i, lines) in &columns {
                let near = of[i];
                distance = distance.min(near.distance);
                if let Some(lines) = lines {
                    let line = lines[near.row];
                    above = above.min(line.gain * near.distance + line.offset);
                }
            }
            let finite = |v: f32| if v == f32::INFINITY { 0.0 } else { v };
            (finite(distance), finite(distance) * self.factors[head] + finite(above))
        };
        nearest.chunks_exact(banks.len().max(1)).map(of_position)
    }

    /// Brings values of the coarse grid to the heads' and adds them to every `stride`-th number from `first` on.
    fn add(&self, to: &mut [f32], coarse: &[f32], stride: usize, first: usize) {
        let width = self.grid.shape().1;
        let lines = to.chunks_exact_mut(self.columns.len() * stride);
        let mut line_of = vec![0.0; width];
        for (row, line) in self.rows.iter().zip(lines) {
            line_of.fill(0.0);
            for (i, w) in row.weights.iter().enumerate() {
                let source = &coarse[(row.first + i) * width..][..width];
                line_of.iter_mut().zip(source).for_each(|(l, s)| *l += w * s);
            }
            for (column, to) in self.columns.iter().zip(line.chunks_exact_mut(stride)) {
                let source = &line_of[column.first..];
                to[first] += column.weights.iter().zip(source).map(|(w, s)| w * s).sum::<f32>();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use pbas_nn::shape::Shape;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::super::{Usual, lookers};
    use super::*;
    use crate::patch::Pooling;

    const LIMIT: f64 = 0.25;
    const WANTED: NeighbourSettings = NeighbourSettings {
        rows: 100,
        weight: 1.5,
        usual_weight: 0.8,
        map_weight: Some(0.6),
        map_limit: Some(LIMIT),
    };

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
        let lookers = lookers(banks);
        let mut bank = |i: usize| {
            let positive = |n: usize, rng: &mut ChaCha8Rng| -> Vec<f32> {
                (0..n).map(|_| rng.random_range(0.5..2.0)).collect()
            };
            Bank {
                scale: FeatureScale { mean: random(dim, rng), deviation: positive(dim, rng) },
                rows: random((3 + i) * dim, rng).into(),
                usual: Some(Usual {
                    mean: positive(lookers * (3 + i), rng).into(),
                    deviation: positive(lookers * (3 + i), rng).into(),
                }),
            }
        };
        let banks: Vec<Bank> = (0..banks).map(&mut bank).collect();
        Neighbours { deviations: (0..banks.len()).map(|h| 0.5 + h as f64).collect(), banks }
    }

    /// What a head gains at each position of the fine grid, and in the map, by plain loops in float64.
    fn slow(n: &Neighbours, embedding: &PatchEmbedding, pooled: &[f32], head: usize) -> Vec<[f64; 2]> {
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
            let all = bank.rows.chunks(dim).map(distance).enumerate();
            all.min_by(|a, b| a.1.total_cmp(&b.1)).unwrap()
        };
        let at = |x: &[f32]| {
            let (mut least, mut above) = (f64::INFINITY, f64::INFINITY);
            for (b, bank) in n.banks.iter().enumerate().filter(|(b, _)| n.banks.len() == 1 || *b != head) {
                let (row, distance) = nearest(x, bank);
                // Of the heads but the `b`-th, this one is so many down.
                let looker = (0..head).filter(|h| *h != b).count();
                let of = |values: &[f32]| f64::from(values[looker * bank.count() + row]);
                let usual = bank.usual.as_ref().unwrap();
                least = least.min(distance);
                above = above.min((distance - of(&usual.mean)) / of(&usual.deviation));
            }
            let counted = WANTED.weight * least / n.deviations[head] + WANTED.usual_weight * above;
            [counted, WANTED.map_weight.unwrap() * least / n.deviations[head]]
        };
        let coarse: Vec<[f64; 2]> = features.chunks(dim).map(at).collect();
        let ((height, width), (rows, columns)) = (grid.shape(), embedding.grid());
        let along = |i: usize, from: usize, to: usize| {
            let at = ((i as f64 + 0.5) * from as f64 / to as f64 - 0.5).clamp(0.0, from as f64 - 1.0);
            (at.floor() as usize, (at.floor() as usize + 1).min(from - 1), at - at.floor())
        };
        let mut fine = Vec::new();
        for i in 0..rows * columns {
            let (y0, y1, ty) = along(i / columns, height, rows);
            let (x0, x1, tx) = along(i % columns, width, columns);
            let line =
                |y: usize, k: usize| (1.0 - tx) * coarse[y * width + x0][k] + tx * coarse[y * width + x1][k];
            fine.push([0, 1].map(|k| (1.0 - ty) * line(y0, k) + ty * line(y1, k)));
        }
        fine
    }

    #[test]
    fn agrees_with_plain_loops() {
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let embedding = embedding();
        for heads in [1, 2, 3, 5] {
            let n = neighbours(heads, &mut rng);
            let runner = NeighbourRunner::new(&n, WANTED, &embedding).unwrap();
            let pooled = random(embedding.pooled_len(), &mut rng);
            let before = random(embedding.positions() * heads, &mut rng);
            let mut all = before.clone();
            let in_map = runner.add_to(0..heads, &mut all, &pooled, Threads::One);
            let mut on_all_cores = before.clone();
            assert_eq!(in_map, runner.add_to(0..heads, &mut on_all_cores, &pooled, Threads::All));
            assert_eq!(all, on_all_cores);
            for head in 0..heads {
                let of = |v: &[f32]| v.iter().skip(head).step_by(heads).copied().collect::<Vec<f32>>();
                let mut one = of(&before);
                let in_map_alone = runner.add_to(head..head + 1, &mut one, &pooled, Threads::One);
                assert_eq!(one, of(&all), "a head alone and among the others");
                assert_eq!(in_map_alone, of(&in_map));
                let expected = slow(&n, &embedding, &pooled, head);
                let fast = one.iter().zip(&in_map_alone).zip(of(&before));
                for (((fast, in_map), b), [gain, gain_in_map]) in fast.zip(&expected) {
                    let b = f64::from(b);
                    for (fast, expected) in [(fast, b + gain), (in_map, b.min(LIMIT) + gain_in_map)] {
                        assert!(
                            (f64::from(*fast) - expected).abs() < 1e-4,
                            "{heads} heads: {fast}, {expected}"
                        );
                    }
                }
            }
            assert!(before.iter().any(|&b| f64::from(b) > LIMIT), "some are limited");
            let mut without_a_number = before.clone();
            without_a_number[0] = f32::NAN;
            assert!(runner.add_to(0..heads, &mut without_a_number, &pooled, Threads::One)[0].is_nan());
            let as_the_score = NeighbourSettings { map_weight: None, map_limit: None, ..WANTED };
            let runner = NeighbourRunner::new(&n, as_the_score, &embedding).unwrap();
            let mut again = before.clone();
            assert!(runner.add_to(0..heads, &mut again, &pooled, Threads::One).is_empty());
            assert_eq!(again, all);
        }
    }

    #[test]
    fn distances_alone_leave_out_what_is_usual() {
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        let embedding = embedding();
        let n = neighbours(3, &mut rng);
        let pooled = random(embedding.pooled_len(), &mut rng);
        let evidence = |runner: &NeighbourRunner| {
            let mut logits = vec![0.0; embedding.positions() * 3];
            runner.add_to(0..3, &mut logits, &pooled, Threads::One);
            logits
        };
        let both = NeighbourRunner::new(&n, WANTED, &embedding).unwrap();
        let wanted = NeighbourSettings { usual_weight: 0.0, ..WANTED };
        let alone = NeighbourRunner::new(&n, wanted, &embedding).unwrap();
        assert_eq!(evidence(&both.distances_alone(&embedding)), evidence(&alone));
        assert_ne!(evidence(&both), evidence(&alone));
    }

    /// What makes ranks exact: the bank of the fold that a head has not seen changes nothing of what it says.
    #[test]
    fn no_head_looks_into_the_bank_of_its_own_fold() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let embedding = embedding();
        let mut n = neighbours(3, &mut rng);
        let plain = |rows: usize| {
            Some(Usual { mean: vec![0.0; 2 * rows].into(), deviation: vec![1.0; 2 * rows].into() })
        };
        n.banks.iter_mut().for_each(|b| b.usual = plain(b.count()));
        let pooled = random(embedding.pooled_len(), &mut rng);
        let evidence = |n: &Neighbours| {
            let mut logits = vec![0.0; embedding.positions() * 3];
            let runner = NeighbourRunner::new(n, WANTED, &embedding).unwrap();
            runner.add_to(0..3, &mut logits, &pooled, Threads::One);
            logits
        };
        let before = evidence(&n);
        // The picture's own patches: every head that may look finds a distance of 0.
        let bank = &mut n.banks[1];
        let mut features = CoarseGrid::new(&embedding).features(&pooled);
        bank.scale.apply(&mut features);
        bank.rows = features.into();
        bank.usual = plain(bank.count());
        let after = evidence(&n);
        for (before, after) in before.chunks(3).zip(after.chunks(3)) {
            assert_eq!(before[1], after[1]);
            assert!(after[0].abs() < 0.01 && after[2].abs() < 0.01 && before[0] > 0.1 && before[2] > 0.1);
        }
    }
}
