//! The exported graph, run node by node (`common/onnx.rs`), says what the detector says.

mod common;

use common::networks::RESNET18;
use common::onnx::{Tensor, run};
use pbas::ErrorKind;
use pbas::backbone::Backbone;
use pbas::calibrate::{Calibration, GoodScores};
use pbas::detector::{Detector, Model, Provenance, Scratch};
use pbas::export::{DEFAULT_OPSET, Input, OPSETS, Options, check_opset, to_model, to_onnx};
use pbas::head::{FeatureScale, Head};
use pbas::image::Rgb8;
use pbas::neighbours::{Bank, Neighbours, Usual, lookers};
use pbas::onnx::proto::ModelProto;
use pbas::patch::Pooling;
use pbas::preprocess::{Fit, Geometry, InputSize};
use pbas::roi::Roi;
use pbas::settings::{MapViews, NeighbourSettings, Preset, Scoring, Settings, Sizes};
use pbas::view::{PatchScale, View};
use pbas_nn::linalg::Threads;
use prost::Message;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Largest difference of a score or a value of the map. Heads as they are before training give logits of about 1, distances to random
/// patches about 20.
const TOLERANCE: f64 = 5e-5;

/// What a model is made of.
struct Parts {
    backbone: Backbone,
    layers: &'static [&'static str],
    dim: usize,
    pooling: Pooling,
    sizes: Vec<InputSize>,
    fit: Fit,
    scoring: Scoring,
    heads: usize,
    neighbours: bool,
}

impl Parts {
    /// Two views of the compact network, two layers of which the first is the coarser, three heads.
    fn compact() -> Self {
        Self {
            backbone: Backbone::embedded().unwrap(),
            layers: &["stride16", "stride8"],
            dim: 112 + 40,
            pooling: Pooling::Channels,
            sizes: vec![InputSize { height: 64, width: 80 }, InputSize::square(48)],
            fit: Fit::Stretch,
            scoring: Scoring::Rarity { top_share: 0.05 },
            heads: 3,
            neighbours: true,
        }
    }

    /// Banks of random patches, of different sizes.
    fn remembered(&self, rng: &mut ChaCha8Rng) -> Neighbours {
        let mut random =
            |n: usize, low: f32| (0..n).map(|_| rng.random_range(low..2.0)).collect::<Vec<f32>>();
        let mut bank = |i: usize| Bank {
            scale: FeatureScale { mean: random(self.dim, -1.0), deviation: random(self.dim, 0.5) },
            rows: random((7 + i) * self.dim, -1.0).into(),
            usual: Some(Usual {
                mean: random(lookers(self.heads) * (7 + i), 1.0).into(),
                deviation: random(lookers(self.heads) * (7 + i), 0.5).into(),
            }),
        };
        Neighbours {
            banks: (0..self.heads).map(&mut bank).collect(),
            deviations: (0..self.heads).map(|h| 2.0 + h as f64).collect(),
        }
    }

    fn model(&self) -> Model {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let mut settings = Settings::preset(Preset::Fast);
        settings.feature_layers = self.layers.iter().map(|l| (*l).to_owned()).collect();
        settings.head.hidden = 8;
        settings.sizes = Sizes::Fixed(self.sizes.clone());
        settings.pooling = self.pooling;
        settings.fit = self.fit;
        settings.scoring = self.scoring;
        let wanted = NeighbourSettings {
            rows: 100,
            weight: 1.5,
            usual_weight: 0.8,
            map_weight: Some(0.6),
            map_limit: Some(0.1),
        };
        settings.neighbours = self.neighbours.then_some(wanted);
        let views = self.sizes.iter().map(|&size| {
            let mut heads: Vec<Head> =
                (0..self.heads).map(|_| Head::initial(self.dim, 8, &mut rng)).collect();
            for head in &mut heads {
                let mut random = |low: f32| (0..self.dim).map(|_| rng.random_range(low..2.0)).collect();
                head.feature_scale = Some(FeatureScale { mean: random(-1.0), deviation: random(0.5) });
            }
            let scales = (0..self.heads)
                .map(|h| PatchScale { mean: -1.25 + h as f64, deviation: 0.375 + 0.25 * h as f64 })
                .collect();
            let neighbours = self.neighbours.then(|| self.remembered(&mut rng));
            View { size, heads, neighbours, scales }
        });
        let scores = |h: usize| (0..15 + h).map(|i| (i as f64).sqrt() - 2.5).collect::<Vec<_>>().into();
        let calibration = Calibration::new(
            (0..self.heads).map(scores).collect(),
            vec![0.5, 0.75, 1.125].into(),
            true,
            0.01,
            self.scoring,
        );
        let provenance = Provenance {
            program_version: "0.1.0".into(),
            pictures: 31,
            pictures_sha256: "00ff".repeat(16),
            picture_digests: vec![],
            skipped: 1,
        };
        Model {
            backbone: self.backbone.clone(),
            views: views.collect(),
            settings,
            calibration: calibration.unwrap(),
            provenance,
        }
    }

    fn detector(&self) -> Detector {
        Detector::new(self.model()).unwrap()
    }
}

/// Smooth shapes with noise, so that resizing matters and regions differ.
fn picture(width: usize, height: usize, seed: u64) -> Rgb8 {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let data = (0..height * width * 3).map(|i| {
        let (x, y) = (i / 3 % width, i / 3 / width);
        let wave = ((x * (3 + i % 3)) as f64 / 17.0 + seed as f64).sin() * (y as f64 / 11.0).cos();
        (128.0 + 90.0 * wave + rng.random_range(-30.0..30.0)) as u8
    });
    Rgb8 { width, height, data: data.collect() }
}

/// Pictures of one size as `[batch, 3, height, width]`.
fn planes(pictures: &[Rgb8]) -> Tensor {
    let (w, h) = (pictures[0].width, pictures[0].height);
    let plane =
        |p: &Rgb8, c: usize| -> Vec<f64> { p.data.iter().skip(c).step_by(3).map(|&v| v.into()).collect() };
    let data = pictures.iter().flat_map(|p| (0..3).flat_map(move |c| plane(p, c))).collect();
    Tensor::new(&[pictures.len(), 3, h, w], data)
}

/// What the graph is given for these pictures, which are of one size.
fn inputs(detector: &Detector, input: Input, model: &ModelProto, pictures: &[Rgb8]) -> Vec<(String, Tensor)> {
    let names = model.graph.as_ref().unwrap().input.iter().map(|i| i.name().to_owned());
    match input {
        Input::View => {
            let lay_out = |view: &View| {
                let geometry = Geometry { fit: detector.model().settings.fit, size: view.size };
                let laid_out: Vec<Rgb8> = pictures.iter().map(|p| geometry.apply(p).unwrap().0).collect();
                planes(&laid_out)
            };
            names.zip(&detector.model().views).map(|(name, view)| (name, lay_out(view))).collect()
        }
        Input::Any => names.map(|name| (name, planes(pictures))).collect(),
        Input::AnyBytes => {
            let shape = [pictures.len(), pictures[0].height, pictures[0].width, 3];
            let data: Vec<f64> = pictures.iter().flat_map(|p| &p.data).map(|&v| v.into()).collect();
            names.map(|name| (name, Tensor::new(&shape, data.clone()))).collect()
        }
    }
}

/// Exports, runs the graph on a batch, and compares with the detector, picture by picture.
#[track_caller]
fn agrees(detector: &Detector, input: Input, pictures: &[Rgb8], tolerance: f64) {
    let model = to_model(detector, &Options { input, ..Options::default() }).unwrap();
    let given = inputs(detector, input, &model, pictures);
    let given: Vec<(&str, Tensor)> = given.iter().map(|(n, t)| (n.as_str(), t.clone())).collect();
    let found = run(model.graph.as_ref().unwrap(), &given);
    let (scores, maps) = (&found["image_score"], &found["score_map"]);
    let size = detector.map_size();
    assert_eq!(scores.shape, [pictures.len()]);
    assert_eq!(maps.shape, [pictures.len(), size.height, size.width]);
    let maps = maps.data.chunks_exact(size.height * size.width);
    for ((picture, score), map) in pictures.iter().zip(&scores.data).zip(maps) {
        let expected = detector.predict(picture, &mut Scratch::default(), Threads::One).unwrap();
        assert!(
            (score - expected.image_score).abs() < tolerance,
            "score {score}, ours is {}",
            expected.image_score
        );
        let apart = |(m, &e): (&f64, &f32)| (m - f64::from(e)).abs() / (1.0 + f64::from(e).abs());
        let worst = map.iter().zip(&expected.map.values).map(apart).fold(0.0, f64::max);
        assert!(worst < tolerance, "map differs by {worst} of its values");
    }
}

#[test]
fn views_with_an_input_each() {
    let detector = Parts::compact().detector();
    let batch = [picture(90, 71, 1), picture(90, 71, 2)];
    agrees(&detector, Input::View, &batch, TOLERANCE);
    let model = to_model(&detector, &Options::default()).unwrap();
    let names: Vec<&str> = model.graph.as_ref().unwrap().input.iter().map(|i| i.name()).collect();
    assert_eq!(names, ["image_80x64", "image_48"]);
}

#[test]
fn published_settings() {
    let parts = Parts {
        layers: &["stride8", "stride16"],
        dim: 700,
        pooling: Pooling::Adaptive { embed_dim: 700 }, // More entries than a layer has values, as in the paper's preset.
        sizes: vec![InputSize::square(64)],
        fit: Fit::Crop { resize: 64 },
        scoring: Scoring::Sigmoid,
        heads: 1,
        neighbours: false,
        ..Parts::compact()
    };
    let detector = parts.detector();
    agrees(&detector, Input::View, &[picture(64, 64, 3)], TOLERANCE);
    agrees(&detector, Input::Any, &[picture(100, 80, 3)], TOLERANCE);
    let model = to_model(&detector, &Options::default()).unwrap();
    assert_eq!(model.graph.unwrap().input[0].name(), "image");
}

#[test]
fn another_network() {
    let parts = Parts {
        backbone: Backbone::from_tensors(&RESNET18.layers(3).random(4)).unwrap(),
        layers: &["layer2", "layer3"],
        dim: 100,
        pooling: Pooling::Adaptive { embed_dim: 100 },
        sizes: vec![InputSize::square(64)],
        heads: 2,
        ..Parts::compact()
    };
    agrees(&parts.detector(), Input::View, &[picture(64, 64, 3)], TOLERANCE);
}

/// Whatever the picture's size, the graph resizes as the detector does, to the grey level.
#[test]
fn any_size_and_fit() {
    let sizes = [(48, 48), (173, 131), (60, 201), (33, 40)];
    for fit in [Fit::Stretch, Fit::Pad, Fit::Crop { resize: 57 }] {
        let detector =
            Parts { fit, sizes: vec![InputSize { height: 32, width: 48 }], ..Parts::compact() }.detector();
        for (i, (width, height)) in sizes.into_iter().enumerate() {
            agrees(&detector, Input::Any, &[picture(width, height, i as u64)], TOLERANCE);
        }
    }
    let detector = Parts::compact().detector();
    agrees(&detector, Input::AnyBytes, &[picture(173, 131, 7), picture(173, 131, 8)], TOLERANCE);
}

/// Scores below, at, between and beyond the stored ones; equal stored ones; light and heavy tails; samples of different sizes.
#[test]
fn every_part_of_the_rarity() {
    let parts = Parts {
        sizes: vec![InputSize::square(48)],
        layers: &["stride16"],
        dim: 112,
        neighbours: false,
        ..Parts::compact()
    };
    let shown = picture(48, 48, 9);
    let model = parts.model();
    let detector = Detector::new(model.clone()).unwrap();
    let (scores, ..) = detector.scores(&shown, &mut Scratch::default(), Threads::One).unwrap();
    let of = |offsets: &[f64]| -> Vec<GoodScores> {
        scores.iter().map(|s| offsets.iter().map(|o| s + o).collect::<Vec<_>>().into()).collect()
    };
    let heavy: Vec<f64> = (1..200).map(|i| 0.2 * (200.0 / f64::from(i)).powf(0.4) - 2.5).collect();
    let light: Vec<f64> = (1..200).map(|i| -0.3 * (f64::from(i) / 200.0).ln() - 2.5).collect();
    let samples: [(&str, Vec<f64>); 9] = [
        ("below all", vec![0.5, 0.6, 0.9]),
        ("between", vec![-0.7, -0.4, 0.3, 0.6]),
        ("among equal ones", vec![-0.5, -0.25, -0.25, -0.25, 0.4, 0.4]),
        ("a little beyond", vec![-0.9, -0.5, -0.1, -0.01]),
        ("beyond", vec![-4.0, -3.0, -2.0, -1.9]),
        ("beyond a single one", vec![-1.0]),
        ("below a single one", vec![1.0]),
        ("beyond a heavy tail", heavy),
        ("beyond a light tail", light),
    ];
    let mut together: Option<f64> = None;
    for (what, offsets) in &samples {
        let heads = of(offsets);
        let mut model = model.clone();
        // The second head's sample is another one, or no column could be longer than the others.
        let mut mixed = heads.clone();
        mixed[1] = of(&samples[1].1).swap_remove(1);
        for heads in [heads, mixed] {
            model.calibration = Calibration::new(heads, vec![0.5].into(), true, 0.01, parts.scoring).unwrap();
            let detector = Detector::new(model.clone()).unwrap();
            println!("{what}");
            agrees(&detector, Input::View, std::slice::from_ref(&shown), 5e-5);
            let value = detector.model().calibration.value(&scores, parts.scoring);
            together.get_or_insert(value);
        }
    }
    // After a recalibration by new pictures the heads' common value is ranked once more.
    let mut calibration = model.calibration.clone();
    let value = calibration.value(&scores, parts.scoring);
    for offsets in [[-0.3, -0.2, 0.1, 0.4], [-2.0, -1.5, -1.0, -0.5], [0.5, 0.6, 0.7, 0.8]] {
        let new = offsets.iter().map(|o| value + o).collect();
        calibration.renew(new, vec![0.5, 0.6], 0.05, parts.scoring).unwrap();
        let model = Model { calibration: calibration.clone(), ..model.clone() };
        agrees(&Detector::new(model).unwrap(), Input::View, std::slice::from_ref(&shown), 5e-5);
    }
}

#[test]
fn file_says_what_it_is() {
    let detector = Parts::compact().detector();
    let bytes = to_onnx(&detector, &Options::default()).unwrap();
    assert!(bytes == to_onnx(&detector, &Options::default()).unwrap(), "the same bytes each time");
    let model = ModelProto::decode(&*bytes).unwrap();
    assert_eq!(model.opset_import[0].version(), i64::from(DEFAULT_OPSET));
    let metadata = |key: &str| {
        let found = model.metadata_props.iter().find(|e| e.key() == key);
        found.unwrap_or_else(|| panic!("no {key}")).value().to_owned()
    };
    let calibration = &detector.model().calibration;
    assert_eq!(metadata("threshold").parse(), Ok(calibration.threshold));
    assert_eq!(metadata("pixel_threshold").parse(), Ok(calibration.pixel_threshold));
    assert_eq!(metadata("pbas_version"), env!("CARGO_PKG_VERSION"));
    let views: serde_json::Value = serde_json::from_str(&metadata("views")).unwrap();
    assert_eq!(views[1], serde_json::json!({"input": "image_48", "width": 48, "height": 48}));
    let outputs: Vec<&str> = model.graph.as_ref().unwrap().output.iter().map(|o| o.name()).collect();
    assert_eq!(metadata("outputs"), serde_json::json!(outputs).to_string());
    // The network's weights are there once, for both views.
    let count = model.graph.unwrap().initializer.iter().filter(|t| t.name().starts_with("backbone/")).count();
    assert!(count < 120, "{count} tensors of the network");
}

/// Rather than a graph that looks where the model does not.
#[test]
fn a_region_of_interest_is_refused() {
    let mut model = Parts::compact().model();
    let inside = (0..90 * 71).map(|i| i % 90 < 60).collect();
    let roi = Roi::new(InputSize { height: 71, width: 90 }, inside, "mask.png").unwrap();
    model.settings.roi = Some(roi);
    let e = to_onnx(&Detector::new(model).unwrap(), &Options::default()).unwrap_err();
    assert!(e.kind() == ErrorKind::Unsupported && e.to_string().contains("mask.png"), "{e}");
}

#[test]
fn unknown_opsets_are_refused() {
    for opset in [0, 17, OPSETS.end() + 1, u32::MAX] {
        let e = check_opset(opset).unwrap_err();
        assert!(e.to_string().contains(&format!("found {opset}")), "{e}");
        let options = Options { opset, ..Options::default() };
        assert!(to_onnx(&Parts::compact().detector(), &options).is_err());
    }
    OPSETS.for_each(|opset| check_opset(opset).unwrap());
}

/// The map and the image score of a picture by the first views of a model.
fn judged(
    views: usize,
    map_views: MapViews,
    map_weight: Option<f64>,
    map_limit: Option<f64>,
) -> (Vec<f32>, f64) {
    let mut model = Parts::compact().model();
    model.views.truncate(views);
    model.settings.map_views = map_views;
    if let Some(n) = &mut model.settings.neighbours {
        (n.map_weight, n.map_limit) = (map_weight, map_limit);
    }
    let found = Detector::new(model).unwrap();
    let found = found.predict(&picture(90, 71, 3), &mut Scratch::default(), Threads::One).unwrap();
    (found.map.values, found.image_score)
}

#[test]
fn views_count_by_their_area_in_the_map() {
    let [first, alike, by_area] = [(1, MapViews::Alike), (2, MapViews::Alike), (2, MapViews::Area)]
        .map(|(views, rule)| judged(views, rule, Some(0.6), None).0);
    let share = (48 * 48) as f32 / (64 * 80) as f32;
    for ((first, alike), by_area) in first.iter().zip(&alike).zip(&by_area) {
        let second = 2.0 * alike - first;
        let expected = (first + share * second) / (1.0 + share);
        assert!((by_area - expected).abs() < 1e-4 * (1.0 + expected.abs()), "{by_area}, {expected}");
    }
}

#[test]
fn distances_have_a_weight_of_their_own_in_the_map_and_none_in_the_score() {
    let [none, once, twice] = [0.0, 0.6, 1.2].map(|weight| judged(2, MapViews::Area, Some(weight), None));
    let as_the_score = judged(2, MapViews::Area, None, None);
    assert!(none.1 == once.1 && once.1 == twice.1 && twice.1 == as_the_score.1);
    assert_ne!(none.0, as_the_score.0);
    for ((none, once), twice) in none.0.iter().zip(&once.0).zip(&twice.0) {
        let (more, again) = (once - none, twice - once);
        assert!(more > 0.0 && (more - again).abs() < 1e-3 * (1.0 + more), "{more}, {again}");
    }
}

#[test]
fn a_logit_counts_no_more_than_its_limit_in_the_map() {
    let of = |limit| judged(2, MapViews::Area, Some(0.6), limit);
    let ((none, score), high, (low, same_score)) = (of(None), of(Some(1e6)), of(Some(0.1)));
    assert_eq!(none, high.0);
    assert_eq!(score, same_score);
    assert_ne!(none, low);
    assert!(none.iter().zip(&low).all(|(none, low)| *low <= none + 1e-4 * (1.0 + none.abs())));
}
