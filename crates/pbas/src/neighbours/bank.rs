//! Distance of patch features to the nearest row of a bank: bounded from below in a few directions for all rows, measured in full for
//! the few rows that the bound leaves.
//!
//! With orthonormal directions `Q`, `y = Q x` and what they leave of `x`, of length `r(x)`, every row `b` has
//!
//! `|x - b|^2 = |y(x) - y(b)|^2 + |rest(x) - rest(b)|^2 >= |y(x) - y(b)|^2 + (r(x) - r(b))^2`,
//!
//! so `[y, r]`, a fifth of the entries, gives a lower bound of every distance by one matrix product. The row with the least bound is measured; rows
//! whose bound is above that cannot be nearer. Of 667 rows 3 to 30 are left on the sets of docs/results.md.

use std::sync::Arc;

use pbas_nn::linalg::{NearRows, PackedMatrix, Threads};
use pbas_nn::vectorized;

use super::subspace::{directions, product};
use crate::Result;
use crate::bands::each_band;

/// Patches measured at a time: their products with all rows stay in the second-level cache. A multiple of the kernel's rows.
pub(super) const BAND: usize = 24;
/// Partial maxima, so that the search vectorizes.
const LANES: usize = 16;
/// Relative rounding error of a float32 sum over the entries of a feature, generously.
const ROUNDING: f32 = 4e-6;

/// The nearest row of a bank.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Near {
    /// Euclidean distance.
    pub distance: f32,
    /// Which row.
    pub row: usize,
}

/// Rows to be near to, laid out for the search; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct PackedBank(Arc<Laid>);

#[derive(Debug)]
struct Laid {
    dim: usize,
    /// `[count, dim]`.
    rows: NearRows,
    /// Directions, `[p, dim]`.
    directions: PackedMatrix,
    /// `[count, p + 1]`: each row along the directions, then the length of its rest; with minus half its squared length as bias.
    short: PackedMatrix,
    /// Length of a row of `short`: `p + 1`.
    short_len: usize,
    /// Longest row, and longest rest of a row.
    longest: f32,
    longest_rest: f32,
}

/// Buffers of one thread.
#[derive(Default)]
pub(super) struct Work {
    along: Vec<f32>,
    short: Vec<f32>,
    products: Vec<f32>,
    search: SearchWork,
}

/// Of one patch: its entries as the rows are laid out, and the rows that may be nearest.
#[derive(Default)]
struct SearchWork {
    laid_out: Vec<f32>,
    candidates: Vec<usize>,
}

impl PackedBank {
    /// Lays out `rows`, `[count, dim]`.
    ///
    /// # Errors
    /// An instruction set was asked for that this processor lacks.
    pub fn new(rows: &[f32], dim: usize) -> Result<Self> {
        let directions = directions(rows, dim);
        let p = directions.len() / dim;
        let directions = PackedMatrix::new(&directions, &vec![0.0; p], dim)?;
        let bias: Vec<f32> = rows.chunks_exact(dim).map(minus_half_square).collect();
        let (mut along, mut short) = (Vec::new(), Vec::new());
        shorten(&directions, p, rows, dim, &mut along, &mut short);
        let longest = bias.iter().fold(0.0f32, |most, b| most.max(-2.0 * b)).sqrt();
        let longest_rest = short.iter().skip(p).step_by(p + 1).fold(0.0f32, |most, r| most.max(*r));
        let short = PackedMatrix::new(&short, &bias, p + 1)?;
        Ok(Self(Arc::new(Laid {
            dim,
            rows: NearRows::new(rows, dim)?,
            directions,
            short,
            short_len: p + 1,
            longest,
            longest_rest,
        })))
    }

    /// Euclidean distance of each row of `x`, `[n, dim]`, to the nearest of the bank.
    pub fn distances(&self, x: &[f32], threads: Threads) -> Vec<f32> {
        self.nearest(x, threads).iter().map(|n| n.distance).collect()
    }

    /// The row of the bank that is nearest to each row of `x`, `[n, dim]`.
    pub fn nearest(&self, x: &[f32], threads: Threads) -> Vec<Near> {
        let dim = self.0.dim;
        let mut out = vec![Near::default(); x.len() / dim];
        each_band(threads, &mut out, BAND, 1, |work, band, out| {
            self.band(&x[band * BAND * dim..][..out.len() * dim], out, work);
        });
        out
    }

    /// As [`PackedBank::nearest`], for up to [`BAND`] rows on the calling thread.
    pub(super) fn band(&self, x: &[f32], out: &mut [Near], work: &mut Work) {
        self.0.band(x, out, work);
    }
}

impl Laid {
    /// The nearest rows of a band.
    fn band(&self, x: &[f32], out: &mut [Near], work: &mut Work) {
        let (dim, count) = (self.dim, self.rows.count());
        shorten(&self.directions, self.short_len - 1, x, dim, &mut work.along, &mut work.short);
        work.products.resize(out.len() * count, 0.0);
        self.short.multiply(&work.short, out.len(), None, &mut work.products);
        let search = &mut work.search;
        vectorized!({
            let short = work.short.chunks_exact(self.short_len);
            let rows = x.chunks_exact(dim).zip(short).zip(work.products.chunks_exact(count));
            for (out, ((x, short), products)) in out.iter_mut().zip(rows) {
                let (squared, row) = self.nearest(x, short[self.short_len - 1], products, search);
                *out = Near { distance: squared.sqrt(), row };
            }
        });
    }

    /// Squared distance of `x` to the nearest row, and which it is; `rest` is the length of what the directions leave of it, `products` holds for
    /// each row `(|x|^2 - bound) / 2`.
    #[inline(always)]
    fn nearest(&self, x: &[f32], rest: f32, products: &[f32], work: &mut SearchWork) -> (f32, usize) {
        let SearchWork { laid_out, candidates } = work;
        let square = product(x, x);
        // The length of a short rest is a difference of long squares.
        let of_rest = (ROUNDING * square / rest).min((ROUNDING * square).sqrt());
        let slack = of_rest * self.longest_rest + ROUNDING * (square + square.sqrt() * self.longest);
        let most = largest(products);
        let first = products.iter().position(|p| *p == most).unwrap_or(0);
        self.rows.lay_out(x, laid_out);
        let best = self.rows.nearest(laid_out, &[first], (f32::INFINITY, first), |_, _| true);
        let limit = |least: f32| (square - least) / 2.0 - slack;
        let from = limit(best.0);
        candidates.clear();
        for (chunk, products) in products.chunks(LANES).enumerate() {
            if products.iter().fold(false, |any, p| any | (*p >= from)) {
                let near = products.iter().enumerate().filter(|(_, p)| **p >= from);
                candidates.extend(near.map(|(i, _)| chunk * LANES + i).filter(|i| *i != first));
            }
        }
        let worth = |i: usize, least: f32| products[i] >= limit(least);
        self.rows.nearest(laid_out, candidates, best, worth)
    }
}

/// Of each row of `x`, `[n, dim]`, its entries along `p` directions, then the length of its rest: `[n, p + 1]` into `short`.
fn shorten(
    directions: &PackedMatrix,
    p: usize,
    x: &[f32],
    dim: usize,
    along: &mut Vec<f32>,
    short: &mut Vec<f32>,
) {
    let n = x.len() / dim;
    along.resize(n * p, 0.0);
    short.resize(n * (p + 1), 0.0);
    if p > 0 {
        directions.multiply(x, n, None, along);
    }
    vectorized!({
        for (i, (x, short)) in x.chunks_exact(dim).zip(short.chunks_exact_mut(p + 1)).enumerate() {
            let along = &along[i * p..(i + 1) * p];
            short[..p].copy_from_slice(along);
            short[p] = (product(x, x) - product(along, along)).max(0.0).sqrt();
        }
    });
}

/// What is added to a row's product with `x`, so that the largest is that of the nearest row.
pub(crate) fn minus_half_square(row: &[f32]) -> f32 {
    -0.5 * row.iter().map(|v| v * v).sum::<f32>()
}

#[inline(always)]
fn largest(values: &[f32]) -> f32 {
    let mut best = [f32::NEG_INFINITY; LANES];
    let chunks = values.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        best.iter_mut().zip(chunk).for_each(|(b, &v)| *b = if v > *b { v } else { *b });
    }
    best.iter().chain(rest).copied().fold(f32::NEG_INFINITY, f32::max)
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn check(x: &[f32], rows: &[f32], dim: usize) {
        let bank = PackedBank::new(rows, dim).unwrap();
        let fast = bank.distances(x, Threads::One);
        assert_eq!(fast, bank.distances(x, Threads::All));
        assert_eq!(fast.len(), x.len() / dim);
        let nearest = bank.nearest(x, Threads::One);
        for ((x, fast), near) in x.chunks(dim).zip(fast).zip(nearest) {
            let distance = |b: &[f32]| {
                let squares = x.iter().zip(b).map(|(x, y)| (f64::from(*x) - f64::from(*y)).powi(2));
                squares.sum::<f64>().sqrt()
            };
            let least = rows.chunks(dim).map(distance).fold(f64::INFINITY, f64::min);
            assert!((least - f64::from(fast)).abs() < 1e-5 * (1.0 + least), "{least} {fast}");
            let of_row = distance(&rows[near.row * dim..(near.row + 1) * dim]);
            assert!((least - of_row).abs() < 1e-5 * (1.0 + least), "row {}: {of_row}, {least}", near.row);
        }
    }

    #[test]
    fn distances_agree_with_plain_loops_on_any_threads() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for (dim, n, m) in [(19, 70, 33), (344, 49, 5), (8, 1, 100), (3, 5, 1), (1, 9, 9), (344, 30, 300)] {
            let mut random = |n: usize| -> Vec<f32> { (0..n).map(|_| rng.random_range(-1.0..1.0)).collect() };
            check(&random(n * dim), &random(m * dim), dim);
        }
    }

    /// Rows in few directions, rows that are copies, patches that are rows, a rest that is nothing but rounding.
    #[test]
    fn the_bound_passes_over_no_nearest_row() {
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let dim = 200;
        for (rank, noise, scale) in
            [(1, 0.0, 1.0), (4, 1e-3, 1.0), (40, 0.3, 30.0), (100, 1e-4, 1e-3), (150, 1.0, 1.0)]
        {
            let mut random = |n: usize| -> Vec<f32> { (0..n).map(|_| rng.random_range(-1.0..1.0)).collect() };
            let base = random(rank * dim);
            let mut lie_near = |n: usize| -> Vec<f32> {
                let (weights, rest) = (random(n * rank), random(n * dim));
                let at = |i: usize, j: usize| {
                    let sum: f32 = (0..rank).map(|r| weights[i * rank + r] * base[r * dim + j]).sum();
                    scale * (sum + noise * rest[i * dim + j])
                };
                (0..n * dim).map(|k| at(k / dim, k % dim)).collect()
            };
            let rows = lie_near(250);
            let mut x = lie_near(60);
            x.extend_from_slice(&rows[..3 * dim]);
            check(&x, &rows, dim);
            check(&x, &rows[..10 * dim].repeat(30), dim);
        }
    }
}
