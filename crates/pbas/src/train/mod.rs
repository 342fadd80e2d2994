//! Training. ABL, AFS and RBO are not three phases one after another: after one pre-pass (features of every picture
//! cached once, centres aligned) every step does all three on one batch and makes one update of the summed loss.
//!
//! Nothing here ever sees a test picture or a label.

mod augment;
pub mod boundary;
pub mod checkpoint;
pub mod feature_cache;
pub mod observer;
pub mod params;
pub mod refinement;
pub(crate) mod remember;
pub mod step;
mod sweep;
pub mod synthesis;
mod trainer;

pub use crate::head::centers;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use pbas_nn::linalg::Threads;
use rand::seq::SliceRandom;
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use self::checkpoint::Checkpoints;
use self::feature_cache::{FeatureCache, Pass, Survey};
use self::observer::Observer;
use self::trainer::{HeadJob, Stream, stream};
use crate::backbone::{Backbone, hex};
use crate::calibrate::{Calibration, SUSPECTS_NAMED, patch_scale, peak, suspects};
use crate::detector::{Model, Provenance, mean_map};
use crate::doctor;
use crate::features::Extractor;
use crate::head::{GridHead, Head};
use crate::image::{DecodeOptions, dimensions};
use crate::neighbours::{CoarseGrid, NeighbourRunner};
use crate::preprocess::{Geometry, InputSize};
use crate::roi::Positions;
use crate::settings::{Folds, Settings, Sizes, fold_sizes};
use crate::view::{PatchEvidence, View, ViewRunner};
use crate::words::listed_to;
use crate::{Error, ErrorKind, Result};

/// Share of the good pictures kept out of training where there are no fold heads.
const HOLD_OUT_SHARE: f64 = 0.15;
/// How far above the others a good picture's score stands out, in robust deviations. Of most sets in docs/results.md that is where defective
/// pictures lie that are put among the good, and a few rare good ones.
const SUSPECT_DEVIATIONS: f64 = 4.0;
/// Least number of pictures kept out.
const HOLD_OUT_LEAST: usize = 5;

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
    /// For each picture that could be read, in order: the head that it calibrates, which has not seen it.
    pub calibrates: Vec<Option<usize>>,
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
    /// Pictures of each head, ascending; with their changed copies, if there are any.
    train: Vec<Vec<usize>>,
    /// `(picture, head)`: pictures that calibrate, each with a head that has not seen it; by picture. Of copies only the first.
    calibrate: Vec<(usize, usize)>,
    held_out: bool,
}

impl Deal {
    /// The head that a picture calibrates.
    fn calibrating_head(&self, picture: usize) -> Option<usize> {
        let at = self.calibrate.binary_search_by_key(&picture, |c| c.0).ok()?;
        Some(self.calibrate[at].1)
    }
}

/// Trains a model on pictures of good parts.
///
/// # Errors
/// Settings out of range, no readable picture or none that shows anything, an interrupt (state is then in the checkpoints), a full disk.
pub fn train(job: TrainJob<'_>, observer: &dyn Observer) -> Result<Training> {
    job.settings.validate()?;
    let mut settings = job.settings.clone();
    let decode = DecodeOptions { apply_orientation: settings.apply_orientation, ..DecodeOptions::default() };
    if let Some(roi) = &mut settings.roi
        && let Some(warning) = roi.prepare(job.pictures, &decode)?
    {
        observer.warn(&warning);
    }
    let sizes = resolve_sizes(&settings.sizes, job.pictures, &decode, observer);
    settings.sizes = Sizes::Fixed(sizes.clone());
    settings.validate()?;
    let extractors = sizes.iter().map(|&size| Extractor::for_view(&job.backbone, size, &settings));
    let extractors = extractors.collect::<Result<Vec<_>>>()?;
    let borrowed: Vec<&Extractor> = extractors.iter().collect();
    let pass = Pass {
        pictures: job.pictures,
        extractors: &borrowed,
        roi: settings.roi.as_ref(),
        decode: &decode,
        augment: settings.augment.map(|augment| (augment, settings.seed)),
        memory_limit: job.cache_limit,
        temp_dir: job.temp_dir,
    };
    let (cache, mut survey) = FeatureCache::fill(&pass, observer)?;
    for (_, error) in &survey.skipped {
        observer.warn(&format!("left out: {}", crate::error::chain(error)));
    }
    let paths: Vec<&Path> = (0..cache.pictures()).map(|p| job.pictures[cache.listed(p)].as_path()).collect();
    let looks = std::mem::take(&mut survey.looks);
    let pixels: Vec<[u8; 32]> = looks.iter().map(|l| l.pixels_sha256).collect();
    let picture_digests = picture_digests(looks.iter().flat_map(|l| [&l.sha256, &l.pixels_sha256]));
    if looks.iter().all(doctor::Look::is_blank) {
        // Such a model would call anything good.
        let what = "expected good pictures that show something, found all of them to be one plain colour";
        let within = if settings.roi.is_some() { " inside the region of interest" } else { "" };
        return Err(Error::input(format!("{what}{within}")).with_hint("look at camera, cap and light"));
    }
    doctor::training::warnings(&paths, looks, &settings, &[]).iter().for_each(|line| observer.warn(line));
    let mut deal = deal(&first_equal(&pixels), settings.folds, settings.false_reject_rate, settings.seed);
    settings.folds = Folds::Fixed(deal.train.len());
    deal.train.iter_mut().for_each(|seen| with_copies(seen, &cache));
    let checkpoints =
        job.checkpoints.map(|f| Checkpoints::new(f.to_owned(), run_digest(&job, &settings, &survey)));
    let views = train_heads(&job, &settings, &sizes, &cache, &deal, checkpoints.as_ref(), observer)?;
    let views = remember_good_patches(&settings, views, &cache, &deal, observer)?;
    let provenance = Provenance {
        program_version: env!("CARGO_PKG_VERSION").to_owned(),
        pictures: cache.pictures(),
        pictures_sha256: survey.digest,
        picture_digests,
        skipped: survey.skipped.len(),
    };
    let names: Vec<&str> = settings.feature_layers.iter().map(String::as_str).collect();
    let backbone = Backbone { graph: job.backbone.graph.select(&names)?, info: job.backbone.info };
    let model = finish(backbone, settings, views, (job.pictures, &cache), &deal, provenance, observer)?;
    let calibrates = (0..cache.pictures()).map(|p| deal.calibrating_head(p)).collect();
    Ok(Training { model, skipped: survey.skipped, calibrates, checkpoints })
}

fn resolve_sizes(
    sizes: &Sizes,
    pictures: &[PathBuf],
    decode: &DecodeOptions,
    observer: &dyn Observer,
) -> Vec<InputSize> {
    if let Sizes::Fixed(sizes) = sizes {
        return sizes.clone();
    }
    // An unreadable picture is reported when it is read.
    let size = |p: &PathBuf| dimensions(p, decode).ok().map(|(width, height)| InputSize { height, width });
    let found: Vec<InputSize> = pictures.par_iter().filter_map(size).collect();
    if let Some(reduction) = sizes.reduction(&found) {
        observer.warn(&reduction);
    }
    sizes.of(&found)
}

/// Deals pictures into folds, or keeps a share out; the same for the same seed and number of pictures. `first_equal` holds for
/// each picture the first one of the same bytes: copies go into one fold, or a head would judge a picture that it has seen.
fn deal(first_equal: &[usize], folds: Folds, false_reject_rate: f64, seed: u64) -> Deal {
    let pictures = first_equal.len();
    let mut order: Vec<usize> = (0..pictures).filter(|&i| first_equal[i] == i).collect();
    order.shuffle(&mut stream(seed, Stream::Deal, 0, 0, 0));
    let folds = folds.of(order.len(), false_reject_rate).min(order.len());
    // The fold of each picture; without folds, those kept out are fold 0 and the rest is fold 1.
    let out = kept_out(order.len());
    let mut fold = vec![0; pictures];
    for (i, &p) in order.iter().enumerate() {
        fold[p] = if folds > 1 { i % folds } else { usize::from(i >= out) };
    }
    for p in 0..pictures {
        fold[p] = fold[first_equal[p]];
    }
    let train = (0..folds).map(|h| (0..pictures).filter(|&p| fold[p] != h).collect()).collect();
    let held_out = folds > 1 || out > 0;
    let originals = (0..pictures).filter(|&p| first_equal[p] == p);
    let calibrate = if folds > 1 {
        originals.map(|p| (p, fold[p])).collect()
    } else {
        originals.filter(|&p| fold[p] == 0 || !held_out).map(|p| (p, 0)).collect()
    };
    Deal { train, calibrate, held_out }
}

/// How many of so many different pictures are kept out of training where there are no folds.
fn kept_out(pictures: usize) -> usize {
    ((pictures as f64 * HOLD_OUT_SHARE).ceil() as usize).max(HOLD_OUT_LEAST).min(pictures / 2)
}

/// How many of so many different good pictures calibrate each head of a training for a false-reject rate; empty where they are too few to keep any
/// from a head.
#[must_use]
pub fn calibration_counts(pictures: usize, folds: Folds, false_reject_rate: f64) -> Vec<usize> {
    match (folds.of(pictures, false_reject_rate).min(pictures), kept_out(pictures)) {
        (0 | 1, 0) => Vec::new(),
        (0 | 1, out) => vec![out],
        (folds, _) => fold_sizes(pictures, folds),
    }
}

/// For each digest the index of the first equal one.
fn first_equal(digests: &[[u8; 32]]) -> Vec<usize> {
    let mut first = HashMap::new();
    digests.iter().enumerate().map(|(i, d)| *first.entry(d).or_insert(i)).collect()
}

/// The first digits of each digest, sorted.
fn picture_digests<'a>(digests: impl Iterator<Item = &'a [u8; 32]>) -> Vec<String> {
    let mut short: Vec<String> = digests.map(|d| short_digest(d)).collect();
    short.sort_unstable();
    short
}

/// Hexadecimal digits of a picture's SHA-256 by which it is known again.
pub const SHORT_DIGEST: usize = 16;

/// How a picture is known again ([`Provenance::picture_digests`]).
#[must_use]
pub fn short_digest(sha256: &[u8]) -> String {
    hex(&sha256[..(SHORT_DIGEST / 2).min(sha256.len())])
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
        neighbours: None,   // Chosen next.
        scales: Vec::new(), // Set once the good pictures are scored.
    });
    Ok(views.collect())
}

/// Fills the banks of all views, if the settings want any: of each fold of the good pictures one, or of those that the head trained on.
fn remember_good_patches(
    settings: &Settings,
    mut views: Vec<View>,
    cache: &FeatureCache,
    deal: &Deal,
    observer: &dyn Observer,
) -> Result<Vec<View>> {
    let Some(wanted) = &settings.neighbours else { return Ok(views) };
    let folds: Vec<Vec<usize>> = match &deal.train[..] {
        [seen] => vec![seen.clone()],
        all => all.iter().map(|seen| complement(seen, cache.entries())).collect(),
    };
    observer.begin("good patches", views.len() as u64, "views");
    for (v, view) in views.iter_mut().enumerate() {
        if observer.interrupted() {
            return Err(Error::new(ErrorKind::Interrupted, "stopped while choosing good patches"));
        }
        let geometry = Geometry { fit: settings.fit, size: view.size };
        let shape = CoarseGrid::new(cache.embedding(v)).shape();
        let positions = Positions::of(settings.roi.as_ref(), &geometry, shape)?;
        view.neighbours = Some(remember::remember(cache, v, &positions, &folds, wanted, settings.seed)?);
        observer.advance(1);
    }
    observer.end();
    Ok(views)
}

/// Adds the changed copies of pictures to them; the list still ascends.
fn with_copies(pictures: &mut Vec<usize>, cache: &FeatureCache) {
    let originals = pictures.clone();
    for copy in 1..cache.entries() / cache.pictures() {
        pictures.extend(originals.iter().map(|p| p + copy * cache.pictures()));
    }
}

/// Which of so many pictures are not among `chosen`, which ascends.
fn complement(chosen: &[usize], pictures: usize) -> Vec<usize> {
    (0..pictures).filter(|p| chosen.binary_search(p).is_err()).collect()
}

/// Scores every good picture by the head that has not seen it; from these scores the scales of the heads and the threshold.
fn finish(
    backbone: Backbone,
    settings: Settings,
    mut views: Vec<View>,
    (pictures, cache): (&[PathBuf], &FeatureCache),
    deal: &Deal,
    provenance: Provenance,
    observer: &dyn Observer,
) -> Result<Model> {
    let scoring = settings.scoring;
    let steps = deal.calibrate.len() * (views.len() + 1);
    observer.begin("threshold", steps as u64, "pictures");
    // evidence[view][i]: of the picture `deal.calibrate[i]` by its head
    let mut evidence: Vec<Vec<PatchEvidence>> = Vec::new();
    for (v, view) in views.iter_mut().enumerate() {
        let heads = view.heads.iter().map(|h| GridHead::new(&[h], cache.embedding(v)));
        let heads = heads.collect::<Result<Vec<_>>>()?;
        let neighbours = NeighbourRunner::of_view(view, &settings, cache.embedding(v))?;
        let run = |pooled: &mut Vec<f32>, &(picture, head): &(usize, usize)| {
            cache.pooled(v, picture, pooled);
            observer.advance(1);
            let logits = heads[head].logits(pooled, Threads::One);
            PatchEvidence::of(logits, head..head + 1, neighbours.as_ref(), pooled, Threads::One)
        };
        let of_view: Vec<PatchEvidence> = deal.calibrate.par_iter().map_init(Vec::new, run).collect();
        let inside = |e: &PatchEvidence| cache.positions(v).select(e.in_map()).into_owned();
        let scale = |h: usize| {
            // Head by head: a copy of all pictures' values at once would be a third one.
            let of_head = of_view.par_iter().zip(&deal.calibrate).filter(|(_, c)| c.1 == h);
            let values: Vec<Vec<f32>> = of_head.map(|(e, _)| inside(e)).collect();
            patch_scale(values.iter(), scoring)
        };
        view.scales = (0..heads.len()).map(scale).collect();
        evidence.push(of_view);
    }
    let map_size = views.iter().map(|v| v.size).max_by_key(|s| s.height * s.width);
    let map_size = map_size.ok_or_else(|| Error::caller("sizes: expected at least one, found none"))?;
    let runners = views.iter().map(|v| ViewRunner::new(&backbone, v, &settings, map_size));
    let runners = runners.collect::<Result<Vec<_>>>()?;
    let scored = deal.calibrate.par_iter().enumerate().map(|(i, &(_, head))| {
        let (mut score, mut maps) = (0.0, Vec::new());
        for (runner, evidence) in runners.iter().zip(&evidence) {
            score += runner.score_of_head(&evidence[i].logits, scoring);
            maps.push((runner.map_of_head(&evidence[i], head, scoring)?, runner.map_weight()));
        }
        observer.advance(1);
        Ok((head, score, peak(&mean_map(maps)?)))
    });
    let scored: Vec<(usize, f64, f64)> = scored.collect::<Result<_>>()?;
    observer.end();
    let by_head: Vec<(usize, f64)> = scored.iter().map(|s| (s.0, s.1)).collect();
    warn_of_suspects(&by_head, |i| &pictures[cache.listed(deal.calibrate[i].0)], observer);
    let of_head = |h: usize| scored.iter().filter(|s| s.0 == h).map(|s| s.1).collect::<Vec<_>>().into();
    let heads = (0..deal.train.len()).map(of_head).collect();
    let peaks = scored.iter().map(|s| s.2).collect::<Vec<_>>().into();
    let calibration = Calibration::new(heads, peaks, deal.held_out, settings.false_reject_rate, scoring)?;
    Ok(Model { backbone, settings, views, calibration, provenance })
}

/// Names good pictures that stand out.
fn warn_of_suspects<'a>(
    scores: &[(usize, f64)],
    path: impl Fn(usize) -> &'a PathBuf,
    observer: &dyn Observer,
) {
    let found = suspects(scores, SUSPECT_DEVIATIONS);
    if found.is_empty() {
        return;
    }
    let named: Vec<String> = found.iter().map(|&i| format!("`{}`", path(i).display())).collect();
    observer.warn(&format!(
        "unlike the other good pictures, most unlike first: {}; look at them, and train without those that are defective or \
         show another part",
        listed_to(&named, SUSPECTS_NAMED)
    ));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_picture_is_scored_by_a_head_that_has_not_seen_it() {
        for (pictures, folds) in [(31, 3), (2, 3), (7, 1), (100, 1), (5, 5)] {
            let d = deal(&(0..pictures).collect::<Vec<_>>(), Folds::Fixed(folds), 0.01, 7);
            assert!(d.held_out);
            let of_head = |h: usize| d.calibrate.iter().filter(|c| c.1 == h).count();
            let counts = calibration_counts(pictures, Folds::Fixed(folds), 0.01);
            assert_eq!((0..d.train.len()).map(of_head).collect::<Vec<_>>(), counts, "as foretold");
            for &(picture, head) in &d.calibrate {
                assert!(!d.train[head].contains(&picture), "{pictures} pictures, {folds} folds");
            }
            if folds > 1 {
                assert_eq!(d.calibrate.len(), pictures, "fold heads lose no picture");
            }
        }
        let deal = |pictures: usize, folds, seed| {
            deal(&(0..pictures).collect::<Vec<_>>(), Folds::Fixed(folds), 0.01, seed)
        };
        assert_eq!(deal(100, 1, 0).calibrate.len(), 15);
        assert_eq!(deal(20, 1, 0).calibrate.len(), 5);
        assert!(!deal(1, 3, 0).held_out, "a single picture has to score itself");
        let changed = deal(50, 3, 1).calibrate != deal(50, 3, 2).calibrate;
        assert!(changed, "the deal follows the seed");
    }

    #[test]
    fn copies_go_into_one_fold() {
        let first = first_equal(&[[1; 32], [2; 32], [1; 32], [3; 32], [2; 32], [1; 32], [4; 32]]);
        assert_eq!(first, [0, 1, 0, 3, 1, 0, 6]);
        for folds in [1, 2, 3] {
            let d = deal(&first, Folds::Fixed(folds), 0.01, 5);
            for seen in &d.train {
                for (p, &original) in first.iter().enumerate() {
                    assert_eq!(seen.contains(&p), seen.contains(&original), "{folds} folds, picture {p}");
                }
            }
        }
        assert!(!deal(&[0, 0, 0], Folds::Fixed(3), 0.01, 5).held_out, "one picture, whatever the copies");
        let d = deal(&first, Folds::Fixed(3), 0.01, 5);
        let calibrating: Vec<usize> = d.calibrate.iter().map(|c| c.0).collect();
        assert_eq!(calibrating, [0, 1, 3, 6], "a copy proves nothing that the first has not");
        assert_eq!((d.calibrating_head(3).is_some(), d.calibrating_head(4)), (true, None));
        let counts = |pictures, folds| calibration_counts(pictures, Folds::Fixed(folds), 0.01);
        assert_eq!(counts(10, 3), [4, 3, 3]);
        assert_eq!((counts(100, 1), counts(1, 3)), (vec![15], vec![]));
        assert_eq!(calibration_counts(11, Folds::Auto, 0.01), [3, 2, 2, 2, 2]);
        assert_eq!(calibration_counts(44, Folds::Auto, 0.1), [15, 15, 14], "three folds prove 10 %");
    }
}
