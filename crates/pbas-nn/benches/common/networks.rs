//! Graphs of the published shapes with random weights: for speed their values do not matter much, as long as maps keep
//! their size from block to block.
#![allow(dead_code)] // Each user needs its part.

use pbas_nn::graph::{Activation, Graph, NodeId, Op, Padding, Window};

/// A network by its name: `wide_resnet50_2` and `resnet18` (to layer3) and `efficientnet_lite0` (to 112 channels).
pub fn network(name: &str) -> Option<Graph> {
    match name {
        "wide_resnet50_2" => Some(resnet(true, &[3, 4, 6], 128)),
        "resnet18" => Some(resnet(false, &[2, 2, 2], 64)),
        "efficientnet_lite0" => Some(lite0()),
        _ => None,
    }
}

/// Numbers evenly between -1 and 1.
pub fn values(n: usize, seed: u32) -> Vec<f32> {
    let mut s = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    (0..n)
        .map(|_| {
            s = s.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (s >> 8) as f32 / 8_388_608.0 - 1.0
        })
        .collect()
}

/// A convolution with He's deviation, times `scale`.
pub fn conv(window: Window, from: usize, to: usize, scale: f32, activation: Activation, seed: u32) -> Op {
    let fan = from * window.kernel * window.kernel;
    // Even numbers between -1 and 1 have a variance of a third.
    let scale = scale * (6.0 / fan as f32).sqrt();
    let weight: Vec<f32> = values(to * fan, seed).into_iter().map(|v| v * scale).collect();
    Op::Conv2d { window, out_channels: to, weight: weight.into(), bias: values(to, seed + 1), activation }
}

pub fn window(kernel: usize, stride: usize, padding: Padding) -> Window {
    Window { kernel, stride, padding }
}

struct Builder {
    graph: Graph,
    padding: fn(usize) -> Padding,
}

impl Builder {
    fn push(&mut self, op: Op, inputs: &[NodeId]) -> NodeId {
        let name = format!("node{}", self.graph.nodes().len());
        self.graph.push(name, op, inputs).expect("a sound node")
    }

    fn conv(
        &mut self,
        at: NodeId,
        [kernel, stride, from, to]: [usize; 4],
        scale: f32,
        activation: Activation,
    ) -> NodeId {
        let window = window(kernel, stride, (self.padding)(kernel));
        let op = conv(window, from, to, scale, activation, at as u32);
        self.push(op, &[at])
    }
}

fn resnet(bottleneck: bool, depths: &[usize], width: usize) -> Graph {
    use Activation::{None, Relu};
    let mut b = Builder { graph: Graph::new(3), padding: |kernel| Padding::Even(kernel / 2) };
    let stem = b.conv(0, [7, 2, 3, 64], 1.0, Relu);
    let mut at = b.push(Op::MaxPool { window: window(3, 2, Padding::Even(1)) }, &[stem]);
    let mut from = 64;
    for (layer, &depth) in depths.iter().enumerate() {
        let inner = width << layer;
        let to = if bottleneck { 256 << layer } else { inner };
        for block in 0..depth {
            let stride = if block == 0 && layer > 0 { 2 } else { 1 };
            let mut inside = at;
            if bottleneck {
                inside = b.conv(inside, [1, 1, from, inner], 1.0, Relu);
                inside = b.conv(inside, [3, stride, inner, inner], 1.0, Relu);
                inside = b.conv(inside, [1, 1, inner, to], 0.5, None);
            } else {
                inside = b.conv(inside, [3, stride, from, inner], 1.0, Relu);
                inside = b.conv(inside, [3, 1, inner, to], 0.5, None);
            }
            let shortcut = if from == to { at } else { b.conv(at, [1, stride, from, to], 0.7, None) };
            at = b.push(Op::Add { activation: Relu }, &[inside, shortcut]);
            from = to;
        }
        if layer > 0 {
            b.graph.name_output(format!("layer{}", layer + 1), at).expect("a new name");
        }
    }
    b.graph
}

/// Stages of EfficientNet-Lite0: kernel, stride, expansion, channels, repeats.
const LITE0: [[usize; 5]; 5] =
    [[3, 1, 1, 16, 1], [3, 2, 6, 24, 2], [5, 2, 6, 40, 2], [3, 2, 6, 80, 3], [5, 1, 6, 112, 3]];

fn lite0() -> Graph {
    use Activation::{None, Relu6};
    let mut b = Builder { graph: Graph::new(3), padding: |_| Padding::Same };
    let (mut at, mut from) = (b.conv(0, [3, 2, 3, 32], 1.0, Relu6), 32);
    for (stage, [kernel, stride, expansion, to, repeats]) in LITE0.into_iter().enumerate() {
        for n in 0..repeats {
            let (start, wide, stride) = (at, from * expansion, if n == 0 { stride } else { 1 });
            if expansion > 1 {
                at = b.conv(at, [1, 1, from, wide], 1.0, Relu6);
            }
            let deep = Op::DepthwiseConv2d {
                window: window(kernel, stride, Padding::Same),
                weight: values(kernel * kernel * wide, at as u32).into(),
                bias: values(wide, at as u32 + 1),
                activation: Relu6,
            };
            at = b.push(deep, &[at]);
            at = b.conv(at, [1, 1, wide, to], 0.5, None);
            if n > 0 {
                at = b.push(Op::Add { activation: None }, &[at, start]);
            }
            from = to;
        }
        if stage == 2 || stage == 4 {
            b.graph.name_output(format!("stage{stage}"), at).expect("a new name");
        }
    }
    b.graph
}
