//! Bytes -> [`Rgb8`] within limits: decompression bombs, EXIF orientation, 16 bit, grey, palette, alpha.
//!
//! Every picture becomes 8-bit RGB: grey is repeated over the three channels, a palette is looked up, 16-bit samples
//! are divided by 257 and rounded, and an alpha channel is dropped (a transparent pixel shows the colour stored below
//! it; nothing is blended). The format goes by the content, never by the file's extension.

mod areas;
mod decode;
mod jpeg;

pub use areas::{DefectArea, read_areas, union};
pub(crate) use decode::masks_of;
pub use decode::{decode_rgb, dimensions, read_mask, read_rgb, read_rgb_and_bytes};

use std::io::Cursor;
use std::path::Path;

use image::{ExtendedColorType, ImageEncoder};

use crate::{Error, Result};

/// An RGB picture: `height` rows of `width` pixels of 3 bytes, interleaved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rgb8 {
    /// Pixels a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `height * width * 3` bytes, row-major, R G B.
    pub data: Vec<u8>,
}

/// A binary picture of what is defective: `height` rows of `width` values, 0 good, 1 defective.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DefectMask {
    /// Pixels a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `height * width` values, 0 or 1, row-major.
    pub data: Vec<u8>,
}

/// How pictures are decoded, and the limits that guard memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodeOptions {
    /// Turn and mirror the picture as its EXIF orientation says (default: yes; the paper protocol says no).
    pub apply_orientation: bool,
    /// The most pixels (width times height) that a picture may have (default: 100 million). Checked on the header,
    /// before memory for the pixels is taken.
    pub max_pixels: u64,
    /// The longest file that is read, in bytes (default: 512 MiB).
    pub max_file_bytes: u64,
}

impl Default for DecodeOptions {
    fn default() -> Self {
        Self { apply_orientation: true, max_pixels: 100_000_000, max_file_bytes: 512 << 20 }
    }
}

/// The file name extensions by which pictures are found in folders (lower case).
pub const PICTURE_EXTENSIONS: [&str; 7] = ["png", "jpg", "jpeg", "bmp", "tif", "tiff", "webp"];

/// Whether the path has one of [`PICTURE_EXTENSIONS`], in any case. The file itself is not looked at.
pub fn is_picture_path(path: &Path) -> bool {
    let extension = path.extension().and_then(|e| e.to_str());
    extension.is_some_and(|e| PICTURE_EXTENSIONS.iter().any(|p| e.eq_ignore_ascii_case(p)))
}

impl Rgb8 {
    /// The picture as an 8-bit RGB PNG.
    ///
    /// # Errors
    /// `Caller` where the bytes do not fit the size or the picture has no pixels; `Limits` where PNG has no room for its size.
    pub fn png(&self) -> Result<Vec<u8>> {
        self.check()?;
        encode_png(&self.data, self.width, self.height, ExtendedColorType::Rgb8)
    }

    /// Writes the picture as an 8-bit RGB PNG, over whatever file is there.
    ///
    /// # Errors
    /// As [`Rgb8::png`]; `Io`, naming the path, where the file cannot be written.
    pub fn write_png(&self, path: &Path) -> Result<()> {
        // Encoded in memory first, so that only the operating system can fail while the file is open.
        let bytes = self.png().map_err(|e| e.context(format!("cannot encode `{}`", path.display())))?;
        std::fs::write(path, bytes).map_err(|e| Error::io("cannot write", path, e))
    }

    /// That there are pixels, and as many bytes as the size says.
    pub(crate) fn check(&self) -> Result<()> {
        check_samples("picture", self.width, self.height, 3, self.data.len())
    }
}

impl DefectMask {
    /// That there are pixels, and as many values as the size says.
    pub(crate) fn check(&self) -> Result<()> {
        check_samples("mask", self.width, self.height, 1, self.data.len())
    }
}

/// PNG of samples whose number fits the size.
///
/// # Errors
/// `Limits` where PNG has no room for the size.
pub(crate) fn encode_png(
    data: &[u8],
    width: usize,
    height: usize,
    colour: ExtendedColorType,
) -> Result<Vec<u8>> {
    let side = |n: usize| {
        u32::try_from(n).map_err(|_| Error::limits(format!("cannot write {width} x {height} pixels as PNG")))
    };
    let mut bytes = Cursor::new(Vec::new());
    image::codecs::png::PngEncoder::new(&mut bytes)
        .write_image(data, side(width)?, side(height)?, colour)
        .map_err(|e| Error::caller("cannot encode a picture as PNG").with_source(e))?;
    Ok(bytes.into_inner())
}

fn check_samples(what: &str, width: usize, height: usize, channels: usize, found: usize) -> Result<()> {
    if width == 0 || height == 0 {
        return Err(Error::caller(format!("{what} of {width} x {height} has no pixels")));
    }
    if width.checked_mul(height).and_then(|n| n.checked_mul(channels)) != Some(found) {
        return Err(Error::caller(format!(
            "{what} of {width} x {height}: expected {channels} bytes a pixel, found {found} bytes in all"
        )));
    }
    Ok(())
}
