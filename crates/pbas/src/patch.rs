//! Layer maps -> patch features (algorithm.md, section 2): 3 x 3 neighbourhoods, adaptive pools, bilinear resampling.
//!
//! Everything up to the resampling acts on each layer's own grid and is linear, so it runs there
//! ([`PatchEmbedding::pool`]); the resampling to the finest grid is left to the reader of a position
//! ([`PatchEmbedding::gather`]). What is kept of a picture is then several times smaller than its patch features.

use half::f16;
use half::slice::HalfFloatSliceExt;
use pbas_nn::shape::Shape;
use pbas_nn::vectorized;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Rows and columns of a position's neighbourhood.
const NEIGHBOURHOOD: usize = 3;
const TAPS: usize = NEIGHBOURHOOD * NEIGHBOURHOOD;

/// How a neighbourhood becomes numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pooling {
    /// The mean of each channel over the neighbourhood (zeros outside the map count); channels as they are.
    Channels,
    /// The published adaptive average pools over the flattened neighbourhood, to `embed_dim` entries.
    Adaptive {
        /// Entries of a patch feature.
        embed_dim: usize,
    },
}

/// Patch features of one picture: one vector a position of the finest feature layer.
#[derive(Debug, Clone, PartialEq)]
pub struct PatchGrid {
    /// Rows of positions.
    pub height: usize,
    /// Columns of positions.
    pub width: usize,
    /// Entries of a vector.
    pub dim: usize,
    /// `[height * width, dim]`, row-major.
    pub data: Vec<f32>,
}

/// The linear map from layer maps to patch features, resolved for the maps' shapes.
#[derive(Debug, Clone)]
pub struct PatchEmbedding {
    layers: Vec<LayerPool>,
    height: usize,
    width: usize,
    dim: usize,
}

#[derive(Debug, Clone)]
struct LayerPool {
    shape: Shape,
    /// First entry of the patch feature that this layer adds to, and how many.
    first: usize,
    entries: usize,
    /// Where this layer's part begins in the pooled values of a picture.
    offset: usize,
    /// `None`: the mean of each channel.
    bins: Option<Bins>,
    rows: Vec<Tap>,
    columns: Vec<Tap>,
}

/// Sparse rows: entry `j` is the weighted sum of neighbourhood values `index[start[j]..start[j + 1]]`,
/// numbered (channel, row, column).
#[derive(Debug, Clone)]
struct Bins {
    start: Vec<usize>,
    index: Vec<usize>,
    weight: Vec<f32>,
}

/// A layer's part of the patch features: its pooled values `[positions, entries]` begin at `offset` and, brought to the
/// finest grid by `rows` and `columns`, are added to the entries from `first` on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LayerPart<'a> {
    pub first: usize,
    pub entries: usize,
    pub positions: usize,
    pub width: usize,
    pub offset: usize,
    pub rows: &'a [Tap],
    pub columns: &'a [Tap],
}

/// Bilinear resampling along one axis: `(1 - t) src[low] + t src[high]`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tap {
    pub low: usize,
    pub high: usize,
    pub t: f32,
}

impl PatchEmbedding {
    /// Resolves the embedding for layer maps of these shapes, in the order given.
    ///
    /// # Errors
    /// No layers, or an embedding of no entries.
    pub fn new(shapes: &[Shape], pooling: Pooling) -> Result<Self> {
        let Some(finest) = shapes.iter().max_by_key(|s| s.positions()) else {
            return Err(Error::caller("feature layers: expected at least one, found none"));
        };
        let dim = match pooling {
            Pooling::Channels => shapes.iter().map(|s| s.channels).sum(),
            Pooling::Adaptive { embed_dim } => embed_dim,
        };
        if dim == 0 {
            return Err(Error::caller("embed dimension: expected at least 1, found 0"));
        }
        let (mut layers, mut first, mut offset) = (Vec::new(), 0, 0);
        for (l, &shape) in shapes.iter().enumerate() {
            let (from, to, bins) = match pooling {
                Pooling::Channels => (first, first + shape.channels, None),
                Pooling::Adaptive { .. } => {
                    let (from, to) = (l * dim / shapes.len(), ((l + 1) * dim).div_ceil(shapes.len()));
                    (from, to, Some(adaptive_bins(shape.channels * TAPS, dim, l, shapes.len(), from..to)))
                }
            };
            first = to;
            layers.push(LayerPool {
                shape,
                first: from,
                entries: to - from,
                offset,
                bins,
                rows: taps(shape.height, finest.height),
                columns: taps(shape.width, finest.width),
            });
            offset += shape.positions() * (to - from);
        }
        Ok(Self { layers, height: finest.height, width: finest.width, dim })
    }

    /// Rows and columns of positions.
    #[must_use]
    pub fn grid(&self) -> (usize, usize) {
        (self.height, self.width)
    }

    /// Positions of the grid.
    #[must_use]
    pub fn positions(&self) -> usize {
        self.height * self.width
    }

    /// Entries of a patch feature.
    #[must_use]
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Values that [`PatchEmbedding::pool`] makes of a picture.
    #[must_use]
    pub fn pooled_len(&self) -> usize {
        self.layers.iter().map(|l| l.shape.positions() * l.entries).sum()
    }

    /// Pools each layer map `[height, width, channels]` at its own resolution: layer after layer,
    /// `[positions of the layer, its entries]`.
    ///
    /// # Panics
    /// If the maps or `out` have other lengths than the shapes say.
    pub fn pool(&self, maps: &[&[f32]], out: &mut [f32], parallel: bool) {
        assert_eq!(maps.len(), self.layers.len(), "one map a layer");
        assert_eq!(out.len(), self.pooled_len(), "pooled values");
        for (layer, map) in self.layers.iter().zip(maps) {
            assert_eq!(map.len(), layer.shape.len(), "map values");
            let line = layer.shape.width * layer.entries;
            let part = &mut out[layer.offset..layer.offset + layer.shape.height * line];
            if parallel {
                part.par_chunks_mut(line).enumerate().for_each(|(y, row)| layer.pool_row(map, y, row));
            } else {
                part.chunks_mut(line).enumerate().for_each(|(y, row)| layer.pool_row(map, y, row));
            }
        }
    }

    /// The layers as parts of the patch feature, in the order of the pooled values.
    pub(crate) fn parts(&self) -> impl Iterator<Item = LayerPart<'_>> {
        self.layers.iter().map(|l| LayerPart {
            first: l.first,
            entries: l.entries,
            positions: l.shape.positions(),
            width: l.shape.width,
            offset: l.offset,
            rows: &l.rows,
            columns: &l.columns,
        })
    }

    /// What pooling makes of a layer: the weights of each of its entries over the 3 x 3 neighbourhood, `[entries, channels, 3, 3]`, with
    /// zeros around the map; `None`: the mean of each channel.
    pub(crate) fn kernel(&self, layer: usize) -> Option<Vec<f32>> {
        let layer = &self.layers[layer];
        let bins = layer.bins.as_ref()?;
        let mut kernel = vec![0.0; layer.entries * layer.shape.channels * TAPS];
        for (j, row) in kernel.chunks_exact_mut(layer.shape.channels * TAPS).enumerate() {
            let range = bins.start[j]..bins.start[j + 1];
            bins.index[range.clone()].iter().zip(&bins.weight[range]).for_each(|(&i, &w)| row[i] = w);
        }
        Some(kernel)
    }

    /// The patch feature of one position from the pooled values of its picture.
    ///
    /// # Panics
    /// If `position` is outside the grid or the slices are too short.
    pub fn gather(&self, pooled: &[f32], position: usize, out: &mut [f32]) {
        self.gather_with(pooled, position, out, |source, weight, out| {
            for (o, v) in out.iter_mut().zip(source) {
                *o += weight * v;
            }
        });
    }

    /// As [`PatchEmbedding::gather`], from pooled values kept as float16.
    pub fn gather_f16(&self, pooled: &[f16], position: usize, out: &mut [f32], scratch: &mut Vec<f32>) {
        scratch.resize(self.dim, 0.0);
        self.gather_with(pooled, position, out, |source, weight, out| {
            let wide = &mut scratch[..source.len()];
            source.convert_to_f32_slice(wide);
            vectorized!(out.iter_mut().zip(wide.iter()).for_each(|(o, v)| *o += weight * v));
        });
    }

    fn gather_with<T>(
        &self,
        pooled: &[T],
        position: usize,
        out: &mut [f32],
        mut add: impl FnMut(&[T], f32, &mut [f32]),
    ) {
        let (y, x) = (position / self.width, position % self.width);
        out.fill(0.0);
        for layer in &self.layers {
            let (row, column) = (layer.rows[y], layer.columns[x]);
            let target = &mut out[layer.first..layer.first + layer.entries];
            for (iy, wy) in [(row.low, 1.0 - row.t), (row.high, row.t)] {
                for (ix, wx) in [(column.low, 1.0 - column.t), (column.high, column.t)] {
                    if wy * wx != 0.0 {
                        let at = layer.offset + (iy * layer.shape.width + ix) * layer.entries;
                        add(&pooled[at..at + layer.entries], wy * wx, target);
                    }
                }
            }
        }
    }

    /// All patch features of a picture from its pooled values.
    #[must_use]
    pub fn grid_features(&self, pooled: &[f32], parallel: bool) -> PatchGrid {
        let mut data = vec![0.0; self.positions() * self.dim];
        let line = self.width * self.dim;
        let fill = |(y, row): (usize, &mut [f32])| {
            for (x, out) in row.chunks_exact_mut(self.dim).enumerate() {
                self.gather(pooled, y * self.width + x, out);
            }
        };
        if parallel {
            data.par_chunks_mut(line).enumerate().for_each(fill);
        } else {
            data.chunks_mut(line).enumerate().for_each(fill);
        }
        PatchGrid { height: self.height, width: self.width, dim: self.dim, data }
    }
}

impl LayerPool {
    fn pool_row(&self, map: &[f32], y: usize, row: &mut [f32]) {
        let (h, w, c) = (self.shape.height, self.shape.width, self.shape.channels);
        let inside = |at: usize, d: usize, size: usize| (at + d).checked_sub(1).filter(|&i| i < size);
        let mut neighbourhood = vec![0.0f32; if self.bins.is_some() { c * TAPS } else { 0 }];
        for (x, out) in row.chunks_exact_mut(self.entries).enumerate() {
            let pixel = |ky: usize, kx: usize| {
                let (iy, ix) = (inside(y, ky, h)?, inside(x, kx, w)?);
                let at = (iy * w + ix) * c;
                Some(&map[at..at + c])
            };
            let Some(bins) = &self.bins else {
                out.fill(0.0);
                for tap in 0..TAPS {
                    if let Some(pixel) = pixel(tap / NEIGHBOURHOOD, tap % NEIGHBOURHOOD) {
                        out.iter_mut().zip(pixel).for_each(|(o, v)| *o += v);
                    }
                }
                out.iter_mut().for_each(|o| *o *= 1.0 / TAPS as f32);
                continue;
            };
            for tap in 0..TAPS {
                match pixel(tap / NEIGHBOURHOOD, tap % NEIGHBOURHOOD) {
                    Some(pixel) => {
                        for (channel, v) in pixel.iter().enumerate() {
                            neighbourhood[channel * TAPS + tap] = *v;
                        }
                    }
                    None => neighbourhood.iter_mut().skip(tap).step_by(TAPS).for_each(|v| *v = 0.0),
                }
            }
            for (j, o) in out.iter_mut().enumerate() {
                let range = bins.start[j]..bins.start[j + 1];
                let pairs = bins.index[range.clone()].iter().zip(&bins.weight[range]);
                *o = pairs.map(|(&i, w)| w * neighbourhood[i]).sum();
            }
        }
    }
}

/// Both adaptive pools as one sparse map: `n` neighbourhood values of layer `l` -> their share of the final
/// entries `outputs`. The first pool brings `n` values to `dim`; the second averages `layers` neighbours of the
/// layers' concatenation, so its bin `j` is entries `j layers .. (j + 1) layers - 1`.
fn adaptive_bins(n: usize, dim: usize, l: usize, layers: usize, outputs: std::ops::Range<usize>) -> Bins {
    let mut bins = Bins { start: vec![0], index: Vec::new(), weight: Vec::new() };
    for j in outputs {
        let mut weights = std::collections::BTreeMap::<usize, f64>::new();
        for entry in (j * layers).max(l * dim)..((j + 1) * layers).min((l + 1) * dim) {
            let i = entry - l * dim;
            let (from, to) = (i * n / dim, ((i + 1) * n).div_ceil(dim));
            for value in from..to {
                *weights.entry(value).or_default() += 1.0 / (layers * (to - from)) as f64;
            }
        }
        for (value, weight) in weights {
            bins.index.push(value);
            bins.weight.push(weight as f32);
        }
        bins.start.push(bins.index.len());
    }
    bins
}

/// Half-pixel centres, edges repeated (torch's `align_corners=False`).
pub(crate) fn taps(source: usize, target: usize) -> Vec<Tap> {
    let scale = source as f64 / target as f64;
    (0..target)
        .map(|i| {
            let at = ((i as f64 + 0.5) * scale - 0.5).max(0.0);
            let low = (at.floor() as usize).min(source - 1);
            Tap { low, high: (low + 1).min(source - 1), t: (at - low as f64) as f32 }
        })
        .collect()
}
