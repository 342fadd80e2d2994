//! Patch features on a coarser grid than the heads': distances vary slowly over a picture, and a quarter of the positions costs a quarter of the
//! products.

use crate::patch::{PatchEmbedding, Tap, taps};

/// The grid of the second-finest feature layer (of the finest, if there is no other), and how every layer's pooled values are brought to
/// it: finer ones as means over the cells, coarser ones bilinearly.
#[derive(Debug, Clone)]
pub struct CoarseGrid {
    height: usize,
    width: usize,
    dim: usize,
    parts: Vec<Part>,
}

#[derive(Debug, Clone)]
struct Part {
    first: usize,
    entries: usize,
    offset: usize,
    width: usize,
    rows: Vec<Blend>,
    columns: Vec<Blend>,
}

/// What a position along an axis is made of: neighbouring positions of the source with weights that sum to 1.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Blend {
    /// First source position.
    pub first: usize,
    /// Weight of each, from `first` on.
    pub weights: Vec<f32>,
}

impl CoarseGrid {
    /// Resolves the grid for an embedding.
    #[must_use]
    pub fn new(embedding: &PatchEmbedding) -> Self {
        let mut shapes: Vec<(usize, usize)> =
            embedding.parts().map(|p| (p.positions / p.width, p.width)).collect();
        shapes.sort_unstable_by_key(|s| std::cmp::Reverse(s.0 * s.1));
        shapes.dedup();
        let (height, width) = *shapes.get(1).unwrap_or(&shapes[0]);
        let parts = embedding.parts().map(|p| Part {
            first: p.first,
            entries: p.entries,
            offset: p.offset,
            width: p.width,
            rows: blends(p.positions / p.width, height),
            columns: blends(p.width, width),
        });
        Self { height, width, dim: embedding.dim(), parts: parts.collect() }
    }

    /// Rows and columns of positions.
    #[must_use]
    pub fn shape(&self) -> (usize, usize) {
        (self.height, self.width)
    }

    /// Entries of a patch feature.
    pub(super) fn dim(&self) -> usize {
        self.dim
    }

    /// Patch features `[positions, dim]` from pooled values ([`PatchEmbedding::pool`]).
    #[must_use]
    pub fn features(&self, pooled: &[f32]) -> Vec<f32> {
        let mut out = vec![0.0; self.height * self.width * self.dim];
        self.write_features(pooled, 0, &mut out);
        out
    }

    /// Features of as many positions as `out`, `[positions, dim]`, has room for, from position `first` on.
    #[inline(always)]
    pub(super) fn write_features(&self, pooled: &[f32], first: usize, out: &mut [f32]) {
        out.fill(0.0);
        for (position, feature) in (first..).zip(out.chunks_exact_mut(self.dim)) {
            let (y, x) = (position / self.width, position % self.width);
            for part in &self.parts {
                let (row, column) = (&part.rows[y], &part.columns[x]);
                let target = &mut feature[part.first..part.first + part.entries];
                for (iy, wy) in row.weights.iter().enumerate() {
                    for (ix, wx) in column.weights.iter().enumerate() {
                        let at = (row.first + iy) * part.width + column.first + ix;
                        let source = &pooled[part.offset + at * part.entries..][..part.entries];
                        target.iter_mut().zip(source).for_each(|(t, s)| *t += wy * wx * s);
                    }
                }
            }
        }
    }

    /// For each layer how its rows and its columns are brought to the grid.
    pub(crate) fn layers(&self) -> impl Iterator<Item = (&[Blend], &[Blend])> {
        self.parts.iter().map(|p| (&p.rows[..], &p.columns[..]))
    }
}

/// From `source` to `target` positions along an axis.
pub(crate) fn blends(source: usize, target: usize) -> Vec<Blend> {
    if source > target {
        let mean = |i: usize| {
            let (from, to) = (i * source / target, ((i + 1) * source).div_ceil(target));
            Blend { first: from, weights: vec![1.0 / (to - from) as f32; to - from] }
        };
        return (0..target).map(mean).collect();
    }
    taps(source, target).into_iter().map(Blend::from).collect()
}

impl From<Tap> for Blend {
    fn from(tap: Tap) -> Self {
        let alone = tap.t == 0.0 || tap.low == tap.high;
        Self { first: tap.low, weights: if alone { vec![1.0] } else { vec![1.0 - tap.t, tap.t] } }
    }
}

#[cfg(test)]
mod tests {
    use pbas_nn::shape::Shape;

    use super::*;
    use crate::patch::Pooling;

    #[test]
    fn finer_layers_are_averaged_and_coarser_ones_interpolated() {
        let shape = |height, width, channels| Shape { height, width, channels };
        let shapes = [shape(6, 4, 2), shape(3, 2, 1), shape(2, 1, 1)];
        let embedding = PatchEmbedding::new(&shapes, Pooling::Channels).unwrap();
        let grid = CoarseGrid::new(&embedding);
        assert_eq!(grid.shape(), (3, 2));
        // Pooled values that say where they are: layer, row, column, channel.
        let mut pooled = Vec::new();
        for (l, s) in shapes.iter().enumerate() {
            for i in 0..s.positions() {
                let (y, x) = (i / s.width, i % s.width);
                pooled.extend((0..s.channels).map(|c| (1000 * l + 100 * c + 10 * y + x) as f32));
            }
        }
        let features = grid.features(&pooled);
        assert_eq!(features.len(), 6 * 4);
        for (i, f) in features.chunks(4).enumerate() {
            let (y, x) = ((i / 2) as f32, (i % 2) as f32);
            // The mean of rows 2 y and 2 y + 1 and columns 2 x and 2 x + 1.
            let fine = 10.0 * (2.0 * y + 0.5) + 2.0 * x + 0.5;
            let coarse = 10.0 * [0.0, 0.5, 1.0][i / 2] + 2000.0;
            let expected = [fine, 100.0 + fine, 1000.0 + 10.0 * y + x, coarse];
            f.iter().zip(expected).for_each(|(f, e)| assert!((f - e).abs() < 1e-3, "{i}: {f} {e}"));
        }
        let single = PatchEmbedding::new(&shapes[..1], Pooling::Channels).unwrap();
        assert_eq!(CoarseGrid::new(&single).shape(), (6, 4), "a single layer stays as it is");
    }

    #[test]
    fn weights_sum_to_one() {
        for (source, target) in [(7, 3), (3, 7), (5, 5), (1, 4), (9, 2)] {
            let found = blends(source, target);
            assert_eq!(found.len(), target);
            for b in found {
                assert!((b.weights.iter().sum::<f32>() - 1.0).abs() < 1e-6);
                assert!(b.first + b.weights.len() <= source);
            }
        }
    }
}
