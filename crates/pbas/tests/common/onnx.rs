//! Runs ONNX graphs, slowly and plainly: the operators that the exporter writes and no others. Sums are made in float64, and what is
//! stored between nodes is rounded to float32, as a runtime has it.
#![allow(dead_code)] // Each test binary uses its part.

use std::collections::HashMap;

use pbas::onnx::proto::tensor_proto::DataType;
use pbas::onnx::proto::{GraphProto, NodeProto, TensorProto};

/// A tensor of any type; whole numbers and float32 fit float64.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    pub shape: Vec<usize>,
    pub data: Vec<f64>,
    pub kind: Kind,
}

/// What a tensor's numbers are; of two kinds the later one is the result's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Division rounds to zero.
    Whole,
    F32,
    F64,
}

impl Tensor {
    pub fn new(shape: &[usize], data: Vec<f64>) -> Self {
        assert_eq!(shape.iter().product::<usize>(), data.len(), "{shape:?}");
        Self { shape: shape.to_vec(), data, kind: Kind::F32 }
    }

    fn whole(shape: &[usize], data: Vec<f64>) -> Self {
        Self { kind: Kind::Whole, ..Self::new(shape, data) }
    }

    fn of(proto: &TensorProto) -> Self {
        let shape: Vec<usize> = proto.dims.iter().map(|&d| d as usize).collect();
        let bytes = proto.raw_data();
        match proto.data_type() {
            t if t == DataType::Float as i32 => {
                let value = |b: &[u8]| f32::from_le_bytes(b.try_into().unwrap()).into();
                Self::new(&shape, bytes.chunks_exact(4).map(value).collect())
            }
            t if t == DataType::Double as i32 => {
                let value = |b: &[u8]| f64::from_le_bytes(b.try_into().unwrap());
                let data = bytes.chunks_exact(8).map(value).collect();
                Self { kind: Kind::F64, ..Self::new(&shape, data) }
            }
            t if t == DataType::Int64 as i32 => {
                let value = |b: &[u8]| i64::from_le_bytes(b.try_into().unwrap()) as f64;
                Self::whole(&shape, bytes.chunks_exact(8).map(value).collect())
            }
            other => panic!("constant of type {other}"),
        }
    }

    fn map(&self, f: impl Fn(f64) -> f64) -> Self {
        Self { data: self.data.iter().map(|&v| f(v)).collect(), ..self.clone() }
    }

    /// Shape as `[before, axis, after]`.
    fn around(&self, axis: usize) -> [usize; 3] {
        let product = |s: &[usize]| s.iter().product();
        [product(&self.shape[..axis]), self.shape[axis], product(&self.shape[axis + 1..])]
    }
}

/// The outputs of a graph by name.
pub fn run(graph: &GraphProto, inputs: &[(&str, Tensor)]) -> HashMap<String, Tensor> {
    let mut values: HashMap<String, Tensor> =
        inputs.iter().map(|(name, t)| ((*name).to_owned(), t.clone())).collect();
    for input in &graph.input {
        assert!(values.contains_key(input.name()), "input {} is missing", input.name());
    }
    for constant in &graph.initializer {
        let taken = values.insert(constant.name().to_owned(), Tensor::of(constant));
        assert!(taken.is_none(), "{} is there twice", constant.name());
    }
    for node in &graph.node {
        let inputs: Vec<&Tensor> = node
            .input
            .iter()
            .map(|name| values.get(name).unwrap_or_else(|| panic!("{}: no value {name}", node.name())))
            .collect();
        let mut result = compute(node, &inputs);
        if result.kind == Kind::F32 {
            result.data.iter_mut().for_each(|v| *v = f64::from(*v as f32));
        }
        let taken = values.insert(node.output[0].clone(), result);
        assert!(taken.is_none(), "{} is there twice", node.output[0]);
    }
    graph.output.iter().map(|o| (o.name().to_owned(), values[o.name()].clone())).collect()
}

fn ints(node: &NodeProto, name: &str) -> Option<Vec<usize>> {
    let a = node.attribute.iter().find(|a| a.name() == name)?;
    Some(a.ints.iter().map(|&v| usize::try_from(v).unwrap()).collect())
}

fn int(node: &NodeProto, name: &str, default: i64) -> i64 {
    node.attribute.iter().find(|a| a.name() == name).map_or(default, |a| a.i())
}

fn compute(node: &NodeProto, inputs: &[&Tensor]) -> Tensor {
    let a = inputs[0];
    let pair = |f: fn(f64, f64) -> f64| broadcast(a, inputs[1], f);
    match node.op_type() {
        "Identity" => a.clone(),
        "Add" => pair(|a, b| a + b),
        "Sub" => pair(|a, b| a - b),
        "Mul" => pair(|a, b| a * b),
        "Div" if a.kind == Kind::Whole => pair(|a, b| (a / b).trunc()),
        "Div" => pair(|a, b| a / b),
        "Min" => pair(f64::min),
        "Max" => pair(f64::max),
        "Greater" => pair(|a, b| f64::from(u8::from(a > b))),
        "Where" => {
            // Of either value what is not chosen is 0.
            let yes = broadcast(a, inputs[1], |c, v| if c != 0.0 { v } else { 0.0 });
            let no = broadcast(a, inputs[2], |c, v| if c != 0.0 { 0.0 } else { v });
            broadcast(&yes, &no, |a, b| a + b)
        }
        "Sqrt" => a.map(f64::sqrt),
        "Concat" => concat(inputs, int(node, "axis", 0) as usize),
        "Relu" => a.map(|v| v.max(0.0)),
        "Clip" => a.map(|v| v.clamp(inputs[1].data[0], inputs[2].data[0])),
        "LeakyRelu" => {
            let alpha = f64::from(node.attribute[0].f());
            a.map(|v| if v < 0.0 { alpha * v } else { v })
        }
        "Sigmoid" => a.map(|v| 1.0 / (1.0 + (-v).exp())),
        "Log" => a.map(f64::ln),
        "Atanh" => a.map(f64::atanh),
        "Abs" => a.map(f64::abs),
        "Floor" => a.map(f64::floor),
        "Round" => a.map(f64::round_ties_even),
        "Cast" => {
            let kind = match int(node, "to", 0) {
                t if t == DataType::Int64 as i64 => Kind::Whole,
                t if t == DataType::Double as i64 => Kind::F64,
                _ => Kind::F32,
            };
            Tensor { kind, ..a.clone() }
        }
        "Shape" => Tensor::whole(&[a.shape.len()], a.shape.iter().map(|&n| n as f64).collect()),
        "Range" => {
            let (from, to, by) = (a.data[0], inputs[1].data[0], inputs[2].data[0]);
            let count = ((to - from) / by).ceil() as usize;
            Tensor::whole(&[count], (0..count).map(|i| from + i as f64 * by).collect())
        }
        "Reshape" => reshape(a, inputs[1]),
        "Unsqueeze" => {
            let mut shape = a.shape.clone();
            shape.insert(inputs[1].data[0] as usize, 1);
            Tensor { shape, ..a.clone() }
        }
        "Squeeze" => {
            let mut shape = a.shape.clone();
            assert_eq!(shape.remove(inputs[1].data[0] as usize), 1);
            Tensor { shape, ..a.clone() }
        }
        "Gather" => gather(a, inputs[1], int(node, "axis", 0) as usize),
        "Transpose" => transpose(a, &ints(node, "perm").unwrap()),
        "TopK" => top(a, inputs[1].data[0] as usize, int(node, "axis", -1) as usize),
        "ReduceMean" => {
            let count = inputs.get(1).map_or(a.data.len(), |axes| a.shape[axes.data[0] as usize]);
            let sum = reduce(node, inputs, 0.0, |a, b| a + b);
            sum.map(|v| v / count as f64)
        }
        "ReduceSum" => reduce(node, inputs, 0.0, |a, b| a + b),
        "ArgMax" => {
            assert_eq!(int(node, "keepdims", 1), 1);
            largest_at(a, int(node, "axis", 0) as usize)
        }
        "ReduceMax" => reduce(node, inputs, f64::NEG_INFINITY, f64::max),
        "MatMul" => mat_mul(a, inputs[1]),
        "Conv" => conv(node, inputs),
        "MaxPool" => pool(node, a, f64::NEG_INFINITY, f64::max),
        "AveragePool" => {
            assert_eq!(int(node, "count_include_pad", 0), 1);
            let taps: usize = ints(node, "kernel_shape").unwrap().iter().product();
            pool(node, a, 0.0, |a, b| a + b).map(|v| v / taps as f64)
        }
        other => panic!("operator {other}"),
    }
}

/// For each value of the result the index into a tensor that is broadcast to `shape`.
fn indices(t: &Tensor, shape: &[usize]) -> Vec<usize> {
    let missing = shape.len() - t.shape.len();
    let mut indices = vec![0];
    let mut stride = t.data.len();
    for (axis, &n) in shape.iter().enumerate() {
        let own = if axis < missing { 1 } else { t.shape[axis - missing] };
        stride /= own;
        assert!(own == n || own == 1, "{:?} to {shape:?}", t.shape);
        let step = if own == 1 { 0 } else { stride };
        indices = indices.iter().flat_map(|&i| (0..n).map(move |k| i + k * step)).collect();
    }
    indices
}

fn broadcast(a: &Tensor, b: &Tensor, f: impl Fn(f64, f64) -> f64) -> Tensor {
    let axes = a.shape.len().max(b.shape.len());
    let side = |t: &Tensor, i: usize| (i + t.shape.len()).checked_sub(axes).map_or(1, |i| t.shape[i]);
    let shape: Vec<usize> = (0..axes)
        .map(|i| match (side(a, i), side(b, i)) {
            (1, n) | (n, _) => n,
        })
        .collect();
    let pairs = indices(a, &shape).into_iter().zip(indices(b, &shape));
    let data = pairs.map(|(i, j)| f(a.data[i], b.data[j])).collect();
    Tensor { shape, data, kind: a.kind.max(b.kind) }
}

fn concat(inputs: &[&Tensor], axis: usize) -> Tensor {
    let before = inputs[0].around(axis)[0];
    let mut shape = inputs[0].shape.clone();
    shape[axis] = inputs.iter().map(|t| t.shape[axis]).sum();
    let slice = |t: &Tensor, i: usize| {
        let [_, n, after] = t.around(axis);
        t.data[i * n * after..][..n * after].to_vec()
    };
    let data = (0..before).flat_map(|i| inputs.iter().flat_map(move |t| slice(t, i))).collect();
    Tensor { shape, data, ..inputs[0].clone() }
}

fn reshape(a: &Tensor, to: &Tensor) -> Tensor {
    let mut shape: Vec<usize> = Vec::new();
    for (i, &n) in to.data.iter().enumerate() {
        shape.push(if n == 0.0 { a.shape[i] } else { n.max(0.0) as usize });
    }
    if let Some(open) = to.data.iter().position(|&n| n == -1.0) {
        shape[open] = 1;
        shape[open] = a.data.len() / shape.iter().product::<usize>();
    }
    assert_eq!(shape.iter().product::<usize>(), a.data.len());
    Tensor { shape, ..a.clone() }
}

/// The first of the largest along an axis, which stays with a length of 1.
fn largest_at(a: &Tensor, axis: usize) -> Tensor {
    let [before, n, after] = a.around(axis);
    let mut shape = a.shape.clone();
    shape[axis] = 1;
    let value = |i: usize, k: usize, j: usize| a.data[(i * n + k) * after + j];
    let at = |i: usize, j: usize| {
        (1..n).fold(0, |best, k| if value(i, k, j) > value(i, best, j) { k } else { best }) as f64
    };
    let data = (0..before).flat_map(|i| (0..after).map(move |j| (i, j))).map(|(i, j)| at(i, j)).collect();
    Tensor { shape, ..Tensor::whole(&[before * after], data) }
}

fn gather(a: &Tensor, index: &Tensor, axis: usize) -> Tensor {
    if a.shape.len() == 1 && !index.shape.is_empty() {
        let data = index.data.iter().map(|&i| a.data[i as usize]).collect();
        return Tensor { shape: index.shape.clone(), data, kind: a.kind };
    }
    assert!(index.shape.is_empty());
    let [before, n, after] = a.around(axis);
    let at = index.data[0] as usize;
    let data = (0..before).flat_map(|i| a.data[(i * n + at) * after..][..after].to_vec()).collect();
    let mut shape = a.shape.clone();
    shape.remove(axis);
    Tensor { shape, data, kind: a.kind }
}

fn transpose(a: &Tensor, order: &[usize]) -> Tensor {
    let shape: Vec<usize> = order.iter().map(|&i| a.shape[i]).collect();
    let mut from = vec![0];
    for &axis in order {
        let stride: usize = a.shape[axis + 1..].iter().product();
        from = from.iter().flat_map(|&i| (0..a.shape[axis]).map(move |k| i + k * stride)).collect();
    }
    Tensor { shape, data: from.into_iter().map(|i| a.data[i]).collect(), kind: a.kind }
}

fn top(a: &Tensor, k: usize, axis: usize) -> Tensor {
    assert_eq!(axis + 1, a.shape.len(), "the last axis");
    let mut shape = a.shape.clone();
    shape[axis] = k;
    let mut data = Vec::new();
    for row in a.data.chunks_exact(a.shape[axis]) {
        let mut row = row.to_vec();
        row.sort_by(|a, b| b.total_cmp(a));
        data.extend(&row[..k]);
    }
    Tensor::new(&shape, data)
}

fn reduce(node: &NodeProto, inputs: &[&Tensor], start: f64, f: impl Fn(f64, f64) -> f64) -> Tensor {
    let (a, keep) = (inputs[0], int(node, "keepdims", 1) == 1);
    let Some(axes) = inputs.get(1) else {
        assert!(!keep);
        let data = vec![a.data.iter().copied().fold(start, f)];
        return Tensor { shape: vec![], data, kind: a.kind };
    };
    assert_eq!(axes.data.len(), 1);
    let axis = axes.data[0] as usize;
    let [before, n, after] = a.around(axis);
    let mut data = vec![start; before * after];
    for i in 0..before {
        for k in 0..n {
            for j in 0..after {
                let out = &mut data[i * after + j];
                *out = f(*out, a.data[(i * n + k) * after + j]);
            }
        }
    }
    let mut shape = a.shape.clone();
    if keep {
        shape[axis] = 1;
    } else {
        shape.remove(axis);
    }
    Tensor { shape, data, kind: a.kind }
}

fn mat_mul(a: &Tensor, b: &Tensor) -> Tensor {
    let split = |t: &Tensor| {
        let (outer, inner) = t.shape.split_at(t.shape.len() - 2);
        (outer.to_vec(), inner[0], inner[1])
    };
    let ((outer_a, m, k), (outer_b, kb, n)) = (split(a), split(b));
    assert_eq!(k, kb, "{:?} times {:?}", a.shape, b.shape);
    let outer = if outer_a.is_empty() { outer_b.clone() } else { outer_a.clone() };
    assert!(outer_b.is_empty() || outer_b == outer);
    let count = outer.iter().product::<usize>();
    let mut data = vec![0.0; count * m * n];
    for (o, out) in data.chunks_exact_mut(m * n).enumerate() {
        let a = &a.data[if outer_a.is_empty() { 0 } else { o * m * k }..][..m * k];
        let b = &b.data[if outer_b.is_empty() { 0 } else { o * k * n }..][..k * n];
        for (row, out) in a.chunks_exact(k).zip(out.chunks_exact_mut(n)) {
            for (&v, from) in row.iter().zip(b.chunks_exact(n)).filter(|(v, _)| **v != 0.0) {
                out.iter_mut().zip(from).for_each(|(o, b)| *o += v * b);
            }
        }
    }
    Tensor::new(&[outer, vec![m, n]].concat(), data)
}

/// A sliding window: how many outputs an axis has, and which input each tap of an output reads.
struct Slide {
    out: usize,
    kernel: usize,
    stride: usize,
    before: usize,
    size: usize,
}

impl Slide {
    fn new(node: &NodeProto, axis: usize, size: usize, kernel: usize) -> Self {
        let pads = ints(node, "pads").unwrap_or(vec![0; 4]);
        let stride = ints(node, "strides").map_or(1, |s| s[axis]);
        let out = (size + pads[axis] + pads[axis + 2] - kernel) / stride + 1;
        Self { out, kernel, stride, before: pads[axis], size }
    }

    fn taps(&self, out: usize) -> impl Iterator<Item = (usize, usize)> + '_ {
        (0..self.kernel).filter_map(move |k| {
            let at = (out * self.stride + k).checked_sub(self.before)?;
            (at < self.size).then_some((k, at))
        })
    }
}

fn conv(node: &NodeProto, inputs: &[&Tensor]) -> Tensor {
    let (x, w) = (inputs[0], inputs[1]);
    let [n, c, h, wide] = x.shape[..] else { panic!("{:?}", x.shape) };
    let [out, inner, kh, kw] = w.shape[..] else { panic!("{:?}", w.shape) };
    let groups = int(node, "group", 1) as usize;
    assert_eq!(c, inner * groups, "{}", node.name());
    let (rows, columns) = (Slide::new(node, 0, h, kh), Slide::new(node, 1, wide, kw));
    let mut data = Vec::with_capacity(n * out * rows.out * columns.out);
    for picture in x.data.chunks_exact(c * h * wide) {
        for o in 0..out {
            let first = o / (out / groups) * inner;
            let bias = inputs.get(2).map_or(0.0, |b| b.data[o]);
            let mut plane = vec![bias; rows.out * columns.out];
            for i in 0..inner {
                let map = &picture[(first + i) * h * wide..][..h * wide];
                let kernel = &w.data[(o * inner + i) * kh * kw..][..kh * kw];
                for y in 0..rows.out {
                    for (ky, iy) in rows.taps(y) {
                        for x in 0..columns.out {
                            for (kx, ix) in columns.taps(x) {
                                plane[y * columns.out + x] += kernel[ky * kw + kx] * map[iy * wide + ix];
                            }
                        }
                    }
                }
            }
            data.extend(plane);
        }
    }
    Tensor::new(&[n, out, rows.out, columns.out], data)
}

fn pool(node: &NodeProto, x: &Tensor, start: f64, f: impl Fn(f64, f64) -> f64) -> Tensor {
    let [n, c, h, w] = x.shape[..] else { panic!("{:?}", x.shape) };
    let kernel = ints(node, "kernel_shape").unwrap();
    let (rows, columns) = (Slide::new(node, 0, h, kernel[0]), Slide::new(node, 1, w, kernel[1]));
    let mut data = Vec::new();
    for map in x.data.chunks_exact(h * w) {
        for y in 0..rows.out {
            for x in 0..columns.out {
                let taps = rows.taps(y).flat_map(|(_, iy)| columns.taps(x).map(move |(_, ix)| iy * w + ix));
                data.push(taps.map(|i| map[i]).fold(start, &f));
            }
        }
    }
    Tensor::new(&[n, c, rows.out, columns.out], data)
}
