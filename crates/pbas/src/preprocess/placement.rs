//! How an original picture lies in a model's input.

use std::ops::Range;

use super::InputSize;

/// One axis of a [`Placement`]: `model = original * scale + offset`, in continuous coordinates.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Axis {
    /// Model pixels for one original pixel; above 0.
    pub scale: f64,
    /// Where the original's edge lies in the model's input: below 0 where it is cropped, above 0 where it is padded.
    pub offset: f64,
}

impl Axis {
    /// From a coordinate of the original to one of the model's input.
    pub fn to_model(self, original: f64) -> f64 {
        original * self.scale + self.offset
    }
    /// From a coordinate of the model's input to one of the original.
    pub fn to_original(self, model: f64) -> f64 {
        (model - self.offset) / self.scale
    }
    /// The part `[start, end]` of the model's input (of length `model`) that shows the original (of length `original`).
    pub(super) fn shown(self, original: usize, model: usize) -> (f64, f64) {
        (self.to_model(0.0).max(0.0), self.to_model(original as f64).min(model as f64))
    }
}

/// How an original picture lies in a model's input: stretched, cropped or padded, one affine map an axis. Pixel `i`
/// covers `[i, i + 1)` on either side.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Placement {
    /// Left to right.
    pub x: Axis,
    /// Top to bottom.
    pub y: Axis,
    /// Size of the original picture.
    pub original: InputSize,
    /// Size of the model's input.
    pub model: InputSize,
}

impl Placement {
    /// From a point of the original picture to a point of the model's input (outside it where that part is cropped).
    pub fn to_model(&self, x: f64, y: f64) -> (f64, f64) {
        (self.x.to_model(x), self.y.to_model(y))
    }

    /// From a point of the model's input to a point of the original picture (outside it in the padding).
    pub fn to_original(&self, x: f64, y: f64) -> (f64, f64) {
        (self.x.to_original(x), self.y.to_original(y))
    }

    /// Rows and columns of the model's input whose pixels show, by their centres, the original picture; the others are padding.
    pub fn shown(&self) -> [Range<usize>; 2] {
        let along = |axis: Axis, original: usize, model: usize| {
            let (start, end) = axis.shown(original, model);
            (start - 0.5).ceil() as usize..(end - 0.5).ceil() as usize
        };
        let rows = along(self.y, self.original.height, self.model.height);
        [rows, along(self.x, self.original.width, self.model.width)]
    }

    /// A rectangle `[x, y, width, height]` of the model's input in the original picture, cut to the picture (width or
    /// height is 0 where the rectangle lies in the padding).
    pub fn rect_to_original(&self, rect: [f64; 4]) -> [f64; 4] {
        map_rect(rect, self.original, |v| self.x.to_original(v), |v| self.y.to_original(v))
    }

    /// A rectangle `[x, y, width, height]` of the original picture in the model's input, cut to the input (width or
    /// height is 0 where the rectangle is cropped away).
    pub fn rect_to_model(&self, rect: [f64; 4]) -> [f64; 4] {
        map_rect(rect, self.model, |v| self.x.to_model(v), |v| self.y.to_model(v))
    }
}

fn map_rect(
    [x, y, width, height]: [f64; 4],
    size: InputSize,
    along_x: impl Fn(f64) -> f64,
    along_y: impl Fn(f64) -> f64,
) -> [f64; 4] {
    let (w, h) = (size.width as f64, size.height as f64);
    let (left, right) = (along_x(x).clamp(0.0, w), along_x(x + width).clamp(0.0, w));
    let (top, bottom) = (along_y(y).clamp(0.0, h), along_y(y + height).clamp(0.0, h));
    [left, top, right - left, bottom - top]
}
