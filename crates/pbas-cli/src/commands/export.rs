//! `pbas export`: a model as one ONNX graph, and our own scores to hold beside those of other runtimes.

use std::path::{Path, PathBuf};

use pbas::dataset::expand_inputs;
use pbas::detector::{Detector, Scratch, Verdict};
use pbas::error::chain;
use pbas::export::{Options, check_opset, to_onnx};
use pbas::{Error, Result, Threads};
use serde::Serialize;

use super::load_detector;
use crate::args::Export;
use crate::output::{Printer, Status, bytes, data, to_stderr};
use crate::paths::{check_file, write_file};

/// What an output file is called in messages.
const WHAT: &str = "ONNX file";

/// What pbas says of a picture.
#[derive(Debug, Serialize)]
struct Checked<'a> {
    path: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(flatten)]
    found: Option<Found>,
}

#[derive(Debug, Serialize)]
struct Found {
    image_score: f64,
    verdict: Verdict,
    /// Highest value of the score map.
    map_max: f64,
    /// Mean over the score map.
    map_mean: f64,
}

/// Runs the command.
///
/// # Errors
/// The model is at fault, the options are, or the file cannot be written; nothing is then changed. What is wrong with single pictures
/// of `--check` is in their lines.
pub fn run(args: &Export, printer: Printer) -> Result<Status> {
    check_opset(args.opset).map_err(|e| e.context("--opset"))?;
    check_file(WHAT, &args.output)?;
    let same =
        |a: &Path, b: &Path| a.canonicalize().ok().zip(b.canonicalize().ok()).is_some_and(|(a, b)| a == b);
    if same(&args.model, &args.output) {
        return Err(Error::caller(format!(
            "cannot write {WHAT} `{}`: it is the model itself",
            args.output.display()
        )));
    }
    if args.output.exists() && !args.force {
        return Err(Error::caller(format!(
            "cannot write {WHAT} `{}`: it is there already",
            args.output.display()
        ))
        .with_hint("--force replaces it"));
    }
    let pictures = if args.check.is_empty() { Vec::new() } else { expand_inputs(&args.check)? };
    let detector = load_detector(&args.model)?;
    let options = Options { input: args.input.into(), opset: args.opset };
    let file = to_onnx(&detector, &options)
        .map_err(|e| e.context(format!("cannot export model `{}`", args.model.display())))?;
    write_file(WHAT, &args.output, &file)?;
    printer.say(&format!(
        "ONNX: {} ({}), opset {}",
        args.output.display(),
        bytes(file.len() as u64),
        args.opset
    ));
    check(&detector, &pictures)
}

/// Writes our own answers, picture by picture.
fn check(detector: &Detector, pictures: &[PathBuf]) -> Result<Status> {
    let (mut scratch, mut failed) = (Scratch::default(), 0);
    for path in pictures {
        let judged = judge(detector, path, &mut scratch);
        let shown = path.display().to_string();
        let (error, found) = match judged {
            Ok(found) => (None, Some(found)),
            Err(e) => {
                failed += 1;
                (Some(chain(&e)), None)
            }
        };
        let line = serde_json::to_string(&Checked { path: &shown, error, found })
            .map_err(|e| Error::input("cannot write the record of a picture").with_source(e))?;
        if !data(format!("{line}\n").as_bytes())? {
            break;
        }
    }
    if failed > 0 {
        to_stderr(&format!("warning: {failed} of {} pictures failed; their records say why", pictures.len()));
        return Ok(Status::SomeFailed);
    }
    Ok(Status::Done)
}

fn judge(detector: &Detector, path: &Path, scratch: &mut Scratch) -> Result<Found> {
    let picture = pbas::image::read_rgb(path, &detector.decode_options())?;
    let prediction = detector.predict(&picture, scratch, Threads::All)?;
    let values = &prediction.map.values;
    Ok(Found {
        image_score: prediction.image_score,
        verdict: prediction.verdict,
        map_max: values.iter().copied().fold(f32::NEG_INFINITY, f32::max).into(),
        map_mean: values.iter().map(|&v| f64::from(v)).sum::<f64>() / values.len() as f64,
    })
}
