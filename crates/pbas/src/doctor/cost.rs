//! What a training will cost: an estimate from a quick probe of this machine, not a promise.
//!
//! The features of a few pictures are extracted and timed; their number, the number of multiplications of a head's step
//! (docs/recipe.md) and the speed that the probe found give the time.

use std::time::{Duration, Instant};

use pbas_nn::linalg::Threads;
use serde::Serialize;

use crate::Result;
use crate::backbone::Backbone;
use crate::features::{ExtractScratch, Extractor};
use crate::image::Rgb8;
use crate::preprocess::{Geometry, InputSize};
use crate::settings::{Batch, CenterRule, Length, Settings, Sizes, auto_sizes};

/// Multiply-adds a pixel of EfficientNet-Lite0 up to its 192-channel stage (553 million at 288 x 288).
const BACKBONE_PER_PIXEL: f64 = 553e6 / (288.0 * 288.0);
/// Speed of a head's steps over that of the backbone, in multiply-adds a second: products of matrices are quicker than
/// convolutions, the sweeps between them slower. Measured on a 2-core AMD EPYC with AVX2.
const HEAD_SPEED: f64 = 0.9;
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
        format!(
            "an estimate from a probe of this machine: about {time} and {:.0} MB on {} thread{} with pictures of {} pixels",
            self.memory_bytes as f64 / 1e6,
            self.threads,
            if self.threads == 1 { "" } else { "s" },
            sizes.join(" and ")
        )
    }
}

/// What is known of the pictures before training.
#[derive(Debug, Clone, Copy)]
pub struct Workload<'a> {
    /// Good pictures.
    pub pictures: usize,
    /// The shorter side of each.
    pub shorter_sides: &'a [usize],
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
    let sizes = match &settings.sizes {
        Sizes::Fixed(sizes) => sizes.clone(),
        Sizes::Auto => auto_sizes(work.shorter_sides.to_vec()),
    };
    let threads = rayon::current_num_threads();
    let (mut seconds, mut pixels) = (0.0, 0.0);
    let (mut cache, mut head_products) = (0u64, 0.0);
    for &size in &sizes {
        let geometry = Geometry { fit: settings.fit, size };
        let extractor = Extractor::new(backbone, geometry, &settings.feature_layers, settings.pooling)?;
        let mut scratch = ExtractScratch::default();
        let mut fastest = f64::INFINITY;
        // The first one pays for the buffers: unless it is the only one, the fastest is another.
        for sample in samples.iter().cycle().take(samples.len().max(2)) {
            let start = Instant::now();
            extractor.extract(sample, &mut scratch, Threads::One)?;
            fastest = fastest.min(start.elapsed().as_secs_f64());
        }
        seconds += fastest;
        pixels += (size.width * size.height) as f64;
        let embedding = extractor.embedding();
        cache += 2 * embedding.pooled_len() as u64 * work.pictures as u64;
        head_products += settings.folds as f64
            * head_work(settings, embedding.dim(), embedding.positions(), work.pictures);
    }
    let speed = pixels * BACKBONE_PER_PIXEL / seconds;
    let side_by_side = threads.min(work.pictures.max(1)) as f64;
    let feature_seconds = work.pictures as f64 * (seconds + work.decode.as_secs_f64()) / side_by_side;
    let head_seconds = head_products / (speed * HEAD_SPEED * threads as f64);
    let in_memory = cache.min(work.cache_limit);
    Ok(Cost {
        sizes,
        seconds: feature_seconds + head_seconds,
        feature_seconds,
        head_seconds,
        memory_bytes: BASE_MEMORY + in_memory + WORK_BYTES * work.most_pixels * threads as u64,
        cache_bytes: cache,
        threads,
    })
}

/// Multiply-adds of the training of one head: a step's products are 2 b d d (projection and its gradient), 3 b d h
/// (discriminator, `train/refinement.rs`) and b c d (search among c centres).
fn head_work(settings: &Settings, dim: usize, positions: usize, pictures: usize) -> f64 {
    let h = &settings.head;
    let (patches, steps_an_epoch) = match h.batch {
        Batch::Pictures(n) => (n * positions, pictures.div_ceil(n)),
        Batch::Patches(n) => (n, (pictures * positions).div_ceil(n)),
    };
    let steps = match h.length {
        Length::Steps(n) => n,
        Length::Epochs(n) => n * steps_an_epoch as u64,
    };
    let centers = match h.centers {
        CenterRule::Positions => positions,
        CenterRule::Neighbours(n) => n,
    };
    let (d, hidden) = (dim as f64, h.hidden as f64);
    steps as f64 * patches as f64 * d * (2.0 * d + 3.0 * hidden + centers as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Preset;

    #[test]
    fn a_step_of_the_default_preset_costs_what_the_recipe_says() {
        let settings = Settings::preset(Preset::Fast);
        let Length::Steps(steps) = settings.head.length else { panic!("steps") };
        let step = head_work(&settings, 344, 1296, 100) / steps as f64;
        assert!((step / 0.79e9 - 1.0).abs() < 0.02, "{step}");
    }

    #[test]
    fn twice_the_pictures_cost_more_time_and_twice_the_cache() {
        let backbone = Backbone::embedded().unwrap();
        let settings = Settings::preset(Preset::Fast);
        let sample = Rgb8 { width: 96, height: 96, data: vec![99; 96 * 96 * 3] };
        let cost = |pictures| {
            let work = Workload {
                pictures,
                shorter_sides: &[96],
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
        assert_eq!(small.sizes, auto_sizes(vec![96]));
    }
}
