//! Anomaly Feature Synthesis: each normal feature gets an anomaly beyond it, on the ray from its centre, as far
//! out as a share `k` of the mean radius of the boundary.
//!
//! ```text
//! x~_i = x_i + stopgrad( k_i r (x_i - c_i) / d_i )
//! ```
//!
//! The added ray is constant: gradients reach the projection through `x_i` alone. Where `d_i = 0` there is no ray and
//! `x~_i = x_i`.

use super::boundary::Boundary;

/// Writes the synthetic features of `x` `[n, dim]` to `synthetic`; `scales` are the `k_i`, `[n]`.
pub fn synthesize(synthetic: &mut [f32], x: &[f32], boundary: &Boundary, scales: &[f32], dim: usize) {
    let rows = synthetic.chunks_exact_mut(dim).zip(x.chunks_exact(dim)).zip(boundary.ray.chunks_exact(dim));
    for (((out, row), ray), (&d, k)) in rows.zip(boundary.distance.iter().zip(scales)) {
        let factor = if d > 0.0 { k * boundary.mean_radius / d } else { 0.0 };
        for ((o, v), r) in out.iter_mut().zip(row).zip(ray) {
            *o = v + factor * r;
        }
    }
}
