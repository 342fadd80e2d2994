//! A plain nearest-neighbour score in the manner of PatchCore, on the features and views of a model: the second opinion that needs no
//! training beside the features themselves.
//!
//! For each view a random pool of patches of good pictures is thinned to a coreset (farthest point first, in a random projection); the score of a
//! patch is the Euclidean distance to the nearest of it, on the z-scores that the heads of the model see.

use std::path::PathBuf;

use pbas_nn::linalg::Threads;
use rand::SeedableRng;
use rand::seq::index::sample;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use crate::Result;
use crate::detector::{Detector, mean_map};
use crate::features::{ExtractScratch, Extractor};
use crate::head::FeatureScale;
use crate::image::Rgb8;
use crate::neighbours::{PackedBank, coreset};
use crate::score::{ScoreMap, top_share_mean};
use crate::settings::Scoring;
use crate::train::feature_cache::{FeatureCache, Pass};
use crate::train::observer::Observer;
use crate::view::ViewRunner;

/// Patches of good pictures from which the coreset is taken, at most.
pub const POOL: usize = 50_000;
/// Share of the pool that is kept.
pub const CORESET_SHARE: f64 = 0.1;
/// Patches outside the coreset whose mean distance is a view's unit.
const UNIT_SAMPLE: usize = 2_000;

/// The second opinion, ready to judge: a coreset for each view of a detector.
#[derive(Debug)]
pub struct NearestNeighbour<'a> {
    detector: &'a Detector,
    views: Vec<Coreset>,
    top_share: f64,
}

#[derive(Debug)]
struct Coreset {
    scale: Option<FeatureScale>,
    bank: PackedBank,
    /// Mean distance of good patches outside the bank: brings views to one scale.
    unit: f32,
}

impl<'a> NearestNeighbour<'a> {
    /// Gathers the coreset of every view of `detector` from good pictures. Pictures that cannot be read are warned of and left out.
    ///
    /// # Errors
    /// No readable picture, no room for cached features, or an interrupt.
    pub fn fit(
        detector: &'a Detector,
        pictures: &[PathBuf],
        cache_limit: u64,
        observer: &dyn Observer,
    ) -> Result<Self> {
        let (model, decode) = (detector.model(), detector.decode_options());
        let settings = &model.settings;
        let extractors: Vec<&Extractor> = detector.runners().iter().map(ViewRunner::extractor).collect();
        let pass = Pass {
            pictures,
            extractors: &extractors,
            roi: settings.roi.as_ref(),
            decode: &decode,
            augment: None,
            memory_limit: cache_limit,
            temp_dir: None,
        };
        let (cache, survey) = FeatureCache::fill(&pass, observer)?;
        for (_, error) in &survey.skipped {
            observer.warn(&format!("left out: {}", crate::error::chain(error)));
        }
        if survey.digest != model.provenance.pictures_sha256 {
            observer.warn(
                "the good pictures are not those that the model was trained on, all of them and no others",
            );
        }
        observer.begin("nearest neighbours", extractors.len() as u64, "views");
        let views = (0..extractors.len()).map(|v| {
            let mut rng = ChaCha8Rng::seed_from_u64(settings.seed ^ (v as u64) << 32);
            let coreset = Coreset::of(&cache, v, settings.head.standardize, &mut rng);
            observer.advance(1);
            coreset
        });
        let views = views.collect::<Result<_>>()?;
        observer.end();
        let top_share = match settings.scoring {
            Scoring::Rarity { top_share } => top_share,
            Scoring::Sigmoid => 0.0,
        };
        Ok(Self { detector, views, top_share })
    }

    /// Score and map of a picture. The score of a view is the mean of the highest share of its patches' distances, as the model
    /// takes it of logits, and views count by their sides; the map is the mean of the views' as the model weighs them.
    ///
    /// # Errors
    /// A picture that the geometry cannot lay out.
    pub fn judge(
        &self,
        picture: &Rgb8,
        scratch: &mut ExtractScratch,
        threads: Threads,
    ) -> Result<(f64, ScoreMap)> {
        let picture = &*self.detector.seen(picture)?;
        let (mut score, mut maps) = (0.0, Vec::new());
        for (runner, coreset) in self.detector.runners().iter().zip(&self.views) {
            let (pooled, _) = runner.extractor().extract(picture, scratch, threads)?;
            let features = runner.embedding().grid_features(&pooled, threads == Threads::All).data;
            let distances = coreset.distances(features, threads);
            let highest = top_share_mean(&runner.positions().select(&distances), self.top_share);
            score += runner.weight() * f64::from(highest);
            maps.push((runner.map_of_patches(&distances)?, runner.map_weight()));
        }
        Ok((score, mean_map(maps)?))
    }
}

impl Coreset {
    fn of(cache: &FeatureCache, view: usize, standardize: bool, rng: &mut ChaCha8Rng) -> Result<Self> {
        let dim = cache.embedding(view).dim();
        let mut pool = random_patches(cache, view, rng);
        let scale = standardize.then(|| FeatureScale::of_rows(&pool, dim));
        if let Some(scale) = &scale {
            scale.apply(&mut pool);
        }
        let count = ((pool.len() / dim) as f64 * CORESET_SHARE).ceil() as usize;
        let chosen = coreset(&pool, dim, count, rng);
        let rows: Vec<f32> = chosen.iter().flat_map(|&i| &pool[i * dim..][..dim]).copied().collect();
        let bank = PackedBank::new(&rows, dim)?;
        let others: Vec<usize> = (0..pool.len() / dim).filter(|i| chosen.binary_search(i).is_err()).collect();
        let others = others.iter().step_by((others.len() / UNIT_SAMPLE).max(1));
        let rows: Vec<f32> = others.flat_map(|&i| pool[i * dim..(i + 1) * dim].iter().copied()).collect();
        let distances = bank.distances(&rows, Threads::All);
        let mean = distances.iter().sum::<f32>() / distances.len().max(1) as f32;
        Ok(Self { scale, bank, unit: if mean > 0.0 { mean } else { 1.0 } })
    }

    /// Distances of patch features, `[patches, dim]`, in the view's unit.
    fn distances(&self, mut features: Vec<f32>, threads: Threads) -> Vec<f32> {
        if let Some(scale) = &self.scale {
            scale.apply(&mut features);
        }
        let mut distances = self.bank.distances(&features, threads);
        distances.iter_mut().for_each(|d| *d /= self.unit);
        distances
    }
}

/// Up to [`POOL`] patches of random pictures and positions, `[patches, dim]`.
fn random_patches(cache: &FeatureCache, view: usize, rng: &mut ChaCha8Rng) -> Vec<f32> {
    let (dim, positions) = (cache.embedding(view).dim(), cache.positions(view));
    let all = cache.pictures() * positions.count();
    let chosen = sample(rng, all, POOL.min(all)).into_vec();
    let mut rows = vec![0.0; chosen.len() * dim];
    rows.par_chunks_exact_mut(dim).zip(&chosen).for_each_init(Vec::new, |scratch, (row, &i)| {
        let (picture, position) = (i / positions.count(), positions.nth(i % positions.count()));
        cache.gather(view, picture, position, row, scratch);
    });
    rows
}
