//! Distance of patch features to the nearest row of a bank, as a matrix product with a running maximum.

use std::sync::Arc;

use pbas_nn::linalg::{PackedMatrix, Threads, vectorized};
use rayon::prelude::*;

use crate::Result;

/// Patches measured at a time: their products with all rows stay in the second-level cache. A multiple of the kernel's rows.
const BAND: usize = 24;
/// Partial maxima, so that the search vectorizes.
const LANES: usize = 16;

/// Rows to be near to, laid out for the product kernel; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct PackedBank {
    dim: usize,
    count: usize,
    /// The rows, with minus half their squared length as bias.
    rows: Arc<PackedMatrix>,
}

impl PackedBank {
    /// Lays out `rows`, `[count, dim]`.
    ///
    /// # Errors
    /// An instruction set was asked for that this processor lacks.
    pub fn new(rows: &[f32], dim: usize) -> Result<Self> {
        let bias: Vec<f32> = rows.chunks_exact(dim).map(minus_half_square).collect();
        Ok(Self { dim, count: bias.len(), rows: Arc::new(PackedMatrix::new(rows, &bias, dim)?) })
    }

    /// Euclidean distance of each row of `x`, `[n, dim]`, to the nearest of the bank: `|x - b|^2 = |x|^2 - 2 (x . b - |b|^2 / 2)`.
    pub fn distances(&self, x: &[f32], threads: Threads) -> Vec<f32> {
        let mut out = vec![0.0; x.len() / self.dim];
        let work = |products: &mut Vec<f32>, (band, out): (usize, &mut [f32])| {
            let x = &x[band * BAND * self.dim..][..out.len() * self.dim];
            products.resize(BAND * self.count, 0.0);
            self.rows.multiply(x, out.len(), None, products);
            vectorized(|| {
                let rows = x.chunks_exact(self.dim).zip(products.chunks_exact(self.count));
                for (distance, (row, products)) in out.iter_mut().zip(rows) {
                    let squared = sum_of_squares(row) - 2.0 * largest(products);
                    *distance = squared.max(0.0).sqrt();
                }
            });
        };
        match threads {
            Threads::One => {
                let mut products = Vec::new();
                out.chunks_mut(BAND).enumerate().for_each(|part| work(&mut products, part));
            }
            Threads::All => out.par_chunks_mut(BAND).enumerate().for_each_init(Vec::new, work),
        }
        out
    }
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

#[inline(always)]
fn sum_of_squares(values: &[f32]) -> f32 {
    let mut sums = [0.0f32; LANES];
    let chunks = values.chunks_exact(LANES);
    let rest: f32 = chunks.remainder().iter().map(|v| v * v).sum();
    for chunk in chunks {
        sums.iter_mut().zip(chunk).for_each(|(s, v)| *s += v * v);
    }
    sums.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn distances_agree_with_plain_loops_on_any_threads() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for (dim, n, m) in [(19, 70, 33), (344, 49, 5), (8, 1, 100)] {
            let mut random = |n: usize| -> Vec<f32> { (0..n).map(|_| rng.random_range(-1.0..1.0)).collect() };
            let (x, rows) = (random(n * dim), random(m * dim));
            let bank = PackedBank::new(&rows, dim).unwrap();
            let fast = bank.distances(&x, Threads::One);
            assert_eq!(fast, bank.distances(&x, Threads::All));
            assert_eq!(fast.len(), n);
            for (row, fast) in x.chunks(dim).zip(fast) {
                let distance = |b: &[f32]| {
                    let squares = row.iter().zip(b).map(|(x, y)| f64::from(x - y).powi(2));
                    squares.sum::<f64>().sqrt()
                };
                let least = rows.chunks(dim).map(distance).fold(f64::INFINITY, f64::min);
                assert!((least - f64::from(fast)).abs() < 1e-4, "{least} {fast}");
            }
        }
    }
}
