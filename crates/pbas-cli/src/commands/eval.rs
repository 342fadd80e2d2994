//! `pbas eval`: verdicts compared with labels.

use std::path::{Path, PathBuf};

use pbas::compare;
use pbas::dataset::{good_pictures, test_set};
use pbas::detector::Detector;
use pbas::eval::{EvalResult, evaluate};
use pbas::train::observer::Observer;
use pbas::{Error, ErrorKind, Result};

use super::heatmaps::Heatmaps;
use super::{check_precision, load_detector};
use crate::args::{Eval, Method};
use crate::output::{Printer, Status, Table, data, figure, to_stderr};
use crate::paths::{check_file, write_file};
use crate::progress::Progress;

/// Memory that cached features of the compared method may take; beyond it a temporary file is used.
const COMPARE_CACHE: u64 = 2_000_000_000;

/// Runs the command.
///
/// # Errors
/// The model, the set or an output is at fault, or the run was stopped.
pub fn run(args: &Eval, printer: Printer) -> Result<Status> {
    let wants = |method| args.compare.contains(&method);
    let compare = (!args.compare.is_empty()).then(|| Compare {
        good: args.good.as_ref().unwrap_or(&args.dir).clone(),
        nearest: wants(Method::Nearest),
        oracle: wants(Method::Oracle).then_some(args.oracle_epochs),
    });
    let outputs = Outputs { json: args.json.clone(), heatmaps: args.heatmaps.clone(), compare };
    outputs.check()?;
    let detector = load_detector(&args.model)?;
    check_precision(args.precision, detector.model().settings.precision)?;
    evaluate_and_report(&detector, &args.dir, &outputs, printer)
}

/// Where the results go besides stdout.
#[derive(Debug)]
pub struct Outputs {
    /// All figures.
    pub json: Option<PathBuf>,
    /// A PNG for each picture.
    pub heatmaps: Option<PathBuf>,
    /// What to compare with.
    pub compare: Option<Compare>,
}

/// Other methods on the same features.
#[derive(Debug)]
pub struct Compare {
    /// Good pictures that they learn from.
    good: PathBuf,
    /// Nearest neighbours.
    nearest: bool,
    /// The published protocol's oracle, of so many epochs.
    oracle: Option<u64>,
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
    let good = outputs.compare.as_ref().map(|c| good_pictures(&c.good)).transpose()?;
    let progress = Progress::new(printer);
    let mut result = evaluate(detector, &set, &progress, &mut |judged| match &heatmaps {
        Some(h) => h.write(&judged.sample.name, judged.picture, judged.mask, judged.prediction),
        None => Ok(()),
    })?;
    if let (Some(wanted), Some(good)) = (&outputs.compare, good) {
        if wanted.nearest {
            result.compared.push(compare::nearest(detector, &good, &set, COMPARE_CACHE, &progress)?);
        }
        if let Some(epochs) = wanted.oracle {
            let limits = (epochs, COMPARE_CACHE);
            result.compared.push(compare::oracle(detector, &good, &set, limits, &progress)?);
        }
    }
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
    let mut text = format!("{}\n{}", types.render(), all.render());
    if !result.compared.is_empty() {
        let mut table = Table::new(&["method", "AUROC", "AP", "pixel AUROC", "AUPRO"]);
        let mut row = |name: &str, figures: [Option<f64>; 4]| {
            let [a, b, c, d] = figures.map(figure);
            table.row(&[name, &a, &b, &c, &d]);
        };
        row("pbas", [s.image_auroc, s.image_ap, s.pixel_auroc, s.aupro]);
        for o in &result.compared {
            row(&o.method, [o.image_auroc, o.image_ap, o.pixel_auroc, o.aupro]);
        }
        text.push_str(&format!("\n{}", table.render()));
    }
    Ok(text)
}

fn unwritable(e: serde_json::Error) -> Error {
    Error::new(ErrorKind::Io, "cannot write the results").with_source(e)
}
