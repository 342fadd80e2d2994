//! Milliseconds of a network, for comparing two builds where other programs share the machine.
//!
//! `cargo run --release -p pbas-nn --example network_time -- NETWORK|conv:KERNEL,STRIDE,FROM,TO SIZE [REPEATS [THREADS]]`
//!
//! With one thread on Linux the time is that which the thread spent on a core; otherwise that of the clock. Prints the least and the
//! median. `conv:` is a single convolution on a map of SIZE x SIZE; for it, the multiply-adds a second as well, as if it were
//! done directly.

#[path = "../benches/common/networks.rs"]
mod networks;

use std::error::Error;
use std::time::Instant;

use pbas_nn::engine::cpu::{Plan, Workspace};
use pbas_nn::graph::{Activation, Graph, Padding};
use pbas_nn::linalg::Threads;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let usage = "usage: network_time NETWORK|conv:KERNEL,STRIDE,FROM,TO SIZE [REPEATS [THREADS]]";
    let [name, size, rest @ ..] = &args[..] else { return Err(usage.into()) };
    let size: usize = size.parse()?;
    let repeats = rest.first().map_or(Ok(11), |n| n.parse())?;
    let threads: usize = rest.get(1).map_or(Ok(1), |n| n.parse())?;
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;
    let threads = if threads == 1 { Threads::One } else { Threads::All };
    let graph = match name.strip_prefix("conv:") {
        Some(numbers) => {
            let numbers: Vec<usize> = numbers.split(',').map(str::parse).collect::<Result<_, _>>()?;
            let [kernel, stride, from, to] = numbers[..] else { return Err(usage.into()) };
            let mut graph = Graph::new(from);
            let window = networks::window(kernel, stride, Padding::Even(kernel / 2));
            let conv =
                graph.push("conv", networks::conv(window, from, to, 1.0, Activation::Relu, 1), &[0])?;
            graph.name_output("out", conv)?;
            graph
        }
        None => networks::network(name).ok_or(usage)?,
    };
    let start = Instant::now();
    let plan = Plan::new(graph, size, size)?;
    let planned = start.elapsed().as_secs_f64() * 1e3;
    let picture = networks::values(plan.input_shape().len(), 7);
    let mut workspace = Workspace::default();
    let mut times = Vec::new();
    for _ in 0..repeats + 1 {
        let (start, clock) = (cpu_time(), Instant::now());
        plan.run(&mut workspace, &picture, threads)?;
        let spent = match (start, cpu_time()) {
            (Some(start), Some(end)) if threads == Threads::One => (end - start) / 1e6,
            _ => clock.elapsed().as_secs_f64() * 1e3,
        };
        times.push(spent);
    }
    times.remove(0);
    times.sort_by(f64::total_cmp);
    let checksum: f32 = plan.output(&workspace, 0).iter().sum();
    print!("{name} {size}: {:.2} ms at least, {:.2} median", times[0], times[times.len() / 2]);
    if let Some(numbers) = name.strip_prefix("conv:") {
        let numbers: Vec<usize> = numbers.split(',').map(str::parse).collect::<Result<_, _>>()?;
        let out = plan.output_shapes().next().ok_or("an output")?;
        let work = (out.len() * numbers[0] * numbers[0] * numbers[2]) as f64;
        print!(", {:.1} GFLOP/s as if direct", 2e-6 * work / times[0]);
    }
    println!(" (planned in {planned:.0} ms, checksum {checksum:e})");
    Ok(())
}

/// Nanoseconds that this thread has spent on a core.
fn cpu_time() -> Option<f64> {
    // Brings the count up to date, which otherwise happens at the ticks of the clock alone.
    std::thread::yield_now();
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split_whitespace().next()?.parse().ok()
}
