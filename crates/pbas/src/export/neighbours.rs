//! Distances to remembered patches as ONNX nodes (as `neighbours/runner.rs` computes them).

use super::resample::resample;
use super::view::{Pooled, convolution, pooled_entries};
use crate::neighbours::{Bank, Neighbours, may_look, minus_half_square};
use crate::onnx::{Attribute, GraphBuilder, Value};
use crate::view::ViewRunner;

/// The logits of all heads, `[batch, heads, rows, columns]`, joined by the distances.
pub(super) fn add_distances(
    b: &mut GraphBuilder,
    runner: &ViewRunner,
    neighbours: &Neighbours,
    pooled: &[Pooled],
    logits: &Value,
) -> Value {
    let Some(running) = runner.neighbours() else { return logits.clone() };
    let (grid, factors) = (running.grid(), running.factors());
    let (parts, layers): (Vec<_>, Vec<_>) = (runner.embedding().parts().collect(), grid.layers().collect());
    let mut all: Vec<Value> = Vec::new();
    for ((pooled, part), (rows, columns)) in pooled.iter().zip(&parts).zip(layers) {
        let entries = pooled_entries(b, pooled, part, runner.embedding().dim());
        all.push(resample(b, &entries, (part.positions / part.width, rows), (part.width, columns)));
    }
    let features = if pooled.iter().all(|p| p.is_mean()) {
        b.node("features", "Concat", &all.iter().collect::<Vec<_>>(), &[("axis", Attribute::Int(1))])
    } else {
        let sum =
            |b: &mut GraphBuilder, sum: Value, more: &Value| b.node("features", "Add", &[&sum, more], &[]);
        let first = all[0].clone();
        all[1..].iter().fold(first, |s, more| sum(b, s, more))
    };
    let distances: Vec<Value> = neighbours.banks.iter().map(|bank| distance(b, bank, &features)).collect();
    let of_head = |b: &mut GraphBuilder, (head, factor): (usize, &f32)| {
        let mut seen = (0..distances.len()).filter(|&i| may_look(head, i, distances.len()));
        let first = seen.next().map(|i| distances[i].clone()).expect("a head has seen a fold");
        let least = seen.fold(first, |least, i| b.node("nearest", "Min", &[&least, &distances[i]], &[]));
        let factor = b.float("factor", *factor);
        b.node("evidence", "Mul", &[&least, &factor], &[])
    };
    let each: Vec<Value> = factors.iter().enumerate().map(|of| of_head(b, of)).collect();
    let axis = [("axis", Attribute::Int(1))];
    let evidence = b.node("evidence", "Concat", &each.iter().collect::<Vec<_>>(), &axis);
    let (rows, columns) = running.to_heads();
    let (height, width) = grid.shape();
    let evidence = resample(b, &evidence, (height, rows), (width, columns));
    b.node("fused", "Add", &[logits, &evidence], &[])
}

/// Distance of every position's feature, `[batch, dim, rows, columns]`, to the nearest row of a bank, `[batch, 1, rows, columns]`.
fn distance(b: &mut GraphBuilder, bank: &Bank, features: &Value) -> Value {
    let dim = bank.scale.mean.len();
    let inverse: Vec<f32> = bank.scale.deviation.iter().map(|d| 1.0 / d).collect();
    let mean = b.floats("bank.mean", &[1, dim, 1, 1], &bank.scale.mean);
    let inverse = b.floats("bank.scale", &[1, dim, 1, 1], &inverse);
    let centred = b.node("centred", "Sub", &[features, &mean], &[]);
    let scaled = b.node("scaled", "Mul", &[&centred, &inverse], &[]);
    let half: Vec<f32> = bank.rows.chunks_exact(dim).map(minus_half_square).collect();
    let half = b.floats("bank.half", &[bank.count()], &half);
    let rows = b.floats("bank.rows", &[bank.count(), dim, 1, 1], &bank.rows);
    let products = convolution(b, "products", &scaled, &rows, Some(&half), 1, 0);
    let axis = b.ints("channels", &[1], &[1]);
    let keep = [("keepdims", Attribute::Int(1))];
    let largest = b.node("largest", "ReduceMax", &[&products, &axis], &keep);
    let squares = b.node("squares", "Mul", &[&scaled, &scaled], &[]);
    let length = b.node("length", "ReduceSum", &[&squares, &axis], &keep);
    let two = b.float("two", 2.0);
    let twice = b.node("twice", "Mul", &[&largest, &two], &[]);
    let squared = b.node("squared", "Sub", &[&length, &twice], &[]);
    let squared = b.node("at_least_0", "Relu", &[&squared], &[]);
    b.node("distance", "Sqrt", &[&squared], &[])
}
