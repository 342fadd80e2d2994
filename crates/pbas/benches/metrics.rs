//! How long the figures of a large test set take: `cargo bench -p pbas --bench metrics`. They should stay a matter of
//! seconds for 40 million pixels.

use std::hint::black_box;

use criterion::{Criterion, SamplingMode, Throughput};
use pbas::image::DefectMask;
use pbas::metrics::PixelCurve;
use pbas::score::ScoreMap;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const PICTURES: usize = 40;
const SIDE: usize = 1000;

/// All pixel figures of 40 random maps of 1000 x 1000, every other one with a defect.
fn pixel_figures(criterion: &mut Criterion) {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let mut data = vec![0; SIDE * SIDE];
    for y in 400..500 {
        data[y * SIDE + 300..][..200].fill(1);
    }
    let mask = DefectMask { width: SIDE, height: SIDE, data };
    let maps: Vec<ScoreMap> = (0..PICTURES)
        .map(|_| ScoreMap {
            width: SIDE,
            height: SIDE,
            values: (0..SIDE * SIDE).map(|_| rng.random()).collect(),
        })
        .collect();
    let masks: Vec<_> = (0..PICTURES).map(|i| (i % 2 == 0).then_some(&mask)).collect();

    let mut group = criterion.benchmark_group("pixel figures");
    // Each run takes seconds: the fewest that criterion takes, each measured once.
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    group.throughput(Throughput::Elements((PICTURES * SIDE * SIDE) as u64));
    group.bench_function("40 million pixels", |b| {
        b.iter(|| {
            let curve = PixelCurve::new(black_box(&maps), black_box(&masks)).unwrap();
            let rank = curve.ranking();
            (rank.auroc(), rank.average_precision(), rank.f1_max(), curve.aupro(0.3), curve.aupro(0.05))
        });
    });
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    pixel_figures(&mut criterion);
    criterion.final_summary();
}
