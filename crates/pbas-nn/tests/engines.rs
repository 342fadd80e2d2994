//! Every operation of the CPU engine against its slow twin, over a table of shapes.

mod common;

use common::values;
use pbas_nn::Precision;
use pbas_nn::engine::{cpu, reference};
use pbas_nn::graph::{Activation, BatchNorm, Graph, Op, Padding, Window, fold_batch_norm};
use pbas_nn::linalg::Threads;
use pbas_nn::shape::{Shape, infer};
use pbas_nn::simd::Isa;
use pbas_nn::weights::Weights;

fn agree(graph: &Graph, height: usize, width: usize, channels: usize) {
    let input = values(height * width * channels, 9);
    let slow = reference::run(graph, &input, height, width).unwrap();
    for precision in Precision::ALL {
        let mut imitated: Option<Vec<Vec<f32>>> = None;
        for isa in Isa::all() {
            let found = agree_on(isa, precision, graph, [height, width], &input, &slow);
            if precision == Precision::F32 {
                continue;
            }
            // The instructions of bfloat16 and what imitates them differ in nothing.
            if isa.has_bf16() {
                assert_eq!(imitated.as_ref(), Some(&found), "{height} x {width}");
            }
            imitated = Some(found);
        }
    }
}

/// Largest difference of a value from its twin in float64, in units of the map's largest, for up to four nodes in a row; in
/// longer networks rounding adds up in proportion.
fn tolerance(precision: Precision) -> f32 {
    match precision {
        Precision::F32 => 1e-5,
        Precision::Bf16 => 3e-2,
    }
}

fn agree_on(
    isa: Isa,
    precision: Precision,
    graph: &Graph,
    [height, width]: [usize; 2],
    input: &[f32],
    slow: &[(Shape, Vec<f32>)],
) -> Vec<Vec<f32>> {
    let tolerance = tolerance(precision) * (graph.nodes().len() as f32 / 4.0).max(1.0);
    let plan = cpu::Plan::for_isa(graph.clone(), height, width, precision, isa).unwrap();
    let what = format!("{height} x {width}, {precision}, {}", isa.name());
    agrees(&plan, tolerance, input, slow, &what)
}

fn agrees(
    plan: &cpu::Plan,
    tolerance: f32,
    input: &[f32],
    slow: &[(Shape, Vec<f32>)],
    what: &str,
) -> Vec<Vec<f32>> {
    let mut workspace = cpu::Workspace::default();
    let mut first: Vec<Vec<f32>> = Vec::new();
    for threads in [Threads::One, Threads::All] {
        plan.run(&mut workspace, input, threads).unwrap();
        for (n, (shape, expected)) in slow.iter().enumerate() {
            assert_eq!(plan.output_shapes().nth(n), Some(*shape));
            let found = plan.output(&workspace, n);
            let scale = expected.iter().fold(1e-3f32, |m, v| m.max(v.abs()));
            for (f, e) in found.iter().zip(expected) {
                assert!((f - e).abs() <= tolerance * scale, "{f} {e} in output {n} of {what}");
            }
            if threads == Threads::One {
                first.push(found.to_vec());
            } else {
                assert_eq!(first[n], found, "threads changed output {n} of {what}");
            }
        }
    }
    first
}

const WINDOWS: [(usize, usize, Padding); 9] = [
    (1, 1, Padding::Even(0)),
    (1, 2, Padding::Even(0)),
    (3, 1, Padding::Even(1)),
    (3, 2, Padding::Even(1)),
    (3, 1, Padding::Same),
    (3, 2, Padding::Same),
    (5, 1, Padding::Same),
    (5, 2, Padding::Same),
    (7, 2, Padding::Even(3)),
];
const SIZES: [(usize, usize); 5] = [(7, 7), (8, 13), (24, 33), (1, 9), (40, 40)];

#[test]
fn convolution_agrees_with_its_twin() {
    for (kernel, stride, padding) in WINDOWS {
        for (h, w) in SIZES {
            for (c, o, activation) in
                // The last with whole vectors of every instruction set on both sides: by Winograd's algorithm, where the window is
                // 3 x 3 of stride 1.
                [
                    (3, 5, Activation::Relu6),
                    (16, 24, Activation::None),
                    (33, 7, Activation::Relu),
                    (32, 48, Activation::Relu6),
                ]
            {
                let window = Window { kernel, stride, padding };
                let mut g = Graph::new(c);
                let weight = values(o * kernel * kernel * c, 4).into();
                let op = Op::Conv2d { window, out_channels: o, weight, bias: values(o, 5), activation };
                let n = g.push("conv", op, &[0]).unwrap();
                g.name_output("out", n).unwrap();
                agree(&g, h, w, c);
            }
        }
    }
}

/// Sizes for which other tiles of Winograd's algorithm, or none, are fastest: the plan's own are kept.
#[test]
fn a_resized_plan_agrees_with_its_twin() {
    let window = Window { kernel: 3, stride: 1, padding: Padding::Even(1) };
    let mut g = Graph::new(16);
    let weight = scaled(9 * 16, 32, 4);
    let op =
        Op::Conv2d { window, out_channels: 32, weight, bias: values(32, 5), activation: Activation::Relu };
    let n = g.push("conv", op, &[0]).unwrap();
    g.name_output("out", n).unwrap();
    for (height, width) in [(18, 18), (8, 8), (16, 12), (1, 9)] {
        let plan = cpu::Plan::new(g.clone(), height, width, Precision::F32).unwrap();
        for (h, w) in [(18, 18), (4, 4), (1, 1), (7, 30)] {
            let input = values(h * w * 16, 9);
            let slow = reference::run(&g, &input, h, w).unwrap();
            let resized = plan.resized(h, w).unwrap();
            agrees(&resized, 1e-5, &input, &slow, &format!("{height} x {width} made {h} x {w}"));
        }
    }
}

#[test]
fn depthwise_agrees_with_its_twin() {
    for (kernel, stride, padding) in WINDOWS {
        for (h, w) in SIZES {
            for c in [3, 32, 77] {
                let window = Window { kernel, stride, padding };
                let mut g = Graph::new(c);
                let weight = values(kernel * kernel * c, 4).into();
                let op =
                    Op::DepthwiseConv2d { window, weight, bias: values(c, 5), activation: Activation::Relu6 };
                let n = g.push("depthwise", op, &[0]).unwrap();
                g.name_output("out", n).unwrap();
                agree(&g, h, w, c);
            }
        }
    }
}

/// Weights of `fan` inputs and `to` outputs that keep the deviation of values.
fn scaled(fan: usize, to: usize, seed: u32) -> Weights {
    let scale = (3.0 / fan as f32).sqrt();
    values(fan * to, seed).into_iter().map(|v| v * scale).collect::<Vec<_>>().into()
}

/// Inverted bottlenecks as compact networks have them, with and without what may be fused around the depthwise
/// convolution, on maps large (bands of lines) and small (slices of channels).
#[test]
fn fused_blocks_agree_with_their_twin() {
    let conv = |kernel, stride, from: usize, to: usize, seed, activation| Op::Conv2d {
        window: Window { kernel, stride, padding: Padding::Same },
        out_channels: to,
        weight: scaled(kernel * kernel * from, to, seed),
        bias: values(to, seed + 1),
        activation,
    };
    for (kernel, stride, padding) in WINDOWS {
        for (h, w, wide) in [(96, 31, 32), (9, 11, 48), (64, 40, 24), (1, 9, 16), (33, 70, 96)] {
            let mut g = Graph::new(3);
            let stem = g.push("stem", conv(3, 2, 3, wide, 1, Activation::Relu6), &[0]).unwrap();
            let deep = |seed| Op::DepthwiseConv2d {
                window: Window { kernel, stride, padding },
                weight: scaled(kernel * kernel, wide, seed),
                bias: values(wide, seed + 1),
                activation: Activation::Relu6,
            };
            let one = g.push("one", deep(3), &[stem]).unwrap();
            let narrow = g.push("narrow", conv(1, 1, wide, 12, 5, Activation::None), &[one]).unwrap();
            g.name_output("narrow", narrow).unwrap();
            let same = |seed| Op::DepthwiseConv2d {
                window: Window { kernel: 3, stride: 1, padding: Padding::Same },
                weight: scaled(9, wide, seed),
                bias: values(wide, seed + 1),
                activation: Activation::Relu6,
            };
            let expand = g.push("expand", conv(1, 1, 12, wide, 7, Activation::Relu6), &[narrow]).unwrap();
            let two = g.push("two", same(9), &[expand]).unwrap();
            let project = g.push("project", conv(1, 1, wide, 12, 11, Activation::None), &[two]).unwrap();
            let add = g.push("add", Op::Add { activation: Activation::Relu }, &[narrow, project]).unwrap();
            // Read twice: neither map may vanish into a block. The last depthwise ends a block of its own.
            let wider = g.push("wider", conv(1, 1, 12, wide, 13, Activation::None), &[add]).unwrap();
            let three = g.push("three", same(15), &[wider]).unwrap();
            let sum = g.push("sum", Op::Add { activation: Activation::None }, &[three, wider]).unwrap();
            let four = g.push("four", same(17), &[sum]).unwrap();
            g.name_output("four", four).unwrap();
            agree(&g, h, w, 3);
        }
    }
}

/// Basic blocks of a residual network, on maps that tiles of two, three and four outputs a side fit, well or badly.
#[test]
fn residual_blocks_agree_with_their_twin() {
    let conv = |kernel, stride, from: usize, to: usize, seed, activation| Op::Conv2d {
        window: Window { kernel, stride, padding: Padding::Even(kernel / 2) },
        out_channels: to,
        weight: scaled(kernel * kernel * from, to, seed),
        bias: values(to, seed + 1),
        activation,
    };
    for (h, w) in [(18, 18), (36, 20), (5, 33), (2, 2), (1, 1), (47, 50)] {
        let mut g = Graph::new(16);
        let one = g.push("one", conv(3, 1, 16, 16, 1, Activation::Relu), &[0]).unwrap();
        let two = g.push("two", conv(3, 1, 16, 16, 3, Activation::None), &[one]).unwrap();
        let sum = g.push("sum", Op::Add { activation: Activation::Relu }, &[two, 0]).unwrap();
        g.name_output("sum", sum).unwrap();
        let half = g.push("half", conv(3, 2, 16, 80, 5, Activation::Relu), &[sum]).unwrap();
        let wide = g.push("wide", conv(3, 1, 80, 80, 7, Activation::None), &[half]).unwrap();
        let short = g.push("short", conv(1, 2, 16, 80, 9, Activation::None), &[sum]).unwrap();
        let end = g.push("end", Op::Add { activation: Activation::Relu }, &[short, wide]).unwrap();
        g.name_output("end", end).unwrap();
        agree(&g, h, w, 16);
    }
}

#[test]
fn pooling_adding_and_buffer_reuse_agree() {
    let window = Window { kernel: 3, stride: 2, padding: Padding::Even(1) };
    let same = Window { kernel: 1, stride: 1, padding: Padding::Even(0) };
    let conv = |seed| Op::Conv2d {
        window: same,
        out_channels: 6,
        weight: values(36, seed).into(),
        bias: values(6, seed + 1),
        activation: Activation::Relu,
    };
    let mut g = Graph::new(6);
    let pooled = g.push("pool", Op::MaxPool { window }, &[0]).unwrap();
    g.name_output("pooled", pooled).unwrap();
    let mut at = pooled;
    for i in 0..5 {
        let a = g.push(format!("a{i}"), conv(10 * i), &[at]).unwrap();
        let b = g.push(format!("b{i}"), conv(10 * i + 3), &[a]).unwrap();
        at = g.push(format!("add{i}"), Op::Add { activation: Activation::Relu }, &[b, at]).unwrap();
        g.name_output(format!("stage{i}"), at).unwrap();
    }
    agree(&g, 19, 22, 6);
    let cut = g.select(&["stage1", "pooled"]).unwrap();
    assert!(cut.nodes().len() < g.nodes().len());
    agree(&cut, 19, 22, 6);
    let message = g.select(&["stage9"]).unwrap_err().to_string();
    assert!(message.contains("stage9") && message.contains("stage4"), "{message}");
}

#[test]
fn folding_batch_norm_is_exact() {
    let (w, b, m) = (values(4, 1), values(4, 2), values(4, 3));
    let v: Vec<f32> = values(4, 4).iter().map(|x| x.abs() + 0.1).collect();
    let (scale, shift) = fold_batch_norm(BatchNorm { weight: &w, bias: &b, mean: &m, var: &v, eps: 1e-3 });
    for c in 0..4 {
        for x in [-2.0f32, 0.0, 3.5] {
            let direct = (x - m[c]) / (v[c] + 1e-3).sqrt() * w[c] + b[c];
            assert!((x * scale[c] + shift[c] - direct).abs() < 1e-5);
        }
    }
}

#[test]
fn mismatches_are_found_before_anything_runs() {
    let window = Window { kernel: 3, stride: 1, padding: Padding::Even(0) };
    let op = |n| Op::DepthwiseConv2d {
        window,
        weight: vec![0.0; n].into(),
        bias: vec![0.0; 2],
        activation: Activation::None,
    };
    let mut g = Graph::new(2);
    g.push("short", op(17), &[0]).unwrap();
    assert!(infer(&g, 8, 8).unwrap_err().to_string().contains("`short`: expected 18 weights, found 17"));
    let mut g = Graph::new(2);
    g.push("wide", op(18), &[0]).unwrap();
    assert!(infer(&g, 2, 8).unwrap_err().to_string().contains("does not fit"));
    assert!(g.push("later", Op::Add { activation: Activation::None }, &[0, 9]).is_err());
    assert!(infer(&Graph::new(3), usize::MAX, 2).is_err(), "an overflowing picture must be refused");
    let plan = cpu::Plan::new(Graph::new(3), 4, 4, Precision::F32).unwrap();
    assert!(plan.run(&mut cpu::Workspace::default(), &[0.0; 3], Threads::One).is_err());
}
