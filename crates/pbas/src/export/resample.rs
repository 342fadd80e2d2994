//! Resampling of a map along both axes as two matrix products.

use crate::neighbours::Blend;
use crate::onnx::{GraphBuilder, Value};

/// `[batch, channels, height, width]` with its rows and columns blended, as two matrix products.
pub(super) fn resample(
    b: &mut GraphBuilder,
    map: &Value,
    (height, rows): (usize, &[Blend]),
    (width, columns): (usize, &[Blend]),
) -> Value {
    let same = |blends: &[Blend], sources: usize| {
        blends.len() == sources && blends.iter().enumerate().all(|(i, b)| b.first == i && b.weights == [1.0])
    };
    if same(rows, height) && same(columns, width) {
        return map.clone();
    }
    let wide = b.floats("columns", &[width, columns.len()], &transposed(&dense(columns, width), width));
    let high = b.floats("rows", &[rows.len(), height], &dense(rows, height));
    let wider = b.node("across", "MatMul", &[map, &wide], &[]);
    b.node("resampled", "MatMul", &[&high, &wider], &[])
}

/// The matrix of a resampling, `[targets, sources]`.
fn dense(blends: &[Blend], sources: usize) -> Vec<f32> {
    let mut dense = vec![0.0; blends.len() * sources];
    for (row, blend) in dense.chunks_exact_mut(sources).zip(blends) {
        row[blend.first..][..blend.weights.len()].copy_from_slice(&blend.weights);
    }
    dense
}

/// `[rows, columns]` -> `[columns, rows]`.
pub(super) fn transposed(matrix: &[f32], columns: usize) -> Vec<f32> {
    (0..columns).flat_map(|c| matrix.iter().skip(c).step_by(columns)).copied().collect()
}
