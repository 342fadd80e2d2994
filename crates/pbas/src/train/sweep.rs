//! Sweeps over the rows of a batch, on one thread or on all. Rows are cut into the same blocks either way, and sums over rows are
//! made of the sums over blocks, added in order: the number of threads changes no bit. (Float32 sums of thousands of rows would
//! lose digits besides.)

use pbas_nn::linalg::Threads;
use pbas_nn::vectorized;
use rayon::prelude::*;

/// Rows of a block.
pub(super) const BLOCK: usize = 64;

/// Does `work` on every part, with the number of the part.
pub(super) fn each<T: Send>(
    threads: Threads,
    parts: impl Iterator<Item = T>,
    work: impl Fn(usize, T) + Send + Sync,
) {
    match threads {
        Threads::One => parts.enumerate().for_each(|(i, part)| work(i, part)),
        Threads::All => {
            let parts: Vec<T> = parts.collect();
            parts.into_par_iter().enumerate().for_each(|(i, part)| work(i, part));
        }
    }
}

/// `out[j] += sum_i term(rows[i, j], j)`; `partial` is a buffer.
pub(super) fn add_sums(
    out: &mut [f32],
    rows: &[f32],
    partial: &mut Vec<f32>,
    threads: Threads,
    term: impl Fn(f32, usize) -> f32 + Send + Sync,
) {
    let width = out.len().max(1);
    partial.clear();
    partial.resize(rows.len().div_ceil(BLOCK * width) * width, 0.0);
    let parts = rows.chunks(BLOCK * width).zip(partial.chunks_exact_mut(width));
    each(threads, parts, |_, (rows, sums)| {
        vectorized!({
            for row in rows.chunks_exact(width) {
                for (j, (sum, &v)) in sums.iter_mut().zip(row).enumerate() {
                    *sum += term(v, j);
                }
            }
        });
    });
    add_rows(out, partial);
}

/// Adds rows to `out`, one after the other.
pub(super) fn add_rows(out: &mut [f32], rows: &[f32]) {
    vectorized!({
        for row in rows.chunks_exact(out.len().max(1)) {
            out.iter_mut().zip(row).for_each(|(sum, v)| *sum += v);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_agree_with_float64_and_do_not_depend_on_threads() {
        let width = 13;
        for count in [0, 1, 63, 64, 65, 300] {
            let rows: Vec<f32> = (0..count * width).map(|i| (i * 37 % 101) as f32 / 50.0 - 1.0).collect();
            let square = |v: f32, j: usize| (v - j as f32) * (v - j as f32);
            let mut partial = vec![9.0];
            let mut sums = |threads| {
                let mut out = vec![2.0f32; width];
                add_sums(&mut out, &rows, &mut partial, threads, square);
                out
            };
            let (one, all) = (sums(Threads::One), sums(Threads::All));
            assert_eq!(one, all);
            for (j, &found) in one.iter().enumerate() {
                let term = |i: usize| f64::from(square(rows[i * width + j], j));
                let slow = 2.0 + (0..count).map(term).sum::<f64>();
                assert!((f64::from(found) - slow).abs() < 1e-5 * slow, "{count} rows: {found} {slow}");
            }
        }
    }
}
