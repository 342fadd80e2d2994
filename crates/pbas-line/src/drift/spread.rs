//! Quantiles, and the centre and spread of most of the values. The library's own are private to it.

/// Median absolute deviation -> standard deviation of a Gaussian.
const MAD_TO_DEVIATION: f64 = 1.4826;

/// The value below which a share of ascending values lies, interpolated; `None` for no values.
pub(super) fn quantile(ascending: &[f64], share: f64) -> Option<f64> {
    let at = share.clamp(0.0, 1.0) * ascending.len().checked_sub(1)? as f64;
    let (low, high) = (ascending[at.floor() as usize], ascending[at.ceil() as usize]);
    Some(low + (high - low) * at.fract())
}

/// Values in order.
pub(super) fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted
}

/// Median, and robust deviation, which is not below `least`; `None` for no values.
pub(super) fn robust(values: &[f64], least: f64) -> Option<(f64, f64)> {
    let median = quantile(&sorted(values), 0.5)?;
    let away: Vec<f64> = values.iter().map(|v| (v - median).abs()).collect();
    Some((median, (MAD_TO_DEVIATION * quantile(&sorted(&away), 0.5)?).max(least)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_interpolate_and_one_wild_value_moves_nothing_far() {
        assert_eq!(quantile(&[], 0.5), None);
        assert_eq!(quantile(&[1.0, 2.0], 0.75), Some(1.75));
        let mut values: Vec<f64> = (0..101).map(f64::from).collect();
        let (median, calm) = robust(&values, 0.0).unwrap();
        assert!(median == 50.0 && (calm - 37.0).abs() < 0.1);
        values[3] = 1e9;
        assert!((robust(&values, 0.0).unwrap().1 - calm).abs() < 2.0);
        assert_eq!(robust(&[7.0; 5], 0.5), Some((7.0, 0.5)));
        assert_eq!(robust(&[], 0.5), None);
    }
}
