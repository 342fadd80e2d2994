//! ResNet: ResNet18, 34, 50, 101, 152, WideResNet50-2, WideResNet101-2 and whatever lies between them. Widths, depths and
//! the kind of block are read from the tensors (names as in torchvision, and as in timm for the same networks: `conv1`,
//! `bn1`, `layer1.0.conv1`, `layer1.0.downsample.0`, ...).
//!
//! In bottlenecks the 3 x 3 convolution has the stride, as torchvision and timm have it, not the first 1 x 1 as in the paper.
//!
//! Source: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016; Zagoruyko and Komodakis, "Wide Residual
//! Networks", BMVC 2016.

use std::collections::BTreeSet;

use pbas_nn::graph::{Activation, Graph, NodeId, Op, Padding, Window};
use pbas_nn::weights::NamedTensors;

use super::folded::{folded, tensor};
use crate::{Error, Result};

/// Added to the variance in every BatchNorm.
const BATCH_NORM_EPS: f64 = 1e-5;
/// Name, whether blocks are bottlenecks, blocks of each layer, width of the first block.
const KNOWN: [(&str, bool, [usize; 4], usize); 7] = [
    ("resnet18", false, [2, 2, 2, 2], 64),
    ("resnet34", false, [3, 4, 6, 3], 64),
    ("resnet50", true, [3, 4, 6, 3], 64),
    ("resnet101", true, [3, 4, 23, 3], 64),
    ("resnet152", true, [3, 8, 36, 3], 64),
    ("wide_resnet50_2", true, [3, 4, 6, 3], 128),
    ("wide_resnet101_2", true, [3, 4, 23, 3], 128),
];

/// The network up to the last layer whose tensors are there, and its name. Outputs: `layer1` .. `layer4`, each a half of
/// the size of the one before; `layer1` has a quarter of the picture's.
pub(super) fn build(tensors: &NamedTensors) -> Result<(Graph, String)> {
    let mut builder = Builder { tensors, graph: Graph::new(3), used: BTreeSet::new() };
    let stem = builder.convolution(["conv1", "bn1"], 0, 2, Activation::Relu)?;
    let window = Window { kernel: 3, stride: 2, padding: Padding::Even(1) };
    let mut at = builder.graph.push("maxpool", Op::MaxPool { window }, &[stem])?;
    let mut depths = Vec::new();
    for layer in (1..=4).map(|n| format!("layer{n}")) {
        let mut depth = 0;
        while tensors.contains_key(&format!("{layer}.{depth}.conv1.weight")) {
            let stride = if depth == 0 && layer != "layer1" { 2 } else { 1 };
            at = builder.block(&format!("{layer}.{depth}"), at, stride)?;
            depth += 1;
        }
        if depth == 0 {
            break;
        }
        builder.graph.name_output(layer, at)?;
        depths.push(depth);
    }
    builder.nothing_is_left()?;
    Ok((builder.graph, variant(tensors, &depths)?.to_owned()))
}

/// The one known network that these layers are the beginning of.
fn variant(tensors: &NamedTensors, depths: &[usize]) -> Result<&'static str> {
    let width = tensor(tensors, "layer1.0.conv1.weight")?.shape[0];
    let bottleneck = tensors.contains_key("layer1.0.conv3.weight");
    let mut fitting =
        KNOWN.iter().filter(|(_, b, d, w)| (*b, *w) == (bottleneck, width) && d[..depths.len()] == *depths);
    Ok(match (fitting.next(), fitting.next()) {
        (Some((name, ..)), None) => name,
        _ => "resnet",
    })
}

struct Builder<'t> {
    tensors: &'t NamedTensors,
    graph: Graph,
    /// Layers whose tensors are part of the graph.
    used: BTreeSet<String>,
}

impl Builder<'_> {
    /// A basic block (two 3 x 3 convolutions) or, where there is a third, a bottleneck (1 x 1, 3 x 3, 1 x 1).
    fn block(&mut self, block: &str, input: NodeId, stride: usize) -> Result<NodeId> {
        let part = |n: usize| [format!("{block}.conv{n}"), format!("{block}.bn{n}")];
        let bottleneck = self.tensors.contains_key(&format!("{block}.conv3.weight"));
        let strides: &[usize] = if bottleneck { &[1, stride, 1] } else { &[stride, 1] };
        let mut at = input;
        for (n, &stride) in (1..).zip(strides) {
            let activation = if n == strides.len() { Activation::None } else { Activation::Relu };
            let [conv, bn] = part(n);
            at = self.convolution([&conv, &bn], at, stride, activation)?;
        }
        let downsample = [0, 1].map(|n| format!("{block}.downsample.{n}"));
        let shortcut = if self.tensors.contains_key(&format!("{}.weight", downsample[0])) {
            let [conv, bn] = &downsample;
            self.convolution([conv, bn], input, stride, Activation::None)?
        } else {
            input
        };
        let add = Op::Add { activation: Activation::Relu };
        Ok(self.graph.push(format!("{block}.add"), add, &[at, shortcut])?)
    }

    fn convolution(
        &mut self,
        [conv, bn]: [&str; 2],
        input: NodeId,
        stride: usize,
        activation: Activation,
    ) -> Result<NodeId> {
        let layer = folded(self.tensors, conv, bn, BATCH_NORM_EPS)?;
        if layer.kernel % 2 == 0 {
            return Err(Error::input(format!(
                "tensor `{conv}.weight`: expected an odd kernel, found one of {0} x {0}",
                layer.kernel
            )));
        }
        self.used.extend([conv.to_owned(), bn.to_owned()]);
        let window = Window { kernel: layer.kernel, stride, padding: Padding::Even(layer.kernel / 2) };
        let op = Op::Conv2d {
            window,
            out_channels: layer.out,
            weight: layer.weight.into(),
            bias: layer.bias,
            activation,
        };
        Ok(self.graph.push(conv, op, &[input])?)
    }

    /// A network with more parts than these (attention, other stems) would give other features than it was trained for.
    fn nothing_is_left(&self) -> Result<()> {
        let left = self.tensors.keys().find(|name| {
            let layer = name.rsplit_once('.').map_or(name.as_str(), |(layer, _)| layer);
            layer != "fc" && !self.used.contains(layer)
        });
        match left {
            None => Ok(()),
            Some(name) => Err(Error::unsupported(format!(
                "tensor `{name}`: expected those of a plain ResNet (`conv1`, `bn1`, `layerN.M.convK`, `layerN.M.bnK`, \
                 `layerN.M.downsample`, `fc`) alone"
            ))),
        }
    }
}
