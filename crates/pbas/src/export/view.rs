//! One view as ONNX nodes: picture -> maps of the network -> logits of all heads -> score of each head, and the score map.

use std::borrow::Cow;

use super::backbone::Network;
use super::neighbours::add_distances;
use super::resample::{resample, transposed};
use crate::Result;
use crate::head::{FoldedHead, LEAKY_SLOPE};
use crate::neighbours::Blend;
use crate::onnx::{Attribute, GraphBuilder, Value};
use crate::patch::LayerPart;
use crate::preprocess::Normalization;
use crate::score::top_count;
use crate::settings::Scoring;
use crate::view::{PatchScale, View, ViewRunner};

/// Values of a 3 x 3 neighbourhood.
const TAPS: usize = 9;

/// What a view gives.
pub(super) struct ViewValues {
    /// Score of each head, weighted by the view's side, `[batch, heads]`.
    pub scores: Value,
    /// The view's part in the map, at the model's size, `[batch, 1, height, width]`.
    pub map: Value,
}

/// Adds a view that looks at `picture`, `[batch, 3, height, width]`, R G B on 0..255, at the view's size; `map_share` is its part in the model's map.
///
/// # Errors
/// A size that the network cannot take, or an instruction set was asked for that this processor lacks.
pub(super) fn add(
    b: &mut GraphBuilder,
    network: &Network,
    (view, runner): (&View, &ViewRunner),
    normalization: &Normalization,
    (scoring, map_share): (Scoring, f32),
    picture: &Value,
) -> Result<ViewValues> {
    let normalized = normalize(b, normalization, picture);
    let maps = network.run(b, &normalized, view.size)?;
    let folded = FoldedHead::new(&view.heads.iter().collect::<Vec<_>>())?;
    let pooled: Vec<Pooled> = runner
        .embedding()
        .parts()
        .zip(&maps)
        .enumerate()
        .map(|(l, (p, m))| pool(b, runner, l, &p, m))
        .collect();
    let (mut logits, mut in_map) = (logits(b, runner, &folded, &pooled), None);
    if let Some(neighbours) = &view.neighbours {
        (logits, in_map) = add_distances(b, runner, neighbours, &pooled, &logits);
    }
    Ok(ViewValues {
        scores: head_scores(b, runner, folded.heads, scoring, &logits),
        map: map(b, runner, &view.scales, (scoring, map_share), in_map.as_ref().unwrap_or(&logits)),
    })
}

/// `(value / 255 - mean) / std`.
fn normalize(b: &mut GraphBuilder, n: &Normalization, picture: &Value) -> Value {
    let each = |f: &dyn Fn(f64, f64) -> f64| -> Vec<f32> {
        n.mean.iter().zip(&n.std).map(|(&m, &s)| f(m.into(), s.into()) as f32).collect()
    };
    let mean = b.floats("mean", &[1, 3, 1, 1], &each(&|mean, _| 255.0 * mean));
    let scale = b.floats("scale", &[1, 3, 1, 1], &each(&|_, std| 1.0 / (255.0 * std)));
    let centred = b.node("centred", "Sub", &[picture, &mean], &[]);
    b.node("normalized", "Mul", &[&centred, &scale], &[])
}

/// Logits of every head for each patch, `[batch, heads, rows, columns]`: the heads' affine map runs at each layer's own
/// resolution, its hidden values are brought to the finest grid and added (as [`crate::head::GridHead`] does).
fn logits(b: &mut GraphBuilder, runner: &ViewRunner, folded: &FoldedHead, pooled: &[Pooled]) -> Value {
    let embedding = runner.embedding();
    let grid = embedding.grid();
    let units = folded.heads * folded.hidden;
    // Belongs to the sum, so one layer alone carries it: one that is not enlarged.
    let finest = embedding.parts().position(|p| p.positions == grid.0 * grid.1);
    let mut sum: Option<Value> = None;
    for (layer, (part, pooled)) in embedding.parts().zip(pooled).enumerate() {
        let weight = folded.weight.chunks_exact(folded.dim);
        let weight: Vec<f32> =
            weight.flat_map(|row| &row[part.first..part.first + part.entries]).copied().collect();
        let bias = (finest == Some(layer)).then(|| b.floats("heads.bias", &[units], &folded.bias));
        let hidden = pooled.affine(b, "hidden", "heads.weight", &weight, bias.as_ref());
        let [down, across] =
            [part.rows, part.columns].map(|taps| taps.iter().copied().map(Blend::from).collect::<Vec<_>>());
        let hidden = resample(b, &hidden, (part.positions / part.width, &down), (part.width, &across));
        sum = Some(match sum {
            None => hidden,
            Some(sum) => b.node("hidden_sum", "Add", &[&sum, &hidden], &[]),
        });
    }
    let sum = sum.expect("an embedding has at least one layer");
    let leaky = b.node("leaky", "LeakyRelu", &[&sum], &[("alpha", Attribute::Float(LEAKY_SLOPE))]);
    let output = b.floats("heads.output", &[folded.heads, folded.hidden, 1, 1], &folded.output);
    convolution(b, "logits", &leaky, &output, None, folded.heads, 0)
}

/// A layer's map, pooled over 3 x 3 neighbourhoods.
pub(super) struct Pooled {
    /// `[batch, values, rows, columns]`.
    values: Value,
    /// How entries are made of the values; `None`: they are the entries.
    by_channel: Option<ByChannel>,
    entries: usize,
}

fn pool(
    b: &mut GraphBuilder,
    runner: &ViewRunner,
    layer: usize,
    part: &LayerPart<'_>,
    map: &Value,
) -> Pooled {
    let entries = part.entries;
    match runner.embedding().kernel(layer) {
        None => Pooled { values: neighbourhood_mean(b, map), by_channel: None, entries },
        Some(kernel) => {
            let pooling = ByChannel::new(&kernel, entries);
            Pooled { values: pooling.pool(b, map), by_channel: Some(pooling), entries }
        }
    }
}

impl Pooled {
    /// Whether the values are the entries, each layer's own.
    pub(super) fn is_mean(&self) -> bool {
        self.by_channel.is_none()
    }

    /// An affine map of the entries, `[batch, units, rows, columns]`, by `weight` `[units, entries]`.
    fn affine(
        &self,
        b: &mut GraphBuilder,
        hint: &str,
        name: &str,
        weight: &[f32],
        bias: Option<&Value>,
    ) -> Value {
        let units = weight.len() / self.entries;
        let (weight, values) = match &self.by_channel {
            None => (Cow::Borrowed(weight), self.entries),
            Some(pooling) => (Cow::Owned(pooling.on_values(weight)), pooling.values()),
        };
        let weight = b.floats(name, &[units, values, 1, 1], &weight);
        convolution(b, hint, &self.values, &weight, bias, 1, 0)
    }
}

/// The entries of a layer, `[batch, entries, rows, columns]`; where layers share entries, as their part of all, `[batch, dim, ..]`.
pub(super) fn pooled_entries(
    b: &mut GraphBuilder,
    pooled: &Pooled,
    part: &LayerPart<'_>,
    dim: usize,
) -> Value {
    if pooled.is_mean() {
        return pooled.values.clone();
    }
    let mut place = vec![0.0; dim * part.entries];
    (0..part.entries).for_each(|e| place[(part.first + e) * part.entries + e] = 1.0);
    pooled.affine(b, "entries", "place", &place, None)
}

/// The mean of each channel over its 3 x 3 neighbourhood, with zeros around the map.
fn neighbourhood_mean(b: &mut GraphBuilder, map: &Value) -> Value {
    let attributes = [
        ("kernel_shape", Attribute::Ints(&[3, 3])),
        ("pads", Attribute::Ints(&[1, 1, 1, 1])),
        ("strides", Attribute::Ints(&[1, 1])),
        ("count_include_pad", Attribute::Int(1)),
    ];
    b.node("pooled", "AveragePool", &[map], &attributes)
}

/// Pooling to entries, `[entries, channels, 3, 3]`, as what each channel gives to the few entries that it is part of.
struct ByChannel {
    channels: usize,
    /// Values of each channel: at most as many as its neighbourhood has.
    each: usize,
    entries: usize,
    /// `[channels * each, 3, 3]`.
    kernel: Vec<f32>,
    /// For every value the entries that it is part of, and by what weight.
    parts: Vec<Vec<(usize, f32)>>,
}

impl ByChannel {
    fn new(kernel: &[f32], entries: usize) -> Self {
        let channels = kernel.len() / (entries * TAPS);
        let of = |c: usize, entry: usize| &kernel[(entry * channels + c) * TAPS..][..TAPS];
        let touched: Vec<Vec<usize>> = (0..channels)
            .map(|c| (0..entries).filter(|&e| of(c, e).iter().any(|w| *w != 0.0)).collect())
            .collect();
        let most = touched.iter().map(Vec::len).max().unwrap_or(0).max(1);
        // Where a channel is part of many entries, its neighbourhood as it is says all.
        let each = most.min(TAPS);
        let mut found = Self { channels, each, entries, kernel: Vec::new(), parts: Vec::new() };
        for (c, touched) in touched.iter().enumerate() {
            for k in 0..each {
                if most > TAPS {
                    found.kernel.extend((0..TAPS).map(|tap| f32::from(u8::from(tap == k))));
                    found.parts.push(touched.iter().map(|&e| (e, of(c, e)[k])).collect());
                } else if let Some(&entry) = touched.get(k) {
                    found.kernel.extend(of(c, entry));
                    found.parts.push(vec![(entry, 1.0)]);
                } else {
                    found.kernel.extend([0.0; TAPS]);
                    found.parts.push(vec![]);
                }
            }
        }
        found
    }

    /// How many values there are.
    fn values(&self) -> usize {
        self.channels * self.each
    }

    /// The values of a map, `[batch, values, rows, columns]`.
    fn pool(&self, b: &mut GraphBuilder, map: &Value) -> Value {
        let kernel = b.floats("pooling", &[self.values(), 1, 3, 3], &self.kernel);
        convolution(b, "pooled", map, &kernel, None, self.channels, 1)
    }

    /// Weights on the values from those on the entries, `[units, entries]`.
    fn on_values(&self, weight: &[f32]) -> Vec<f32> {
        let entries = self.entries;
        let sum = |row: &[f32], parts: &[(usize, f32)]| -> f32 {
            parts.iter().map(|&(e, w)| f64::from(row[e]) * f64::from(w)).sum::<f64>() as f32
        };
        let rows = weight.chunks_exact(entries);
        rows.flat_map(|row| self.parts.iter().map(move |p| sum(row, p))).collect()
    }
}

pub(super) fn convolution(
    b: &mut GraphBuilder,
    hint: &str,
    map: &Value,
    weight: &Value,
    bias: Option<&Value>,
    groups: usize,
    padding: i64,
) -> Value {
    let pads = [padding; 4];
    let attributes = [("group", Attribute::Int(groups as i64)), ("pads", Attribute::Ints(&pads))];
    let inputs: Vec<&Value> = [map, weight].into_iter().chain(bias).collect();
    b.node(hint, "Conv", &inputs, &attributes)
}

/// The mean of each head's highest patch logits (with the published scoring the highest), times the view's weight, `[batch, heads]`.
fn head_scores(
    b: &mut GraphBuilder,
    runner: &ViewRunner,
    heads: usize,
    scoring: Scoring,
    logits: &Value,
) -> Value {
    let (rows, columns) = runner.embedding().grid();
    let count = match scoring {
        Scoring::Sigmoid => 1,
        Scoring::Rarity { top_share } => top_count(rows * columns, top_share),
    };
    let shape = b.ints("flat", &[3], &[0, heads as i64, (rows * columns) as i64]);
    let flat = b.node("patches", "Reshape", &[logits, &shape], &[]);
    let count = b.ints("count", &[1], &[count as i64]);
    let axis = [("axis", Attribute::Int(2))];
    let highest = b.node_of("highest", "TopK", &[&flat, &count], &axis, 2).swap_remove(0);
    let axes = b.ints("axes", &[1], &[2]);
    let mean = b.node("mean", "ReduceMean", &[&highest, &axes], &[("keepdims", Attribute::Int(0))]);
    if runner.weight() == 1.0 {
        return mean;
    }
    let weight = b.float("view.weight", runner.weight() as f32);
    b.node("scores", "Mul", &[&mean, &weight], &[])
}

/// The mean over the heads of what patches are in the map, on scale (the sigmoid of that with the published scoring), upsampled and smoothed, times the view's
/// weight in the map, `[batch, 1, height, width]`.
fn map(
    b: &mut GraphBuilder,
    runner: &ViewRunner,
    scales: &[PatchScale],
    (scoring, map_share): (Scoring, f32),
    patches: &Value,
) -> Value {
    let share = 1.0 / scales.len() as f64;
    let parts: Vec<f32> = scales.iter().map(|s| (share / s.deviation) as f32).collect();
    let bias = -scales.iter().zip(&parts).map(|(s, &part)| s.mean * f64::from(part)).sum::<f64>();
    let weight = b.floats("map.weight", &[1, scales.len(), 1, 1], &parts);
    let bias = b.floats("map.bias", &[1], &[bias as f32]);
    let mut patches = convolution(b, "on_scale", patches, &weight, Some(&bias), 1, 0);
    if scoring == Scoring::Sigmoid {
        patches = b.node("probability", "Sigmoid", &[&patches], &[]);
    }
    let (rows, columns) = runner.embedding().grid();
    let [mut high, wide] = runner.upsampler().matrices();
    high.iter_mut().for_each(|v| *v *= map_share);
    let (height, width) = (high.len() / rows, wide.len() / columns);
    let wide = b.floats("map.columns", &[columns, width], &transposed(&wide, columns));
    let high = b.floats("map.rows", &[height, rows], &high);
    let wider = b.node("map.wider", "MatMul", &[&patches, &wide], &[]);
    b.node("map", "MatMul", &[&high, &wider], &[])
}
