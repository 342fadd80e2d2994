//! `pbas info`: what is in a model file.

use std::path::Path;

use pbas::calibrate::Calibration;
use pbas::detector::Model;
use pbas::features::Extractor;
use pbas::model_file;
use pbas::neighbours::Bank;
use pbas::patch::Pooling;
use pbas::preprocess::Fit;
use pbas::roi::Roi;
use pbas::settings::{Augment, Batch, CenterRule, Length, Preset, Scoring};
use pbas::words::{counted, percent};
use pbas::{Error, ErrorKind, Isa, Precision, Result};
use serde_json::json;

use crate::args::Info;
use crate::output::{Status, bytes, data};

/// Runs the command.
///
/// # Errors
/// The model is at fault.
pub fn run(args: &Info) -> Result<Status> {
    let model = model_file::load(&args.model)?;
    let size =
        std::fs::metadata(&args.model).map_err(|e| Error::io("cannot read model", &args.model, e))?.len();
    let views = views(&model)?;
    let text = if args.json {
        let value = as_json(&args.model, size, &model, &views);
        let text = serde_json::to_string_pretty(&value);
        text.map_err(|e| Error::new(ErrorKind::Io, "cannot write the description").with_source(e))? + "\n"
    } else {
        as_text(&args.model, size, &model, &views)
    };
    data(text.as_bytes())?;
    Ok(Status::Done)
}

/// What a threshold promises, in plain words.
pub fn promise(c: &Calibration) -> String {
    let p = c.promise();
    let n = counted(p.pictures, "good picture");
    let wanted = percent(p.false_reject_rate);
    let (Some(proven), Some(confident)) = (p.proven_rate, p.confident_rate) else {
        return format!(
            "set for {wanted} of good parts by {n}, which the head had seen in training: it promises nothing of new pictures; train \
             with more"
        );
    };
    if p.is_proven() {
        return format!(
            "rejects at most {wanted} of good parts like the {n} behind it (proven; with 95 % confidence at most {} in the long run)",
            percent(confident)
        );
    }
    format!(
        "set for {wanted} of good parts, an estimate: {n} prove at most {}; {} more would prove {wanted}",
        percent(proven),
        p.pictures_needed.saturating_sub(p.pictures)
    )
}

/// What is said of a view.
struct ViewFacts {
    width: usize,
    height: usize,
    /// Rows and columns of patches.
    grid: (usize, usize),
    heads: usize,
    feature_entries: usize,
    hidden: usize,
    /// Good patches that are remembered.
    remembered: usize,
}

fn views(model: &Model) -> Result<Vec<ViewFacts>> {
    let facts = model.views.iter().map(|view| {
        let extractor = Extractor::for_view(&model.backbone, view.size, &model.settings)?;
        Ok(ViewFacts {
            width: view.size.width,
            height: view.size.height,
            grid: extractor.embedding().grid(),
            heads: view.heads.len(),
            feature_entries: extractor.embedding().dim(),
            hidden: view.heads.first().map_or(0, |h| h.discriminator.hidden),
            remembered: view.neighbours.iter().flat_map(|n| &n.banks).map(Bank::count).sum(),
        })
    });
    facts.collect()
}

fn as_json(path: &Path, size: u64, model: &Model, views: &[ViewFacts]) -> serde_json::Value {
    let of_view = |(facts, view): (&ViewFacts, &pbas::view::View)| {
        json!({
            "width": facts.width,
            "height": facts.height,
            "grid_width": facts.grid.1,
            "grid_height": facts.grid.0,
            "heads": facts.heads,
            "feature_entries": facts.feature_entries,
            "hidden": facts.hidden,
            "remembered_patches": facts.remembered,
            "scales": view.scales,
        })
    };
    json!({
        "path": path.display().to_string(),
        "bytes": size,
        "format_version": model_file::format_version(model),
        "precision": model.settings.precision,
        "backbone": model.backbone.info,
        "settings": model.settings,
        "views": views.iter().zip(&model.views).map(of_view).collect::<Vec<_>>(),
        "calibration": model.calibration,
        "promise": model.calibration.promise(),
        "provenance": model.provenance,
    })
}

fn as_text(path: &Path, size: u64, model: &Model, views: &[ViewFacts]) -> String {
    let (b, s, h, p) = (&model.backbone.info, &model.settings, &model.settings.head, &model.provenance);
    let c = &model.calibration;
    let mut lines: Vec<(&str, String)> = vec![
        (
            "model",
            format!("{}, {}, format {}", path.display(), bytes(size), model_file::format_version(model)),
        ),
        ("made by", format!("pbas {}", p.program_version)),
        ("pictures", format!("{} used, {} left out as unreadable", p.pictures, p.skipped)),
        ("  sha256", p.pictures_sha256.clone()),
        ("backbone", format!("{}, {}", b.name, b.source)),
        ("  licence", b.licence.clone()),
        ("  sha256", b.weights_sha256.clone()),
        ("  layers", s.feature_layers.join(", ")),
        ("precision", precision(s.precision)),
    ];
    for v in views {
        let text = format!(
            "{} x {} pixels, {} x {} patches of {} entries, {} with {} hidden units",
            v.width,
            v.height,
            v.grid.1,
            v.grid.0,
            v.feature_entries,
            counted(v.heads, "head"),
            v.hidden
        );
        lines.push(("view", text));
        if v.remembered > 0 {
            lines.push(("", format!("and the distance to the nearest of {} good patches", v.remembered)));
        }
    }
    if let Some(roi) = &s.roi {
        lines.push(("region", region(roi)));
    }
    let preset = match s.preset {
        Preset::Fast => "fast",
        Preset::Paper => "paper",
    };
    lines.extend([
        ("preset", format!("{preset}, seed {}", s.seed)),
        ("  fit", fit(s.fit)),
        ("  pooling", pooling(s.pooling)),
        ("  centres", centres(h.centers)),
        ("  training", format!("{}, {}", length(h.length), batch(h.batch))),
        ("  synthesis", scale(h.synthesis_scale)),
    ]);
    lines.extend(s.augment.map(|a| ("  augment", augment(a))));
    lines.extend([
        ("scores", scores(s.scoring)),
        ("threshold", format!("{:.4}: {}", c.threshold, promise(c))),
        (
            "  of pixels",
            format!(
                "{:.4}: a region in the map of about {} of good parts",
                c.pixel_threshold,
                percent(c.false_reject_rate)
            ),
        ),
    ]);
    if s.min_area > 0 {
        lines.push(("  regions", format!("of at least {} of the picture", counted(s.min_area, "pixel"))));
    }
    for old in &c.history {
        let rate = percent(old.false_reject_rate);
        lines.push((
            "  before",
            format!("{:.4} for {rate}, by {}", old.threshold, counted(old.pictures, "good picture")),
        ));
    }
    lines.iter().map(|(name, text)| format!("{name:<12} {text}\n")).collect()
}

/// A precision in words.
fn precision(precision: Precision) -> String {
    let imitated = match Isa::current() {
        Ok(isa) if precision == Precision::Bf16 && !isa.has_bf16() => {
            ", imitated: this processor has no instructions for it"
        }
        _ => "",
    };
    format!("{precision}{imitated}")
}

/// A region of interest in words.
pub fn region(roi: &Roi) -> String {
    let [r, g, b] = roi.fill_colour();
    format!(
        "of interest `{}`, {} pixels: {} of the picture; the rest is painted ({r}, {g}, {b}) and not looked at",
        roi.source(),
        roi.size(),
        percent(roi.share())
    )
}

fn fit(fit: Fit) -> String {
    match fit {
        Fit::Stretch => "stretch to the size".into(),
        Fit::Crop { resize } => format!("shorter side to {resize} pixels, centre cut out"),
        Fit::Pad => "whole picture fitted in, rest filled with its mean colour".into(),
    }
}

fn pooling(pooling: Pooling) -> String {
    match pooling {
        Pooling::Channels => "mean of each channel over 3 x 3 positions".into(),
        Pooling::Adaptive { embed_dim } => format!("published adaptive pooling to {embed_dim} entries"),
    }
}

fn augment(augment: Augment) -> String {
    match augment {
        Augment::Light => "beside each picture a copy, changed a little",
        Augment::Strong => "beside each picture three copies, changed more",
        Augment::Rotations => "beside each picture three copies, rotated by any angle",
    }
    .to_owned()
}

fn centres(rule: CenterRule) -> String {
    match rule {
        CenterRule::Positions => "one a position, aligned before training".into(),
        CenterRule::Mean => "one for all, the mean patch".into(),
        CenterRule::Neighbours(n) => format!("the nearest of {n} patches"),
    }
}

fn length(length: Length) -> String {
    match length {
        Length::Epochs(n) => format!("{n} epochs a head"),
        Length::Steps(n) => format!("{n} steps a head"),
        Length::Pass { least, most } => format!("a pass over the patches a head, {least} to {most} steps"),
    }
}

fn batch(batch: Batch) -> String {
    match batch {
        Batch::Pictures(n) => format!("{n} pictures a step"),
        Batch::Patches(n) => format!("{n} patches a step"),
    }
}

fn scale([low, high]: [f32; 2]) -> String {
    if low == high { format!("k = {low}") } else { format!("k from {low} to {high}") }
}

fn scores(scoring: Scoring) -> String {
    match scoring {
        Scoring::Sigmoid => "sigmoid of the highest patch, 0 to 1".into(),
        Scoring::Rarity { top_share } => {
            format!(
                "rarity among good parts, -log10 of a probability (2: one in 100), by the highest {} of the patches",
                percent(top_share)
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn promises_say_what_the_scores_support() {
        let c = |n: u32, held_out, rate| {
            let scores = (0..n).map(f64::from).collect::<Vec<_>>().into();
            let scoring = Scoring::Rarity { top_share: 0.01 };
            Calibration::new(vec![scores], vec![1.0].into(), held_out, rate, scoring).unwrap()
        };
        assert_eq!(
            promise(&c(99, true, 0.01)),
            "rejects at most 1 % of good parts like the 99 good pictures behind it (proven; with 95 % confidence at most 3 % in \
             the long run)"
        );
        assert_eq!(
            promise(&c(31, true, 0.01)),
            "set for 1 % of good parts, an estimate: 31 good pictures prove at most 3.1 %; 68 more would prove 1 %"
        );
        assert!(promise(&c(1, false, 0.01)).contains("1 good picture, which the head had seen"));
    }
}
