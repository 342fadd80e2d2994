//! The published way to choose an epoch: by the labels of the test pictures. An oracle, and called so.
//!
//! It watches a training from outside; what it sees never reaches the training.

use std::path::PathBuf;
use std::sync::Mutex;

use pbas_nn::linalg::Threads;
use rayon::prelude::*;

use crate::backbone::Backbone;
use crate::calibrate::{Calibration, patches_score, peak};
use crate::dataset::{Label, Sample, TestSet};
use crate::detector::{Detector, Model, Scratch};
use crate::features::Extractor;
use crate::head::{GridHead, Head, sigmoid};
use crate::image::{DecodeOptions, DefectMask, read_mask, read_rgb};
use crate::metrics::{PixelCurveBuilder, RankingCurve};
use crate::score::{ScoreMap, SmoothUpsampler};
use crate::settings::{Settings, Sizes};
use crate::train::feature_cache::{FeatureCache, Pass};
use crate::train::observer::Observer;
use crate::view::MAP_SIGMA;
use crate::{Error, Result};

/// The test pictures, and the best head so far.
pub(super) struct Watcher<'a> {
    inner: &'a dyn Observer,
    every: u64,
    cache: FeatureCache,
    extractor: Extractor,
    upsampler: SmoothUpsampler,
    settings: &'a Settings,
    /// Of each picture in the cache.
    labels: Vec<Label>,
    masks: Vec<Option<DefectMask>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    looked_at: u64,
    best: Option<Best>,
}

/// The best epoch.
pub(super) struct Best {
    pub epoch: u64,
    pub head: Head,
    merit: f64,
}

impl<'a> Watcher<'a> {
    /// Reads the test pictures and caches their features.
    ///
    /// # Errors
    /// No readable test picture, or settings with more than one view or head.
    pub fn new(
        test: &TestSet,
        backbone: &Backbone,
        settings: &'a Settings,
        (every, cache_limit): (u64, u64),
        inner: &'a dyn Observer,
    ) -> Result<Self> {
        let size = match &settings.sizes {
            Sizes::Fixed(sizes) if sizes.len() == 1 && settings.folds == 1 => sizes[0],
            _ => {
                return Err(Error::caller(
                    "oracle: expected one size and one head, whose epochs can be compared",
                ));
            }
        };
        let extractor = Extractor::for_view(backbone, size, settings)?;
        let geometry = extractor.geometry();
        let decode =
            DecodeOptions { apply_orientation: settings.apply_orientation, ..DecodeOptions::default() };
        let paths: Vec<PathBuf> = test.samples.iter().map(|s| s.path.clone()).collect();
        let pass = Pass {
            pictures: &paths,
            extractors: &[&extractor],
            roi: None,
            decode: &decode,
            augment: None,
            memory_limit: cache_limit,
            temp_dir: None,
        };
        let (cache, _) = FeatureCache::fill(&pass, inner)?;
        let listed: Vec<&Sample> = (0..cache.pictures()).map(|p| &test.samples[cache.listed(p)]).collect();
        let mask = |s: &&Sample| {
            // One that cannot be used is named by the evaluation at the end.
            let mask = s.mask.as_ref().and_then(|m| read_mask(m, &decode).ok());
            mask.and_then(|m| geometry.apply_mask(&m).ok())
        };
        let masks = listed.par_iter().map(mask).collect();
        let (h, w) = extractor.embedding().grid();
        let upsampler = SmoothUpsampler::new(h, w, size.height, size.width, MAP_SIGMA)?;
        let labels = listed.iter().map(|s| s.label).collect();
        Ok(Self {
            inner,
            every,
            cache,
            extractor,
            upsampler,
            settings,
            labels,
            masks,
            state: Mutex::default(),
        })
    }

    /// The best epoch, and how many were looked at.
    pub fn into_best(self) -> Option<(Best, u64)> {
        let state = self.state.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        state.best.map(|best| (best, state.looked_at))
    }

    /// Image AUROC and pixel AUROC added, as far as there are any.
    fn merit(&self, head: &Head) -> Result<f64> {
        let grid = GridHead::new(&[head], self.extractor.embedding())?;
        let judge = |pooled: &mut Vec<f32>, picture: usize| -> Result<(f32, ScoreMap)> {
            self.cache.pooled(0, picture, pooled);
            let logits = grid.logits(pooled, Threads::One);
            let score = patches_score(&logits, self.settings.scoring) as f32;
            let values: Vec<f32> = logits.into_iter().map(sigmoid).collect();
            Ok((score, self.upsampler.apply(&values)?))
        };
        let judged = (0..self.cache.pictures()).into_par_iter().map_init(Vec::new, judge);
        let judged = judged.collect::<Result<Vec<_>>>()?;
        let positive: Vec<bool> = self.labels.iter().map(|l| *l == Label::Defective).collect();
        let scores: Vec<f32> = judged.iter().map(|j| j.0).collect();
        let image = RankingCurve::new(&scores, &positive)?.auroc().unwrap_or(0.0);
        let mut pixels = PixelCurveBuilder::new();
        for ((_, map), (mask, label)) in judged.iter().zip(self.masks.iter().zip(&self.labels)) {
            match (mask, label) {
                (Some(mask), _) => pixels.add(map, Some(mask))?,
                (None, Label::Good) => pixels.add(map, None)?,
                (None, Label::Defective) => {}
            }
        }
        Ok(image + pixels.finish().ranking().auroc().unwrap_or(0.0))
    }
}

/// `model` with the head of another epoch, and the threshold that the same held-out good pictures give it.
///
/// # Errors
/// A picture that was readable in training and is not any more, or scores that are no numbers.
pub(super) fn with_head(model: &Model, head: Head, held_out: &[PathBuf]) -> Result<Detector> {
    let mut chosen = model.clone();
    chosen.views[0].heads[0] = head;
    let detector = Detector::new(chosen.clone())?;
    let judge = |scratch: &mut Scratch, path: &PathBuf| -> Result<(f64, f64)> {
        let picture = read_rgb(path, &detector.decode_options())?;
        let (scores, map, _) = detector.scores(&picture, scratch, Threads::One)?;
        Ok((scores[0], peak(&map)))
    };
    let judged = held_out.par_iter().with_max_len(1).map_init(Scratch::default, judge);
    let (scores, peaks): (Vec<f64>, Vec<f64>) = judged.collect::<Result<Vec<_>>>()?.into_iter().unzip();
    let (c, scoring) = (&model.calibration, model.settings.scoring);
    let heads = vec![scores.into()];
    chosen.calibration = Calibration::new(heads, peaks.into(), c.held_out, c.false_reject_rate, scoring)?;
    Detector::new(chosen)
}

impl Observer for Watcher<'_> {
    fn inner(&self) -> Option<&dyn Observer> {
        Some(self.inner)
    }
    fn epoch(&self, epoch: u64, epochs: u64, head: &Head) -> Result<()> {
        if !epoch.is_multiple_of(self.every) && epoch != epochs {
            return Ok(());
        }
        let merit = self.merit(head)?;
        let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        state.looked_at += 1;
        if state.best.as_ref().is_none_or(|b| merit > b.merit) {
            state.best = Some(Best { epoch, head: head.clone(), merit });
        }
        Ok(())
    }
}
