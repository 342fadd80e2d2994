//! Expand, depthwise, project as one step (an inverted bottleneck, or any part of one around a depthwise convolution):
//! the widened map, six times the channels, exists only as a few lines or a few channels in the cache.
//!
//! Two ways, which give the same bits. **By lines**: a band of output lines after the other, the lines that two bands
//! share are kept; for large maps, and on one thread. **By slices**: a panel of channels after the other over the whole map;
//! for small maps on several threads, where bands of lines would compute too many shared lines twice.
//!
//! In bfloat16 what the two products read is rounded: the map a band at a time, the depthwise outputs as they are written. Depthwise windows
//! themselves are float32.

use std::ops::Range;
use std::sync::Arc;

use half::bf16;
use rayon::prelude::*;

use super::conv::{Conv, Padding};
use super::scratch::with_scratch;
use crate::graph::{Activation, Window};
use crate::kernel::Aligned;
use crate::kernel::depthwise::{PackedDepthwise, Padded};
use crate::kernel::product::{Finish, Left, Packed, Rows, product};
use crate::linalg::Threads;
use crate::shape::Shape;
use crate::simd::Number;

/// Output positions of a band of lines, at least: enough rows for the products.
const BAND: usize = 48;
/// Largest share of lines that bands on several threads may compute twice.
const MAX_OVERLAP: f64 = 0.15;
/// Bytes of a line's window above which its channels are walked block by block within a position.
const NEAR_CACHE: usize = 16 << 10;

/// A depthwise convolution with what is fused around it.
#[derive(Debug)]
pub(super) struct Block {
    /// Makes the widened map; without it the map is read as it is.
    pub expand: Option<Conv>,
    /// The widened map with the zeros around it.
    pub padding: Padding,
    pub window: Window,
    pub depthwise: Arc<PackedDepthwise>,
    pub activation: Activation,
    /// Output of the depthwise convolution.
    pub middle: Shape,
    pub project: Option<Project>,
}

/// The 1 x 1 convolution at the end.
#[derive(Debug)]
pub(super) struct Project {
    pub packed: Arc<Packed>,
    pub activation: Activation,
}

/// Some lines of the padded widened map.
struct Lines<'a> {
    data: &'a [f32],
    /// Which of them is the uppermost.
    first: usize,
    /// How many there are; below the last follows the first.
    rows: usize,
}

impl Block {
    /// Runs the block; `shared` is memory that may grow.
    pub(super) fn run(
        &self,
        src: &[f32],
        residual: Option<&[f32]>,
        out: &mut [f32],
        shared: &mut Aligned,
        threads: Threads,
    ) {
        let height = self.middle.height;
        let line = out.len() / height;
        if threads == Threads::One {
            self.lines(src, residual, out, 0..height);
            return;
        }
        let parts = rayon::current_num_threads();
        let overlap = |parts: usize| {
            let shared = self.window.kernel.saturating_sub(self.window.stride);
            let own = height.div_ceil(parts) * self.window.stride;
            if parts > 1 { shared as f64 / own as f64 } else { 0.0 }
        };
        let parts = [4, 2, 1].map(|n| n * parts).into_iter().find(|&n| overlap(n) <= MAX_OVERLAP);
        match (parts, &self.expand, &self.project) {
            (None, Some(expand), Some(project)) if self.slices_fit(expand) => {
                self.slices(expand, project, src, residual, out, shared);
            }
            _ => {
                let lines = height.div_ceil(parts.unwrap_or_else(rayon::current_num_threads));
                out.par_chunks_mut(lines * line).enumerate().for_each(|(i, out)| {
                    let residual = residual.map(|r| &r[i * lines * line..]);
                    self.lines(src, residual, out, i * lines..i * lines + out.len() / line);
                });
            }
        }
    }

    /// Output lines `range` into `out`, which holds these alone, as `residual` begins with them.
    fn lines(&self, src: &[f32], residual: Option<&[f32]>, out: &mut [f32], range: Range<usize>) {
        let (c, width, p) = (self.middle.channels, self.middle.width, &self.padding);
        let (k, s) = (self.window.kernel, self.window.stride);
        let (wide, narrow) = (p.width * c, width * c);
        let out_line = out.len() / range.len();
        let band = BAND.div_ceil(width).min(range.len());
        let held = (band - 1) * s + k;
        let middle_len = self.middle_len(band * narrow);
        let rows_len = self.expand.as_ref().map_or(0, |expand| expand.room(held * p.columns()));
        with_scratch(held * wide + middle_len + rows_len, |scratch| {
            let (window, scratch) = scratch.split_at_mut(held * wide);
            let (middle, rows) = scratch.split_at_mut(middle_len);
            // Lines of the padded map up to `ready` are in the window; line `y` is its line `y % held`.
            let mut ready = range.start * s;
            for y in range.clone().step_by(band) {
                let count = band.min(range.end - y);
                let from = y * s;
                let to = from + (count - 1) * s + k;
                ready = ready.max(from);
                while ready < to {
                    // As many lines as follow each other in the window.
                    let at = ready % held;
                    let fresh = ready..to.min(ready + held - at);
                    let lines = &mut window[at * wide..(at + fresh.len()) * wide];
                    ready = fresh.end;
                    match &self.expand {
                        Some(expand) => {
                            let left = expand.ready(self.source(expand, src, &fresh), rows);
                            self.widen(expand, 0..expand.packed.panels(), &left, fresh, lines);
                        }
                        None => {
                            for (y, row) in fresh.zip(lines.chunks_exact_mut(wide)) {
                                p.write_row(src, y, row);
                            }
                        }
                    }
                }
                let lines = Lines { data: window, first: from % held, rows: held };
                let at = (y - range.start) * out_line..(y - range.start + count) * out_line;
                let Some(project) = &self.project else {
                    self.windows(&lines, &mut out[at], count);
                    continue;
                };
                let middle = &mut middle[..self.middle_len(count * narrow)];
                if project.packed.has_pairs() {
                    self.windows(&lines, bytemuck::cast_slice_mut::<f32, bf16>(middle), count);
                } else {
                    self.windows(&lines, middle, count);
                }
                let left = Left::dense(middle, count * width, project.packed.inputs());
                let residual = residual.map(|r| &r[at.clone()]);
                let finish = Finish { residual, activation: project.activation };
                let panels = 0..project.packed.panels();
                let dense = Rows::dense(project.packed.outputs());
                product(&project.packed, panels, &left, &mut out[at], dense, finish);
            }
        });
    }

    /// Float32 values that hold `count` depthwise outputs, or as many bits of bfloat16 pairs: channels are even, since they fill vectors.
    fn middle_len(&self, count: usize) -> usize {
        match &self.project {
            None => 0,
            Some(project) if project.packed.has_pairs() => count / 2,
            Some(_) => count,
        }
    }

    /// Lines `range` of the padded widened map that are not padding.
    fn inside(&self, range: &Range<usize>) -> Range<usize> {
        let p = &self.padding;
        range.start.max(p.top)..range.end.min(p.top + p.map.height)
    }

    /// What lines `range` of the padded widened map are made of.
    fn source<'a>(&self, expand: &Conv, src: &'a [f32], range: &Range<usize>) -> Left<'a> {
        let inside = self.inside(range);
        if inside.is_empty() {
            return Left::dense(&[], 0, 0);
        }
        expand.left(src, inside.start - self.padding.top, inside.len(), self.padding.columns())
    }

    /// Lines `range` of the padded widened map, of these `panels` of channels alone, from what they are made of.
    fn widen(
        &self,
        expand: &Conv,
        panels: Range<usize>,
        left: &Left<'_>,
        range: Range<usize>,
        out: &mut [f32],
    ) {
        let p = &self.padding;
        let line = out.len() / range.len();
        let c = line / p.width;
        let (inside, columns) = (self.inside(&range), p.columns());
        for (y, row) in range.clone().zip(out.chunks_exact_mut(line)) {
            if inside.contains(&y) {
                row[..p.left * c].fill(0.0);
                row[(p.left + columns) * c..].fill(0.0);
            } else {
                row.fill(0.0);
            }
        }
        if inside.is_empty() {
            return;
        }
        let rows = Rows { run: columns, run_stride: line, row_stride: c };
        let at = (inside.start - range.start) * line + p.left * c;
        let finish = Finish { residual: None, activation: expand.activation };
        product(&expand.packed, panels, left, &mut out[at..], rows, finish);
    }

    /// `count` lines of the depthwise convolution from the padded lines that they reach.
    fn windows<T: Number>(&self, lines: &Lines<'_>, out: &mut [T], count: usize) {
        let (c, width) = (self.middle.channels, self.middle.width);
        let line = self.padding.width * c;
        let block = self.depthwise.block();
        let stride = self.window.stride;
        let run = |b: usize, y: usize, x: usize, n: usize, out: &mut [T]| {
            let map = Padded {
                data: &lines.data[x * stride * c + b * block..],
                row_stride: line,
                first: (lines.first + y * stride) % lines.rows,
                rows: lines.rows,
                column_stride: c,
                stride,
            };
            let to = (y * width + x) * c + b * block;
            self.depthwise.row(b, &map, &mut out[to..], c, n, self.activation);
        };
        let near = self.window.kernel * self.padding.width * block * size_of::<f32>() <= NEAR_CACHE;
        for y in 0..count {
            if near {
                for b in 0..self.depthwise.blocks() {
                    run(b, y, 0, width, out);
                }
            } else {
                // Long lines: what a few positions read of all channels stays in the nearest cache.
                for x in (0..width).step_by(4) {
                    for b in 0..self.depthwise.blocks() {
                        run(b, y, x, 4.min(width - x), out);
                    }
                }
            }
        }
    }

    /// Whether every slice is a full panel of both kernels.
    fn slices_fit(&self, expand: &Conv) -> bool {
        let panel = expand.packed.panel();
        panel == self.depthwise.block() && self.middle.channels.is_multiple_of(panel)
    }

    /// Slice after slice of the channels, then the projection, which reads the slices where they lie.
    fn slices(
        &self,
        expand: &Conv,
        project: &Project,
        src: &[f32],
        residual: Option<&[f32]>,
        out: &mut [f32],
        shared: &mut Aligned,
    ) {
        let p = &self.padding;
        let panel = expand.packed.panel();
        let positions = self.middle.positions();
        let len = self.middle_len(positions * self.middle.channels);
        let whole = self.source(expand, src, &(0..p.height));
        let rows_len = expand.room(whole.count);
        shared.grow(len + rows_len);
        let (middle, rows) = shared.as_mut_slice()[..len + rows_len].split_at_mut(len);
        let left = expand.ready(whole, rows);
        let held = self.middle_len(positions * panel);
        middle.par_chunks_mut(held).enumerate().for_each(|(i, slice)| {
            with_scratch(p.height * p.width * panel, |wide| {
                self.widen(expand, i..i + 1, &left, 0..p.height, wide);
                if project.packed.has_pairs() {
                    self.slice(i, wide, bytemuck::cast_slice_mut::<f32, bf16>(slice));
                } else {
                    self.slice(i, wide, slice);
                }
            });
        });
        let outputs = project.packed.outputs();
        let band = positions.div_ceil(2 * rayon::current_num_threads()).clamp(BAND / 2, 2 * BAND);
        let (middle, row) = (&*middle, held / positions);
        out.par_chunks_mut(band * outputs).enumerate().for_each(|(i, out)| {
            let left = Left {
                data: &middle[i * band * row..],
                rows: Rows::dense(row),
                count: out.len() / outputs,
                taps: self.middle.channels / panel,
                tap_stride: held,
            };
            let residual = residual.map(|r| &r[i * band * outputs..]);
            let finish = Finish { residual, activation: project.activation };
            product(&project.packed, 0..project.packed.panels(), &left, out, Rows::dense(outputs), finish);
        });
    }

    /// All lines of the depthwise convolution of panel `i` of channels, which `wide` holds alone.
    fn slice<T: Number>(&self, i: usize, wide: &[f32], out: &mut [T]) {
        let (panel, stride) = (self.depthwise.block(), self.window.stride);
        let line = self.padding.width * panel;
        for (y, out) in out.chunks_exact_mut(self.middle.width * panel).enumerate() {
            let (first, rows) = (y * stride, self.padding.height);
            let map = Padded { data: wide, row_stride: line, first, rows, column_stride: panel, stride };
            self.depthwise.row(i, &map, out, panel, self.middle.width, self.activation);
        }
    }
}
