//! Memory of the pixel figures of a large test set; a process of its own, since its peak is what counts.

use pbas::image::DefectMask;
use pbas::metrics::PixelCurveBuilder;
use pbas::score::ScoreMap;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

#[test]
fn a_hundred_million_pixels_fit_into_two_gigabytes() {
    const LARGE: usize = 1024;
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let mut builder = PixelCurveBuilder::new();
    let mut data = vec![0; LARGE * LARGE];
    data[5000..9000].fill(1);
    let mask = DefectMask { width: LARGE, height: LARGE, data };
    let started = std::time::Instant::now();
    for i in 0..100 {
        let values = (0..LARGE * LARGE).map(|_| rng.random()).collect();
        builder
            .add(&ScoreMap { width: LARGE, height: LARGE, values }, (i % 2 == 1).then_some(&mask))
            .unwrap();
    }
    let (added, started) = (started.elapsed(), std::time::Instant::now());
    let curve = builder.finish();
    let figures = (
        curve.ranking().auroc(),
        curve.ranking().average_precision(),
        curve.ranking().f1_max(),
        curve.aupro(0.3),
        curve.aupimo(),
    );
    println!("added in {added:?}, sorted and measured in {:?}: {figures:?}", started.elapsed());
    assert!(figures.0.is_some() && figures.3.is_some() && figures.4.is_some(), "{figures:?}");
    if let Some(peak) = pbas::bench::peak_memory() {
        assert!(peak < 2_000_000_000, "{peak} bytes");
        println!("{peak} bytes");
    }
}
