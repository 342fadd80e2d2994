//! Depthwise windows over a padded map: `out[y, x, c] = clamp(bias[c] + sum w[ky, kx, c] map[y s + ky, x s + kx, c])`.
//!
//! Several neighbouring outputs of a block of channels are summed in registers, so that each weight is loaded once for
//! all of them. Padding is part of the map: no output needs a case of its own. Sums are float32; outputs may be bfloat16, for a product that
//! reads them.

use super::Aligned;
use crate::graph::Activation;
use crate::simd::{Isa, Number, PairKernel, PairVector};

/// Vectors of a block of channels.
const BLOCK_VECTORS: usize = 2;
/// Neighbouring outputs summed at a time.
const TILE: usize = 4;

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

    /// `count` neighbouring outputs of block `block`: output `x` is written to `out[x out_stride..]`. `map` begins with the
    /// first window and the block's first channel.
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
        let last = (self.kernel - 1) * map.row_stride
            + ((count - 1) * map.stride + self.kernel - 1) * map.column_stride;
        assert!(last + width <= map.data.len(), "windows reach to {} of {}", last + width, map.data.len());
        assert!((count - 1) * out_stride + width <= out.len(), "outputs do not fit");
        let (low, high) = activation.bounds();
        let row = Row {
            src: map.data.as_ptr(),
            row_stride: map.row_stride,
            column_stride: map.column_stride,
            step: map.stride * map.column_stride,
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
    column_stride: usize,
    /// Values of the map from one output to the next.
    step: usize,
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
            // SAFETY: `x + tile <= count`; otherwise the caller's.
            unsafe {
                match (tile, self.full) {
                    (TILE, true) => self.outputs::<V, TILE, BLOCK_VECTORS>(x),
                    (TILE, false) => self.outputs::<V, TILE, 1>(x),
                    (_, true) => self.outputs::<V, 1, BLOCK_VECTORS>(x),
                    (_, false) => self.outputs::<V, 1, 1>(x),
                }
            }
            x += tile;
        }
    }
}

impl<T: Number> Row<T> {
    /// Outputs `x .. x + XT`, of `NV` vectors of channels.
    ///
    /// # Safety
    /// As the kernel, for these outputs.
    #[inline(always)]
    unsafe fn outputs<V: PairVector, const XT: usize, const NV: usize>(&self, x: usize) {
        // SAFETY: the caller's.
        unsafe {
            let (src, out) = (self.src.add(x * self.step), self.out.add(x * self.out_stride));
            let mut w = self.weight;
            let mut sums: [[V; NV]; XT] = [std::array::from_fn(|j| V::load(self.bias.add(j * V::LANES))); XT];
            for ky in 0..self.kernel {
                let mut p = src.add(ky * self.row_stride);
                for _ in 0..self.kernel {
                    let weights: [V; NV] = std::array::from_fn(|j| V::load(w.add(j * V::LANES)));
                    w = w.add(NV * V::LANES);
                    for i in 0..XT {
                        for j in 0..NV {
                            let v = V::load(p.add(i * self.step + j * V::LANES));
                            sums[i][j] = sums[i][j].add_product(v, weights[j]);
                        }
                    }
                    p = p.wrapping_add(self.column_stride);
                }
            }
            let (low, high) = (V::splat(self.low), V::splat(self.high));
            for i in 0..XT {
                for j in 0..NV {
                    T::store(sums[i][j].clamp(low, high), out.add(i * self.out_stride + j * V::LANES));
                }
            }
        }
    }
}
