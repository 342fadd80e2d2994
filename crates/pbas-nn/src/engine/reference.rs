//! The slow, obvious engine: loops as the definitions have them, sums in float64. The twin of every other engine.

use crate::Result;
use crate::graph::{Graph, Op, Window};
use crate::shape::{Shape, infer};

/// Runs `graph` on one picture `[height, width, channels]`; returns the named outputs, each with its shape.
///
/// # Errors
/// As [`infer`].
///
/// # Panics
/// If `input` has another length than the picture's shape.
pub fn run(graph: &Graph, input: &[f32], height: usize, width: usize) -> Result<Vec<(Shape, Vec<f32>)>> {
    let shapes = infer(graph, height, width)?;
    assert_eq!(input.len(), shapes[0].len(), "input length");
    let mut maps: Vec<Vec<f32>> = Vec::new();
    for (id, node) in graph.nodes().iter().enumerate() {
        let out = shapes[id];
        let map = match &node.op {
            Op::Input { .. } => input.to_vec(),
            Op::Conv2d { window, weight, bias, activation, .. } => {
                let (src, s) = (&maps[node.inputs[0]], shapes[node.inputs[0]]);
                let k = window.kernel;
                per_output(out, |y, x, o| {
                    let mut sum = f64::from(bias[o]);
                    for_window(window, s, y, x, |ky, kx, position| {
                        for c in 0..s.channels {
                            let w = weight[((o * k + ky) * k + kx) * s.channels + c];
                            sum += f64::from(w) * f64::from(src[position * s.channels + c]);
                        }
                    });
                    activation.apply(sum as f32)
                })
            }
            Op::DepthwiseConv2d { window, weight, bias, activation } => {
                let (src, s) = (&maps[node.inputs[0]], shapes[node.inputs[0]]);
                per_output(out, |y, x, c| {
                    let mut sum = f64::from(bias[c]);
                    for_window(window, s, y, x, |ky, kx, position| {
                        let w = weight[(ky * window.kernel + kx) * s.channels + c];
                        sum += f64::from(w) * f64::from(src[position * s.channels + c]);
                    });
                    activation.apply(sum as f32)
                })
            }
            Op::MaxPool { window } => {
                let (src, s) = (&maps[node.inputs[0]], shapes[node.inputs[0]]);
                per_output(out, |y, x, c| {
                    let mut max = f32::NEG_INFINITY;
                    for_window(window, s, y, x, |_, _, position| {
                        max = max.max(src[position * s.channels + c])
                    });
                    max
                })
            }
            Op::Add { activation } => {
                let (a, b) = (&maps[node.inputs[0]], &maps[node.inputs[1]]);
                a.iter().zip(b).map(|(x, y)| activation.apply(x + y)).collect()
            }
        };
        maps.push(map);
    }
    Ok(graph.outputs().iter().map(|&(_, id)| (shapes[id], maps[id].clone())).collect())
}

fn per_output(shape: Shape, mut value: impl FnMut(usize, usize, usize) -> f32) -> Vec<f32> {
    let mut out = Vec::with_capacity(shape.len());
    for y in 0..shape.height {
        for x in 0..shape.width {
            for c in 0..shape.channels {
                out.push(value(y, x, c));
            }
        }
    }
    out
}

/// Calls `each(kernel row, kernel column, input position)` for the part of a window that lies inside the map.
fn for_window(window: &Window, s: Shape, y: usize, x: usize, mut each: impl FnMut(usize, usize, usize)) {
    let before = |size| window.along(size).map_or(0, |(_, p)| p) as isize;
    for ky in 0..window.kernel {
        for kx in 0..window.kernel {
            let iy = (y * window.stride + ky) as isize - before(s.height);
            let ix = (x * window.stride + kx) as isize - before(s.width);
            if (0..s.height as isize).contains(&iy) && (0..s.width as isize).contains(&ix) {
                each(ky, kx, iy as usize * s.width + ix as usize);
            }
        }
    }
}
