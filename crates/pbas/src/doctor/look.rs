//! What is kept of one picture: a few figures and two small forms of it. Made where the picture is decoded anyway; a look
//! costs some milliseconds beside the decoding of a megapixel.

use image::ExtendedColorType;
use image::codecs::jpeg::JpegEncoder;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::grey::Grey;
use super::header::Header;
use super::part::{PART_SIDE, Part};
use crate::Result;
use crate::image::Rgb8;
use crate::preprocess::{Fit, Geometry, InputSize};

/// The shorter side is brought to this, and never enlarged, before light and sharpness are measured.
const WORK_SIDE: usize = 512;
/// Side of [`Look::signature`].
pub const SIGNATURE_SIDE: usize = 64;
/// Longest side of a thumbnail.
const THUMBNAIL_SIDE: usize = 160;
/// A picture whose channels differ by no more than this on average is grey, whatever its file says.
const GREY_LEVELS: f64 = 1.5;
/// From here on, and up to 255 less this, a pixel is clipped.
const CLIPPED: u8 = 1;

/// How light a picture is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Light {
    /// Mean grey level, 0 to 255.
    pub mean: f64,
    /// Standard deviation of the grey levels.
    pub deviation: f64,
    /// Share of the pixels in which all channels are at the lower end (0 or 1).
    pub black: f64,
    /// Share of the pixels in which all channels are at the upper end (254 or 255).
    pub white: f64,
    /// Whether the picture has colour, whatever its file says.
    pub coloured: bool,
}

/// One picture, looked at.
#[derive(Debug, Clone)]
pub struct Look {
    /// What the file says.
    pub header: Header,
    /// Pixels a row, after the turn that the file asks for.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// SHA-256 of the file.
    pub sha256: [u8; 32],
    /// SHA-256 of width, height and pixels: the same for a picture that was saved again without loss.
    pub pixels_sha256: [u8; 32],
    /// How light it is.
    pub light: Light,
    /// [`Grey::sharpness`] at a shorter side of at most 512 pixels.
    pub sharpness: Option<f64>,
    /// Mean grey levels of 64 x 64 cells, less the picture's mean.
    pub signature: Vec<f32>,
    /// Where the part lies.
    pub part: Option<Part>,
    /// Features of the whole picture ([`super::features::WholePicture`]), where they were asked for.
    pub features: Option<Vec<f32>>,
    /// The picture as a JPEG of at most 160 pixels a side, where it was asked for.
    pub thumbnail: Option<Vec<u8>>,
}

impl Look {
    /// Looks at a decoded picture; `bytes` is its file.
    ///
    /// # Errors
    /// A picture without pixels, or with a side that cannot be resized.
    pub fn at(bytes: &[u8], picture: &Rgb8, thumbnail: bool) -> Result<Self> {
        let work = shrink(picture, picture.width.min(picture.height), WORK_SIDE)?;
        let grey = Grey::of(&work);
        let (mean, deviation) = grey.moments();
        // Through four times the cells by a proper filter: cells of unequal numbers of pixels would tell a picture from its
        // own smaller copy.
        let square = InputSize::square(4 * SIGNATURE_SIDE);
        let (square, _) = Geometry { fit: Fit::Stretch, size: square }.apply(&work)?;
        let mut signature = Grey::of(&square).cells(SIGNATURE_SIDE, SIGNATURE_SIDE).values;
        let middle = signature.iter().sum::<f32>() / signature.len() as f32;
        signature.iter_mut().for_each(|v| *v -= middle);
        let small = shrink(&work, work.width.max(work.height), PART_SIDE)?;
        let small_enough = || shrink(&work, work.width.max(work.height), THUMBNAIL_SIDE);
        Ok(Self {
            header: Header::read(bytes),
            width: picture.width,
            height: picture.height,
            sha256: Sha256::digest(bytes).into(),
            pixels_sha256: pixels_sha256(picture),
            light: light(&work, mean.into(), deviation.into()),
            sharpness: grey.sharpness().map(f64::from),
            signature,
            part: Part::find(&small),
            features: None,
            thumbnail: if thumbnail { encode(&small_enough()?) } else { None },
        })
    }

    /// Whether the picture shows nothing: its grey levels deviate by less than one.
    #[must_use]
    pub fn is_blank(&self) -> bool {
        self.light.deviation < 1.0
    }
}

fn pixels_sha256(picture: &Rgb8) -> [u8; 32] {
    let mut digest = Sha256::new();
    [picture.width, picture.height].iter().for_each(|&side| digest.update((side as u64).to_le_bytes()));
    digest.update(&picture.data);
    digest.finalize().into()
}

/// The picture with `side` pixels (one of its sides, or less) brought to `most`, or as it is.
fn shrink(picture: &Rgb8, side: usize, most: usize) -> Result<Rgb8> {
    if side <= most {
        return Ok(picture.clone());
    }
    let scaled = |length: usize| ((length * most + side / 2) / side).max(1);
    let size = InputSize { height: scaled(picture.height), width: scaled(picture.width) };
    Ok(Geometry { fit: Fit::Stretch, size }.apply(picture)?.0)
}

fn light(picture: &Rgb8, mean: f64, deviation: f64) -> Light {
    let (mut black, mut white, mut spread) = (0usize, 0usize, 0u64);
    for p in picture.data.chunks_exact(3) {
        let (low, high) = (p[0].min(p[1]).min(p[2]), p[0].max(p[1]).max(p[2]));
        black += usize::from(high <= CLIPPED);
        white += usize::from(low >= 255 - CLIPPED);
        spread += u64::from(high - low);
    }
    let n = (picture.width * picture.height) as f64;
    Light {
        mean,
        deviation,
        black: black as f64 / n,
        white: white as f64 / n,
        coloured: spread as f64 / n > GREY_LEVELS,
    }
}

fn encode(picture: &Rgb8) -> Option<Vec<u8>> {
    let (width, height) = (u32::try_from(picture.width).ok()?, u32::try_from(picture.height).ok()?);
    let mut bytes = Vec::new();
    let mut encoder = JpegEncoder::new_with_quality(&mut bytes, 82);
    encoder.encode(&picture.data, width, height, ExtendedColorType::Rgb8).ok().map(|()| bytes)
}
