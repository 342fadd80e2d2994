//! Patch scores -> map: bilinear enlargement and Gaussian smoothing, apart and as one linear map.

use super::axis::{AxisMap, apply_both, gaussian_kernel};
use super::{ScoreMap, check_len};
use crate::{Error, Result};

/// Largest standard deviation of the smoothing, in pixels; it bounds the work that a setting can ask for.
pub const MAX_SIGMA: f64 = 1000.0;

/// Longest side of a patch grid or a map.
pub const MAX_SIDE: usize = 65_535;

/// Bilinear resampling of `src`, `[src_h, src_w]` row-major, to `dst_h` x `dst_w`: half-pixel centres
/// (align_corners = false), edge clamped, no antialias, as `torch.nn.functional.interpolate(mode="bilinear")`.
///
/// # Errors
/// A size of 0 or above [`MAX_SIDE`], or `src` not of `src_h * src_w` values.
pub fn upsample_bilinear(
    src: &[f32],
    src_h: usize,
    src_w: usize,
    dst_h: usize,
    dst_w: usize,
) -> Result<ScoreMap> {
    SmoothUpsampler::new(src_h, src_w, dst_h, dst_w, 0.0)?.apply(src)
}

/// Gaussian smoothing with standard deviation `sigma` pixels, as scipy's `gaussian_filter(map, sigma)`: cut at
/// 4 sigma (radius `int(4 sigma + 0.5)`), normalised, borders reflected with the edge sample repeated
/// (d c b a | a b c d | d c b a), also where the radius exceeds the map. Sigma 0 copies.
///
/// # Errors
/// An empty or inconsistent map, a side above [`MAX_SIDE`], or `sigma` not in 0..=[`MAX_SIGMA`].
pub fn gaussian_smooth(map: &ScoreMap, sigma: f64) -> Result<ScoreMap> {
    map.check_shape()?;
    SmoothUpsampler::new(map.height, map.width, map.height, map.width, sigma)?.apply(&map.values)
}

/// [`upsample_bilinear`] then [`gaussian_smooth`] as one linear map an axis: `map = My a Mx^T` with banded
/// matrices computed once (in float64, applied in float32). The same result but for float rounding, at the cost
/// of a few multiplications a pixel whatever sigma is.
#[derive(Debug, Clone)]
pub struct SmoothUpsampler {
    rows: AxisMap,
    cols: AxisMap,
}

impl SmoothUpsampler {
    /// From patch grids of `src_h` x `src_w` to maps of `dst_h` x `dst_w`, smoothed with `sigma` pixels of the map.
    ///
    /// # Errors
    /// A size of 0 or above [`MAX_SIDE`], or `sigma` not in 0..=[`MAX_SIGMA`] (NaN included).
    pub fn new(src_h: usize, src_w: usize, dst_h: usize, dst_w: usize, sigma: f64) -> Result<Self> {
        if [src_h, src_w, dst_h, dst_w].contains(&0) {
            return Err(Error::caller(format!(
                "score map: expected sizes of at least 1, found {src_h} x {src_w} to {dst_h} x {dst_w}"
            )));
        }
        if !(0.0..=MAX_SIGMA).contains(&sigma) {
            return Err(Error::caller(format!(
                "smoothing sigma: expected 0 to {MAX_SIGMA} pixels, found {sigma}"
            )));
        }
        let fits = |h: usize, w: usize| {
            h.max(w) <= MAX_SIDE
                && h.checked_mul(w).is_some_and(|n| n <= isize::MAX as usize / size_of::<f32>())
        };
        // The sizes of all buffers that `apply` touches: input, input of full width, output.
        if !(fits(src_h, src_w) && fits(src_h, dst_w) && fits(dst_h, dst_w)) {
            return Err(Error::limits(format!(
                "score map: expected sides of at most {MAX_SIDE} that fit in memory, \
                 found {src_h} x {src_w} to {dst_h} x {dst_w}"
            )));
        }
        let kernel = gaussian_kernel(sigma);
        Ok(Self { rows: AxisMap::new(src_h, dst_h, &kernel), cols: AxisMap::new(src_w, dst_w, &kernel) })
    }

    /// Both matrices of `map = My a Mx^T`, row-major: `[dst_h, src_h]` and `[dst_w, src_w]`.
    pub(crate) fn matrices(&self) -> [Vec<f32>; 2] {
        [self.rows.dense(), self.cols.dense()]
    }

    /// `src` is `[src_h, src_w]`, row-major; the map is `[dst_h, dst_w]`. Runs on the calling thread.
    ///
    /// # Errors
    /// `src` not of `src_h * src_w` values.
    pub fn apply(&self, src: &[f32]) -> Result<ScoreMap> {
        check_len("patch scores", src.len(), self.rows.src, self.cols.src)?;
        let values = apply_both(&self.rows, &self.cols, src);
        Ok(ScoreMap { width: self.cols.dst, height: self.rows.dst, values })
    }
}
