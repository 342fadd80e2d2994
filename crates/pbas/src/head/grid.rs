//! Folded heads on a whole picture: each feature layer goes through its part of the affine map at its own resolution, and
//! the hidden values are brought to the finest grid instead of the features (both are linear; algorithm.md, section 5).
//! A layer of a quarter of the positions then costs a quarter of the multiplications.

use std::sync::Arc;

use pbas_nn::linalg::{PackedMatrix, Threads};
use pbas_nn::vectorized;

use super::distance::DistanceHeads;
use super::folded::FoldedHead;
use super::{Head, LEAKY_SLOPE};
use crate::Result;
use crate::bands::each_band;
use crate::patch::{LayerPart, PatchEmbedding, Tap};

/// Positions computed at a time, a multiple of the kernel's rows.
const BAND: usize = 24;
/// Hidden units computed at a time: what is read and written of them at each step stays in the nearest cache. Heads are filled up with units of zeros to
/// whole blocks, which are whole panels of any kernel.
const BLOCK: usize = 64;
/// Running sums of an output.
const LANES: usize = 8;

/// The heads of one view, folded and resolved for the grid of one picture size: pooled layer values -> logits of every
/// position.
#[derive(Debug)]
pub struct GridHead {
    heads: usize,
    /// Blocks of units a head.
    blocks: usize,
    /// Weight of each unit in its head's logit.
    output: Vec<f32>,
    height: usize,
    width: usize,
    /// The layer on the finest grid, whose product comes last and carries the bias.
    fine: Part,
    coarse: Vec<CoarsePart>,
    /// What scores in place of the folded discriminators, where the heads say so.
    distance: Option<DistanceHeads>,
}

#[derive(Debug)]
struct Part {
    /// Shared by the grids of all picture sizes.
    weight: Arc<PackedMatrix>,
    /// Which of the feature layers.
    layer: usize,
    entries: usize,
    positions: usize,
    offset: usize,
}

#[derive(Debug)]
struct CoarsePart {
    part: Part,
    width: usize,
    rows: Vec<Tap>,
    columns: Vec<Tap>,
}

impl GridHead {
    /// Folds the heads and cuts the result into the layers' parts.
    ///
    /// # Errors
    /// An instruction set was asked for that this processor lacks.
    ///
    /// # Panics
    /// If `heads` is empty, or its members differ in size or are for features of another length.
    pub fn new(heads: &[&Head], embedding: &PatchEmbedding) -> Result<Self> {
        let folded = FoldedHead::new(heads)?;
        assert_eq!(folded.dim, embedding.dim(), "heads and features of one length");
        let (height, width) = embedding.grid();
        let units = folded.hidden.next_multiple_of(BLOCK);
        let fill_up = |values: &[f32], a_unit: usize| -> Vec<f32> {
            let heads = values.chunks_exact(folded.hidden * a_unit);
            let zeros = vec![0.0; (units - folded.hidden) * a_unit];
            heads.flat_map(|head| [head, &zeros].concat()).collect()
        };
        let bias = fill_up(&folded.bias, 1);
        let zeros = vec![0.0; bias.len()];
        let (mut fine, mut coarse) = (None, Vec::new());
        for (layer, part) in embedding.parts().enumerate() {
            let is_fine = fine.is_none() && part.positions == height * width;
            let columns = part.first..part.first + part.entries;
            let rows = folded.weight.chunks_exact(folded.dim);
            let weight: Vec<f32> = rows.flat_map(|row| &row[columns.clone()]).copied().collect();
            let bias = if is_fine { &bias } else { &zeros };
            let packed = Arc::new(PackedMatrix::new(&fill_up(&weight, part.entries), bias, part.entries)?);
            if is_fine {
                fine = Some(Part::new(packed, layer, &part));
            } else {
                coarse.push(CoarsePart::new(packed, layer, &part));
            }
        }
        Ok(Self {
            heads: folded.heads,
            blocks: units / BLOCK,
            output: fill_up(&folded.output, 1),
            height,
            width,
            fine: fine.expect("an embedding has a layer on its finest grid"),
            coarse,
            distance: DistanceHeads::new(heads, embedding),
        })
    }

    /// The same heads for another picture size of the same network; their weights are shared. `None` where the layer on
    /// the finest grid is another one.
    #[must_use]
    pub(crate) fn resized(&self, embedding: &PatchEmbedding) -> Option<Self> {
        let (height, width) = embedding.grid();
        let parts: Vec<LayerPart<'_>> = embedding.parts().collect();
        let same = |part: &Part| parts.get(part.layer).filter(|found| found.entries == part.entries);
        let fine = same(&self.fine).filter(|found| found.positions == height * width)?;
        if parts.len() != 1 + self.coarse.len() {
            return None;
        }
        let coarse = self.coarse.iter().map(|c| {
            let found = same(&c.part)?;
            Some(CoarsePart::new(c.part.weight.clone(), c.part.layer, found))
        });
        Some(Self {
            heads: self.heads,
            blocks: self.blocks,
            output: self.output.clone(),
            height,
            width,
            fine: Part::new(self.fine.weight.clone(), self.fine.layer, fine),
            coarse: coarse.collect::<Option<_>>()?,
            distance: self.distance.as_ref().map(|d| d.resized(embedding)),
        })
    }

    /// Heads that were folded.
    #[must_use]
    pub fn heads(&self) -> usize {
        self.heads
    }

    /// Logits of each head, `[positions, heads]`, for a picture's pooled values ([`PatchEmbedding::pool`]).
    ///
    /// # Panics
    /// If `pooled` has another length than the embedding says.
    #[must_use]
    pub fn logits(&self, pooled: &[f32], threads: Threads) -> Vec<f32> {
        if let Some(distance) = &self.distance {
            return distance.logits(pooled, threads);
        }
        let blocks = self.heads * self.blocks;
        let coarse: Vec<Vec<f32>> =
            self.coarse.iter().map(|c| c.part.multiply(pooled, blocks, threads)).collect();
        let mut logits = vec![0.0; self.height * self.width * self.heads];
        let line = self.width * self.heads;
        each_band(threads, &mut logits, line, 4, |scratch, y, out| {
            vectorized!(self.line(pooled, &coarse, y, out, scratch));
        });
        logits
    }

    /// Logits of line `y` of the grid.
    #[inline(always)]
    fn line(&self, pooled: &[f32], coarse: &[Vec<f32>], y: usize, out: &mut [f32], scratch: &mut Scratch) {
        let Scratch { lines, plus, hidden, sums } = scratch;
        lines.resize_with(self.coarse.len(), Vec::new);
        plus.resize(BAND * BLOCK, 0.0);
        hidden.resize(BAND * BLOCK, 0.0);
        sums.resize(self.width, [0.0; LANES]);
        for head in 0..self.heads {
            sums.fill([0.0; LANES]);
            for block in head * self.blocks..(head + 1) * self.blocks {
                for ((layer, values), line) in self.coarse.iter().zip(coarse).zip(lines.iter_mut()) {
                    let (tap, len) = (layer.rows[y], layer.width * BLOCK);
                    let values = &values[block * layer.part.positions * BLOCK..];
                    line.resize(len, 0.0);
                    blend(line, &values[tap.low * len..][..len], &values[tap.high * len..][..len], tap.t);
                }
                let output = &self.output[block * BLOCK..(block + 1) * BLOCK];
                for (band, sums) in sums.chunks_mut(BAND).enumerate() {
                    let x = band * BAND;
                    self.add_coarse(lines, x, &mut plus[..sums.len() * BLOCK]);
                    let from = self.fine.offset + (y * self.width + x) * self.fine.entries;
                    let plus = (!self.coarse.is_empty()).then_some(plus.as_slice());
                    self.fine.multiply_block(&pooled[from..], block, plus, &mut hidden[..sums.len() * BLOCK]);
                    for (row, sums) in hidden.chunks_exact(BLOCK).zip(sums) {
                        add_weighted_leaky(sums, row, output);
                    }
                }
            }
            for (sums, logits) in sums.iter().zip(out.chunks_exact_mut(self.heads)) {
                logits[head] = sums.iter().sum();
            }
        }
    }

    /// The coarse layers' hidden values of a block of units, at the positions from `x` on of a line.
    #[inline(always)]
    fn add_coarse(&self, lines: &[Vec<f32>], x: usize, plus: &mut [f32]) {
        for (i, plus) in plus.chunks_exact_mut(BLOCK).enumerate() {
            for (n, (layer, line)) in self.coarse.iter().zip(lines).enumerate() {
                let tap = layer.columns[x + i];
                let (low, high) = (&line[tap.low * BLOCK..][..BLOCK], &line[tap.high * BLOCK..][..BLOCK]);
                if n == 0 {
                    blend(plus, low, high, tap.t);
                } else {
                    add_blend(plus, low, high, tap.t);
                }
            }
        }
    }
}

/// Buffers of one thread, for a block of units.
#[derive(Debug, Default)]
struct Scratch {
    /// Hidden values of each coarse layer at the height of a line of the grid.
    lines: Vec<Vec<f32>>,
    /// Sum of the coarse layers' hidden values, and hidden values, of a band of positions.
    plus: Vec<f32>,
    hidden: Vec<f32>,
    /// Of each position of a line what a head's units add up to so far.
    sums: Vec<[f32; LANES]>,
}

impl CoarsePart {
    fn new(weight: Arc<PackedMatrix>, layer: usize, of: &LayerPart<'_>) -> Self {
        Self {
            part: Part::new(weight, layer, of),
            width: of.width,
            rows: of.rows.to_vec(),
            columns: of.columns.to_vec(),
        }
    }
}

impl Part {
    fn new(weight: Arc<PackedMatrix>, layer: usize, of: &LayerPart<'_>) -> Self {
        Self { weight, layer, entries: of.entries, positions: of.positions, offset: of.offset }
    }

    /// The hidden values of all positions of the layer, `[blocks, positions, BLOCK]`.
    fn multiply(&self, pooled: &[f32], blocks: usize, threads: Threads) -> Vec<f32> {
        let mut out = vec![0.0; blocks * self.positions * BLOCK];
        each_band(threads, &mut out, self.positions * BLOCK, 1, |(): &mut (), block, out| {
            self.multiply_block(&pooled[self.offset..], block, None, out);
        });
        out
    }

    /// The hidden values of a block of units, `[positions, BLOCK]`, from pooled values on.
    fn multiply_block(&self, pooled: &[f32], block: usize, plus: Option<&[f32]>, out: &mut [f32]) {
        let units = block * BLOCK..(block + 1) * BLOCK;
        self.weight.multiply_part(units, pooled, out.len() / BLOCK, plus, out);
    }
}

/// Adds `output[i] LeakyReLU(row[i])` to running sums in a fixed order.
#[inline(always)]
fn add_weighted_leaky(sums: &mut [f32; LANES], row: &[f32], output: &[f32]) {
    for (row, output) in row.as_chunks::<LANES>().0.iter().zip(output.as_chunks::<LANES>().0) {
        for l in 0..LANES {
            sums[l] += output[l] * row[l].max(LEAKY_SLOPE * row[l]);
        }
    }
}

#[inline(always)]
fn blend(out: &mut [f32], low: &[f32], high: &[f32], t: f32) {
    for ((o, a), b) in out.iter_mut().zip(low).zip(high) {
        *o = (1.0 - t) * a + t * b;
    }
}

#[inline(always)]
fn add_blend(out: &mut [f32], low: &[f32], high: &[f32], t: f32) {
    for ((o, a), b) in out.iter_mut().zip(low).zip(high) {
        *o += (1.0 - t) * a + t * b;
    }
}

#[cfg(test)]
mod tests {
    use pbas_nn::shape::Shape;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::head::{BATCH_NORM_EPS, FeatureScale, LEAKY_SLOPE};
    use crate::patch::Pooling;

    /// Scale, project, first layer, BatchNorm, LeakyReLU, last layer, one after the other in float64.
    fn reference(head: &Head, z: &[f32]) -> f64 {
        let scale = head.feature_scale.as_ref().unwrap();
        let (p, s) = (&head.projection, &head.discriminator);
        let z: Vec<f64> =
            (0..p.dim).map(|j| f64::from(z[j] - scale.mean[j]) / f64::from(scale.deviation[j])).collect();
        let linear = |w: &[f32], b: f32, x: &[f64]| -> f64 {
            f64::from(b) + w.iter().zip(x).map(|(w, x)| f64::from(*w) * x).sum::<f64>()
        };
        let x: Vec<f64> =
            (0..p.dim).map(|i| linear(&p.weight[i * p.dim..(i + 1) * p.dim], p.bias[i], &z)).collect();
        (0..s.hidden)
            .map(|i| {
                let h = linear(&s.weight[i * p.dim..(i + 1) * p.dim], s.bias[i], &x);
                let n =
                    (h - f64::from(s.running_mean[i])) / f64::from(s.running_var[i] + BATCH_NORM_EPS).sqrt();
                let y = n * f64::from(s.norm_weight[i]) + f64::from(s.norm_bias[i]);
                f64::from(s.output[i]) * if y > 0.0 { y } else { f64::from(LEAKY_SLOPE) * y }
            })
            .sum()
    }

    /// Heads in which every part of the fold matters.
    fn heads(dim: usize, rng: &mut ChaCha8Rng) -> Vec<Head> {
        let mut heads: Vec<Head> = (0..3).map(|_| Head::initial(dim, 21, rng)).collect();
        for head in &mut heads {
            let s = &mut head.discriminator;
            for v in [&mut s.norm_weight, &mut s.norm_bias, &mut s.running_mean, &mut s.running_var] {
                v.iter_mut().for_each(|v| *v += rng.random_range(-0.4..0.4));
            }
            let mut random = |low: f32| (0..dim).map(|_| rng.random_range(low..2.0)).collect();
            head.feature_scale = Some(FeatureScale { mean: random(-2.0), deviation: random(0.2) });
        }
        heads
    }

    #[test]
    fn a_grid_agrees_with_layer_after_layer() {
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        let shape = |height, width, channels| Shape { height, width, channels };
        let cases = [
            (vec![shape(13, 29, 6), shape(7, 15, 10), shape(4, 8, 9)], Pooling::Channels),
            (vec![shape(5, 3, 7), shape(5, 3, 2), shape(9, 5, 4)], Pooling::Channels),
            (vec![shape(6, 6, 33)], Pooling::Channels),
            // Parts that overlap in an entry.
            (vec![shape(8, 8, 4), shape(4, 4, 6), shape(2, 2, 5)], Pooling::Adaptive { embed_dim: 31 }),
        ];
        for (shapes, pooling) in cases {
            let embedding = PatchEmbedding::new(&shapes, pooling).unwrap();
            let heads = heads(embedding.dim(), &mut rng);
            let all: Vec<&Head> = heads.iter().collect();
            let pooled: Vec<f32> = (0..embedding.pooled_len()).map(|_| rng.random_range(-2.0..2.0)).collect();
            let grid = GridHead::new(&all, &embedding).unwrap();
            let fast = grid.logits(&pooled, Threads::One);
            assert_eq!(fast, grid.logits(&pooled, Threads::All), "threads changed a logit");

            // Features brought to the finest grid before the heads, instead of hidden values after.
            let features = embedding.grid_features(&pooled, false);
            let flat = shape(features.height, features.width, features.dim);
            let flat = PatchEmbedding::new(&[flat], Pooling::Channels).unwrap();
            let gathered = GridHead::new(&all, &flat).unwrap().logits(&features.data, Threads::One);

            // Heads that were made for another size and brought to this one.
            let larger: Vec<Shape> =
                shapes.iter().map(|s| shape(2 * s.height, 2 * s.width, s.channels)).collect();
            let larger = PatchEmbedding::new(&larger, pooling).unwrap();
            let resized = GridHead::new(&all, &larger).unwrap().resized(&embedding).unwrap();
            assert_eq!(resized.logits(&pooled, Threads::One), fast);
            assert_eq!(fast.len(), gathered.len());
            for (f, s) in fast.iter().zip(&gathered) {
                assert!((f - s).abs() < 1e-5 * s.abs().max(1.0), "{f} {s}");
            }

            for (position, z) in features.data.chunks_exact(features.dim).enumerate() {
                for (h, head) in heads.iter().enumerate() {
                    let slow = reference(head, z);
                    for found in [fast[position * 3 + h], head.logits(z)[0]] {
                        let found = f64::from(found);
                        assert!((found - slow).abs() < 2e-4 * slow.abs().max(1.0), "{found} {slow}");
                    }
                }
            }
        }
    }
}
