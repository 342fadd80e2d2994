//! From the options of training to settings and a backbone.

use pbas::backbone::Backbone;
use pbas::patch::Pooling;
use pbas::preprocess::Fit;
use pbas::settings::{Augment, Batch, Folds, Length, Scoring, Settings, Sizes};
use pbas::{Error, Precision, Result};

use crate::args::{FitName, FuseName, PrecisionName, Recipe};
use crate::output::Printer;

/// The backbone that is asked for; where no feature layers are, `settings` gets those that it has; and the precision.
///
/// # Errors
/// A file that is no backbone.
pub fn backbone(args: &Recipe, settings: &mut Settings, printer: Printer) -> Result<Backbone> {
    let backbone = match &args.backbone {
        Some(given) => super::backbone::store(None)?.resolve(given)?,
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
    settings.precision = precision(args);
    if args.precision == PrecisionName::Auto {
        printer.say(&format!("precision: {}", settings.precision));
    }
    Ok(backbone)
}

/// The precision asked for. `auto` may take bfloat16 only where no figure of docs/results.md moves by more than 0.001; on one set one does.
fn precision(args: &Recipe) -> Precision {
    args.precision.named().unwrap_or(Precision::F32)
}

/// The settings of the preset with what the command line overrides, checked.
///
/// # Errors
/// The first option that is out of range or goes with no other.
pub fn settings(args: &Recipe) -> Result<Settings> {
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
            return Err(Error::caller("`--fit crop`: expected one size, found several, `auto` or `native`")
                .with_hint("give one, for instance `--size 288`, or another `--fit`"));
        }
        (Some(FitName::Pad), _) => Fit::Pad,
        (Some(FitName::Stretch), _) => Fit::Stretch,
        (_, _) => s.fit,
    };
    if s.scoring == Scoring::Sigmoid && !matches!(s.sizes, Sizes::Fixed(_)) {
        return Err(Error::caller("`--size auto` and `native`: the paper preset looks at one size")
            .with_hint("give one, for instance `--size 288`"));
    }
    if let Some(layers) = &args.feature_layers {
        s.feature_layers.clone_from(layers);
    }
    if let Some(embed_dim) = args.embed_dim {
        s.pooling = Pooling::Adaptive { embed_dim };
    }
    s.false_reject_rate = args.false_reject_rate.unwrap_or(s.false_reject_rate);
    s.folds = args.folds.map_or(s.folds, Folds::Fixed);
    s.neighbours = match args.fuse {
        Some(FuseName::None) => None,
        Some(FuseName::Nearest) => Some(s.neighbours.unwrap_or_default()),
        None => s.neighbours,
    };
    s.augment = args.augment.named();
    s.min_area = args.min_area.unwrap_or(s.min_area);
    s.head.hidden = args.hidden.unwrap_or(s.head.hidden);
    s.head.synthesis_scale = args.synthesis_scale.unwrap_or(s.head.synthesis_scale);
    s.head.length = match (args.epochs, args.steps) {
        (Some(n), _) => Length::Epochs(n),
        (None, Some(n)) => Length::Steps(n),
        (None, None) => longer(s.head.length, s.augment.map_or(1.0, Augment::length_factor)),
    };
    s.head.batch = match (args.batch_size, s.head.batch) {
        (None, batch) => batch,
        (Some(n), Batch::Pictures(_)) => Batch::Pictures(n),
        (Some(n), Batch::Patches(_)) => Batch::Patches(n),
    };
    s.validate()?;
    Ok(s)
}

/// So many times the steps. An epoch, and a pass within its bounds, grows with the set by itself.
fn longer(length: Length, factor: f64) -> Length {
    let times = |n: u64| (n as f64 * factor).round() as u64;
    match length {
        Length::Steps(n) => Length::Steps(times(n)),
        Length::Pass { least, most } => Length::Pass { least: times(least), most: times(most) },
        Length::Epochs(n) => Length::Epochs(n),
    }
}
