//! The whole detector as one ONNX graph: pictures in, image score and score map out, for runtimes that read ONNX.
//!
//! Everything that a verdict needs is inside: normalisation, the network, all views and heads, the calibration. What is linear is folded as it
//! is for our own engine, so the graph computes the same numbers up to rounding; docs/export.md says how far apart they are.

mod backbone;
mod neighbours;
mod resample;
mod resize;
mod score;
mod view;

use std::ops::RangeInclusive;

use prost::Message;
use serde_json::json;

use crate::detector::Detector;
use crate::onnx::proto::{ModelProto, OperatorSetIdProto, StringStringEntryProto};
use crate::onnx::{Attribute, Element, Extent, GraphBuilder, Value};
use crate::preprocess::{Fit, Geometry, InputSize};
use crate::settings::Scoring;
use crate::view::ViewRunner;
use crate::{Error, Precision, Result};
use backbone::Network;

/// Versions of ONNX's operator set that can be written.
pub const OPSETS: RangeInclusive<u32> = 18..=28;
/// The version that is written unless another is asked for: the lowest, which most runtimes read.
pub const DEFAULT_OPSET: u32 = 18;
/// Name of the output `[batch]`, float32: what [`crate::detector::Prediction::image_score`] is.
pub const IMAGE_SCORE: &str = "image_score";
/// Name of the output `[batch, height, width]`, float32: what [`crate::detector::Prediction::map`] is.
pub const SCORE_MAP: &str = "score_map";
/// Protobuf messages end here.
const MAX_BYTES: usize = i32::MAX as usize;
/// Name of the batch's axis.
const BATCH: &str = "batch";

/// What the graph is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Input {
    /// For each view a picture at its size, float32 `[batch, 3, height, width]`, R G B on 0..255. The caller resizes.
    #[default]
    View,
    /// One picture of any size, float32 `[batch, 3, height, width]`, R G B in whole numbers 0..255. The graph resizes.
    Any,
    /// One picture of any size, uint8 `[batch, height, width, 3]`, R G B, as decoders give it. The graph resizes.
    AnyBytes,
}

impl Input {
    /// By what name it is known on the command line and in the metadata.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::View => "view",
            Self::Any => "any",
            Self::AnyBytes => "any-bytes",
        }
    }
}

/// How a detector is exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// What the graph is given.
    pub input: Input,
    /// Version of ONNX's operator set, one of [`OPSETS`].
    pub opset: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self { input: Input::default(), opset: DEFAULT_OPSET }
    }
}

/// Refuses a version of the operator set that cannot be written.
///
/// # Errors
/// A version outside [`OPSETS`].
pub fn check_opset(opset: u32) -> Result<()> {
    if OPSETS.contains(&opset) {
        return Ok(());
    }
    Err(Error::caller(format!("opset: expected {} to {}, found {opset}", OPSETS.start(), OPSETS.end()))
        .with_hint(format!("{DEFAULT_OPSET} is read by the most runtimes")))
}

/// The bytes of the ONNX file; the same for the same model and options.
///
/// # Errors
/// An unknown opset, a model with a region of interest or in bfloat16, or one of more than 2 GiB, which ONNX cannot hold in one file.
pub fn to_onnx(detector: &Detector, options: &Options) -> Result<Vec<u8>> {
    let model = to_model(detector, options)?;
    let length = model.encoded_len();
    if length > MAX_BYTES {
        return Err(Error::limits(format!("ONNX model: expected at most {MAX_BYTES} bytes, found {length}")));
    }
    Ok(model.encode_to_vec())
}

/// The ONNX model as a message.
///
/// # Errors
/// As [`to_onnx`].
pub fn to_model(detector: &Detector, options: &Options) -> Result<ModelProto> {
    check_opset(options.opset)?;
    let model = detector.model();
    if let Some(roi) = &model.settings.roi {
        return Err(Error::unsupported(format!(
            "export: expected a model without a region of interest, found one with `{}`, which the graph cannot hold yet",
            roi.source()
        )));
    }
    if model.settings.precision != Precision::F32 {
        return Err(Error::unsupported(format!(
            "export: expected a model in f32, found one in {}: the graph computes in float32, for which its threshold was not set",
            model.settings.precision
        ))
        .with_hint("train the model with `--precision f32`"));
    }
    if !model.settings.head.refinement {
        return Err(Error::unsupported(
            "export: expected heads whose discriminator scores, found the ablation without RBO, whose score is a distance to centres",
        ));
    }
    let scoring = model.settings.scoring;
    let mut b = GraphBuilder::new("pbas");
    let sizes: Vec<InputSize> = model.views.iter().map(|v| v.size).collect();
    let inputs = Inputs::new(&mut b, options.input, &sizes);
    let names: Vec<&str> = model.settings.feature_layers.iter().map(String::as_str).collect();
    let network = Network::new(&mut b, model.backbone.graph.select(&names)?);
    let (mut scores, mut map): (Option<Value>, Option<Value>) = (None, None);
    let all_weights: f32 = detector.runners().iter().map(ViewRunner::map_weight).sum();
    for (i, (view, runner)) in model.views.iter().zip(detector.runners()).enumerate() {
        b.scope(&format!("view{i}"));
        let picture = match options.input {
            Input::View => inputs.values[i].clone(),
            Input::Any | Input::AnyBytes => {
                let geometry = Geometry { fit: model.settings.fit, size: view.size };
                resize::lay_out(&mut b, &inputs.values[0], &geometry)
            }
        };
        let normalization = &model.backbone.info.normalization;
        let map_share = runner.map_weight() / all_weights;
        let found =
            view::add(&mut b, &network, (view, runner), normalization, (scoring, map_share), &picture)?;
        b.scope("score");
        scores = Some(add(&mut b, "scores", scores, found.scores));
        map = Some(add(&mut b, "map_sum", map, found.map));
    }
    let (Some(scores), Some(map)) = (scores, map) else {
        return Err(Error::input("model: expected at least one view, found none"));
    };
    let axis = b.ints("map_axis", &[1], &[1]);
    let map = b.node("map", "Squeeze", &[&map, &axis], &[]);
    let score = score::image_score(&mut b, &model.calibration, scoring, &scores);
    let size = detector.map_size();
    b.output(IMAGE_SCORE, &score, Element::F32, &[Extent::Named(BATCH)]);
    let of_map = [Extent::Named(BATCH), Extent::Fixed(size.height), Extent::Fixed(size.width)];
    b.output(SCORE_MAP, &map, Element::F32, &of_map);
    Ok(ModelProto {
        ir_version: Some(ir_version(options.opset)),
        producer_name: Some("pbas".into()),
        producer_version: Some(env!("CARGO_PKG_VERSION").into()),
        opset_import: vec![OperatorSetIdProto {
            domain: Some(String::new()),
            version: Some(options.opset.into()),
        }],
        metadata_props: metadata(detector, options.input, &inputs.names),
        graph: Some(b.finish()),
        ..ModelProto::default()
    })
}

/// The sum so far and one more.
fn add(b: &mut GraphBuilder, hint: &str, sum: Option<Value>, more: Value) -> Value {
    match sum {
        None => more,
        Some(sum) => b.node(hint, "Add", &[&sum, &more], &[]),
    }
}

/// The graph's inputs: for each view its name, and the pictures to start from (one for each view, or one for all).
struct Inputs {
    names: Vec<String>,
    values: Vec<Value>,
}

impl Inputs {
    fn new(b: &mut GraphBuilder, input: Input, sizes: &[InputSize]) -> Self {
        let (batch, any) = (Extent::Named(BATCH), [Extent::Named("height"), Extent::Named("width")]);
        let channels = Extent::Fixed(3);
        let one = |value| Self { names: vec!["image".into(); sizes.len()], values: vec![value] };
        match input {
            Input::View => {
                let names = input_names(sizes);
                let mut values: Vec<Value> = Vec::new();
                for (i, (name, size)) in names.iter().zip(sizes).enumerate() {
                    // Views of one size share their input.
                    let shared = names[..i].iter().position(|n| n == name).map(|n| values[n].clone());
                    let shape = [batch, channels, Extent::Fixed(size.height), Extent::Fixed(size.width)];
                    values.push(shared.unwrap_or_else(|| b.input(name, Element::F32, &shape)));
                }
                Self { names, values }
            }
            Input::Any => one(b.input("image", Element::F32, &[batch, channels, any[0], any[1]])),
            Input::AnyBytes => {
                let bytes = b.input("image", Element::U8, &[batch, any[0], any[1], channels]);
                let order = [("perm", Attribute::Ints(&[0, 3, 1, 2]))];
                let planes = b.node("planes", "Transpose", &[&bytes], &order);
                one(b.node("picture", "Cast", &[&planes], &[("to", Attribute::Type(Element::F32))]))
            }
        }
    }
}

/// Names of the views' inputs: `image` where all views have one size, else `image_512` or `image_640x480` (width x height).
fn input_names(sizes: &[InputSize]) -> Vec<String> {
    let name = |s: &InputSize| match s.width == s.height {
        true => format!("image_{}", s.width),
        false => format!("image_{}x{}", s.width, s.height),
    };
    if sizes.iter().all(|s| *s == sizes[0]) {
        return vec!["image".into(); sizes.len()];
    }
    sizes.iter().map(name).collect()
}

/// The version of the file format that came with a version of the operator set.
fn ir_version(opset: u32) -> i64 {
    match opset {
        ..=18 => 8,
        19..=20 => 9,
        21..=22 => 10,
        23 => 11,
        24 => 12,
        25..=27 => 13,
        _ => 14,
    }
}

fn metadata(detector: &Detector, input: Input, names: &[String]) -> Vec<StringStringEntryProto> {
    let model = detector.model();
    let calibration = &model.calibration;
    let views = model.views.iter().zip(names);
    let views: Vec<_> = views
        .map(|(v, name)| json!({"input": name, "width": v.size.width, "height": v.size.height}))
        .collect();
    let fit = match model.settings.fit {
        Fit::Stretch => json!({"kind": "stretch"}),
        Fit::Crop { resize } => json!({"kind": "crop", "resize": resize}),
        Fit::Pad => json!({"kind": "pad"}),
    };
    let scoring = match model.settings.scoring {
        Scoring::Sigmoid => "sigmoid",
        Scoring::Rarity { .. } => "rarity",
    };
    let entries = [
        ("pbas_version", env!("CARGO_PKG_VERSION").to_owned()),
        ("trained_by", model.provenance.program_version.clone()),
        ("threshold", calibration.threshold.to_string()),
        ("pixel_threshold", calibration.pixel_threshold.to_string()),
        ("false_reject_rate", calibration.false_reject_rate.to_string()),
        ("scoring", scoring.to_owned()),
        ("min_area", model.settings.min_area.to_string()),
        ("input", input.name().to_owned()),
        ("views", json!(views).to_string()),
        ("fit", fit.to_string()),
        ("apply_orientation", model.settings.apply_orientation.to_string()),
        ("outputs", json!([IMAGE_SCORE, SCORE_MAP]).to_string()),
        ("backbone", model.backbone.info.name.clone()),
        ("backbone_licence", model.backbone.info.licence.clone()),
    ];
    let entry = |(key, value): (&str, String)| StringStringEntryProto {
        key: Some(key.to_owned()),
        value: Some(value),
    };
    entries.map(entry).to_vec()
}
