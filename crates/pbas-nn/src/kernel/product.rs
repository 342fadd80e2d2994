//! Products with packed weights: `out[r, n] = clamp(bias[n] + residual[r, n] + sum_k a[r, k] w[n, k])`, all in registers.
//!
//! Rows of `a` are read where they lie, never packed: a row is `taps` runs of contiguous values, so the same kernel does a
//! 1 x 1 convolution (one run), a window of a padded map (a run a kernel row) and a map kept in slices of channels (a run
//! a slice). Each output is summed over `k` in order, whatever its place in a tile: results depend neither on how rows are
//! cut into calls nor on threads.
//!
//! Either side may hold bfloat16 numbers instead ([`Packed::pairs`]): then each value here, of rows and of weights, is the bits of a pair of
//! them, and the same tiles add two products where they add one (`Terms`).

use std::marker::PhantomData;
use std::ops::Range;

use half::bf16;

use super::Aligned;
use crate::graph::Activation;
use crate::precision::round;
use crate::simd::{Isa, Kernel, PairKernel, PairVector, Vector};

/// Vectors of a tile's row.
const TILE_VECTORS: usize = 2;

/// Values of a page of 4 KiB, and the rows of a tile where rows begin a multiple of it apart.
const PAGE: usize = 1024;
const PAGE_ROWS: usize = 7;

/// A matrix `[n, k]` and a bias `[n]`, laid out for the kernel of one instruction set: panels of
/// [`Packed::panel`] outputs, each `[k, outputs]`; the last panel may be half as wide; zeros fill it up.
#[derive(Debug, Clone)]
pub(crate) struct Packed {
    isa: Isa,
    n: usize,
    k: usize,
    lanes: usize,
    /// Whether each value is a pair of bfloat16 numbers.
    pairs: bool,
    weight: Aligned,
    bias: Aligned,
}

impl Packed {
    /// As [`Packed::new`], rounded to bfloat16: a matrix of `k / 2` (rounded up) pairs a row.
    ///
    /// # Panics
    /// If the lengths do not fit.
    pub(crate) fn pairs(isa: Isa, weight: &[f32], bias: &[f32], k: usize) -> Self {
        let n = bias.len();
        assert_eq!(weight.len(), n * k, "weights of {n} x {k}");
        let mut packed = Self::zeros_of_pairs(isa, n, k);
        packed.bias.as_mut_slice()[..n].copy_from_slice(bias);
        let mut line = vec![0.0; packed.panel()];
        for p in 0..packed.panels() {
            let (first, width, used) = packed.panel_outputs(p);
            for i in 0..k {
                for (j, value) in line[..used].iter_mut().enumerate() {
                    *value = weight[(first + j) * k + i];
                }
                line[used..].fill(0.0);
                packed.set_line(p, i, &line[..width]);
            }
        }
        packed
    }

    /// `n` outputs of `k` inputs in pairs, weights and biases zero.
    pub(crate) fn zeros_of_pairs(isa: Isa, n: usize, k: usize) -> Self {
        Self { pairs: true, ..Self::zeros(isa, n, k.div_ceil(2)) }
    }

    /// Packs `weight`, `[n, k]` row-major, and `bias`, `[n]`.
    ///
    /// # Panics
    /// If the lengths do not fit.
    pub(crate) fn new(isa: Isa, weight: &[f32], bias: &[f32], k: usize) -> Self {
        let n = bias.len();
        assert_eq!(weight.len(), n * k, "weights of {n} x {k}");
        let mut packed = Self::zeros(isa, n, k);
        packed.bias.as_mut_slice()[..n].copy_from_slice(bias);
        for p in 0..packed.panels() {
            let (first, width, used) = packed.panel_outputs(p);
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

    /// `n` outputs of `k` inputs, weights and biases zero.
    pub(crate) fn zeros(isa: Isa, n: usize, k: usize) -> Self {
        let lanes = isa.lanes();
        let padded = n.next_multiple_of(lanes);
        let (weight, bias) = (Aligned::zeros(padded * k), Aligned::zeros(padded));
        Self { isa, n, k, lanes, pairs: false, weight, bias }
    }

    /// The first output of panel `p`, how many it has room for, and how many it holds.
    pub(crate) fn panel_outputs(&self, p: usize) -> (usize, usize, usize) {
        let (first, width) = (p * self.panel(), self.width(p));
        (first, width, width.min(self.n - first))
    }

    /// Sets the weights of panel `p` for input `i`, an output after the other.
    ///
    /// # Panics
    /// If there is no such panel or input.
    pub(crate) fn set_line(&mut self, p: usize, i: usize, values: &[f32]) {
        let (first, width) = (p * self.panel(), self.width(p));
        let (line, half) = if self.pairs { (i / 2, i % 2) } else { (i, 0) };
        assert!(line < self.k, "input {i} of {}", self.k);
        let line = &mut self.weight.as_mut_slice()[first * self.k + line * width..][..width];
        if self.pairs {
            let line = bytemuck::cast_slice_mut::<f32, [bf16; 2]>(line);
            line.iter_mut().zip(values).for_each(|(pair, &v)| pair[half] = round(v));
        } else {
            line.copy_from_slice(values);
        }
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

    /// The instruction set that it is laid out for.
    pub(crate) fn isa(&self) -> Isa {
        self.isa
    }

    /// Whether each value is a pair of bfloat16 numbers.
    pub(crate) fn has_pairs(&self) -> bool {
        self.pairs
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
    #[inline(always)]
    pub(super) fn walk(&self) -> Walk {
        Walk { rows: *self, start: 0, at: 0, left: self.run }
    }

    /// The largest offset of `count` rows (at least one).
    pub(super) fn largest(&self, count: usize) -> usize {
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
pub(super) struct Walk {
    rows: Rows,
    start: usize,
    at: usize,
    left: usize,
}

impl Walk {
    #[inline(always)]
    pub(super) fn next(&mut self) -> usize {
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

    /// The next offsets.
    #[inline(always)]
    fn tile<const MR: usize>(&mut self) -> [usize; MR] {
        std::array::from_fn(|_| self.next())
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
    let out = out.as_mut_ptr();
    // SAFETY: all rows, runs and results lie inside their slices (asserted above); `out` is borrowed uniquely; `packed` is
    // laid out for its set, which is only made for processors that have it.
    unsafe {
        if packed.pairs {
            packed.isa.run_pairs(AllTiles {
                packed,
                panels,
                left,
                out,
                rows,
                finish,
                terms: PhantomData::<Pairs>,
            });
        } else {
            packed.isa.run(AllTiles {
                packed,
                panels,
                left,
                out,
                rows,
                finish,
                terms: PhantomData::<Single>,
            });
        }
    }
}

/// What the lanes of values and weights hold, and how their products are added.
trait Terms<V> {
    /// Rows of a tile.
    const ROWS: usize;
    /// `sum` plus the products of `a` and `b`.
    ///
    /// # Safety
    /// As [`Vector`].
    unsafe fn add(sum: V, a: V, b: V) -> V;
}

/// One float32 number a lane.
struct Single;

/// Two bfloat16 numbers a lane.
struct Pairs;

impl<V: Vector> Terms<V> for Single {
    const ROWS: usize = V::ROWS;
    // SAFETY: as the trait says.
    #[inline(always)]
    unsafe fn add(sum: V, a: V, b: V) -> V {
        // SAFETY: as the trait says.
        unsafe { sum.add_product(a, b) }
    }
}

impl<V: PairVector> Terms<V> for Pairs {
    const ROWS: usize = V::PAIR_ROWS;
    // SAFETY: as the trait says.
    #[inline(always)]
    unsafe fn add(sum: V, a: V, b: V) -> V {
        // SAFETY: as the trait says.
        unsafe { sum.add_pairs(a, b) }
    }
}

/// The tiles of some panels; the kernel is sound where `packed` is laid out for the vectors, and every row of `left`, of
/// `out` and of the residual lies inside its slice, as [`product`] asserts.
struct AllTiles<'a, T> {
    packed: &'a Packed,
    panels: Range<usize>,
    left: &'a Left<'a>,
    out: *mut f32,
    rows: Rows,
    finish: Finish<'a>,
    terms: PhantomData<T>,
}

impl Kernel for AllTiles<'_, Single> {
    // SAFETY: see the type.
    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        // SAFETY: see the type.
        unsafe { self.tiles::<V>() }
    }
}

impl PairKernel for AllTiles<'_, Pairs> {
    // SAFETY: see the type.
    #[inline(always)]
    unsafe fn run<V: PairVector>(self) {
        // SAFETY: see the type.
        unsafe { self.tiles::<V>() }
    }
}

impl<T> AllTiles<'_, T> {
    /// Panel after panel, so that a panel's weights stay in the cache while the rows go by.
    ///
    /// # Safety
    /// See the type.
    #[inline(always)]
    unsafe fn tiles<V: Vector>(self)
    where
        T: Terms<V>,
    {
        let Self { packed, panels, left, out, rows, finish, .. } = self;
        let (low, high) = finish.activation.bounds();
        let start = panels.start * packed.panel();
        // As few tiles as there can be, as even as they can be. Values of rows that begin a multiple of a page apart lie in the
        // same eight lines of the nearest cache: so many rows and no more.
        let most = if left.rows.row_stride.is_multiple_of(PAGE) { T::ROWS.min(PAGE_ROWS) } else { T::ROWS };
        let tiles = left.count.div_ceil(most);
        let (fewer, more) = (left.count / tiles, left.count % tiles);
        for p in panels {
            let first = p * packed.panel();
            let mut panel = Panel {
                taps: left.taps,
                tap_stride: left.tap_stride,
                channels: packed.k / left.taps,
                // SAFETY: the panel lies inside the packed weights and biases, whose lengths are multiples of the lanes.
                weight: unsafe { packed.weight.as_ptr().add(first * packed.k) },
                // SAFETY: as above.
                bias: unsafe { packed.bias.as_ptr().add(first) },
                columns: packed.panel().min(packed.n - first),
                a: left.data.as_ptr(),
                sources: left.rows.walk(),
                // SAFETY: results of rows below `count` lie inside `out`, and inside the residual.
                c: unsafe { out.add(first - start) },
                // SAFETY: as above.
                d: finish.residual.map(|d| unsafe { d.as_ptr().add(first - start) }),
                targets: rows.walk(),
                low,
                high,
            };
            for t in 0..tiles {
                let count = fewer + usize::from(t < more);
                // SAFETY: see the fields of `panel`; the rows of all tiles are `count` together.
                unsafe {
                    if packed.width(p) == packed.panel() {
                        panel.tile::<V, T, TILE_VECTORS>(count);
                    } else {
                        panel.tile::<V, T, 1>(count);
                    }
                }
            }
        }
    }
}

/// Does the body once for every row of a tile, written out: sums stay in registers only where no index is a variable.
macro_rules! each_row {
    ($mr:ident, $i:ident, $body:block) => {
        each_row!(@ $mr, $i, $body, 0 1 2 3 4 5 6 7 8 9 10 11 12 13)
    };
    (@ $mr:ident, $i:ident, $body:block, $($n:literal)*) => {
        $(if $n < $mr {
            const $i: usize = $n;
            $body
        })*
    };
}

/// One panel and the rows that are still to come.
struct Panel {
    taps: usize,
    tap_stride: usize,
    channels: usize,
    weight: *const f32,
    bias: *const f32,
    columns: usize,
    a: *const f32,
    sources: Walk,
    c: *mut f32,
    d: Option<*const f32>,
    targets: Walk,
    low: f32,
    high: f32,
}

impl Panel {
    /// The next `count` rows, at most [`Terms::ROWS`].
    ///
    /// # Safety
    /// As [`Self::rows`].
    #[inline(always)]
    unsafe fn tile<V: Vector, T: Terms<V>, const NV: usize>(&mut self, count: usize) {
        macro_rules! by_count {
            ($($rows:literal)*) => {
                match count {
                    // SAFETY: the caller's.
                    $($rows if $rows <= T::ROWS => unsafe { self.rows::<V, T, $rows, NV>() },)*
                    _ => unreachable!("a tile of {count} rows"),
                }
            };
        }
        by_count!(1 2 3 4 5 6 7 8 9 10 11 12 13 14);
    }

    /// # Safety
    /// The next `MR` rows begin `taps` runs of `channels` values each; `weight` and `bias` a panel of `NV` vectors; results
    /// (and the residual) have room for `columns` values in each row.
    #[inline(always)]
    unsafe fn rows<V: Vector, T: Terms<V>, const MR: usize, const NV: usize>(&mut self) {
        // SAFETY: all offsets below stay within what the caller vouches for; a row with fewer columns than its vectors
        // goes through `edge`, which holds a whole tile's row.
        unsafe {
            let mut a = self.sources.tile::<MR>().map(|at| self.a.add(at));
            let at = self.targets.tile::<MR>();
            let mut b = self.weight;
            let mut sums: [[V; NV]; MR] = [std::array::from_fn(|j| V::load(self.bias.add(j * V::LANES))); MR];
            for _ in 0..self.taps {
                for k in 0..self.channels {
                    let w: [V; NV] = std::array::from_fn(|j| V::load(b.add(j * V::LANES)));
                    b = b.add(NV * V::LANES);
                    each_row!(MR, I, {
                        let v = V::splat(*a[I].add(k));
                        for j in 0..NV {
                            sums[I][j] = T::add(sums[I][j], v, w[j]);
                        }
                    });
                }
                a = a.map(|p| p.wrapping_add(self.tap_stride));
            }
            let (low, high) = (V::splat(self.low), V::splat(self.high));
            if self.columns < NV * V::LANES {
                let edge = Edge { columns: self.columns, low, high };
                each_row!(MR, I, { edge.finish(sums[I], self.d.map(|d| d.add(at[I])), self.c.add(at[I])) });
                return;
            }
            if let Some(d) = self.d {
                each_row!(MR, I, {
                    for j in 0..NV {
                        sums[I][j] = sums[I][j].add(V::load(d.add(at[I] + j * V::LANES)));
                    }
                });
            }
            each_row!(MR, I, {
                for j in 0..NV {
                    sums[I][j].clamp(low, high).store(self.c.add(at[I] + j * V::LANES));
                }
            });
        }
    }
}

/// How results end in a panel with fewer outputs than its vectors hold.
struct Edge<V> {
    columns: usize,
    low: V,
    high: V,
}

impl<V: Vector> Edge<V> {
    /// # Safety
    /// `c` (and `d`) are valid for `columns` values.
    #[inline(always)]
    unsafe fn finish<const NV: usize>(&self, sums: [V; NV], d: Option<*const f32>, c: *mut f32) {
        const { assert!(TILE_VECTORS * V::LANES <= 64, "a row of a tile") };
        let mut row = [0.0f32; 64];
        // SAFETY: `row` holds a whole row of a tile; otherwise the caller's.
        unsafe {
            if let Some(d) = d {
                std::ptr::copy_nonoverlapping(d, row.as_mut_ptr(), self.columns);
            }
            for (j, v) in sums.into_iter().enumerate() {
                let p = row.as_mut_ptr().add(j * V::LANES);
                v.add(V::load(p)).clamp(self.low, self.high).store(p);
            }
            std::ptr::copy_nonoverlapping(row.as_ptr(), c, self.columns);
        }
    }
}
