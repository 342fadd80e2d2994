//! Maps of scores of which some positions do not count.

use super::{ScoreMap, SmoothUpsampler};
use crate::Result;

/// An enlarged pixel shows a score if at least this share of the weights that make it belongs to positions that count.
const LEAST_WEIGHT: f32 = 0.05;

/// Enlarges and smooths scores as a [`SmoothUpsampler`] does, as if positions that do not count were not there: each pixel is the
/// weighted mean over those that do, so that a score at their edge is not watered down by what lies beyond. Pixels outside are
/// 0, what good patches have on scale, or the map's lowest value where that is lower.
#[derive(Debug, Clone)]
pub struct InsideMap {
    /// For each position whether it counts, `[src_h, src_w]`.
    positions: Vec<bool>,
    /// One over the weight of the positions that count, for each pixel of the map; 0 outside.
    factors: Vec<f32>,
}

impl InsideMap {
    /// `positions`: which of `[src_h, src_w]` count; `pixels`: which of `[dst_h, dst_w]` may show a score.
    ///
    /// # Errors
    /// `positions` of another length than `upsampler` takes.
    pub fn new(upsampler: &SmoothUpsampler, positions: Vec<bool>, pixels: &[bool]) -> Result<Self> {
        let ones: Vec<f32> = positions.iter().map(|&p| f32::from(u8::from(p))).collect();
        let weights = upsampler.apply(&ones)?.values;
        let shown = |(&weight, &inside): (&f32, &bool)| inside && weight >= LEAST_WEIGHT;
        let factors = weights.iter().zip(pixels).map(|p| if shown(p) { 1.0 / p.0 } else { 0.0 }).collect();
        Ok(Self { positions, factors })
    }

    /// The map of patch scores `src`, `[src_h, src_w]` row-major, by the same upsampler.
    ///
    /// # Errors
    /// As [`SmoothUpsampler::apply`].
    pub fn apply(&self, upsampler: &SmoothUpsampler, src: &[f32]) -> Result<ScoreMap> {
        let counting: Vec<f32> =
            src.iter().zip(&self.positions).map(|(&v, &p)| if p { v } else { 0.0 }).collect();
        let mut map = upsampler.apply(&counting)?;
        let mut lowest = f32::INFINITY;
        for (v, &factor) in map.values.iter_mut().zip(&self.factors) {
            *v *= factor;
            if factor > 0.0 {
                lowest = lowest.min(*v);
            }
        }
        let outside = lowest.min(0.0);
        map.values.iter_mut().zip(&self.factors).filter(|(_, f)| **f == 0.0).for_each(|(v, _)| *v = outside);
        Ok(map)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_count_changes_nothing_and_edges_keep_their_height() {
        let upsampler = SmoothUpsampler::new(8, 8, 64, 64, 4.0).unwrap();
        let positions: Vec<bool> = (0..64).map(|i| i % 8 < 3).collect();
        let pixels: Vec<bool> = (0..64 * 64).map(|i| i % 64 < 24).collect();
        let inside = InsideMap::new(&upsampler, positions.clone(), &pixels).unwrap();
        let scores = |outside: f32| -> Vec<f32> {
            (0..64).map(|i| if positions[i] { 2.0 + (i / 8) as f32 } else { outside }).collect()
        };
        let map = inside.apply(&upsampler, &scores(0.0)).unwrap();
        for outside in [-50.0, 900.0, f32::NAN, f32::INFINITY] {
            assert_eq!(inside.apply(&upsampler, &scores(outside)).unwrap(), map, "{outside}");
        }
        // The weighted mean, slowly: every position by the map that it alone would draw.
        for (i, &value) in map.values.iter().enumerate().step_by(37).filter(|(i, _)| pixels[*i]) {
            let (mut sum, mut weights) = (0.0, 0.0);
            for p in (0..64).filter(|&p| positions[p]) {
                let mut alone = vec![0.0; 64];
                alone[p] = 1.0;
                let weight = f64::from(upsampler.apply(&alone).unwrap().values[i]);
                sum += weight * f64::from(scores(0.0)[p]);
                weights += weight;
            }
            assert!((f64::from(value) - sum / weights).abs() < 1e-4, "{value}");
        }
        let shown = (0..64 * 64).filter(|i| pixels[*i]).map(|i| map.values[i]);
        let lowest = shown.fold(f32::INFINITY, f32::min);
        assert!(lowest >= 2.0 - 1e-4, "no pixel inside is below the lowest score");
        assert!((0..64 * 64).filter(|i| !pixels[*i]).all(|i| map.values[i] == 0.0));
        let below = scores(0.0).iter().map(|v| v - 5.0).collect::<Vec<_>>();
        let below = inside.apply(&upsampler, &below).unwrap();
        assert_eq!(below.values[63], below.values[..24].iter().copied().fold(f32::INFINITY, f32::min));
        let right = map.values[60 * 64 + 23];
        assert!((right - map.values[60 * 64]).abs() < 1e-4, "the edge is as high as the middle: {right}");
    }
}
