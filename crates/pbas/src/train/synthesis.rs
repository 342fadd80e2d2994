//! Anomaly Feature Synthesis: each normal feature gets an anomaly beyond it, on the ray from its centre, as far
//! out as a share `k` of the mean radius of the boundary.
//!
//! ```text
//! x~_i = x_i + stopgrad( k_i r (x_i - c_i) / d_i ) = x_i + f_i (x_i - c_i)        f_i = k_i r / d_i
//! ```
//!
//! The added ray is constant: gradients reach the projection through `x_i` alone. Where `d_i = 0` there is no ray and
//! `x~_i = x_i`.
//!
//! The synthetic features are never written down. They enter the discriminator through its first layer alone, which is
//! affine, so their hidden values follow from those of the normal features and the centres:
//! `W1 x~_i + b1 = h_i + f_i (h_i - h(c_i))`. This halves the matrix products of the discriminator (see `refinement`).

use super::boundary::Boundary;

/// `f_i`, how far each anomaly lies beyond its feature in units of the feature's own distance; `scales` are the `k_i`.
pub fn ray_factors(factors: &mut Vec<f32>, boundary: &Boundary, scales: &[f32]) {
    let of = |(&d, k): (&f32, &f32)| if d > 0.0 { k * boundary.mean_radius / d } else { 0.0 };
    factors.clear();
    factors.extend(boundary.distance.iter().zip(scales).map(of));
}
