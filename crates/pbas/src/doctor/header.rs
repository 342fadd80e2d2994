//! What a picture's file says about itself: format, colour mode, EXIF turn. Nothing is decoded.

use std::io::Cursor;

use image::metadata::Orientation;
use image::{ExtendedColorType, ImageDecoder, ImageReader};

/// What the beginning of a picture's file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// `PNG`, `JPEG`, ...
    pub format: String,
    /// `grey`, `colour`, `grey with alpha`, `colour with alpha`, with `16 bit` in front where it is so.
    pub colour: String,
    /// Whether the EXIF orientation asks for a turn or a mirror.
    pub turned: bool,
}

impl Header {
    /// Reads the header of a file that could be decoded; what it does not say is `unknown`.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Self {
        let unknown = || Self { format: "unknown".into(), colour: "unknown".into(), turned: false };
        let Ok(reader) = ImageReader::new(Cursor::new(bytes)).with_guessed_format() else { return unknown() };
        let Some(format) = reader.format() else { return unknown() };
        let format = format!("{format:?}").to_uppercase();
        let Ok(mut decoder) = reader.into_decoder() else { return Self { format, ..unknown() } };
        let turned = decoder.orientation().is_ok_and(|o| o != Orientation::NoTransforms);
        Self { format, colour: colour(decoder.original_color_type()).into(), turned }
    }
}

fn colour(kind: ExtendedColorType) -> &'static str {
    use ExtendedColorType as C;
    match kind {
        C::L1 | C::L2 | C::L4 | C::L8 => "grey",
        C::L16 => "16 bit grey",
        C::La1 | C::La2 | C::La4 | C::La8 => "grey with alpha",
        C::La16 => "16 bit grey with alpha",
        C::Rgba1 | C::Rgba2 | C::Rgba4 | C::Rgba8 | C::Bgra8 => "colour with alpha",
        C::Rgba16 => "16 bit colour with alpha",
        C::Rgb16 => "16 bit colour",
        C::Cmyk8 | C::Cmyk16 => "CMYK",
        _ => "colour",
    }
}
