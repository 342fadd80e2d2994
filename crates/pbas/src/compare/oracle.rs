//! The published way to choose an epoch: by the labels of the test pictures. An oracle, and called so.
//!
//! It watches a training from outside; what it sees never reaches the training.

use std::path::PathBuf;
use std::sync::Mutex;

use pbas_nn::linalg::Threads;
use rayon::prelude::*;

use super::Opinion;
use crate::backbone::Backbone;
use crate::calibrate::{Calibration, patches_score, peak};
use crate::dataset::{Label, Sample, TestSet};
use crate::detector::{Detector, Model, Scratch};
use crate::eval::evaluate;
use crate::features::Extractor;
use crate::head::{GridHead, Head, sigmoid};
use crate::image::{DecodeOptions, DefectMask, read_mask, read_rgb};
use crate::metrics::{PixelCurveBuilder, RankingCurve};
use crate::score::{ScoreMap, SmoothUpsampler};
use crate::settings::{Folds, Length, Preset, Settings, Sizes};
use crate::train::feature_cache::{FeatureCache, Pass};
use crate::train::observer::Observer;
use crate::train::{TrainJob, Training, train};
use crate::view::MAP_SIGMA;
use crate::{Error, Result};

/// The test pictures, and the best head so far.
struct Watcher<'a> {
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
struct Best {
    epoch: u64,
    head: Head,
    merit: f64,
}

/// The epoch that test labels chose.
#[derive(Debug)]
pub(crate) struct Chosen {
    /// Counted from 1.
    pub epoch: u64,
    /// How many epochs were looked at.
    pub looked_at: u64,
    head: Head,
}

impl Chosen {
    /// A finished training with this epoch's head; `good` are the pictures that it was given.
    ///
    /// # Errors
    /// As [`with_head`].
    pub fn detector(self, training: &Training, good: &[PathBuf]) -> Result<Detector> {
        let readable = good.iter().filter(|p| training.skipped.iter().all(|(s, _)| s != *p));
        let held_out = readable.zip(&training.calibrates).filter(|(_, head)| head.is_some());
        let held_out: Vec<PathBuf> = held_out.map(|(p, _)| p.clone()).collect();
        with_head(&training.model, self.head, &held_out)
    }
}

/// Trains, and looks at the test set every so many epochs; the training is what it would be without.
///
/// # Errors
/// Those of [`train`] and [`Watcher::new`]; a training in steps, which has no epochs.
pub(crate) fn watched(
    job: TrainJob<'_>,
    test: &TestSet,
    every: u64,
    observer: &dyn Observer,
) -> Result<(Training, Chosen)> {
    let (backbone, settings) = (job.backbone.clone(), job.settings.clone());
    let watcher = Watcher::new(test, &backbone, &settings, (every, job.cache_limit), observer)?;
    let training = train(job, &watcher)?;
    let state = watcher.state.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    let Some(best) = state.best else {
        return Err(Error::caller("oracle: expected a training in epochs, found one in steps"));
    };
    Ok((training, Chosen { epoch: best.epoch, looked_at: state.looked_at, head: best.head }))
}

/// The published protocol on the features of a detector, as a second opinion: one view of 288 pixels, one head, centres by position, all
/// patches, the epoch of `epochs` that is best by the test labels. No honest method may choose so.
///
/// # Errors
/// A model with a region of interest, those of training, an interrupt.
pub fn oracle(
    detector: &Detector,
    good: &[PathBuf],
    set: &TestSet,
    (epochs, cache_limit): (u64, u64),
    observer: &dyn Observer,
) -> Result<Opinion> {
    let model = detector.model();
    if model.settings.roi.is_some() {
        return Err(Error::unsupported(
            "oracle: expected a model that looks everywhere, found one with a region of interest",
        ));
    }
    let mut settings = Settings::preset(Preset::Paper);
    settings.feature_layers.clone_from(&model.settings.feature_layers);
    settings.pooling = model.settings.pooling;
    settings.precision = model.settings.precision;
    settings.apply_orientation = model.settings.apply_orientation;
    settings.seed = model.settings.seed;
    settings.head.length = Length::Epochs(epochs);
    let job = TrainJob {
        pictures: good,
        backbone: model.backbone.clone(),
        settings,
        cache_limit,
        temp_dir: None,
        checkpoints: None,
        resume: false,
    };
    let (training, chosen) = watched(job, set, 1, observer)?;
    let method = format!("oracle: best of {epochs} epochs by test labels ({})", chosen.epoch);
    let found = evaluate(&chosen.detector(&training, good)?, set, observer, &mut |_| Ok(()))?.summary;
    Ok(Opinion {
        method,
        image_auroc: found.image_auroc,
        image_ap: found.image_ap,
        pixel_auroc: found.pixel_auroc,
        aupro: found.aupro,
    })
}

impl<'a> Watcher<'a> {
    /// Reads the test pictures and caches their features.
    ///
    /// # Errors
    /// No readable test picture, or settings with more than one view or head.
    fn new(
        test: &TestSet,
        backbone: &Backbone,
        settings: &'a Settings,
        (every, cache_limit): (u64, u64),
        inner: &'a dyn Observer,
    ) -> Result<Self> {
        let size = match &settings.sizes {
            Sizes::Fixed(sizes) if sizes.len() == 1 && settings.folds == Folds::Fixed(1) => sizes[0],
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
fn with_head(model: &Model, head: Head, held_out: &[PathBuf]) -> Result<Detector> {
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
