//! Robust statistics, of which half of the values may be anything without moving them far; and what chance allows.

use statrs::distribution::{Binomial, DiscreteCDF};

/// As many rejects as are seen, or more, have to be less probable than this before it is said that chance does not explain them.
pub const SURPRISING: f64 = 0.01;

/// Deviations from the median that a Gaussian keeps half of its values within; scales the median absolute deviation to a
/// standard deviation.
const MAD_TO_DEVIATION: f64 = 1.4826;

/// The value below which a share of `values` lies, interpolated; `None` for no values. NaN sorts last.
#[must_use]
pub fn quantile(values: &[f64], share: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    quantile_of_ascending(&sorted, share)
}

/// As [`quantile`], of values that ascend.
#[must_use]
pub fn quantile_of_ascending(ascending: &[f64], share: f64) -> Option<f64> {
    let at = share.clamp(0.0, 1.0) * ascending.len().checked_sub(1)? as f64;
    let (low, high) = (ascending[at.floor() as usize], ascending[at.ceil() as usize]);
    Some(low + (high - low) * at.fract())
}

/// Binomial probability of `seen` or more of `n` at a rate.
#[must_use]
pub fn as_many_or_more(seen: usize, n: usize, rate: f64) -> f64 {
    if seen == 0 {
        return 1.0;
    }
    Binomial::new(rate, n as u64).map_or(1.0, |b| b.sf(seen as u64 - 1))
}

/// Centre and spread of most of the values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Robust {
    /// The median.
    pub median: f64,
    /// The median absolute deviation, scaled to a Gaussian's standard deviation.
    pub deviation: f64,
}

impl Robust {
    /// Of `values`; a spread below `least` is taken as `least`. `None` for no values.
    #[must_use]
    pub fn of(values: &[f64], least: f64) -> Option<Self> {
        let median = quantile(values, 0.5)?;
        let away: Vec<f64> = values.iter().map(|v| (v - median).abs()).collect();
        let deviation = (MAD_TO_DEVIATION * quantile(&away, 0.5)?).max(least);
        Some(Self { median, deviation })
    }

    /// How many deviations a value lies above the median.
    #[must_use]
    pub fn above(self, value: f64) -> f64 {
        (value - self.median) / self.deviation
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_interpolate_and_one_wild_value_moves_nothing_far() {
        assert_eq!(quantile(&[], 0.5), None);
        assert_eq!(quantile(&[4.0, 1.0, 3.0], 0.5), Some(3.0));
        assert_eq!(quantile(&[1.0, 2.0], 0.75), Some(1.75));
        let mut values: Vec<f64> = (0..101).map(f64::from).collect();
        let calm = Robust::of(&values, 0.0).unwrap();
        assert_eq!((calm.median, calm.above(50.0)), (50.0, 0.0));
        assert!((calm.deviation - 37.0).abs() < 0.1);
        values[3] = 1e9;
        let wild = Robust::of(&values, 0.0).unwrap();
        assert!((wild.deviation - calm.deviation).abs() < 2.0);
        assert_eq!(Robust::of(&[7.0; 5], 0.5).unwrap().deviation, 0.5);
    }
}
