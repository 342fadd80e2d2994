//! Squared distances of a vector to those rows of a matrix that may be the nearest.

use super::Aligned;
use crate::Result;
use crate::simd::{Isa, Kernel, Vector};

/// Rows are filled up with zeros to a multiple of this: the longest vector of any set.
const PADDING: usize = 16;
/// Running sums of a distance, so that none waits for the one before.
const SUMS: usize = 4;

/// Rows `[count, dim]` to measure distances to, laid out for the kernel.
#[derive(Debug)]
pub struct NearRows {
    isa: Isa,
    dim: usize,
    /// Values from one row to the next.
    stride: usize,
    count: usize,
    data: Aligned,
}

impl NearRows {
    /// Lays out `rows`, `[count, dim]`.
    ///
    /// # Errors
    /// As [`Isa::current`].
    ///
    /// # Panics
    /// If `dim` is 0.
    pub fn new(rows: &[f32], dim: usize) -> Result<Self> {
        Ok(Self::for_set(Isa::current()?, rows, dim))
    }

    fn for_set(isa: Isa, rows: &[f32], dim: usize) -> Self {
        let (stride, count) = (dim.next_multiple_of(PADDING), rows.len() / dim);
        let mut data = Aligned::zeros(count * stride);
        for (to, from) in data.as_mut_slice().chunks_exact_mut(stride).zip(rows.chunks_exact(dim)) {
            to[..dim].copy_from_slice(from);
        }
        Self { isa, dim, stride, count, data }
    }

    /// Number of rows.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// Brings a vector of `dim` values to the length of a laid out row.
    ///
    /// # Panics
    /// If it has another length.
    pub fn lay_out(&self, x: &[f32], out: &mut Vec<f32>) {
        assert_eq!(x.len(), self.dim, "a vector as long as the rows");
        out.clear();
        out.extend_from_slice(x);
        out.resize(self.stride, 0.0);
    }

    /// The nearest of `best` and the rows that `candidates` names, each a squared distance from `x` (laid out by [`NearRows::lay_out`]) and a row; of equally
    /// near ones the first. Before a row is measured, `worth(row, least so far)` says whether it may be nearer.
    ///
    /// # Panics
    /// If `x` is not laid out, or a candidate is no row.
    pub fn nearest(
        &self,
        x: &[f32],
        candidates: &[usize],
        mut best: (f32, usize),
        worth: impl Fn(usize, f32) -> bool,
    ) -> (f32, usize) {
        assert_eq!(x.len(), self.stride, "a vector that is laid out");
        assert!(candidates.iter().all(|&i| i < self.count), "candidates among {} rows", self.count);
        assert!(self.data.len() >= self.count * self.stride, "laid out rows");
        // SAFETY: `x` and every candidate's row are of `stride` values, a multiple of every set's lanes (asserted above); the set is one
        // of this processor's ([`Isa::current`]).
        unsafe { self.isa.run(Search { rows: self, x, candidates, best: &mut best, worth }) };
        best
    }
}

/// The search; sound where `x` and every candidate's row are of `stride` values.
struct Search<'a, W> {
    rows: &'a NearRows,
    x: &'a [f32],
    candidates: &'a [usize],
    best: &'a mut (f32, usize),
    worth: W,
}

impl<W: Fn(usize, f32) -> bool> Kernel for Search<'_, W> {
    // SAFETY: see the type.
    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Self { rows, x, candidates, best, worth } = self;
        for &i in candidates {
            if worth(i, best.0) {
                // SAFETY: the row lies inside the data.
                let row = unsafe { rows.data.as_ptr().add(i * rows.stride) };
                // SAFETY: see the type.
                let squared = unsafe { squared_distance::<V>(x.as_ptr(), row, rows.stride) };
                if squared < best.0 {
                    *best = (squared, i);
                }
            }
        }
    }
}

/// Squared distance of two vectors of `len` values.
///
/// # Safety
/// The processor has the instructions of `V`; both vectors are readable; `len` is a multiple of the lanes.
#[inline(always)]
unsafe fn squared_distance<V: Vector>(a: *const f32, b: *const f32, len: usize) -> f32 {
    const { assert!(PADDING.is_multiple_of(V::LANES)) };
    // SAFETY: all reads are of whole vectors below `len`; `sums` holds a vector.
    unsafe {
        let mut sums = [V::splat(0.0); SUMS];
        let vectors = len / V::LANES;
        for first in (0..vectors).step_by(SUMS) {
            for (n, sum) in sums.iter_mut().enumerate() {
                if first + n < vectors {
                    let at = (first + n) * V::LANES;
                    let difference = V::load(a.add(at)).sub(V::load(b.add(at)));
                    *sum = sum.add_product(difference, difference);
                }
            }
        }
        let total = sums[0].add(sums[1]).add(sums[2].add(sums[3]));
        let mut lanes = [0.0f32; PADDING];
        total.store(lanes.as_mut_ptr());
        for width in [8, 4, 2, 1] {
            for i in 0..width {
                lanes[i] += lanes[i + width];
            }
        }
        lanes[0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(n: usize, mut seed: u32) -> Vec<f32> {
        let mut next = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 8) as f32 / 8_388_608.0 - 1.0
        };
        (0..n).map(|_| next()).collect()
    }

    #[test]
    fn agrees_with_plain_loops_on_every_instruction_set() {
        for isa in Isa::all() {
            for (count, dim) in [(1, 1), (7, 16), (5, 17), (30, 63), (9, 129), (20, 344)] {
                let (rows, x) = (values(count * dim, 1), values(dim, 2));
                let laid = NearRows::for_set(isa, &rows, dim);
                assert_eq!(laid.count(), count);
                let mut padded = vec![f32::NAN; 3];
                laid.lay_out(&x, &mut padded);
                let distance = |i: usize| -> f64 {
                    let row = &rows[i * dim..(i + 1) * dim];
                    x.iter().zip(row).map(|(x, r)| (f64::from(*x) - f64::from(*r)).powi(2)).sum()
                };
                for i in 0..count {
                    let (found, at) = laid.nearest(&padded, &[i], (f32::INFINITY, usize::MAX), |_, _| true);
                    assert_eq!(at, i);
                    assert!(
                        (f64::from(found) - distance(i)).abs() < 1e-5 * (1.0 + distance(i)),
                        "{isa:?} {dim}"
                    );
                }
                let all: Vec<usize> = (0..count).collect();
                let odd = |i: usize, least: f32| i % 2 == 1 && least > 0.0;
                let (found, at) = laid.nearest(&padded, &all, (1e9, usize::MAX), odd);
                let least = (0..count).filter(|i| i % 2 == 1).map(distance).fold(1e9, f64::min);
                assert!((f64::from(found) - least).abs() < 1e-5 * (1.0 + least), "{isa:?} {dim}");
                assert!(at == usize::MAX || (at % 2 == 1 && distance(at) <= least + 1e-5 * (1.0 + least)));
                assert_eq!(laid.nearest(&padded, &all, (0.0, 77), |_, _| true), (0.0, 77));
            }
        }
    }

    #[test]
    #[should_panic = "candidates among 3 rows"]
    fn no_candidate_lies_outside() {
        let laid = NearRows::for_set(Isa::Portable, &values(3 * 8, 1), 8);
        let mut x = Vec::new();
        laid.lay_out(&values(8, 2), &mut x);
        laid.nearest(&x, &[0, 3], (1.0, 0), |_, _| true);
    }
}
