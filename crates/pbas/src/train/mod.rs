//! Training. ABL, AFS and RBO are not three phases one after another: after one pre-pass (features of every picture
//! cached once, centres aligned) every step does all three on one batch and makes one update of the summed loss.
//!
//! Nothing here ever sees a test picture or a label.

pub mod boundary;
pub mod centers;
pub mod checkpoint;
pub mod feature_cache;
pub mod observer;
pub mod params;
pub mod refinement;
pub mod step;
mod sweep;
pub mod synthesis;
mod trainer;

use std::path::{Path, PathBuf};

use pbas_nn::linalg::Threads;
use rand::seq::SliceRandom;
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use self::checkpoint::Checkpoints;
use self::feature_cache::{FeatureCache, Survey};
use self::observer::Observer;
use self::trainer::{HeadJob, Stream, stream};
use crate::backbone::{Backbone, hex};
use crate::calibrate::{calibrate, logit_scale, outlier, peak, view_scale};
use crate::detector::{Model, Provenance, combine};
use crate::features::Extractor;
use crate::head::{GridHead, Head};
use crate::image::{DecodeOptions, dimensions};
use crate::preprocess::{Geometry, InputSize};
use crate::settings::{Settings, Sizes, auto_sizes};
use crate::view::{View, ViewRunner};
use crate::{Error, Result};

/// Share of the good pictures kept out of training where there are no fold heads.
const HOLD_OUT_SHARE: f64 = 0.15;
/// Least number of pictures kept out.
const HOLD_OUT_LEAST: usize = 5;
/// Fewer good pictures than this: the user is warned.
pub const FEW_PICTURES: usize = 10;

/// A training to be done.
#[derive(Debug)]
pub struct TrainJob<'a> {
    /// Pictures of good parts.
    pub pictures: &'a [PathBuf],
    /// Frozen network.
    pub backbone: Backbone,
    /// Settings.
    pub settings: Settings,
    /// Bytes of features that may stay in memory; the rest goes to a temporary file.
    pub cache_limit: u64,
    /// Folder for the temporary file; the system's if `None`.
    pub temp_dir: Option<&'a Path>,
    /// Folder for checkpoints; none are written if `None`.
    pub checkpoints: Option<&'a Path>,
    /// Whether to go on from checkpoints that are there.
    pub resume: bool,
}

/// A finished training.
#[derive(Debug)]
pub struct Training {
    /// The model.
    pub model: Model,
    /// Pictures that could not be read and were left out, with the reason.
    pub skipped: Vec<(PathBuf, Error)>,
    checkpoints: Option<Checkpoints>,
}

impl Training {
    /// Removes the checkpoints; to be called once the model is saved.
    pub fn remove_checkpoints(&self) {
        if let Some(c) = &self.checkpoints {
            c.remove(self.model.views.len(), self.model.views.first().map_or(0, |v| v.heads.len()));
        }
    }
}

/// Which pictures each head trains on, and which head scores each picture.
struct Deal {
    /// Pictures of each head.
    train: Vec<Vec<usize>>,
    /// `(picture, head)`: pictures that calibrate, each with a head that has not seen it.
    calibrate: Vec<(usize, usize)>,
    held_out: bool,
}

/// Trains a model on pictures of good parts.
///
/// # Errors
/// Settings out of range, no readable picture, an interrupt (state is then in the checkpoints), a full disk.
pub fn train(job: TrainJob<'_>, observer: &dyn Observer) -> Result<Training> {
    job.settings.validate()?;
    let mut settings = job.settings.clone();
    let decode = DecodeOptions { apply_orientation: settings.apply_orientation, ..DecodeOptions::default() };
    let sizes = resolve_sizes(&settings, job.pictures, &decode)?;
    settings.sizes = Sizes::Fixed(sizes.clone());
    settings.validate()?;
    let extractors = sizes.iter().map(|&size| {
        let geometry = Geometry { fit: settings.fit, size };
        Extractor::new(&job.backbone, geometry, &settings.feature_layers, settings.pooling)
    });
    let extractors = extractors.collect::<Result<Vec<_>>>()?;
    let (cache, survey) =
        FeatureCache::fill(job.pictures, &extractors, &decode, job.cache_limit, job.temp_dir, observer)?;
    for (_, error) in &survey.skipped {
        observer.warn(&format!("left out: {}", crate::error::chain(error)));
    }
    if cache.pictures() < FEW_PICTURES {
        observer.warn(&format!(
            "only {} good pictures: the model will know little of what good parts look like, and its threshold \
             will reject up to one good part in {}; {FEW_PICTURES} are a minimum, 50 or more are better",
            cache.pictures(),
            cache.pictures() + 1
        ));
    }
    let deal = deal(cache.pictures(), settings.folds, settings.seed);
    let checkpoints =
        job.checkpoints.map(|f| Checkpoints::new(f.to_owned(), run_digest(&job, &settings, &survey)));
    let views = train_heads(&job, &settings, &sizes, &cache, &deal, checkpoints.as_ref(), observer)?;
    let provenance = Provenance {
        program_version: env!("CARGO_PKG_VERSION").to_owned(),
        pictures: cache.pictures(),
        pictures_sha256: survey.digest,
        skipped: survey.skipped.len(),
    };
    let names: Vec<&str> = settings.feature_layers.iter().map(String::as_str).collect();
    let backbone = Backbone { graph: job.backbone.graph.select(&names)?, info: job.backbone.info };
    let model = finish(backbone, settings, views, (job.pictures, &cache), &deal, provenance, observer)?;
    Ok(Training { model, skipped: survey.skipped, checkpoints })
}

fn resolve_sizes(
    settings: &Settings,
    pictures: &[PathBuf],
    decode: &DecodeOptions,
) -> Result<Vec<InputSize>> {
    match &settings.sizes {
        Sizes::Fixed(sizes) => Ok(sizes.clone()),
        Sizes::Auto => {
            let sides: Vec<usize> = pictures
                .par_iter()
                .filter_map(|p| dimensions(p, decode).ok()) // An unreadable picture is reported when it is read.
                .map(|(w, h)| w.min(h))
                .collect();
            Ok(auto_sizes(sides))
        }
    }
}

/// Deals pictures into folds, or keeps a share out; the same for the same seed and number of pictures.
fn deal(pictures: usize, folds: usize, seed: u64) -> Deal {
    let mut order: Vec<usize> = (0..pictures).collect();
    order.shuffle(&mut stream(seed, Stream::Deal, 0, 0, 0));
    let folds = folds.min(pictures);
    if folds > 1 {
        let fold = |i: usize| i % folds;
        let without = |h: usize| {
            let mut t: Vec<usize> =
                order.iter().enumerate().filter(|(i, _)| fold(*i) != h).map(|(_, &p)| p).collect();
            t.sort_unstable();
            t
        };
        let mut calibrate: Vec<(usize, usize)> =
            order.iter().enumerate().map(|(i, &p)| (p, fold(i))).collect();
        calibrate.sort_unstable();
        return Deal { train: (0..folds).map(without).collect(), calibrate, held_out: true };
    }
    let out = ((pictures as f64 * HOLD_OUT_SHARE).ceil() as usize).max(HOLD_OUT_LEAST).min(pictures / 2);
    let (held, rest) = order.split_at(out);
    let (mut held, mut rest) = (held.to_vec(), rest.to_vec());
    held.sort_unstable();
    rest.sort_unstable();
    let held_out = !held.is_empty();
    let calibrate = if held_out { held } else { rest.clone() };
    Deal { train: vec![rest], calibrate: calibrate.into_iter().map(|p| (p, 0)).collect(), held_out }
}

/// Identifies a run: a checkpoint of another one is not resumed.
fn run_digest(job: &TrainJob<'_>, settings: &Settings, survey: &Survey) -> String {
    let mut digest = Sha256::new();
    for part in [
        env!("CARGO_PKG_VERSION"),
        &serde_json::to_string(settings).expect("settings are plain data"),
        &survey.digest,
        &job.backbone.info.weights_sha256,
    ] {
        digest.update(part);
        digest.update([0]);
    }
    hex(&digest.finalize())
}

fn train_heads(
    job: &TrainJob<'_>,
    settings: &Settings,
    sizes: &[InputSize],
    cache: &FeatureCache,
    deal: &Deal,
    checkpoints: Option<&Checkpoints>,
    observer: &dyn Observer,
) -> Result<Vec<View>> {
    let heads = deal.train.len();
    let count = sizes.len() * heads;
    // Heads side by side where there are enough of them: then nobody waits for anybody. The result is the same.
    let side_by_side = count >= rayon::current_num_threads();
    let jobs: Vec<HeadJob<'_>> = (0..count)
        .map(|i| HeadJob {
            cache,
            settings: &settings.head,
            view: i / heads,
            head: i % heads,
            pictures: &deal.train[i % heads],
            seed: settings.seed,
            checkpoints,
            resume: job.resume,
            threads: if side_by_side { Threads::One } else { Threads::All },
        })
        .collect();
    observer.begin("training", jobs.iter().map(HeadJob::total_steps).sum(), "steps");
    let results: Vec<Result<Head>> = if side_by_side {
        jobs.par_iter().with_max_len(1).map(|j| j.run(observer)).collect()
    } else {
        jobs.iter().map(|j| j.run(observer)).collect()
    };
    observer.end();
    let mut trained = results.into_iter().collect::<Result<Vec<_>>>()?.into_iter();
    let views = sizes.iter().map(|&size| View {
        size,
        heads: trained.by_ref().take(heads).collect(),
        scale: view_scale(&[], settings.scoring, vec![]), // Set once the good pictures are scored.
    });
    Ok(views.collect())
}

/// Scores every good picture by a head that has not seen it; from these the views' scales and the threshold.
fn finish(
    backbone: Backbone,
    settings: Settings,
    mut views: Vec<View>,
    (pictures, cache): (&[PathBuf], &FeatureCache),
    deal: &Deal,
    provenance: Provenance,
    observer: &dyn Observer,
) -> Result<Model> {
    observer.begin("threshold", deal.calibrate.len() as u64, "pictures");
    // patches[view][picture]
    let mut patches: Vec<Vec<Vec<f32>>> = Vec::new();
    for (v, view) in views.iter_mut().enumerate() {
        let embedding = cache.embedding(v);
        let heads = view.heads.iter().map(|h| GridHead::new(&[h], embedding));
        let heads = heads.collect::<Result<Vec<_>>>()?;
        let score = |pooled: &mut Vec<f32>, &(picture, head): &(usize, usize)| {
            cache.pooled(v, picture, pooled);
            heads[head].logits(pooled, Threads::One)
        };
        let mut scored: Vec<Vec<f32>> = deal.calibrate.par_iter().map_init(Vec::new, score).collect();
        let of_head =
            |h: usize| scored.iter().zip(&deal.calibrate).filter(move |(_, c)| c.1 == h).map(|(s, _)| s);
        let heads: Vec<_> =
            (0..view.heads.len()).map(|h| logit_scale(of_head(h), settings.scoring)).collect();
        for (patches, &(_, head)) in scored.iter_mut().zip(&deal.calibrate) {
            patches.iter_mut().for_each(|v| *v = heads[head].apply(*v));
        }
        view.scale = view_scale(&scored, settings.scoring, heads);
        patches.push(scored);
    }
    let map_size = views.iter().map(|v| v.size).max_by_key(|s| s.height * s.width);
    let map_size = map_size.ok_or_else(|| Error::caller("sizes: expected at least one, found none"))?;
    let runners = views.iter().map(|v| ViewRunner::new(&backbone, v, &settings, map_size));
    let runners = runners.collect::<Result<Vec<_>>>()?;
    let scored = (0..deal.calibrate.len()).into_par_iter().map(|i| {
        let of_picture: Vec<Vec<f32>> = patches.iter().map(|view| view[i].clone()).collect();
        let (sum, map) = combine(&runners, &of_picture, settings.scoring)?;
        observer.advance(1);
        Ok((sum, peak(&map)))
    });
    let scored: Vec<(f64, f64)> = scored.collect::<Result<_>>()?;
    observer.end();
    let (sums, peaks): (Vec<f64>, Vec<f64>) = scored.into_iter().unzip();
    if let Some(i) = outlier(&sums) {
        observer.warn(&format!(
            "`{}` is unlike the other good pictures and alone sets the threshold: look at it, and train without it if it is \
             defective or shows another part",
            pictures[cache.listed(deal.calibrate[i].0)].display()
        ));
    }
    let calibration = calibrate(&sums, &peaks, settings.scoring, deal.held_out);
    Ok(Model { backbone, settings, views, calibration, provenance })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_picture_is_scored_by_a_head_that_has_not_seen_it() {
        for (pictures, folds) in [(31, 3), (2, 3), (7, 1), (100, 1), (5, 5)] {
            let d = deal(pictures, folds, 7);
            assert!(d.held_out);
            for &(picture, head) in &d.calibrate {
                assert!(!d.train[head].contains(&picture), "{pictures} pictures, {folds} folds");
            }
            if folds > 1 {
                assert_eq!(d.calibrate.len(), pictures, "fold heads lose no picture");
            }
        }
        assert_eq!(deal(100, 1, 0).calibrate.len(), 15);
        assert_eq!(deal(20, 1, 0).calibrate.len(), 5);
        assert!(!deal(1, 3, 0).held_out, "a single picture has to score itself");
        let changed = deal(50, 3, 1).calibrate != deal(50, 3, 2).calibrate;
        assert!(changed, "the deal follows the seed");
    }
}
