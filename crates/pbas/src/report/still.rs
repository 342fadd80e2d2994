//! Single pictures, encoded: a thumbnail, the score map in grey, the map over the picture. For pages and records; a heatmap for
//! files is in [`super::heatmap`].

use image::codecs::jpeg::JpegEncoder;
use image::{ExtendedColorType, ImageEncoder};

use super::heatmap::ColourScale;
use super::panel;
use crate::detector::Prediction;
use crate::image::Rgb8;
use crate::preprocess::map_to_original;
use crate::score::ScoreMap;
use crate::{Error, Result};

/// The picture with its longest side reduced to `longest` pixels where it is longer; below 128 pixels it is enlarged by a whole factor.
#[must_use]
pub fn thumbnail(picture: &Rgb8, longest: usize) -> Rgb8 {
    panel::base_within(picture, longest)
}

/// The score map over the picture, of the size of [`thumbnail`].
///
/// # Errors
/// A map that does not fit its placement.
pub fn overlay(picture: &Rgb8, prediction: &Prediction, scale: ColourScale, longest: usize) -> Result<Rgb8> {
    let base = panel::base_within(picture, longest);
    Ok(panel::overlay(&base, &laid_over(prediction, &base)?, scale))
}

/// The score map as it lies over the picture's [`thumbnail`], as a grey PNG: 0 at and below the low end of the scale, 255 at and above the
/// high one.
///
/// # Errors
/// A map that does not fit its placement.
pub fn grey_map(
    picture: &Rgb8,
    prediction: &Prediction,
    scale: ColourScale,
    longest: usize,
) -> Result<Vec<u8>> {
    let base = panel::base_within(picture, longest);
    let map = laid_over(prediction, &base)?;
    let grey: Vec<u8> = map.values.iter().map(|&v| (scale.position(v) * 255.0).round() as u8).collect();
    encode_png(&grey, map.width, map.height, ExtendedColorType::L8)
}

fn laid_over(prediction: &Prediction, base: &Rgb8) -> Result<ScoreMap> {
    map_to_original(&prediction.map, &prediction.placement, base.width, base.height)
}

/// PNG of an RGB picture.
///
/// # Errors
/// A picture whose bytes do not fit its size.
pub fn png(picture: &Rgb8) -> Result<Vec<u8>> {
    picture.check()?;
    encode_png(&picture.data, picture.width, picture.height, ExtendedColorType::Rgb8)
}

/// JPEG of an RGB picture; `quality` from 1 to 100.
///
/// # Errors
/// A picture whose bytes do not fit its size, or too large for JPEG (65,535 pixels a side).
pub fn jpeg(picture: &Rgb8, quality: u8) -> Result<Vec<u8>> {
    picture.check()?;
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, quality)
        .encode(&picture.data, side(picture.width)?, side(picture.height)?, ExtendedColorType::Rgb8)
        .map_err(unwritable)?;
    Ok(bytes)
}

fn encode_png(data: &[u8], width: usize, height: usize, colour: ExtendedColorType) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    image::codecs::png::PngEncoder::new(&mut bytes)
        .write_image(data, side(width)?, side(height)?, colour)
        .map_err(unwritable)?;
    Ok(bytes)
}

fn side(n: usize) -> Result<u32> {
    u32::try_from(n).map_err(|_| Error::limits("a picture is too large to be encoded"))
}

fn unwritable(e: image::ImageError) -> Error {
    Error::caller("cannot encode a picture").with_source(e)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{DecodeOptions, decode_rgb};

    #[test]
    fn encoded_pictures_come_back() {
        let picture = Rgb8 { width: 40, height: 30, data: (0..3600).map(|i| (i / 30) as u8).collect() };
        let back = |bytes: &[u8]| decode_rgb(bytes, "x", &DecodeOptions::default()).unwrap();
        assert_eq!(back(&png(&picture).unwrap()), picture);
        let near = back(&jpeg(&picture, 95).unwrap());
        assert_eq!((near.width, near.height), (40, 30));
        let farthest = near.data.iter().zip(&picture.data).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
        assert!(farthest < 16, "{farthest}");
        assert_eq!(thumbnail(&Rgb8 { width: 400, height: 300, data: vec![9; 360_000] }, 200).height, 150);
        let wrong = Rgb8 { width: 2, height: 2, data: vec![0; 3] };
        assert!(png(&wrong).is_err() && jpeg(&wrong, 80).is_err());
    }
}
