//! A plain nearest-neighbour score in the manner of PatchCore, on the features and views of a model: the second opinion that needs no
//! training beside the features themselves.
//!
//! For each view a random pool of patches of good pictures is thinned to a coreset (farthest point first, in a random projection); the score of a
//! patch is the Euclidean distance to the nearest of it, on the z-scores that the heads of the model see.

use std::path::PathBuf;

use pbas_nn::linalg::{Mat, Threads, gemm_into, vectorized};
use rand::seq::index::sample;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;
use rayon::prelude::*;

use crate::Result;
use crate::detector::{Detector, mean_map};
use crate::features::{ExtractScratch, Extractor};
use crate::head::{FeatureScale, ScaleSums};
use crate::image::Rgb8;
use crate::score::{ScoreMap, top_share_mean};
use crate::settings::Scoring;
use crate::train::centers::search;
use crate::train::feature_cache::FeatureCache;
use crate::train::observer::Observer;
use crate::view::ViewRunner;

/// Patches of good pictures from which the coreset is taken, at most.
pub const POOL: usize = 50_000;
/// Share of the pool that is kept.
pub const CORESET_SHARE: f64 = 0.1;
/// Entries of the random projection in which the coreset is chosen.
const PROJECTED: usize = 64;
/// Patches outside the coreset whose mean distance is a view's unit.
const UNIT_SAMPLE: usize = 2_000;
/// Rows of the pool that one thread measures at a time.
const BLOCK: usize = 4096;

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
    bank: Bank,
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
        let roi = settings.roi.as_ref();
        let (cache, survey) =
            FeatureCache::fill(pictures, &extractors, roi, &decode, cache_limit, None, observer)?;
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
        let views = views.collect();
        observer.end();
        let top_share = match settings.scoring {
            Scoring::Rarity { top_share } => top_share,
            Scoring::Sigmoid => 0.0,
        };
        Ok(Self { detector, views, top_share })
    }

    /// Score and map of a picture. The score of a view is the mean of the highest share of its patches' distances, as the model
    /// takes it of logits, and views count by their sides; the map is the mean of the views'.
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
            maps.push(runner.map_of_patches(&distances)?);
        }
        Ok((score, mean_map(maps)?))
    }
}

impl Coreset {
    fn of(cache: &FeatureCache, view: usize, standardize: bool, rng: &mut ChaCha8Rng) -> Self {
        let dim = cache.embedding(view).dim();
        let mut pool = random_patches(cache, view, rng);
        let scale = standardize.then(|| scale_of(&pool, dim));
        if let Some(scale) = &scale {
            scale.apply(&mut pool);
        }
        let count = ((pool.len() / dim) as f64 * CORESET_SHARE).ceil() as usize;
        let chosen = coreset(&pool, dim, count, rng);
        let bank = Bank::new(&pool, dim, &chosen);
        let others: Vec<usize> = (0..pool.len() / dim).filter(|i| chosen.binary_search(i).is_err()).collect();
        let others = others.iter().step_by((others.len() / UNIT_SAMPLE).max(1));
        let rows: Vec<f32> = others.flat_map(|&i| pool[i * dim..(i + 1) * dim].iter().copied()).collect();
        let distances = bank.distances(&rows, Threads::All);
        let mean = distances.iter().sum::<f32>() / distances.len().max(1) as f32;
        Self { scale, bank, unit: if mean > 0.0 { mean } else { 1.0 } }
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

fn scale_of(rows: &[f32], dim: usize) -> FeatureScale {
    let mut sums = ScaleSums::new(dim);
    rows.chunks_exact(dim).for_each(|row| sums.add(row));
    sums.scale()
}

/// `count` rows, sorted, of `rows` `[n, dim]`, each the farthest from those before it (Gonzalez' greedy k-centre) in a random
/// projection.
fn coreset(rows: &[f32], dim: usize, count: usize, rng: &mut ChaCha8Rng) -> Vec<usize> {
    let n = rows.len() / dim;
    let directions: Vec<f32> = (0..dim * PROJECTED).map(|_| rng.sample(StandardNormal)).collect();
    let mut low = vec![0.0; n * PROJECTED];
    gemm_into(&mut low, Mat::new(rows, n, dim), Mat::new(&directions, dim, PROJECTED), false, Threads::All);
    let mut nearest = vec![f32::INFINITY; n];
    let (mut chosen, mut next) = (Vec::new(), rng.random_range(0..n));
    while chosen.len() < count.min(n) {
        chosen.push(next);
        let center = low[next * PROJECTED..(next + 1) * PROJECTED].to_vec();
        let blocks = nearest.par_chunks_mut(BLOCK).zip(low.par_chunks(BLOCK * PROJECTED));
        let farthest = blocks.enumerate().map(|(b, (nearest, low))| {
            vectorized(|| {
                let mut best = (f32::NEG_INFINITY, 0);
                for (i, (least, row)) in nearest.iter_mut().zip(low.chunks_exact(PROJECTED)).enumerate() {
                    *least = least.min(squared_distance(row, &center));
                    if *least > best.0 {
                        best = (*least, b * BLOCK + i);
                    }
                }
                best
            })
        });
        // The first of equals, whatever the threads.
        let farthest = farthest.collect::<Vec<_>>().into_iter().reduce(|a, b| if b.0 > a.0 { b } else { a });
        next = match farthest {
            Some((distance, i)) if distance > 0.0 => i,
            _ => break, // All rows are copies of those chosen.
        };
    }
    chosen.sort_unstable();
    chosen
}

/// In sixteen partial sums, so that it vectorizes.
fn squared_distance(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; 16];
    for (a, b) in a.chunks_exact(16).zip(b.chunks_exact(16)) {
        for ((s, a), b) in sums.iter_mut().zip(a).zip(b) {
            *s += (a - b) * (a - b);
        }
    }
    sums.iter().sum()
}

/// Rows to be near to.
#[derive(Debug)]
struct Bank {
    dim: usize,
    /// `[count, dim]`.
    rows: Vec<f32>,
    /// Half the squared length of each row.
    half: Vec<f32>,
}

impl Bank {
    fn new(pool: &[f32], dim: usize, chosen: &[usize]) -> Self {
        let rows: Vec<f32> =
            chosen.iter().flat_map(|&i| pool[i * dim..(i + 1) * dim].iter().copied()).collect();
        let half = rows.chunks_exact(dim).map(|r| 0.5 * r.iter().map(|v| v * v).sum::<f32>()).collect();
        Self { dim, rows, half }
    }

    /// Euclidean distance of each row of `x` `[n, dim]` to the nearest of the bank: `|x - b|^2 = |x|^2 + 2 (|b|^2 / 2 - x . b)`.
    fn distances(&self, x: &[f32], threads: Threads) -> Vec<f32> {
        let cost = |_, i: usize, product: f32| self.half[i] - product;
        let least: Vec<f32> = search(x, &self.rows, self.dim, threads, cost, |_, least| least);
        let own = x.chunks_exact(self.dim).map(|row| row.iter().map(|v| v * v).sum::<f32>());
        least.iter().zip(own).map(|(least, own)| (own + 2.0 * least).max(0.0).sqrt()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random(n: usize, seed: u64) -> Vec<f32> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        (0..n).map(|_| rng.random_range(-1.0..1.0)).collect()
    }

    #[test]
    fn distances_agree_with_plain_loops_on_any_threads() {
        let (dim, n, m) = (19, 70, 33);
        let (x, rows) = (random(n * dim, 1), random(m * dim, 2));
        let bank = Bank::new(&rows, dim, &(0..m).collect::<Vec<_>>());
        let fast = bank.distances(&x, Threads::One);
        assert_eq!(fast, bank.distances(&x, Threads::All));
        for (row, fast) in x.chunks(dim).zip(fast) {
            let distance = |b: &[f32]| {
                let squares = row.iter().zip(b).map(|(x, y)| f64::from(x - y).powi(2));
                squares.sum::<f64>().sqrt()
            };
            let least = rows.chunks(dim).map(distance).fold(f64::INFINITY, f64::min);
            assert!((least - f64::from(fast)).abs() < 1e-5, "{least} {fast}");
        }
    }

    #[test]
    fn a_coreset_takes_a_row_of_every_cluster_before_a_second_of_any() {
        let (dim, clusters) = (12, 9);
        let middles = random(clusters * dim, 3);
        let rows: Vec<f32> = (0..300)
            .flat_map(|i| {
                let noise = random(dim, 100 + i as u64);
                let at = i % clusters * dim;
                middles[at..at + dim].iter().zip(noise).map(|(m, e)| m * 10.0 + 0.01 * e).collect::<Vec<_>>()
            })
            .collect();
        let chosen = coreset(&rows, dim, clusters, &mut ChaCha8Rng::seed_from_u64(4));
        let mut of: Vec<usize> = chosen.iter().map(|i| i % clusters).collect();
        of.sort_unstable();
        assert_eq!(of, (0..clusters).collect::<Vec<_>>());
        let copies = random(dim, 5).repeat(40);
        assert_eq!(
            coreset(&copies, dim, 4, &mut ChaCha8Rng::seed_from_u64(4)).len(),
            1,
            "copies add nothing"
        );
    }
}
