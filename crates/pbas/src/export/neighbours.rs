//! Distances to remembered patches as ONNX nodes (as `neighbours/runner.rs` computes them).

use super::resample::resample;
use super::view::{Pooled, convolution, pooled_entries};
use crate::neighbours::{Bank, Line, NeighbourRunner, Neighbours, may_look, minus_half_square};
use crate::onnx::{Attribute, GraphBuilder, Value};
use crate::view::ViewRunner;

/// The logits of all heads, `[batch, heads, rows, columns]`, joined by the distances, and what both are in the map, where that is something else.
pub(super) fn add_distances(
    b: &mut GraphBuilder,
    runner: &ViewRunner,
    neighbours: &Neighbours,
    pooled: &[Pooled],
    logits: &Value,
) -> (Value, Option<Value>) {
    let Some(running) = runner.neighbours() else { return (logits.clone(), None) };
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
    let nearest: Vec<Nearest> = neighbours.banks.iter().map(|bank| of_bank(b, bank, &features)).collect();
    let of_head = |b: &mut GraphBuilder, (head, factor): (usize, &f32)| {
        let seen = (0..nearest.len()).filter(|&i| may_look(head, i, nearest.len()));
        let distances = seen.clone().map(|i| nearest[i].distance.clone()).collect();
        let (distance, factor) = (least(b, distances), b.float("factor", *factor));
        let counted = b.node("evidence", "Mul", &[&distance, &factor], &[]);
        let above: Option<Vec<Value>> =
            seen.map(|i| Some(above_usual(b, &nearest[i], running.lines(i, head)?))).collect();
        let Some(above) = above else { return (counted, distance) };
        let above = least(b, above);
        (b.node("evidence", "Add", &[&counted, &above], &[]), distance)
    };
    let (each, distances): (Vec<Value>, Vec<Value>) =
        factors.iter().enumerate().map(|of| of_head(b, of)).unzip();
    let joined = |b: &mut GraphBuilder, name: &str, each: &[Value]| {
        b.node(name, "Concat", &each.iter().collect::<Vec<_>>(), &[("axis", Attribute::Int(1))])
    };
    let to_heads = |b: &mut GraphBuilder, values: &Value| {
        let ((height, width), (rows, columns)) = (grid.shape(), running.to_heads());
        resample(b, values, (height, rows), (width, columns))
    };
    let in_map = (!running.map_factors().is_empty()).then(|| {
        let distances = joined(b, "distances", &distances);
        let factors = b.floats("map.factors", &[1, each.len(), 1, 1], running.map_factors());
        let counted = b.node("counted_in_map", "Mul", &[&distances, &factors], &[]);
        let counted = to_heads(b, &counted);
        let limited = limited(b, running, logits);
        b.node("in_map", "Add", &[&limited, &counted], &[])
    });
    let evidence = joined(b, "evidence", &each);
    let evidence = to_heads(b, &evidence);
    (b.node("fused", "Add", &[logits, &evidence], &[]), in_map)
}

/// Logits, each as much as it counts in the map.
fn limited(b: &mut GraphBuilder, running: &NeighbourRunner, logits: &Value) -> Value {
    if running.map_limit() == f32::INFINITY {
        return logits.clone();
    }
    let limit = b.float("map.limit", running.map_limit());
    b.node("limited", "Min", &[logits, &limit], &[])
}

/// Of every position the nearest row of a bank and its distance, `[batch, 1, rows, columns]` each.
struct Nearest {
    row: Value,
    distance: Value,
}

/// The least of some values, at least one.
fn least(b: &mut GraphBuilder, values: Vec<Value>) -> Value {
    let least = values.into_iter().reduce(|least, more| b.node("least", "Min", &[&least, &more], &[]));
    least.expect("a head has seen a fold")
}

/// What distances count above what is usual at their rows.
fn above_usual(b: &mut GraphBuilder, nearest: &Nearest, lines: &[Line]) -> Value {
    let mut of_row = |name: &str, of: fn(&Line) -> f32| {
        let values: Vec<f32> = lines.iter().map(of).collect();
        let values = b.floats(name, &[lines.len()], &values);
        b.node("of_row", "Gather", &[&values, &nearest.row], &[("axis", Attribute::Int(0))])
    };
    let (gain, offset) = (of_row("usual.gain", |l| l.gain), of_row("usual.offset", |l| l.offset));
    let scaled = b.node("above", "Mul", &[&nearest.distance, &gain], &[]);
    b.node("above", "Add", &[&scaled, &offset], &[])
}

/// Of every position's feature, `[batch, dim, rows, columns]`, the nearest row of a bank.
fn of_bank(b: &mut GraphBuilder, bank: &Bank, features: &Value) -> Nearest {
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
    let along = [("axis", Attribute::Int(1)), ("keepdims", Attribute::Int(1))];
    let row = b.node("nearest", "ArgMax", &[&products], &along);
    let squares = b.node("squares", "Mul", &[&scaled, &scaled], &[]);
    let length = b.node("length", "ReduceSum", &[&squares, &axis], &keep);
    let two = b.float("two", 2.0);
    let twice = b.node("twice", "Mul", &[&largest, &two], &[]);
    let squared = b.node("squared", "Sub", &[&length, &twice], &[]);
    let squared = b.node("at_least_0", "Relu", &[&squared], &[]);
    Nearest { row, distance: b.node("distance", "Sqrt", &[&squared], &[]) }
}
