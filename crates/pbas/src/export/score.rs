//! The image score as ONNX nodes: the rarity of each head's score among its good pictures, and what more than half of the heads
//! reach ([`crate::calibrate`]).
//!
//! A rarity is piecewise linear between the stored scores, so it is a sum over the pieces of `slope * clamp(score - start, 0, length)`: no
//! search, and heads with fewer scores have pieces of length 0. Equal stored scores make it jump just above them.

use std::f64::consts::{LN_10, LOG10_2};

use crate::calibrate::{Calibration, GoodScores, quorum};
use crate::onnx::{Attribute, Element, GraphBuilder, Value};
use crate::settings::Scoring;

/// The image score, `[batch]`, from the score of each head, `[batch, heads]`.
pub(super) fn image_score(
    b: &mut GraphBuilder,
    calibration: &Calibration,
    scoring: Scoring,
    scores: &Value,
) -> Value {
    if scoring == Scoring::Sigmoid {
        let first = column(b, scores, 0);
        return b.node("probability", "Sigmoid", &[&first], &[]);
    }
    let heads: Vec<&GoodScores> = calibration.heads.iter().collect();
    b.scope("score/heads");
    let each = rarity(b, &heads, scores);
    let agree = quorum(heads.len());
    let count = b.ints("quorum", &[1], &[agree as i64]);
    let axis = [("axis", Attribute::Int(1))];
    let highest = b.node_of("highest", "TopK", &[&each, &count], &axis, 2).swap_remove(0);
    let agreed = column(b, &highest, agree - 1);
    let Some(together) = &calibration.together else { return agreed };
    b.scope("score/together");
    let axis = b.ints("axis", &[1], &[1]);
    let agreed = b.node("agreed", "Unsqueeze", &[&agreed, &axis], &[]);
    let all = rarity(b, &[together], &agreed);
    column(b, &all, 0)
}

/// One column of `[batch, columns]`, `[batch]`.
fn column(b: &mut GraphBuilder, values: &Value, index: usize) -> Value {
    let index = b.int("index", index as i64);
    b.node("column", "Gather", &[values, &index], &[("axis", Attribute::Int(1))])
}

/// What [`GoodScores::rarity`] gives, as pieces.
struct Pieces {
    lowest: f64,
    highest: f64,
    /// Of the tail, at the lowest score.
    scale: f64,
    /// Of the tail, at the highest score.
    scale_beyond: f64,
    shape: f64,
    /// Start, length and slope of each piece between two scores that differ.
    linear: Vec<[f64; 3]>,
    /// Scores that are stored more than once, and what is added above them.
    jumps: Vec<[f64; 2]>,
}

impl Pieces {
    fn new(scores: &GoodScores) -> Self {
        let s = scores.ascending();
        let [from, scale, shape] = scores.tail_fit();
        let (lowest, highest) = (s.first().copied().unwrap_or(0.0), s.last().copied().unwrap_or(0.0));
        let (mut linear, mut jumps) = (Vec::new(), Vec::new());
        let mut first = 0; // Of the equal scores that a run begins with.
        for next in 1..=s.len() {
            if next < s.len() && s[next] == s[first] {
                continue;
            }
            // Ranks are counted from 1.
            let above = scores.of_rank(next);
            if next - first > 1 {
                jumps.push([s[first], above - scores.of_rank(first + 1)]);
            }
            if let Some(&end) = s.get(next) {
                let length = end - s[first];
                linear.push([s[first], length, (scores.of_rank(next + 1) - above) / length]);
            }
            first = next;
        }
        let scale_beyond = scale + shape * (highest - from);
        Self { lowest, highest, scale, scale_beyond, shape, linear, jumps }
    }
}

/// The rarity of each column of `scores`, `[batch, columns]`, among the good scores of that column.
fn rarity(b: &mut GraphBuilder, samples: &[&GoodScores], scores: &Value) -> Value {
    let pieces: Vec<Pieces> = samples.iter().map(|s| Pieces::new(s)).collect();
    let row = |b: &mut GraphBuilder, hint: &str, of: &dyn Fn(&Pieces) -> f64| {
        let values: Vec<f32> = pieces.iter().map(|p| of(p) as f32).collect();
        b.floats(hint, &[values.len()], &values)
    };
    // Below the lowest score it falls linearly.
    let lowest = row(b, "lowest", &|p| p.lowest);
    let fall = row(b, "fall", &|p| 1.0 / p.scale);
    let zero = b.float("zero", 0.0);
    let above = b.node("above_lowest", "Sub", &[scores, &lowest], &[]);
    let below = b.node("below", "Min", &[&above, &zero], &[]);
    let mut sum = b.node("below_lowest", "Mul", &[&below, &fall], &[]);

    let axis = b.ints("axis", &[1], &[2]);
    let column = b.node("scores", "Unsqueeze", &[scores, &axis], &[]);
    let mut add = |b: &mut GraphBuilder, terms: &Value| {
        let total = b.node("total", "ReduceSum", &[terms, &axis], &[("keepdims", Attribute::Int(0))]);
        sum = b.node("sum", "Add", &[&sum, &total], &[]);
    };
    if pieces.iter().any(|p| !p.linear.is_empty()) {
        let table = |b: &mut GraphBuilder, hint: &str, part: usize| {
            let fill = |p: &Pieces| [p.highest, 0.0, 0.0][part];
            table(b, hint, pieces.iter().map(|p| (p.linear.iter().map(|l| l[part]).collect(), fill(p))))
        };
        let (start, length, slope) = (table(b, "start", 0), table(b, "length", 1), table(b, "slope", 2));
        let from_start = b.node("from_start", "Sub", &[&column, &start], &[]);
        let at_least = b.node("at_least_0", "Relu", &[&from_start], &[]);
        let within = b.node("within", "Min", &[&at_least, &length], &[]);
        let terms = b.node("pieces", "Mul", &[&within, &slope], &[]);
        add(b, &terms);
    }
    if pieces.iter().any(|p| !p.jumps.is_empty()) {
        let table = |b: &mut GraphBuilder, hint: &str, part: usize| {
            let fill = |p: &Pieces| [p.highest, 0.0][part];
            table(b, hint, pieces.iter().map(|p| (p.jumps.iter().map(|j| j[part]).collect(), fill(p))))
        };
        let (at, height) = (table(b, "jump_at", 0), table(b, "jump_height", 1));
        let is_above = b.node("is_above", "Greater", &[&column, &at], &[]);
        let is_above = b.node("as_number", "Cast", &[&is_above], &[("to", Attribute::Type(Element::F32))]);
        let terms = b.node("jumps", "Mul", &[&is_above, &height], &[]);
        add(b, &terms);
    }
    let beyond = beyond(b, &pieces, scores);
    b.node("rarity", "Add", &[&sum, &beyond], &[])
}

/// A constant `[columns, longest]` of lists that are filled up at the end.
fn table(b: &mut GraphBuilder, hint: &str, rows: impl Iterator<Item = (Vec<f64>, f64)>) -> Value {
    let mut rows: Vec<(Vec<f64>, f64)> = rows.collect();
    let longest = rows.iter().map(|r| r.0.len()).max().unwrap_or(0);
    rows.iter_mut().for_each(|(row, fill)| row.resize(longest, *fill));
    let values: Vec<f32> = rows.iter().flat_map(|r| &r.0).map(|&v| v as f32).collect();
    b.floats(hint, &[rows.len(), longest], &values)
}

/// What is added above the highest score: along the tail, and again as much up to a factor of two in probability.
fn beyond(b: &mut GraphBuilder, pieces: &[Pieces], scores: &Value) -> Value {
    let row = |b: &mut GraphBuilder, hint: &str, of: &dyn Fn(&Pieces) -> f64| {
        let values: Vec<f32> = pieces.iter().map(|p| of(p) as f32).collect();
        b.floats(hint, &[values.len()], &values)
    };
    let highest = row(b, "highest", &|p| p.highest);
    let over = b.node("over", "Sub", &[scores, &highest], &[]);
    let excess = b.node("excess", "Relu", &[&over], &[]);
    // Exponential: excess / scale; heavier: ln(1 + shape excess / scale) / shape.
    let slope = row(b, "tail_slope", &|p| if p.shape == 0.0 { 1.0 / (p.scale_beyond * LN_10) } else { 0.0 });
    let mut tail = b.node("exponential", "Mul", &[&excess, &slope], &[]);
    if pieces.iter().any(|p| p.shape != 0.0) {
        let inner = row(b, "tail_inner", &|p| p.shape / p.scale_beyond);
        let outer = row(b, "tail_outer", &|p| if p.shape == 0.0 { 0.0 } else { 1.0 / (p.shape * LN_10) });
        let x = b.node("x", "Mul", &[&excess, &inner], &[]);
        let log = log_1_plus(b, &x);
        let heavy = b.node("heavy", "Mul", &[&log, &outer], &[]);
        tail = b.node("tail", "Add", &[&tail, &heavy], &[]);
    }
    let most = b.float("log10_2", LOG10_2 as f32);
    let again = b.node("again", "Min", &[&tail, &most], &[]);
    b.node("beyond", "Add", &[&tail, &again], &[])
}

/// `ln(1 + x)` for `x >= 0` without the loss of digits near 0: there it is `2 artanh(x / (x + 2))`.
fn log_1_plus(b: &mut GraphBuilder, x: &Value) -> Value {
    let (one, two) = (b.float("one", 1.0), b.float("two", 2.0));
    let plus_one = b.node("plus_one", "Add", &[x, &one], &[]);
    let large = b.node("log", "Log", &[&plus_one], &[]);
    let plus_two = b.node("plus_two", "Add", &[x, &two], &[]);
    let ratio = b.node("ratio", "Div", &[x, &plus_two], &[]);
    let half = b.node("artanh", "Atanh", &[&ratio], &[]);
    let small = b.node("twice", "Mul", &[&half, &two], &[]);
    let is_large = b.node("is_large", "Greater", &[x, &one], &[]);
    b.node("log_1_plus", "Where", &[&is_large, &large, &small], &[])
}
