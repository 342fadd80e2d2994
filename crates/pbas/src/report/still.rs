//! Single pictures, encoded: a thumbnail, the score map in grey. For pages and records; a heatmap for files is in [`super::heatmap`].

use image::ExtendedColorType;
use image::codecs::jpeg::JpegEncoder;

use super::heatmap::ColourScale;
use super::panel;
use crate::detector::Prediction;
use crate::image::{Rgb8, encode_png};
use crate::preprocess::map_to_original;
use crate::{Error, Result};

/// The picture with its longest side reduced to `longest` pixels where it is longer; below 128 pixels it is enlarged by a whole factor.
#[must_use]
pub fn thumbnail(picture: &Rgb8, longest: usize) -> Rgb8 {
    panel::base_within(picture, longest)
}

/// The score map as it lies over a picture of `width` and `height`, such as its [`thumbnail`], as a grey PNG: 0 at and below the low end of the
/// scale, 255 at and above the high one.
///
/// # Errors
/// A map that does not fit its placement.
pub fn grey_map(
    prediction: &Prediction,
    scale: ColourScale,
    (width, height): (usize, usize),
) -> Result<Vec<u8>> {
    let map = map_to_original(&prediction.map, &prediction.placement, width, height)?;
    let grey: Vec<u8> = map.values.iter().map(|&v| (scale.position(v) * 255.0).round() as u8).collect();
    encode_png(&grey, width, height, ExtendedColorType::L8)
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
        .map_err(|e| Error::caller("cannot encode a picture as JPEG").with_source(e))?;
    Ok(bytes)
}

fn side(n: usize) -> Result<u32> {
    u32::try_from(n).map_err(|_| Error::limits("a picture is too large to be encoded"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{DecodeOptions, decode_rgb};

    #[test]
    fn encoded_pictures_come_back() {
        let picture = Rgb8 { width: 40, height: 30, data: (0..3600).map(|i| (i / 30) as u8).collect() };
        let back = |bytes: &[u8]| decode_rgb(bytes, "x", &DecodeOptions::default()).unwrap();
        assert_eq!(back(&picture.png().unwrap()), picture);
        let near = back(&jpeg(&picture, 95).unwrap());
        assert_eq!((near.width, near.height), (40, 30));
        let farthest = near.data.iter().zip(&picture.data).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
        assert!(farthest < 16, "{farthest}");
        assert_eq!(thumbnail(&Rgb8 { width: 400, height: 300, data: vec![9; 360_000] }, 200).height, 150);
        let wrong = Rgb8 { width: 2, height: 2, data: vec![0; 3] };
        assert!(wrong.png().is_err() && jpeg(&wrong, 80).is_err());
    }
}
