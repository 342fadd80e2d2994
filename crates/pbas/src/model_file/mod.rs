//! One self-contained file a model: a safetensors container whose metadata entry `pbas` is JSON. It holds no code and
//! is hostile until validated: sizes, shapes, finite numbers, a checksum over every byte. It is written to a sibling
//! temporary file, synced, then renamed.
//!
//! The file carries a self-test: what the network and the heads gave for a fixed pattern when the model was made. Loading
//! runs it and refuses a machine that disagrees.

mod self_test;

use std::io::Write;
use std::path::{Path, PathBuf};

use half::f16;
use pbas_nn::Precision;
use pbas_nn::graph::Graph;
use pbas_nn::shape::infer;
use pbas_nn::weights::{FileBytes, StoredTensors, Weights, open_safetensors};
use safetensors::tensor::{Dtype, TensorView};
use serde::{Deserialize, Serialize};

use crate::backbone::{Backbone, BackboneInfo};
use crate::calibrate::{Calibration, RATES};
use crate::detector::{Detector, Model, Provenance};
use crate::head::{Discriminator, FeatureScale, Head, Projection};
use crate::image::DecodeOptions;
use crate::neighbours::{Bank, Neighbours, Usual, lookers};
use crate::preprocess::InputSize;
use crate::settings::{Length, MapViews, NeighbourSettings, Settings};
use crate::view::{PatchScale, View};
use crate::{Error, ErrorKind, Result};

/// Latest version of the file's layout. A file of a later one is refused.
///
/// Version 6 is version 5 whose map weighs views or distances by itself; version 5 is version 4 with what is usual at each remembered patch, or with heads that trained for a pass over their patches; version 4 is version 3 with remembered patches or with products in bfloat16; version 3 is version 2 with a region of interest or a least
/// area of regions among the settings. A model without them is written as version 2, which earlier programs read; those would pass over what
/// they do not know, and see the whole picture, or compute otherwise.
pub const FORMAT_VERSION: u32 = 7;
/// Oldest version that is read.
const OLDEST_VERSION: u32 = 2;
/// Largest file that is read.
const MAX_BYTES: u64 = 4 << 30;
/// Metadata key of the description.
const KEY: &str = "pbas";
/// Stands in the header before the checksum (JSON within JSON, hence the backslashes).
const CHECKSUM_MARK: &[u8] = br#"\"crc32\":\""#;
/// Version of the layout that a model is written in.
#[must_use]
pub fn format_version(model: &Model) -> u32 {
    let Settings { neighbours, map_views, precision, head, roi, min_area, .. } = &model.settings;
    let of_neighbours = |known: fn(&NeighbourSettings) -> bool| neighbours.as_ref().is_some_and(known);
    if of_neighbours(|n| n.map_limit.is_some()) {
        FORMAT_VERSION
    } else if of_neighbours(|n| n.map_weight.is_some()) || *map_views != MapViews::Alike {
        6
    } else if of_neighbours(|n| n.usual_weight != 0.0) || matches!(head.length, Length::Pass { .. }) {
        5
    } else if neighbours.is_some() || *precision != Precision::F32 {
        4
    } else if roi.is_some() || *min_area > 0 {
        3
    } else {
        OLDEST_VERSION
    }
}

/// The JSON in the header.
#[derive(Debug, Serialize, Deserialize)]
struct Description {
    /// CRC-32 of the file with these eight digits as zeros.
    crc32: String,
    format_version: u32,
    settings: Settings,
    backbone: BackboneInfo,
    graph: Graph,
    views: Vec<ViewDescription>,
    calibration: Calibration,
    provenance: Provenance,
    /// Mean logit of each head on the pattern, joined by the distances, view after view.
    self_test: Vec<f64>,
}

#[derive(Debug, Serialize, Deserialize)]
struct ViewDescription {
    size: InputSize,
    dim: usize,
    hidden: usize,
    heads: usize,
    standardized: bool,
    scales: Vec<PatchScale>,
    /// Of remembered patches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    neighbours: Option<NeighbourDescription>,
}

#[derive(Debug, Serialize, Deserialize)]
struct NeighbourDescription {
    /// Patches in each bank.
    rows: Vec<usize>,
    deviations: Vec<f64>,
    /// Whether each bank knows what is usual at its patches.
    #[serde(default)]
    usual: bool,
}

/// Writes a model.
///
/// # Errors
/// A folder that is missing or not writable, a full disk; an existing file is then as it was.
pub fn save(model: &Model, path: &Path) -> Result<()> {
    let bytes = to_bytes(model)?;
    // A model that could not be loaded again must not replace one that can.
    from_bytes(&bytes, &path.display().to_string())?;
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let fail = |e: std::io::Error| Error::io("cannot write model", path, e);
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    {
        // A temporary file is for its owner alone; a model is as readable as any other file (umask applies).
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    let mut file = builder.tempfile_in(folder).map_err(fail)?;
    file.write_all(&bytes).map_err(fail)?;
    file.as_file().sync_all().map_err(fail)?;
    file.persist(path).map_err(|e| fail(e.error))?;
    Ok(())
}

/// Reads and validates a model and runs its self-test.
///
/// # Errors
/// An unreadable, damaged or later file, or a machine that computes otherwise.
pub fn load(path: &Path) -> Result<Model> {
    let opened = open(path)?;
    self_test::check(&self_test::of_model(&opened.model)?, &opened.self_test, opened.precision())
        .map_err(|e| in_file(e, path))?;
    Ok(opened.model)
}

/// A model that was read and validated, but has not yet passed its self-test.
#[derive(Debug)]
pub struct OpenedModel {
    model: Model,
    self_test: Vec<f64>,
    path: PathBuf,
}

impl OpenedModel {
    /// How pictures are to be decoded for this model, so that one can be read while the model is made ready.
    #[must_use]
    pub fn decode_options(&self) -> DecodeOptions {
        self.model.decode_options()
    }

    /// Numbers of the network's products, for which the model's threshold holds.
    #[must_use]
    pub fn precision(&self) -> Precision {
        self.model.settings.precision
    }

    /// Makes the model ready to judge pictures and runs its self-test, through the very weights that will judge.
    ///
    /// # Errors
    /// As [`load`] and [`Detector::new`].
    pub fn into_detector(self) -> Result<Detector> {
        let precision = self.precision();
        let detector = Detector::new(self.model)?;
        let found = self_test::of_detector(&detector)
            .and_then(|found| self_test::check(&found, &self.self_test, precision));
        found.map_err(|e| in_file(e, &self.path))?;
        Ok(detector)
    }
}

/// Reads and validates a model; its weights stay in the file, which is mapped into memory and must not be changed in place
/// while it is in use ([`FileBytes::map`]; [`save`] replaces files as a whole).
///
/// # Errors
/// An unreadable, damaged or later file.
pub fn open(path: &Path) -> Result<OpenedModel> {
    let name = path.display().to_string();
    let size = std::fs::metadata(path).map_err(|e| Error::io("cannot read model", path, e))?.len();
    if size > MAX_BYTES {
        return Err(Error::limits(format!(
            "model `{name}`: expected at most {MAX_BYTES} bytes, found {size}"
        )));
    }
    let bytes = FileBytes::map(path)?;
    let (model, self_test) = read(&bytes, &name).map_err(|e| in_file(e, path))?;
    Ok(OpenedModel { model, self_test, path: path.to_owned() })
}

/// Says which model an error is about, and what may help.
fn in_file(e: Error, path: &Path) -> Error {
    let damaged = matches!(e.kind(), ErrorKind::Input | ErrorKind::Limits) && e.hint().is_none();
    let e = e.context(format!("cannot load model `{}`", path.display()));
    if damaged {
        e.with_hint("the file is damaged or was edited by hand; train again or restore a copy")
    } else {
        e
    }
}

/// Centres that score in place of a discriminator are for comparisons, and in no model file.
fn check_discriminators(settings: &Settings) -> Result<()> {
    if settings.head.refinement {
        return Ok(());
    }
    Err(Error::unsupported(
        "model: expected heads whose discriminator scores, found the ablation without RBO, whose score is a distance to centres",
    )
    .with_hint("`pbas bench` judges such models without keeping them"))
}

/// The file's bytes; the same for the same model.
///
/// # Errors
/// A model whose parts do not fit each other, or one without RBO ([`crate::settings::HeadSettings::refinement`]).
pub fn to_bytes(model: &Model) -> Result<Vec<u8>> {
    check_discriminators(&model.settings)?;
    let mut tensors: Vec<(String, Vec<usize>, Dtype, Vec<u8>)> = Vec::new();
    let mut put = |name: String, shape: Vec<usize>, data: &[f32]| {
        // Numbers that float16 holds exactly stay float16: nothing is lost and the file is half as large.
        let halves: Vec<f16> = data.iter().map(|&v| f16::from_f32(v)).collect();
        let may_be_half = name.starts_with("backbone.") || name.ends_with(".rows");
        if may_be_half && halves.iter().zip(data).all(|(h, v)| h.to_f32() == *v) {
            tensors.push((name, shape, Dtype::F16, halves.iter().flat_map(|h| h.to_le_bytes()).collect()));
        } else {
            tensors.push((name, shape, Dtype::F32, data.iter().flat_map(|v| v.to_le_bytes()).collect()));
        }
    };
    for (name, t) in model.backbone.graph.tensors() {
        put(format!("backbone.{name}"), t.shape, &t.data);
    }
    let mut views = Vec::new();
    for (v, view) in model.views.iter().enumerate() {
        for (h, head) in view.heads.iter().enumerate() {
            for (name, shape, data) in head.tensors() {
                put(format!("view{v}.head{h}.{name}"), shape, data);
            }
            if let Some(s) = &head.feature_scale {
                put(format!("view{v}.head{h}.feature_mean"), vec![s.mean.len()], &s.mean);
                put(format!("view{v}.head{h}.feature_deviation"), vec![s.deviation.len()], &s.deviation);
            }
        }
        for (i, bank) in view.neighbours.iter().flat_map(|n| &n.banks).enumerate() {
            let dim = bank.scale.mean.len();
            put(format!("view{v}.bank{i}.rows"), vec![bank.count(), dim], &bank.rows);
            put(format!("view{v}.bank{i}.mean"), vec![dim], &bank.scale.mean);
            put(format!("view{v}.bank{i}.deviation"), vec![dim], &bank.scale.deviation);
            if let Some(usual) = &bank.usual {
                let shape = vec![usual.mean.len() / bank.count(), bank.count()];
                put(format!("view{v}.bank{i}.usual_mean"), shape.clone(), &usual.mean);
                put(format!("view{v}.bank{i}.usual_deviation"), shape, &usual.deviation);
            }
        }
        let first = view.heads.first().ok_or_else(|| Error::input("a view without heads"))?;
        views.push(ViewDescription {
            size: view.size,
            dim: first.projection.dim,
            hidden: first.discriminator.hidden,
            heads: view.heads.len(),
            standardized: first.feature_scale.is_some(),
            scales: view.scales.clone(),
            neighbours: view.neighbours.as_ref().map(|n| NeighbourDescription {
                rows: n.banks.iter().map(Bank::count).collect(),
                deviations: n.deviations.clone(),
                usual: n.banks.iter().all(|b| b.usual.is_some()),
            }),
        });
    }
    let description = Description {
        crc32: "00000000".into(),
        format_version: format_version(model),
        settings: model.settings.clone(),
        backbone: model.backbone.info.clone(),
        graph: model.backbone.graph.clone(),
        views,
        calibration: model.calibration.clone(),
        provenance: model.provenance.clone(),
        self_test: self_test::of_model(model)?,
    };
    let json = serde_json::to_string(&description)
        .map_err(|e| Error::input("cannot describe the model").with_source(e))?;
    let serialized = safetensors::serialize(
        tensors.iter().map(|(name, shape, dtype, data)| {
            let view = TensorView::new(*dtype, shape.clone(), data).expect("bytes made for this shape");
            (name.as_str(), view)
        }),
        Some(std::collections::HashMap::from([(KEY.to_owned(), json)])),
    );
    let mut bytes = serialized.map_err(|e| Error::input("cannot write the container").with_source(e))?;
    let at =
        checksum_position(&bytes).ok_or_else(|| Error::input("the header has no place for its checksum"))?;
    let sum = format!("{:08x}", crc32fast::hash(&bytes));
    bytes[at..at + 8].copy_from_slice(sum.as_bytes());
    Ok(bytes)
}

/// Where the eight digits of the checksum stand.
fn checksum_position(bytes: &[u8]) -> Option<usize> {
    let header = u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?);
    let header = bytes.get(8..8usize.checked_add(usize::try_from(header).ok()?)?)?;
    let at = 8 + header.windows(CHECKSUM_MARK.len()).position(|w| w == CHECKSUM_MARK)? + CHECKSUM_MARK.len();
    bytes.get(at..at + 8).map(|_| at)
}

/// Reads a model from the bytes of its file.
///
/// # Errors
/// As [`load`].
pub fn from_bytes(bytes: &[u8], name: &str) -> Result<Model> {
    let (model, expected) = read(&bytes.to_vec().into(), name)?;
    self_test::check(&self_test::of_model(&model)?, &expected, model.settings.precision)?;
    Ok(model)
}

/// The model and what its self-test has to give. Weights stay where they are in `bytes`.
fn read(bytes: &FileBytes, name: &str) -> Result<(Model, Vec<f64>)> {
    let (mut tensors, metadata) = open_safetensors(bytes, name)?;
    let json = metadata.get(KEY).ok_or_else(|| {
        Error::input(format!("expected a pbas model (metadata `{KEY}`), found another safetensors file"))
            .with_hint("models are made by `pbas train`")
    })?;
    let version =
        serde_json::from_str::<serde_json::Value>(json).ok().and_then(|v| v["format_version"].as_u64());
    if let Some(version) = version.filter(|&v| v < u64::from(OLDEST_VERSION)) {
        return Err(Error::unsupported(format!(
            "expected model format {OLDEST_VERSION} to {FORMAT_VERSION}, found {version}: it was made by an earlier pbas, whose threshold held less"
        ))
        .with_hint("train again from the same pictures"));
    }
    if let Some(version) = version.filter(|&v| v > u64::from(FORMAT_VERSION)) {
        return Err(Error::unsupported(format!(
            "expected model format {OLDEST_VERSION} to {FORMAT_VERSION}, found {version}: it was made by a later pbas"
        ))
        .with_hint("use the version of pbas that made the model, or a later one"));
    }
    let d: Description =
        serde_json::from_str(json).map_err(|e| Error::input("the header is not a model's").with_source(e))?;
    verify_checksum(bytes, &d.crc32)?;
    d.settings.validate()?;
    check_discriminators(&d.settings)?;
    let mut take = |name: String, shape: &[usize]| -> Result<Weights> {
        let t = tensors.remove(&name).ok_or_else(|| Error::input(format!("tensor `{name}` is missing")))?;
        t.expect_shape(&name, shape)?;
        Ok(t.data)
    };
    let mut views = Vec::new();
    if !(1..=8).contains(&d.views.len()) {
        return Err(Error::input(format!("expected 1 to 8 views, found {}", d.views.len())));
    }
    for (v, view) in d.views.iter().enumerate() {
        views.push(read_view(v, view, &mut take)?);
    }
    let mut of_backbone = StoredTensors::new();
    for (name, tensor) in tensors {
        let inner = name.strip_prefix("backbone.");
        let inner = inner.ok_or_else(|| Error::input(format!("tensor `{name}` is not part of a model")))?;
        of_backbone.insert(inner.to_owned(), tensor);
    }
    let graph = d.graph.with_tensors(of_backbone)?;
    infer(&graph, self_test::PATTERN_SIDE, self_test::PATTERN_SIDE)?;
    let n = d.backbone.normalization;
    if !n.mean.iter().chain(&n.std).all(|v| v.is_finite()) || n.std.iter().any(|&s| s <= 0.0) {
        return Err(Error::input(format!(
            "normalisation: expected finite means and positive deviations, found {n:?}"
        )));
    }
    if views.iter().any(|v| v.neighbours.is_some() != d.settings.neighbours.is_some()) {
        return Err(Error::input(
            "remembered patches: expected them in every view or in none, by the settings",
        ));
    }
    let counts = d.settings.neighbours.is_some_and(|n| n.usual_weight != 0.0);
    if views.iter().flat_map(|v| &v.neighbours).flat_map(|n| &n.banks).any(|b| b.usual.is_some() != counts) {
        return Err(Error::input(
            "what is usual at remembered patches: expected it in every bank or in none, by the settings",
        ));
    }
    check_calibration(&d.calibration, &views)?;
    let model = Model {
        backbone: Backbone { graph, info: d.backbone },
        settings: d.settings,
        views,
        calibration: d.calibration,
        provenance: d.provenance,
    };
    Ok((model, d.self_test))
}

fn verify_checksum(bytes: &[u8], expected: &str) -> Result<()> {
    let at = checksum_position(bytes).ok_or_else(|| Error::input("the header has no checksum"))?;
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&bytes[..at]);
    hasher.update(b"00000000");
    hasher.update(&bytes[at + 8..]);
    let found = format!("{:08x}", hasher.finalize());
    if found != expected {
        return Err(Error::input(format!(
            "checksum: expected {expected}, found {found}: some of its bytes have changed"
        )));
    }
    Ok(())
}

/// Takes a tensor by name, or says that it is missing or of another shape.
type Take<'t> = dyn FnMut(String, &[usize]) -> Result<Weights> + 't;

fn read_view(v: usize, d: &ViewDescription, take: &mut Take<'_>) -> Result<View> {
    let range = |what: &str, found: usize, most: usize| {
        if (1..=most).contains(&found) {
            return Ok(());
        }
        Err(Error::input(format!("view {v}: {what}: expected 1 to {most}, found {found}")))
    };
    range("entries of a feature", d.dim, 1 << 16)?;
    range("hidden units", d.hidden, 8192)?;
    range("heads", d.heads, 16)?;
    for side in [d.size.width, d.size.height] {
        if !(32..=4096).contains(&side) {
            return Err(Error::input(format!(
                "view {v}: size: expected 32 to 4096 pixels a side, found {side}"
            )));
        }
    }
    let sound = |mean: f64, deviation: f64| mean.is_finite() && deviation.is_finite() && deviation > 0.0;
    let scale_ok = |s: &PatchScale| sound(s.mean, s.deviation);
    if let Some(s) = d.scales.iter().find(|s| !scale_ok(s)) {
        return Err(Error::input(format!("view {v}: expected a finite scale of scores, found {s:?}")));
    }
    let (n, h) = (d.dim, d.hidden);
    let mut heads = Vec::new();
    for i in 0..d.heads {
        let mut get = |name: &str, shape: &[usize]| take(format!("view{v}.head{i}.{name}"), shape);
        let weights = [get("projection.weight", &[n, n])?, get("discriminator.weight", &[h, n])?];
        let [of_projection, of_discriminator] = weights;
        let mut get = |name: &str, shape: &[usize]| get(name, shape).map(|w| w.to_vec());
        heads.push(Head {
            projection: Projection { dim: n, weight: of_projection, bias: get("projection.bias", &[n])? },
            discriminator: Discriminator {
                dim: n,
                hidden: h,
                weight: of_discriminator,
                bias: get("discriminator.bias", &[h])?,
                norm_weight: get("discriminator.norm_weight", &[h])?,
                norm_bias: get("discriminator.norm_bias", &[h])?,
                running_mean: get("discriminator.running_mean", &[h])?,
                running_var: get("discriminator.running_var", &[h])?,
                output: get("discriminator.output", &[1, h])?,
            },
            feature_scale: if d.standardized {
                let (mean, deviation) = (get("feature_mean", &[n])?, get("feature_deviation", &[n])?);
                if deviation.iter().any(|&d| d <= 0.0) {
                    return Err(Error::input(format!("view {v}: expected positive feature deviations")));
                }
                Some(FeatureScale { mean, deviation })
            } else {
                None
            },
            distance: None,
        });
    }
    if d.scales.len() != d.heads {
        return Err(Error::input(format!(
            "view {v}: expected {} scales of heads, found {}",
            d.heads,
            d.scales.len()
        )));
    }
    let neighbours =
        d.neighbours.as_ref().map(|n| read_neighbours(v, n, (d.dim, d.heads), take)).transpose()?;
    Ok(View { size: d.size, heads, neighbours, scales: d.scales.clone() })
}

fn read_neighbours(
    v: usize,
    d: &NeighbourDescription,
    (dim, heads): (usize, usize),
    take: &mut Take<'_>,
) -> Result<Neighbours> {
    let counted = d.rows.len() == heads && d.rows.iter().all(|r| (1..=1 << 20).contains(r));
    let sound = d.deviations.len() == heads && d.deviations.iter().all(|s| s.is_finite() && *s > 0.0);
    if !counted || !sound {
        return Err(Error::input(format!(
            "view {v}: expected for each of {heads} heads a bank of patches and a positive deviation, found {:?} and {:?}",
            d.rows, d.deviations
        )));
    }
    let bank = |(i, &count): (usize, &usize)| {
        let mut get = |name: &str, shape: &[usize]| take(format!("view{v}.bank{i}.{name}"), shape);
        let rows = get("rows", &[count, dim])?;
        let (mean, deviation) = (get("mean", &[dim])?.to_vec(), get("deviation", &[dim])?.to_vec());
        let usual = if d.usual {
            let shape = [lookers(heads), count];
            Some(Usual { mean: get("usual_mean", &shape)?, deviation: get("usual_deviation", &shape)? })
        } else {
            None
        };
        if deviation.iter().chain(usual.iter().flat_map(|u| &*u.deviation)).any(|&d| d <= 0.0) {
            return Err(Error::input(format!(
                "view {v}: expected positive deviations of remembered patches"
            )));
        }
        Ok(Bank { scale: FeatureScale { mean, deviation }, rows, usual })
    };
    let banks = d.rows.iter().enumerate().map(bank).collect::<Result<Vec<_>>>()?;
    Ok(Neighbours { banks, deviations: d.deviations.clone() })
}

fn check_calibration(c: &Calibration, views: &[View]) -> Result<()> {
    let finite = [c.threshold, c.pixel_threshold];
    let samples = c.heads.iter().chain(&c.together).chain([&c.peaks]);
    let sound = samples.clone().all(|s| !s.is_empty() && s.ascending().iter().all(|v| v.is_finite()));
    if !finite.iter().all(|v| v.is_finite()) || !sound || !RATES.contains(&c.false_reject_rate) {
        return Err(Error::input(format!(
            "calibration: expected finite numbers and scores of good pictures, found thresholds {finite:?} at a rate of {}",
            c.false_reject_rate
        )));
    }
    if let Some(view) = views.iter().find(|v| v.heads.len() != c.heads.len()) {
        return Err(Error::input(format!(
            "calibration: expected scores for each of {} heads, found them for {}",
            view.heads.len(),
            c.heads.len()
        )));
    }
    Ok(())
}
