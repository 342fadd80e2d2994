//! Depthwise convolution where the channels fit no whole vectors, and [`super::block`] can therefore not take it.

use rayon::prelude::*;

use crate::graph::{Activation, Window};
use crate::linalg::Threads;
use crate::shape::Shape;
use crate::vectorized;

/// Channels summed in registers at a time.
const LANES: usize = 32;

/// One output row's fixed surroundings.
struct Row<'a> {
    src: &'a [f32],
    s: Shape,
    window: Window,
    weight: &'a [f32],
    bias: &'a [f32],
    top: isize,
    left: isize,
}

/// `out[y, x, c] = activation(bias[c] + sum weight[ky, kx, c] src[y s + ky - top, x s + kx - left, c])`.
#[allow(clippy::too_many_arguments)]
pub(super) fn run(
    out: &mut [f32],
    out_shape: Shape,
    src: &[f32],
    s: Shape,
    window: Window,
    weight: &[f32],
    bias: &[f32],
    activation: Activation,
    threads: Threads,
) {
    let top = window.along(s.height).map_or(0, |(_, p)| p) as isize;
    let left = window.along(s.width).map_or(0, |(_, p)| p) as isize;
    let row = Row { src, s, window, weight, bias, top, left };
    let work = |(y, line): (usize, &mut [f32])| match activation {
        Activation::None => dispatch(&row, y, line, |x| x),
        Activation::Relu => dispatch(&row, y, line, |x| x.max(0.0)),
        Activation::Relu6 => dispatch(&row, y, line, |x| x.clamp(0.0, 6.0)),
    };
    let width = out_shape.width * out_shape.channels;
    match threads {
        Threads::One => out.chunks_mut(width).enumerate().for_each(work),
        Threads::All => out.par_chunks_mut(width).enumerate().for_each(work),
    }
}

fn dispatch(row: &Row<'_>, y: usize, line: &mut [f32], activate: impl Fn(f32) -> f32 + Copy) {
    vectorized!(compute_line(row, y, line, activate));
}

#[inline(always)]
fn compute_line(row: &Row<'_>, y: usize, line: &mut [f32], activate: impl Fn(f32) -> f32 + Copy) {
    let (k, c) = (row.window.kernel, row.s.channels);
    let iy = (y * row.window.stride) as isize - row.top;
    let rows = inside(iy, k, row.s.height);
    for (x, pixel) in line.chunks_exact_mut(c).enumerate() {
        let ix = (x * row.window.stride) as isize - row.left;
        let columns = inside(ix, k, row.s.width);
        let (whole, tail) = pixel.split_at_mut(c - c % LANES);
        for (block, values) in whole.chunks_exact_mut(LANES).enumerate() {
            let at = block * LANES;
            let mut sums = [0.0f32; LANES];
            sums.copy_from_slice(&row.bias[at..at + LANES]);
            for ky in rows.clone() {
                for kx in columns.clone() {
                    let p =
                        ((iy + ky as isize) as usize * row.s.width + (ix + kx as isize) as usize) * c + at;
                    let v: &[f32; LANES] = row.src[p..p + LANES].try_into().expect("slice of LANES values");
                    let q = (ky * k + kx) * c + at;
                    let w: &[f32; LANES] =
                        row.weight[q..q + LANES].try_into().expect("slice of LANES values");
                    for i in 0..LANES {
                        sums[i] += v[i] * w[i];
                    }
                }
            }
            for i in 0..LANES {
                values[i] = activate(sums[i]);
            }
        }
        let at = c - c % LANES;
        let n = tail.len();
        tail.copy_from_slice(&row.bias[at..]);
        for ky in rows.clone() {
            for kx in columns.clone() {
                let p = ((iy + ky as isize) as usize * row.s.width + (ix + kx as isize) as usize) * c + at;
                let q = (ky * k + kx) * c + at;
                for ((t, v), w) in tail.iter_mut().zip(&row.src[p..p + n]).zip(&row.weight[q..q + n]) {
                    *t += v * w;
                }
            }
        }
        for t in tail {
            *t = activate(*t);
        }
    }
}

/// Kernel indices whose input `start + index` lies in `0..size`.
fn inside(start: isize, kernel: usize, size: usize) -> std::ops::Range<usize> {
    let from = (-start).clamp(0, kernel as isize);
    let to = (size as isize - start).clamp(from, kernel as isize);
    from as usize..to as usize
}
