//! Where a map is above a threshold.

use serde::{Deserialize, Serialize};

use super::ScoreMap;
use super::components::Components;
use crate::Result;

/// A connected group of pixels above the threshold. Positions and sizes are in pixels of the map it was found in.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Region {
    /// First column of the bounding box.
    pub x: usize,
    /// First row of the bounding box.
    pub y: usize,
    /// Columns of the bounding box.
    pub width: usize,
    /// Rows of the bounding box.
    pub height: usize,
    /// Pixels that belong to the region.
    pub area: usize,
    /// Highest score in the region.
    pub peak: f32,
}

/// The 8-connected regions of at least `min_area` pixels whose scores are all `> threshold`, highest peak first, then
/// by y, then by x. A NaN pixel is not above any threshold; a NaN threshold has nothing above it.
///
/// # Errors
/// A map whose number of values is not `height * width`, or of 2^32 pixels and more.
pub fn regions(map: &ScoreMap, threshold: f32, min_area: usize) -> Result<Vec<Region>> {
    map.check_shape()?;
    let components = Components::new(map.width, map.height, |i| map.values[i] > threshold)?;
    let mut found: Vec<Region> = Vec::new();
    for (x, y, label) in components.pixels() {
        let score = map.values[y * map.width + x];
        if label == found.len() {
            // Components are numbered by their first pixel, so a new one is always the next.
            found.push(Region { x, y, width: 1, height: 1, area: 1, peak: score });
            continue;
        }
        let r = &mut found[label];
        let right = (r.x + r.width).max(x + 1);
        r.x = r.x.min(x);
        r.width = right - r.x;
        r.height = y + 1 - r.y;
        r.area += 1;
        r.peak = r.peak.max(score);
    }
    found.retain(|r| r.area >= min_area);
    found.sort_by(|a, b| b.peak.total_cmp(&a.peak).then((a.y, a.x).cmp(&(b.y, b.x))));
    Ok(found)
}

/// The surroundings of the map's highest point: the region that holds it, above the middle between the median of the finite scores and the highest of
/// them. `None` where that is the median, as in a level map.
///
/// # Errors
/// As [`regions`].
pub fn region_of_peak(map: &ScoreMap) -> Result<Option<Region>> {
    let mut finite: Vec<f32> = map.values.iter().copied().filter(|v| v.is_finite()).collect();
    if finite.is_empty() {
        return Ok(None);
    }
    let middle = finite.len() / 2;
    // Not sorted: a map has hundreds of thousands of scores, and a part waits.
    let (_, median, above) = finite.select_nth_unstable_by(middle, f32::total_cmp);
    let peak = above.iter().copied().fold(*median, f32::max);
    Ok(regions(map, f32::midpoint(*median, peak), 1)?.into_iter().next())
}
