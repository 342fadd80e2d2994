//! Antialiased bilinear resampling with Pillow's rounding.

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};

use crate::image::Rgb8;
use crate::{Error, Result};

/// The most pixels between the two passes (192 MiB) for which Pillow's order is kept at any price.
const MAX_BETWEEN: usize = 1 << 26;

/// The part of an axis that is resampled, in source pixels and fractions of them. The filter reads beyond it where
/// the source goes on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    pub start: f64,
    pub length: f64,
    /// Pixels that it becomes.
    pub out: usize,
}

/// Resamples a window of a picture: a triangle filter, which widens by the factor of shrinking.
///
/// Pillow resamples rows first, rounds to whole grey levels, then columns; the resizer does columns first, and a fifth
/// of the pixels would come out one level off. So it is given one axis at a time. Only where a very long picture would
/// take too much memory that way is the order left to it.
pub(super) fn resample(picture: &Rgb8, x: Window, y: Window) -> Result<Rgb8> {
    // The rows that the second pass will read: its filter reaches one output pixel (or one source pixel) further.
    let reach = (y.length / y.out as f64).max(1.0) + 1.0;
    let first = (y.start - reach).floor().max(0.0) as usize;
    let last = ((y.start + y.length + reach).ceil() as usize).min(picture.height);
    let start = y.start - first as f64;
    let below_first = Window { start, length: y.length.min((last - first) as f64 - start), ..y };
    let stride = picture.width * 3;
    let source = Source {
        width: picture.width,
        height: last - first,
        data: &picture.data[first * stride..last * stride],
    };

    let between = x.out * source.height;
    if between > MAX_BETWEEN && between > picture.width * y.out {
        return pass(source, x, below_first);
    }
    let rows = pass(source, x, whole(source.height))?;
    pass(Source { width: rows.width, height: rows.height, data: &rows.data }, whole(rows.width), below_first)
}

#[derive(Clone, Copy)]
struct Source<'a> {
    width: usize,
    height: usize,
    data: &'a [u8],
}

/// An axis that stays as it is.
fn whole(length: usize) -> Window {
    Window { start: 0.0, length: length as f64, out: length }
}

fn pass(source: Source<'_>, x: Window, y: Window) -> Result<Rgb8> {
    let failed = |e: Box<dyn std::error::Error + Send + Sync>| {
        let Source { width, height, .. } = source;
        Error::caller(format!("cannot resize {width} x {height} pixels to {} x {}", x.out, y.out))
            .with_source(e)
    };
    // Sides are checked against MAX_PICTURE_SIDE and MAX_INPUT_SIDE, far below u32::MAX.
    let picture = ImageRef::new(source.width as u32, source.height as u32, source.data, PixelType::U8x3)
        .map_err(|e| failed(e.into()))?;
    let mut target = Image::new(x.out as u32, y.out as u32, PixelType::U8x3);
    let options = ResizeOptions::new()
        .resize_alg(ResizeAlg::Convolution(FilterType::Bilinear))
        .crop(x.start, y.start, x.length, y.length);
    Resizer::new().resize(&picture, &mut target, &options).map_err(|e| failed(e.into()))?;
    Ok(Rgb8 { width: x.out, height: y.out, data: target.into_vec() })
}
