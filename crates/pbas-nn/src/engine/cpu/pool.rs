//! Max pooling.

use rayon::prelude::*;

use crate::graph::Window;
use crate::linalg::Threads;
use crate::shape::Shape;
use crate::vectorized;

/// `out[y, x, c]` = the largest value of its window inside the map.
pub(super) fn max(
    out: &mut [f32],
    out_shape: Shape,
    src: &[f32],
    s: Shape,
    window: Window,
    threads: Threads,
) {
    let top = window.along(s.height).map_or(0, |(_, p)| p) as isize;
    let left = window.along(s.width).map_or(0, |(_, p)| p) as isize;
    let c = s.channels;
    let line = |(y, row): (usize, &mut [f32])| {
        vectorized!({
            for (x, pixel) in row.chunks_exact_mut(c).enumerate() {
                pixel.fill(f32::NEG_INFINITY);
                for ky in 0..window.kernel {
                    for kx in 0..window.kernel {
                        let iy = (y * window.stride + ky) as isize - top;
                        let ix = (x * window.stride + kx) as isize - left;
                        if iy < 0 || ix < 0 || iy >= s.height as isize || ix >= s.width as isize {
                            continue;
                        }
                        let at = (iy as usize * s.width + ix as usize) * c;
                        let from = &src[at..at + c];
                        pixel.iter_mut().zip(from).for_each(|(o, v)| *o = if *v > *o { *v } else { *o });
                    }
                }
            }
        })
    };
    let width = out_shape.width * c;
    match threads {
        Threads::One => out.chunks_exact_mut(width).enumerate().for_each(line),
        Threads::All => out.par_chunks_exact_mut(width).enumerate().for_each(line),
    }
}
