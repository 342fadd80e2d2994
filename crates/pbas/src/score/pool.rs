//! Many scores -> one.

/// How many of `n` values [`top_share_mean`] takes; `n` is at least 1.
pub(crate) fn top_count(n: usize, share: f64) -> usize {
    // Rounding must not add one: 0.07 * 100 is a little above 7. The cast takes NaN and negatives to 0.
    ((share * n as f64 - 1e-9).ceil() as usize).clamp(1, n)
}

/// Mean of the highest `ceil(share * n)` of `n` values, at least one: share 0 gives the maximum (the published
/// image score), share 1 the mean of all. `share` is clamped to 0..=1, NaN counts as 0.
///
/// The result depends on the values alone, not on their order. It is NaN if any value is NaN or there are none.
pub fn top_share_mean(values: &[f32], share: f64) -> f32 {
    if values.is_empty() || values.iter().any(|v| v.is_nan()) {
        return f32::NAN;
    }
    let n = values.len();
    let count = top_count(n, share);
    let mut values = values.to_vec();
    if count < n {
        values.select_nth_unstable_by(count - 1, |a, b| b.total_cmp(a));
    }
    let top = &mut values[..count];
    // The selection leaves them in any order, and a sum depends on it.
    top.sort_unstable_by(|a, b| b.total_cmp(a));
    (top.iter().map(|&v| f64::from(v)).sum::<f64>() / count as f64) as f32
}
