//! The banks of good patches that are remembered beside the heads (`crate::neighbours`), from cached features.

use half::f16;
use pbas_nn::linalg::Threads;
use rand::seq::index::sample;
use rayon::prelude::*;

use super::feature_cache::FeatureCache;
use super::trainer::{Stream, stream};
use crate::Result;
use crate::head::FeatureScale;
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
    /// Any patches, as they come from the network, `[n, dim]`: the bank holds the most unlike ones, so without them distances look too
    /// much alike.
    any: Vec<f32>,
    /// Patches outside the bank.
    outside: Vec<f32>,
}

/// Bytes that choosing the banks of a view takes while a fold is at it: its pool picture by picture, joined, and on scale.
pub(crate) fn peak_bytes(pictures: usize, positions: usize, folds: usize, dim: usize) -> u64 {
    let rows = POOL.min(pictures * positions) / folds.max(1);
    3 * (rows * dim * size_of::<f32>()) as u64
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
        let scale = FeatureScale::of_rows(&pool, dim);
        let mut scaled = pool.clone();
        scale.apply(&mut scaled);
        let kept = coreset(&scaled, dim, (settings.rows / folds.len()).max(1), &mut rng);
        let half = |v: f32| f16::from_f32(v.clamp(f16::MIN.to_f32(), f16::MAX.to_f32())).to_f32();
        let rows: Vec<f32> = kept.iter().flat_map(|&i| &scaled[i * dim..][..dim]).map(|&v| half(v)).collect();
        let sample = |from: Vec<usize>| -> Vec<f32> {
            let every = from.len().div_ceil(UNIT_SAMPLE).max(1);
            from.iter().step_by(every).flat_map(|&i| &pool[i * dim..][..dim]).copied().collect()
        };
        let all = 0..pool.len() / dim;
        let outside = sample(all.clone().filter(|i| kept.binary_search(i).is_err()).collect());
        let any = sample(all.collect());
        Remembered { bank: Bank { scale, rows: rows.into() }, any, outside }
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
        let mut rows = if from == to { folds[from].outside.clone() } else { folds[from].any.clone() };
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

#[cfg(test)]
mod tests {
    use super::*;

    fn fold(bank: f32, outside: &[f32]) -> Remembered {
        let scale = FeatureScale { mean: vec![0.0], deviation: vec![1.0] };
        let any = outside.iter().rev().copied().collect();
        Remembered { bank: Bank { scale, rows: vec![bank].into() }, any, outside: outside.to_vec() }
    }

    #[test]
    fn a_unit_comes_from_the_folds_that_a_head_has_seen() {
        // Head 0 has seen folds 1 and 2: distances 10, 12 (of fold 1 to 20) and 4, 8 (of fold 2 to 14).
        let folds = [fold(1000.0, &[-500.0]), fold(14.0, &[10.0, 8.0]), fold(20.0, &[18.0, 22.0])];
        let found = deviations(&folds).unwrap();
        let (mean, n) = ((10.0 + 12.0 + 4.0 + 8.0) / 4.0, 4.0);
        let expected = [10.0f64, 12.0, 4.0, 8.0].iter().map(|d| (d - mean).powi(2) / n).sum::<f64>().sqrt();
        assert!((found[0] - expected).abs() < 1e-3, "{found:?}, {expected}");
        // A single fold measures its own patches outside the bank.
        let single = deviations(&[fold(1.0, &[2.0, 5.0])]).unwrap();
        assert!((single[0] - 1.5).abs() < 1e-6);
        assert_eq!(deviations(&[fold(1.0, &[1.0, 1.0])]).unwrap(), [LEAST_DEVIATION], "copies");
        assert_eq!(deviations(&[fold(1.0, &[])]).unwrap(), [LEAST_DEVIATION], "nothing outside the bank");
    }
}
