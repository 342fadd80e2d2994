//! The CPU engine: 1 x 1 convolutions as matrix products, others by im2col in bands that stay in the cache and
//! matrix products, depthwise ones directly; bias and activation while the values are still in the cache.
//!
//! Work is split into bands of output positions of a fixed size, so results do not depend on the number of threads.

mod conv;
mod depthwise;
mod pool;

use crate::graph::{Graph, NodeId, Op};
use crate::linalg::Threads;
use crate::shape::{Shape, infer};
use crate::{Error, Result};

/// A graph resolved for one picture size: shapes known, every mismatch found, each map given a buffer that maps
/// no longer needed share.
#[derive(Debug)]
pub struct Plan {
    graph: Graph,
    shapes: Vec<Shape>,
    /// Buffer of each node's map.
    buffer: Vec<usize>,
    /// Values each buffer holds.
    capacity: Vec<usize>,
}

/// The maps of one run. Made once, used for many pictures.
#[derive(Debug, Default)]
pub struct Workspace {
    buffers: Vec<Vec<f32>>,
}

impl Plan {
    /// Resolves `graph` for pictures of `height x width`.
    ///
    /// # Errors
    /// As [`infer`].
    pub fn new(graph: Graph, height: usize, width: usize) -> Result<Self> {
        let shapes = infer(&graph, height, width)?;
        let (buffer, capacity) = place(&graph, &shapes);
        Ok(Self { graph, shapes, buffer, capacity })
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
        workspace.buffers.resize_with(self.capacity.len(), Vec::new);
        for (buffer, &capacity) in workspace.buffers.iter_mut().zip(&self.capacity) {
            if buffer.len() < capacity {
                buffer.resize(capacity, 0.0);
            }
        }
        for (id, node) in self.graph.nodes().iter().enumerate() {
            let shape = self.shapes[id];
            // Taken out while it is written, so that the inputs can be read beside it; never one of the inputs.
            let mut target = std::mem::take(&mut workspace.buffers[self.buffer[id]]);
            let out = &mut target[..shape.len()];
            let source = |n: usize| {
                let from = node.inputs[n];
                (&workspace.buffers[self.buffer[from]][..self.shapes[from].len()], self.shapes[from])
            };
            match &node.op {
                Op::Input { .. } => out.copy_from_slice(input),
                Op::Conv2d { window, weight, bias, activation, .. } => {
                    let (src, s) = source(0);
                    conv::run(out, shape, src, s, *window, weight, bias, *activation, threads);
                }
                Op::DepthwiseConv2d { window, weight, bias, activation } => {
                    let (src, s) = source(0);
                    depthwise::run(out, shape, src, s, *window, weight, bias, *activation, threads);
                }
                Op::MaxPool { window } => {
                    let (src, s) = source(0);
                    pool::max(out, shape, src, s, *window);
                }
                Op::Add { activation } => {
                    let ((a, _), (b, _)) = (source(0), source(1));
                    for ((o, x), y) in out.iter_mut().zip(a).zip(b) {
                        *o = activation.apply(x + y);
                    }
                }
            }
            workspace.buffers[self.buffer[id]] = target;
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
        &workspace.buffers[self.buffer[id]][..self.shapes[id].len()]
    }
}

/// Gives each map a buffer: the free one that fits best, else the largest free one grown, else a new one.
/// A buffer is free once every node that reads its map has run; outputs keep theirs.
fn place(graph: &Graph, shapes: &[Shape]) -> (Vec<usize>, Vec<usize>) {
    let nodes = graph.nodes();
    let mut last_use: Vec<NodeId> = (0..nodes.len()).collect();
    for (id, node) in nodes.iter().enumerate() {
        for &i in &node.inputs {
            last_use[i] = id;
        }
    }
    for (_, id) in graph.outputs() {
        last_use[*id] = usize::MAX;
    }
    let (mut buffer, mut capacity) = (vec![0; nodes.len()], Vec::<usize>::new());
    let mut free: Vec<usize> = Vec::new();
    for id in 0..nodes.len() {
        let need = shapes[id].len();
        let best = (0..free.len())
            .filter(|&f| capacity[free[f]] >= need)
            .min_by_key(|&f| capacity[free[f]])
            .or_else(|| (0..free.len()).max_by_key(|&f| capacity[free[f]]));
        buffer[id] = match best {
            Some(f) => free.swap_remove(f),
            None => {
                capacity.push(0);
                capacity.len() - 1
            }
        };
        capacity[buffer[id]] = capacity[buffer[id]].max(need);
        let mut done: Vec<NodeId> = nodes[id].inputs.iter().copied().filter(|&i| last_use[i] == id).collect();
        done.dedup();
        free.extend(done.into_iter().map(|i| buffer[i]));
        if last_use[id] == id {
            free.push(buffer[id]); // A map that nobody reads.
        }
    }
    (buffer, capacity)
}
