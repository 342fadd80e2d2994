//! Convolution over all channels: a product with packed weights, read straight from the (padded) map; in bfloat16 from a band of its rows,
//! rounded and laid end to end.

use std::sync::Arc;

use rayon::prelude::*;

use super::scratch::with_scratch;
use super::split::{count, even_lines};
use crate::graph::{Activation, Window};
use crate::kernel::pairs::{gather, room};
use crate::kernel::product::{Finish, Left, Packed, Rows, product};
use crate::linalg::Threads;
use crate::shape::Shape;

/// Output positions of one piece of work: its rows stay in the second-level cache while all weights go by.
const BAND: usize = 96;

/// A map with the zeros around it that a window asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Padding {
    /// The map itself.
    pub map: Shape,
    /// Zeros above and to the left.
    pub top: usize,
    pub left: usize,
    /// Rows and columns that windows reach, zeros included; may be fewer than the map has.
    pub height: usize,
    pub width: usize,
}

impl Padding {
    /// What `window` reads of a map of shape `map` for an output of shape `out`.
    pub(super) fn of(window: &Window, map: Shape, out: Shape) -> Self {
        let reach = |outputs: usize| (outputs - 1) * window.stride + window.kernel;
        let front = |size: usize| window.along(size).map_or(0, |(_, front)| front);
        Self {
            map,
            top: front(map.height),
            left: front(map.width),
            height: reach(out.height),
            width: reach(out.width),
        }
    }

    /// Whether the map can be read as it is.
    pub(super) fn is_none(&self) -> bool {
        self.top == 0 && self.left == 0 && self.height <= self.map.height && self.width <= self.map.width
    }

    /// Values of the padded map.
    pub(super) fn len(&self) -> usize {
        self.height * self.width * self.map.channels
    }

    /// Columns of the map that are read.
    pub(super) fn columns(&self) -> usize {
        self.map.width.min(self.width - self.left)
    }

    /// Row `y` of the padded map from the rows of `src`.
    pub(super) fn write_row(&self, src: &[f32], y: usize, row: &mut [f32]) {
        let c = self.map.channels;
        let inside = y.checked_sub(self.top).filter(|&iy| iy < self.map.height);
        let Some(iy) = inside else {
            row.fill(0.0);
            return;
        };
        let (from, columns) = (iy * self.map.width * c, self.columns());
        row[..self.left * c].fill(0.0);
        row[self.left * c..(self.left + columns) * c].copy_from_slice(&src[from..from + columns * c]);
        row[(self.left + columns) * c..].fill(0.0);
    }

    /// The whole padded map.
    pub(super) fn write(&self, src: &[f32], out: &mut [f32]) {
        for (y, row) in out.chunks_exact_mut(self.width * self.map.channels).enumerate() {
            self.write_row(src, y, row);
        }
    }
}

/// A convolution resolved for one shape of its map.
#[derive(Debug)]
pub(super) struct Conv {
    pub packed: Arc<Packed>,
    pub out: Shape,
    pub activation: Activation,
    /// Rows of positions of `out`, as they lie in the map that is read (padded, if the window asks for it).
    rows: Rows,
    taps: usize,
    tap_stride: usize,
    /// Values of a run.
    channels: usize,
}

impl Conv {
    /// Resolves a convolution that reads `padding`'s map.
    pub(super) fn new(
        packed: Arc<Packed>,
        window: &Window,
        padding: &Padding,
        out: Shape,
        activation: Activation,
    ) -> Self {
        let width = if padding.is_none() { padding.map.width } else { padding.width };
        let line = width * padding.map.channels;
        let rows = Rows {
            run: out.width,
            run_stride: window.stride * line,
            row_stride: window.stride * padding.map.channels,
        };
        let channels = window.kernel * padding.map.channels;
        Self { packed, out, activation, rows, taps: window.kernel, tap_stride: line, channels }
    }

    /// Values of scratch that [`Self::ready`] needs for so many rows.
    pub(super) fn room(&self, rows: usize) -> usize {
        if self.packed.has_pairs() { room(rows, self.taps * self.channels) } else { 0 }
    }

    /// The rows as the product reads them: where they lie, or rounded into `scratch`.
    pub(super) fn ready<'a>(&self, left: Left<'a>, scratch: &'a mut [f32]) -> Left<'a> {
        if !self.packed.has_pairs() {
            return left;
        }
        gather(self.packed.isa(), &left, self.channels, scratch)
    }

    /// The left side of the product for the lines `first .. first + lines` of the output, of each only `columns`.
    pub(super) fn left<'a>(&self, src: &'a [f32], first: usize, lines: usize, columns: usize) -> Left<'a> {
        Left {
            data: &src[first * self.rows.run_stride..],
            rows: Rows { run: columns, ..self.rows },
            count: lines * columns,
            taps: self.taps,
            tap_stride: self.tap_stride,
        }
    }

    /// All of the output.
    pub(super) fn run(&self, src: &[f32], residual: Option<&[f32]>, out: &mut [f32], threads: Threads) {
        let line = self.out.width * self.out.channels;
        let lines = even_lines(self.out.height, BAND / self.out.width, count(threads));
        let work = |(i, out): (usize, &mut [f32])| {
            let left = self.left(src, i * lines, out.len() / line, self.out.width);
            let residual = residual.map(|r| &r[i * lines * line..]);
            let finish = Finish { residual, activation: self.activation };
            let dense = Rows::dense(self.out.channels);
            with_scratch(self.room(left.count), |scratch| {
                let left = self.ready(left, scratch);
                product(&self.packed, 0..self.packed.panels(), &left, out, dense, finish);
            });
        };
        match threads {
            Threads::One => out.chunks_mut(lines * line).enumerate().for_each(work),
            Threads::All => out.par_chunks_mut(lines * line).enumerate().for_each(work),
        }
    }
}
