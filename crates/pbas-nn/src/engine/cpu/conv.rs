//! Convolution over all channels: im2col of a band of output positions, matrix product, bias, activation.

use rayon::prelude::*;

use crate::graph::{Activation, Window};
use crate::linalg::{Mat, Threads, gemm_into};
use crate::shape::Shape;

/// Most output positions a band; a band's columns then stay in the second-level cache. Fixed, so that the
/// number of threads changes nothing.
const MAX_BAND: usize = 512;

/// `out[position, o] = activation(bias[o] + sum_k columns[position, k] weight[o, k])`.
#[allow(clippy::too_many_arguments)]
pub(super) fn run(
    out: &mut [f32],
    out_shape: Shape,
    src: &[f32],
    src_shape: Shape,
    window: Window,
    weight: &[f32],
    bias: &[f32],
    activation: Activation,
    threads: Threads,
) {
    let n = out_shape.channels;
    let k = window.kernel * window.kernel * src_shape.channels;
    let weights = Mat::new(weight, n, k).t();
    let pointwise = window.kernel == 1 && window.stride == 1;
    // Small maps are cut finer, so that every thread has work.
    let band = MAX_BAND.min(out_shape.positions().div_ceil(4)).max(32);
    let work = |columns: &mut Vec<f32>, (index, rows): (usize, &mut [f32])| {
        let first = index * band;
        let count = rows.len() / n;
        if pointwise {
            gemm_into(rows, Mat::new(&src[first * k..], count, k), weights, false, Threads::One);
        } else {
            columns.resize(band * k, 0.0);
            im2col(columns, first, count, out_shape, src, src_shape, window);
            gemm_into(rows, Mat::new(columns, count, k), weights, false, Threads::One);
        }
        finish(rows, bias, activation);
    };
    match threads {
        Threads::One => {
            let mut columns = Vec::new();
            out.chunks_mut(band * n).enumerate().for_each(|part| work(&mut columns, part));
        }
        Threads::All => out.par_chunks_mut(band * n).enumerate().for_each_init(Vec::new, work),
    }
}

/// Adds the bias and activates, row by row.
fn finish(rows: &mut [f32], bias: &[f32], activation: Activation) {
    let sweep = |f: fn(f32) -> f32, rows: &mut [f32]| {
        for row in rows.chunks_exact_mut(bias.len()) {
            for (v, b) in row.iter_mut().zip(bias) {
                *v = f(*v + b);
            }
        }
    };
    match activation {
        Activation::None => sweep(|x| x, rows),
        Activation::Relu => sweep(|x| x.max(0.0), rows),
        Activation::Relu6 => sweep(|x| x.clamp(0.0, 6.0), rows),
    }
}

/// Row `i` of `columns` gets the window of output position `first + i`: `[kernel row, kernel column, channel]`,
/// zeros outside the map.
fn im2col(
    columns: &mut [f32],
    first: usize,
    count: usize,
    out_shape: Shape,
    src: &[f32],
    s: Shape,
    window: Window,
) {
    let k = window.kernel;
    let c = s.channels;
    let top = window.along(s.height).map_or(0, |(_, p)| p) as isize;
    let left = window.along(s.width).map_or(0, |(_, p)| p) as isize;
    for (i, row) in columns.chunks_exact_mut(k * k * c).take(count).enumerate() {
        let (y, x) = ((first + i) / out_shape.width, (first + i) % out_shape.width);
        let ix = (x * window.stride) as isize - left;
        // Part of the kernel row that lies inside the map: one contiguous run of pixels.
        let from = (-ix).clamp(0, k as isize) as usize;
        let to = (s.width as isize - ix).clamp(from as isize, k as isize) as usize;
        for (ky, line) in row.chunks_exact_mut(k * c).enumerate() {
            let iy = (y * window.stride + ky) as isize - top;
            if iy < 0 || iy >= s.height as isize || from >= to {
                line.fill(0.0);
                continue;
            }
            line[..from * c].fill(0.0);
            line[to * c..].fill(0.0);
            let start = (iy as usize * s.width + (ix + from as isize) as usize) * c;
            line[from * c..to * c].copy_from_slice(&src[start..start + (to - from) * c]);
        }
    }
}
