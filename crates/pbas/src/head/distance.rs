//! The score of a head without its discriminator: how far a projected feature lies from its centre (the ablation without RBO).
//!
//! ```text
//! d = ||P(z) - c||      c the centre that training chooses      logit = ln(d / r)      sigmoid(logit) = d / (d + r)
//! ```
//!
//! The logarithm gives the order of the distances and a sigmoid that does not saturate, so images rank as by `d` itself; `r` is the mean
//! radius on training pictures. It runs as it is written, position by position; nothing is folded.

use pbas_nn::linalg::{Threads, dot};

use super::Head;
use super::centers::Centers;
use crate::patch::PatchEmbedding;

/// The least `d / r` that is told from none.
const LEAST: f32 = 1e-6;

/// Centres, and the radius in which distances are measured.
#[derive(Debug, Clone, PartialEq)]
pub struct CenterDistance {
    /// Centres in the space of projected features.
    pub centers: Centers,
    /// Whether the centre of a feature is the most similar (as aligned centres are chosen) or the nearest.
    pub by_cosine: bool,
    /// Mean radius, positive.
    pub radius: f32,
}

impl CenterDistance {
    /// Distances of projected features `[n, dim]` to their centres, `[n]`, in the features' own unit.
    #[must_use]
    pub fn distances(&self, x: &[f32], threads: Threads) -> Vec<f32> {
        let dim = self.centers.dim;
        let nearest = match self.by_cosine {
            true => self.centers.nearest_by_cosine(x, threads),
            false => self.centers.nearest_by_distance(x, threads),
        };
        let mut ray = vec![0.0; dim];
        let distance = |(row, i): (&[f32], usize)| {
            let center = &self.centers.data[i * dim..(i + 1) * dim];
            ray.iter_mut().zip(row).zip(center).for_each(|((r, v), c)| *r = v - c);
            dot(&ray, &ray).sqrt()
        };
        x.chunks_exact(dim).zip(nearest).map(distance).collect()
    }
}

/// Logits of patch features `[n, dim]` by a head that has a distance.
///
/// # Panics
/// If it has none.
pub(super) fn logits(head: &Head, features: &[f32], threads: Threads) -> Vec<f32> {
    let distance = head.distance.as_ref().expect("a head that scores by distance");
    let mut z = features.to_vec();
    if let Some(scale) = &head.feature_scale {
        scale.apply(&mut z);
    }
    let distances = distance.distances(&head.projection.apply(&z, threads), threads);
    distances.into_iter().map(|d| (d / distance.radius).max(LEAST).ln()).collect()
}

/// Heads that score by distance, on the grid of one picture size.
#[derive(Debug)]
pub(super) struct DistanceHeads {
    heads: Vec<Head>,
    embedding: PatchEmbedding,
}

impl DistanceHeads {
    /// `None` unless all of the heads score so.
    pub(super) fn new(heads: &[&Head], embedding: &PatchEmbedding) -> Option<Self> {
        let all = heads.iter().all(|h| h.distance.is_some());
        all.then(|| Self {
            heads: heads.iter().map(|h| (*h).clone()).collect(),
            embedding: embedding.clone(),
        })
    }

    /// The same heads for another picture size.
    pub(super) fn resized(&self, embedding: &PatchEmbedding) -> Self {
        Self { heads: self.heads.clone(), embedding: embedding.clone() }
    }

    /// Logits of each head, `[positions, heads]`, for a picture's pooled values.
    pub(super) fn logits(&self, pooled: &[f32], threads: Threads) -> Vec<f32> {
        let features = self.embedding.grid_features(pooled, threads == Threads::All).data;
        let each: Vec<Vec<f32>> = self.heads.iter().map(|h| logits(h, &features, threads)).collect();
        (0..self.embedding.positions()).flat_map(|p| each.iter().map(move |l| l[p])).collect()
    }
}

#[cfg(test)]
mod tests {
    use pbas_nn::shape::Shape;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::head::{FeatureScale, GridHead, sigmoid};
    use crate::patch::Pooling;

    /// Scale, projection, choice and distance, one number after the other in float64.
    fn slow(head: &Head, z: &[f32]) -> f64 {
        let (p, scale) = (&head.projection, head.feature_scale.as_ref().unwrap());
        let distance = head.distance.as_ref().unwrap();
        let z: Vec<f64> = (0..p.dim)
            .map(|j| (f64::from(z[j]) - f64::from(scale.mean[j])) / f64::from(scale.deviation[j]))
            .collect();
        let entry = |i: usize| {
            f64::from(p.bias[i]) + (0..p.dim).map(|j| f64::from(p.weight[i * p.dim + j]) * z[j]).sum::<f64>()
        };
        let x: Vec<f64> = (0..p.dim).map(entry).collect();
        let length = |v: &[f64]| v.iter().map(|v| v * v).sum::<f64>().sqrt();
        let candidates = distance.centers.data.chunks_exact(p.dim).map(|c| {
            let c: Vec<f64> = c.iter().map(|&v| f64::from(v)).collect();
            let away: Vec<f64> = x.iter().zip(&c).map(|(x, c)| x - c).collect();
            let cosine = x.iter().zip(&c).map(|(x, c)| x * c).sum::<f64>() / length(&c);
            (if distance.by_cosine { -cosine } else { length(&away) }, length(&away))
        });
        candidates.min_by(|a, b| a.0.total_cmp(&b.0)).unwrap().1
    }

    #[test]
    fn the_score_is_the_distance_to_the_chosen_centre() {
        let mut rng = ChaCha8Rng::seed_from_u64(8);
        let shape = |height, width, channels| Shape { height, width, channels };
        let embedding = PatchEmbedding::new(&[shape(6, 5, 4), shape(3, 3, 7)], Pooling::Channels).unwrap();
        let dim = embedding.dim();
        let mut random = |n: usize| -> Vec<f32> { (0..n).map(|_| rng.random_range(0.2..2.0)).collect() };
        let (pooled, mut heads) = (random(embedding.pooled_len()), Vec::new());
        for by_cosine in [true, false] {
            let centers = Centers { dim, data: random(9 * dim) };
            let scale = FeatureScale { mean: random(dim), deviation: random(dim) };
            let distance = CenterDistance { centers, by_cosine, radius: 1.7 };
            let mut head = Head::initial(dim, 5, &mut ChaCha8Rng::seed_from_u64(9));
            (head.feature_scale, head.distance) = (Some(scale), Some(distance));
            heads.push(head);
        }
        let grid = GridHead::new(&heads.iter().collect::<Vec<_>>(), &embedding).unwrap();
        let fast = grid.logits(&pooled, Threads::One);
        assert_eq!(fast, grid.logits(&pooled, Threads::All), "threads changed a logit");
        assert_eq!(grid.resized(&embedding).unwrap().logits(&pooled, Threads::One), fast);
        let features = embedding.grid_features(&pooled, false);
        for (p, z) in features.data.chunks_exact(dim).enumerate() {
            for (h, head) in heads.iter().enumerate() {
                let d = slow(head, z);
                for found in [fast[p * 2 + h], head.logits(z)[0]] {
                    assert!((f64::from(sigmoid(found)) - d / (d + 1.7)).abs() < 1e-5, "{found} {d}");
                }
            }
        }
        // On the centre itself, where the logarithm has no value, the score is next to nothing.
        let on = CenterDistance {
            centers: Centers { dim: 2, data: vec![1.0, 2.0] },
            by_cosine: true,
            radius: 1.0,
        };
        assert_eq!(on.distances(&[1.0, 2.0], Threads::One), [0.0]);
    }
}
