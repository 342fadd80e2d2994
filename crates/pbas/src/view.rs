//! A view: one picture size with its heads (one, or one a fold of the good pictures) and the scale of their scores.

use std::ops::Range;

use pbas_nn::linalg::Threads;
use serde::{Deserialize, Serialize};

use crate::backbone::Backbone;
use crate::calibrate::patches_score;
use crate::features::{ExtractScratch, Extractor};
use crate::head::{GridHead, Head, of_head, sigmoid};
use crate::image::Rgb8;
use crate::neighbours::{NeighbourRunner, Neighbours};
use crate::patch::PatchEmbedding;
use crate::preprocess::{Geometry, InputSize, Placement};
use crate::roi::Positions;
use crate::score::{InsideMap, ScoreMap, SmoothUpsampler};
use crate::settings::{MapViews, Scoring, Settings};
use crate::{Error, Result};

/// Deviation of the map's Gaussian in pixels of the view (algorithm.md, section 4).
pub const MAP_SIGMA: f64 = 4.0;

/// Mean and deviation of what a head's patches are in the map, for good pictures that it has not seen: brings heads and views to one scale there.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PatchScale {
    /// Mean.
    pub mean: f64,
    /// Standard deviation, positive.
    pub deviation: f64,
}

impl PatchScale {
    /// Leaves logits as they are.
    pub const IDENTITY: Self = Self { mean: 0.0, deviation: 1.0 };

    /// A logit in deviations above good patches.
    #[must_use]
    pub fn apply(self, logit: f32) -> f32 {
        ((f64::from(logit) - self.mean) / self.deviation) as f32
    }
}

/// What a model file keeps of a view.
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    /// Picture size.
    pub size: InputSize,
    /// Heads, all of one size.
    pub heads: Vec<Head>,
    /// Good patches that are remembered, if any.
    pub neighbours: Option<Neighbours>,
    /// Scale of each head in the map.
    pub scales: Vec<PatchScale>,
}

/// What is known of the patches of a picture in a view.
#[derive(Debug, Clone, PartialEq)]
pub struct PatchEvidence {
    /// Logits of some heads joined by the distances to remembered patches, `[patches, heads]`.
    pub logits: Vec<f32>,
    /// What they are in the map; empty where that is the same.
    in_map: Vec<f32>,
}

impl PatchEvidence {
    /// Joins logits of some heads by the distances of a picture's pooled features.
    pub(crate) fn of(
        mut logits: Vec<f32>,
        heads: Range<usize>,
        neighbours: Option<&NeighbourRunner>,
        pooled: &[f32],
        threads: Threads,
    ) -> Self {
        let in_map = neighbours.map(|n| n.add_to(heads, &mut logits, pooled, threads));
        Self { logits, in_map: in_map.unwrap_or_default() }
    }

    /// What patches are in the map, before they are brought to scale, `[patches, heads]`.
    pub(crate) fn in_map(&self) -> &[f32] {
        if self.in_map.is_empty() { &self.logits } else { &self.in_map }
    }
}

/// A view ready to run.
#[derive(Debug)]
pub struct ViewRunner {
    extractor: Extractor,
    head: GridHead,
    neighbours: Option<NeighbourRunner>,
    upsampler: SmoothUpsampler,
    positions: Positions,
    /// Where there is a region of interest.
    inside: Option<InsideMap>,
    scales: Vec<PatchScale>,
    weight: f64,
    map_weight: f32,
}

impl ViewRunner {
    /// Resolves a view; `map_size` is the size of the model's score map (the largest view's).
    ///
    /// # Errors
    /// A size or feature layer that the backbone cannot serve, heads for features of another length, or a region of interest in
    /// which no patch lies.
    pub fn new(backbone: &Backbone, view: &View, settings: &Settings, map_size: InputSize) -> Result<Self> {
        let extractor = Extractor::for_view(backbone, view.size, settings)?;
        let geometry = extractor.geometry();
        let dim = extractor.embedding().dim();
        if view.scales.len() != view.heads.len() {
            return Err(Error::input(format!("view {}: expected one scale a head", view.size.width)));
        }
        if view.heads.is_empty() || view.heads.iter().any(|h| h.projection.dim != dim) {
            return Err(Error::input(format!("view {}: expected heads for {dim} features", view.size.width)));
        }
        let head = GridHead::new(&view.heads.iter().collect::<Vec<_>>(), extractor.embedding())?;
        let neighbours = NeighbourRunner::of_view(view, settings, extractor.embedding())?;
        let (h, w) = extractor.embedding().grid();
        // The Gaussian is 4 pixels wide at the view's own size; on the map of a larger view it is as much wider.
        let weight = view.size.width as f64 / map_size.width as f64;
        let sigma = MAP_SIGMA / weight;
        let upsampler = SmoothUpsampler::new(h, w, map_size.height, map_size.width, sigma)?;
        let positions = Positions::of(settings.roi.as_ref(), &geometry, (h, w))?;
        let inside = match (&settings.roi, positions.flags()) {
            (Some(roi), Some(flags)) => {
                let pixels = roi.laid_out(&Geometry { fit: settings.fit, size: map_size })?;
                Some(InsideMap::new(&upsampler, flags, &pixels)?)
            }
            _ => None,
        };
        let scales = view.scales.clone();
        let map_weight = match settings.map_views {
            MapViews::Alike => 1.0,
            MapViews::Area => {
                (view.size.width * view.size.height) as f32 / (map_size.width * map_size.height) as f32
            }
        };
        Ok(Self { extractor, head, neighbours, upsampler, positions, inside, scales, weight, map_weight })
    }

    /// What is known of each patch of a picture, and where the picture lies in the input. Of a region of interest the outside is painted already
    /// ([`crate::roi::Roi::paint`]); patches outside have logits that count nowhere.
    ///
    /// # Errors
    /// A picture that the geometry cannot lay out.
    pub fn evidence(
        &self,
        picture: &Rgb8,
        scratch: &mut ExtractScratch,
        threads: Threads,
    ) -> Result<(PatchEvidence, Placement)> {
        let (pooled, placement) = self.extractor.extract(picture, scratch, threads)?;
        let logits = self.head.logits(&pooled, threads);
        let neighbours = self.neighbours.as_ref();
        Ok((PatchEvidence::of(logits, 0..self.head.heads(), neighbours, &pooled, threads), placement))
    }

    /// The score that each head gives a picture in this view, from its logits, `[patches, heads]`.
    #[must_use]
    pub fn head_scores(&self, logits: &[f32], scoring: Scoring) -> Vec<f64> {
        let heads = self.scales.len();
        (0..heads).map(|h| self.score_of_head(&of_head(logits, heads, h), scoring)).collect()
    }

    /// The score that a head gives a picture in this view, from its logits, `[patches]`. A view counts by its side over the
    /// largest view's. The weight owes nothing to the pictures that calibrate the head, so their ranks stay exact (docs/threshold.md).
    #[must_use]
    pub fn score_of_head(&self, logits: &[f32], scoring: Scoring) -> f64 {
        self.weight * patches_score(&self.positions.select(logits), scoring)
    }

    /// The map of the model's size from what all heads say: the mean over them of logits and distances on scale (the sigmoid of that with the published
    /// scoring), upsampled and smoothed.
    ///
    /// # Errors
    /// As [`SmoothUpsampler::apply`].
    pub fn map(&self, evidence: &PatchEvidence, scoring: Scoring) -> Result<ScoreMap> {
        self.map_of(evidence, &self.scales, scoring)
    }

    /// The map that one head alone would draw, from what it says alone.
    ///
    /// # Errors
    /// As [`SmoothUpsampler::apply`].
    pub fn map_of_head(&self, evidence: &PatchEvidence, head: usize, scoring: Scoring) -> Result<ScoreMap> {
        self.map_of(evidence, &self.scales[head..=head], scoring)
    }

    fn map_of(&self, evidence: &PatchEvidence, scales: &[PatchScale], scoring: Scoring) -> Result<ScoreMap> {
        let mean = |of_patch: &[f32]| {
            let on_scale = of_patch.iter().zip(scales).map(|(&v, s)| s.apply(v));
            let mean = on_scale.sum::<f32>() / scales.len() as f32;
            match scoring {
                Scoring::Sigmoid => sigmoid(mean),
                Scoring::Rarity { .. } => mean,
            }
        };
        let values: Vec<f32> = evidence.in_map().chunks_exact(scales.len()).map(mean).collect();
        self.map_of_patches(&values)
    }

    /// The map of the model's size from a value a patch.
    ///
    /// # Errors
    /// As [`SmoothUpsampler::apply`].
    pub(crate) fn map_of_patches(&self, values: &[f32]) -> Result<ScoreMap> {
        match &self.inside {
            Some(inside) => inside.apply(&self.upsampler, values),
            None => self.upsampler.apply(values),
        }
    }

    /// From pictures to pooled features.
    pub(crate) fn extractor(&self) -> &Extractor {
        &self.extractor
    }

    /// Which patches count.
    pub(crate) fn positions(&self) -> &Positions {
        &self.positions
    }

    /// How layer maps become patch features.
    pub(crate) fn embedding(&self) -> &PatchEmbedding {
        self.extractor.embedding()
    }

    /// From patch scores to the map.
    pub(crate) fn upsampler(&self) -> &SmoothUpsampler {
        &self.upsampler
    }

    /// By what a head's score in this view counts.
    pub(crate) fn weight(&self) -> f64 {
        self.weight
    }

    /// By what this view's map counts in the model's.
    pub(crate) fn map_weight(&self) -> f32 {
        self.map_weight
    }

    /// The heads, folded for this view's grid.
    pub(crate) fn head(&self) -> &GridHead {
        &self.head
    }

    /// Distances to remembered patches, if there are any.
    pub(crate) fn neighbours(&self) -> Option<&NeighbourRunner> {
        self.neighbours.as_ref()
    }
}
