//! The banks of good patches that are remembered beside the heads (`crate::neighbours`), from cached features.

use half::f16;
use pbas_nn::linalg::Threads;
use rand::seq::index::sample;
use rayon::prelude::*;

use super::feature_cache::FeatureCache;
use super::trainer::{Stream, stream};
use crate::Result;
use crate::head::ScaleSums;
use crate::neighbours::{Bank, CoarseGrid, Neighbours, PackedBank, coreset, may_look};
use crate::roi::Positions;
use crate::settings::NeighbourSettings;

/// Patches from which the coresets of all folds of a view are taken, about.
const POOL: usize = 50_000;
/// Patches of each fold whose distances to the other folds' banks are the unit.
const UNIT_SAMPLE: usize = 1_000;
/// Least deviation of distances, as a share of the length of a z-scored feature: identical pictures must not make every other one
/// infinitely far.
const LEAST_DEVIATION: f64 = 0.02;

/// What is left of a fold once its bank is chosen.
struct Remembered {
    bank: Bank,
    /// Patches outside the bank, as they come from the network, `[n, dim]`.
    others: Vec<f32>,
}

/// Chooses the banks of a view. `folds` holds the pictures of each; `positions` says where on the coarse grid patches count.
///
/// # Errors
/// An instruction set was asked for that this processor lacks.
pub(super) fn remember(
    cache: &FeatureCache,
    view: usize,
    positions: &Positions,
    folds: &[Vec<usize>],
    settings: &NeighbourSettings,
    seed: u64,
) -> Result<Neighbours> {
    let grid = CoarseGrid::new(cache.embedding(view));
    let of_fold = |(f, pictures): (usize, &Vec<usize>)| {
        let mut rng = stream(seed, Stream::Neighbours, view, f, 0);
        let dim = cache.embedding(view).dim();
        let each = (POOL / folds.len()).div_ceil(pictures.len()).clamp(1, positions.count());
        let chosen: Vec<(usize, Vec<usize>)> =
            pictures.iter().map(|&p| (p, sample(&mut rng, positions.count(), each).into_vec())).collect();
        let gather = |pooled: &mut Vec<f32>, (picture, chosen): &(usize, Vec<usize>)| {
            cache.pooled(view, *picture, pooled);
            let features = grid.features(pooled);
            let row = |&i: &usize| &features[positions.nth(i) * dim..][..dim];
            chosen.iter().flat_map(row).copied().collect::<Vec<f32>>()
        };
        let pool: Vec<Vec<f32>> = chosen.par_iter().map_init(Vec::new, gather).collect();
        let pool = pool.concat();
        let mut sums = ScaleSums::new(dim);
        pool.chunks_exact(dim).for_each(|row| sums.add(row));
        let scale = sums.scale();
        let mut scaled = pool.clone();
        scale.apply(&mut scaled);
        let kept = coreset(&scaled, dim, (settings.rows / folds.len()).max(1), &mut rng);
        let half = |v: f32| f16::from_f32(v.clamp(f16::MIN.to_f32(), f16::MAX.to_f32())).to_f32();
        let rows: Vec<f32> = kept.iter().flat_map(|&i| &scaled[i * dim..][..dim]).map(|&v| half(v)).collect();
        let left: Vec<usize> = (0..pool.len() / dim).filter(|i| kept.binary_search(i).is_err()).collect();
        let left = left.iter().step_by(left.len().div_ceil(UNIT_SAMPLE).max(1));
        let others = left.flat_map(|&i| &pool[i * dim..][..dim]).copied().collect();
        Remembered { bank: Bank { scale, rows: rows.into() }, others }
    };
    let folds: Vec<Remembered> = folds.iter().enumerate().map(of_fold).collect();
    let deviations = deviations(&folds)?;
    Ok(Neighbours { banks: folds.into_iter().map(|f| f.bank).collect(), deviations })
}

/// For each head the deviation of the distances of one fold's patches to another's bank, over all pairs of folds that the head has seen;
/// where there is but one such fold, of its own patches outside its bank.
fn deviations(folds: &[Remembered]) -> Result<Vec<f64>> {
    let dim = folds[0].bank.scale.mean.len();
    let packed = folds.iter().map(|f| PackedBank::new(&f.bank.rows, dim)).collect::<Result<Vec<_>>>()?;
    // Count, sum and sum of squares of the distances of fold `from`'s patches to the bank of fold `to`.
    let moments = |from: usize, to: usize| {
        let mut rows = folds[from].others.clone();
        folds[to].bank.scale.apply(&mut rows);
        let distances = packed[to].distances(&rows, Threads::All);
        distances.iter().fold([0.0; 3], |[n, s, q], &d| {
            let d = f64::from(d);
            [n + 1.0, s + d, q + d * d]
        })
    };
    let count = folds.len();
    let pairs: Vec<Vec<[f64; 3]>> =
        (0..count).map(|from| (0..count).map(|to| moments(from, to)).collect()).collect();
    let of_head = |head: usize| {
        let seen: Vec<usize> = (0..count).filter(|&b| may_look(head, b, count)).collect();
        let across = seen.iter().flat_map(|&f| seen.iter().map(move |&t| (f, t)));
        let [n, s, q] = across
            .filter(|(f, t)| f != t || seen.len() == 1)
            .fold([0.0; 3], |sum, (f, t)| std::array::from_fn(|i| sum[i] + pairs[f][t][i]));
        let mean = s / f64::max(n, 1.0);
        let variance = (q / f64::max(n, 1.0) - mean * mean).max(0.0);
        variance.sqrt().max(LEAST_DEVIATION * (dim as f64).sqrt())
    };
    Ok((0..count).map(of_head).collect())
}
