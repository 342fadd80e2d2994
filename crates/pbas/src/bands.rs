//! Work on a slice band by band, on one thread or on all of the pool's, with a scratch for each thread.

use pbas_nn::linalg::Threads;
use rayon::prelude::*;

/// Does `work` on every `len` values of `out` (the last band may be shorter), with the number of the band. A thread takes `in_a_row` bands or
/// more, where there are as many, so that it keeps its scratch.
///
/// # Panics
/// If `len` is 0.
pub(crate) fn each_band<T: Send, S: Default>(
    threads: Threads,
    out: &mut [T],
    len: usize,
    in_a_row: usize,
    work: impl Fn(&mut S, usize, &mut [T]) + Send + Sync,
) {
    match threads {
        Threads::One => {
            let mut scratch = S::default();
            out.chunks_mut(len).enumerate().for_each(|(i, band)| work(&mut scratch, i, band));
        }
        Threads::All => {
            let bands = out.par_chunks_mut(len).with_min_len(in_a_row).enumerate();
            bands.for_each_init(S::default, |scratch, (i, band)| work(scratch, i, band));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_band_once_with_its_number() {
        for threads in [Threads::One, Threads::All] {
            for (values, len, in_a_row) in [(10, 3, 1), (10, 3, 4), (9, 3, 2), (0, 5, 1), (2, 7, 1)] {
                let mut out = vec![0; values];
                each_band(threads, &mut out, len, in_a_row, |seen: &mut usize, i, band| {
                    *seen += band.len();
                    assert!(*seen <= values);
                    band.iter_mut().for_each(|v| *v += 1 + i);
                });
                assert!(out.iter().enumerate().all(|(at, v)| *v == 1 + at / len), "{out:?}");
            }
        }
    }
}
