//! The banks of good patches that are remembered beside the heads (`crate::neighbours`), from cached features.

use half::f16;
use pbas_nn::linalg::Threads;
use rand::seq::index::sample;
use rayon::prelude::*;

use super::feature_cache::FeatureCache;
use super::trainer::{Stream, stream};
use crate::Result;
use crate::head::FeatureScale;
use crate::neighbours::{
    Bank, CoarseGrid, Near, Neighbours, PackedBank, Usual, coreset, lookers, may_look, place,
};
use crate::roi::Positions;
use crate::settings::NeighbourSettings;

/// Patches from which the coresets of all folds of a view are taken, about; their distances to the other folds' banks are the units.
const POOL: usize = 50_000;
/// Least deviation of distances, as a share of the length of a z-scored feature: identical pictures must not make every other one
/// infinitely far.
const LEAST_DEVIATION: f64 = 0.02;
/// What is usual at a row is told by the patches that lie nearest to it, and by so many that lie as patches do to any row.
const ANYWHERE: f64 = 3.0;

/// Where the patches of a fold's pool lie: picture, and positions on the coarse grid.
type Chosen = Vec<(usize, Vec<usize>)>;

/// Bytes that choosing the banks of a view takes while a fold is at it: its pool picture by picture and joined, or joined and on the scale of
/// another fold.
pub(crate) fn peak_bytes(pictures: usize, positions: usize, folds: usize, dim: usize) -> u64 {
    let rows = POOL.min(pictures * positions) / folds.max(1);
    2 * (rows * dim * size_of::<f32>()) as u64
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
    let dim = cache.embedding(view).dim();
    let pool_of = |chosen: &Chosen| -> Vec<f32> {
        let gather = |pooled: &mut Vec<f32>, (picture, chosen): &(usize, Vec<usize>)| {
            cache.pooled(view, *picture, pooled);
            let features = grid.features(pooled);
            let row = |&i: &usize| &features[positions.nth(i) * dim..][..dim];
            chosen.iter().flat_map(row).copied().collect::<Vec<f32>>()
        };
        let pool: Vec<Vec<f32>> = chosen.par_iter().map_init(Vec::new, gather).collect();
        pool.concat()
    };
    let of_fold = |(f, pictures): (usize, &Vec<usize>)| {
        let mut rng = stream(seed, Stream::Neighbours, view, f, 0);
        let each = (POOL / folds.len()).div_ceil(pictures.len()).clamp(1, positions.count());
        let chosen: Chosen =
            pictures.iter().map(|&p| (p, sample(&mut rng, positions.count(), each).into_vec())).collect();
        let mut pool = pool_of(&chosen);
        let scale = FeatureScale::of_rows(&pool, dim);
        scale.apply(&mut pool);
        let kept = coreset(&pool, dim, (settings.rows / folds.len()).max(1), &mut rng);
        let half = |v: f32| f16::from_f32(v.clamp(f16::MIN.to_f32(), f16::MAX.to_f32())).to_f32();
        let rows: Vec<f32> = kept.iter().flat_map(|&i| &pool[i * dim..][..dim]).map(|&v| half(v)).collect();
        ((chosen, kept), Bank { scale, rows: rows.into(), usual: None })
    };
    let chosen = folds.iter().enumerate().map(of_fold);
    let (pools, mut banks): (Vec<(Chosen, Vec<usize>)>, Vec<Bank>) = chosen.unzip();
    let packed = banks.iter().map(|b| PackedBank::new(&b.rows, dim)).collect::<Result<Vec<_>>>()?;
    // The pools are gathered again one by one: all of them at once would take as much memory as a training may have.
    let between = pools.iter().enumerate().map(|(from, (chosen, kept))| {
        let pool = pool_of(chosen);
        Between::of_pool(from, &pool, kept, &banks, &packed)
    });
    let between: Vec<Vec<Between>> = between.collect();
    let deviations = conclude(&mut banks, &between, dim);
    if settings.usual_weight == 0.0 {
        banks.iter_mut().for_each(|b| b.usual = None);
    }
    Ok(Neighbours { banks, deviations })
}

/// Number, sum and sum of squares of distances.
type Moments = [f64; 3];

/// Distances of the patches of one fold's pool to one bank: moments of all that are nearest to a row, for each row.
#[derive(Debug, Clone, PartialEq)]
struct Between(Vec<Moments>);

impl Between {
    /// Of the pool of fold `from` to every bank; to its own of the patches that are not in it.
    fn of_pool(
        from: usize,
        pool: &[f32],
        kept: &[usize],
        banks: &[Bank],
        packed: &[PackedBank],
    ) -> Vec<Self> {
        let dim = banks[from].scale.mean.len();
        let to_bank = |(to, (bank, packed)): (usize, (&Bank, &PackedBank))| {
            // Nothing asks how far a pool lies from its own bank where there are others enough.
            if from == to && banks.len() > 2 {
                return Self::of(&[], bank.count());
            }
            let rows = pool.chunks_exact(dim).enumerate();
            let rows = rows.filter(|(i, _)| from != to || kept.binary_search(i).is_err());
            let mut rows: Vec<f32> = rows.flat_map(|(_, row)| row).copied().collect();
            bank.scale.apply(&mut rows);
            Self::of(&packed.nearest(&rows, Threads::All), bank.count())
        };
        banks.iter().zip(packed).enumerate().map(to_bank).collect()
    }

    fn of(nearest: &[Near], rows: usize) -> Self {
        let mut of_rows = vec![[0.0; 3]; rows];
        for near in nearest {
            let d = f64::from(near.distance);
            add(&mut of_rows[near.row], [1.0, d, d * d]);
        }
        Self(of_rows)
    }
}

fn add(to: &mut Moments, more: Moments) {
    to.iter_mut().zip(more).for_each(|(t, m)| *t += m);
}

/// Mean and mean square.
fn means([n, s, q]: Moments) -> (f64, f64) {
    (s / n.max(1.0), q / n.max(1.0))
}

/// For each head the deviation of the distances of one fold's patches to another's bank, over all pairs of folds that the head has seen, and what is usual
/// at each row of the banks that it may look into, from the same distances; where there is but one such fold, of its own patches outside its bank.
fn conclude(banks: &mut [Bank], between: &[Vec<Between>], dim: usize) -> Vec<f64> {
    let count = banks.len();
    let least = LEAST_DEVIATION * (dim as f64).sqrt();
    let deviation = |mean: f64, square: f64| (square - mean * mean).max(0.0).sqrt().max(least);
    let seen = |head: usize| (0..count).filter(move |&b| may_look(head, b, count));
    // Folds whose patches tell a head how far they usually lie from the bank of fold `to`.
    let telling = |head: usize, to: usize| {
        let alone = seen(head).count() == 1;
        seen(head).filter(move |&from| alone || from != to)
    };
    let of_head = |head: usize| {
        let mut all = [0.0; 3];
        for to in seen(head) {
            telling(head, to).flat_map(|from| &between[from][to].0).for_each(|&m| add(&mut all, m));
        }
        means(all)
    };
    let heads: Vec<(f64, f64)> = (0..count).map(of_head).collect();
    for (to, bank) in banks.iter_mut().enumerate() {
        let rows = bank.count();
        let (mut mean, mut spread) = (vec![0.0; lookers(count) * rows], vec![0.0; lookers(count) * rows]);
        for head in (0..count).filter(|&h| may_look(h, to, count)) {
            let (anywhere, square) = heads[head];
            for row in 0..rows {
                let mut sum = [ANYWHERE, ANYWHERE * anywhere, ANYWHERE * square];
                telling(head, to).for_each(|from| add(&mut sum, between[from][to].0[row]));
                let (usual, square) = means(sum);
                let at = place(head, to) * rows + row;
                (mean[at], spread[at]) = (usual as f32, deviation(usual, square) as f32);
            }
        }
        bank.usual = Some(Usual { mean: mean.into(), deviation: spread.into() });
    }
    heads.into_iter().map(|(mean, square)| deviation(mean, square)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A bank of these rows, of one entry each, and the distances of pools to all banks.
    fn concluded(banks: &[&[f32]], pools: &[&[f32]]) -> (Vec<Bank>, Vec<f64>) {
        let scale = FeatureScale { mean: vec![0.0], deviation: vec![1.0] };
        let bank = |rows: &&[f32]| Bank { scale: scale.clone(), rows: rows.to_vec().into(), usual: None };
        let mut banks: Vec<Bank> = banks.iter().map(bank).collect();
        let packed: Vec<_> = banks.iter().map(|b| PackedBank::new(&b.rows, 1).unwrap()).collect();
        let of = |(f, pool): (usize, &&[f32])| Between::of_pool(f, pool, &[], &banks, &packed);
        let between: Vec<_> = pools.iter().enumerate().map(of).collect();
        let deviations = conclude(&mut banks, &between, 1);
        (banks, deviations)
    }

    #[test]
    fn a_unit_comes_from_the_folds_that_a_head_has_seen() {
        // Head 0 has seen folds 1 and 2: distances 10, 12 (of fold 1 to 20) and 4, 8 (of fold 2 to 14).
        let (_, found) = concluded(&[&[1000.0], &[14.0], &[20.0]], &[&[-500.0], &[10.0, 8.0], &[18.0, 22.0]]);
        let (mean, n) = ((10.0 + 12.0 + 4.0 + 8.0) / 4.0, 4.0);
        let expected = [10.0f64, 12.0, 4.0, 8.0].iter().map(|d| (d - mean).powi(2) / n).sum::<f64>().sqrt();
        assert!((found[0] - expected).abs() < 1e-3, "{found:?}, {expected}");
        // A single fold measures its own patches outside the bank.
        let (_, single) = concluded(&[&[1.0]], &[&[2.0, 5.0]]);
        assert!((single[0] - 1.5).abs() < 1e-6);
        assert_eq!(concluded(&[&[1.0]], &[&[1.0, 1.0]]).1, [LEAST_DEVIATION], "copies");
        assert_eq!(concluded(&[&[1.0]], &[&[]]).1, [LEAST_DEVIATION], "nothing outside the bank");
    }

    #[test]
    fn what_is_usual_at_a_row_comes_from_the_folds_that_a_head_has_seen() {
        let (banks, _) = concluded(
            &[&[0.0, 100.0], &[0.0, 100.0], &[0.0, 100.0]],
            &[&[1.0, 90.0], &[2.0, 3.0, 80.0], &[7.0, 99.0]],
        );
        // Head 2 has seen folds 0 and 1: to bank 1 those of fold 0, distances 1 and 10; to bank 0 those of fold 1, 2, 3 and 20.
        let all = [1.0f64, 10.0, 2.0, 3.0, 20.0];
        let (anywhere, square) =
            (all.iter().sum::<f64>() / 5.0, all.iter().map(|d| d * d).sum::<f64>() / 5.0);
        let expected = |distances: &[f64]| {
            let n = ANYWHERE + distances.len() as f64;
            let mean = (ANYWHERE * anywhere + distances.iter().sum::<f64>()) / n;
            let square = (ANYWHERE * square + distances.iter().map(|d| d * d).sum::<f64>()) / n;
            (mean, (square - mean * mean).sqrt())
        };
        let check = |bank: usize, place: usize, row: usize, distances: &[f64]| {
            let usual = banks[bank].usual.as_ref().unwrap();
            let found = (usual.mean[2 * place + row], usual.deviation[2 * place + row]);
            let (mean, deviation) = expected(distances);
            let near = |a: f32, b: f64| (f64::from(a) - b).abs() < 1e-4;
            assert!(near(found.0, mean) && near(found.1, deviation), "{found:?}, {mean} {deviation}");
        };
        check(1, 1, 0, &[1.0]);
        check(1, 1, 1, &[10.0]);
        check(0, 1, 0, &[2.0, 3.0]);
        check(0, 1, 1, &[20.0]);
    }

    #[test]
    fn with_two_folds_a_head_measures_the_one_that_it_has_seen() {
        let (banks, found) = concluded(&[&[1.0], &[10.0]], &[&[2.0, 5.0], &[11.0, 13.0]]);
        // Head 0 has seen fold 1: 1 and 3 from its own bank; head 1 fold 0: 1 and 4.
        assert!((found[0] - 1.0).abs() < 1e-6 && (found[1] - 1.5).abs() < 1e-6, "{found:?}");
        let mean = |bank: usize| banks[bank].usual.as_ref().unwrap().mean.to_vec();
        assert_eq!((mean(1), mean(0)), (vec![2.0], vec![2.5]));
    }
}
