//! A small picture for a gallery: the part, the score map over it and the defect mask over it, side by side.

use super::heatmap::ColourScale;
use super::{panel, still};
use crate::Result;
use crate::detector::Prediction;
use crate::image::{DefectMask, Rgb8};
use crate::preprocess::map_to_original;

/// Longest side of a panel in pixels.
const LONGEST: usize = 200;
/// Between panels.
const GAP: usize = 4;
const BACKGROUND: [u8; 3] = [24, 24, 28];
const QUALITY: u8 = 82;

/// Draws the panels and encodes them as JPEG.
///
/// # Errors
/// A map that does not fit its placement, or a picture that cannot be encoded.
pub fn tile(
    picture: &Rgb8,
    prediction: &Prediction,
    mask: Option<&DefectMask>,
    scale: ColourScale,
) -> Result<Vec<u8>> {
    let base = panel::base_within(picture, LONGEST);
    let map = map_to_original(&prediction.map, &prediction.placement, base.width, base.height)?;
    let mut panels = vec![base.clone(), panel::overlay(&base, &map, scale)];
    panels.extend(mask.map(|m| panel::outline(&base, m)));
    let width = panels.len() * (base.width + GAP) - GAP;
    let mut data = BACKGROUND.repeat(width * base.height);
    for (i, panel) in panels.iter().enumerate() {
        let left = i * (base.width + GAP);
        for (y, row) in panel.data.chunks_exact(3 * panel.width).enumerate() {
            data[3 * (y * width + left)..][..row.len()].copy_from_slice(row);
        }
    }
    still::jpeg(&Rgb8 { width, height: base.height, data }, QUALITY)
}
