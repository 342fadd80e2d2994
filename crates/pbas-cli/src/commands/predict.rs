//! `pbas predict`: verdicts of pictures, in their order, each as soon as it is known.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use pbas::dataset::expand_inputs;
use pbas::detector::{Detector, Scratch, Verdict};
use pbas::error::chain;
use pbas::image::{Rgb8, read_rgb};
use pbas::ordered::in_order;
use pbas::report::verdict::Judged;
use pbas::train::observer::Observer;
use pbas::{Error, ErrorKind, Result, Threads, model_file};

use super::check_precision;
use super::heatmaps::Heatmaps;
use super::record::{Record, Writer};
use crate::args::Predict;
use crate::output::{Printer, Status, data};
use crate::paths::names_below_common_folder;
use crate::progress::Progress;

/// A picture to be judged, or an input of which there is none.
struct Input {
    path: PathBuf,
    /// By which its heatmap is filed.
    name: String,
    /// Why it cannot even be listed.
    error: Option<Error>,
}

/// Runs the command.
///
/// # Errors
/// The model or an output folder is at fault, or the run was stopped. What is wrong with single pictures is in their
/// records.
pub fn run(args: &Predict, printer: Printer) -> Result<Status> {
    let model = model_file::open(&args.model)?;
    check_precision(args.precision, model.precision())?;
    let inputs = list(&args.inputs);
    // The first picture is read while the model is made ready.
    let options = model.decode_options();
    let first = || inputs.first().filter(|i| i.error.is_none()).map(|i| read_rgb(&i.path, &options));
    let (detector, first) = rayon::join(|| model.into_detector(), first);
    let (mut detector, first) = (detector?, Mutex::new(first));
    if let Some(pixels) = args.min_area {
        detector = detector.with_min_area(pixels);
    }
    let heatmaps = Heatmaps::new(args.heatmaps.as_deref(), &detector)?;
    let writer = Writer::new(args.format, inputs.iter().map(|i| i.path.as_path()));
    // One picture on all cores; many of them side by side, one on each.
    let alone = inputs.len() == 1;
    let threads = if alone { Threads::All } else { Threads::One };
    let progress = Progress::new(if alone { Printer::Quiet } else { printer.beside_data() });

    let (mut failed, mut anomalous) = (0, 0);
    let mut open = data(&writer.header()?)?;
    progress.begin("predicting", inputs.len() as u64, "pictures");
    let work = |scratch: &mut Scratch, input: &Input| {
        let is_first = std::ptr::eq(input, &inputs[0]);
        let read = is_first.then(|| first.lock().unwrap_or_else(PoisonError::into_inner).take()).flatten();
        judge(&detector, input, read, heatmaps.as_ref(), scratch, threads)
    };
    let each = |_: &Input, (record, warning): (Record, Option<Error>)| {
        if progress.interrupted() {
            return Err(Error::new(ErrorKind::Interrupted, "prediction was stopped"));
        }
        if !open {
            return Ok(false);
        }
        match &record {
            Record::Judged(j) => anomalous += usize::from(j.verdict == Verdict::Anomalous),
            Record::Failed { .. } => failed += 1,
        }
        if let Some(e) = warning {
            failed += 1;
            progress.warn(&chain(&e));
        }
        open = data(&writer.record(&record)?)?;
        progress.advance(1);
        Ok(true)
    };
    if alone {
        let mut each = each;
        each(&inputs[0], work(&mut Scratch::default(), &inputs[0]))?;
    } else {
        in_order(&inputs, Scratch::default, work, each)?;
    }
    progress.end();
    if failed > 0 {
        progress.warn(&format!("{failed} of {} inputs failed; their records say why", inputs.len()));
        return Ok(Status::SomeFailed);
    }
    if args.fail_on_anomaly && anomalous > 0 {
        return Ok(Status::Anomalies);
    }
    Ok(Status::Done)
}

/// All pictures, in order. An input that cannot be listed keeps its place.
fn list(paths: &[PathBuf]) -> Vec<Input> {
    let mut inputs = Vec::new();
    for path in paths {
        match expand_inputs(std::slice::from_ref(path)) {
            Ok(found) => {
                inputs.extend(found.into_iter().map(|path| Input { path, name: String::new(), error: None }));
            }
            Err(e) => inputs.push(Input { path: path.clone(), name: String::new(), error: Some(e) }),
        }
    }
    let all: Vec<PathBuf> = inputs.iter().map(|i| i.path.clone()).collect();
    for (input, name) in inputs.iter_mut().zip(names_below_common_folder(&all)) {
        input.name = name;
    }
    inputs
}

/// The record of a picture, and what went wrong beside it; `read` is the picture where it was read before.
fn judge(
    detector: &Detector,
    input: &Input,
    read: Option<Result<Rgb8>>,
    heatmaps: Option<&Heatmaps>,
    scratch: &mut Scratch,
    threads: Threads,
) -> (Record, Option<Error>) {
    let failed = |e: &Error| (failure(&input.path, e), None);
    if let Some(e) = &input.error {
        return failed(e);
    }
    let read = read.unwrap_or_else(|| read_rgb(&input.path, &detector.decode_options()));
    let judged = read.and_then(|picture| {
        let prediction = detector.predict(&picture, scratch, threads)?;
        Ok((picture, prediction))
    });
    match judged {
        Err(e) => failed(&e),
        Ok((picture, prediction)) => {
            let drawn = heatmaps.map(|h| h.write(&input.name, &picture, None, &prediction));
            let record = Record::Judged(Judged::new(&input.path, &prediction));
            (record, drawn.and_then(Result::err))
        }
    }
}

fn failure(path: &Path, error: &Error) -> Record {
    Record::Failed { path: path.display().to_string(), error: chain(error) }
}
