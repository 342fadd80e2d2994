//! A picture of any size -> the size that the model looks at.

use serde::{Deserialize, Serialize};

use super::placement::{Axis, Placement};
use super::resample::{Window, resample};
use crate::image::{DefectMask, Rgb8};
use crate::{Error, Result};

/// The longest side of a model's input, in pixels.
pub const MAX_INPUT_SIDE: usize = 8192;

/// The longest side of a picture that is resized, in pixels: the resampling weights take memory by the side.
pub const MAX_PICTURE_SIDE: usize = 1 << 20;

/// A size in pixels, rows first as in shapes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct InputSize {
    /// Rows.
    pub height: usize,
    /// Pixels a row.
    pub width: usize,
}

impl InputSize {
    /// As high as wide.
    pub const fn square(side: usize) -> Self {
        Self { height: side, width: side }
    }
}

impl std::fmt::Display for InputSize {
    /// Width first, as pictures' sizes are written: `640 x 480`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} x {}", self.width, self.height)
    }
}

/// What gives way when a picture has not the proportions of the model's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fit {
    /// The proportions: both axes are resized independently. Nothing of the picture is lost.
    Stretch,
    /// The margins: the shorter side is resized to `resize`, then the centre is cut out (the paper's way, by
    /// torchvision's rules of rounding).
    Crop {
        /// Length of the shorter side before the crop, in pixels; at least the input's.
        resize: usize,
    },
    /// The resolution: the whole picture is fitted in, centred, and the rest is filled with the picture's mean
    /// colour, which makes a weaker artificial edge than black would.
    Pad,
}

/// How pictures are brought to the size that the model looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Geometry {
    /// What gives way.
    pub fit: Fit,
    /// Size of the model's input.
    pub size: InputSize,
}

/// One axis: the original has `original` pixels, resized they would be `resized`, and the model's input begins at
/// `cropped` of them (or they begin at `padded` of it) and shows `shown`.
#[derive(Debug, Clone, Copy)]
struct Span {
    original: usize,
    resized: usize,
    cropped: usize,
    padded: usize,
    shown: usize,
}

impl Geometry {
    /// Brings a picture to the model's size: antialiased bilinear (a triangle filter that widens when shrinking), the
    /// same as Pillow's and so torchvision's on pictures, to one grey level.
    ///
    /// # Errors
    /// `Caller` where the size makes no sense, the crop is larger than the resized picture, or the picture has no
    /// pixels; `Limits` for a side above [`MAX_PICTURE_SIDE`] or [`MAX_INPUT_SIDE`].
    pub fn apply(&self, picture: &Rgb8) -> Result<(Rgb8, Placement)> {
        picture.check()?;
        let [x, y] = self.spans(picture.width, picture.height)?;
        let placement = self.placement(x, y);
        // Only the visible part is computed, from its window in the source: the filter still reads beyond the window,
        // so the result is that of resizing all and cropping, without the memory for a long picture's cropped ends.
        let shown = resample(picture, x.window(), y.window())?;
        if (x.shown, y.shown) == (self.size.width, self.size.height) {
            return Ok((shown, placement));
        }
        let mut data = mean_colour(picture).repeat(self.size.width * self.size.height);
        for row in 0..y.shown {
            let at = ((row + y.padded) * self.size.width + x.padded) * 3;
            let from = row * x.shown * 3;
            data[at..at + x.shown * 3].copy_from_slice(&shown.data[from..from + x.shown * 3]);
        }
        Ok((Rgb8 { width: self.size.width, height: self.size.height, data }, placement))
    }

    /// Brings a mask to the model's size by nearest neighbours, as Pillow's `NEAREST` picks them: source index
    /// `floor((i + 0.5) * original / resized)`. It lies as [`Geometry::apply`] lays the picture; the padding is good
    /// (0), and the mask stays binary.
    ///
    /// # Errors
    /// As [`Geometry::apply`].
    pub fn apply_mask(&self, mask: &DefectMask) -> Result<DefectMask> {
        mask.check()?;
        let [x, y] = self.spans(mask.width, mask.height)?;
        let (columns, rows) = (x.nearest(), y.nearest());
        let mut data = vec![0; self.size.width * self.size.height];
        for (i, &row) in rows.iter().enumerate() {
            let out = &mut data[(i + y.padded) * self.size.width + x.padded..][..x.shown];
            for (value, &column) in out.iter_mut().zip(&columns) {
                *value = u8::from(mask.data[row * mask.width + column] != 0);
            }
        }
        Ok(DefectMask { width: self.size.width, height: self.size.height, data })
    }

    /// How a picture of this size will lie in the model's input, without any picture.
    ///
    /// # Errors
    /// As [`Geometry::apply`].
    pub fn place(&self, width: usize, height: usize) -> Result<Placement> {
        let [x, y] = self.spans(width, height)?;
        Ok(self.placement(x, y))
    }

    fn placement(&self, x: Span, y: Span) -> Placement {
        let original = InputSize { height: y.original, width: x.original };
        Placement { x: x.axis(), y: y.axis(), original, model: self.size }
    }

    /// Horizontal and vertical span of a picture of `width` x `height`.
    fn spans(&self, width: usize, height: usize) -> Result<[Span; 2]> {
        let found = InputSize { height, width };
        check_sides("model input", self.size, MAX_INPUT_SIDE)?;
        check_sides("picture", found, MAX_PICTURE_SIDE)?;
        let [resized_width, resized_height] = match self.fit {
            Fit::Stretch => [self.size.width, self.size.height],
            Fit::Crop { resize } => {
                check_sides("shorter side before the crop", InputSize::square(resize), MAX_INPUT_SIDE)?;
                // torchvision: the longer side is int(resize * long / short).
                let short = width.min(height);
                [resize * width / short, resize * height / short]
            }
            Fit::Pad => {
                let scale =
                    (self.size.width as f64 / width as f64).min(self.size.height as f64 / height as f64);
                [(width, self.size.width), (height, self.size.height)]
                    .map(|(side, most)| ((side as f64 * scale).round() as usize).clamp(1, most))
            }
        };
        let too_small = resized_width < self.size.width || resized_height < self.size.height;
        if matches!(self.fit, Fit::Crop { .. }) && too_small {
            let resized = InputSize { height: resized_height, width: resized_width };
            return Err(Error::caller(format!(
                "cannot crop {} from a picture of {found}: it is resized to {resized} before the crop",
                self.size
            )));
        }
        Ok([
            Span::new(width, resized_width, self.size.width),
            Span::new(height, resized_height, self.size.height),
        ])
    }
}

impl Span {
    fn new(original: usize, resized: usize, model: usize) -> Self {
        // torchvision's CenterCrop: int(round((resized - model) / 2.0)), where Python rounds halves to even.
        let cropped = (resized.saturating_sub(model) as f64 / 2.0).round_ties_even() as usize;
        Self {
            original,
            resized,
            cropped,
            padded: model.saturating_sub(resized) / 2,
            shown: resized.min(model),
        }
    }

    fn axis(self) -> Axis {
        Axis {
            scale: self.resized as f64 / self.original as f64,
            offset: self.padded as f64 - self.cropped as f64,
        }
    }

    fn window(self) -> Window {
        let source = |resized: usize| resized as f64 * self.original as f64 / self.resized as f64;
        let start = source(self.cropped);
        // The end may come out a rounding error beyond the picture, which the resizer would refuse.
        let length = source(self.shown).min(self.original as f64 - start);
        Window { start, length, out: self.shown }
    }

    /// The source index of every shown pixel.
    fn nearest(self) -> Vec<usize> {
        let step = self.original as f64 / self.resized as f64;
        (0..self.shown)
            .map(|i| ((((i + self.cropped) as f64 + 0.5) * step) as usize).min(self.original - 1))
            .collect()
    }
}

fn check_sides(what: &str, size: InputSize, most: usize) -> Result<()> {
    if size.width == 0 || size.height == 0 {
        return Err(Error::caller(format!("{what}: expected at least 1 x 1 pixels, found {size}")));
    }
    if size.width.max(size.height) > most {
        return Err(Error::limits(format!("{what}: expected sides of at most {most} pixels, found {size}")));
    }
    Ok(())
}

/// The mean of each channel, rounded.
fn mean_colour(picture: &Rgb8) -> [u8; 3] {
    let mut sums = [0_u64; 3];
    for pixel in picture.data.chunks_exact(3) {
        for c in 0..3 {
            sums[c] += u64::from(pixel[c]);
        }
    }
    let count = (picture.data.len() / 3) as u64;
    sums.map(|sum| ((sum + count / 2) / count) as u8)
}
