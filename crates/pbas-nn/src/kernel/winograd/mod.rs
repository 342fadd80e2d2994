//! 3 x 3 convolutions of stride 1 by Winograd's algorithm F(m x m, 3 x 3): a tile of `m + 2` positions a side is transformed, multiplied
//! with transformed weights at each of its `(m + 2)^2` points (a product over all channels), and transformed back into `m x m` outputs.
//! A direct convolution needs `9 m^2` multiplications where this needs `(m + 2)^2`.
//!
//! The transforms are those of Toom and Cook: a tile is a polynomial that is evaluated at `m + 1` numbers and at infinity. The
//! numbers decide how rounding errors grow, and are chosen by measurement ([`POINTS`]). Sums over channels are in order, so
//! results depend neither on how tiles are cut into blocks nor on threads.
//!
//! Source: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016.

mod transform;
mod weights;

pub(crate) use transform::{Inputs, Layout, Outputs, Tiles};
pub(crate) use weights::Transformed;

use crate::simd::Vector;

/// Weights of a kernel, along one axis.
const TAPS: usize = 3;
/// The most points along one axis of a tile.
const MAX_POINTS: usize = 6;

/// The finite numbers at which tiles of 2, 3 and 4 outputs a side are evaluated. Root of the mean squared error over 256 channels, in
/// units of the output's deviation: 4.3e-7, 1.5e-6, 1.2e-6 (the usual 0, 1, -1, 2, -2 gives 2.4e-6; direct summation 6e-7).
const POINTS: [&[f64]; 3] = [&[0.0, 1.0, -1.0], &[0.0, 1.0, -1.0, 2.0], &[0.0, 0.75, -0.75, 1.5, -1.5]];

/// Outputs of a tile along one axis for a map of `height x width` outputs: that with the fewest multiplications; of equals the
/// smallest, which has fewer weights and smaller errors.
pub(crate) fn tile(height: usize, width: usize) -> usize {
    let work = |m: usize| height.div_ceil(m) * width.div_ceil(m) * (m + TAPS - 1).pow(2);
    (2..=4).min_by_key(|&m| (work(m), m)).unwrap_or(2)
}

/// Multiplications of the points of tiles of `m` outputs a side, as a share of those of direct summation.
pub(crate) fn share(m: usize, height: usize, width: usize) -> f64 {
    let points = (m + TAPS - 1).pow(2) * height.div_ceil(m) * width.div_ceil(m);
    points as f64 / (TAPS * TAPS * height * width) as f64
}

/// A tile's line of values at the points: `B^T d`.
#[inline(always)]
fn evaluate<V: Vector, const N: usize>(d: [V; N]) -> [V; N] {
    let mut r = d;
    // SAFETY: vectors of this type exist, so the processor has its instructions; registers alone are touched.
    unsafe {
        macro_rules! c {
            ($v:expr) => {
                V::splat($v)
            };
        }
        match N {
            4 => {
                r[0] = d[2].sub(d[0]);
                r[1] = d[2].add(d[1]);
                r[2] = d[2].sub(d[1]);
                r[3] = d[3].sub(d[1]);
            }
            5 => {
                // Coefficients of the product of (x - p) over all other points p.
                let two = c!(2.0);
                let odd = d[3].sub(d[1]);
                let even = d[2].sub(d[0]);
                r[0] = odd.add_product(even, c!(-2.0));
                r[1] = d[3].sub(d[2]).add_product(d[1], c!(-2.0));
                r[2] = d[3].add_product(d[2], c!(-3.0)).add_product(d[1], two);
                r[3] = odd;
                r[4] = d[4].sub(d[2]).add_product(odd, c!(-2.0));
            }
            _ => {
                // p = 3/4 and q = 3/2.
                let (pp, qq) = (0.5625, 2.25);
                r[0] = d[4].add_product(d[2], c!(-pp - qq)).add_product(d[0], c!(pp * qq));
                let (even, odd) =
                    (d[4].add_product(d[2], c!(-qq)), d[3].add_product(d[1], c!(-qq)).mul(c!(0.75)));
                r[1] = even.add(odd);
                r[2] = even.sub(odd);
                let (even, odd) =
                    (d[4].add_product(d[2], c!(-pp)), d[3].add_product(d[1], c!(-pp)).mul(c!(1.5)));
                r[3] = even.add(odd);
                r[4] = even.sub(odd);
                r[5] = d[5].add_product(d[3], c!(-pp - qq)).add_product(d[1], c!(pp * qq));
            }
        }
    }
    r
}

/// Outputs from the products at the points: `A^T m`.
#[inline(always)]
fn interpolate<V: Vector, const N: usize, const M: usize>(m: [V; N]) -> [V; M] {
    // SAFETY: as in `evaluate`.
    unsafe {
        macro_rules! c {
            ($v:expr) => {
                V::splat($v)
            };
        }
        let mut y = [m[0]; M];
        let (sum, difference) = (m[1].add(m[2]), m[1].sub(m[2]));
        match N {
            4 => {
                y[0] = m[0].add(sum);
                y[1] = m[3].add(difference);
            }
            5 => {
                y[0] = m[0].add(sum).add(m[3]);
                y[1] = difference.add_product(m[3], c!(2.0));
                y[2] = m[4].add(sum).add_product(m[3], c!(4.0));
            }
            _ => {
                let (far_sum, far_difference) = (m[3].add(m[4]), m[3].sub(m[4]));
                y[0] = m[0].add(sum).add(far_sum);
                y[1] = difference.mul(c!(0.75)).add_product(far_difference, c!(1.5));
                y[2] = sum.mul(c!(0.5625)).add_product(far_sum, c!(2.25));
                y[3] = m[5].add_product(difference, c!(0.421_875)).add_product(far_difference, c!(3.375));
            }
        }
        y
    }
}

/// How weights are evaluated, `G`: a row of three factors for each point of a tile of `m` outputs; the last is infinity.
fn weight_matrix(m: usize) -> Vec<[f64; TAPS]> {
    let points = POINTS[m - 2];
    let row = |&p: &f64| {
        // The factors that make interpolation exact go to the weights, where they cost nothing.
        let others: f64 = points.iter().filter(|&&q| q != p).map(|q| p - q).product();
        [1.0 / others, p / others, p * p / others]
    };
    points.iter().map(row).chain([[0.0, 0.0, 1.0]]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::Portable;

    /// `sum_k d[i + k] g[k]` against evaluation, products and interpolation, in one dimension.
    fn check<const N: usize, const M: usize>() {
        let d: [f32; N] = std::array::from_fn(|i| (i * i % 7) as f32 - 2.5);
        let g = [0.5f32, -1.25, 2.0];
        let matrix = weight_matrix(M);
        assert_eq!(matrix.len(), N);
        // SAFETY: no condition for this vector; four values each.
        let lanes = |v: f32| unsafe { Portable::<4>::splat(v) };
        let mut points = evaluate(d.map(lanes));
        for (v, row) in points.iter_mut().zip(&matrix) {
            let weight: f64 = row.iter().zip(g).map(|(r, g)| r * f64::from(g)).sum();
            // SAFETY: as above.
            *v = unsafe { v.mul(lanes(weight as f32)) };
        }
        for (i, v) in interpolate::<_, N, M>(points).into_iter().enumerate() {
            let mut found = [0.0f32; 4];
            // SAFETY: as above.
            unsafe { v.store(found.as_mut_ptr()) };
            let expected: f32 = (0..TAPS).map(|k| d[i + k] * g[k]).sum();
            assert!(found.iter().all(|f| (f - expected).abs() < 1e-5), "{M}: {found:?} {expected}");
        }
    }

    #[test]
    fn a_line_of_a_tile_is_a_convolution() {
        check::<4, 2>();
        check::<5, 3>();
        check::<6, 4>();
    }

    #[test]
    fn tiles_fit_their_maps() {
        for (height, width, expected) in
            [(72, 72, 4), (36, 36, 4), (18, 18, 3), (2, 2, 2), (9, 9, 3), (6, 6, 3)]
        {
            assert_eq!(tile(height, width), expected, "{height} x {width}");
        }
        assert!((share(4, 72, 72) - 0.25).abs() < 1e-12);
        assert!(share(2, 1, 1) > 1.0);
    }
}
