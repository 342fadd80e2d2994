//! EfficientNet-Lite against figures of the PyTorch reference (golden files `efficientnet_lite*`: the sampled output of
//! the last block of every stage, and mean, standard deviation, least and largest value of the whole output), the engines
//! against each other on the embedded network, and weight files that must be refused.
//!
//! Errors are the largest difference of a tensor's values in units of its standard deviation.
//!
//! The embedded weights are tested always. The float32 weight files of the packages are not part of this repository: their test runs
//! where `PBAS_WEIGHTS_DIR` names a folder that holds them, at any depth (`.ci/run` fetches them).

mod common;

use std::path::{Path, PathBuf};

use common::{Golden, folder};
use pbas::backbone::Backbone;
use pbas::error::chain;
use pbas::image::{DecodeOptions, Rgb8, read_rgb};
use pbas::preprocess::{Fit, Geometry, InputSize, Normalization};
use pbas::{Error, ErrorKind};
use pbas_nn::Precision;
use pbas_nn::engine::cpu::{Plan, Workspace};
use pbas_nn::engine::reference;
use pbas_nn::graph::{Op, Padding};
use pbas_nn::linalg::Threads;
use pbas_nn::shape::Shape;
use pbas_nn::weights::{self, NamedTensors, Tensor};

/// float32 against float32 in another order of summation. Measured: 1.0e-5.
const TOLERANCE: f64 = 1e-4;
/// What rounding the folded weights to float16 (by 2^-12 of each at most) may move. Measured: 1.5e-2 for a value (3.6e-3 for
/// the root of the mean square), 1.4e-2 for a statistic.
const TOLERANCE_F16: f64 = 3e-2;
/// Root of the mean squared difference that one grey level here and there makes. Measured: 4.2e-3,
/// most of it float16.
const TOLERANCE_ROAD: f64 = 1e-2;
/// The same with products in bfloat16: mean of the squared differences, in deviations.
const TOLERANCE_BF16: f64 = 4e-2;
/// Side of the golden files' input.
const SIDE: usize = 288;
/// They hold every third row and column.
const EVERY: usize = 3;

/// `picture.png` resized and cropped to the byte as the reference had it, by Pillow. Ours differs by one grey level
/// here and there (tests/preprocess.rs), which would hide errors of the network below [`TOLERANCE`].
fn picture() -> Rgb8 {
    let picture = read_rgb(&folder().join("picture.png"), &DecodeOptions::default()).unwrap();
    let (w, h) = (picture.width, picture.height);
    let longer = |side: usize| SIDE * side / w.min(h);
    let (width, height) = (longer(w), longer(h));
    let rows: Vec<u8> =
        picture.data.chunks_exact(3 * w).flat_map(|row| pillow_resample(row, w, 3, width)).collect();
    let all = pillow_resample(&rows, h, 3 * width, height);
    let start = |side: usize| ((side - SIDE) as f64 / 2.0).round_ties_even() as usize;
    let mut data = Vec::new();
    for y in start(height)..start(height) + SIDE {
        data.extend(&all[3 * (y * width + start(width))..][..3 * SIDE]);
    }
    Rgb8 { width: SIDE, height: SIDE, data }
}

/// Pillow's antialiased bilinear along the outer of two axes, `[source, inner]` bytes -> `[target, inner]`: a triangle of
/// weights in float64, rounded to 22 binary digits, summed as integers (its `Resample.c`).
fn pillow_resample(data: &[u8], source: usize, inner: usize, target: usize) -> Vec<u8> {
    const BITS: u32 = 22;
    let scale = source as f64 / target as f64;
    let support = scale.max(1.0);
    let mut out = Vec::with_capacity(target * inner);
    for i in 0..target {
        let centre = (i as f64 + 0.5) * scale;
        let from = (centre - support + 0.5).max(0.0) as usize;
        let to = ((centre + support + 0.5) as usize).min(source);
        let weight = |j: usize| (1.0 - ((j as f64 - centre + 0.5) / support).abs()).max(0.0);
        let sum: f64 = (from..to).map(weight).sum();
        let weights: Vec<i64> =
            (from..to).map(|j| (0.5 + weight(j) / sum * f64::from(1 << BITS)) as i64).collect();
        for n in 0..inner {
            let products = (from..to).zip(&weights).map(|(j, w)| w * i64::from(data[j * inner + n]));
            out.push(((products.sum::<i64>() + (1 << (BITS - 1))) >> BITS).clamp(0, 255) as u8);
        }
    }
    out
}

/// All named outputs `[height, width, channels]` of the CPU engine.
fn run(backbone: &Backbone, input: &[f32], side: usize) -> Vec<(String, Shape, Vec<f32>)> {
    run_in(Precision::F32, backbone, input, side)
}

fn run_in(
    precision: Precision,
    backbone: &Backbone,
    input: &[f32],
    side: usize,
) -> Vec<(String, Shape, Vec<f32>)> {
    let plan = Plan::new(backbone.graph.clone(), side, side, precision).unwrap();
    let mut workspace = Workspace::default();
    plan.run(&mut workspace, input, Threads::All).unwrap();
    let names = backbone.graph.outputs().iter().map(|(name, _)| name.clone());
    let maps = names.zip(plan.output_shapes()).enumerate();
    maps.map(|(n, (name, shape))| (name, shape, plan.output(&workspace, n).to_vec())).collect()
}

fn deviation(values: &[f32]) -> f64 {
    let n = values.len() as f64;
    let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
    (values.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n).sqrt()
}

fn worst(found: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(found.len(), expected.len());
    found.iter().zip(expected).map(|(f, e)| f64::from((f - e).abs())).fold(0.0, f64::max)
}

/// Mean, standard deviation (of a sample, as torch has it), least and largest value.
fn statistics(map: &[f32]) -> [f32; 4] {
    let n = map.len() as f64;
    let mean = map.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
    let deviation = deviation(map) * (n / (n - 1.0)).sqrt();
    let least = map.iter().copied().fold(f32::INFINITY, f32::min);
    let largest = map.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    [mean as f32, deviation as f32, least, largest]
}

/// Every third row and column, channels first, as the golden files have it.
fn sampled(map: &[f32], s: Shape) -> Vec<f32> {
    let mut out = Vec::new();
    for c in 0..s.channels {
        for y in (0..s.height).step_by(EVERY) {
            out.extend((0..s.width).step_by(EVERY).map(|x| map[(y * s.width + x) * s.channels + c]));
        }
    }
    out
}

/// `(stage, block, channels)` of each stage that a golden file holds.
fn stages(golden: &Golden) -> Vec<(usize, usize, usize)> {
    let mut found: Vec<(usize, usize)> = Vec::new();
    for name in golden.names() {
        if let Some((block, channels)) = name.strip_prefix("block").and_then(|n| n.split_once('.')) {
            let channels = channels.strip_suffix("ch").expect("`blockN.Cch`");
            found.push((block.parse().unwrap(), channels.parse().unwrap()));
        }
    }
    found.sort_unstable();
    found.into_iter().enumerate().map(|(stage, (block, channels))| (stage, block, channels)).collect()
}

/// Compares the first `count` stages of a network with its golden file.
fn compare(backbone: &Backbone, golden: &Golden, count: usize, tolerance: f64) {
    let picture = picture();
    let name = &backbone.info.name;
    let stages = stages(golden);
    assert_eq!(stages.len(), 7, "{name}: stages of the golden file");
    for (normalization, of) in [(Normalization::LITE, "lite"), (Normalization::IMAGENET, "imagenet")] {
        let outputs = run(backbone, &normalization.to_nhwc(&picture), SIDE);
        for &(stage, block, channels) in &stages[..count] {
            let wanted = format!("stage{stage}");
            let (_, shape, map) = outputs.iter().find(|(n, ..)| *n == wanted).expect("a stage's output");
            assert_eq!(shape.channels, channels, "{name} {wanted}: channels");
            let (_, expected) = golden.tensor(&format!("stats.{of}.block{block}"));
            let unit = f64::from(expected[1]);
            let error = worst(&statistics(map), &expected) / unit;
            assert!(error < tolerance, "{name} {wanted} {of}: statistics differ by {error:.1e} deviations");
            print!("{name} {wanted} {of}: statistics {error:.1e}");
            if of == "lite" {
                let (_, expected) = golden.tensor(&format!("block{block}.{channels}ch"));
                let error = worst(&sampled(map, *shape), &expected) / deviation(&expected);
                assert!(error < tolerance, "{name} {wanted}: values differ by {error:.1e} deviations");
                print!(", values {error:.1e}");
            }
            println!();
        }
    }
}

#[test]
fn golden_embedded_network() {
    let backbone = Backbone::embedded().unwrap();
    compare(&backbone, &Golden::open("efficientnet_lite0"), 6, TOLERANCE_F16);
}

/// Feature layers and their tensors in the golden file.
const LAYERS: [(&str, &str); 4] = [
    ("stride4", "block2.24ch"),
    ("stride8", "block4.40ch"),
    ("stride16", "block10.112ch"),
    ("stride32", "block14.192ch"),
];

/// The whole road from the file to the features, with our own resizing; a grey level more or less (1 / 128 at the input)
/// moves single values by far more than rounding does, so this looks at the mean of the squared differences.
#[test]
fn golden_features_of_a_picture() {
    let picture = read_rgb(&folder().join("picture.png"), &DecodeOptions::default()).unwrap();
    let geometry = Geometry { fit: Fit::Crop { resize: SIDE }, size: InputSize::square(SIDE) };
    let input = Normalization::LITE.to_nhwc(&geometry.apply(&picture).unwrap().0);
    let golden = Golden::open("efficientnet_lite0");
    for (precision, tolerance) in [(Precision::F32, TOLERANCE_ROAD), (Precision::Bf16, TOLERANCE_BF16)] {
        let outputs = run_in(precision, &Backbone::embedded().unwrap(), &input, SIDE);
        let error = |layer, block| {
            let (_, shape, map) = outputs.iter().find(|(n, ..)| n == layer).expect("a feature layer");
            let (_, expected) = golden.tensor(block);
            let found = sampled(map, *shape);
            assert_eq!(found.len(), expected.len(), "{layer}");
            let squares = found.iter().zip(&expected).map(|(f, e)| f64::from(f - e).powi(2)).sum::<f64>();
            (squares / found.len() as f64).sqrt() / deviation(&expected)
        };
        for (layer, block) in LAYERS {
            let error = error(layer, block);
            println!("{layer} in {precision}: {error:.1e} deviations on average");
            assert!(error < tolerance, "{layer} in {precision}: {error:.1e} deviations on average");
        }
    }
}

#[test]
fn golden_float32_weight_files() {
    let Some(root) = std::env::var_os("PBAS_WEIGHTS_DIR") else {
        println!(
            "skipped: PBAS_WEIGHTS_DIR is not set, and the packages' float32 weights are not part of this repository"
        );
        return;
    };
    let mut files = Vec::new();
    walk(Path::new(&root), &mut files);
    for variant in 0..3 {
        let prefix = format!("efficientnet-lite{variant}-");
        let is_it = |p: &&PathBuf| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with(&prefix));
        let path = files.iter().find(is_it).unwrap_or_else(|| panic!("no `{prefix}*.pth` below {root:?}"));
        let backbone = Backbone::from_file(path).unwrap();
        assert_eq!(backbone.info.name, format!("efficientnet_lite{variant}"));
        assert_eq!(backbone.info.source, path.file_name().unwrap().to_string_lossy());
        // The package's file name ends with the first digits of its SHA-256.
        let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
        let (_, digest) = stem.rsplit_once('-').expect("a digest in the name");
        assert!(backbone.info.weights_sha256.starts_with(digest), "{}", backbone.info.weights_sha256);
        compare(&backbone, &Golden::open(&format!("efficientnet_lite{variant}")), 7, TOLERANCE);
    }
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, files);
        } else if path.extension().is_some_and(|e| e == "pth") {
            files.push(path);
        }
    }
}

#[test]
fn engines_agree_on_the_embedded_network() {
    const SMALL: usize = 96;
    let picture = read_rgb(&folder().join("picture.png"), &DecodeOptions::default()).unwrap();
    let geometry = Geometry { fit: Fit::Stretch, size: InputSize::square(SMALL) };
    let input = Normalization::LITE.to_nhwc(&geometry.apply(&picture).unwrap().0);
    let backbone = Backbone::embedded().unwrap();
    let fast = run(&backbone, &input, SMALL);
    let slow = reference::run(&backbone.graph, &input, SMALL, SMALL).unwrap();
    assert_eq!((fast.len(), slow.len()), (10, 10), "six stages, four feature layers");
    for ((name, shape, fast), (slow_shape, slow)) in fast.iter().zip(&slow) {
        assert_eq!(shape, slow_shape, "{name}");
        let error = worst(fast, slow) / deviation(slow);
        assert!(error < TOLERANCE, "{name}: the engines differ by {error:.1e} deviations");
    }
}

#[test]
fn embedded_network_has_the_documented_feature_layers() {
    let backbone = Backbone::embedded().unwrap();
    assert_eq!(backbone.info.name, "efficientnet_lite0");
    assert_eq!(backbone.info.normalization, Normalization::LITE);
    assert!(backbone.info.licence.starts_with("Apache-2.0"), "{}", backbone.info.licence);
    let note = include_str!("../weights/README.md");
    assert!(note.contains(&backbone.info.weights_sha256), "weights/README.md is about another file");
    assert_eq!(backbone.feature_layers(), ["stride4", "stride8", "stride16", "stride32"]);
    let layers = backbone.graph.select(&backbone.feature_layers()).unwrap();
    // An odd size: "same" padding rounds up.
    let plan = Plan::new(layers, SIDE, 289, Precision::F32).unwrap();
    let found: Vec<_> = plan.output_shapes().map(|s| (s.height, s.width, s.channels)).collect();
    assert_eq!(found, [(72, 73, 24), (36, 37, 40), (18, 19, 112), (9, 10, 192)]);
    let e = backbone.graph.select(&["stride8", "layer2"]).unwrap_err().to_string();
    assert!(e.starts_with("feature layer `layer2`: expected one of") && e.contains("stride16"), "{e}");
}

/// Names and shapes of Lite0, Lite1 or Lite2 with zeros for weights, BatchNorm not folded.
fn zero_weights(depths: [usize; 7], widths: [usize; 7]) -> NamedTensors {
    let mut tensors = NamedTensors::new();
    let mut layer = |conv: String, bn: String, shape: [usize; 4]| {
        let zeros = |shape: Vec<usize>| Tensor { data: vec![0.0; shape.iter().product()], shape };
        tensors.insert(format!("{conv}.weight"), zeros(shape.to_vec()));
        for what in ["weight", "bias", "running_mean", "running_var"] {
            tensors.insert(format!("{bn}.{what}"), zeros(vec![shape[0]]));
        }
    };
    layer("_conv_stem".into(), "_bn0".into(), [32, 3, 3, 3]);
    let (mut block, mut width) = (0, 32);
    for (stage, (depth, out)) in depths.into_iter().zip(widths).enumerate() {
        let kernel = [3, 3, 5, 3, 5, 5, 3][stage];
        for _ in 0..depth {
            let name = |part: &str| format!("_blocks.{block}.{part}");
            let inner = if stage == 0 { width } else { 6 * width };
            if stage > 0 {
                layer(name("_expand_conv"), name("_bn0"), [inner, width, 1, 1]);
            }
            layer(name("_depthwise_conv"), name("_bn1"), [inner, 1, kernel, kernel]);
            layer(name("_project_conv"), name("_bn2"), [out, inner, 1, 1]);
            (width, block) = (out, block + 1);
        }
    }
    tensors
}

fn lite0() -> NamedTensors {
    zero_weights([1, 2, 2, 3, 3, 4, 1], [16, 24, 40, 80, 112, 192, 320])
}

#[test]
fn variants_are_recognised_by_their_tensors() {
    let wide = [16, 24, 48, 88, 120, 208, 352];
    let lite1 = zero_weights([1, 3, 3, 4, 4, 5, 1], [16, 24, 40, 80, 112, 192, 320]);
    for (tensors, name, channels) in [
        (lite0(), "efficientnet_lite0", [24, 40, 112, 192]),
        (lite1, "efficientnet_lite1", [24, 40, 112, 192]),
        (zero_weights([1, 3, 3, 4, 4, 5, 1], wide), "efficientnet_lite2", [24, 48, 120, 208]),
    ] {
        let backbone = Backbone::from_tensors(&tensors).unwrap();
        assert_eq!(backbone.info.name, name);
        let layers = backbone.graph.select(&["stride4", "stride8", "stride16", "stride32"]).unwrap();
        let plan = Plan::new(layers, 64, 64, Precision::F32).unwrap();
        assert_eq!(plan.output_shapes().map(|s| s.channels).collect::<Vec<_>>(), channels, "{name}");
    }
}

/// Where the size of training (224, 240, 260) makes a map's side odd, padding at stride 2 is the same on both sides,
/// whatever the picture's size is; every map is half as large as the one before, rounded up.
#[test]
fn padding_is_that_of_the_size_of_training() {
    let wide = [16, 24, 48, 88, 120, 208, 352];
    let lite1 = zero_weights([1, 3, 3, 4, 4, 5, 1], [16, 24, 40, 80, 112, 192, 320]);
    let lite2 = zero_weights([1, 3, 3, 4, 4, 5, 1], wide);
    use Padding::{Even, Same};
    for (tensors, expected) in [
        (lite0(), [Same, Same, Same, Same, Same]),
        (lite1, [Same, Same, Same, Same, Even(2)]),
        (lite2, [Same, Same, Even(2), Even(1), Even(2)]),
    ] {
        let backbone = Backbone::from_tensors(&tensors).unwrap();
        let windows = backbone.graph.nodes().iter().filter_map(|n| match &n.op {
            Op::Conv2d { window, .. } | Op::DepthwiseConv2d { window, .. } => Some(window),
            _ => None,
        });
        let found: Vec<Padding> = windows.filter(|w| w.stride == 2).map(|w| w.padding).collect();
        assert_eq!(found, expected, "{}", backbone.info.name);
        for side in [288usize, 289, 301, 65] {
            let plan = Plan::new(
                backbone.graph.select(&["stride4", "stride32"]).unwrap(),
                side,
                side,
                Precision::F32,
            )
            .unwrap();
            let found: Vec<usize> = plan.output_shapes().map(|s| s.height).collect();
            assert_eq!(found, [side.div_ceil(4), side.div_ceil(32)], "{} at {side}", backbone.info.name);
        }
    }
}

#[test]
fn weights_that_do_not_fit_are_refused_by_name() {
    let refused = |change: &dyn Fn(&mut NamedTensors)| {
        let mut tensors = lite0();
        change(&mut tensors);
        let e: Error = Backbone::from_tensors(&tensors).expect_err("a network that is not whole");
        assert!(matches!(e.kind(), ErrorKind::Input | ErrorKind::Unsupported | ErrorKind::Limits), "{e}");
        chain(&e)
    };
    let zero_wide = refused(&|t| {
        t.insert("_blocks.0._project_conv.weight".into(), Tensor { shape: vec![0, 32, 1, 1], data: vec![] });
    });
    assert!(zero_wide.contains("_blocks.0._bn2.weight"), "{zero_wide}");
    let reshape = |t: &mut NamedTensors, name: &str, shape: &[usize]| {
        let data = vec![0.0; shape.iter().product()];
        let old = t.insert(name.to_owned(), Tensor { shape: shape.to_vec(), data });
        assert!(old.is_some(), "{name} is a tensor of Lite0");
    };
    for missing in
        ["_blocks.3._project_conv.weight", "_blocks.3._bn1.running_var", "_blocks.0._bn2.bias", "_bn0.weight"]
    {
        let text = refused(&|t| assert!(t.remove(missing).is_some()));
        assert!(text.contains(&format!("`{missing}` is missing")), "{missing}: {text}");
    }
    for (name, shape) in [
        ("_conv_stem.weight", &[32, 3, 3][..]),
        ("_conv_stem.weight", &[32, 3, 3, 5]),
        ("_conv_stem.weight", &[32, 4, 3, 3]),
        ("_blocks.5._depthwise_conv.weight", &[240, 2, 3, 3]),
        ("_blocks.5._depthwise_conv.weight", &[240, 1, 4, 5]),
        ("_blocks.7._expand_conv.weight", &[480, 81, 1, 1]),
        ("_blocks.7._project_conv.weight", &[80, 479, 1, 1]),
        ("_blocks.2._bn2.running_mean", &[25]),
        ("_blocks.9._project_conv.weight", &[112, 672, 0, 0]),
    ] {
        let text = refused(&|t| reshape(t, name, shape));
        let node = name.strip_suffix(".weight").unwrap_or(name);
        assert!(text.contains(node), "{name} {shape:?}: {text}");
    }
}

#[test]
fn other_files_are_refused_with_what_was_expected() {
    // A sound weight file of another network, and a file that is none.
    let mut other = weights::load(&folder().join("resnet_stage1.pth")).unwrap();
    other.remove("conv1.weight").expect("a ResNet's stem");
    let e = Backbone::from_tensors(&other).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unsupported);
    let text = e.to_string();
    assert!(text.contains("EfficientNet-Lite0") && text.contains("_conv_stem.weight"), "{text}");
    assert!(text.contains(&format!("found {} tensors", other.len())), "{text}");

    let e = Backbone::from_file(&folder().join("picture.png")).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Input);
    assert!(chain(&e).contains("expected safetensors or a file of torch.save"), "{}", chain(&e));
    let e = Backbone::from_file(&folder().join("no such file.pth")).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Io);
    let e = Backbone::from_file(&folder().join("hostile.pth")).unwrap_err();
    assert!(chain(&e).contains("hostile.pth"), "{}", chain(&e));
}
