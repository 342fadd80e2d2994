//! Depthwise windows over a padded map: `out[y, x, c] = clamp(bias[c] + sum w[ky, kx, c] map[y s + ky, x s + kx, c])`.
//!
//! Several neighbouring outputs of a block of channels are summed in registers, so that each weight is loaded once for
//! all of them, and with 32 registers each value of the map too. Padding is part of the map: no output needs a case of its own. Sums are float32; outputs may be bfloat16, for a product that
//! reads them.

use super::Aligned;
use crate::graph::Activation;
use crate::simd::{Isa, Number, PairKernel, PairVector};

/// Vectors of a block of channels.
const BLOCK_VECTORS: usize = 2;
/// Neighbouring outputs summed at a time.
const TILE: usize = 4;
/// Rows of a product's tile ([`crate::simd::Vector::ROWS`]) with vectors of which there are 32: room for the weights of a window's row.
const WIDE_ROWS: usize = 14;

/// Weights `[kernel, kernel, channels]` and biases of a depthwise convolution, laid out for one instruction set: blocks
/// of [`PackedDepthwise::block`] channels, each `[kernel row, kernel column, channel]`; the last may be half as wide.
#[derive(Debug, Clone)]
pub(crate) struct PackedDepthwise {
    isa: Isa,
    kernel: usize,
    channels: usize,
    lanes: usize,
    weight: Aligned,
    bias: Aligned,
}

/// A padded map `[rows, columns, channels]`, or a slice of its channels.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Padded<'a> {
    pub data: &'a [f32],
    /// Values from one row to the next.
    pub row_stride: usize,
    /// The row of the first window's upper edge.
    pub first: usize,
    /// Rows that are there: below the last of them follows the first.
    pub rows: usize,
    /// Values from one column to the next.
    pub column_stride: usize,
    /// Rows and columns between two outputs.
    pub stride: usize,
}

impl PackedDepthwise {
    /// Packs; `None` where the channels are no multiple of the instruction set's vectors.
    ///
    /// # Panics
    /// If the lengths do not fit.
    pub(crate) fn new(isa: Isa, weight: &[f32], bias: &[f32], kernel: usize) -> Option<Self> {
        let channels = bias.len();
        assert_eq!(weight.len(), kernel * kernel * channels, "weights of {kernel} x {kernel} x {channels}");
        let lanes = isa.lanes();
        if channels == 0 || !channels.is_multiple_of(lanes) {
            return None;
        }
        let mut packed = Self {
            isa,
            kernel,
            channels,
            lanes,
            weight: Aligned::zeros(weight.len()),
            bias: Aligned::zeros(channels),
        };
        for (c, &b) in bias.iter().enumerate() {
            packed.bias.set(c, b);
            let first = c - c % packed.block();
            let width = packed.block().min(channels - first);
            for tap in 0..kernel * kernel {
                packed
                    .weight
                    .set(first * kernel * kernel + tap * width + c - first, weight[tap * channels + c]);
            }
        }
        Some(packed)
    }

    /// Channels of a full block.
    pub(crate) fn block(&self) -> usize {
        self.lanes * BLOCK_VECTORS
    }

    /// Number of blocks.
    pub(crate) fn blocks(&self) -> usize {
        self.channels.div_ceil(self.block())
    }

    /// `count` neighbouring outputs of block `block`: output `x` is written to `out[x out_stride..]`. A row of `map` begins with the
    /// first window's first column and the block's first channel.
    ///
    /// # Panics
    /// If there is no such block, or a window or an output would lie outside its slice.
    pub(crate) fn row<T: Number>(
        &self,
        block: usize,
        map: &Padded<'_>,
        out: &mut [T],
        out_stride: usize,
        count: usize,
        activation: Activation,
    ) {
        if count == 0 {
            return;
        }
        assert!(block < self.blocks(), "block {block} of {}", self.blocks());
        let first = block * self.block();
        let width = self.block().min(self.channels - first);
        assert!(map.first < map.rows && self.kernel <= map.rows, "a window of {} rows", map.rows);
        let lowest = (map.first + self.kernel).min(map.rows) - 1;
        let last = lowest * map.row_stride + ((count - 1) * map.stride + self.kernel - 1) * map.column_stride;
        assert!(last + width <= map.data.len(), "windows reach to {} of {}", last + width, map.data.len());
        assert!((count - 1) * out_stride + width <= out.len(), "outputs do not fit");
        let (low, high) = activation.bounds();
        let row = Row {
            src: map.data.as_ptr(),
            row_stride: map.row_stride,
            first: map.first,
            rows: map.rows,
            column_stride: map.column_stride,
            stride: map.stride,
            kernel: self.kernel,
            // SAFETY: the block is one of `blocks` (asserted above), so its weights and its biases lie inside the packed ones.
            weight: unsafe { self.weight.as_ptr().add(first * self.kernel * self.kernel) },
            // SAFETY: as above.
            bias: unsafe { self.bias.as_ptr().add(first) },
            out: out.as_mut_ptr(),
            out_stride,
            low,
            high,
            count,
            full: width == self.block(),
        };
        // SAFETY: all windows and outputs lie inside their slices (asserted above); `out` is borrowed uniquely; the block's
        // weights were laid out by `new` for this set, which is only made for processors that have it.
        unsafe { self.isa.run_pairs(row) };
    }
}

/// Neighbouring outputs of one block of channels.
struct Row<T> {
    src: *const f32,
    row_stride: usize,
    first: usize,
    rows: usize,
    column_stride: usize,
    /// Columns of the map from one output to the next.
    stride: usize,
    kernel: usize,
    weight: *const f32,
    bias: *const f32,
    out: *mut T,
    out_stride: usize,
    low: f32,
    high: f32,
    count: usize,
    /// Whether the block has all [`BLOCK_VECTORS`] vectors.
    full: bool,
}

/// Sound where the weights and biases are those of a block of such vectors, all of [`BLOCK_VECTORS`] if `full`, else one, and
/// the windows and outputs of `count` positions are valid.
impl<T: Number> PairKernel for Row<T> {
    // SAFETY: see above.
    #[inline(always)]
    unsafe fn run<V: PairVector>(self) {
        let mut x = 0;
        while x < self.count {
            let tile = if self.count - x >= TILE { TILE } else { 1 };
            let window = if V::ROWS < WIDE_ROWS { (0, 0) } else { (self.kernel, self.stride) };
            // SAFETY: `x + tile <= count`; otherwise the caller's.
            unsafe {
                match (tile, window, self.full) {
                    (TILE, (3, 1), true) => self.tile::<V, 3, 1, BLOCK_VECTORS>(x),
                    (TILE, (3, 2), true) => self.tile::<V, 3, 2, BLOCK_VECTORS>(x),
                    (TILE, (5, 1), true) => self.tile::<V, 5, 1, BLOCK_VECTORS>(x),
                    (TILE, (5, 2), true) => self.tile::<V, 5, 2, BLOCK_VECTORS>(x),
                    (TILE, _, true) => self.outputs::<V, TILE, BLOCK_VECTORS>(x),
                    (TILE, _, false) => self.outputs::<V, TILE, 1>(x),
                    (_, _, true) => self.outputs::<V, 1, BLOCK_VECTORS>(x),
                    (_, _, false) => self.outputs::<V, 1, 1>(x),
                }
            }
            x += tile;
        }
    }
}

/// Does the body once for every column that a tile reads, written out: sums stay in registers only where no index is a variable.
macro_rules! each_column {
    ($count:expr, $i:ident, $body:block) => {
        each_column!(@ $count, $i, $body, 0 1 2 3 4 5 6 7 8 9 10)
    };
    (@ $count:expr, $i:ident, $body:block, $($n:literal)*) => {
        $(if $n < $count {
            const $i: usize = $n;
            $body
        })*
    };
}

impl<T: Number> Row<T> {
    /// Where row `ky` of the windows begins.
    #[inline(always)]
    fn row(&self, ky: usize) -> usize {
        let row = self.first + ky;
        (if row < self.rows { row } else { row - self.rows }) * self.row_stride
    }

    /// Outputs `x .. x + TILE` of windows of `K` rows and columns with stride `S`: each value of the map is read once a row of the window.
    /// Sums are in the same order as those of [`Self::outputs`].
    ///
    /// # Safety
    /// As the kernel, for these outputs; the kernel and the stride are `K` and `S`.
    #[inline(always)]
    unsafe fn tile<V: PairVector, const K: usize, const S: usize, const NV: usize>(&self, x: usize) {
        // SAFETY: the caller's.
        unsafe {
            let (src, out) = (self.src.add(x * S * self.column_stride), self.out.add(x * self.out_stride));
            let mut sums: [[V; NV]; TILE] =
                [std::array::from_fn(|j| V::load(self.bias.add(j * V::LANES))); TILE];
            for ky in 0..K {
                let p = src.add(self.row(ky));
                let w = self.weight.add(ky * K * NV * V::LANES);
                let weights: [[V; NV]; K] = std::array::from_fn(|kx| {
                    std::array::from_fn(|j| V::load(w.add((kx * NV + j) * V::LANES)))
                });
                each_column!((TILE - 1) * S + K, COLUMN, {
                    let p = p.add(COLUMN * self.column_stride);
                    let v: [V; NV] = std::array::from_fn(|j| V::load(p.add(j * V::LANES)));
                    for i in 0..TILE {
                        // Wraps, beyond the window, where the column is in front of it.
                        let kx = COLUMN.wrapping_sub(i * S);
                        if kx < K {
                            for j in 0..NV {
                                sums[i][j] = sums[i][j].add_product(v[j], weights[kx][j]);
                            }
                        }
                    }
                });
            }
            self.finish(sums, out);
        }
    }

    /// Outputs `x .. x + XT`, of `NV` vectors of channels.
    ///
    /// # Safety
    /// As the kernel, for these outputs.
    #[inline(always)]
    unsafe fn outputs<V: PairVector, const XT: usize, const NV: usize>(&self, x: usize) {
        // SAFETY: the caller's.
        unsafe {
            let step = self.stride * self.column_stride;
            let (src, out) = (self.src.add(x * step), self.out.add(x * self.out_stride));
            let mut w = self.weight;
            let mut sums: [[V; NV]; XT] = [std::array::from_fn(|j| V::load(self.bias.add(j * V::LANES))); XT];
            for ky in 0..self.kernel {
                let mut p = src.add(self.row(ky));
                for _ in 0..self.kernel {
                    let weights: [V; NV] = std::array::from_fn(|j| V::load(w.add(j * V::LANES)));
                    w = w.add(NV * V::LANES);
                    for i in 0..XT {
                        for j in 0..NV {
                            let v = V::load(p.add(i * step + j * V::LANES));
                            sums[i][j] = sums[i][j].add_product(v, weights[j]);
                        }
                    }
                    p = p.wrapping_add(self.column_stride);
                }
            }
            self.finish(sums, out);
        }
    }

    /// Writes the sums of neighbouring outputs.
    ///
    /// # Safety
    /// As [`Self::outputs`]; `out` is where the first of them goes.
    #[inline(always)]
    unsafe fn finish<V: PairVector, const XT: usize, const NV: usize>(
        &self,
        sums: [[V; NV]; XT],
        out: *mut T,
    ) {
        // SAFETY: the caller's.
        unsafe {
            let (low, high) = (V::splat(self.low), V::splat(self.high));
            for i in 0..XT {
                for j in 0..NV {
                    T::store(sums[i][j].clamp(low, high), out.add(i * self.out_stride + j * V::LANES));
                }
            }
        }
    }
}
