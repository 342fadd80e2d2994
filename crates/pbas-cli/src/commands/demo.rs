//! `pbas demo`: the whole road on pictures that the program renders.

use std::path::PathBuf;

use pbas::demo::write_set;
use pbas::train::observer::Observer;
use pbas::{Error, ErrorKind, Result};

use super::eval::{Outputs, evaluate_and_report};
use super::{load_detector, train};
use crate::args::{self, Demo, PrecisionName, PresetName};
use crate::output::{Printer, Status};
use crate::paths::shell;
use crate::progress::Progress;

/// Memory for cached features; the demo set needs far less.
const CACHE_LIMIT: u64 = 2_000_000_000;

/// Runs the command.
///
/// # Errors
/// The folder holds other files or cannot be written, or the run was stopped.
pub fn run(args: &Demo, printer: Printer) -> Result<Status> {
    let dir = &args.output;
    let [model, json, heatmaps] = ["washers.pbas", "results.json", "heatmaps"].map(|name| dir.join(name));
    write_pictures(args, printer)?;
    let train_args = train_args(args, model.clone());
    let trained = train::run(&train_args, printer).map_err(|e| match e.kind() {
        ErrorKind::Interrupted => Error::new(ErrorKind::Interrupted, "the demo was stopped")
            .with_hint(format!("to go on: {} --resume", train_command(&train_args))),
        _ => e,
    })?;
    let outputs = Outputs { json: Some(json.clone()), heatmaps: Some(heatmaps.clone()), compare: None };
    let evaluated = evaluate_and_report(&load_detector(&model)?, dir, &outputs, printer)?;

    let (shown, model) = (shell(dir), shell(&model));
    let example = shell(&dir.join("test").join("scratch").join("000.png"));
    printer.say(&format!(
        "
Where to look:
  good pictures to learn from   {}
  test pictures, by defect      {}
  heatmaps (picture, scores, true defect)
                                {}
  the model                     {model}
  all figures                   {}

The same by hand:
  {}
  pbas eval {model} {shown} --json {} --heatmaps {}

Next:
  pbas info {model}
  pbas predict {model} {example}",
        dir.join("train").join("good").display(),
        dir.join("test").display(),
        heatmaps.join("test").display(),
        json.display(),
        train_command(&train_args),
        shell(&json),
        shell(&heatmaps),
    ));
    Ok(if trained == Status::Done { evaluated } else { trained })
}

fn write_pictures(args: &Demo, printer: Printer) -> Result<()> {
    let progress = Progress::new(printer);
    let mut last = 0;
    write_set(&args.output, args.seed, &mut |done, of| {
        if done == 0 {
            progress.begin("rendering", of as u64, "pictures");
        }
        // One by one: more at once would be taken for work of an earlier run.
        (last..done).for_each(|_| progress.advance(1));
        last = done;
    })?;
    progress.end();
    if progress.interrupted() {
        return Err(Error::new(ErrorKind::Interrupted, "the demo was stopped"));
    }
    Ok(())
}

fn train_args(args: &Demo, output: PathBuf) -> args::Train {
    args::Train {
        dir: args.output.clone(),
        output,
        recipe: args::Recipe {
            preset: PresetName::Fast,
            size: args.size.clone(),
            fit: None,
            backbone: None,
            feature_layers: None,
            false_reject_rate: None,
            folds: None,
            fuse: None,
            augment: args::AugmentName::Off,
            precision: PrecisionName::F32,
            min_area: None,
            epochs: None,
            steps: args.steps,
            embed_dim: None,
            hidden: None,
            synthesis_scale: None,
            batch_size: None,
            cache_limit: CACHE_LIMIT,
            temp_dir: None,
        },
        roi: None,
        seed: Some(args.seed),
        resume: false,
    }
}

/// The command that trains as the demo does.
fn train_command(args: &args::Train) -> String {
    let mut command = format!("pbas train {} -o {}", shell(&args.dir), shell(&args.output));
    if let Some(seed) = args.seed.filter(|&s| s != 0) {
        command.push_str(&format!(" --seed {seed}"));
    }
    if let Some(pbas::settings::Sizes::Fixed(sizes)) = &args.recipe.size {
        let size = |s: &pbas::preprocess::InputSize| match (s.width, s.height) {
            (width, height) if width == height => width.to_string(),
            (width, height) => format!("{width}x{height}"),
        };
        let sizes: Vec<String> = sizes.iter().map(size).collect();
        command.push_str(&format!(" --size {}", sizes.join(",")));
    }
    if let Some(steps) = args.recipe.steps {
        command.push_str(&format!(" --steps {steps}"));
    }
    command
}
