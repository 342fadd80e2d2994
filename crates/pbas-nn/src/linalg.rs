//! Safe matrix views over the GEMM crate, and the sums that training needs.
//!
//! Every result is independent of the number of threads: the GEMM splits rows and columns of the
//! product among threads, never a sum.

use std::ops::Range;

use gemm_common::Parallelism;

use crate::Result;
use crate::graph::Activation;
pub use crate::kernel::nearest::NearRows;
use crate::kernel::product::{Finish, Left, Packed, Rows, product};
use crate::simd::Isa;

/// How many threads a call may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Threads {
    /// The calling thread alone; for callers that run many pieces of work side by side.
    #[default]
    One,
    /// All threads of the current rayon pool.
    All,
}

/// A read-only view of a `rows x cols` float32 matrix.
#[derive(Debug, Clone, Copy)]
pub struct Mat<'a> {
    data: &'a [f32],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a> Mat<'a> {
    /// Row-major view of the first `rows * cols` values.
    ///
    /// # Panics
    /// If `data` is shorter.
    #[must_use]
    pub fn new(data: &'a [f32], rows: usize, cols: usize) -> Self {
        assert!(data.len() >= rows * cols, "matrix of {rows} x {cols} needs more than {} values", data.len());
        Self { data, rows, cols, row_stride: cols, col_stride: 1 }
    }

    /// Row-major view whose rows begin `row_stride` values apart.
    ///
    /// # Panics
    /// If `data` does not reach to the end of the last row.
    #[must_use]
    pub fn strided(data: &'a [f32], rows: usize, cols: usize, row_stride: usize) -> Self {
        let need = if rows == 0 { 0 } else { (rows - 1) * row_stride + cols };
        assert!(data.len() >= need, "strided matrix needs {need} values, found {}", data.len());
        Self { data, rows, cols, row_stride, col_stride: 1 }
    }

    /// The transposed view; nothing is copied.
    #[must_use]
    pub fn t(self) -> Self {
        Self {
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
            ..self
        }
    }

    /// Rows and columns.
    #[must_use]
    pub fn shape(&self) -> (usize, usize) {
        (self.rows, self.cols)
    }

    fn at(&self, r: usize, c: usize) -> f32 {
        self.data[r * self.row_stride + c * self.col_stride]
    }

    fn last_offset(&self) -> usize {
        (self.rows - 1) * self.row_stride + (self.cols - 1) * self.col_stride
    }
}

/// `c = a b`, or `c += a b` if `accumulate`. `c` is row-major, `a.rows x b.cols`.
///
/// # Panics
/// If the shapes do not fit or `c` has another length than `a.rows * b.cols`.
pub fn gemm_into(c: &mut [f32], a: Mat<'_>, b: Mat<'_>, accumulate: bool, threads: Threads) {
    let (m, n, k) = (a.rows, b.cols, a.cols);
    assert_eq!(a.cols, b.rows, "gemm: {m} x {k} times {} x {n}", b.rows);
    assert_eq!(c.len(), m * n, "gemm: result of {m} x {n} does not fit its buffer");
    if m == 0 || n == 0 {
        return;
    }
    if k == 0 {
        if !accumulate {
            c.fill(0.0);
        }
        return;
    }
    assert!(a.last_offset() < a.data.len() && b.last_offset() < b.data.len(), "gemm: view out of bounds");
    let parallelism = match threads {
        Threads::One => Parallelism::None,
        Threads::All => Parallelism::Rayon(0),
    };
    // The kernel wants a column-major result: C^T = B^T A^T.
    let (m, n, c_strides, lhs, rhs) =
        if n > 1 { (n, m, (n as isize, 1), b.t(), a.t()) } else { (m, n, (1, 1), a, b) };
    // SAFETY: `c` holds exactly m * n values (asserted) and is borrowed uniquely; the largest offset that the
    // views of `a` and `b` reach lies inside their slices (asserted); strides are positive and as the view says.
    // `read_dst` is false when `c` is overwritten, so stale values (even NaN) never enter.
    unsafe {
        gemm_f32::gemm::f32::get_gemm_fn()(
            m,
            n,
            k,
            c.as_mut_ptr(),
            c_strides.0,
            c_strides.1,
            accumulate,
            lhs.data.as_ptr(),
            lhs.col_stride as isize,
            lhs.row_stride as isize,
            rhs.data.as_ptr(),
            rhs.col_stride as isize,
            rhs.row_stride as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            parallelism,
        );
    }
}

/// A matrix `[n, k]` with a bias `[n]`, laid out once for the kernel of this machine's instruction set.
#[derive(Debug, Clone)]
pub struct PackedMatrix(Packed);

impl PackedMatrix {
    /// Packs `weight`, `[n, k]` row-major with `n` the length of `bias`.
    ///
    /// # Errors
    /// As [`Isa::current`].
    ///
    /// # Panics
    /// If `weight` is not of `n k` values.
    pub fn new(weight: &[f32], bias: &[f32], k: usize) -> Result<Self> {
        Ok(Self(Packed::new(Isa::current()?, weight, bias, k)))
    }

    /// `out[r, n] = bias[n] + plus[r, n] + sum_k a[r, k] weight[n, k]` for `count` dense rows, on the calling thread. Each
    /// row's result is the same whichever rows it is computed with.
    ///
    /// # Panics
    /// If a slice is too short for `count` rows.
    pub fn multiply(&self, a: &[f32], count: usize, plus: Option<&[f32]>, out: &mut [f32]) {
        self.multiply_part(0..self.0.outputs(), a, count, plus, out);
    }

    /// As [`PackedMatrix::multiply`] for the outputs `range` alone: `plus` and `out` have a row of these for each row of `a`.
    ///
    /// # Panics
    /// As [`PackedMatrix::multiply`], or if `range` does not begin at a multiple of 64 outputs and end at one or at the last output.
    pub fn multiply_part(
        &self,
        range: Range<usize>,
        a: &[f32],
        count: usize,
        plus: Option<&[f32]>,
        out: &mut [f32],
    ) {
        let whole = |n: usize| n.is_multiple_of(64) || n == self.0.outputs();
        assert!(range.start.is_multiple_of(64) && whole(range.end), "outputs {range:?}");
        let panel = self.0.panel();
        let panels = range.start / panel..range.end.div_ceil(panel);
        let left = Left::dense(a, count, self.0.inputs());
        let finish = Finish { residual: plus, activation: Activation::None };
        product(&self.0, panels, &left, out, Rows::dense(range.len()), finish);
    }
}

/// The slow, obvious twin of [`gemm_into`], summing in float64.
pub fn gemm_reference(c: &mut [f32], a: Mat<'_>, b: Mat<'_>, accumulate: bool) {
    for r in 0..a.rows {
        for col in 0..b.cols {
            let sum: f64 = (0..a.cols).map(|i| f64::from(a.at(r, i)) * f64::from(b.at(i, col))).sum();
            let old = if accumulate { f64::from(c[r * b.cols + col]) } else { 0.0 };
            c[r * b.cols + col] = (old + sum) as f32;
        }
    }
}

/// Computes an expression, a loop over slices, compiled for wider vectors where this machine has them (AVX2 where a plain build
/// has SSE2). Neither sums nor products are rearranged or fused, so the result is the same on every machine.
///
/// A macro, since the loop must become part of a function that is compiled for these vectors: a closure that the compiler does not inline
/// there stays SSE2. For the same reason functions that the loop calls are to be `#[inline(always)]`.
#[macro_export]
macro_rules! vectorized {
    ($sweep:expr) => {
        $crate::linalg::with_wide_vectors(
            #[inline(always)]
            || $sweep,
        )
    };
}

/// Of [`vectorized!`](crate::vectorized).
#[doc(hidden)]
#[inline]
pub fn with_wide_vectors<R>(sweep: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(sweep)
}

/// Dot product in eight running sums: a fixed order that vectorises.
#[must_use]
#[inline(always)]
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0f32; 8];
    let (ac, bc) = (a.chunks_exact(8), b.chunks_exact(8));
    let tail: f32 = ac.remainder().iter().zip(bc.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in ac.zip(bc) {
        for i in 0..8 {
            lanes[i] += x[i] * y[i];
        }
    }
    lanes.iter().sum::<f32>() + tail
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(n: usize, seed: u32) -> Vec<f32> {
        let mut s = seed;
        (0..n)
            .map(|_| {
                s = s.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (s >> 8) as f32 / 8_388_608.0 - 1.0
            })
            .collect()
    }

    #[test]
    fn gemm_agrees_with_its_twin_in_every_orientation() {
        for (m, n, k) in
            [(1, 1, 1), (1, 17, 33), (40, 1, 9), (5, 7, 3), (130, 66, 344), (64, 256, 70), (3, 5, 0)]
        {
            let (a, b) = (values(m * k, 1), values(k * n, 2));
            let (at, bt) = (Mat::new(&a, k, m).t(), Mat::new(&b, n, k).t());
            for accumulate in [false, true] {
                for (x, y) in [(Mat::new(&a, m, k), Mat::new(&b, k, n)), (at, bt), (at, Mat::new(&b, k, n))] {
                    let start = values(m * n, 3);
                    let (mut fast, mut slow) = (start.clone(), start.clone());
                    gemm_into(&mut fast, x, y, accumulate, Threads::One);
                    gemm_reference(&mut slow, x, y, accumulate);
                    for (f, s) in fast.iter().zip(&slow) {
                        assert!((f - s).abs() < 1e-4, "{m} {n} {k}: {f} {s}");
                    }
                    let mut all = start.clone();
                    gemm_into(&mut all, x, y, accumulate, Threads::All);
                    assert_eq!(fast, all, "threads changed a product of {m} {n} {k}");
                }
            }
        }
    }

    #[test]
    fn packed_product_agrees_with_its_twin() {
        for (m, n, k) in [(1, 1, 1), (5, 17, 33), (40, 8, 9), (13, 24, 3), (130, 66, 344), (64, 256, 70)] {
            let (a, w, bias, plus) = (values(m * k, 1), values(n * k, 2), values(n, 3), values(m * n, 4));
            let packed = PackedMatrix::new(&w, &bias, k).unwrap();
            for plus in [None, Some(plus.as_slice())] {
                let mut slow: Vec<f32> =
                    (0..m * n).map(|i| bias[i % n] + plus.map_or(0.0, |p| p[i])).collect();
                gemm_reference(&mut slow, Mat::new(&a, m, k), Mat::new(&w, n, k).t(), true);
                let mut fast = vec![f32::NAN; m * n];
                packed.multiply(&a, m, plus, &mut fast);
                for (f, s) in fast.iter().zip(&slow) {
                    assert!((f - s).abs() < 1e-4, "{m} {n} {k}: {f} {s}");
                }
                // A row alone gives the same bits.
                let last = m - 1;
                let mut alone = vec![0.0; n];
                packed.multiply(&a[last * k..], 1, plus.map(|p| &p[last * n..]), &mut alone);
                assert_eq!(alone, fast[last * n..]);
            }
        }
    }

    #[test]
    fn stale_nan_does_not_enter_an_overwritten_product() {
        let mut c = vec![f32::NAN; 4];
        gemm_into(&mut c, Mat::new(&[1.0; 4], 2, 2), Mat::new(&[1.0; 4], 2, 2), false, Threads::One);
        assert_eq!(c, [2.0; 4]);
    }

    #[test]
    fn strided_views_skip_what_lies_between_rows() {
        let a = values(7 * 10, 5);
        let packed: Vec<f32> = (0..7).flat_map(|r| a[r * 10 + 2..r * 10 + 6].to_vec()).collect();
        let b = values(4 * 3, 6);
        let (mut c, mut d) = (vec![0.0; 21], vec![0.0; 21]);
        gemm_into(&mut c, Mat::strided(&a[2..], 7, 4, 10), Mat::new(&b, 4, 3), false, Threads::One);
        gemm_into(&mut d, Mat::new(&packed, 7, 4), Mat::new(&b, 4, 3), false, Threads::One);
        for (x, y) in c.iter().zip(&d) {
            assert!((x - y).abs() < 1e-6);
        }
    }

    #[test]
    fn dots_agree_with_float64() {
        let rows = values(300 * 13, 7);
        let slow: f64 =
            rows[..29].iter().zip(&rows[40..69]).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum();
        assert!((f64::from(dot(&rows[..29], &rows[40..69])) - slow).abs() < 1e-5);
    }
}
