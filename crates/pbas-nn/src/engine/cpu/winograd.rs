//! A 3 x 3 convolution of stride 1 by Winograd's algorithm: lines of tiles are transformed, multiplied at each of their points, and
//! transformed back, with bias, addition and activation, a block of lines after the other.
//!
//! Two ways, which give the same bits. **By blocks**: every thread takes blocks of its own whose points stay in its second-level cache, while
//! all weights stream by; for weights that stay in the third. **By points**: all threads share a larger block, and each multiplies
//! at some of its points; for weights that are larger than what they are multiplied with, so that they are read as rarely as can be.
//!
//! In bfloat16 the points of inputs and weights are rounded, after transforms in float32; products and outputs are float32.

use std::sync::Arc;

use half::bf16;
use rayon::prelude::*;

use super::scratch::with_scratch;
use super::split::{busiest, count, even_lines};
use crate::graph::Activation;
use crate::kernel::Aligned;
use crate::kernel::product::{Finish, Left, Rows, product};
use crate::kernel::winograd::{Inputs, Layout, Outputs, Tiles, Transformed};
use crate::linalg::Threads;
use crate::shape::Shape;
use crate::simd::Isa;

/// Numbers between two rows of points beyond what they hold: rows a power of two apart would all lie in the same few lines of the cache.
const GAP: usize = 16;

/// Bytes of transformed weights up to which threads take blocks of their own.
const SMALL_WEIGHTS: usize = 3 << 20;
/// Bytes of points, inputs and products together, of a thread's block, and of one that threads share. Measured on a Zen 4 core: half and
/// twice as much make no difference of more than 6 %.
const OWN_BLOCK: usize = 1 << 20;
const SHARED_BLOCK: usize = 4 << 20;

/// A convolution resolved for one shape of its map.
#[derive(Debug)]
pub(super) struct Winograd {
    isa: Isa,
    weights: Arc<Transformed>,
    tiles: Tiles,
    map: Shape,
    top: usize,
    left: usize,
    pub activation: Activation,
    zeros: Aligned,
}

impl Winograd {
    pub(super) fn new(
        isa: Isa,
        weights: Arc<Transformed>,
        map: Shape,
        out: Shape,
        [top, left]: [usize; 2],
        activation: Activation,
    ) -> Self {
        let tiles = Tiles { tile: weights.tile, out };
        Self { isa, weights, tiles, map, top, left, activation, zeros: Aligned::zeros(map.channels) }
    }

    /// Float32 values from one tile to the next, of inputs (or of as many bits of bfloat16 pairs) and of outputs.
    fn strides(&self) -> [usize; 2] {
        [self.weights.points[0].inputs() + GAP, self.tiles.out.channels + GAP]
    }

    /// All of the output; `shared` is memory that may grow.
    pub(super) fn run(
        &self,
        src: &[f32],
        residual: Option<&[f32]>,
        out: &mut [f32],
        shared: &mut Aligned,
        threads: Threads,
    ) {
        let line = self.tiles.tile * self.tiles.out.width * self.tiles.out.channels;
        let tile_bytes = self.strides().iter().sum::<usize>() * self.tiles.points() * size_of::<f32>();
        let (down, parts) = (self.tiles.down(), count(threads));
        let lines_of = |room: usize| (room / (tile_bytes * self.tiles.across())).clamp(1, down);
        let own = even_lines(down, lines_of(OWN_BLOCK), parts);
        let fair = parts * busiest(down, own, parts) * 10 <= down * 11;
        let by_blocks = fair && self.weights.bytes() <= SMALL_WEIGHTS;
        let lines = if by_blocks { own } else { down.div_ceil(down.div_ceil(lines_of(SHARED_BLOCK))) };
        let len = lines * self.tiles.across() * tile_bytes / size_of::<f32>();
        let block = |i: usize, out: &mut [f32], scratch: &mut [f32], threads| {
            let residual = residual.map(|r| &r[i * lines * line..]);
            let lines = i * lines..(i * lines + out.len().div_ceil(line));
            self.block(src, residual, out, lines, scratch, threads);
        };
        if by_blocks {
            let work = |(i, out): (usize, &mut [f32])| {
                with_scratch(len, |scratch| block(i, out, scratch, Threads::One));
            };
            match threads {
                Threads::One => out.chunks_mut(lines * line).enumerate().for_each(work),
                Threads::All => out.par_chunks_mut(lines * line).enumerate().for_each(work),
            }
        } else {
            shared.grow(len);
            let scratch = &mut shared.as_mut_slice()[..len];
            for (i, out) in out.chunks_mut(lines * line).enumerate() {
                block(i, out, scratch, threads);
            }
        }
    }

    /// The outputs of some lines of tiles.
    fn block(
        &self,
        src: &[f32],
        residual: Option<&[f32]>,
        out: &mut [f32],
        lines: std::ops::Range<usize>,
        scratch: &mut [f32],
        threads: Threads,
    ) {
        let (across, points) = (self.tiles.across(), self.tiles.points());
        let [from, to] = self.strides();
        let count = lines.len() * across;
        let (inputs, rest) = scratch.split_at_mut(count * points * from);
        let products = &mut rest[..count * points * to];
        let map = Inputs {
            isa: self.isa,
            tiles: self.tiles,
            map: src,
            shape: self.map,
            top: self.top,
            left: self.left,
            zeros: self.zeros.as_slice(),
        };
        // Inputs: line after line, of each the points, of each the tiles.
        let transform = |(i, points): (usize, &mut [f32])| {
            let first = (lines.start + i) * across;
            if self.weights.points[0].has_pairs() {
                let points = bytemuck::cast_slice_mut::<f32, bf16>(points);
                map.write(first..first + across, points, Layout { point: 2 * across * from, tile: 2 * from });
            } else {
                map.write(first..first + across, points, Layout { point: across * from, tile: from });
            }
        };
        let line = points * across * from;
        match threads {
            Threads::One => inputs.chunks_mut(line).enumerate().for_each(transform),
            Threads::All => inputs.par_chunks_mut(line).enumerate().for_each(transform),
        }
        // Products: point after point, of each all tiles.
        let inputs = &*inputs;
        let multiply = |(p, out): (usize, &mut [f32])| {
            let weights = &self.weights.points[p];
            let rows = Rows { run: across, run_stride: line, row_stride: from };
            let data = &inputs[p * across * from..];
            let left = Left { data, rows, count, taps: 1, tap_stride: 0 };
            let finish = Finish { residual: None, activation: Activation::None };
            product(weights, 0..weights.panels(), &left, out, Rows::dense(to), finish);
        };
        match threads {
            Threads::One => products.chunks_mut(count * to).enumerate().for_each(multiply),
            Threads::All => products.par_chunks_mut(count * to).enumerate().for_each(multiply),
        }
        let products = &*products;
        let finish = |(i, out): (usize, &mut [f32])| {
            let line = self.tiles.tile * self.tiles.out.width * self.tiles.out.channels;
            let outputs = Outputs {
                isa: self.isa,
                tiles: self.tiles,
                points: &products[i * across * to..],
                layout: Layout { point: count * to, tile: to },
                bias: &self.weights.bias,
                residual: residual.map(|r| &r[i * line..]),
                activation: self.activation,
            };
            let first = lines.start + i;
            outputs.write(first * across..(first + 1) * across, out, first * self.tiles.tile);
        };
        let line = self.tiles.tile * self.tiles.out.width * self.tiles.out.channels;
        match threads {
            Threads::One => out.chunks_mut(line).enumerate().for_each(finish),
            Threads::All => out.par_chunks_mut(line).enumerate().for_each(finish),
        }
    }
}
