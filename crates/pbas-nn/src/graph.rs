//! A frozen network as data: nodes in order of computation, each with its weights.
//!
//! Maps are laid out `[height, width, channels]` ("NHWC"): pixels arrive that way, a 1 x 1 convolution is then
//! one row-major matrix product, and a patch feature is a contiguous row. BatchNorm is folded on entry
//! ([`fold_batch_norm`]); the graph knows none.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::kernel::PackCache;
use crate::weights::{NamedTensors, StoredTensors, Tensor, Weights};
use crate::{Error, Result};

/// Index of a node in [`Graph::nodes`].
pub type NodeId = usize;

/// What is applied to each value after a node's sum.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// Nothing.
    None,
    /// `max(x, 0)`.
    Relu,
    /// `min(max(x, 0), 6)`.
    Relu6,
}

impl Activation {
    /// The range that the activation clamps to.
    #[must_use]
    pub fn bounds(self) -> (f32, f32) {
        match self {
            Self::None => (f32::NEG_INFINITY, f32::INFINITY),
            Self::Relu => (0.0, f32::INFINITY),
            Self::Relu6 => (0.0, 6.0),
        }
    }

    /// The activation of one value.
    #[inline(always)]
    #[must_use]
    pub fn apply(self, x: f32) -> f32 {
        match self {
            Self::None => x,
            Self::Relu => x.max(0.0),
            Self::Relu6 => x.clamp(0.0, 6.0),
        }
    }
}

/// Rows and columns of zeros (for max pooling: of nothing) around a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Padding {
    /// TensorFlow "same": output is `ceil(size / stride)`; the odd row or column goes to the bottom and the right.
    Same,
    /// The same number on all four sides, as in torch.
    Even(usize),
}

/// Kernel, stride and padding shared by convolutions and pooling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Rows and columns of the square kernel.
    pub kernel: usize,
    /// Rows and columns between two outputs.
    pub stride: usize,
    /// What surrounds the map.
    pub padding: Padding,
}

impl Window {
    /// Output length and zeros in front along one axis of `size`; `None` where the kernel does not fit (or a number
    /// from a hostile file overflows).
    #[must_use]
    pub fn along(&self, size: usize) -> Option<(usize, usize)> {
        match self.padding {
            Padding::Same => {
                let out = size.checked_div(self.stride)? + usize::from(!size.is_multiple_of(self.stride));
                let reach = out.checked_sub(1)?.checked_mul(self.stride)?.checked_add(self.kernel)?;
                Some((out, reach.saturating_sub(size) / 2))
            }
            Padding::Even(p) => {
                let padded = p.checked_mul(2)?.checked_add(size)?;
                Some((padded.checked_sub(self.kernel)?.checked_div(self.stride)? + 1, p))
            }
        }
    }
}

/// What a node computes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Op {
    /// The picture, `[height, width, channels]`.
    Input {
        /// Channels of the picture.
        channels: usize,
    },
    /// Convolution over all input channels.
    Conv2d {
        /// Kernel, stride, padding.
        window: Window,
        /// Output channels.
        out_channels: usize,
        /// `[out, kernel row, kernel column, in]`.
        #[serde(skip)]
        weight: Weights,
        /// One an output channel.
        #[serde(skip)]
        bias: Vec<f32>,
        /// Applied to the sum.
        activation: Activation,
    },
    /// Convolution of each channel with its own kernel.
    DepthwiseConv2d {
        /// Kernel, stride, padding.
        window: Window,
        /// `[kernel row, kernel column, channel]`.
        #[serde(skip)]
        weight: Weights,
        /// One a channel.
        #[serde(skip)]
        bias: Vec<f32>,
        /// Applied to the sum.
        activation: Activation,
    },
    /// Largest value of each window.
    MaxPool {
        /// Kernel, stride, padding.
        window: Window,
    },
    /// Sum of two maps of one shape.
    Add {
        /// Applied to the sum.
        activation: Activation,
    },
}

/// One step of the computation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// For messages: the layer's name in the weight file.
    pub name: String,
    /// What it computes.
    pub op: Op,
    /// Nodes it reads, all before it.
    pub inputs: Vec<NodeId>,
    /// Weights as the kernels want them; shared by all plans of this node.
    #[serde(skip)]
    pub(crate) packed: PackCache,
}

/// A network: nodes in order of computation, and the maps that a caller may ask for, by name.
///
/// Serialised it is its structure alone; [`Graph::tensors`] are the weights, and [`Graph::with_tensors`] joins
/// the two again and validates what comes from a file.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Graph {
    /// Shared: a part of a network, or a second picture size of it, costs no second copy of the weights.
    nodes: Vec<Arc<Node>>,
    outputs: Vec<(String, NodeId)>,
}

impl Graph {
    /// A graph that begins with a picture of `channels` channels (node 0).
    #[must_use]
    pub fn new(channels: usize) -> Self {
        let op = Op::Input { channels };
        let input = Node { name: "input".into(), op, inputs: vec![], packed: PackCache::default() };
        Self { nodes: vec![Arc::new(input)], outputs: vec![] }
    }

    /// Adds a node.
    ///
    /// # Errors
    /// If it reads a node that is not before it, or the number of inputs is wrong for its operation.
    pub fn push(&mut self, name: impl Into<String>, op: Op, inputs: &[NodeId]) -> Result<NodeId> {
        let name = name.into();
        let expected = match op {
            Op::Input { .. } => 0,
            Op::Add { .. } => 2,
            _ => 1,
        };
        if inputs.len() != expected || inputs.iter().any(|&i| i >= self.nodes.len()) {
            return Err(Error::shape(format!(
                "node `{name}`: expected {expected} earlier nodes as inputs, found {inputs:?}"
            )));
        }
        self.nodes.push(Arc::new(Node { name, op, inputs: inputs.to_vec(), packed: PackCache::default() }));
        Ok(self.nodes.len() - 1)
    }

    /// Names the map of `node` as an output.
    ///
    /// # Errors
    /// If there is no such node or the name is taken.
    pub fn name_output(&mut self, name: impl Into<String>, node: NodeId) -> Result<()> {
        let name = name.into();
        if node >= self.nodes.len() || self.outputs.iter().any(|(n, _)| *n == name) {
            return Err(Error::shape(format!(
                "output `{name}`: node {node} is missing or the name is taken"
            )));
        }
        self.outputs.push((name, node));
        Ok(())
    }

    /// The same network with only the named outputs, in the order asked for, and without the nodes they do not need.
    ///
    /// # Errors
    /// If a name is unknown; the message lists what there is.
    pub fn select(&self, names: &[&str]) -> Result<Self> {
        let mut outputs = Vec::new();
        for &name in names {
            let Some(found) = self.outputs.iter().find(|(n, _)| n == name) else {
                let known: Vec<&str> = self.outputs.iter().map(|(n, _)| n.as_str()).collect();
                return Err(Error::shape(format!(
                    "feature layer `{name}`: expected one of {}",
                    known.join(", ")
                )));
            };
            outputs.push(found.clone());
        }
        let mut needed = vec![false; self.nodes.len()];
        needed[0] = true;
        for (_, id) in &outputs {
            needed[*id] = true;
        }
        for id in (0..self.nodes.len()).rev() {
            if needed[id] {
                for &i in &self.nodes[id].inputs {
                    needed[i] = true;
                }
            }
        }
        let mut renumbered = vec![usize::MAX; self.nodes.len()];
        let mut nodes = Vec::new();
        for (id, node) in self.nodes.iter().enumerate().filter(|(id, _)| needed[*id]) {
            renumbered[id] = nodes.len();
            let inputs: Vec<NodeId> = node.inputs.iter().map(|&i| renumbered[i]).collect();
            let same = inputs == node.inputs;
            nodes.push(if same { node.clone() } else { Arc::new(Node { inputs, ..(**node).clone() }) });
        }
        let outputs = outputs.into_iter().map(|(n, id)| (n, renumbered[id])).collect();
        Ok(Self { nodes, outputs })
    }

    /// The weights, by node name: `NAME.weight` and `NAME.bias`, flat, laid out as [`Op`] says.
    #[must_use]
    pub fn tensors(&self) -> NamedTensors {
        let mut tensors = NamedTensors::new();
        for node in &self.nodes {
            if let Op::Conv2d { weight, bias, .. } | Op::DepthwiseConv2d { weight, bias, .. } = &node.op {
                for (what, data) in [("weight", &**weight), ("bias", bias)] {
                    let tensor = Tensor { shape: vec![data.len()], data: data.to_vec() };
                    tensors.insert(format!("{}.{what}", node.name), tensor);
                }
            }
        }
        tensors
    }

    /// Joins a structure that was read from a file with its weights.
    ///
    /// # Errors
    /// A missing tensor, a node that reads a later one, an output that names no node, or two nodes of one name.
    /// Whether sizes fit is for [`crate::shape::infer`] to find.
    pub fn with_tensors(self, mut tensors: StoredTensors) -> Result<Self> {
        let mut graph = Self::default();
        for (id, node) in self.nodes.into_iter().enumerate() {
            let mut node = Arc::unwrap_or_clone(node);
            if (id == 0) != matches!(node.op, Op::Input { .. }) {
                return Err(Error::shape(format!("node `{}`: the first node alone is the input", node.name)));
            }
            if let Op::Conv2d { weight, bias, .. } | Op::DepthwiseConv2d { weight, bias, .. } = &mut node.op {
                let mut take = |what: &str| {
                    let name = format!("{}.{what}", node.name);
                    let found = tensors.remove(&name).map(|t| t.data);
                    found.ok_or_else(|| Error::format(format!("tensor `{name}` is missing")))
                };
                (*weight, *bias) = (take("weight")?, take("bias")?.to_vec());
            }
            graph.push(node.name, node.op, &node.inputs)?;
        }
        for (name, id) in self.outputs {
            graph.name_output(name, id)?;
        }
        Ok(graph)
    }

    /// Nodes in order of computation.
    #[must_use]
    pub fn nodes(&self) -> &[Arc<Node>] {
        &self.nodes
    }

    /// Named outputs.
    #[must_use]
    pub fn outputs(&self) -> &[(String, NodeId)] {
        &self.outputs
    }
}

/// Trained statistics of a BatchNorm layer, one value a channel.
#[derive(Debug, Clone, Copy)]
pub struct BatchNorm<'a> {
    /// Scale (gamma).
    pub weight: &'a [f32],
    /// Shift (beta).
    pub bias: &'a [f32],
    /// Running mean.
    pub mean: &'a [f32],
    /// Running variance.
    pub var: &'a [f32],
    /// Added to the variance.
    pub eps: f64,
}

/// Folds `y = (conv(x) - mean) / sqrt(var + eps) * weight + bias` into the convolution: returns the scale of each
/// output channel's weights and the bias, computed in float64.
#[must_use]
pub fn fold_batch_norm(bn: BatchNorm<'_>) -> (Vec<f32>, Vec<f32>) {
    (0..bn.weight.len())
        .map(|c| {
            let scale = f64::from(bn.weight[c]) / (f64::from(bn.var[c]) + bn.eps).sqrt();
            (scale as f32, (f64::from(bn.bias[c]) - f64::from(bn.mean[c]) * scale) as f32)
        })
        .unzip()
}
