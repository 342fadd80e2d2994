//! AU-PIMO: how much of each defective picture's defect is found while next to nothing is marked on good pictures.
//!
//! Bertoldo et al., "AUPIMO: Redefining Anomaly Localization Benchmarks with High Speed and Low Tolerance", BMVC 2024. The false positive rate
//! is that of the pixels of good pictures alone (the mean over pictures, which are of one size here), from 1e-5 to 1e-4, on a logarithmic
//! scale; the true positive rate is the part of one picture's defective pixels. The figure is the mean over defective pictures of the area
//! under their curves; since areas add up, it is the area under the mean curve.

use super::ranking::RankingCurve;

/// False positive rates between which the area is taken.
pub const AUPIMO_LIMITS: [f64; 2] = [1e-5, 1e-4];

/// What of good pictures is needed: their highest scores, and how many pixels they have.
#[derive(Debug, Clone, Default)]
pub(super) struct GoodTop {
    /// Ascending sort keys of those highest.
    pub keys: Vec<u32>,
    /// Further pixels with the lowest of these keys.
    pub ties: usize,
    /// Pixels of good pictures in all.
    pub pixels: usize,
}

impl GoodTop {
    /// Keeps what is needed of the sort keys of all pixels of good pictures, whose order is changed.
    pub fn of(keys: &mut [u32]) -> Self {
        let pixels = keys.len();
        // One beyond the upper limit, to interpolate to it.
        let wanted = ((pixels as f64 * AUPIMO_LIMITS[1]).floor() as usize + 1).min(pixels);
        let mut top = if wanted == 0 {
            Vec::new()
        } else {
            keys.select_nth_unstable(pixels - wanted);
            keys[pixels - wanted..].to_vec()
        };
        top.sort_unstable();
        let below = &keys[..pixels - wanted];
        let ties = top.first().map_or(0, |lowest| below.iter().filter(|k| *k == lowest).count());
        Self { keys: top, ties, pixels }
    }
}

/// The figure, by the keys and weights of defective pixels (`weights[i]` is what the i-th defective pixel in ascending order of score adds to the mean
/// true positive rate). `None` without defective pixels, or where good pictures have too few pixels for the upper limit to mean one of them.
pub(super) fn aupimo(ranking: &RankingCurve, weight: impl Fn(usize) -> f64, good: &GoodTop) -> Option<f64> {
    let [low, high] = AUPIMO_LIMITS;
    let positives = ranking.positive_keys();
    if positives.is_empty() || good.pixels as f64 * high < 1.0 {
        return None;
    }
    let (mut area, mut overlap, mut next) = (0.0, 0.0, positives.len());
    // The last corner of the curve within reach; before the first false positive the rate is 0, which has no logarithm: what is found without any
    // counts from the lower limit on.
    let mut corner: Option<(f64, f64)> = None;
    let mut top = good.keys.len();
    while top > 0 {
        let key = good.keys[top - 1];
        // Found before any good pixel of this score is marked.
        while next > 0 && positives[next - 1] > key {
            next -= 1;
            overlap += weight(next);
        }
        let before = overlap;
        while top > 0 && good.keys[top - 1] == key {
            top -= 1;
        }
        while next > 0 && positives[next - 1] == key {
            next -= 1;
            overlap += weight(next);
        }
        let ties = if top == 0 { good.ties } else { 0 };
        let rate = (good.keys.len() - top + ties) as f64 / good.pixels as f64;
        let (x0, y0) = match corner {
            // From the corner straight up to what is found at its rate.
            Some((x, _)) => (x, before),
            None if rate <= low => {
                corner = Some((rate, overlap));
                continue;
            }
            None => {
                // Nothing between 0 and this rate: flat, at what is found without a false positive.
                area += before * (rate.min(high) / low).ln();
                corner = Some((rate, overlap));
                if rate >= high {
                    break;
                }
                continue;
            }
        };
        area += between((x0, y0), (rate, overlap), (low, high));
        corner = Some((rate, overlap));
        if rate >= high {
            break;
        }
    }
    // Fewer good pixels than the upper limit reaches: flat to its end.
    if let Some((rate, y)) = corner.filter(|c| c.0 < high) {
        area += y * (high / rate.max(low)).ln();
    }
    Some(area / (high / low).ln())
}

/// The area between two corners, straight over the logarithm of the rate, cut to the limits.
fn between((x0, y0): (f64, f64), (x1, y1): (f64, f64), (low, high): (f64, f64)) -> f64 {
    let (left, right) = (x0.max(low), x1.min(high));
    if left >= right {
        return 0.0;
    }
    let at = |x: f64| y0 + (y1 - y0) * (x / x0).ln() / (x1 / x0).ln();
    (at(left) + at(right)) / 2.0 * (right / left).ln()
}
