//! What bfloat16 does to a model's figures: judges a test set twice with the same heads and thresholds, the network once in float32 and
//! once in bfloat16, so that nothing differs but the rounding (two trainings differ by far more).
//!
//! `cargo run --release -p pbas --example precision -- MODEL SET`
//!
//! SET: a folder in MVTec layout. Prints a row of a table: AUROC of pictures, of pixels and AUPRO, each in float32 and in bfloat16; verdicts that
//! differ; and of all pictures the largest difference of an image score.

use std::error::Error;
use std::path::Path;

use pbas::dataset::test_set;
use pbas::detector::Detector;
use pbas::eval::{EvalResult, evaluate};
use pbas::train::observer::Silent;
use pbas::{Precision, model_file};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [model, set] = &args[..] else { return Err("usage: precision MODEL SET".into()) };
    let (model, set) = (model_file::load(Path::new(model))?, test_set(Path::new(set))?);
    let judge = |precision| -> pbas::Result<EvalResult> {
        let mut model = model.clone();
        model.settings.precision = precision;
        evaluate(&Detector::new(model)?, &set, &Silent, &mut |_| Ok(()))
    };
    let [f, b] = [judge(Precision::F32)?, judge(Precision::Bf16)?];
    let pair = |f: Option<f64>, b: Option<f64>| match (f, b) {
        (Some(f), Some(b)) => format!("{f:.4} / {b:.4}"),
        _ => "-".into(),
    };
    let both = || f.samples.iter().zip(&b.samples);
    let changed = both().filter(|(f, b)| f.verdict != b.verdict).count();
    let largest = both().map(|(f, b)| (f.image_score - b.image_score).abs()).fold(0.0, f64::max);
    println!(
        "| {} | {} | {} | {changed} of {} | {largest:.3} |",
        pair(f.summary.image_auroc, b.summary.image_auroc),
        pair(f.summary.pixel_auroc, b.summary.pixel_auroc),
        pair(f.summary.aupro, b.summary.aupro),
        f.samples.len(),
    );
    Ok(())
}
