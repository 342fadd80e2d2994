//! Trains on a set in MVTec layout and writes what every head says of every patch of every picture, good and test, so that
//! ways to make scores of it can be compared without training again (docs/recipe.md).
//!
//! `cargo run --release -p pbas --example evidence -- SET OUT.safetensors [SETTINGS_JSON]`
//!
//! `SETTINGS_JSON` overrides settings of the preset `fast`, for instance `{"folds": 5, "head": {"length": {"steps": 800}}}`;
//! `{"ladder": [1, 0.7071, 0.5]}` makes a view of each share of the median shorter side (to a multiple of 32).
//!
//! The file holds for each view `v`: `logits.v`, `[pictures, positions, heads]`, float16, and `means.v`, `[pictures, 2 x dim]`: mean and
//! deviation of each pooled entry over the picture; with `{"features": true}` also `pooled.v`, `[pictures, pooled entries]`. Its metadata names the pictures, good ones first, with label, and for good ones the
//! head that has not seen it. Masks are not read: pixel figures come from `pbas eval`.

use std::collections::HashMap;
use std::error::Error;
use std::path::{Path, PathBuf};

use half::f16;
use pbas::backbone::Backbone;
use pbas::dataset::{Label, good_pictures, test_set};
use pbas::doctor::features::whole_picture;
use pbas::features::{ExtractScratch, Extractor};
use pbas::head::GridHead;
use pbas::image::{DecodeOptions, dimensions, read_rgb};
use pbas::preprocess::InputSize;
use pbas::settings::{Preset, Settings, Sizes};
use pbas::train::{TrainJob, observer::Silent, train};
use pbas_nn::linalg::Threads;
use rayon::prelude::*;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};

/// Logits of one picture, moments of its features, and the features where they are wanted.
type Evidence = (Vec<f32>, Vec<f32>, Vec<f16>);

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (set, out, mut overrides) = match &args[..] {
        [set, out] => (set, out, json!({})),
        [set, out, overrides] => (set, out, serde_json::from_str(overrides)?),
        _ => return Err("usage: evidence SET OUT.safetensors [SETTINGS_JSON]".into()),
    };
    let set = Path::new(set);
    let features = overrides.as_object_mut().and_then(|o| o.remove("features")).is_some_and(|v| v == true);
    let good = good_pictures(set)?;
    let settings = settings(overrides, &good)?;
    let backbone = Backbone::embedded()?;
    let job = TrainJob {
        pictures: &good,
        backbone: backbone.clone(),
        settings,
        cache_limit: 4 << 30,
        temp_dir: None,
        checkpoints: None,
        resume: false,
    };
    let training = train(job, &Silent)?;
    if !training.skipped.is_empty() {
        return Err("a good picture cannot be read".into());
    }
    let (model, test) = (training.model, test_set(set)?);
    let settings = &model.settings;
    let mut pictures: Vec<Value> = Vec::new();
    for (path, head) in good.iter().zip(&training.calibrates) {
        pictures.push(json!({ "name": path.file_name().map(|n| n.to_string_lossy()), "split": "good", "unseen_by": head }));
    }
    for sample in &test.samples {
        let label = u8::from(sample.label == Label::Defective);
        pictures.push(json!({ "name": sample.name, "split": "test", "label": label }));
    }
    let all: Vec<&PathBuf> = good.iter().chain(test.samples.iter().map(|s| &s.path)).collect();
    let mut tensors: Vec<(String, Vec<usize>, Vec<u8>)> = Vec::new();
    let mut sizes = Vec::new();
    for (v, view) in model.views.iter().enumerate() {
        let extractor = Extractor::for_view(&backbone, view.size, settings)?;
        let head = GridHead::new(&view.heads.iter().collect::<Vec<_>>(), extractor.embedding())?;
        let one = |path: &&PathBuf| -> Result<Evidence, pbas::Error> {
            let picture = read_rgb(path, &DecodeOptions::default())?;
            let (pooled, _) = extractor.extract(&picture, &mut ExtractScratch::default(), Threads::One)?;
            let moments = whole_picture(&pooled, extractor.embedding());
            let kept = if features { pooled.iter().map(|&x| f16::from_f32(x)).collect() } else { Vec::new() };
            Ok((head.logits(&pooled, Threads::One), moments, kept))
        };
        let results = all.par_iter().map(one).collect::<Result<Vec<_>, _>>()?;
        let halves = |values: &[f32]| -> Vec<u8> {
            values.iter().flat_map(|&x| f16::from_f32(x).to_le_bytes()).collect()
        };
        let positions = results[0].0.len() / head.heads();
        tensors.push((
            format!("logits.{v}"),
            vec![all.len(), positions, head.heads()],
            results.iter().flat_map(|r| halves(&r.0)).collect(),
        ));
        tensors.push((
            format!("means.{v}"),
            vec![all.len(), results[0].1.len()],
            results.iter().flat_map(|r| halves(&r.1)).collect(),
        ));
        if features {
            let bytes = results.iter().flat_map(|r| r.2.iter().flat_map(|x| x.to_le_bytes())).collect();
            tensors.push((format!("pooled.{v}"), vec![all.len(), results[0].2.len()], bytes));
        }
        sizes.push(json!([view.size.height, view.size.width]));
    }
    let metadata = json!({ "pictures": pictures, "sizes": sizes, "settings": settings }).to_string();
    let views = tensors
        .iter()
        .map(|(name, shape, bytes)| Ok((name, TensorView::new(Dtype::F16, shape.clone(), bytes)?)));
    let views = views.collect::<Result<Vec<_>, safetensors::SafeTensorError>>()?;
    safetensors::serialize_to_file(
        views,
        Some(HashMap::from([("evidence".to_owned(), metadata)])),
        Path::new(out),
    )?;
    Ok(())
}

/// The preset `fast` with overrides, and the sizes of a ladder resolved.
fn settings(mut overrides: Value, good: &[PathBuf]) -> Result<Settings, Box<dyn Error>> {
    let ladder = overrides.as_object_mut().and_then(|o| o.remove("ladder"));
    // Logits of the heads alone: what is added to them can be computed from the features.
    let mut value = serde_json::to_value(Settings { neighbours: None, ..Settings::preset(Preset::Fast) })?;
    merge(&mut value, overrides);
    let mut settings: Settings = serde_json::from_value(value)?;
    if let Some(ladder) = ladder {
        let shares: Vec<f64> = serde_json::from_value(ladder)?;
        let mut sides: Vec<usize> = good
            .iter()
            .map(|p| dimensions(p, &DecodeOptions::default()).map(|(w, h)| w.min(h)))
            .collect::<Result<_, _>>()?;
        sides.sort_unstable();
        let side = sides[sides.len() / 2] as f64;
        let rung = |share: &f64| (((side * share) / 32.0).round() as usize * 32).clamp(96, 1024);
        let mut rungs: Vec<usize> = shares.iter().map(rung).collect();
        rungs.dedup();
        settings.sizes = Sizes::Fixed(rungs.into_iter().map(|s| InputSize { height: s, width: s }).collect());
    }
    Ok(settings)
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(a), Value::Object(b)) => {
            // An enum is an object of one entry: another variant replaces it.
            if a.len() == 1 && b.len() == 1 && a.keys().ne(b.keys()) {
                *a = b;
                return;
            }
            b.into_iter().for_each(|(k, v)| merge(a.entry(k).or_insert(Value::Null), v));
        }
        (a, b) => *a = b,
    }
}
