//! Bytes -> [`Rgb8`] within limits: decompression bombs, EXIF orientation, 16 bit, grey, palette, alpha.

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
