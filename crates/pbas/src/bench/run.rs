//! One run: train on the good pictures of a category, then judge its test pictures.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::time::Instant;

use pbas_nn::linalg::Threads;
use sha2::{Digest, Sha256};

use super::folder::Folder;
use super::machine::{Machine, forget_peak_memory, peak_memory};
use super::plan::PlannedRun;
use super::record::{Cost, GalleryPicture, Oracle, Program, Protocol, Reason, Record};
use crate::Result;
use crate::backbone::{Backbone, hex};
use crate::compare::{self, Chosen, watched};
use crate::dataset::Category;
use crate::detector::{Detector, Scratch, Verdict};
use crate::eval::{EvalResult, SampleScore, evaluate, read_sample};
use crate::image::masks_of;
use crate::report::gallery::tile;
use crate::report::heatmap::ColourScale;
use crate::train::observer::Observer;
use crate::train::{TrainJob, Training, train};

/// Worst misses in the gallery of a run, and as many false rejects.
const WORST: usize = 4;

/// What all runs share.
#[derive(Debug)]
pub struct Job<'a> {
    /// Frozen network.
    pub backbone: &'a Backbone,
    /// What may choose a model.
    pub protocol: Protocol,
    /// Epochs between two looks of the oracle.
    pub oracle_every: u64,
    /// Whether nearest neighbours give a second opinion.
    pub baseline: bool,
    /// Bytes of features that may stay in memory.
    pub cache_limit: u64,
    /// Folder for what goes beyond.
    pub temp_dir: Option<&'a Path>,
    /// Folder of the results, for pictures of the gallery.
    pub output: &'a Path,
    /// Runs side by side.
    pub jobs: usize,
    /// The program.
    pub program: Program,
    /// Digests of categories that a run has read; begins empty.
    pub digests: Digests,
}

/// Digest of the data of each category, by the digest of its listing: all runs of a category share it.
#[derive(Debug, Default)]
pub struct Digests(Mutex<BTreeMap<(String, String), String>>);

impl Digests {
    /// That of a category; its files are read when it is first asked for, and never before a model is finished.
    fn of(&self, planned: &PlannedRun<'_>) -> String {
        let mut known = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let key = (planned.category.name.clone(), planned.listing.clone());
        known.entry(key).or_insert_with(|| data_digest(planned.category)).clone()
    }
}

/// Does one run, on the threads of the current pool.
///
/// # Errors
/// Those of training and evaluation, or an interrupt.
pub fn run(job: &Job<'_>, planned: &PlannedRun<'_>, observer: &dyn Observer) -> Result<Record> {
    if job.jobs == 1 {
        forget_peak_memory();
    }
    let category = planned.category;
    let heard = Heard { inner: observer, warnings: Mutex::default() };
    let started = Instant::now();
    let (training, best) = train_one(job, planned, &heard)?;
    let train_seconds = started.elapsed().as_secs_f64();

    let started = Instant::now();
    let oracle = match best {
        None => None,
        Some(best) => {
            let (epoch, looked_at) = (best.epoch, best.looked_at);
            let chosen = best.detector(&training, &category.good)?;
            let result = evaluate(&chosen, &category.test, &heard, &mut |_| Ok(()))?;
            Some(Oracle { epoch, looked_at, summary: result.summary })
        }
    };
    let detector = Detector::new(training.model)?;
    let mut result = evaluate(&detector, &category.test, &heard, &mut |_| Ok(()))?;
    let evaluate_seconds = started.elapsed().as_secs_f64();
    let started = Instant::now();
    let asked = job.baseline && planned.second_opinion;
    if asked {
        let opinion = compare::nearest(&detector, &category.good, &category.test, job.cache_limit, &heard)?;
        result.compared.push(opinion);
    }
    let baseline_seconds = asked.then(|| started.elapsed().as_secs_f64());
    let first = planned.settings.seed == 0 && planned.variant == "base";
    let gallery = if first { gallery(&detector, category, &result, job.output)? } else { Vec::new() };
    let model = detector.model();
    Ok(Record {
        format: Record::FORMAT,
        category: category.name.clone(),
        variant: planned.variant.clone(),
        seed: planned.settings.seed,
        protocol: job.protocol,
        listing: planned.listing.clone(),
        data_sha256: job.digests.of(planned),
        train_pictures: model.provenance.pictures,
        result,
        oracle,
        gallery,
        warnings: heard.warnings.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner),
        settings: model.settings.clone(),
        backbone: model.backbone.info.clone(),
        program: job.program.clone(),
        machine: Machine::this(),
        cost: Cost {
            train_seconds,
            evaluate_seconds,
            baseline_seconds,
            jobs: job.jobs,
            threads: rayon::current_num_threads(),
            peak_memory_bytes: peak_memory(),
        },
    })
}

fn train_one(
    job: &Job<'_>,
    planned: &PlannedRun<'_>,
    observer: &dyn Observer,
) -> Result<(Training, Option<Chosen>)> {
    let train_job = TrainJob {
        pictures: &planned.category.good,
        backbone: job.backbone.clone(),
        settings: planned.settings.clone(),
        cache_limit: job.cache_limit,
        temp_dir: job.temp_dir,
        checkpoints: None,
        resume: false,
    };
    if job.protocol == Protocol::Honest {
        return Ok((train(train_job, observer)?, None));
    }
    let (training, chosen) = watched(train_job, &planned.category.test, job.oracle_every, observer)?;
    Ok((training, Some(chosen)))
}

/// SHA-256 over the SHA-256 of every readable file of a category. After training, since it opens the test pictures.
fn data_digest(category: &Category) -> String {
    let test = category.test.samples.iter().flat_map(|s| std::iter::once(&s.path).chain(&s.mask));
    let mut all = Sha256::new();
    for path in category.good.iter().chain(test) {
        // A folder of masks: those in it.
        for file in masks_of(path).unwrap_or_default() {
            if let Ok(bytes) = std::fs::read(file) {
                all.update(Sha256::digest(bytes));
            }
        }
    }
    hex(&all.finalize())
}

/// Draws the worst misses, the worst false rejects and a sample of each type.
fn gallery(
    detector: &Detector,
    category: &Category,
    result: &EvalResult,
    output: &Path,
) -> Result<Vec<GalleryPicture>> {
    let scale = ColourScale::of_model(detector.model());
    let mut drawn = Vec::new();
    for (i, (reason, score)) in chosen(&result.samples).into_iter().enumerate() {
        let Some(sample) = category.test.samples.iter().find(|s| s.name == score.path) else { continue };
        let of_set = (sample, category.test.saturation.as_ref());
        let (picture, truth) = read_sample(of_set, &detector.decode_options())?;
        let prediction = detector.predict(&picture, &mut Scratch::default(), Threads::All)?;
        let file = format!(
            "{}-{i:02}.jpg",
            crate::report::heatmap::file_name(&category.name).trim_end_matches(".png")
        );
        let jpeg = tile(&picture, &prediction, truth.ok().flatten().as_ref().map(|t| &t.mask), scale)?;
        Folder::write_gallery(output, &file, &jpeg)?;
        drawn.push(GalleryPicture {
            reason,
            path: score.path.clone(),
            defect_type: score.defect_type.clone(),
            image_score: score.image_score,
            file,
        });
    }
    Ok(drawn)
}

/// Which pictures a person should look at first.
fn chosen(samples: &[SampleScore]) -> Vec<(Reason, &SampleScore)> {
    let of = |good: bool, verdict: Verdict| {
        let mut found: Vec<&SampleScore> =
            samples.iter().filter(|s| (s.defect_type == "good") == good && s.verdict == verdict).collect();
        found.sort_by(|a, b| a.rank_score.total_cmp(&b.rank_score));
        found
    };
    let misses = of(false, Verdict::Normal);
    let rejects = of(true, Verdict::Anomalous);
    let caught = of(false, Verdict::Anomalous);
    let mut types: Vec<&str> = caught.iter().map(|s| s.defect_type.as_str()).collect();
    types.sort_unstable();
    types.dedup();
    let mut chosen: Vec<(Reason, &SampleScore)> =
        misses.into_iter().take(WORST).map(|s| (Reason::Miss, s)).collect();
    chosen.extend(rejects.into_iter().rev().take(WORST).map(|s| (Reason::FalseReject, s)));
    for t in &types {
        // The middle one of each type: neither the easiest nor the hardest.
        let of_type: Vec<&SampleScore> = caught.iter().copied().filter(|s| s.defect_type == *t).collect();
        chosen.push((Reason::Sample, of_type[of_type.len() / 2]));
    }
    chosen
}

/// Passes everything on and keeps the warnings.
struct Heard<'a> {
    inner: &'a dyn Observer,
    warnings: Mutex<Vec<String>>,
}

impl Observer for Heard<'_> {
    fn inner(&self) -> Option<&dyn Observer> {
        Some(self.inner)
    }
    fn warn(&self, message: &str) {
        self.warnings.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(message.to_owned());
        self.inner.warn(message);
    }
}
