//! Pictures unlike the rest: likely defects, or another part.
//!
//! Every feature of the whole picture is brought to robust deviations of its own; a picture's distance is the root mean
//! square difference to its third nearest other picture, so that a kind of part with several
//! pictures (eight in the tests) is no outlier.
//! The logarithms of these distances, in robust deviations above their median, say how unlike the rest a picture is.

use rayon::prelude::*;

use crate::statistics::Robust;

/// Which neighbour counts.
const NEIGHBOUR: usize = 3;
/// With fewer pictures nothing can be said to be unlike the rest.
pub const FEWEST: usize = 10;
/// From so many robust deviations on a picture is unlike the rest...
pub const UNLIKE_DEVIATIONS: f64 = 4.0;
/// ...if it is also so many times as far from its neighbours as most are.
pub const UNLIKE_RATIO: f64 = 1.4;
/// A feature counts within so many of its deviations: none may speak alone.
const CLIP: f32 = 10.0;
/// Least spread of the logarithm of distances.
const LEAST_SPREAD: f64 = 0.03;

/// How far a picture is from the rest.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Unlike {
    /// Robust deviations above the usual distance.
    pub deviations: f64,
    /// The distance over the usual one.
    pub ratio: f64,
}

impl Unlike {
    /// Whether a person should look at the picture.
    #[must_use]
    pub fn stands_out(self) -> bool {
        self.deviations >= UNLIKE_DEVIATIONS && self.ratio >= UNLIKE_RATIO
    }
}

/// The set that pictures are compared with.
#[derive(Debug)]
pub struct Crowd {
    median: Vec<f32>,
    scale: Vec<f32>,
    /// On scale, one row a picture.
    rows: Vec<Vec<f32>>,
    usual: Robust,
    own: Vec<f64>,
}

impl Crowd {
    /// From the features of the good pictures; `None` for fewer than [`FEWEST`] or for none that differ.
    #[must_use]
    pub fn new(features: &[&[f32]]) -> Option<Self> {
        let entries = features.first()?.len();
        if features.len() < FEWEST || features.iter().any(|f| f.len() != entries) {
            return None;
        }
        let spreads: Vec<Robust> = (0..entries)
            .into_par_iter()
            .filter_map(|j| {
                let column: Vec<f64> = features.iter().map(|f| f64::from(f[j])).collect();
                Robust::of(&column, 0.0)
            })
            .collect();
        // A channel that is off for these pictures must not become the loudest one.
        let typical = spreads.iter().map(|s| s.deviation).sum::<f64>() / entries as f64;
        if spreads.len() != entries || typical <= 0.0 {
            return None;
        }
        let median: Vec<f32> = spreads.iter().map(|s| s.median as f32).collect();
        let scale: Vec<f32> = spreads.iter().map(|s| 1.0 / s.deviation.max(0.05 * typical) as f32).collect();
        let rows: Vec<Vec<f32>> = features.iter().map(|f| on_scale(f, &median, &scale)).collect();
        let own: Vec<f64> =
            (0..rows.len()).into_par_iter().map(|i| distance(&rows[i], &rows, Some(i))).collect();
        // The smallest difference that counts: identical pictures have none.
        let usual = Robust::of(&own.iter().map(|d| d.max(1e-6).ln()).collect::<Vec<_>>(), LEAST_SPREAD)?;
        Some(Self { median, scale, rows, usual, own })
    }

    /// How unlike the other pictures each picture of the set is.
    pub fn members(&self) -> impl Iterator<Item = Unlike> + '_ {
        self.own.iter().map(|&d| self.judge(d))
    }

    /// How unlike the set a picture from outside is.
    #[must_use]
    pub fn judge_other(&self, features: &[f32]) -> Unlike {
        self.judge(distance(&on_scale(features, &self.median, &self.scale), &self.rows, None))
    }

    fn judge(&self, distance: f64) -> Unlike {
        let log = distance.max(1e-6).ln();
        Unlike { deviations: self.usual.above(log), ratio: (log - self.usual.median).exp() }
    }
}

fn on_scale(features: &[f32], median: &[f32], scale: &[f32]) -> Vec<f32> {
    let z = features.iter().zip(median).zip(scale).map(|((v, m), s)| (v - m) * s);
    z.map(|v| v.clamp(-CLIP, CLIP)).collect()
}

/// Root mean square difference to the [`NEIGHBOUR`]th nearest row but `itself`.
fn distance(from: &[f32], rows: &[Vec<f32>], itself: Option<usize>) -> f64 {
    let mut squares: Vec<f32> = rows
        .iter()
        .enumerate()
        .filter(|(i, _)| Some(*i) != itself)
        .map(|(_, row)| from.iter().zip(row).map(|(a, b)| (a - b).powi(2)).sum())
        .collect();
    let nth = (NEIGHBOUR - 1).min(squares.len() - 1);
    let square = *squares.select_nth_unstable_by(nth, f32::total_cmp).1;
    (f64::from(square) / from.len() as f64).sqrt()
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn crowd(n: usize) -> Vec<Vec<f32>> {
        let mut rng = ChaCha8Rng::seed_from_u64(11);
        (0..n).map(|_| (0..40).map(|_| rng.random_range(-1.0..1.0)).collect()).collect()
    }

    fn outliers(features: &[Vec<f32>]) -> Vec<usize> {
        let rows: Vec<&[f32]> = features.iter().map(Vec::as_slice).collect();
        let crowd = Crowd::new(&rows).unwrap();
        crowd.members().enumerate().filter(|(_, u)| u.stands_out()).map(|(i, _)| i).collect()
    }

    #[test]
    fn one_of_another_kind_stands_out_and_a_second_kind_of_eight_does_not() {
        let mut features = crowd(60);
        assert_eq!(outliers(&features), [0usize; 0]);
        features[17].iter_mut().for_each(|v| *v += 4.0);
        assert_eq!(outliers(&features), [17]);
        for i in [3, 9, 21, 28, 33, 40, 52] {
            features[i].iter_mut().for_each(|v| *v += 4.0);
        }
        assert_eq!(outliers(&features), [0usize; 0], "eight of a kind are neighbours of each other");
    }

    #[test]
    fn too_few_or_identical_pictures_say_nothing() {
        let features = crowd(FEWEST - 1);
        assert!(Crowd::new(&features.iter().map(Vec::as_slice).collect::<Vec<_>>()).is_none());
        let same = vec![vec![1.0f32; 4]; 20];
        assert!(Crowd::new(&same.iter().map(Vec::as_slice).collect::<Vec<_>>()).is_none());
        let features = crowd(30);
        let rows: Vec<&[f32]> = features.iter().map(Vec::as_slice).collect();
        let crowd = Crowd::new(&rows).unwrap();
        assert!(crowd.judge_other(&[3.0; 40]).stands_out());
        assert!(!crowd.judge_other(&features[4]).stands_out());
    }
}
