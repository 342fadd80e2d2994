//! Times one training step, on demand, so that a bench can take turns with other programs.
//!
//! `cargo run --release -p pbas --example training_speed -- paper|default THREADS`
//!
//! `paper`: 10,368 rows of 1,536 entries, 1,024 hidden units, 1,296 fixed centres. `default`: 1,296 rows of 344 entries, 256 hidden
//! units, the nearest of 324 rows of the batch. Prints `ready`; then, for every line `go` on standard input, makes one step and
//! prints the milliseconds that it took, a JSON number on a line of its own. For a line `products` it makes the step's matrix
//! products alone and prints their time: the share of a step that is spent in them.

#[path = "on_demand/serve.rs"]
mod on_demand;

use std::error::Error;
use std::time::Instant;

use pbas::Threads;
use pbas::head::Head;
use pbas::train::centers::Centers;
use pbas::train::step::{BatchCenters, BatchSynthesis, HeadTrainer, Rates};
use pbas_nn::linalg::{Mat, gemm_into};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Sizes of a step.
struct Sizes {
    rows: usize,
    dim: usize,
    hidden: usize,
    /// Rows that may be centres, or fixed centres.
    centers: usize,
    fixed: bool,
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let usage = "usage: training_speed paper|default THREADS";
    let [preset, threads] = &args[..] else { return Err(usage.into()) };
    let s = match preset.as_str() {
        "paper" => Sizes { rows: 10_368, dim: 1536, hidden: 1024, centers: 1296, fixed: true },
        "default" => Sizes { rows: 1296, dim: 344, hidden: 256, centers: 324, fixed: false },
        _ => return Err(usage.into()),
    };
    rayon::ThreadPoolBuilder::new().num_threads(threads.parse()?).build_global()?;
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let mut trainer = HeadTrainer::new(Head::initial(s.dim, s.hidden, &mut rng));
    let mut random = |n: usize| -> Vec<f32> { (0..n).map(|_| rng.random_range(-1.0..1.0)).collect() };
    let (batch, centers) = (random(s.rows * s.dim), Centers { dim: s.dim, data: random(s.centers * s.dim) });
    let identity: Vec<u64> = (0..s.rows as u64).collect();
    let scales = vec![0.25; s.rows];
    let rates = Rates {
        projection: 1e-4,
        discriminator: 2e-4,
        projection_decay: 1e-5,
        discriminator_decay: 1e-2,
        boundary_weight: 1.0,
    };
    let mut step = || {
        let source = if s.fixed {
            BatchCenters::Fixed(&centers)
        } else {
            BatchCenters::Neighbours { candidates: s.centers, identity: &identity }
        };
        trainer.step(&batch, source, BatchSynthesis::Rays(&scales), rates, Threads::All)
    };
    step();
    on_demand::serve(|line| match line {
        "go" => {
            let start = Instant::now();
            std::hint::black_box(step());
            Ok(start.elapsed().as_secs_f64() * 1e3)
        }
        "products" => Ok(products(&s, &batch, &centers.data)),
        other => Err(format!("expected `go` or `products`, found `{other}`").into()),
    })
}

/// Milliseconds of a step's products alone: projection, search, first layer (of features and of fixed centres), gradients of
/// features, of the first layer's weight and of the projection's.
fn products(s: &Sizes, batch: &[f32], centers: &[f32]) -> f64 {
    let Sizes { rows: n, dim, hidden, .. } = *s;
    let weight = vec![0.01f32; dim * dim];
    let of_hidden = vec![0.01f32; n * hidden];
    let mut wide = vec![0.0f32; n * dim.max(hidden)];
    let mut square = vec![0.0f32; dim * dim.max(hidden)];
    let mut search = vec![0.0f32; 64 * s.centers];
    let start = Instant::now();
    gemm_into(
        &mut wide[..n * dim],
        Mat::new(batch, n, dim),
        Mat::new(&weight, dim, dim).t(),
        false,
        Threads::All,
    );
    use rayon::prelude::*;
    batch.par_chunks(64 * dim).for_each_init(
        || search.clone(),
        |search, rows| {
            let count = rows.len() / dim;
            let candidates = Mat::new(centers, s.centers, dim).t();
            gemm_into(
                &mut search[..count * s.centers],
                Mat::new(rows, count, dim),
                candidates,
                false,
                Threads::One,
            );
        },
    );
    search.fill(0.0);
    let first = Mat::new(&weight, hidden, dim);
    gemm_into(&mut wide[..n * hidden], Mat::new(batch, n, dim), first.t(), false, Threads::All);
    gemm_into(&mut wide[..n * dim], Mat::new(&of_hidden, n, hidden), first, false, Threads::All);
    let back = Mat::new(&of_hidden, n, hidden).t();
    gemm_into(&mut square[..hidden * dim], back, Mat::new(batch, n, dim), false, Threads::All);
    if s.fixed {
        let m = s.centers;
        gemm_into(&mut wide[..m * hidden], Mat::new(centers, m, dim), first.t(), false, Threads::All);
        let back = Mat::new(&of_hidden, m, hidden).t();
        gemm_into(&mut square[..hidden * dim], back, Mat::new(centers, m, dim), true, Threads::All);
    }
    let back = Mat::new(batch, n, dim);
    gemm_into(&mut square[..dim * dim], back.t(), Mat::new(batch, n, dim), false, Threads::All);
    start.elapsed().as_secs_f64() * 1e3
}
