//! The CPU engine: a graph is compiled for one picture size into a few fused steps, which then run on any number of pictures.
//!
//! Convolutions are products with packed weights that read the map where it lies; bias, addition and activation happen in
//! registers; an inverted bottleneck is one step. Every output is summed in one fixed order, so results do not depend on the
//! number of threads. With [`Precision::Bf16`] both sides of these products are rounded to bfloat16; all else stays float32.

mod block;
mod compile;
mod conv;
mod depthwise;
mod place;
mod pool;
mod scratch;
mod split;
mod winograd;

use compile::{Program, Step, compile};

use crate::graph::{Graph, Op};
use crate::kernel::Aligned;
use crate::linalg::Threads;
use crate::shape::{Shape, infer};
use crate::simd::Isa;
use crate::{Error, Precision, Result};

/// A graph resolved for one picture size: shapes known, every mismatch found, steps fused, weights packed (once for all
/// plans of a graph), each map given a buffer that maps no longer needed share.
#[derive(Debug)]
pub struct Plan {
    graph: Graph,
    precision: Precision,
    isa: Isa,
    shapes: Vec<Shape>,
    program: Program,
    /// Buffer of each value.
    buffer: Vec<usize>,
    /// Numbers each buffer holds.
    capacity: Vec<usize>,
}

/// The maps of one run. Made once, used for many pictures.
#[derive(Debug, Default)]
pub struct Workspace {
    buffers: Vec<Aligned>,
    shared: Aligned,
}

impl Plan {
    /// Resolves `graph` for pictures of `height x width`.
    ///
    /// # Errors
    /// As [`infer`], and as [`Isa::current`].
    pub fn new(graph: Graph, height: usize, width: usize, precision: Precision) -> Result<Self> {
        Self::for_isa(graph, height, width, precision, Isa::current()?)
    }

    /// As [`Plan::new`], for an instruction set of [`Isa::all`].
    ///
    /// # Errors
    /// As [`infer`].
    ///
    /// # Panics
    /// If this processor lacks the instruction set.
    pub fn for_isa(
        graph: Graph,
        height: usize,
        width: usize,
        precision: Precision,
        isa: Isa,
    ) -> Result<Self> {
        assert!(Isa::all().contains(&isa), "this processor has no {}", isa.name());
        Self::compiled(graph, [height, width], precision, isa, None)
    }

    /// The same network for pictures of another size, by the very weights that this plan has packed, whether or not others would be faster.
    ///
    /// # Errors
    /// As [`infer`].
    pub fn resized(&self, height: usize, width: usize) -> Result<Self> {
        let tiles = Some(&self.program.tiles[..]);
        Self::compiled(self.graph.clone(), [height, width], self.precision, self.isa, tiles)
    }

    fn compiled(
        graph: Graph,
        [height, width]: [usize; 2],
        precision: Precision,
        isa: Isa,
        tiles: Option<&[Option<usize>]>,
    ) -> Result<Self> {
        let shapes = infer(&graph, height, width)?;
        let program = compile(&graph, &shapes, isa, precision, tiles);
        let kept: Vec<usize> = graph.outputs().iter().filter_map(|(_, id)| program.value[*id]).collect();
        let (buffer, capacity) = place::place(&program.lengths, &program.uses, &kept);
        Ok(Self { graph, precision, isa, shapes, program, buffer, capacity })
    }

    /// Shapes of the named outputs, in order.
    pub fn output_shapes(&self) -> impl Iterator<Item = Shape> + '_ {
        self.graph.outputs().iter().map(|(_, id)| self.shapes[*id])
    }

    /// Shape of the picture, `[height, width, channels]`.
    #[must_use]
    pub fn input_shape(&self) -> Shape {
        self.shapes[0]
    }

    /// Runs the network on one picture `[height, width, channels]`; [`Plan::output`] then gives the maps.
    ///
    /// # Errors
    /// If `input` has another length than [`Plan::input_shape`].
    pub fn run(&self, workspace: &mut Workspace, input: &[f32], threads: Threads) -> Result<()> {
        if input.len() != self.shapes[0].len() {
            return Err(Error::shape(format!(
                "input: expected {} values ({:?}), found {}",
                self.shapes[0].len(),
                self.shapes[0],
                input.len()
            )));
        }
        workspace.buffers.resize_with(self.capacity.len().max(workspace.buffers.len()), Aligned::default);
        for (buffer, &capacity) in workspace.buffers.iter_mut().zip(&self.capacity) {
            buffer.grow(capacity);
        }
        let Program { steps, uses, lengths, .. } = &self.program;
        for (step, at) in steps.iter().zip(uses) {
            // Taken out while it is written, so that the inputs can be read beside it; never one of the inputs.
            let mut target = std::mem::take(&mut workspace.buffers[self.buffer[at.writes]]);
            let out = &mut target.as_mut_slice()[..lengths[at.writes]];
            let (buffers, shared) = (&workspace.buffers, &mut workspace.shared);
            let source =
                |n: usize| at.reads.get(n).map(|&v| &buffers[self.buffer[v]].as_slice()[..lengths[v]]);
            let first = source(0).unwrap_or(&[]);
            match step {
                Step::Input => out.copy_from_slice(input),
                Step::PaddedInput(padding) => padding.write(input, out),
                Step::Pad(padding) => padding.write(first, out),
                Step::Conv(conv) => conv.run(first, source(1), out, threads),
                Step::Winograd(conv) => conv.run(first, source(1), out, shared, threads),
                Step::Block(block) => block.run(first, source(1), out, shared, threads),
                Step::Depthwise { node, map, out: shape } => {
                    let Op::DepthwiseConv2d { window, weight, bias, activation } = &node.op else {
                        unreachable!("compiled from a depthwise convolution")
                    };
                    depthwise::run(out, *shape, first, *map, *window, weight, bias, *activation, threads);
                }
                Step::MaxPool { window, map, out: shape } => {
                    pool::max(out, *shape, first, *map, *window, threads)
                }
                Step::Add(activation) => {
                    let second = source(1).unwrap_or(&[]);
                    for ((o, x), y) in out.iter_mut().zip(first).zip(second) {
                        *o = activation.apply(x + y);
                    }
                }
            }
            workspace.buffers[self.buffer[at.writes]] = target;
        }
        Ok(())
    }

    /// Output `n` of the last run, `[height, width, channels]`.
    ///
    /// # Panics
    /// If there is no such output or nothing was run with this workspace.
    #[must_use]
    pub fn output<'w>(&self, workspace: &'w Workspace, n: usize) -> &'w [f32] {
        let id = self.graph.outputs()[n].1;
        let value = self.program.value[id].expect("outputs have values of their own");
        &workspace.buffers[self.buffer[value]].as_slice()[..self.shapes[id].len()]
    }
}
