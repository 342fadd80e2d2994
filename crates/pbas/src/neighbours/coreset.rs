//! Few patches that stand for many: farthest point first (Gonzalez' greedy k-centre), in a random projection.

use pbas_nn::linalg::{Mat, Threads, gemm_into};
use pbas_nn::vectorized;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;
use rayon::prelude::*;

/// Entries of the random projection in which the coreset is chosen.
const PROJECTED: usize = 64;
/// Rows that one thread measures at a time.
const BLOCK: usize = 4096;

/// `count` rows, sorted, of `rows` `[n, dim]`, each the farthest from those before it in a random projection; fewer where the rest are
/// copies of those.
pub(crate) fn coreset(rows: &[f32], dim: usize, count: usize, rng: &mut ChaCha8Rng) -> Vec<usize> {
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
            vectorized!({
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

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    fn random(n: usize, seed: u64) -> Vec<f32> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        (0..n).map(|_| rng.random_range(-1.0..1.0)).collect()
    }

    #[test]
    fn a_row_of_every_cluster_before_a_second_of_any() {
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
        let chosen = coreset(&copies, dim, 4, &mut ChaCha8Rng::seed_from_u64(4));
        assert_eq!(chosen.len(), 1, "copies add nothing");
    }
}
