//! 8-connected components of a binary picture, for predicted regions and for the regions of a defect mask.

use image::{GrayImage, ImageBuffer, Luma};
use imageproc::region_labelling::{Connectivity, connected_components};

use crate::{Error, Result};

/// The components within the smallest rectangle that holds all of them.
pub(crate) struct Components {
    x: usize,
    y: usize,
    labels: ImageBuffer<Luma<u32>, Vec<u32>>,
}

impl Components {
    /// Labels the pixels of a `height` x `width` picture whose row-major index `is_set` accepts.
    pub(crate) fn new(width: usize, height: usize, is_set: impl Fn(usize) -> bool) -> Result<Self> {
        // Defects are small and labelling takes some 25 bytes a pixel: look only where there is something.
        let (mut left, mut right, mut top, mut bottom) = (width, 0, height, 0);
        for y in 0..height {
            for x in 0..width {
                if is_set(y * width + x) {
                    (left, right) = (left.min(x), right.max(x + 1));
                    (top, bottom) = (top.min(y), y + 1);
                }
            }
        }
        if left >= right {
            return Ok(Self { x: 0, y: 0, labels: ImageBuffer::new(0, 0) });
        }
        // One column of background to the right: the library needs more pixels than components, which a
        // picture of one set pixel would not have.
        let (w, h) = (right - left + 1, bottom - top);
        let sizes = u32::try_from(w).ok().zip(u32::try_from(h).ok());
        let Some((w, h)) = sizes.filter(|(w, h)| w.checked_mul(*h).is_some()) else {
            return Err(Error::limits(format!(
                "picture of {width} x {height}: expected fewer than 2^32 pixels to search for regions"
            )));
        };
        let mut picture = GrayImage::new(w, h);
        for (i, row) in picture.chunks_exact_mut(w as usize).enumerate() {
            for (x, p) in row[..right - left].iter_mut().enumerate() {
                *p = u8::from(is_set((top + i) * width + left + x));
            }
        }
        let labels = connected_components(&picture, Connectivity::Eight, Luma([0]));
        Ok(Self { x: left, y: top, labels })
    }

    /// Every set pixel in row-major order: x, y and its component, numbered from 0 in the order of their first pixel.
    pub(crate) fn pixels(&self) -> impl Iterator<Item = (usize, usize, usize)> + '_ {
        self.labels
            .enumerate_pixels()
            .filter(|(_, _, label)| label.0[0] > 0)
            .map(|(x, y, label)| (self.x + x as usize, self.y + y as usize, label.0[0] as usize - 1))
    }
}
