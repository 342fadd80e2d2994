//! Maps to tiles at their points, and products at the points to maps.

use std::ops::Range;

use super::{MAX_POINTS, TAPS, evaluate, interpolate};
use crate::graph::Activation;
use crate::shape::Shape;
use crate::simd::{Isa, Kernel, Number, PairKernel, PairVector, Vector};

/// How a map of outputs is cut into tiles, and where the tiles' points lie: at point `p` of the `i`-th tile of a range begin
/// its channels at `p point_stride + i tile_stride`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tiles {
    /// Outputs of a tile along one axis: 2, 3 or 4.
    pub tile: usize,
    /// The map of outputs.
    pub out: Shape,
}

impl Tiles {
    /// Points of a tile.
    pub(crate) fn points(&self) -> usize {
        (self.tile + TAPS - 1).pow(2)
    }

    /// Tiles side by side.
    pub(crate) fn across(&self) -> usize {
        self.out.width.div_ceil(self.tile)
    }

    /// Lines of tiles.
    pub(crate) fn down(&self) -> usize {
        self.out.height.div_ceil(self.tile)
    }
}

/// Where the points of tiles lie.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout {
    /// Values from one point to the next.
    pub point: usize,
    /// Values from one tile to the next.
    pub tile: usize,
}

/// A map to be cut into tiles.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Inputs<'a> {
    pub isa: Isa,
    pub tiles: Tiles,
    /// The map, `[height, width, channels]`.
    pub map: &'a [f32],
    pub shape: Shape,
    /// Rows and columns of zeros in front of the map.
    pub top: usize,
    pub left: usize,
    /// As many zeros as the map has channels.
    pub zeros: &'a [f32],
}

impl Inputs<'_> {
    /// Writes the points of the tiles of a range.
    ///
    /// # Panics
    /// If the map, the zeros or the points do not have the room that their shapes ask for, or the channels fill no vectors.
    pub(crate) fn write<T: Number>(&self, range: Range<usize>, points: &mut [T], layout: Layout) {
        let channels = self.shape.channels;
        assert!(channels.is_multiple_of(self.isa.lanes()), "channels in whole vectors");
        assert!(self.map.len() >= self.shape.len() && self.zeros.len() >= channels, "a map and its zeros");
        let count = range.len();
        if count == 0 {
            return;
        }
        let reach = (self.tiles.points() - 1) * layout.point + (count - 1) * layout.tile + channels;
        assert!(reach <= points.len(), "points reach to {reach} of {}", points.len());
        let to = points.as_mut_ptr();
        // SAFETY: positions outside the map are read from the zeros, others lie in the map; points lie in their slice (asserted
        // above), which is borrowed uniquely; sets are only made for processors that have them.
        unsafe {
            match self.tiles.tile {
                2 => self.isa.run_pairs(WriteInputs::<T, 4> { inputs: self, range, to, layout }),
                3 => self.isa.run_pairs(WriteInputs::<T, 5> { inputs: self, range, to, layout }),
                4 => self.isa.run_pairs(WriteInputs::<T, 6> { inputs: self, range, to, layout }),
                m => unreachable!("tiles of {m}"),
            }
        }
    }
}

/// Tiles of `N` positions a side; sound as [`Inputs::write`] says.
struct WriteInputs<'a, T, const N: usize> {
    inputs: &'a Inputs<'a>,
    range: Range<usize>,
    to: *mut T,
    layout: Layout,
}

impl<T: Number, const N: usize> PairKernel for WriteInputs<'_, T, N> {
    // SAFETY: see the type.
    #[inline(always)]
    unsafe fn run<V: PairVector>(self) {
        let Self { inputs: Inputs { tiles, map, shape, top, left, zeros, .. }, range, to, layout } = self;
        let across = tiles.across();
        for (i, t) in range.enumerate() {
            let (y, x) = (t / across * tiles.tile, t % across * tiles.tile);
            let mut sources = [[zeros.as_ptr(); N]; N];
            for (dy, row) in sources.iter_mut().enumerate() {
                let Some(y) = (y + dy).checked_sub(*top).filter(|&y| y < shape.height) else { continue };
                for (dx, source) in row.iter_mut().enumerate() {
                    if let Some(x) = (x + dx).checked_sub(*left).filter(|&x| x < shape.width) {
                        // SAFETY: a position of the map.
                        *source = unsafe { map.as_ptr().add((y * shape.width + x) * shape.channels) };
                    }
                }
            }
            let mut c = 0;
            while c < shape.channels {
                // SAFETY: each source begins as many values as there are channels; for the points see the type.
                unsafe {
                    let mut half = [[V::splat(0.0); N]; N];
                    for a in 0..N {
                        for b in 0..N {
                            half[a][b] = V::load(sources[a][b].add(c));
                        }
                        half[a] = evaluate(half[a]);
                    }
                    let to = to.add(i * layout.tile + c);
                    for b in 0..N {
                        let mut column = [half[0][b]; N];
                        for a in 1..N {
                            column[a] = half[a][b];
                        }
                        column = evaluate(column);
                        for a in 0..N {
                            T::store(column[a], to.add((a * N + b) * layout.point));
                        }
                    }
                }
                c += V::LANES;
            }
        }
    }
}

/// Products at the points of tiles, to be made into a map.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outputs<'a> {
    pub isa: Isa,
    pub tiles: Tiles,
    pub points: &'a [f32],
    pub layout: Layout,
    pub bias: &'a [f32],
    /// Added, from the same places as the output is written to.
    pub residual: Option<&'a [f32]>,
    pub activation: Activation,
}

impl Outputs<'_> {
    /// Writes the outputs of the tiles of a range to `out`, which (like the residual) begins with line `line` of the map.
    ///
    /// # Panics
    /// If the points do not hold the range, an output would lie outside `out` or the residual, or the channels fill no vectors.
    pub(crate) fn write(&self, range: Range<usize>, out: &mut [f32], line: usize) {
        let (Tiles { tile, out: shape }, across) = (self.tiles, self.tiles.across());
        assert!(shape.channels.is_multiple_of(self.isa.lanes()), "channels in whole vectors");
        assert!(self.bias.len() >= shape.channels, "a bias for every channel");
        let count = range.len();
        if count == 0 {
            return;
        }
        let reach =
            (self.tiles.points() - 1) * self.layout.point + (count - 1) * self.layout.tile + shape.channels;
        assert!(reach <= self.points.len(), "points reach to {reach} of {}", self.points.len());
        let last = (((range.end - 1) / across + 1) * tile).min(shape.height);
        assert!(range.start / across * tile >= line, "outputs begin before line {line}");
        let reach = (last - line) * shape.width * shape.channels;
        assert!(
            reach <= out.len() && self.residual.is_none_or(|r| reach <= r.len()),
            "outputs reach to {reach}"
        );
        let out = out.as_mut_ptr();
        // SAFETY: points, outputs and the residual lie in their slices (asserted above), of which `out` is borrowed uniquely;
        // sets are only made for processors that have them.
        unsafe {
            match tile {
                2 => self.isa.run(WriteOutputs::<4, 2> { outputs: self, range, out, line }),
                3 => self.isa.run(WriteOutputs::<5, 3> { outputs: self, range, out, line }),
                4 => self.isa.run(WriteOutputs::<6, 4> { outputs: self, range, out, line }),
                m => unreachable!("tiles of {m}"),
            }
        }
    }
}

/// Tiles of `N` points and `M` outputs a side; sound as [`Outputs::write`] says.
struct WriteOutputs<'a, const N: usize, const M: usize> {
    outputs: &'a Outputs<'a>,
    range: Range<usize>,
    out: *mut f32,
    line: usize,
}

impl<const N: usize, const M: usize> Kernel for WriteOutputs<'_, N, M> {
    // SAFETY: see the type.
    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        const { assert!(N <= MAX_POINTS) };
        let Self { outputs: o, range, out, line } = self;
        let (shape, across) = (o.tiles.out, o.tiles.across());
        let (low, high) = o.activation.bounds();
        for (i, t) in range.enumerate() {
            let (y, x) = (t / across * M, t % across * M);
            let (rows, columns) = (M.min(shape.height - y), M.min(shape.width - x));
            for c in (0..shape.channels).step_by(V::LANES) {
                let at = ((y - line) * shape.width + x) * shape.channels + c;
                // SAFETY: points and outputs lie inside what the type vouches for; the residual as the outputs.
                unsafe {
                    let from = o.points.as_ptr().add(i * o.layout.tile + c);
                    let mut half = [[V::splat(0.0); M]; N];
                    for b in 0..N {
                        let mut column = [V::load(from.add(b * o.layout.point)); N];
                        for a in 1..N {
                            column[a] = V::load(from.add((a * N + b) * o.layout.point));
                        }
                        half[b] = interpolate(column);
                    }
                    let bias = V::load(o.bias.as_ptr().add(c));
                    let (low, high) = (V::splat(low), V::splat(high));
                    for a in 0..M {
                        let mut row = [half[0][a]; N];
                        for b in 1..N {
                            row[b] = half[b][a];
                        }
                        let values: [V; M] = interpolate(row);
                        if a < rows {
                            for b in 0..M {
                                if b < columns {
                                    let at = at + (a * shape.width + b) * shape.channels;
                                    let mut v = values[b].add(bias);
                                    if let Some(r) = o.residual {
                                        v = v.add(V::load(r.as_ptr().add(at)));
                                    }
                                    v.clamp(low, high).store(out.add(at));
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}
