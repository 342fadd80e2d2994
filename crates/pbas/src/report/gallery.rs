//! A small picture for a gallery: the part, the score map over it and the defect mask over it, side by side.

use super::heatmap::ColourScale;
use super::panel;
use crate::detector::Prediction;
use crate::image::{DefectMask, Rgb8};
use crate::preprocess::map_to_original;
use crate::{Error, Result};
use image::codecs::jpeg::JpegEncoder;

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
    let unwritable =
        |e: image::ImageError| Error::caller("cannot encode a picture of the gallery").with_source(e);
    let side = |n: usize| u32::try_from(n).map_err(|_| Error::limits("a picture of the gallery is too wide"));
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, QUALITY)
        .encode(&data, side(width)?, side(base.height)?, image::ExtendedColorType::Rgb8)
        .map_err(unwritable)?;
    Ok(bytes)
}
