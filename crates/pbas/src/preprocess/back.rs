//! A score map -> the pixel coordinates of the original picture.

use rayon::prelude::*;

use super::placement::{Axis, Placement};
use crate::score::ScoreMap;
use crate::{Error, Result};

/// Lays a score map over the original picture: bilinear, half-pixel centres, edges held. The map covers the model's
/// input at any resolution; the result has `width` x `height` pixels and covers the original picture (pass its own
/// size for one score a pixel).
///
/// Under [`super::Fit::Crop`], pixels whose centre lies outside the crop were never looked at: they take the lowest
/// value of the map, so that they can raise no alarm. Under [`super::Fit::Pad`], the padding is cut off and its scores
/// are not mixed into the picture's edge.
///
/// # Errors
/// `Caller` where the map's values do not fit its size, or it has no values.
pub fn map_to_original(
    map: &ScoreMap,
    placement: &Placement,
    width: usize,
    height: usize,
) -> Result<ScoreMap> {
    if map.values.is_empty() || map.width.checked_mul(map.height) != Some(map.values.len()) {
        return Err(Error::caller(format!(
            "score map of {} x {}: expected that many values, found {}",
            map.width,
            map.height,
            map.values.len()
        )));
    }
    let lowest = map.values.iter().copied().fold(f32::INFINITY, f32::min);
    let columns = taps(placement.x, placement.original.width, placement.model.width, map.width, width);
    let rows = taps(placement.y, placement.original.height, placement.model.height, map.height, height);

    let mut values = vec![lowest; width * height];
    if width > 0 {
        // The vertical mix is done once for a whole row of the map, which is seldom wider than the picture.
        values.par_chunks_mut(width).zip(&rows).for_each_init(
            || vec![0.0; map.width],
            |mixed, (out, row)| {
                let Some(row) = row else { return };
                let upper = &map.values[row.first * map.width..][..map.width];
                let lower = &map.values[row.second * map.width..][..map.width];
                for ((m, &a), &b) in mixed.iter_mut().zip(upper).zip(lower) {
                    *m = a + (b - a) * row.weight;
                }
                for (value, column) in out.iter_mut().zip(&columns) {
                    if let Some(tap) = column {
                        let (a, b) = (mixed[tap.first], mixed[tap.second]);
                        *value = a + (b - a) * tap.weight;
                    }
                }
            },
        );
    }
    Ok(ScoreMap { width, height, values })
}

/// Two neighbours in the map and the share of the second.
struct Tap {
    first: usize,
    second: usize,
    weight: f32,
}

/// For each of `out` pixels along an axis, where in the map (of length `map`) its value comes from; `None` where the
/// pixel is cropped away.
fn taps(axis: Axis, original: usize, model: usize, map: usize, out: usize) -> Vec<Option<Tap>> {
    let to_map = map as f64 / model as f64;
    // Only cells of the map that touch the picture take part: the rest is padding.
    let (start, end) = axis.shown(original, model);
    let first_cell = (start * to_map).floor().min(map as f64 - 1.0);
    let last_cell = ((end * to_map).ceil() - 1.0).clamp(first_cell, map as f64 - 1.0);
    let pixel = original as f64 / out as f64;
    (0..out)
        .map(|i| {
            let at = axis.to_model((i as f64 + 0.5) * pixel);
            if at < 0.0 || at > model as f64 {
                return None;
            }
            let at = (at * to_map - 0.5).clamp(first_cell, last_cell);
            let first = at.floor();
            Some(Tap {
                first: first as usize,
                second: (first as usize + 1).min(last_cell as usize),
                weight: (at - first) as f32,
            })
        })
        .collect()
}
