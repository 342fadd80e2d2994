//! One module a command. Each checks its outputs, works, and says how it ended.

mod backbone;
mod bench;
mod calibrate;
mod data;
mod demo;
mod doctor;
mod eval;
mod export;
mod heatmaps;
mod history;
mod info;
mod predict;
mod recipe;
mod record;
mod report;
mod serve;
mod train;
mod watch;

use std::path::Path;

use pbas::detector::Detector;
use pbas::{Error, ErrorKind, Precision, Result, model_file};
use pbas_line::serve::http::Tokens;

use crate::args::{Args, Command, PrecisionName};
use crate::output::{Printer, Status, to_stderr};
use crate::progress::catch_signals;

/// Does what the command line says.
///
/// # Errors
/// What kept the command from being done; inputs that fail one by one are in the status instead.
pub fn run(args: Args) -> Result<Status> {
    if let Some(threads) = args.threads {
        rayon::ThreadPoolBuilder::new()
            .num_threads(usize::from(threads))
            .build_global()
            .map_err(|e| Error::new(ErrorKind::Io, "cannot start threads").with_source(e))?;
    }
    let printer = Printer::new(args.quiet);
    catch_signals()?;
    match &args.command {
        Command::Train(a) => train::run(a, printer),
        Command::Calibrate(a) => calibrate::run(a, printer),
        Command::Eval(a) => eval::run(a, printer),
        Command::Predict(a) => predict::run(a, printer),
        Command::Doctor(a) => doctor::run(a, printer),
        Command::Info(a) => info::run(a),
        Command::Serve(a) => serve::run(a, printer),
        Command::Watch(a) => watch::run(a, printer),
        Command::History(a) => history::run(a, printer),
        Command::Export(a) => export::run(a, printer),
        Command::Backbone(a) => backbone::run(a, printer),
        Command::Data(a) => data::run(a, printer),
        Command::Bench(a) => bench::run(a, args.threads, printer),
        Command::Report(a) => report::run(a, printer),
        Command::Demo(a) => demo::run(a, printer),
    }
}

/// Refuses a model of another precision than the one asked for: its threshold holds for its own alone.
fn check_precision(asked: PrecisionName, of_model: Precision) -> Result<()> {
    let Some(asked) = asked.named().filter(|&asked| asked != of_model) else { return Ok(()) };
    Err(Error::caller(format!(
        "`--precision {asked}`: expected a model in {asked}, found one in {of_model}, for which its threshold was set"
    ))
    .with_hint(format!("leave the option out, or train the model with `--precision {asked}`")))
}

/// A model file, ready to judge.
fn load_detector(path: &Path) -> Result<Detector> {
    model_file::open(path)?.into_detector()
}

/// The tokens of a file, if one is given; what is wrong with its rights is said.
fn tokens(path: Option<&Path>) -> Result<Option<Tokens>> {
    let Some(path) = path else { return Ok(None) };
    let (tokens, warning) = Tokens::read(path)?;
    if let Some(warning) = warning {
        to_stderr(&format!("warning: {warning}"));
    }
    Ok(Some(tokens))
}
