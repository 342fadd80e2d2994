//! What a training will cost: an estimate from a quick probe of this machine, not a promise.
//!
//! The features of a few pictures are extracted and timed, and so is a step of a head on noise, on as many threads side by side as
//! training would use; the number of pictures and the multiplications of all steps (docs/recipe.md) give the time.

use std::time::{Duration, Instant};

use pbas_nn::linalg::Threads;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::Serialize;

use crate::Result;
use crate::backbone::Backbone;
use crate::features::{ExtractScratch, Extractor};
use crate::head::Head;
use crate::image::Rgb8;
use crate::neighbours::CoarseGrid;
use crate::preprocess::InputSize;
use crate::settings::{Batch, CenterRule, Settings};
use crate::train::centers::Centers;
use crate::train::remember::peak_bytes;
use crate::train::step::{BatchCenters, BatchSynthesis, HeadTrainer, Rates};

/// Most multiply-adds of a timed step; rows are left out of larger ones.
const PROBE_WORK: f64 = 1e9;
/// Steps that are timed.
const PROBE_STEPS: usize = 3;
/// Memory beside the cache and the pictures in work.
const BASE_MEMORY: u64 = 80 << 20;
/// Bytes that a picture in work takes for each of its pixels: file, decoded, resized.
const WORK_BYTES: u64 = 9;

/// An estimate.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Cost {
    /// Sizes at which the pictures will be looked at.
    pub sizes: Vec<InputSize>,
    /// Seconds of the whole training.
    pub seconds: f64,
    /// Part of it that reading pictures and extracting features takes.
    pub feature_seconds: f64,
    /// Part of it that the heads take.
    pub head_seconds: f64,
    /// Peak memory in bytes.
    pub memory_bytes: u64,
    /// Bytes of cached features; those beyond the limit go to a temporary file.
    pub cache_bytes: u64,
    /// Threads it was estimated for.
    pub threads: usize,
    /// What is to be said where the pictures are much larger ([`crate::sizes::Sizes::reduction`]).
    pub reduction: Option<String>,
}

impl Cost {
    /// In plain words.
    #[must_use]
    pub fn text(&self) -> String {
        let time = match self.seconds {
            s if s < 120.0 => format!("{s:.0} seconds"),
            s if s < 7200.0 => format!("{:.0} minutes", s / 60.0),
            s => format!("{:.1} hours", s / 3600.0),
        };
        let sizes: Vec<String> = self.sizes.iter().map(ToString::to_string).collect();
        let mut text = format!(
            "an estimate from a probe of this machine: about {time} and {:.0} MB on {} thread{} with pictures of {} pixels",
            self.memory_bytes as f64 / 1e6,
            self.threads,
            if self.threads == 1 { "" } else { "s" },
            sizes.join(" and ")
        );
        if let Some(reduction) = &self.reduction {
            text.push_str("; ");
            text.push_str(reduction);
        }
        text
    }
}

/// What is known of the pictures before training.
#[derive(Debug, Clone, Copy)]
pub struct Workload<'a> {
    /// Good pictures.
    pub pictures: usize,
    /// The size of each.
    pub sizes: &'a [InputSize],
    /// Most pixels of a picture.
    pub most_pixels: u64,
    /// Time to read and decode one.
    pub decode: Duration,
    /// Bytes of features that may stay in memory.
    pub cache_limit: u64,
}

/// Estimates a training with `settings` by extracting the features of `samples`, one picture or more.
///
/// # Errors
/// Settings that the backbone cannot serve.
pub fn estimate(
    backbone: &Backbone,
    settings: &Settings,
    work: Workload<'_>,
    samples: &[Rgb8],
) -> Result<Cost> {
    let sizes = settings.sizes.of(work.sizes);
    let threads = rayon::current_num_threads();
    let folds = settings.folds.of(work.pictures, settings.false_reject_rate);
    // Each head trains without one fold.
    let seen = work.pictures - if folds > 1 { work.pictures / folds } else { 0 };
    let mut seconds = 0.0;
    let (mut cache, mut head_seconds, mut remember) = (0u64, 0.0, 0u64);
    let mut speed = None::<(usize, f64)>;
    for &size in &sizes {
        let extractor = Extractor::for_view(backbone, size, settings)?;
        let mut scratch = ExtractScratch::default();
        let mut fastest = f64::INFINITY;
        // The first one pays for the buffers: unless it is the only one, the fastest is another.
        for sample in samples.iter().cycle().take(samples.len().max(2)) {
            let start = Instant::now();
            extractor.extract(sample, &mut scratch, Threads::One)?;
            fastest = fastest.min(start.elapsed().as_secs_f64());
        }
        seconds += fastest;
        let embedding = extractor.embedding();
        cache += 2 * embedding.pooled_len() as u64 * work.pictures as u64;
        let (dim, positions) = (embedding.dim(), embedding.positions());
        if settings.neighbours.is_some() {
            let (height, width) = CoarseGrid::new(embedding).shape();
            remember = remember.max(peak_bytes(work.pictures, height * width, folds, dim));
        }
        let products = folds as f64 * head_work(settings, dim, positions, seen);
        let known = speed.filter(|(of_dim, _)| *of_dim == dim).map(|(_, speed)| speed);
        let found = known.unwrap_or_else(|| step_speed(settings, dim, positions, folds * sizes.len()));
        speed = Some((dim, found));
        head_seconds += products / found;
    }
    let side_by_side = threads.min(work.pictures.max(1)) as f64;
    let feature_seconds = work.pictures as f64 * (seconds + work.decode.as_secs_f64()) / side_by_side;
    let in_memory = cache.min(work.cache_limit);
    Ok(Cost {
        sizes,
        seconds: feature_seconds + head_seconds,
        feature_seconds,
        head_seconds,
        memory_bytes: BASE_MEMORY + in_memory + remember + WORK_BYTES * work.most_pixels * threads as u64,
        cache_bytes: cache,
        threads,
        reduction: settings.sizes.reduction(work.sizes),
    })
}

/// Multiply-adds a second of the steps of a head, all threads together: timed on noise, heads side by side where there are as many
/// as threads, as training has them. Against a training of 31 pictures at the automatic sizes on two busy cores the time of its steps came out 1.1
/// and 1.35 times too long (before and after it).
fn step_speed(settings: &Settings, dim: usize, positions: usize, heads: usize) -> f64 {
    let threads = rayon::current_num_threads();
    let h = &settings.head;
    let wanted = match h.batch {
        Batch::Pictures(n) => n * positions,
        Batch::Patches(n) => n,
    };
    let row_work = row_work(settings, dim, positions);
    let rows = wanted.min((PROBE_WORK / row_work) as usize).max(64);
    let probe = |threads: Threads| {
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let mut trainer = HeadTrainer::new(Head::initial(dim, h.hidden, &mut rng));
        // Its values do not matter, but equal rows or zeros would be quicker or slower than real ones.
        let mut noise = |n: usize| -> Vec<f32> { (0..n).map(|_| rng.random_range(-1.0..1.0)).collect() };
        let batch = noise(rows * dim);
        let identity: Vec<u64> = (0..rows as u64).collect();
        let fixed = match h.centers {
            CenterRule::Positions => positions,
            CenterRule::Mean => 1,
            CenterRule::Neighbours(_) => 0,
        };
        let fixed = Centers { dim, data: noise(fixed * dim) };
        let source = match h.centers {
            CenterRule::Positions | CenterRule::Mean => BatchCenters::Fixed(&fixed),
            CenterRule::Neighbours(candidates) => {
                BatchCenters::Neighbours { candidates, identity: &identity }
            }
        };
        let rates = Rates {
            projection: h.projection_rate,
            discriminator: h.discriminator_rate,
            projection_decay: h.projection_decay,
            discriminator_decay: h.discriminator_decay,
            boundary_weight: h.boundary_weight,
        };
        let scales = vec![h.synthesis_scale[1]; rows];
        let mut fastest = f64::INFINITY;
        for _ in 0..PROBE_STEPS {
            let start = Instant::now();
            trainer.step(&batch, source, BatchSynthesis::Rays(&scales), rates, threads);
            fastest = fastest.min(start.elapsed().as_secs_f64());
        }
        rows as f64 * row_work / fastest
    };
    if heads >= threads {
        (0..threads).into_par_iter().with_max_len(1).map(|_| probe(Threads::One)).sum()
    } else {
        probe(Threads::All)
    }
}

/// Multiply-adds of a step for each row of its batch: 2 d d (projection and its gradient), 3 d h (discriminator,
/// `train/refinement.rs`) and c d (search among c centres).
fn row_work(settings: &Settings, dim: usize, positions: usize) -> f64 {
    let centers = match settings.head.centers {
        CenterRule::Positions => positions,
        CenterRule::Mean => 1,
        CenterRule::Neighbours(n) => n,
    };
    dim as f64 * (2.0 * dim as f64 + 3.0 * settings.head.hidden as f64 + centers as f64)
}

/// Multiply-adds of the training of one head: its steps, rows and [`row_work`].
fn head_work(settings: &Settings, dim: usize, positions: usize, pictures: usize) -> f64 {
    let h = &settings.head;
    let (patches, pass) = match h.batch {
        Batch::Pictures(n) => (n * positions, pictures.div_ceil(n)),
        Batch::Patches(n) => (n, (pictures * positions).div_ceil(n)),
    };
    h.length.steps(pass as u64) as f64 * patches as f64 * row_work(settings, dim, positions)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Length, Preset};

    #[test]
    fn a_step_of_the_default_preset_costs_what_the_recipe_says() {
        let settings = Settings::preset(Preset::Fast);
        let Length::Pass { least, most } = settings.head.length else { panic!("a pass") };
        let step = head_work(&settings, 344, 1296, 100) / least as f64;
        assert!((step / 0.79e9 - 1.0).abs() < 0.02, "{step}");
        let steps = |pictures| head_work(&settings, 344, 1296, pictures) / step;
        assert!((steps(500) - 500.0).abs() < 1e-6 && (steps(100_000) - most as f64).abs() < 1e-6);
    }

    #[test]
    fn twice_the_pictures_cost_more_time_and_twice_the_cache() {
        let backbone = Backbone::embedded().unwrap();
        let settings = Settings::preset(Preset::Fast);
        let sample = Rgb8 { width: 96, height: 96, data: vec![99; 96 * 96 * 3] };
        let cost = |pictures| {
            let work = Workload {
                pictures,
                sizes: &[InputSize::square(96)],
                most_pixels: 96 * 96,
                decode: Duration::from_millis(2),
                cache_limit: 1 << 20,
            };
            estimate(&backbone, &settings, work, std::slice::from_ref(&sample)).unwrap()
        };
        let (small, large) = (cost(1000), cost(2000));
        assert_eq!(2 * small.cache_bytes, large.cache_bytes);
        assert_eq!(small.memory_bytes, large.memory_bytes, "the cache is at its limit");
        assert!(large.feature_seconds > 0.0 && small.head_seconds > 0.0);
        assert_eq!(small.sizes, settings.sizes.of(&[InputSize::square(96)]));
        // 50,000 patches of 344 entries over five folds, twice.
        assert!(small.memory_bytes > BASE_MEMORY + (1 << 20) + 2 * 4 * 344 * 10_000);
    }
}
