//! Max pooling.

use crate::graph::Window;
use crate::shape::Shape;

/// `out[y, x, c]` = the largest value of its window inside the map.
pub(super) fn max(out: &mut [f32], out_shape: Shape, src: &[f32], s: Shape, window: Window) {
    let top = window.along(s.height).map_or(0, |(_, p)| p) as isize;
    let left = window.along(s.width).map_or(0, |(_, p)| p) as isize;
    let c = s.channels;
    for (i, pixel) in out.chunks_exact_mut(c).enumerate() {
        let (y, x) = (i / out_shape.width, i % out_shape.width);
        pixel.fill(f32::NEG_INFINITY);
        for ky in 0..window.kernel {
            for kx in 0..window.kernel {
                let iy = (y * window.stride + ky) as isize - top;
                let ix = (x * window.stride + kx) as isize - left;
                if iy < 0 || ix < 0 || iy >= s.height as isize || ix >= s.width as isize {
                    continue;
                }
                let at = (iy as usize * s.width + ix as usize) * c;
                for (o, v) in pixel.iter_mut().zip(&src[at..at + c]) {
                    *o = o.max(*v);
                }
            }
        }
    }
}
