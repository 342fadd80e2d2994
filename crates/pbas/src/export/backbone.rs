//! The frozen network as ONNX nodes. Its weights stand in the file once, whatever the number of views.

use pbas_nn::graph::{Activation, Graph, Op, Window};
use pbas_nn::shape::{Shape, infer};

use crate::Result;
use crate::onnx::{Attribute, GraphBuilder, Value};
use crate::preprocess::InputSize;

/// A network whose weights are in the graph.
pub(super) struct Network {
    graph: Graph,
    /// Weight `[out, in / groups, row, column]` and bias of each node that has them.
    weights: Vec<Option<[Value; 2]>>,
}

impl Network {
    /// Puts the weights of `graph` into the file.
    pub(super) fn new(b: &mut GraphBuilder, graph: Graph) -> Self {
        b.scope("backbone");
        let weights = graph.nodes().iter().map(|node| {
            let (weight, bias, shape) = match &node.op {
                Op::Conv2d { window, out_channels, weight, bias, .. } => {
                    let inner = weight.len() / (out_channels * window.kernel * window.kernel);
                    let weight = channels_first(weight, *out_channels, window.kernel, inner);
                    (weight, bias, [*out_channels, inner, window.kernel, window.kernel])
                }
                Op::DepthwiseConv2d { window, weight, bias, .. } => {
                    let channels = bias.len();
                    let weight = channels_first(weight, 1, window.kernel, channels);
                    (weight, bias, [channels, 1, window.kernel, window.kernel])
                }
                Op::Input { .. } | Op::MaxPool { .. } | Op::Add { .. } => return None,
            };
            let weight = b.floats(&format!("{}.weight", node.name), &shape, &weight);
            Some([weight, b.floats(&format!("{}.bias", node.name), &[bias.len()], bias)])
        });
        let weights = weights.collect();
        Self { graph, weights }
    }

    /// The maps of the named layers, `[batch, channels, height, width]`, for a normalised picture of a size,
    /// `[batch, 3, height, width]`, in the current scope.
    ///
    /// # Errors
    /// A size that the network cannot take.
    pub(super) fn run(&self, b: &mut GraphBuilder, picture: &Value, size: InputSize) -> Result<Vec<Value>> {
        let shapes = infer(&self.graph, size.height, size.width)?;
        let mut maps: Vec<Value> = Vec::new();
        for (node, weights) in self.graph.nodes().iter().zip(&self.weights) {
            let input = node.inputs.first().map(|&i| (&maps[i], shapes[i]));
            let name = node.name.as_str();
            let (sum, activation) = match (&node.op, input) {
                (Op::Input { .. }, _) | (_, None) => (picture.clone(), Activation::None),
                (Op::Conv2d { window, activation, .. }, Some((map, shape))) => {
                    (convolution(b, name, map, shape, window, weights, 1), *activation)
                }
                (Op::DepthwiseConv2d { window, activation, .. }, Some((map, shape))) => {
                    (convolution(b, name, map, shape, window, weights, shape.channels), *activation)
                }
                (Op::MaxPool { window }, Some((map, shape))) => {
                    (windowed(b, name, "MaxPool", &[map], shape, window, None), Activation::None)
                }
                (Op::Add { activation }, Some((map, _))) => {
                    (b.node(name, "Add", &[map, &maps[node.inputs[1]]], &[]), *activation)
                }
            };
            maps.push(activate(b, sum, activation));
        }
        Ok(self.graph.outputs().iter().map(|(_, node)| maps[*node].clone()).collect())
    }
}

/// `[outer, row, column, inner]` -> `[outer, inner, row, column]`.
fn channels_first(weight: &[f32], outer: usize, kernel: usize, inner: usize) -> Vec<f32> {
    let taps = kernel * kernel;
    let mut out = Vec::with_capacity(weight.len());
    for o in 0..outer {
        for i in 0..inner {
            out.extend((0..taps).map(|k| weight[(o * taps + k) * inner + i]));
        }
    }
    out
}

fn convolution(
    b: &mut GraphBuilder,
    name: &str,
    map: &Value,
    shape: Shape,
    window: &Window,
    weights: &Option<[Value; 2]>,
    groups: usize,
) -> Value {
    let mut inputs = vec![map];
    inputs.extend(weights.iter().flatten());
    windowed(b, name, "Conv", &inputs, shape, window, Some(groups))
}

/// A node that slides a window, with the padding written out for this size.
fn windowed(
    b: &mut GraphBuilder,
    name: &str,
    op: &str,
    inputs: &[&Value],
    shape: Shape,
    window: &Window,
    groups: Option<usize>,
) -> Value {
    let [top, bottom] = padding(window, shape.height);
    let [left, right] = padding(window, shape.width);
    let (kernel, stride) = (window.kernel as i64, window.stride as i64);
    let (kernel, stride, pads) = ([kernel; 2], [stride; 2], [top, left, bottom, right]);
    let mut attributes = vec![
        ("kernel_shape", Attribute::Ints(&kernel)),
        ("strides", Attribute::Ints(&stride)),
        ("pads", Attribute::Ints(&pads)),
    ];
    attributes.extend(groups.map(|n| ("group", Attribute::Int(n as i64))));
    b.node(name, op, inputs, &attributes)
}

/// Rows before and after an axis of `size`, such that there are as many outputs as the window says.
fn padding(window: &Window, size: usize) -> [i64; 2] {
    let (out, before) = window.along(size).unwrap_or((1, 0));
    let reach = (out.saturating_sub(1) * window.stride + window.kernel).saturating_sub(size);
    [before as i64, reach.saturating_sub(before) as i64]
}

fn activate(b: &mut GraphBuilder, sum: Value, activation: Activation) -> Value {
    match activation {
        Activation::None => sum,
        Activation::Relu => b.node("relu", "Relu", &[&sum], &[]),
        Activation::Relu6 => {
            let (low, high) = (b.float("zero", 0.0), b.float("six", 6.0));
            b.node("relu6", "Clip", &[&sum, &low, &high], &[])
        }
    }
}
