//! `pbas eval`: verdicts compared with labels.

use std::path::{Path, PathBuf};

use pbas::dataset::test_set;
use pbas::detector::Detector;
use pbas::eval::{EvalResult, evaluate};
use pbas::train::observer::Observer;
use pbas::{Error, ErrorKind, Result};

use super::heatmaps::Heatmaps;
use super::load_detector;
use crate::args::Eval;
use crate::output::{Printer, Status, Table, data, figure, to_stderr};
use crate::paths::{check_file, write_file};
use crate::progress::Progress;

/// Runs the command.
///
/// # Errors
/// The model, the set or an output is at fault, or the run was stopped.
pub fn run(args: &Eval, printer: Printer) -> Result<Status> {
    let outputs = Outputs { json: args.json.clone(), heatmaps: args.heatmaps.clone() };
    outputs.check()?;
    let detector = load_detector(&args.model)?;
    evaluate_and_report(&detector, &args.dir, &outputs, printer)
}

/// Where the results go besides stdout.
#[derive(Debug)]
pub struct Outputs {
    /// All figures.
    pub json: Option<PathBuf>,
    /// A PNG for each picture.
    pub heatmaps: Option<PathBuf>,
}

impl Outputs {
    /// Before the work.
    fn check(&self) -> Result<()> {
        self.json.as_deref().map_or(Ok(()), |path| check_file("results", path))
    }
}

/// Judges a test set, prints the tables and writes what is asked for.
///
/// # Errors
/// As [`run`].
pub fn evaluate_and_report(
    detector: &Detector,
    dir: &Path,
    outputs: &Outputs,
    printer: Printer,
) -> Result<Status> {
    let heatmaps = Heatmaps::new(outputs.heatmaps.as_deref(), detector)?;
    let set = test_set(dir)?;
    let progress = Progress::new(printer);
    let result = evaluate(detector, &set, &progress, &mut |judged| match &heatmaps {
        Some(h) => h.write(&judged.sample.name, judged.picture, judged.mask, judged.prediction),
        None => Ok(()),
    })?;
    for note in &result.notes {
        progress.warn(note);
    }
    for failure in &result.failures {
        to_stderr(&format!("error: `{}` could not be judged: {}", failure.path, failure.error));
    }
    if let Some(path) = &outputs.json {
        let mut json = serde_json::to_vec_pretty(&result).map_err(unwritable)?;
        json.push(b'\n');
        write_file("results", path, &json)?;
    }
    data(tables(&result)?.as_bytes())?;
    Ok(if result.failures.is_empty() { Status::Done } else { Status::SomeFailed })
}

/// One row a type of defect and one for all; below, every figure by its name in the JSON.
fn tables(result: &EvalResult) -> Result<String> {
    let s = &result.summary;
    let mut types = Table::new(&["defect type", "images", "AUROC", "AP", "missed"]);
    let mut row = |name: &str, images: usize, auroc: Option<f64>, ap: Option<f64>, missed: usize| {
        types.row(&[name, &images.to_string(), &figure(auroc), &figure(ap), &missed.to_string()]);
    };
    for t in &result.defect_types {
        row(&t.defect_type, t.images, t.image_auroc, t.image_ap, t.missed);
    }
    row("all", s.defective, s.image_auroc, s.image_ap, s.missed);

    let mut all = Table::default();
    if let serde_json::Value::Object(figures) = serde_json::to_value(s).map_err(unwritable)? {
        for (key, value) in figures {
            let text = match value {
                serde_json::Value::Number(n) if n.is_u64() => n.to_string(),
                other => figure(other.as_f64()),
            };
            all.row(&[key, text]);
        }
    }
    Ok(format!("{}\n{}", types.render(), all.render()))
}

fn unwritable(e: serde_json::Error) -> Error {
    Error::new(ErrorKind::Io, "cannot write the results").with_source(e)
}
