//! `pbas train`: good pictures -> model file.

use std::path::{Path, PathBuf};
use std::time::Instant;

use pbas::dataset::good_pictures;
use pbas::image::DecodeOptions;
use pbas::roi::{self, Roi};
use pbas::settings::Settings;
use pbas::train::observer::Observer;
use pbas::train::{TrainJob, train};
use pbas::words::{counted, percent};
use pbas::{Error, ErrorKind, Result, model_file};

use super::info::promise;
use super::recipe;
use crate::args::Train;
use crate::output::{Printer, Status, bytes, duration};
use crate::paths::{check_file, check_folder, shell, with_suffix};
use crate::progress::Progress;

/// Runs the command.
///
/// # Errors
/// Everything that keeps the model from being made, above all what can be found before the work; a stopped run, of
/// which a checkpoint is then left.
pub fn run(args: &Train, printer: Printer) -> Result<Status> {
    let start = Instant::now();
    let mut settings = recipe::settings(&args.recipe)?;
    settings.seed = args.seed.unwrap_or(settings.seed);
    check_file("model", &args.output)?;
    if let Some(dir) = &args.recipe.temp_dir {
        check_folder("temporary files", dir)?;
    }
    let pictures = good_pictures(&args.dir)?;
    let progress = Progress::new(printer);
    let region = |given: &PathBuf| region(given, &pictures, &settings, (printer, &progress));
    settings.roi = args.roi.as_ref().map(region).transpose()?;
    let backbone = recipe::backbone(&args.recipe, &mut settings, printer)?;
    let checkpoints = with_suffix(&args.output, ".checkpoint");
    prepare_checkpoints(&checkpoints, args.resume, &progress)?;
    let job = TrainJob {
        pictures: &pictures,
        backbone,
        settings,
        cache_limit: args.recipe.cache_limit,
        temp_dir: args.recipe.temp_dir.as_deref(),
        checkpoints: Some(&checkpoints),
        resume: args.resume,
    };
    let training = train(job, &progress).map_err(|e| match e.kind() {
        ErrorKind::Interrupted => {
            e.with_hint("the same command with `--resume` goes on from where training was stopped")
        }
        _ => e,
    })?;
    model_file::save(&training.model, &args.output)?;
    training.remove_checkpoints();

    let c = &training.model.calibration;
    let size = std::fs::metadata(&args.output).map_or(0, |m| m.len());
    let skipped = training.skipped.len();
    printer.say(&format!("model: {} ({})", args.output.display(), bytes(size)));
    printer.say(&format!("threshold: {:.4}, {}", c.threshold, promise(c)));
    let used = training.model.provenance.pictures;
    printer.say(&format!("pictures: {used} used, {skipped} left out as unreadable"));
    printer.say(&format!("time: {}", duration(start.elapsed())));
    printer.say(&format!("next: {}", next_command(&args.output, &args.dir)));
    Ok(if skipped == 0 { Status::Done } else { Status::SomeFailed })
}

/// The region of interest that `--roi` asks for.
fn region(
    given: &Path,
    pictures: &[PathBuf],
    settings: &Settings,
    (printer, progress): (Printer, &Progress),
) -> Result<Roi> {
    let decode = DecodeOptions { apply_orientation: settings.apply_orientation, ..DecodeOptions::default() };
    if given != Path::new("auto") {
        return Roi::read(given, &decode);
    }
    let found = roi::find(pictures, &decode, progress)?;
    printer.say(&format!(
        "region of interest: the part stands out in {} of {}; a region around all of them keeps {} of the picture",
        found.found,
        counted(found.pictures, "picture"),
        percent(found.roi.share())
    ));
    Ok(found.roi)
}

/// A state that is not gone on from must not be taken up by a later `--resume` in part. Only files that are ours
/// are removed.
fn prepare_checkpoints(folder: &Path, resume: bool, progress: &Progress) -> Result<()> {
    let states = checkpoint_files(folder);
    if resume && states.is_empty() {
        progress.warn(&format!("no checkpoint in `{}`: training begins anew", folder.display()));
    }
    if !resume && !states.is_empty() {
        progress.warn(&format!(
            "the state of a stopped run in `{}` is dropped; `--resume` would have gone on from it",
            folder.display()
        ));
        for state in states {
            std::fs::remove_file(&state).map_err(|e| Error::io("cannot remove checkpoint", &state, e))?;
        }
    }
    Ok(())
}

fn checkpoint_files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let is_state = |p: &PathBuf| {
        let name = p.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        name.starts_with("view") && name.contains("_head") && name.ends_with(".safetensors")
    };
    entries.flatten().map(|e| e.path()).filter(is_state).collect()
}

fn next_command(model: &Path, dir: &Path) -> String {
    let model = shell(model);
    if dir.join("test").is_dir() {
        format!("pbas eval {model} {}", shell(dir))
    } else {
        format!("pbas predict {model} PICTURE")
    }
}
