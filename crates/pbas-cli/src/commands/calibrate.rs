//! `pbas calibrate`: a new threshold for a model, from new good pictures or for another rate.

use pbas::calibrate::check_rate;
use pbas::dataset::good_pictures;
use pbas::recalibrate::recalibrate;
use pbas::{Result, model_file};

use super::info::promise;
use super::load_detector;
use crate::args::Calibrate;
use crate::output::{Printer, Status};
use crate::paths::check_file;
use crate::progress::Progress;

/// Runs the command.
///
/// # Errors
/// The model or the pictures are at fault, or the output cannot be written; the model is then as it was.
pub fn run(args: &Calibrate, printer: Printer) -> Result<Status> {
    let output = args.output.as_ref().unwrap_or(&args.model);
    args.false_reject_rate.map_or(Ok(()), check_rate)?;
    check_file("model", output)?;
    let detector = load_detector(&args.model)?;
    let rate = args.false_reject_rate.unwrap_or(detector.model().calibration.false_reject_rate);
    let (model, skipped) = match &args.dir {
        Some(dir) => {
            let pictures = good_pictures(dir)?;
            let done = recalibrate(&detector, &pictures, rate, &Progress::new(printer))?;
            (done.model, done.skipped.len())
        }
        None => {
            let mut model = detector.model().clone();
            model.calibration.change_rate(rate, model.settings.scoring)?;
            (model, 0)
        }
    };
    model_file::save(&model, output)?;
    printer.say(&format!("model: {}", output.display()));
    printer.say(&format!("threshold: {:.4}, {}", model.calibration.threshold, promise(&model.calibration)));
    Ok(if skipped == 0 { Status::Done } else { Status::SomeFailed })
}
