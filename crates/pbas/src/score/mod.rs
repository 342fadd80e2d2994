//! Patch scores -> [`ScoreMap`], image score, regions. Plain slices; knows nothing of networks.
//!
//! The road (spec: inference): one score a patch position, `[h, w]` row-major. The image score is the
//! maximum of these ([`top_share_mean`] with share 0), before any resampling. The map is their bilinear
//! enlargement smoothed by a Gaussian: [`SmoothUpsampler`] does both as one linear map an axis;
//! [`upsample_bilinear`] and [`gaussian_smooth`] are the two steps alone. [`regions`] says where a map is
//! above a threshold.
//!
//! **NaN.** A NaN in is never hidden: it spreads to every map pixel whose weights reach it, and makes
//! [`top_share_mean`] NaN. [`regions`] takes a NaN pixel as not above the threshold, so check scores first.

mod axis;
pub(crate) mod components;
mod inside;
mod pool;
mod regions;
mod resample;

pub use inside::InsideMap;
pub(crate) use pool::top_count;
pub use pool::top_share_mean;
pub use regions::{Region, region_of_peak, regions};
pub use resample::{MAX_SIDE, MAX_SIGMA, SmoothUpsampler, gaussian_smooth, upsample_bilinear};

use crate::{Error, Result};

/// One score a pixel: `height` rows of `width` values, row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct ScoreMap {
    /// Pixels a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `height * width` values.
    pub values: Vec<f32>,
}

impl ScoreMap {
    /// Fails unless there are `height * width` values: the fields are public, so a caller can get them wrong.
    pub(crate) fn check_shape(&self) -> Result<()> {
        check_len("score map", self.values.len(), self.height, self.width)
    }
}

/// Fails unless `found` is `height * width`.
pub(crate) fn check_len(what: &str, found: usize, height: usize, width: usize) -> Result<()> {
    if height.checked_mul(width) == Some(found) {
        return Ok(());
    }
    Err(Error::caller(format!(
        "{what} of {height} rows of {width}: expected height * width values, found {found}"
    )))
}
