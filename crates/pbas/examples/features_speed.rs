//! Times a backbone alone, on demand, so that a bench can take turns with other programs.
//!
//! `cargo run --release -p pbas --example features_speed -- NETWORK SIZE BATCH THREADS [PRECISION]`
//!
//! NETWORK: `wide_resnet50_2` or `resnet18` (to layer3, random weights) or `efficientnet_lite0` (to 112 channels). PRECISION: `f32` (if left out)
//! or `bf16`. Prints
//! `ready`; then, for every line `go` on standard input, runs one batch of random pictures of SIZE x SIZE and prints the
//! milliseconds that it took, a JSON number on a line of its own. Ends at the end of the input.

#[path = "../tests/common/networks.rs"]
mod networks;
#[path = "on_demand/serve.rs"]
mod on_demand;

use std::error::Error;
use std::time::Instant;

use pbas::Threads;
use pbas::backbone::Backbone;
use pbas_nn::Precision;
use pbas_nn::engine::cpu::{Plan, Workspace};
use pbas_nn::graph::Graph;
use rayon::prelude::*;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (args, precision) = match &args[..] {
        [args @ .., precision] if args.len() == 4 => (args, precision.parse()?),
        args => (args, Precision::F32),
    };
    let [network, numbers @ ..] = args else { return Err(usage()) };
    let numbers: Vec<usize> = numbers.iter().map(|n| n.parse()).collect::<Result<_, _>>()?;
    let [size, batch, threads] = numbers[..] else { return Err(usage()) };
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;
    let plan = Plan::new(graph(network)?, size, size, precision)?;
    // As `pbas predict` does it: a picture alone on all threads, several side by side, each on one.
    let each = if batch < threads { Threads::All } else { Threads::One };
    let mut workspaces: Vec<Workspace> = (0..batch).map(|_| Workspace::default()).collect();
    let pictures = pictures(size * size * 3 * batch);
    let mut run = || -> Result<f64, Box<dyn Error>> {
        let start = Instant::now();
        let all = pictures.par_chunks_exact(size * size * 3).zip(&mut workspaces).with_max_len(1);
        all.try_for_each(|(picture, workspace)| plan.run(workspace, picture, each))?;
        Ok(start.elapsed().as_secs_f64() * 1e3)
    };
    run()?;
    on_demand::serve(|line| match line {
        "go" => run(),
        other => Err(format!("expected `go`, found `{other}`").into()),
    })
}

fn usage() -> Box<dyn Error> {
    "usage: features_speed wide_resnet50_2|resnet18|efficientnet_lite0 SIZE BATCH THREADS [f32|bf16]".into()
}

fn graph(network: &str) -> Result<Graph, Box<dyn Error>> {
    let (backbone, layers) = match network {
        "wide_resnet50_2" => (random(networks::WIDE_RESNET50_2)?, ["layer2", "layer3"]),
        "resnet18" => (random(networks::RESNET18)?, ["layer2", "layer3"]),
        "efficientnet_lite0" => (Backbone::embedded()?, ["stride8", "stride16"]),
        _ => return Err(usage()),
    };
    Ok(backbone.graph.select(&layers)?)
}

fn random(shape: networks::Shape) -> pbas::Result<Backbone> {
    Backbone::from_tensors(&shape.layers(3).random(1))
}

/// Values as normalised pictures have them: within two deviations.
fn pictures(len: usize) -> Vec<f32> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 22) as f32 - 2.0
    };
    (0..len).map(|_| next()).collect()
}
