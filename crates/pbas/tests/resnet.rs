//! ResNets against figures of torchvision (golden file `resnet_bottleneck_w8`), their recognition by shapes, and weights
//! that must be refused.

mod common;

use common::networks::{RESNET18, RESNET34, RESNET50, RESNET101, Shape, WIDE_RESNET50_2, WIDE_RESNET101_2};
use common::{Golden, folder};
use pbas::ErrorKind;
use pbas::backbone::Backbone;
use pbas::image::{DecodeOptions, read_rgb};
use pbas::preprocess::{Fit, Geometry, InputSize, Normalization};
use pbas_nn::Precision;
use pbas_nn::engine::cpu::{Plan, Workspace};
use pbas_nn::linalg::Threads;
use pbas_nn::weights::{self, NamedTensors, Tensor};

/// Largest root of the mean squared difference, in units of a tensor's standard deviation. Our resizing differs from Pillow's
/// by one grey level here and there, which is most of it.
const TOLERANCE: f64 = 5e-3;
/// The same with products in bfloat16.
const TOLERANCE_BF16: f64 = 2e-2;
const SIDE: usize = 288;

#[test]
fn golden_bottleneck_network() {
    let backbone = Backbone::from_file(&folder().join("resnet_bottleneck_w8.safetensors")).unwrap();
    assert_eq!(backbone.info.name, "resnet");
    assert_eq!(backbone.info.normalization, Normalization::IMAGENET);
    assert_eq!(backbone.feature_layers(), ["layer1", "layer2", "layer3"]);
    let picture = read_rgb(&folder().join("picture.png"), &DecodeOptions::default()).unwrap();
    let geometry = Geometry { fit: Fit::Crop { resize: SIDE }, size: InputSize::square(SIDE) };
    let input = Normalization::IMAGENET.to_nhwc(&geometry.apply(&picture).unwrap().0);
    let golden = Golden::open("resnet_bottleneck_w8.features");
    for (precision, tolerance) in [(Precision::F32, TOLERANCE), (Precision::Bf16, TOLERANCE_BF16)] {
        let plan = Plan::new(backbone.graph.clone(), SIDE, SIDE, precision).unwrap();
        let mut workspace = Workspace::default();
        plan.run(&mut workspace, &input, Threads::All).unwrap();
        for (n, (layer, every)) in [("layer1", 4), ("layer2", 2), ("layer3", 1)].into_iter().enumerate() {
            let (map, s) = (plan.output(&workspace, n), plan.output_shapes().nth(n).unwrap());
            let (shape, expected) = golden.tensor(layer);
            assert_eq!(shape, [s.channels / 4, s.height.div_ceil(every), s.width.div_ceil(every)], "{layer}");
            let mut found = Vec::new();
            for c in (0..s.channels).step_by(4) {
                for y in (0..s.height).step_by(every) {
                    found
                        .extend((0..s.width).step_by(every).map(|x| map[(y * s.width + x) * s.channels + c]));
                }
            }
            let len = expected.len() as f64;
            let mean = expected.iter().map(|&v| f64::from(v)).sum::<f64>() / len;
            let unit = (expected.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / len).sqrt();
            let squares = found.iter().zip(&expected).map(|(f, e)| f64::from(f - e).powi(2)).sum::<f64>();
            let worst =
                found.iter().zip(&expected).map(|(f, e)| f64::from((f - e).abs())).fold(0.0, f64::max);
            let error = (squares / len).sqrt() / unit;
            println!(
                "{layer} in {precision}: {error:.1e} deviations on average, {:.1e} at most",
                worst / unit
            );
            assert!(
                error < tolerance,
                "{layer} in {precision}: features differ by {error:.1e} deviations on average"
            );
        }
    }
}

#[test]
fn networks_are_recognised_by_their_tensors() {
    // Two layers tell the networks apart where depths differ there or widths do; three always do.
    for (shape, name, channels) in [
        (RESNET18.layers(2), "resnet18", vec![64, 128]),
        (RESNET34.layers(2), "resnet34", vec![64, 128]),
        (RESNET50.layers(3), "resnet50", vec![256, 512, 1024]),
        (RESNET50.layers(1), "resnet", vec![256]),
        (WIDE_RESNET50_2.layers(3), "wide_resnet50_2", vec![256, 512, 1024]),
    ] {
        let backbone = Backbone::from_tensors(&shape.random(1)).unwrap();
        assert_eq!(backbone.info.name, name);
        let plan = Plan::new(backbone.graph.clone(), 64, 96, Precision::F32).unwrap();
        let found: Vec<_> = plan.output_shapes().map(|s| (s.height, s.width, s.channels)).collect();
        let expected: Vec<_> = (2..).zip(&channels).map(|(n, &c)| (64 >> n, 96 >> n, c)).collect();
        assert_eq!(found, expected, "{name}");
    }
    let deep = [(RESNET101, "resnet101"), (WIDE_RESNET101_2, "wide_resnet101_2")];
    for (shape, name) in deep {
        let narrow = Shape { depths: &[3, 4, 23], ..shape };
        assert_eq!(Backbone::from_tensors(&narrow.random(1)).unwrap().info.name, name);
    }
}

#[test]
fn weights_that_do_not_fit_are_refused_by_name() {
    let refused = |change: &dyn Fn(&mut NamedTensors)| {
        let mut tensors = RESNET50.layers(2).random(1);
        change(&mut tensors);
        pbas::error::chain(&Backbone::from_tensors(&tensors).expect_err("a network that is not whole"))
    };
    for missing in
        ["layer1.0.bn1.weight", "layer2.0.conv2.weight", "layer1.0.downsample.1.running_var", "bn1.bias"]
    {
        let text = refused(&|t| assert!(t.remove(missing).is_some()));
        assert!(text.contains(&format!("`{missing}` is missing")), "{missing}: {text}");
    }
    for (name, shape) in [
        ("conv1.weight", &[64, 3, 7][..]),
        ("layer1.1.conv2.weight", &[64, 64, 3, 5]),
        ("layer1.1.conv2.weight", &[64, 64, 2, 2]),
        ("layer1.1.conv2.weight", &[64, 2, 3, 3]),
        ("layer2.0.bn2.running_mean", &[3]),
    ] {
        let text = refused(&|t| {
            let data = vec![0.0; shape.iter().product()];
            t.insert(name.to_owned(), Tensor { shape: shape.to_vec(), data }).expect("a tensor of ResNet50");
        });
        assert!(text.contains(name.strip_suffix(".weight").unwrap_or(name)), "{name} {shape:?}: {text}");
    }
    let text = refused(&|t| {
        t.insert("layer1.0.se.fc1.weight".to_owned(), Tensor { shape: vec![1], data: vec![0.0] });
    });
    assert!(text.contains("layer1.0.se.fc1.weight"), "{text}");
}

#[test]
fn files_of_torch_hold_the_same_network() {
    let names = ["resnet_stage1.pth", "resnet_stage1_old.pth"];
    let [new, old] = names.map(|name| Backbone::from_file(&folder().join(name)).unwrap());
    assert_eq!(new.graph, old.graph);
    assert_eq!(new.feature_layers(), ["layer1"]);
    let mut other = weights::load(&folder().join(names[0])).unwrap();
    other.remove("conv1.weight").expect("a ResNet's stem");
    assert_eq!(Backbone::from_tensors(&other).unwrap_err().kind(), ErrorKind::Unsupported);
}
