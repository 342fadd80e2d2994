//! `pbas train`: good pictures -> model file.

use std::path::{Path, PathBuf};
use std::time::Instant;

use pbas::backbone::Backbone;
use pbas::dataset::good_pictures;
use pbas::image::DecodeOptions;
use pbas::patch::Pooling;
use pbas::preprocess::Fit;
use pbas::roi::{self, Roi};
use pbas::settings::{Batch, Length, Scoring, Settings, Sizes};
use pbas::train::observer::Observer;
use pbas::train::{TrainJob, train};
use pbas::words::{counted, percent};
use pbas::{Error, ErrorKind, Isa, Precision, Result, model_file};

use super::info::promise;
use crate::args::{FitName, FuseName, PrecisionName, PresetName, Train};
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
    let mut settings = settings(args)?;
    check_file("model", &args.output)?;
    if let Some(dir) = &args.temp_dir {
        check_folder("temporary files", dir)?;
    }
    let pictures = good_pictures(&args.dir)?;
    let progress = Progress::new(printer);
    let region = |given: &PathBuf| region(given, &pictures, &settings, (printer, &progress));
    settings.roi = args.roi.as_ref().map(region).transpose()?;
    let backbone = match &args.backbone {
        Some(path) => Backbone::from_file(path)?,
        None => Backbone::embedded()?,
    };
    if args.feature_layers.is_none() {
        let layers = backbone.layers_or(&settings.feature_layers);
        if layers != settings.feature_layers {
            printer.say(&format!(
                "feature layers: {}, as {} has others",
                layers.join(", "),
                backbone.info.name
            ));
            settings.feature_layers = layers;
        }
    }
    settings.precision = precision(args)?;
    if args.precision == PrecisionName::Auto {
        printer.say(&format!("precision: {}", settings.precision));
    }
    let checkpoints = with_suffix(&args.output, ".checkpoint");
    prepare_checkpoints(&checkpoints, args.resume, &progress)?;
    let job = TrainJob {
        pictures: &pictures,
        backbone,
        settings,
        cache_limit: args.cache_limit,
        temp_dir: args.temp_dir.as_deref(),
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

/// The settings of the preset with what the command line overrides, checked.
fn settings(args: &Train) -> Result<Settings> {
    let mut s = Settings::preset(args.preset.into());
    if let Some(sizes) = &args.size {
        s.sizes = sizes.clone();
    }
    let wants_crop = match args.fit {
        Some(fit) => fit == FitName::Crop,
        None => matches!(s.fit, Fit::Crop { .. }),
    };
    s.fit = match (args.fit, &s.sizes) {
        (_, Sizes::Fixed(sizes)) if wants_crop && sizes.len() == 1 => {
            Fit::Crop { resize: sizes[0].width.min(sizes[0].height) }
        }
        _ if wants_crop => {
            return Err(Error::caller("`--fit crop`: expected one size, found several or `auto`")
                .with_hint("give one, for instance `--size 288`, or another `--fit`"));
        }
        (Some(FitName::Pad), _) => Fit::Pad,
        (Some(FitName::Stretch), _) => Fit::Stretch,
        (_, _) => s.fit,
    };
    if s.scoring == Scoring::Sigmoid && s.sizes == Sizes::Auto {
        return Err(Error::caller("`--size auto`: the paper preset looks at one size")
            .with_hint("give one, for instance `--size 288`"));
    }
    if let Some(layers) = &args.feature_layers {
        s.feature_layers.clone_from(layers);
    }
    if let Some(embed_dim) = args.embed_dim {
        s.pooling = Pooling::Adaptive { embed_dim };
    }
    s.false_reject_rate = args.false_reject_rate.unwrap_or(s.false_reject_rate);
    s.folds = args.folds.unwrap_or(s.folds);
    s.seed = args.seed.unwrap_or(s.seed);
    s.neighbours = match args.fuse {
        Some(FuseName::None) => None,
        Some(FuseName::Nearest) => Some(s.neighbours.unwrap_or_default()),
        None => s.neighbours,
    };
    s.min_area = args.min_area.unwrap_or(s.min_area);
    s.head.hidden = args.hidden.unwrap_or(s.head.hidden);
    s.head.synthesis_scale = args.synthesis_scale.unwrap_or(s.head.synthesis_scale);
    s.head.length = match (args.epochs, args.steps) {
        (Some(n), _) => Length::Epochs(n),
        (None, Some(n)) => Length::Steps(n),
        (None, None) => s.head.length,
    };
    s.head.batch = match (args.batch_size, s.head.batch) {
        (None, batch) => batch,
        (Some(n), Batch::Pictures(_)) => Batch::Pictures(n),
        (Some(n), Batch::Patches(_)) => Batch::Patches(n),
    };
    s.validate()?;
    Ok(s)
}

/// The precision asked for; `auto` is bfloat16 only where it is faster, and with what its figures were measured for (docs/results.md).
fn precision(args: &Train) -> Result<Precision> {
    if let Some(precision) = args.precision.named() {
        return Ok(precision);
    }
    let measured = args.backbone.is_none() && args.preset == PresetName::Fast;
    let fast = Isa::current().map_err(Error::from)?.has_bf16();
    Ok(if measured && fast { Precision::Bf16 } else { Precision::F32 })
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
