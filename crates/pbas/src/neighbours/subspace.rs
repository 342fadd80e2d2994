//! A few orthonormal directions in which rows of a bank lie far apart, so that most distances need not be measured in full.

use pbas_nn::linalg::{Mat, Threads, gemm_into};
use pbas_nn::vectorized;

/// Directions, at most.
const DIRECTIONS: usize = 64;
/// Rows that the directions are taken from, at most.
const SAMPLE: usize = 4 * DIRECTIONS;
/// What is left of a direction after those before it are taken out, as a share of its length, below which it counts as spent.
const SPENT: f32 = 1e-3;
/// The same, below which rounding shows.
const SHORT: f32 = 0.1;

/// Orthonormal directions `[p, dim]`, `p` at most [`DIRECTIONS`] and at most half of `dim` and of the rows: one step of subspace iteration (Golub
/// and Van Loan, *Matrix Computations*, section 8.2) on `rows^T rows` of up to [`SAMPLE`] rows spread over the bank, from some of them. Any orthonormal directions keep the search exact; these let it pass over
/// most rows.
pub(super) fn directions(rows: &[f32], dim: usize) -> Vec<f32> {
    let count = rows.len() / dim;
    let wanted = DIRECTIONS.min(dim / 2).min(count / 2);
    if wanted == 0 {
        return Vec::new();
    }
    let spread = |n: usize| -> Vec<f32> {
        (0..n).flat_map(|i| &rows[i * count / n * dim..][..dim]).copied().collect()
    };
    let (start, sample) = (spread(wanted), count.min(SAMPLE));
    let some = spread(sample);
    // [wanted, sample], then [wanted, dim].
    let (mut along, mut turned) = (vec![0.0; wanted * sample], vec![0.0; wanted * dim]);
    let (start, some) = (Mat::new(&start, wanted, dim), Mat::new(&some, sample, dim));
    gemm_into(&mut along, start, some.t(), false, Threads::One);
    gemm_into(&mut turned, Mat::new(&along, wanted, sample), some, false, Threads::One);
    vectorized!(orthonormal(turned, dim))
}

/// Gram-Schmidt, twice over each row, which is enough for orthogonality to rounding (Giraud et al., 2005); spent rows are left out.
#[inline(always)]
fn orthonormal(mut rows: Vec<f32>, dim: usize) -> Vec<f32> {
    let mut kept = 0;
    for i in 0..rows.len() / dim {
        rows.copy_within(i * dim..(i + 1) * dim, kept * dim);
        let (before, row) = rows.split_at_mut(kept * dim);
        let row = &mut row[..dim];
        let length = product(row, row).sqrt();
        if length.is_nan() || length <= 0.0 {
            continue;
        }
        row.iter_mut().for_each(|v| *v /= length);
        take_out(before, row);
        take_out(before, row);
        let left = product(row, row).sqrt();
        if left < SPENT {
            continue;
        }
        row.iter_mut().for_each(|v| *v /= left);
        if left < SHORT {
            // What rounding left of the directions weighs more once the row is long again.
            take_out(before, row);
        }
        kept += 1;
    }
    rows.truncate(kept * dim);
    rows
}

/// Takes the part along each of some directions out of a row.
#[inline(always)]
fn take_out(directions: &[f32], row: &mut [f32]) {
    for direction in directions.chunks_exact(row.len()) {
        let along = product(direction, row);
        row.iter_mut().zip(direction).for_each(|(r, d)| *r -= along * d);
    }
}

/// Dot product in sixteen running sums, so that it vectorizes.
#[inline(always)]
pub(super) fn product(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; 16];
    let (a, b) = (a.chunks_exact(16), b.chunks_exact(16));
    let rest: f32 = a.remainder().iter().zip(b.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in a.zip(b) {
        for ((s, a), b) in sums.iter_mut().zip(a).zip(b) {
            *s += a * b;
        }
    }
    sums.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn orthonormal_whatever_the_rows() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let dim = 150;
        let base: Vec<f32> = (0..5 * dim).map(|_| rng.random_range(-1.0..1.0)).collect();
        let mut near = base.repeat(40);
        // Rows of rank five, but for rounding.
        near.iter_mut().for_each(|v| *v += rng.random_range(-1e-6..1e-6));
        let spread: Vec<f32> = (0..200 * dim).map(|_| rng.random_range(-1.0..1.0)).collect();
        for (rows, most) in
            [(near, 64), (spread, 64), (vec![0.0; 200 * dim], 0), (base.repeat(2), 5), (vec![1.0; dim], 0)]
        {
            let found = directions(&rows, dim);
            assert!(found.len() / dim <= most && found.len().is_multiple_of(dim));
            for (i, a) in found.chunks(dim).enumerate() {
                for (j, b) in found.chunks(dim).enumerate() {
                    let along: f64 = a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
                    assert!((along - f64::from(u8::from(i == j))).abs() < 2e-6, "{i}, {j}: {along}");
                }
            }
        }
    }
}
