//! A view: one picture size with its heads (one, or one a fold of the good pictures) and the scale of their scores.

use pbas_nn::linalg::Threads;
use serde::{Deserialize, Serialize};

use crate::backbone::Backbone;
use crate::features::{ExtractScratch, Extractor};
use crate::head::{GridHead, Head};
use crate::image::Rgb8;
use crate::preprocess::{Geometry, InputSize, Placement};
use crate::score::{ScoreMap, SmoothUpsampler};
use crate::settings::Settings;
use crate::{Error, Result};

/// Deviation of the map's Gaussian in pixels of the view (algorithm.md, section 4).
pub const MAP_SIGMA: f64 = 4.0;

/// What a head gives for the patches of good pictures that it has not seen: brings heads to one scale.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LogitScale {
    /// Mean of the patch logits.
    pub mean: f64,
    /// Their standard deviation, positive.
    pub deviation: f64,
}

impl LogitScale {
    /// Leaves logits as they are.
    pub const IDENTITY: Self = Self { mean: 0.0, deviation: 1.0 };

    /// A logit in deviations above good patches.
    #[must_use]
    pub fn apply(self, logit: f32) -> f32 {
        ((f64::from(logit) - self.mean) / self.deviation) as f32
    }
}

/// What good pictures score in a view, each scored by a head that has not seen it: brings views to one scale.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ViewScale {
    /// Mean of the image scores.
    pub image_mean: f64,
    /// Their standard deviation, positive.
    pub image_deviation: f64,
    /// Scale of each head's patch logits.
    pub heads: Vec<LogitScale>,
}

/// What a model file keeps of a view.
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    /// Picture size.
    pub size: InputSize,
    /// Heads of one size each; their logits are brought to scale and averaged.
    pub heads: Vec<Head>,
    /// Scale of the scores.
    pub scale: ViewScale,
}

/// A view ready to run.
#[derive(Debug)]
pub struct ViewRunner {
    extractor: Extractor,
    head: GridHead,
    upsampler: SmoothUpsampler,
    scale: ViewScale,
}

impl ViewRunner {
    /// Resolves a view; `map_size` is the size of the model's score map (the largest view's).
    ///
    /// # Errors
    /// A size or feature layer that the backbone cannot serve, or heads for features of another length.
    pub fn new(backbone: &Backbone, view: &View, settings: &Settings, map_size: InputSize) -> Result<Self> {
        let geometry = Geometry { fit: settings.fit, size: view.size };
        let extractor = Extractor::new(backbone, geometry, &settings.feature_layers, settings.pooling)?;
        let dim = extractor.embedding().dim();
        if view.scale.heads.len() != view.heads.len() {
            return Err(Error::input(format!("view {}: expected one scale a head", view.size.width)));
        }
        if view.heads.is_empty() || view.heads.iter().any(|h| h.projection.dim != dim) {
            return Err(Error::input(format!("view {}: expected heads for {dim} features", view.size.width)));
        }
        let head = GridHead::new(&view.heads.iter().collect::<Vec<_>>(), extractor.embedding())?;
        let (h, w) = extractor.embedding().grid();
        // The Gaussian is 4 pixels wide at the view's own size; on the map of a larger view it is as much wider.
        let sigma = MAP_SIGMA * map_size.width as f64 / view.size.width as f64;
        let upsampler = SmoothUpsampler::new(h, w, map_size.height, map_size.width, sigma)?;
        Ok(Self { extractor, head, upsampler, scale: view.scale.clone() })
    }

    /// Score of each patch of a picture (the mean over the heads of their logits on scale), and where the picture lies in
    /// the input.
    ///
    /// # Errors
    /// A picture that the geometry cannot lay out.
    pub fn patch_scores(
        &self,
        picture: &Rgb8,
        scratch: &mut ExtractScratch,
        threads: Threads,
    ) -> Result<(Vec<f32>, Placement)> {
        let (pooled, placement) = self.extractor.extract(picture, scratch, threads)?;
        let heads = self.head.heads();
        let logits = self.head.logits(&pooled, threads);
        let mean = |l: &[f32]| {
            let on_scale = l.iter().zip(&self.scale.heads).map(|(&v, s)| s.apply(v));
            on_scale.sum::<f32>() / heads as f32
        };
        Ok((logits.chunks_exact(heads).map(mean).collect(), placement))
    }

    /// Patch values as a map of the model's size: upsampled and smoothed.
    ///
    /// # Errors
    /// As [`SmoothUpsampler::apply`].
    pub fn map(&self, patches: &[f32]) -> Result<ScoreMap> {
        self.upsampler.apply(patches)
    }

    /// The heads, folded for this view's grid.
    pub(crate) fn head(&self) -> &GridHead {
        &self.head
    }

    /// The scale of this view's scores.
    #[must_use]
    pub fn scale(&self) -> &ViewScale {
        &self.scale
    }
}
