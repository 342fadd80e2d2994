//! How long a map takes from patch scores to the pixels of the network's picture: `cargo bench -p pbas --bench score_map`.
//! It is no part of a prediction's time budget: below 1 ms for 288 x 288 and 4 ms for 512 x 512.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion};
use pbas::score::SmoothUpsampler;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Upsampling and smoothing of the grids of the two usual picture sizes.
fn enlarging(criterion: &mut Criterion) {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let mut group = criterion.benchmark_group("enlarging");
    for (src, dst) in [(36, 288), (64, 512)] {
        let patch: Vec<f32> = (0..src * src).map(|_| rng.random_range(-1.0..1.0)).collect();
        let up = SmoothUpsampler::new(src, src, dst, dst, 4.0).unwrap();
        group.bench_with_input(BenchmarkId::from_parameter(dst), &patch, |b, patch| {
            b.iter(|| up.apply(black_box(patch)).unwrap());
        });
    }
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    enlarging(&mut criterion);
    criterion.final_summary();
}
