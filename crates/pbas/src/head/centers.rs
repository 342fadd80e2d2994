//! Centres of the approximate boundary: one a position, found before training by feature alignment
//! (algorithm.md, section 3), or the nearest of freshly projected training patches (recipe notes).

use pbas_nn::linalg::{Mat, Threads, gemm_into};
use pbas_nn::vectorized;

use crate::bands::each_band;

/// Published weight of a batch's mean in its centre: `C <- 0.9 C + 0.1 m`.
pub const CENTER_MOMENTUM: f32 = 0.1;
/// Guards a division by the length of a zero vector, as torch's cosine similarity does.
const COSINE_EPS: f32 = 1e-8;
/// Rows searched at a time: their similarities stay in the second-level cache.
const BAND: usize = 64;

/// Centres `[count, dim]`, fixed during training.
#[derive(Debug, Clone, PartialEq)]
pub struct Centers {
    /// Entries of a centre.
    pub dim: usize,
    /// `[count, dim]`.
    pub data: Vec<f32>,
}

impl Centers {
    /// Mean over the pictures of a batch at each position: `projected` is `[pictures, positions, dim]`.
    #[must_use]
    pub fn batch_mean(projected: &[f32], pictures: usize, dim: usize) -> Self {
        let len = projected.len() / pictures;
        let mut data = vec![0.0f32; len];
        for picture in projected.chunks_exact(len) {
            data.iter_mut().zip(picture).for_each(|(d, v)| *d += v);
        }
        data.iter_mut().for_each(|d| *d /= pictures as f32);
        Self { dim, data }
    }

    /// Feature alignment with a later batch's mean: for every position in order, the most similar centre
    /// (by the centres that stood before this batch) moves towards it by `momentum`, 0 to 1. Several may fall on one centre.
    pub fn align(&mut self, batch: &Self, momentum: f32, threads: Threads) {
        let nearest = self.nearest_by_cosine(&batch.data, threads);
        for (m, i) in batch.data.chunks_exact(self.dim).zip(nearest) {
            for (c, v) in self.data[i * self.dim..(i + 1) * self.dim].iter_mut().zip(m) {
                *c = (1.0 - momentum) * *c + momentum * v;
            }
        }
    }

    /// `argmax_i cos(x, C_i)` for each row of `x`; the first of equals.
    #[must_use]
    pub fn nearest_by_cosine(&self, x: &[f32], threads: Threads) -> Vec<usize> {
        let mut unit = self.data.clone();
        for row in unit.chunks_exact_mut(self.dim) {
            let length = row.iter().map(|v| v * v).sum::<f32>().sqrt().max(COSINE_EPS);
            row.iter_mut().for_each(|v| *v /= length);
        }
        // The length of x scales a whole row of similarities and so does not change its largest.
        search(x, &unit, self.dim, threads, |_, _, product| -product, |i, _| i)
    }

    /// The nearest centre by Euclidean distance for each row of `x`; the first of equals.
    #[must_use]
    pub fn nearest_by_distance(&self, x: &[f32], threads: Threads) -> Vec<usize> {
        let half = half_squares(&self.data, self.dim);
        search(x, &self.data, self.dim, threads, |_, i, product| half[i] - product, |i, _| i)
    }
}

/// `|b|^2 / 2` of each row.
fn half_squares(rows: &[f32], dim: usize) -> Vec<f32> {
    rows.chunks_exact(dim).map(|b| 0.5 * b.iter().map(|v| v * v).sum::<f32>()).collect()
}

/// The nearest bank row by Euclidean distance for each row of `x`; never one with the row's own `identity`.
#[must_use]
pub fn nearest_neighbour(
    x: &[f32],
    identity: &[u64],
    bank: &[f32],
    bank_identity: &[u64],
    dim: usize,
    threads: Threads,
) -> Vec<usize> {
    let half = half_squares(bank, dim);
    // |x - b|^2 = |x|^2 + 2 (|b|^2 / 2 - x.b); the first term is the same along a row.
    let cost = |row: usize, i: usize, product: f32| {
        if identity[row] == bank_identity[i] { f32::INFINITY } else { half[i] - product }
    };
    search(x, bank, dim, threads, cost, |i, _| i)
}

/// For each row of `x` what `keep` makes of the row of `candidates` with the smallest `cost(row, candidate, x . candidate)` and of that
/// cost: a matrix product band by band with a running minimum. The first of equals.
fn search<T: Copy + Default + Send>(
    x: &[f32],
    candidates: &[f32],
    dim: usize,
    threads: Threads,
    cost: impl Fn(usize, usize, f32) -> f32 + Sync,
    keep: impl Fn(usize, f32) -> T + Sync,
) -> Vec<T> {
    let count = candidates.len() / dim;
    let transposed = Mat::new(candidates, count, dim).t();
    let mut nearest = vec![T::default(); x.len() / dim];
    each_band(threads, &mut nearest, BAND, 1, |products: &mut Vec<f32>, band, out| {
        let first = band * BAND;
        products.resize(out.len() * count, 0.0);
        let rows = Mat::new(&x[first * dim..], out.len(), dim);
        gemm_into(products, rows, transposed, false, Threads::One);
        vectorized!({
            for (r, (row, best)) in products.chunks_exact(count).zip(out).enumerate() {
                let (mut least, mut first_least) = (f32::INFINITY, 0);
                for (i, &product) in row.iter().enumerate() {
                    let c = cost(first + r, i, product);
                    if c < least {
                        (least, first_least) = (c, i);
                    }
                }
                *best = keep(first_least, least);
            }
        });
    });
    nearest
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn both_searches_agree_with_plain_loops() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let mut random = |n: usize| -> Vec<f32> { (0..n).map(|_| rng.random_range(-1.0..1.0)).collect() };
        let (dim, n, m) = (19, 150, 77);
        let (x, c) = (random(n * dim), random(m * dim));
        let row = |v: &[f32], i: usize| -> Vec<f64> {
            v[i * dim..(i + 1) * dim].iter().map(|&v| f64::from(v)).collect()
        };
        let centers = Centers { dim, data: c.clone() };
        let cosine = centers.nearest_by_cosine(&x, Threads::One);
        assert_eq!(cosine, centers.nearest_by_cosine(&x, Threads::All));
        let direct = centers.nearest_by_distance(&x, Threads::One);
        let own: Vec<u64> = (0..n as u64).collect();
        let bank: Vec<u64> = (0..m as u64).map(|i| i * 2).collect();
        let near = nearest_neighbour(&x, &own, &c, &bank, dim, Threads::All);
        for i in 0..n {
            let a = row(&x, i);
            let cos = |j: usize| {
                let b = row(&c, j);
                let dot: f64 = a.iter().zip(&b).map(|(x, y)| x * y).sum();
                dot / b.iter().map(|v| v * v).sum::<f64>().sqrt()
            };
            let best = (0..m).max_by(|&p, &q| cos(p).total_cmp(&cos(q))).unwrap();
            assert!((cos(best) - cos(cosine[i])).abs() < 1e-6);
            let distance = |j: usize| row(&c, j).iter().zip(&a).map(|(x, y)| (x - y).powi(2)).sum::<f64>();
            let least = (0..m).map(distance).fold(f64::INFINITY, f64::min);
            assert!((least - distance(direct[i])).abs() < 1e-5);
            let best = (0..m)
                .filter(|&j| bank[j] != own[i])
                .min_by(|&p, &q| distance(p).total_cmp(&distance(q)))
                .unwrap();
            assert_ne!(bank[near[i]], own[i]);
            assert!((distance(best) - distance(near[i])).abs() < 1e-5);
        }
    }
}
