//! Bytes -> the floats that a network was trained on.

use serde::{Deserialize, Serialize};

use crate::image::Rgb8;
use crate::{Error, Result};

/// `(value / 255 - mean) / std` for each of R, G, B.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Normalization {
    /// Subtracted from values on `[0, 1]`; R, G, B.
    pub mean: [f32; 3],
    /// Divides the difference; R, G, B; not 0.
    pub std: [f32; 3],
}

impl Normalization {
    /// Mean and standard deviation of ImageNet, as torchvision's weights expect them.
    pub const IMAGENET: Self = Self { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };

    /// What EfficientNet-Lite expects: `(value - 127) / 128`.
    pub const LITE: Self = Self { mean: [127.0 / 255.0; 3], std: [128.0 / 255.0; 3] };

    /// The picture as floats: `height` rows of `width` pixels of 3 values, R G B interleaved (NHWC with N = 1).
    pub fn to_nhwc(&self, picture: &Rgb8) -> Vec<f32> {
        let mut out = vec![0.0; picture.data.len()];
        self.fill(&picture.data, &mut out);
        out
    }

    /// As [`Normalization::to_nhwc`], into memory that is already there (a slot of a batch).
    ///
    /// # Errors
    /// `Caller` where `out` is not as long as the picture's bytes.
    pub fn write_nhwc(&self, picture: &Rgb8, out: &mut [f32]) -> Result<()> {
        if out.len() != picture.data.len() {
            return Err(Error::caller(format!(
                "normalised picture of {} x {}: expected room for {} values, found {}",
                picture.width,
                picture.height,
                picture.data.len(),
                out.len()
            )));
        }
        self.fill(&picture.data, out);
        Ok(())
    }

    fn fill(&self, bytes: &[u8], out: &mut [f32]) {
        let table = self.table();
        for (pixel, values) in bytes.chunks_exact(3).zip(out.chunks_exact_mut(3)) {
            for c in 0..3 {
                values[c] = table[c][usize::from(pixel[c])];
            }
        }
    }

    /// What each byte becomes in each channel; computed in float64 so that no rounding adds up.
    fn table(&self) -> [[f32; 256]; 3] {
        std::array::from_fn(|c| {
            let (mean, std) = (f64::from(self.mean[c]), f64::from(self.std[c]));
            std::array::from_fn(|v| ((v as f64 / 255.0 - mean) / std) as f32)
        })
    }
}
