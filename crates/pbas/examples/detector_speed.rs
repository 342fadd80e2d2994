//! Times a detector from picture file to verdict, on demand, so that a bench can take turns with other programs.
//!
//! `cargo run --release -p pbas --example detector_speed -- MODEL PICTURE THREADS [PRECISION]`
//!
//! MODEL: a model file; or `paper`, for a model of the published shapes with random weights (WideResNet50-2, 1,536 entries a
//! feature, 1,024 hidden units, 288 x 288 pixels), computing in PRECISION: `f32` (if left out) or `bf16`; a model file says its own. Prints `ready`; then, for every line `go` on standard input, reads and judges the
//! picture and prints the milliseconds that it took, a JSON number on a line of its own. Ends at the end of the input.

#[path = "../tests/common/networks.rs"]
mod networks;
#[path = "on_demand/serve.rs"]
mod on_demand;

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use pbas::backbone::Backbone;
use pbas::detector::Scratch;
use pbas::features::{ExtractScratch, Extractor};
use pbas::head::{GridHead, Head};
use pbas::image::{DecodeOptions, read_rgb};
use pbas::preprocess::{Geometry, InputSize};
use pbas::score::SmoothUpsampler;
use pbas::settings::{Preset, Settings};
use pbas::view::MAP_SIGMA;
use pbas::{Precision, Threads, model_file};
use rand::SeedableRng;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (args, precision) = match &args[..] {
        [args @ .., precision] if args.len() == 3 => (args, precision.parse()?),
        args => (args, Precision::F32),
    };
    let [model, picture, threads] = args else {
        return Err("usage: detector_speed MODEL|paper PICTURE THREADS [f32|bf16]".into());
    };
    rayon::ThreadPoolBuilder::new().num_threads(threads.parse()?).build_global()?;
    let picture = Path::new(picture);
    let mut judge: Box<dyn FnMut() -> pbas::Result<f64>> = if model == "paper" {
        paper(picture, precision)?
    } else {
        let detector = model_file::open(Path::new(model))?.into_detector()?;
        let mut scratch = Scratch::default();
        Box::new(move || {
            let pixels = read_rgb(picture, &detector.decode_options())?;
            Ok(detector.predict(&pixels, &mut scratch, Threads::All)?.image_score)
        })
    };
    judge()?;
    on_demand::serve(|line| match line {
        "go" => {
            let start = Instant::now();
            std::hint::black_box(judge()?);
            Ok(start.elapsed().as_secs_f64() * 1e3)
        }
        other => Err(format!("expected `go`, found `{other}`").into()),
    })
}

/// The parts of a detector of the published shapes, one after the other: a model that no training made has no threshold.
fn paper(picture: &Path, precision: Precision) -> pbas::Result<Box<dyn FnMut() -> pbas::Result<f64> + '_>> {
    let settings = Settings::preset(Preset::Paper);
    let backbone = Backbone::from_tensors(&networks::WIDE_RESNET50_2.layers(3).random(1))?;
    let size = InputSize::square(288);
    let layers = ["layer2", "layer3"].map(String::from);
    let geometry = Geometry { fit: settings.fit, size };
    let extractor = Extractor::new(&backbone, geometry, &layers, settings.pooling, precision)?;
    let embedding = extractor.embedding();
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(0);
    let head = Head::initial(embedding.dim(), settings.head.hidden, &mut rng);
    let grid = GridHead::new(&[&head], embedding)?;
    let (h, w) = embedding.grid();
    let upsampler = SmoothUpsampler::new(h, w, size.height, size.width, MAP_SIGMA)?;
    let mut scratch = ExtractScratch::default();
    let options = DecodeOptions { apply_orientation: false, ..DecodeOptions::default() };
    Ok(Box::new(move || {
        let pixels = read_rgb(picture, &options)?;
        let (pooled, _) = extractor.extract(&pixels, &mut scratch, Threads::All)?;
        let scores: Vec<f32> =
            grid.logits(&pooled, Threads::All).into_iter().map(pbas::head::sigmoid).collect();
        std::hint::black_box(upsampler.apply(&scores)?);
        Ok(f64::from(scores.iter().copied().fold(0.0, f32::max)))
    }))
}
