//! The gradients of a step against finite differences of a float64 twin of the losses.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::head::{BATCH_NORM_EPS, LEAKY_SLOPE};

const DIM: usize = 6;
const HIDDEN: usize = 5;
const ROWS: usize = 9;
const BOUNDARY_WEIGHT: f64 = 0.7;
const RATES: Rates = Rates {
    projection: 1e-3,
    discriminator: 1e-3,
    projection_decay: 1e-5,
    discriminator_decay: 1e-2,
    boundary_weight: 1.0,
};

/// `P(z)` of every row, in float64.
fn projected(head: &Head, batch: &[f32]) -> Vec<Vec<f64>> {
    let p = &head.projection;
    let entry = |z: &[f32], i: usize| {
        let weighted = (0..DIM).map(|j| f64::from(p.weight[i * DIM + j]) * f64::from(z[j]));
        f64::from(p.bias[i]) + weighted.sum::<f64>()
    };
    batch.chunks_exact(DIM).map(|z| (0..DIM).map(|i| entry(z, i)).collect()).collect()
}

/// The losses as algorithm.md writes them, in float64, with the constants of the first evaluation: chosen centres and
/// the rays that were added (no gradient reaches either).
fn loss(head: &Head, batch: &[f32], centers: &[f64], nearest: &[usize], rays: &[f64]) -> f64 {
    let s = &head.discriminator;
    let x = projected(head, batch);
    let distance = |row: &[f64], c: usize| {
        row.iter().zip(&centers[c * DIM..]).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt()
    };
    let radius = x.iter().zip(nearest).map(|(row, &c)| distance(row, c)).sum::<f64>() / ROWS as f64;
    let mut rows = x.clone();
    rows.extend(x.iter().enumerate().map(|(i, row)| (0..DIM).map(|j| row[j] + rays[i * DIM + j]).collect()));
    let hidden: Vec<Vec<f64>> = rows
        .iter()
        .map(|row| {
            (0..HIDDEN)
                .map(|h| {
                    f64::from(s.bias[h])
                        + (0..DIM).map(|j| f64::from(s.weight[h * DIM + j]) * row[j]).sum::<f64>()
                })
                .collect()
        })
        .collect();
    let mut logits = [0.0f64; 2 * ROWS];
    for h in 0..HIDDEN {
        let mean = hidden.iter().map(|r| r[h]).sum::<f64>() / (2 * ROWS) as f64;
        let var = hidden.iter().map(|r| (r[h] - mean).powi(2)).sum::<f64>() / (2 * ROWS) as f64;
        for (l, r) in logits.iter_mut().zip(&hidden) {
            let y = (r[h] - mean) / (var + f64::from(BATCH_NORM_EPS)).sqrt() * f64::from(s.norm_weight[h])
                + f64::from(s.norm_bias[h]);
            *l += f64::from(s.output[h]) * if y > 0.0 { y } else { f64::from(LEAKY_SLOPE) * y };
        }
    }
    let bce: f64 = (0..ROWS)
        .map(|i| {
            let s = |l: f64| 1.0 / (1.0 + (-l).exp());
            -(1.0 - s(logits[i])).ln() - s(logits[ROWS + i]).ln()
        })
        .sum::<f64>()
        / ROWS as f64;
    BOUNDARY_WEIGHT * radius + bce
}

#[test]
fn gradients_agree_with_finite_differences() {
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let mut head = Head::initial(DIM, HIDDEN, &mut rng);
    for v in head.discriminator.norm_bias.iter_mut().chain(&mut head.discriminator.norm_weight) {
        *v += rng.random_range(-0.3..0.3f32);
    }
    let mut random = |n: usize| -> Vec<f32> { (0..n).map(|_| rng.random_range(-1.0..1.0)).collect() };
    let (batch, centers) = (random(ROWS * DIM), Centers { dim: DIM, data: random(4 * DIM) });
    let fixed: Vec<f64> = centers.data.iter().map(|&v| f64::from(v)).collect();
    compare(&head, &batch, BatchCenters::Fixed(&centers), &fixed);
    // Neighbours: the centres are rows of the batch, held where they are.
    let identity: Vec<u64> = (0..ROWS as u64).collect();
    let held: Vec<f64> = projected(&head, &batch).concat();
    compare(&head, &batch, BatchCenters::Neighbours { candidates: ROWS, identity: &identity }, &held);
    compare(&head, &batch, BatchCenters::Neighbours { candidates: 4, identity: &identity }, &held);
    // Noise in place of rays: the anomalies lie at given differences.
    let offsets = random(ROWS * DIM);
    let noise = BatchSynthesis::Offsets(&offsets);
    compare_with(&head, &batch, BatchCenters::Fixed(&centers), &fixed, noise);
}

#[test]
fn without_anomalies_the_boundary_alone_trains() {
    let mut rng = ChaCha8Rng::seed_from_u64(12);
    let head = Head::initial(DIM, HIDDEN, &mut rng);
    let mut random = |n: usize| -> Vec<f32> { (0..n).map(|_| rng.random_range(-1.0..1.0)).collect() };
    let (batch, centers) = (random(ROWS * DIM), Centers { dim: DIM, data: random(4 * DIM) });
    let mut trainer = HeadTrainer::new(head.clone());
    let mut step =
        || trainer.step(&batch, BatchCenters::Fixed(&centers), BatchSynthesis::Nowhere, RATES, Threads::One);
    let (first, second) = (step(), step());
    assert!(first.refinement == 0.0 && second.boundary < first.boundary, "{first:?} {second:?}");
    assert_eq!(trainer.head.discriminator, head.discriminator);
    assert_ne!(trainer.head.projection, head.projection);
}

fn compare(head: &Head, batch: &[f32], source: BatchCenters<'_>, centers: &[f64]) {
    let scales: Vec<f32> = (0..ROWS).map(|i| 0.1 + 0.1 * i as f32).collect();
    compare_with(head, batch, source, centers, BatchSynthesis::Rays(&scales));
}

fn compare_with(
    head: &Head,
    batch: &[f32],
    source: BatchCenters<'_>,
    centers: &[f64],
    synthesis: BatchSynthesis<'_>,
) {
    let mut trainer = HeadTrainer::new(head.clone());
    let losses = trainer.losses_and_gradients(batch, source, synthesis, BOUNDARY_WEIGHT as f32, Threads::One);
    let nearest = trainer.nearest.clone();
    let x = projected(head, batch);
    let radius = losses.boundary;
    let on_ray = |((row, &c), &k): ((&Vec<f64>, &usize), &f32)| {
        let ray: Vec<f64> = row.iter().zip(&centers[c * DIM..]).map(|(a, b)| a - b).collect();
        let length = ray.iter().map(|v| v * v).sum::<f64>().sqrt();
        ray.into_iter().map(move |v| f64::from(k) * radius * v / length)
    };
    let rays: Vec<f64> = match synthesis {
        BatchSynthesis::Rays(scales) => x.iter().zip(&nearest).zip(scales).flat_map(on_ray).collect(),
        BatchSynthesis::Offsets(offsets) => offsets.iter().map(|&v| f64::from(v)).collect(),
        BatchSynthesis::Nowhere => panic!("no anomalies, no rays"),
    };
    let direct = loss(head, batch, centers, &nearest, &rays);
    let summed = BOUNDARY_WEIGHT * losses.boundary + losses.refinement;
    assert!((direct - summed).abs() < 1e-5, "{direct} {summed}");

    let g = &trainer.refinement.gradient;
    let (pw, pb) = trainer.projection_gradient.split_at(DIM * DIM);
    let gradients: [&[f32]; 7] = [pw, pb, &g.weight, &g.bias, &g.norm_weight, &g.norm_bias, &g.output];
    // Positions of the trained tensors in `Head::tensors_mut`.
    for (tensor, gradient) in [0, 1, 2, 3, 4, 5, 8].into_iter().zip(gradients) {
        for i in 0..gradient.len() {
            // Small enough that few LeakyReLUs cross their kink, large enough for float32 weights.
            let step = 1e-3f32;
            let at = |d: f32| {
                let mut moved = head.clone();
                let weight = &mut moved.tensors_mut()[tensor][i];
                let before = *weight;
                *weight += d;
                let moved_by = f64::from(*weight - before);
                (loss(&moved, batch, centers, &nearest, &rays), moved_by)
            };
            let ((above, up), (below, down)) = (at(step), at(-step));
            let numeric = (above - below) / (up - down);
            let analytic = f64::from(gradient[i]);
            assert!(
                (numeric - analytic).abs() < 1e-4 + 1e-2 * numeric.abs(),
                "tensor {tensor}[{i}]: {numeric} {analytic}"
            );
        }
    }
}

#[test]
fn a_feature_on_its_centre_gives_no_nan() {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let head = Head::initial(DIM, HIDDEN, &mut rng);
    let batch: Vec<f32> = (0..ROWS * DIM).map(|_| rng.random_range(-1.0..1.0)).collect();
    let mut on_centre = vec![0.0; DIM];
    project(&mut on_centre, &head.projection, &batch[..DIM], Threads::One);
    let centers = Centers { dim: DIM, data: on_centre };
    let mut trainer = HeadTrainer::new(head);
    let (source, synthesis) = (BatchCenters::Fixed(&centers), BatchSynthesis::Rays(&[0.25; ROWS]));
    let losses = trainer.step(&batch, source, synthesis, RATES, Threads::One);
    assert_eq!(trainer.last_batch().1[0], 0.0);
    assert!(losses.boundary.is_finite() && losses.refinement.is_finite());
    assert!(trainer.head.tensors().iter().all(|(_, _, v)| v.iter().all(|v| v.is_finite())));
}
