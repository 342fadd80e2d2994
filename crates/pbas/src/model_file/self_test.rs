//! What the network and the heads give for a fixed pattern: stored when a model is made, and computed again when it is loaded.

use pbas_nn::Precision;
use pbas_nn::engine::cpu::{Plan, Workspace};
use pbas_nn::linalg::Threads;

use crate::detector::{Detector, Model};
use crate::head::of_head;
use crate::neighbours::NeighbourRunner;
use crate::patch::{PatchEmbedding, Pooling};
use crate::{Error, Result};

/// Side of the self-test's pattern.
pub(super) const PATTERN_SIDE: usize = 64;
/// Largest difference of a self-test value, in units of 1 + its size: what other instruction sets may round
/// differently, and far below what a damaged model gives. In bfloat16 a difference in the last bit of a float32 sum may become one in
/// the eighth bit of what the next product reads.
fn tolerance(precision: Precision) -> f64 {
    match precision {
        Precision::F32 => 1e-3,
        Precision::Bf16 => 1e-2,
    }
}

/// Mean logit of every head, joined by the distances, on a fixed pattern, view after view: the network and the heads are run as for a picture, at a
/// small size.
pub(super) fn of_model(model: &Model) -> Result<Vec<f64>> {
    let names: Vec<&str> = model.settings.feature_layers.iter().map(String::as_str).collect();
    let graph = model.backbone.graph.select(&names)?;
    let plan = Plan::new(graph, PATTERN_SIDE, PATTERN_SIDE, model.settings.precision)?;
    let (embedding, pooled) = pattern_features(&plan, model.settings.pooling)?;
    let features = embedding.grid_features(&pooled, false);
    let mut values = Vec::new();
    for view in &model.views {
        if view.heads.iter().any(|h| h.projection.dim != features.dim) {
            return Err(Error::input(format!("heads: expected {} entries a feature", features.dim)));
        }
        let mut logits: Vec<Vec<f32>> = view.heads.iter().map(|h| h.logits(&features.data)).collect();
        if let Some(runner) = NeighbourRunner::of_view(view, &model.settings, &embedding)? {
            let runner = runner.distances_alone(&embedding);
            for (head, logits) in logits.iter_mut().enumerate() {
                runner.add_to(head..head + 1, logits, &pooled, Threads::One);
            }
        }
        values.extend(logits.iter().map(|l| mean(l)));
    }
    Ok(values)
}

/// As [`of_model`], through the folded heads of a detector.
pub(super) fn of_detector(detector: &Detector) -> Result<Vec<f64>> {
    let Some(first) = detector.runners().first() else { return Ok(Vec::new()) };
    let plan = first.extractor().plan().resized(PATTERN_SIDE, PATTERN_SIDE)?;
    let (embedding, pooled) = pattern_features(&plan, detector.model().settings.pooling)?;
    let mut values = Vec::new();
    for runner in detector.runners() {
        let Some(grid) = runner.head().resized(&embedding) else {
            return of_model(detector.model());
        };
        let mut logits = grid.logits(&pooled, Threads::One);
        if let Some(neighbours) = runner.neighbours() {
            let alone = neighbours.distances_alone(&embedding);
            alone.add_to(0..grid.heads(), &mut logits, &pooled, Threads::One);
        }
        for head in 0..grid.heads() {
            values.push(mean(&of_head(&logits, grid.heads(), head)));
        }
    }
    Ok(values)
}

fn mean(values: &[f32]) -> f64 {
    values.iter().map(|&v| f64::from(v)).sum::<f64>() / values.len() as f64
}

/// Pooled features of the self-test's pattern by a plan for its size.
fn pattern_features(plan: &Plan, pooling: Pooling) -> Result<(PatchEmbedding, Vec<f32>)> {
    let mut input = vec![0.0f32; PATTERN_SIDE * PATTERN_SIDE * 3];
    for (i, v) in input.iter_mut().enumerate() {
        let (x, y, c) = (i / 3 % PATTERN_SIDE, i / 3 / PATTERN_SIDE, i % 3);
        *v = ((x * 37 + y * 91 + c * 53 + x * y % 29 * 7) % 256) as f32 / 128.0 - 1.0;
    }
    let mut workspace = Workspace::default();
    plan.run(&mut workspace, &input, Threads::One)?;
    let embedding = PatchEmbedding::new(&plan.output_shapes().collect::<Vec<_>>(), pooling)?;
    let maps: Vec<&[f32]> = (0..plan.output_shapes().count()).map(|n| plan.output(&workspace, n)).collect();
    let mut pooled = vec![0.0; embedding.pooled_len()];
    embedding.pool(&maps, &mut pooled, false);
    Ok((embedding, pooled))
}

/// Refuses a machine that computes otherwise.
///
/// # Errors
/// Values that differ by more than rounding.
pub(super) fn check(found: &[f64], expected: &[f64], precision: Precision) -> Result<()> {
    let tolerance = tolerance(precision);
    let close = |f: &f64, e: &f64| (f - e).abs() <= tolerance * (1.0 + e.abs());
    if found.len() == expected.len() && found.iter().zip(expected).all(|(f, e)| close(f, e)) {
        return Ok(());
    }
    Err(Error::input(format!(
        "self-test: expected {expected:?}, found {found:?}: this machine computes otherwise"
    )))
}
