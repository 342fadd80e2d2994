//! One axis of a separable linear map: each output is a short weighted sum of neighbouring inputs.

/// A banded matrix `[dst, src]`: output `i` is the sum of `weights[ends[i - 1]..ends[i]]` (from 0 for the first)
/// times the inputs from `starts[i]` on. Rows keep their own lengths: a zero to fill up would still read an input,
/// and 0 times NaN is NaN.
#[derive(Debug, Clone)]
pub(super) struct AxisMap {
    pub(super) src: usize,
    pub(super) dst: usize,
    starts: Vec<usize>,
    ends: Vec<usize>,
    weights: Vec<f32>,
}

impl AxisMap {
    /// Bilinear resampling of `src` to `dst` samples followed by `kernel` (odd length, centred) with
    /// reflected borders. `kernel = [1.0]` resamples alone; `src == dst` smooths alone. Both sizes at least 1.
    pub(super) fn new(src: usize, dst: usize, kernel: &[f64]) -> Self {
        let radius = kernel.len() / 2;
        let mut dense = vec![0.0f64; src];
        let mut map = Self { src, dst, starts: vec![], ends: vec![], weights: vec![] };
        for i in 0..dst {
            let (mut lo, mut hi) = (src, 0);
            for (k, &g) in kernel.iter().enumerate() {
                let j = reflect(i as i64 + k as i64 - radius as i64, dst);
                for (s, w) in bilinear_taps(j, src, dst) {
                    if w != 0.0 {
                        dense[s] += g * w;
                        (lo, hi) = (lo.min(s), hi.max(s + 1));
                    }
                }
            }
            map.starts.push(lo);
            map.weights.extend(dense[lo..hi].iter().map(|&w| w as f32));
            map.ends.push(map.weights.len());
            dense[lo..hi].fill(0.0);
        }
        map
    }

    /// The whole matrix, `[dst, src]`, row-major.
    pub(super) fn dense(&self) -> Vec<f32> {
        let mut dense = vec![0.0; self.dst * self.src];
        for i in 0..self.dst {
            let (start, weights) = self.row(i);
            dense[i * self.src + start..][..weights.len()].copy_from_slice(weights);
        }
        dense
    }

    fn row(&self, i: usize) -> (usize, &[f32]) {
        let from = if i == 0 { 0 } else { self.ends[i - 1] };
        (self.starts[i], &self.weights[from..self.ends[i]])
    }
}

/// `rows a cols^T` for `a` of `[rows.src, cols.src]`, row-major: `[rows.dst, cols.dst]`.
///
/// The columns go first: they then run over the few source rows only, and the larger pass over the rows adds
/// whole output rows, which the compiler turns into vector code.
pub(super) fn apply_both(rows: &AxisMap, cols: &AxisMap, a: &[f32]) -> Vec<f32> {
    let width = cols.dst;
    let mut wide = vec![0.0f32; rows.src * width];
    for (from, to) in a.chunks_exact(cols.src).zip(wide.chunks_exact_mut(width)) {
        for (x, out) in to.iter_mut().enumerate() {
            let (start, weights) = cols.row(x);
            *out = weights.iter().zip(&from[start..]).map(|(w, v)| w * v).sum();
        }
    }
    let mut out = vec![0.0f32; rows.dst * width];
    for (y, to) in out.chunks_exact_mut(width).enumerate() {
        let (start, weights) = rows.row(y);
        for (&w, from) in weights.iter().zip(wide[start * width..].chunks_exact(width)) {
            for (o, v) in to.iter_mut().zip(from) {
                *o += w * v;
            }
        }
    }
    out
}

/// Index `j` brought into `0..n` by reflection with the edge sample repeated (d c b a | a b c d | d c b a),
/// as often as needed.
fn reflect(j: i64, n: usize) -> usize {
    let n = n as i64;
    let j = j.rem_euclid(2 * n);
    (if j < n { j } else { 2 * n - 1 - j }) as usize
}

/// The two inputs and weights of output `i`: half-pixel centres (align_corners = false), edge clamped, no
/// antialias, as `torch.nn.functional.interpolate` has it.
fn bilinear_taps(i: usize, src: usize, dst: usize) -> [(usize, f64); 2] {
    let at = ((i as f64 + 0.5) * (src as f64 / dst as f64) - 0.5).max(0.0);
    let low = (at as usize).min(src - 1);
    let high = (low + 1).min(src - 1);
    let share = (at - low as f64).clamp(0.0, 1.0);
    [(low, 1.0 - share), (high, share)]
}

/// Gaussian of standard deviation `sigma` (samples) cut at 4 sigma and normalised to sum 1, as scipy's
/// `gaussian_filter`: radius `int(4 sigma + 0.5)`.
pub(super) fn gaussian_kernel(sigma: f64) -> Vec<f64> {
    let radius = (4.0 * sigma + 0.5) as i64;
    if radius == 0 {
        return vec![1.0]; // also sigma 0, whose formula divides by 0
    }
    let mut kernel: Vec<f64> =
        (-radius..=radius).map(|k| (-0.5 * (k * k) as f64 / (sigma * sigma)).exp()).collect();
    let sum: f64 = kernel.iter().sum();
    kernel.iter_mut().for_each(|k| *k /= sum);
    kernel
}
