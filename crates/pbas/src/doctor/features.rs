//! A whole picture in a few hundred numbers: mean and deviation of every channel of the backbone over the picture.

use pbas_nn::Precision;
use pbas_nn::linalg::Threads;

use crate::Result;
use crate::backbone::Backbone;
use crate::features::{ExtractScratch, Extractor};
use crate::image::Rgb8;
use crate::patch::{PatchEmbedding, Pooling};
use crate::preprocess::{Fit, Geometry, InputSize};

/// Side to which a picture is brought: enough to tell parts and large defects, at a tenth of a training view's cost.
const SIDE: usize = 192;
/// Layers that are looked at.
const LAYERS: [&str; 3] = ["stride8", "stride16", "stride32"];

/// The network that makes them, at one small size.
#[derive(Debug)]
pub struct WholePicture {
    extractor: Extractor,
}

impl WholePicture {
    /// With a backbone that has the layers `stride8`, `stride16` and `stride32`.
    ///
    /// # Errors
    /// A backbone without these layers.
    pub fn new(backbone: &Backbone) -> Result<Self> {
        let geometry = Geometry { fit: Fit::Stretch, size: InputSize::square(SIDE) };
        let layers = LAYERS.map(String::from);
        Ok(Self {
            extractor: Extractor::new(backbone, geometry, &layers, Pooling::Channels, Precision::F32)?,
        })
    }

    /// Of one picture.
    ///
    /// # Errors
    /// A picture that cannot be laid out.
    pub fn of(&self, picture: &Rgb8, scratch: &mut ExtractScratch) -> Result<Vec<f32>> {
        let (pooled, _) = self.extractor.extract(picture, scratch, Threads::One)?;
        Ok(whole_picture(&pooled, self.extractor.embedding()))
    }
}

/// Mean and standard deviation of every entry of every layer over the layer's positions, from a picture's pooled values
/// ([`PatchEmbedding::pool`]); also for values that training has cached anyway.
///
/// # Panics
/// If `pooled` has another length than the embedding says.
#[must_use]
pub fn whole_picture(pooled: &[f32], embedding: &PatchEmbedding) -> Vec<f32> {
    assert_eq!(pooled.len(), embedding.pooled_len(), "pooled values");
    let mut out = Vec::new();
    for part in embedding.parts() {
        let values = &pooled[part.offset..part.offset + part.positions * part.entries];
        let n = part.positions as f32;
        let mut mean = vec![0.0f32; part.entries];
        for row in values.chunks_exact(part.entries) {
            mean.iter_mut().zip(row).for_each(|(m, v)| *m += v / n);
        }
        let mut variance = vec![0.0f32; part.entries];
        for row in values.chunks_exact(part.entries) {
            for ((s, v), m) in variance.iter_mut().zip(row).zip(&mean) {
                *s += (v - m).powi(2) / n;
            }
        }
        out.extend(mean);
        out.extend(variance.iter().map(|v| v.sqrt()));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use pbas_nn::shape::Shape;

    #[test]
    fn means_and_deviations_of_each_layer() {
        let shape = |height, width, channels| Shape { height, width, channels };
        let embedding = PatchEmbedding::new(&[shape(2, 2, 1), shape(1, 1, 2)], Pooling::Channels).unwrap();
        let found = whole_picture(&[1.0, 3.0, 1.0, 3.0, 7.0, -8.0], &embedding);
        assert_eq!(found, [2.0, 1.0, 7.0, -8.0, 0.0, 0.0]);
    }
}
