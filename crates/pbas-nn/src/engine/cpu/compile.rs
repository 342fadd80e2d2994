//! Graph -> steps: what is fused into one pass, which maps are padded, what each step reads and writes.

use std::sync::Arc;

use super::block::{Block, Project};
use super::conv::{Conv, Padding};
use super::place::Use;
use super::winograd::Winograd;
use crate::graph::{Activation, Graph, Node, NodeId, Op, Window};
use crate::kernel::depthwise::PackedDepthwise;
use crate::kernel::product::Packed;
use crate::kernel::winograd::{self, Transformed};
use crate::precision::Precision;
use crate::shape::Shape;
use crate::simd::Isa;

/// Channels of maps are multiples of this where Winograd's algorithm is used: whole vectors of every instruction set.
const WINOGRAD_CHANNELS: usize = 16;
/// Largest share of the multiplications of direct summation with which it is used.
const MAX_WINOGRAD_SHARE: f64 = 0.6;

/// What a step computes; which values it reads and writes is in its [`Use`].
#[derive(Debug)]
pub(super) enum Step {
    /// The picture as it is.
    Input,
    /// The picture with zeros around it.
    PaddedInput(Padding),
    /// A map with zeros around it.
    Pad(Padding),
    /// Reads the map, and the residual if there is one.
    Conv(Conv),
    /// Reads the map, and the residual if there is one.
    Winograd(Winograd),
    /// Reads the map, and the residual if there is one.
    Block(Block),
    /// A depthwise convolution whose channels fit no vectors; the node has its weights.
    Depthwise { node: Arc<Node>, map: Shape, out: Shape },
    /// Max pooling.
    MaxPool { window: Window, map: Shape, out: Shape },
    /// The sum of two maps.
    Add(Activation),
}

/// Steps in order, and the values between them.
#[derive(Debug, Default)]
pub(super) struct Program {
    pub steps: Vec<Step>,
    pub uses: Vec<Use>,
    /// Numbers each value holds.
    pub lengths: Vec<usize>,
    /// The value of each node's map, for nodes that have one of their own.
    pub value: Vec<Option<usize>>,
    /// Outputs of a tile's side, for each node that is computed by Winograd's algorithm.
    pub tiles: Vec<Option<usize>>,
}

/// What becomes of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// Its own step.
    Own,
    /// Computed within the step of a later node.
    Within,
    /// The last node of a block around this depthwise convolution.
    EndsBlock(NodeId),
    /// An addition that is computed within this convolution.
    EndsConv(NodeId),
}

/// Compiles `graph`, whose maps have these `shapes`; with the `tiles` of another program of the graph, or with those that are fastest.
pub(super) fn compile(
    graph: &Graph,
    shapes: &[Shape],
    isa: Isa,
    precision: Precision,
    tiles: Option<&[Option<usize>]>,
) -> Program {
    let readers = readers(graph);
    let roles = roles(graph, &readers, isa);
    let program = Program::default();
    let mut c = Compiler { graph, shapes, readers: &readers, isa, precision, tiles, program };
    c.program.value = vec![None; graph.nodes().len()];
    c.program.tiles = c.program.value.clone();
    for (id, role) in roles.iter().enumerate() {
        match *role {
            Role::Within => {}
            Role::Own => c.own(id),
            Role::EndsBlock(depthwise) => c.block(id, depthwise, &roles),
            Role::EndsConv(conv) => c.conv(conv, id),
        }
    }
    c.program
}

/// The nodes that read each node; an output has one more reader, itself.
fn readers(graph: &Graph) -> Vec<Vec<NodeId>> {
    let mut readers = vec![Vec::new(); graph.nodes().len()];
    for (id, node) in graph.nodes().iter().enumerate() {
        for &i in &node.inputs {
            readers[i].push(id);
        }
    }
    for (_, id) in graph.outputs() {
        readers[*id].push(*id);
    }
    readers
}

fn roles(graph: &Graph, readers: &[Vec<NodeId>], isa: Isa) -> Vec<Role> {
    let nodes = graph.nodes();
    let mut roles = vec![Role::Own; nodes.len()];
    // The one node that reads `id`, if its map is no output.
    let only_reader = |id: NodeId| match readers[id][..] {
        [reader] if reader != id => Some(reader),
        _ => None,
    };
    // The addition that follows `id` and can be made as `id` is written.
    let addition = |id: NodeId| {
        let add = only_reader(id)?;
        let plain = matches!(nodes[id].op, Op::Conv2d { activation: Activation::None, .. });
        (plain && matches!(nodes[add].op, Op::Add { .. }) && nodes[add].inputs[0] != nodes[add].inputs[1])
            .then_some(add)
    };
    for (id, node) in nodes.iter().enumerate() {
        if !matches!(node.op, Op::DepthwiseConv2d { .. }) || depthwise(node, isa).is_none() {
            continue;
        }
        let source = node.inputs[0];
        let free = roles[source] == Role::Own && only_reader(source) == Some(id);
        if free && matches!(nodes[source].op, Op::Conv2d { .. }) {
            roles[source] = Role::Within;
        }
        let mut end = id;
        if let Some(project) = only_reader(id)
            && matches!(&nodes[project].op, Op::Conv2d { window, .. } if is_pointwise(window))
        {
            roles[id] = Role::Within;
            end = project;
            if let Some(add) = addition(project).filter(|&add| roles[add] == Role::Own) {
                roles[project] = Role::Within;
                end = add;
            }
        }
        roles[end] = Role::EndsBlock(id);
    }
    for id in 0..nodes.len() {
        if roles[id] == Role::Own
            && let Some(add) = addition(id).filter(|&add| roles[add] == Role::Own)
        {
            roles[id] = Role::Within;
            roles[add] = Role::EndsConv(id);
        }
    }
    roles
}

fn is_pointwise(window: &Window) -> bool {
    window.kernel == 1 && window.stride == 1 && window.along(1) == Some((1, 0))
}

fn depthwise(node: &Node, isa: Isa) -> Option<Arc<PackedDepthwise>> {
    let Op::DepthwiseConv2d { window, weight, bias, .. } = &node.op else { return None };
    node.packed
        .depthwise(isa, || PackedDepthwise::new(isa, weight.read(&mut Vec::new()), bias, window.kernel))
}

fn dense(node: &Node, isa: Isa, precision: Precision) -> Option<Arc<Packed>> {
    let Op::Conv2d { weight, bias, .. } = &node.op else { return None };
    let inputs = weight.len() / bias.len().max(1);
    let pack = match precision {
        Precision::F32 => Packed::new,
        Precision::Bf16 => Packed::pairs,
    };
    Some(node.packed.dense(isa, precision, || pack(isa, weight.read(&mut Vec::new()), bias, inputs)))
}

struct Compiler<'a> {
    graph: &'a Graph,
    shapes: &'a [Shape],
    readers: &'a [Vec<NodeId>],
    isa: Isa,
    precision: Precision,
    tiles: Option<&'a [Option<usize>]>,
    program: Program,
}

impl Compiler<'_> {
    fn emit(&mut self, step: Step, reads: Vec<usize>, len: usize) -> usize {
        let value = self.program.lengths.len();
        self.program.lengths.push(len);
        self.program.steps.push(step);
        self.program.uses.push(Use { reads, writes: value });
        value
    }

    /// The value of a node that has a step of its own.
    fn value(&self, id: NodeId) -> usize {
        self.program.value[id]
            .expect("a node is read after its step, and only nodes within a step have no value")
    }

    fn own(&mut self, id: NodeId) {
        let node = &self.graph.nodes()[id];
        let reads = |c: &Self| node.inputs.iter().map(|&i| c.value(i)).collect::<Vec<_>>();
        let step = match &node.op {
            // A picture that only windows read is copied into its padded form at once.
            Op::Input { .. } if self.all_pad(id) => return,
            Op::Input { .. } => Step::Input,
            Op::Conv2d { .. } => return self.conv(id, id),
            Op::DepthwiseConv2d { .. } => {
                Step::Depthwise { node: node.clone(), map: self.shapes[node.inputs[0]], out: self.shapes[id] }
            }
            Op::MaxPool { window } => {
                Step::MaxPool { window: *window, map: self.shapes[node.inputs[0]], out: self.shapes[id] }
            }
            Op::Add { activation } => Step::Add(*activation),
        };
        let reads = reads(self);
        self.program.value[id] = Some(self.emit(step, reads, self.shapes[id].len()));
    }

    /// Whether windows that need zeros around the map are all that reads it.
    fn all_pad(&self, id: NodeId) -> bool {
        let readers = &self.readers[id];
        !readers.is_empty()
            && readers.iter().all(|&r| {
                let Op::Conv2d { window, .. } = &self.graph.nodes()[r].op else { return false };
                r != id
                    && self.tile(r).is_none()
                    && !Padding::of(window, self.shapes[id], self.shapes[r]).is_none()
            })
    }

    /// The convolution `id`, resolved, and the value that it reads.
    fn resolved(&mut self, id: NodeId) -> (Conv, usize) {
        let node = &self.graph.nodes()[id];
        let (Op::Conv2d { window, activation, .. }, Some(packed)) =
            (&node.op, dense(node, self.isa, self.precision))
        else {
            unreachable!("only called for convolutions")
        };
        let source = node.inputs[0];
        let padding = Padding::of(window, self.shapes[source], self.shapes[id]);
        let conv = Conv::new(packed, window, &padding, self.shapes[id], *activation);
        let value = match (padding.is_none(), self.program.value[source]) {
            (true, _) => self.value(source),
            (false, Some(value)) => self.emit(Step::Pad(padding), vec![value], padding.len()),
            (false, None) => self.emit(Step::PaddedInput(padding), vec![], padding.len()),
        };
        (conv, value)
    }

    /// Convolution `id` and, if `end` is another node, the addition `end` with it.
    fn conv(&mut self, id: NodeId, end: NodeId) {
        if let Some(tile) = self.tile(id) {
            return self.winograd(id, end, tile);
        }
        let (mut conv, value) = self.resolved(id);
        let mut reads = vec![value];
        self.finish(id, end, &mut reads, &mut conv.activation);
        self.program.value[end] = Some(self.emit(Step::Conv(conv), reads, self.shapes[end].len()));
    }

    /// The outputs of a tile's side, if node `id` is a convolution that is faster by Winograd's algorithm.
    fn tile(&self, id: NodeId) -> Option<usize> {
        if let Some(tiles) = self.tiles {
            return tiles[id];
        }
        let node = &self.graph.nodes()[id];
        let Op::Conv2d { window: Window { kernel: 3, stride: 1, .. }, .. } = &node.op else { return None };
        let (from, out) = (self.shapes[node.inputs[0]], self.shapes[id]);
        let whole =
            from.channels.is_multiple_of(WINOGRAD_CHANNELS) && out.channels.is_multiple_of(WINOGRAD_CHANNELS);
        let tile = match self.precision {
            Precision::F32 => winograd::tile(out.height, out.width),
            // Rounded to bfloat16, the points of larger tiles cost four times the error of direct summation, these less than twice.
            Precision::Bf16 => 2,
        };
        (whole && winograd::share(tile, out.height, out.width) <= MAX_WINOGRAD_SHARE).then_some(tile)
    }

    /// As [`Self::conv`], by Winograd's algorithm.
    fn winograd(&mut self, id: NodeId, end: NodeId, tile: usize) {
        let (node, isa, precision) = (&self.graph.nodes()[id], self.isa, self.precision);
        let Op::Conv2d { window, weight, bias, activation, .. } = &node.op else {
            unreachable!("only called for convolutions")
        };
        let (map, out) = (self.shapes[node.inputs[0]], self.shapes[id]);
        let transform = || Transformed::new(isa, precision, weight.read(&mut Vec::new()), bias, tile);
        let weights = node.packed.winograd(isa, precision, tile, transform);
        self.program.tiles[id] = Some(tile);
        let padding = Padding::of(window, map, out);
        let mut reads = vec![self.value(node.inputs[0])];
        let mut conv = Winograd::new(isa, weights, map, out, [padding.top, padding.left], *activation);
        self.finish(id, end, &mut reads, &mut conv.activation);
        self.program.value[end] = Some(self.emit(Step::Winograd(conv), reads, self.shapes[end].len()));
    }

    /// If the addition `end` follows `id`: its activation, and its other map as the residual.
    fn finish(&self, id: NodeId, end: NodeId, reads: &mut Vec<usize>, activation: &mut Activation) {
        let node = &self.graph.nodes()[end];
        if let Op::Add { activation: after } = &node.op {
            let other = if node.inputs[0] == id { node.inputs[1] } else { node.inputs[0] };
            reads.push(self.value(other));
            *activation = *after;
        }
    }

    /// The block around the depthwise convolution `id`, up to `end`.
    fn block(&mut self, end: NodeId, id: NodeId, roles: &[Role]) {
        let nodes = self.graph.nodes();
        let (Op::DepthwiseConv2d { window, activation, .. }, Some(packed)) =
            (&nodes[id].op, depthwise(&nodes[id], self.isa))
        else {
            unreachable!("only called for depthwise convolutions with packed weights")
        };
        let source = nodes[id].inputs[0];
        let (expand, value) = match roles[source] {
            Role::Within => {
                let (conv, value) = self.resolved(source);
                (Some(conv), value)
            }
            _ => (None, self.value(source)),
        };
        let mut reads = vec![value];
        // Within a block the depthwise convolution has one reader, the projection.
        let project = (end != id).then(|| {
            let p = self.readers[id][0];
            let (Op::Conv2d { activation, .. }, Some(packed)) =
                (&nodes[p].op, dense(&nodes[p], self.isa, self.precision))
            else {
                unreachable!("a block ends with a convolution")
            };
            let mut activation = *activation;
            self.finish(p, end, &mut reads, &mut activation);
            Project { packed, activation }
        });
        let block = Block {
            expand,
            padding: Padding::of(window, self.shapes[source], self.shapes[id]),
            window: *window,
            depthwise: packed,
            activation: *activation,
            middle: self.shapes[id],
            project,
        };
        self.program.value[end] = Some(self.emit(Step::Block(block), reads, self.shapes[end].len()));
    }
}
