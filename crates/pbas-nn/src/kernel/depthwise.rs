//! Depthwise windows over a padded map: `out[y, x, c] = clamp(bias[c] + sum w[ky, kx, c] map[y s + ky, x s + kx, c])`.
//!
//! Several neighbouring outputs of a block of channels are summed in registers, so that each weight is loaded once for
//! all of them. Padding is part of the map: no output needs a case of its own.

use super::Aligned;
use crate::graph::Activation;
#[cfg(target_arch = "x86_64")]
use crate::simd::Avx2;
use crate::simd::{Isa, Portable, Vector};

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
        let lanes = match isa {
            Isa::Portable => Portable::LANES,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => Avx2::LANES,
        };
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

    /// One row of `count` outputs of block `block`: output `x` is written to `out[x out_stride..]`. `map` begins with the
    /// row's first window and the block's first channel.
    ///
    /// # Panics
    /// If a window or an output would lie outside its slice.
    pub(crate) fn row(
        &self,
        block: usize,
        map: &Padded<'_>,
        out: &mut [f32],
        out_stride: usize,
        count: usize,
        activation: Activation,
    ) {
        if count == 0 {
            return;
        }
        let width = self.block().min(self.channels - block * self.block());
        let last = (self.kernel - 1) * map.row_stride
            + ((count - 1) * map.stride + self.kernel - 1) * map.column_stride;
        assert!(last + width <= map.data.len(), "windows reach to {} of {}", last + width, map.data.len());
        assert!((count - 1) * out_stride + width <= out.len(), "outputs do not fit");
        match self.isa {
            // SAFETY: all windows and outputs lie inside their slices (asserted above); `out` is borrowed uniquely; the
            // block's weights and biases lie inside the packed ones, which `new` laid out for this instruction set.
            Isa::Portable => unsafe {
                self.row_of::<Portable>(block, width, map, out, out_stride, count, activation)
            },
            // SAFETY: as above; and `Isa::Avx2` is only made for processors that have AVX2 and FMA.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => unsafe { self.row_avx2(block, width, map, out, out_stride, count, activation) },
        }
    }

    /// # Safety
    /// The processor has AVX2 and FMA; otherwise as [`Self::row_of`].
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    #[allow(clippy::too_many_arguments)]
    unsafe fn row_avx2(
        &self,
        block: usize,
        width: usize,
        map: &Padded<'_>,
        out: &mut [f32],
        out_stride: usize,
        count: usize,
        activation: Activation,
    ) {
        // SAFETY: the caller's.
        unsafe { self.row_of::<Avx2>(block, width, map, out, out_stride, count, activation) }
    }

    /// # Safety
    /// The processor has the instructions of `V`, the weights are laid out for it, and all windows and outputs lie
    /// inside their slices, as [`Self::row`] asserts.
    #[inline(always)]
    #[allow(clippy::too_many_arguments)]
    unsafe fn row_of<V: Vector>(
        &self,
        block: usize,
        width: usize,
        map: &Padded<'_>,
        out: &mut [f32],
        out_stride: usize,
        count: usize,
        activation: Activation,
    ) {
        let (low, high) = activation.bounds();
        let first = block * self.block();
        // SAFETY: as the caller vouches; the block's weights begin at `first kernel^2`.
        unsafe {
            let w = self.weight.as_ptr().add(first * self.kernel * self.kernel);
            let b = self.bias.as_ptr().add(first);
            let mut x = 0;
            while x < count {
                let src = map.data.as_ptr().add(x * map.stride * map.column_stride);
                let to = out.as_mut_ptr().add(x * out_stride);
                let tile = if count - x >= TILE { TILE } else { 1 };
                let args = (src, map, self.kernel, w, b, to, out_stride, low, high);
                match (tile, width > V::LANES) {
                    (TILE, true) => outputs::<V, TILE, BLOCK_VECTORS>(args),
                    (TILE, false) => outputs::<V, TILE, 1>(args),
                    (_, true) => outputs::<V, 1, BLOCK_VECTORS>(args),
                    (_, false) => outputs::<V, 1, 1>(args),
                }
                x += tile;
            }
        }
    }
}

type Args<'a> = (*const f32, &'a Padded<'a>, usize, *const f32, *const f32, *mut f32, usize, f32, f32);

/// `XT` neighbouring outputs of `NV` vectors of channels.
///
/// # Safety
/// The windows, weights, biases and outputs that the pointers begin are all valid.
#[inline(always)]
unsafe fn outputs<V: Vector, const XT: usize, const NV: usize>(
    (src, map, kernel, mut w, b, out, out_stride, low, high): Args<'_>,
) {
    // SAFETY: the caller's.
    unsafe {
        let mut sums: [[V; NV]; XT] = [std::array::from_fn(|j| V::load(b.add(j * V::LANES))); XT];
        let step = map.stride * map.column_stride;
        for ky in 0..kernel {
            let mut p = src.add(ky * map.row_stride);
            for _ in 0..kernel {
                let weights: [V; NV] = std::array::from_fn(|j| V::load(w.add(j * V::LANES)));
                w = w.add(NV * V::LANES);
                for x in 0..XT {
                    for j in 0..NV {
                        let v = V::load(p.add(x * step + j * V::LANES));
                        sums[x][j] = sums[x][j].add_product(v, weights[j]);
                    }
                }
                p = p.wrapping_add(map.column_stride);
            }
        }
        let (low, high) = (V::splat(low), V::splat(high));
        for x in 0..XT {
            for j in 0..NV {
                sums[x][j].clamp(low, high).store(out.add(x * out_stride + j * V::LANES));
            }
        }
    }
}
