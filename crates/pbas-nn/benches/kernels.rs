//! The engine's kernels on maps as the backbones have them, one thread: `cargo bench -p pbas-nn`.

#![allow(missing_docs)] // What criterion makes of the list at the end has none.

#[path = "../tests/common/mod.rs"]
mod common;

use std::hint::black_box;

use common::values;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pbas_nn::Precision;
use pbas_nn::engine::cpu::{Plan, Workspace};
use pbas_nn::graph::{Activation, Graph, Op, Padding, Window};
use pbas_nn::linalg::{NearRows, Threads};
use pbas_nn::vectorized;

/// Name, kernel, stride, channels in, channels out, side of the map. 3 x 3 of stride 1 is by Winograd's algorithm.
const CONVOLUTIONS: [(&str, [usize; 4], usize); 6] = [
    ("stem 7x7", [7, 2, 3, 64], 288),
    ("1x1", [1, 1, 512, 256], 36),
    ("1x1, rows a page apart", [1, 1, 1024, 512], 18),
    ("3x3 stride 2", [3, 2, 256, 256], 72),
    ("3x3, tiles of 4", [3, 1, 128, 128], 72),
    ("3x3, tiles of 3", [3, 1, 512, 512], 18),
];

fn kernels(c: &mut Criterion) {
    for (name, [kernel, stride, from, to], side) in CONVOLUTIONS {
        let op = conv(window(kernel, stride, Padding::Even(kernel / 2)), from, to, 1.0, Activation::Relu, 1);
        time(c, name, op, from, side, kernel * kernel * from);
    }
    let (kernel, channels) = (5, 240);
    let deep = Op::DepthwiseConv2d {
        window: window(kernel, 1, Padding::Same),
        weight: values(kernel * kernel * channels, 1).into(),
        bias: values(channels, 2),
        activation: Activation::Relu6,
    };
    time(c, "depthwise 5x5", deep, channels, 36, kernel * kernel);
    time(c, "max pool 3x3", Op::MaxPool { window: window(3, 2, Padding::Even(1)) }, 64, 144, 9);
}

/// Distances to 100 of 667 rows of 344 entries, and the same by a loop that the compiler vectorizes.
fn distances(c: &mut Criterion) {
    const DIM: usize = 344;
    let (rows, x) = (values(667 * DIM, 1), values(DIM, 2));
    let candidates: Vec<usize> = (0..667).step_by(6).take(100).collect();
    let mut group = c.benchmark_group("kernels");
    group.throughput(Throughput::Elements((candidates.len() * DIM) as u64));
    let laid_out = NearRows::new(&rows, DIM).expect("an instruction set of this processor");
    group.bench_function("distances", |b| {
        let mut padded = Vec::new();
        b.iter(|| {
            laid_out.lay_out(&x, &mut padded);
            black_box(laid_out.nearest(&padded, &candidates, (f32::INFINITY, 0), |_, _| true))
        });
    });
    group.bench_function("distances, a loop", |b| {
        let distance = |i: usize| {
            let mut sums = [0.0f32; 8];
            for (a, b) in x.chunks_exact(8).zip(rows[i * DIM..(i + 1) * DIM].chunks_exact(8)) {
                for lane in 0..8 {
                    sums[lane] += (a[lane] - b[lane]) * (a[lane] - b[lane]);
                }
            }
            sums.iter().sum::<f32>()
        };
        b.iter(|| {
            vectorized!(black_box(candidates.iter().map(|&i| distance(i)).fold(f32::INFINITY, f32::min)))
        });
    });
    group.finish();
}

/// `work`: multiply-adds (or comparisons) an output, as direct computation has them.
fn time(c: &mut Criterion, name: &str, op: Op, channels: usize, side: usize, work: usize) {
    let mut graph = Graph::new(channels);
    let node = graph.push("node", op, &[0]).expect("a sound node");
    graph.name_output("out", node).expect("a new name");
    let plan = Plan::new(graph, side, side, Precision::F32).expect("a sound graph");
    let picture = values(plan.input_shape().len(), 3);
    let mut workspace = Workspace::default();
    let outputs = plan.output_shapes().map(|s| s.len()).sum::<usize>();
    let mut group = c.benchmark_group("kernels");
    group.sample_size(20).throughput(Throughput::Elements((outputs * work) as u64));
    group.bench_function(name, |b| {
        b.iter(|| {
            plan.run(&mut workspace, &picture, Threads::One).expect("a picture of the plan's size");
            black_box(plan.output(&workspace, 0)[0])
        });
    });
    group.finish();
}

/// A convolution with He's deviation, times `scale`.
fn conv(window: Window, from: usize, to: usize, scale: f32, activation: Activation, seed: u32) -> Op {
    let fan = from * window.kernel * window.kernel;
    // Even numbers between -1 and 1 have a variance of a third.
    let scale = scale * (6.0 / fan as f32).sqrt();
    let weight: Vec<f32> = values(to * fan, seed).into_iter().map(|v| v * scale).collect();
    Op::Conv2d { window, out_channels: to, weight: weight.into(), bias: values(to, seed + 1), activation }
}

fn window(kernel: usize, stride: usize, padding: Padding) -> Window {
    Window { kernel, stride, padding }
}

criterion_group!(benches, kernels, distances);
criterion_main!(benches);
