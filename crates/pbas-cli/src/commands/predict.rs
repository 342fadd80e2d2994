//! `pbas predict`: verdicts of pictures, in their order, each as soon as it is known.

use std::path::{Path, PathBuf};

use pbas::dataset::expand_inputs;
use pbas::detector::{Detector, Scratch, Verdict};
use pbas::error::chain;
use pbas::image::read_rgb;
use pbas::train::observer::Observer;
use pbas::{Error, ErrorKind, Result, Threads};
use rayon::prelude::*;

use super::heatmaps::Heatmaps;
use super::load_detector;
use super::record::{Judged, Record, Writer};
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
    let detector = load_detector(&args.model)?;
    let heatmaps = Heatmaps::new(args.heatmaps.as_deref(), &detector)?;
    let inputs = list(&args.inputs);
    let writer = Writer::new(args.format, inputs.iter().map(|i| i.path.as_path()));
    let quiet = inputs.len() == 1;
    let progress = Progress::new(if quiet { Printer::Quiet } else { printer.beside_data() });

    let (mut failed, mut anomalous) = (0, 0);
    let mut open = data(&writer.header()?)?;
    progress.begin("predicting", inputs.len() as u64, "pictures");
    'all: for part in inputs.chunks(rayon::current_num_threads()) {
        if progress.interrupted() {
            return Err(Error::new(ErrorKind::Interrupted, "prediction was stopped"));
        }
        for (record, warning) in judge_all(&detector, part, heatmaps.as_ref()) {
            if !open {
                break 'all;
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
        }
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

/// Judges a few pictures side by side, one on all cores. The answers do not depend on which.
fn judge_all(
    detector: &Detector,
    inputs: &[Input],
    heatmaps: Option<&Heatmaps>,
) -> Vec<(Record, Option<Error>)> {
    if let [input] = inputs {
        return vec![judge(detector, input, heatmaps, &mut Scratch::default(), Threads::All)];
    }
    inputs
        .par_iter()
        .with_max_len(1)
        .map_init(Scratch::default, |scratch, input| judge(detector, input, heatmaps, scratch, Threads::One))
        .collect()
}

/// The record of a picture, and what went wrong beside it.
fn judge(
    detector: &Detector,
    input: &Input,
    heatmaps: Option<&Heatmaps>,
    scratch: &mut Scratch,
    threads: Threads,
) -> (Record, Option<Error>) {
    let failed = |e: &Error| (failure(&input.path, e), None);
    if let Some(e) = &input.error {
        return failed(e);
    }
    let judged = read_rgb(&input.path, &detector.decode_options()).and_then(|picture| {
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
