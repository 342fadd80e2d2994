//! Products with packed weights: `out[r, n] = clamp(bias[n] + residual[r, n] + sum_k a[r, k] w[n, k])`, all in registers.
//!
//! Rows of `a` are read where they lie, never packed: a row is `taps` runs of contiguous values, so the same kernel does a
//! 1 x 1 convolution (one run), a window of a padded map (a run a kernel row) and a map kept in slices of channels (a run
//! a slice). Each output is summed over `k` in order, whatever its place in a tile: results depend neither on how rows are
//! cut into calls nor on threads.

use std::ops::Range;

use super::Aligned;
use crate::graph::Activation;
#[cfg(target_arch = "x86_64")]
use crate::simd::Avx2;
use crate::simd::{Isa, Portable, Vector};

/// Rows of a tile with AVX2: 6 x 16 sums are 12 of 16 registers, two hold weights, one the row's value.
#[cfg(target_arch = "x86_64")]
const AVX2_ROWS: usize = 6;
/// Rows of a tile where registers hold four values.
const PORTABLE_ROWS: usize = 4;
/// Vectors of a tile's row.
const TILE_VECTORS: usize = 2;

/// A matrix `[n, k]` and a bias `[n]`, laid out for the kernel of one instruction set: panels of
/// [`Packed::panel`] outputs, each `[k, outputs]`; the last panel may be half as wide; zeros fill it up.
#[derive(Debug, Clone)]
pub(crate) struct Packed {
    isa: Isa,
    n: usize,
    k: usize,
    lanes: usize,
    weight: Aligned,
    bias: Aligned,
}

impl Packed {
    /// Packs `weight`, `[n, k]` row-major, and `bias`, `[n]`.
    ///
    /// # Panics
    /// If the lengths do not fit.
    pub(crate) fn new(isa: Isa, weight: &[f32], bias: &[f32], k: usize) -> Self {
        let n = bias.len();
        assert_eq!(weight.len(), n * k, "weights of {n} x {k}");
        let lanes = isa.lanes();
        let mut packed = Self {
            isa,
            n,
            k,
            lanes,
            weight: Aligned::zeros(n.next_multiple_of(lanes) * k),
            bias: Aligned::zeros(n.next_multiple_of(lanes)),
        };
        for p in 0..packed.panels() {
            let (first, width) = (p * packed.panel(), packed.width(p));
            let used = width.min(n - first);
            packed.bias.as_mut_slice()[first..first + used].copy_from_slice(&bias[first..first + used]);
            let rows = &weight[first * k..(first + used) * k];
            let panel = &mut packed.weight.as_mut_slice()[first * k..][..k * width];
            for (i, line) in panel.chunks_exact_mut(width).enumerate() {
                for (j, value) in line[..used].iter_mut().enumerate() {
                    *value = rows[j * k + i];
                }
            }
        }
        packed
    }

    /// Outputs of a full panel.
    pub(crate) fn panel(&self) -> usize {
        self.lanes * TILE_VECTORS
    }

    /// Number of panels.
    pub(crate) fn panels(&self) -> usize {
        self.n.div_ceil(self.panel())
    }

    /// Outputs.
    pub(crate) fn outputs(&self) -> usize {
        self.n
    }

    /// Values of a row of the left side.
    pub(crate) fn inputs(&self) -> usize {
        self.k
    }

    /// Outputs of panel `p` with its zeros: a full panel, or half of one at the end.
    fn width(&self, p: usize) -> usize {
        if self.n - p * self.panel() > self.lanes { self.panel() } else { self.lanes }
    }
}

/// Where rows begin: row `r` at `(r / run) run_stride + (r % run) row_stride`. `run` is at least 1.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rows {
    /// Rows that follow each other evenly, for instance the positions of a map's line.
    pub run: usize,
    /// Values from one run to the next.
    pub run_stride: usize,
    /// Values from one row to the next within a run.
    pub row_stride: usize,
}

impl Rows {
    /// Rows of `row_stride` values without gaps.
    pub(crate) fn dense(row_stride: usize) -> Self {
        Self { run: usize::MAX, run_stride: 0, row_stride }
    }

    /// The offsets, row after row.
    fn walk(&self) -> Walk {
        Walk { rows: *self, start: 0, at: 0, left: self.run }
    }

    /// The largest offset of `count` rows (at least one).
    fn largest(&self, count: usize) -> usize {
        let last = (count - 1) / self.run * self.run_stride + (count - 1) % self.run * self.row_stride;
        // Where runs overlap, the end of the run before a short last one reaches further.
        let full = count / self.run;
        let before =
            if full > 0 { (full - 1) * self.run_stride + (self.run - 1) * self.row_stride } else { 0 };
        last.max(before)
    }
}

/// Offsets of successive rows, without a division a row.
#[derive(Clone, Copy)]
struct Walk {
    rows: Rows,
    start: usize,
    at: usize,
    left: usize,
}

impl Walk {
    #[inline(always)]
    fn next(&mut self) -> usize {
        let at = self.at;
        self.left -= 1;
        if self.left == 0 {
            self.left = self.rows.run;
            self.start += self.rows.run_stride;
            self.at = self.start;
        } else {
            self.at += self.rows.row_stride;
        }
        at
    }

    /// The next `rows` offsets; beyond them the last once more.
    #[inline(always)]
    fn tile<const MR: usize>(&mut self, rows: usize) -> [usize; MR] {
        let mut last = 0;
        std::array::from_fn(|i| {
            if i < rows {
                last = self.next();
            }
            last
        })
    }
}

/// The left side of a product: `count` rows of `taps` runs each, the same number of values in every run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Left<'a> {
    pub data: &'a [f32],
    pub rows: Rows,
    pub count: usize,
    /// Runs a row.
    pub taps: usize,
    /// Values from one run of a row to the next.
    pub tap_stride: usize,
}

impl<'a> Left<'a> {
    /// A row-major matrix `[count, k]`.
    pub(crate) fn dense(data: &'a [f32], count: usize, k: usize) -> Self {
        Self { data, rows: Rows::dense(k), count, taps: 1, tap_stride: 0 }
    }
}

/// What becomes of the sums.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Finish<'a> {
    /// Added, from the same places as the output is written to.
    pub residual: Option<&'a [f32]>,
    /// Applied last.
    pub activation: Activation,
}

/// Computes the outputs of `panels` (all: `0..packed.panels()`) for every row of `left`. Row `r` of the result begins at
/// `out[rows.offset(r)]` and holds the outputs of these panels alone.
///
/// # Panics
/// If a row of `left`, of `out` or of the residual would lie outside its slice, or `packed` has another length of rows.
pub(crate) fn product(
    packed: &Packed,
    panels: Range<usize>,
    left: &Left<'_>,
    out: &mut [f32],
    rows: Rows,
    finish: Finish<'_>,
) {
    if left.count == 0 || panels.is_empty() {
        return;
    }
    assert!(
        panels.end <= packed.panels() && left.taps > 0 && rows.run > 0 && left.rows.run > 0,
        "panels and runs"
    );
    assert_eq!(packed.k % left.taps, 0, "a row of {} values in {} runs", packed.k, left.taps);
    let channels = packed.k / left.taps;
    let reach = left.rows.largest(left.count) + (left.taps - 1) * left.tap_stride + channels;
    assert!(reach <= left.data.len(), "rows reach to {reach} of {} values", left.data.len());
    let outputs = packed.n.min(panels.end * packed.panel()) - panels.start * packed.panel();
    let reach = rows.largest(left.count) + outputs;
    assert!(reach <= out.len(), "results reach to {reach} of {} values", out.len());
    assert!(finish.residual.is_none_or(|r| reach <= r.len()), "the residual is shorter than the results");
    assert!(packed.weight.len() >= packed.n.next_multiple_of(packed.lanes) * packed.k, "packed weights");
    match packed.isa {
        // SAFETY: all rows, runs and results lie inside their slices (asserted above); `out` is borrowed uniquely.
        Isa::Portable => unsafe {
            all_tiles::<Portable, PORTABLE_ROWS>(packed, panels, left, out, rows, finish);
        },
        // SAFETY: as above; and `Isa::Avx2` is only made for processors that have AVX2 and FMA.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => unsafe { all_tiles_avx2(packed, panels, left, out, rows, finish) },
    }
}

/// # Safety
/// The processor has AVX2 and FMA; otherwise as [`all_tiles`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn all_tiles_avx2(
    packed: &Packed,
    panels: Range<usize>,
    left: &Left<'_>,
    out: &mut [f32],
    rows: Rows,
    finish: Finish<'_>,
) {
    // SAFETY: the caller's.
    unsafe { all_tiles::<Avx2, AVX2_ROWS>(packed, panels, left, out, rows, finish) }
}

/// Panel after panel, so that a panel's weights stay in the cache while the rows go by.
///
/// # Safety
/// The processor has the instructions of `V`, `packed` is laid out for it, and every row of `left`, `out` and the
/// residual lies inside its slice, as [`product`] asserts.
#[inline(always)]
unsafe fn all_tiles<V: Vector, const MR: usize>(
    packed: &Packed,
    panels: Range<usize>,
    left: &Left<'_>,
    out: &mut [f32],
    rows: Rows,
    finish: Finish<'_>,
) {
    let (low, high) = finish.activation.bounds();
    let channels = packed.k / left.taps;
    let start = panels.start * packed.panel();
    for p in panels {
        let first = p * packed.panel();
        let mut tile = Tile {
            taps: left.taps,
            tap_stride: left.tap_stride,
            channels,
            // SAFETY: the panel lies inside the packed weights and biases, whose lengths are multiples of the lanes.
            weight: unsafe { packed.weight.as_ptr().add(first * packed.k) },
            // SAFETY: as above.
            bias: unsafe { packed.bias.as_ptr().add(first) },
            rows: MR,
            columns: packed.panel().min(packed.n - first),
            low,
            high,
        };
        let (mut sources, mut targets) = (left.rows.walk(), rows.walk());
        for r in (0..left.count).step_by(MR) {
            tile.rows = MR.min(left.count - r);
            // Rows that a last tile lacks are read from its last one once more, and not written.
            // SAFETY: rows below `count` begin inside `left.data`.
            let a = sources.tile::<MR>(tile.rows).map(|at| unsafe { left.data.as_ptr().add(at) });
            let at = targets.tile::<MR>(tile.rows).map(|at| at + first - start);
            // SAFETY: results of rows below `count` lie inside `out`, and inside the residual.
            let c = at.map(|at| unsafe { out.as_mut_ptr().add(at) });
            // SAFETY: as above.
            let d = finish.residual.map(|d| at.map(|at| unsafe { d.as_ptr().add(at) }));
            if packed.width(p) == packed.panel() {
                // SAFETY: see the fields of `tile` and the pointers above.
                unsafe { tile.run::<V, MR, TILE_VECTORS>(a, c, d) };
            } else {
                // SAFETY: as above.
                unsafe { tile.run::<V, MR, 1>(a, c, d) };
            }
        }
    }
}

/// `rows x columns` results of one panel.
struct Tile {
    taps: usize,
    tap_stride: usize,
    channels: usize,
    weight: *const f32,
    bias: *const f32,
    rows: usize,
    columns: usize,
    low: f32,
    high: f32,
}

impl Tile {
    /// # Safety
    /// `a` points to rows of `taps` runs; `weight` and `bias` to a panel of `NV` vectors; `c` (and `d`) to `columns` values.
    /// Pointers of rows from `self.rows` on are read but not written through.
    #[inline(always)]
    unsafe fn run<V: Vector, const MR: usize, const NV: usize>(
        &self,
        mut a: [*const f32; MR],
        c: [*mut f32; MR],
        d: Option<[*const f32; MR]>,
    ) {
        // SAFETY: all offsets below stay within what the caller vouches for; a row with fewer columns than its vectors
        // goes through `edge`, which holds a whole tile's row.
        unsafe {
            let mut b = self.weight;
            let mut sums: [[V; NV]; MR] = [std::array::from_fn(|j| V::load(self.bias.add(j * V::LANES))); MR];
            for _ in 0..self.taps {
                for k in 0..self.channels {
                    let w: [V; NV] = std::array::from_fn(|j| V::load(b.add(j * V::LANES)));
                    b = b.add(NV * V::LANES);
                    for i in 0..MR {
                        let v = V::splat(*a[i].add(k));
                        for j in 0..NV {
                            sums[i][j] = sums[i][j].add_product(v, w[j]);
                        }
                    }
                }
                a = a.map(|p| p.wrapping_add(self.tap_stride));
            }
            let (low, high) = (V::splat(self.low), V::splat(self.high));
            let whole = self.columns >= NV * V::LANES;
            let mut edge = [0.0f32; 64];
            for i in 0..self.rows.min(MR) {
                let (mut from, mut to) = (d.map(|d| d[i]), c[i]);
                if !whole {
                    if let Some(d) = from {
                        std::ptr::copy_nonoverlapping(d, edge.as_mut_ptr(), self.columns);
                        from = Some(edge.as_ptr());
                    }
                    to = edge.as_mut_ptr();
                }
                for j in 0..NV {
                    let mut v = sums[i][j];
                    if let Some(d) = from {
                        v = v.add(V::load(d.add(j * V::LANES)));
                    }
                    v.clamp(low, high).store(to.add(j * V::LANES));
                }
                if !whole {
                    std::ptr::copy_nonoverlapping(edge.as_ptr(), c[i], self.columns);
                }
            }
        }
    }
}
