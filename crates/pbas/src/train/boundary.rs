//! Approximate Boundary Learning: the mean distance of the normal features to their centres is the radius of the
//! boundary and, at once, the loss that shrinks it.
//!
//! ```text
//! d_i = ||x_i - c_i||      r = mean_i d_i      L_abl = r
//! dL_abl / dx_i = (x_i - c_i) / (N d_i)        (0 where d_i = 0: no direction is better than another)
//! ```

use pbas_nn::linalg::{Threads, dot};
use pbas_nn::vectorized;

use super::sweep::{BLOCK, each};

/// Distances of one batch to their centres.
#[derive(Debug, Clone, Default)]
pub struct Boundary {
    /// `x - c`, `[n, dim]`.
    pub ray: Vec<f32>,
    /// `d`, `[n]`.
    pub distance: Vec<f32>,
    /// `r`, the boundary loss.
    pub mean_radius: f32,
}

impl Boundary {
    /// Measures `x` `[n, dim]` against the rows `nearest` of `centers`.
    pub fn measure(&mut self, x: &[f32], centers: &[f32], nearest: &[usize], dim: usize, threads: Threads) {
        self.ray.resize(x.len(), 0.0);
        self.distance.resize(nearest.len(), 0.0);
        let rows = x.chunks(BLOCK * dim).zip(self.ray.chunks_mut(BLOCK * dim));
        let parts = rows.zip(nearest.chunks(BLOCK).zip(self.distance.chunks_mut(BLOCK)));
        each(threads, parts, |_, ((rows, rays), (nearest, distances))| {
            vectorized!({
                let rows = rows.chunks_exact(dim).zip(rays.chunks_exact_mut(dim));
                for ((row, ray), (&i, distance)) in rows.zip(nearest.iter().zip(distances)) {
                    for ((r, v), c) in ray.iter_mut().zip(row).zip(&centers[i * dim..(i + 1) * dim]) {
                        *r = v - c;
                    }
                    *distance = dot(ray, ray).sqrt();
                }
            });
        });
        let sum: f64 = self.distance.iter().map(|&d| f64::from(d)).sum();
        self.mean_radius = (sum / nearest.len() as f64) as f32;
    }

    /// Adds `weight * dL_abl / dx` to `gradient` `[n, dim]`.
    pub fn add_gradient(&self, gradient: &mut [f32], dim: usize, weight: f32, threads: Threads) {
        let n = self.distance.len() as f32;
        let parts = gradient.chunks_mut(BLOCK * dim).zip(self.ray.chunks(BLOCK * dim));
        each(threads, parts.zip(self.distance.chunks(BLOCK)), |_, ((gradients, rays), distances)| {
            vectorized!({
                let rows = gradients.chunks_exact_mut(dim).zip(rays.chunks_exact(dim));
                for ((g, ray), &d) in rows.zip(distances) {
                    if d > 0.0 {
                        let factor = weight / (n * d);
                        g.iter_mut().zip(ray).for_each(|(g, r)| *g += factor * r);
                    }
                }
            });
        });
    }
}
