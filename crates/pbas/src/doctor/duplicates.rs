//! Exact and near duplicates.
//!
//! Exact: the same bytes (SHA-256). Near: the mean grey levels of 64 x 64 cells, each picture's mean taken off, differ by less
//! than [`NEAR_LEVELS`] grey levels (root mean square) after the one is brought to the other's contrast, and by less than
//! [`NEAR_SHARE`] of what two pictures of this set usually differ by. The first bound is what encoding or resizing a picture
//! leaves, or taking it twice; the second keeps apart the pictures of sets that are all alike (a part in a fixture).

use std::collections::BTreeMap;

use rayon::prelude::*;

use crate::statistics::quantile;

/// Near duplicates differ by less than so many grey levels.
pub const NEAR_LEVELS: f64 = 1.0;
/// Near duplicates differ by less than this share of the median difference of two pictures.
pub const NEAR_SHARE: f64 = 0.2;

/// Groups of equal digests, in the order of their first members; each of two or more.
#[must_use]
pub fn exact_groups(digests: &[[u8; 32]]) -> Vec<Vec<usize>> {
    let mut by_digest: BTreeMap<&[u8; 32], Vec<usize>> = BTreeMap::new();
    for (i, digest) in digests.iter().enumerate() {
        by_digest.entry(digest).or_default().push(i);
    }
    let mut groups: Vec<_> = by_digest.into_values().filter(|g| g.len() > 1).collect();
    groups.sort();
    groups
}

/// Two pictures that show the same.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pair {
    /// Number of the one picture.
    pub first: usize,
    /// Number of the other; larger.
    pub second: usize,
    /// Root mean square difference in grey levels.
    pub levels: f64,
}

/// What pairs of signatures say.
#[derive(Debug, Default)]
pub struct Near {
    /// Near duplicates, exact ones among them.
    pub pairs: Vec<Pair>,
    /// Distance of each picture to the nearest other one that is no exact duplicate, in grey levels.
    pub nearest: Vec<Option<f64>>,
}

/// Compares every picture with every other; `signatures` are [`super::look::Look::signature`], `groups` numbers the exact
/// groups (pictures with the same number are exact duplicates). Blank pictures (`None`) are not compared. A thousand
/// pictures take about a second on one core.
#[must_use]
pub fn near(signatures: &[Option<&[f32]>], group: &[usize]) -> Near {
    let n = signatures.len();
    let norm: Vec<f64> = signatures.iter().map(|s| s.map_or(0.0, |s| dot(s, s))).collect();
    // Of each picture: the nearest, the usual one, and every one below the absolute bound.
    let rows: Vec<Row> = (0..n)
        .into_par_iter()
        .map(|i| {
            let mut row = Row::default();
            let Some(a) = signatures[i] else { return row };
            let mut all = Vec::with_capacity(n);
            for (j, b) in signatures.iter().enumerate() {
                let Some(b) = b.filter(|b| j != i && group[i] != group[j] && a.len() == b.len()) else {
                    continue;
                };
                let levels = difference(dot(a, b), norm[i], norm[j], a.len());
                all.push(levels);
                if i < j && levels < NEAR_LEVELS {
                    row.close.push(Pair { first: i, second: j, levels });
                }
            }
            row.nearest = quantile(&all, 0.0);
            row.usual = quantile(&all, 0.5);
            row
        })
        .collect();
    let nearest = rows.iter().map(|r| r.nearest).collect();
    let usual: Vec<f64> = rows.iter().filter_map(|r| r.usual).collect();
    let bound = NEAR_SHARE * quantile(&usual, 0.5).unwrap_or(0.0);
    let mut pairs: Vec<Pair> = rows.into_iter().flat_map(|r| r.close).filter(|p| p.levels < bound).collect();
    pairs.sort_by_key(|p| (p.first, p.second));
    Near { pairs, nearest }
}

/// What one picture's comparisons give.
#[derive(Debug, Default)]
struct Row {
    nearest: Option<f64>,
    usual: Option<f64>,
    close: Vec<Pair>,
}

/// What is left of the difference once the one is brought to the other's contrast (least squares, the smaller of both ways so
/// that it is symmetric; a factor beyond 0.5 to 2 is another light, not another encoding, and is not granted).
fn difference(ab: f64, aa: f64, bb: f64, cells: usize) -> f64 {
    let to = |aa: f64, bb: f64| {
        let factor = (ab / aa.max(1e-12)).clamp(0.5, 2.0);
        (bb - 2.0 * factor * ab + factor * factor * aa).max(0.0)
    };
    (to(aa, bb).min(to(bb, aa)) / cells as f64).sqrt()
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    // Sums of a few hundred in float32, which the compiler makes vectors of, then float64: differences of large sums
    // are taken.
    let part = |(a, b): (&[f32], &[f32])| {
        let mut lanes = [0.0f32; 16];
        for (a, b) in a.chunks_exact(16).zip(b.chunks_exact(16)) {
            for k in 0..16 {
                lanes[k] += a[k] * b[k];
            }
        }
        lanes.iter().map(|&v| f64::from(v)).sum::<f64>()
    };
    a.chunks(256).zip(b.chunks(256)).map(part).sum()
}

/// Members of pairs joined to groups, each sorted, in the order of their first members.
#[must_use]
pub fn join(pairs: &[(usize, usize)]) -> Vec<Vec<usize>> {
    let mut parent: BTreeMap<usize, usize> = BTreeMap::new();
    fn root(parent: &mut BTreeMap<usize, usize>, mut i: usize) -> usize {
        while let Some(&p) = parent.get(&i).filter(|&&p| p != i) {
            i = p;
        }
        parent.entry(i).or_insert(i);
        i
    }
    for &(a, b) in pairs {
        let (a, b) = (root(&mut parent, a), root(&mut parent, b));
        parent.insert(a.max(b), a.min(b));
    }
    let members: Vec<usize> = parent.keys().copied().collect();
    let mut groups: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for i in members {
        groups.entry(root(&mut parent, i)).or_default().push(i);
    }
    groups.into_values().filter(|g| g.len() > 1).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups() {
        let d = |b: u8| [b; 32];
        assert_eq!(exact_groups(&[d(5), d(1), d(5), d(2), d(1), d(5)]), [vec![0, 2, 5], vec![1, 4]]);
        assert_eq!(join(&[(3, 1), (5, 6), (1, 2), (8, 2)]), [vec![1, 2, 3, 8], vec![5, 6]]);
        assert!(join(&[]).is_empty());
    }

    #[test]
    fn a_copy_with_little_noise_or_other_contrast_is_near_and_pictures_all_alike_are_not() {
        let wave = |seed: usize, k: usize| ((k * (seed + 3)) as f32 * 0.37).sin() * 30.0;
        let zero_mean = |mut s: Vec<f32>| {
            let mean = s.iter().sum::<f32>() / s.len() as f32;
            s.iter_mut().for_each(|v| *v -= mean);
            s
        };
        let mut all: Vec<Vec<f32>> =
            (0..12).map(|seed| zero_mean((0..4096).map(|k| wave(seed, k)).collect())).collect();
        let copy: Vec<f32> =
            all[4].iter().enumerate().map(|(k, v)| 0.8 * v + 0.4 * wave(99, k) / 30.0).collect();
        all.push(zero_mean(copy));
        let refs: Vec<Option<&[f32]>> = all.iter().map(|s| Some(s.as_slice())).collect();
        let apart: Vec<usize> = (0..13).collect();
        let found = near(&refs, &apart);
        assert_eq!(found.pairs.iter().map(|p| (p.first, p.second)).collect::<Vec<_>>(), [(4, 12)]);
        assert!(found.nearest[0].unwrap() > 5.0);

        // The slow twin of the distance: float64, one after the other.
        let (a, b) = (&all[4], &all[12]);
        let sum =
            |f: &dyn Fn(f64, f64) -> f64| a.iter().zip(b).map(|(&a, &b)| f(a.into(), b.into())).sum::<f64>();
        let factor = sum(&|a, b| a * b) / sum(&|_, b| b * b);
        let slow = (sum(&|a, b| (a - factor * b).powi(2)) / 4096.0).sqrt();
        let factor = sum(&|a, b| a * b) / sum(&|a, _| a * a);
        let slow = slow.min((sum(&|a, b| (b - factor * a).powi(2)) / 4096.0).sqrt());
        assert!((found.pairs[0].levels - slow).abs() < 0.02, "{} {slow}", found.pairs[0].levels);

        // All within half a grey level of each other: alike, but none a duplicate of another.
        let alike: Vec<Vec<f32>> = (0..12)
            .map(|seed| zero_mean((0..4096).map(|k| wave(1, k) + wave(seed, k) / 60.0).collect()))
            .collect();
        let refs: Vec<Option<&[f32]>> = alike.iter().map(|s| Some(s.as_slice())).collect();
        assert!(near(&refs, &apart[..12]).pairs.is_empty());
        assert!(near(&[None, None], &[0, 1]).nearest.iter().all(Option::is_none));
    }
}
