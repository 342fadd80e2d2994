//! The model file: what goes in comes out, and whatever is not a sound model is refused with its name, never by a panic.

use std::borrow::Cow;

use half::f16;
use pbas::backbone::Backbone;
use pbas::calibrate::Calibration;
use pbas::detector::{Detector, Model, Provenance, Scratch};
use pbas::error::chain;
use pbas::head::{FeatureScale, Head};
use pbas::image::Rgb8;
use pbas::model_file::{FORMAT_VERSION, format_version, from_bytes, load, save, to_bytes};
use pbas::neighbours::{Bank, Neighbours, Usual};
use pbas::preprocess::InputSize;
use pbas::settings::{Length, MapViews, NeighbourSettings, Preset, Settings, Sizes};
use pbas::view::{PatchScale, View};
use pbas::{Error, ErrorKind};
use pbas_nn::linalg::Threads;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use safetensors::SafeTensors;
use safetensors::tensor::Dtype;
use serde_json::{Value, json};

const NAME: &str = "test.pbas";
const LAYERS: [&str; 2] = ["stride8", "stride4"];
const DIM: usize = 40 + 24;

/// A small model with heads as they are before training: two views, two heads each, one view with feature scales.
fn model() -> Model {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let mut backbone = Backbone::embedded().unwrap();
    backbone.graph = backbone.graph.select(&LAYERS).unwrap();
    let mut settings = Settings::preset(Preset::Fast);
    settings.feature_layers = LAYERS.map(String::from).to_vec();
    settings.head.hidden = 8;
    let sizes = [64, 32].map(InputSize::square);
    settings.sizes = Sizes::Fixed(sizes.to_vec());
    let views = sizes.into_iter().enumerate().map(|(v, size)| {
        let mut heads: Vec<Head> = (0..2).map(|_| Head::initial(DIM, 8, &mut rng)).collect();
        let mut random = |low: f32| -> Vec<f32> { (0..DIM).map(|_| rng.random_range(low..2.0)).collect() };
        for head in heads.iter_mut().filter(|_| v == 0) {
            head.feature_scale = Some(FeatureScale { mean: random(-1.0), deviation: random(0.5) });
        }
        let scales = vec![PatchScale { mean: -1.25, deviation: 0.375 }; 2];
        let mut bank = |count: usize| Bank {
            usual: Some(Usual { mean: vec![2.5; count].into(), deviation: vec![0.75; count].into() }),
            scale: FeatureScale { mean: random(-1.0), deviation: random(0.5) },
            rows: (0..count)
                .flat_map(|_| random(-1.0))
                .map(|v| f16::from_f32(v).to_f32())
                .collect::<Vec<_>>()
                .into(),
        };
        let neighbours = Neighbours { banks: vec![bank(3), bank(5)], deviations: vec![1.5, 2.0] };
        View { size, heads, neighbours: Some(neighbours), scales }
    });
    let views = views.collect();
    let scores = |h: usize| (0..15 + h).map(|i| (i as f64).sqrt() - 1.5).collect::<Vec<_>>().into();
    let peaks = vec![0.5, 0.75, 1.125].into();
    let calibration =
        Calibration::new(vec![scores(0), scores(1)], peaks, true, 0.01, settings.scoring).unwrap();
    let provenance = Provenance {
        program_version: "0.1.0".into(),
        pictures: 31,
        pictures_sha256: "00ff".repeat(16),
        picture_digests: vec!["0123456789abcdef".into(); 31],
        skipped: 1,
    };
    Model { backbone, settings, views, calibration, provenance }
}

fn picture() -> Rgb8 {
    let mut rng = ChaCha8Rng::seed_from_u64(6);
    Rgb8 { width: 90, height: 71, data: (0..90 * 71 * 3).map(|_| rng.random()).collect() }
}

/// The error of bytes that must be refused, with its causes.
fn refused(bytes: &[u8]) -> (ErrorKind, String) {
    let e: Error = from_bytes(bytes, NAME).map(|_| ()).expect_err("damaged bytes");
    (e.kind(), chain(&e))
}

struct Raw {
    dtype: Dtype,
    shape: Vec<usize>,
    data: Vec<u8>,
}

impl safetensors::View for &Raw {
    fn dtype(&self) -> Dtype {
        self.dtype
    }
    fn shape(&self) -> &[usize] {
        &self.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        (&self.data).into()
    }
    fn data_len(&self) -> usize {
        self.data.len()
    }
}

/// The same file with its description or its tensors changed, and a checksum that is right again: what a forger could write.
fn forged(bytes: &[u8], change: impl FnOnce(&mut Value, &mut Vec<(String, Raw)>)) -> Vec<u8> {
    let (_, header) = SafeTensors::read_metadata(bytes).unwrap();
    let mut json: Value = serde_json::from_str(&header.metadata().as_ref().unwrap()["pbas"]).unwrap();
    let file = SafeTensors::deserialize(bytes).unwrap();
    let mut tensors: Vec<(String, Raw)> = file
        .iter()
        .map(|(name, t)| {
            let raw = Raw { dtype: t.dtype(), shape: t.shape().to_vec(), data: t.data().to_vec() };
            (name.to_owned(), raw)
        })
        .collect();
    json["crc32"] = json!("00000000");
    change(&mut json, &mut tensors);
    let metadata = [("pbas".to_owned(), json.to_string())].into();
    let mut bytes =
        safetensors::serialize(tensors.iter().map(|(n, t)| (n.as_str(), t)), Some(metadata)).unwrap();
    let mark = br#"\"crc32\":\""#;
    let at = bytes.windows(mark.len()).position(|w| w == mark).unwrap() + mark.len();
    let sum = format!("{:08x}", crc32fast::hash(&bytes));
    bytes[at..at + 8].copy_from_slice(sum.as_bytes());
    bytes
}

fn tensor<'t>(tensors: &'t mut [(String, Raw)], name: &str) -> &'t mut Raw {
    &mut tensors.iter_mut().find(|(n, _)| n == name).expect("a tensor of the model").1
}

#[test]
fn a_model_comes_back_as_it_was() {
    let model = model();
    let bytes = to_bytes(&model).unwrap();
    assert!(bytes == to_bytes(&model).unwrap(), "the same model gives the same bytes");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("part.pbas");
    save(&model, &path).unwrap();
    assert!(std::fs::read(&path).unwrap() == bytes, "the file holds these bytes");
    save(&model, &path).unwrap(); // Over a file that is there.
    let files = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(files, 1, "no temporary file is left");

    let back = load(&path).unwrap();
    assert_eq!(back.backbone, model.backbone);
    assert_eq!(back.settings, model.settings);
    assert!(back.views == model.views, "heads or scales have changed"); // Too many numbers to print.
    assert_eq!(back.calibration, model.calibration);
    assert_eq!(back.provenance, model.provenance);
    assert!(to_bytes(&back).unwrap() == bytes, "a model that was read gives the same bytes");

    let judge = |m: Model| {
        let detector = Detector::new(m).unwrap();
        let p = detector.predict(&picture(), &mut Scratch::default(), Threads::One).unwrap();
        (p.image_score, p.verdict, p.map, p.regions)
    };
    let (before, after) = (judge(model), judge(back));
    assert!(before.0 != 0.0 && before.2.values.iter().any(|&v| v != 0.0));
    assert!(before == after, "scores {} and {}", before.0, after.0);
}

/// The threshold is the score of a good picture: a last digit lost on the way would reject that picture.
#[test]
fn numbers_keep_their_last_digit() {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let mut model = model();
    for _ in 0..200 {
        let c = &mut model.calibration;
        for v in [&mut c.threshold, &mut c.pixel_threshold] {
            *v = rng.random_range(0.1..9.0);
        }
        let mut heads = c.heads.to_vec();
        heads[1] = (0..9).map(|_| rng.random_range(0.1..9.0)).collect::<Vec<f64>>().into();
        c.heads = heads.into();
        for s in model.views.iter_mut().map(|v| &mut v.scales[1]) {
            for v in [&mut s.mean, &mut s.deviation] {
                *v = rng.random_range(0.001..0.1);
            }
        }
        let back = from_bytes(&to_bytes(&model).unwrap(), NAME).unwrap();
        assert_eq!(back.calibration, model.calibration);
        let scales = |m: &Model| m.views.iter().map(|v| v.scales.clone()).collect::<Vec<_>>();
        assert_eq!(scales(&back), scales(&model));
    }
}

#[test]
fn forging_nothing_gives_a_model() {
    // Otherwise the tests that forge something would find a refusal for another reason.
    let bytes = to_bytes(&model()).unwrap();
    from_bytes(&forged(&bytes, |_, _| ()), NAME).unwrap();
}

#[test]
fn every_truncation_is_refused() {
    let bytes = to_bytes(&model()).unwrap();
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let near_the_header = header - 20..header + 20;
    let mut lengths: Vec<usize> =
        (0..64).chain(near_the_header).chain(bytes.len() - 64..bytes.len()).collect();
    lengths.extend((0..bytes.len()).step_by(1009));
    for len in lengths {
        let (kind, text) = refused(&bytes[..len]);
        assert_eq!(kind, ErrorKind::Input, "{len} of {} bytes: {text}", bytes.len());
        assert!(text.contains(NAME), "{len} of {} bytes: {text}", bytes.len());
    }
    let mut longer = bytes;
    longer.push(0);
    refused(&longer);
}

#[test]
fn every_flipped_byte_is_refused() {
    let mut bytes = to_bytes(&model()).unwrap();
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    assert!(header > 4096 && bytes.len() > header + 40_000, "{header} of {}", bytes.len());
    for at in (0..header + 16).chain((header..bytes.len()).step_by(97)).chain([bytes.len() - 1]) {
        // One bit (the lowest and one that changes the case of letters), and all bits.
        for mask in [0x01, 0x20, 0xff] {
            bytes[at] ^= mask;
            let accepted = from_bytes(&bytes, NAME).is_ok();
            assert!(!accepted, "byte {at} of {} (header {header}) changed by {mask:#04x}", bytes.len());
            bytes[at] ^= mask;
        }
    }
    from_bytes(&bytes, NAME).unwrap();
}

#[test]
fn other_files_are_refused_for_what_they_are() {
    let (kind, text) = refused(b"good parts are round\n");
    assert_eq!(kind, ErrorKind::Input);
    assert!(text.contains("safetensors"), "{text}");
    refused(b"");

    let weights = include_bytes!("../weights/efficientnet_lite0.safetensors");
    let e = from_bytes(weights, NAME).map(|_| ()).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Input);
    assert!(e.to_string().contains("expected a pbas model"), "{e}");
    assert!(e.hint().unwrap().contains("pbas train"));

    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing.pbas");
    let e = load(&missing).map(|_| ()).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Io);
    assert!(e.to_string().contains("missing.pbas"), "{e}");
    let e = save(&model(), &folder.path().join("no such folder/part.pbas")).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Io);

    // What was there stays there when a damaged file is loaded, and the message says what to do.
    std::fs::write(&missing, b"not a model").unwrap();
    let e = load(&missing).map(|_| ()).unwrap_err();
    assert!(e.to_string().contains("cannot load model") && e.hint().unwrap().contains("damaged"), "{e}");
}

/// Programs before a feature must refuse the models that have it, and read those that do not.
#[test]
fn a_version_no_later_than_the_model_needs() {
    let mut model = model();
    assert_eq!(format_version(&model), FORMAT_VERSION);
    model.settings.map_views = MapViews::Alike;
    assert_eq!(format_version(&model), FORMAT_VERSION, "logits are limited in the map");
    let unlimited = NeighbourSettings { map_limit: None, ..Default::default() };
    model.settings.neighbours = Some(unlimited);
    assert_eq!(format_version(&model), 6, "distances count otherwise in the map");
    let as_elsewhere = NeighbourSettings { map_weight: None, ..unlimited };
    model.settings.neighbours = Some(as_elsewhere);
    assert_eq!(format_version(&model), 5);
    let of_before = to_bytes(&model).unwrap();
    assert_eq!(from_bytes(&of_before, NAME).unwrap().settings, model.settings);
    for later in ["map_weight", "map_limit", "map_views"] {
        let mark = format!("\\\"{later}");
        assert!(!of_before.windows(mark.len()).any(|w| w == mark.as_bytes()), "{later}: as before");
    }
    model.settings.head.length = Length::Steps(400);
    assert_eq!(format_version(&model), 5, "what is usual is known");
    let mut of_before = model.clone();
    of_before.settings.neighbours = Some(NeighbourSettings { usual_weight: 0.0, ..as_elsewhere });
    let banks = of_before.views.iter_mut().flat_map(|v| &mut v.neighbours).flat_map(|n| &mut n.banks);
    banks.for_each(|b| b.usual = None);
    assert_eq!(format_version(&of_before), 4);
    assert_eq!(from_bytes(&to_bytes(&of_before).unwrap(), NAME).unwrap().views, of_before.views);
    of_before.settings.head.length = Length::Pass { least: 400, most: 1600 };
    assert_eq!(format_version(&of_before), 5);
    of_before.settings.map_views = MapViews::Area;
    assert_eq!(format_version(&of_before), 6);
    model.settings.neighbours = None;
    model.views.iter_mut().for_each(|v| v.neighbours = None);
    assert_eq!(format_version(&model), 2);
    let bytes = to_bytes(&model).unwrap();
    let mark = br#"\"neighbours\":{"#;
    assert!(!bytes.windows(mark.len()).any(|w| w == mark), "as before there were any");
    assert_eq!(from_bytes(&bytes, NAME).unwrap().views, model.views);
    model.settings.min_area = 4;
    assert_eq!(format_version(&model), 3);
}

#[test]
fn a_later_version_is_named() {
    let bytes = to_bytes(&model()).unwrap();
    for version in [FORMAT_VERSION + 1, u32::MAX] {
        // Even where the later layout is another one.
        let later = forged(&bytes, |json, _| {
            *json = json!({ "crc32": "00000000", "format_version": version, "heads": [] });
        });
        let (kind, text) = refused(&later);
        assert_eq!(kind, ErrorKind::Unsupported);
        assert!(text.contains(&format!("found {version}")), "{text}");
    }
}

#[test]
fn tensors_that_do_not_fit_are_named() {
    let bytes = to_bytes(&model()).unwrap();
    let name = "view1.head0.projection.weight";

    let nan = forged(&bytes, |_, t| tensor(t, name).data[4..8].copy_from_slice(&f32::NAN.to_le_bytes()));
    let infinite = forged(&bytes, |_, t| {
        tensor(t, name).data[..4].copy_from_slice(&f32::INFINITY.to_le_bytes());
    });
    let half = forged(&bytes, |_, t| {
        let t = tensor(t, "backbone._conv_stem.weight");
        assert_eq!(t.dtype, Dtype::F16, "embedded weights stay float16");
        t.data[..2].copy_from_slice(&half::f16::NAN.to_le_bytes());
    });
    for (bytes, name) in [(nan, name), (infinite, name), (half, "backbone._conv_stem.weight")] {
        let (kind, text) = refused(&bytes);
        assert_eq!(kind, ErrorKind::Input);
        assert!(text.contains(name) && text.contains("finite"), "{text}");
    }

    let shape = forged(&bytes, |_, t| tensor(t, name).shape = vec![DIM * DIM]);
    let transposed =
        forged(&bytes, |_, t| tensor(t, "view0.head1.discriminator.weight").shape = vec![DIM, 8]);
    let fewer = forged(&bytes, |_, t| {
        let t = tensor(t, "view0.head0.feature_mean");
        (t.shape, t.data) = (vec![DIM - 1], t.data[4..].to_vec());
    });
    for (bytes, name) in
        [(shape, name), (transposed, "view0.head1.discriminator.weight"), (fewer, "view0.head0.feature_mean")]
    {
        let (kind, text) = refused(&bytes);
        assert_eq!(kind, ErrorKind::Input);
        assert!(text.contains(name) && text.contains("expected shape"), "{text}");
    }

    for name in [name, "view0.head0.feature_deviation", "backbone._blocks.1._expand_conv.bias"] {
        let (_, text) = refused(&forged(&bytes, |_, t| t.retain(|(n, _)| n != name)));
        let bare = name.strip_prefix("backbone.").unwrap_or(name);
        assert!(text.contains(&format!("`{bare}` is missing")), "{name}: {text}");
    }
    let (_, text) = refused(&forged(&bytes, |_, t| {
        t.push(("view7.head0.surplus".into(), Raw { dtype: Dtype::F32, shape: vec![1], data: vec![0; 4] }));
    }));
    assert!(text.contains("`view7.head0.surplus` is not part"), "{text}");

    let (_, text) = refused(&forged(&bytes, |_, t| tensor(t, "view0.head0.feature_deviation").data.fill(0)));
    assert!(text.contains("positive feature deviations"), "{text}");
}

#[test]
fn descriptions_out_of_range_are_refused() {
    let bytes = to_bytes(&model()).unwrap();
    let edit = |path: &'static str, value: Value| {
        let forged = forged(&bytes, |json, _| {
            *json.pointer_mut(path).unwrap_or_else(|| panic!("{path} is in the description")) = value;
        });
        let (_, text) = refused(&forged);
        text
    };
    for (path, value, part) in [
        ("/views/0/heads", json!(0), "heads"),
        ("/views/0/heads", json!(1_000_000), "heads"),
        ("/views/0/heads", json!(3), "view0.head2.projection.weight"),
        ("/views/0/dim", json!(63), "view0.head0.projection.weight"),
        ("/views/0/dim", json!(1u64 << 40), "entries of a feature"),
        ("/views/0/hidden", json!(0), "hidden units"),
        ("/views/0/size/width", json!(0), "found 0"),
        ("/views/0/size/height", json!(1_000_000), "found 1000000"),
        ("/views/0/scales/0/deviation", json!(0.0), "scale of scores"),
        ("/views/0/scales/1/deviation", json!(-1.0), "scale of scores"),
        ("/views", json!([]), "1 to 8 views"),
        ("/views/0/neighbours/rows", json!([3]), "each of 2 heads a bank"),
        ("/views/0/neighbours/rows/1", json!(0), "each of 2 heads a bank"),
        ("/views/0/neighbours/rows/1", json!(6), "view0.bank1.rows"),
        ("/views/0/neighbours/deviations/0", json!(0.0), "positive deviation"),
        ("/views/1/neighbours", Value::Null, "view1.bank0.deviation` is not part"),
        ("/settings/neighbours", Value::Null, "in every view or in none"),
        ("/settings/neighbours/usual_weight", json!(0.0), "in every bank or in none"),
        ("/views/0/neighbours/usual", json!(false), "is not part of a model"),
        ("/calibration/false_reject_rate", json!(0.0), "calibration"),
        ("/calibration/heads/1", json!([]), "calibration"),
        ("/calibration/heads", json!([[1.0]]), "each of 2 heads"),
        ("/settings/feature_layers", json!([]), "feature layers"),
        ("/settings/feature_layers/0", json!("stride2"), "feature layer `stride2`"),
        ("/settings/pooling", json!({ "adaptive": { "embed_dim": 12 } }), "12 entries"),
        ("/format_version", json!("one"), "header"),
        ("/graph/nodes/1/inputs", json!([40]), "earlier nodes"),
        ("/graph/nodes/1/inputs", json!([]), "earlier nodes"),
        ("/graph/nodes/1/name", json!("_blocks.0._project_conv"), "is missing"),
        ("/graph/outputs/0/1", json!(4000), "output `stride8`"),
    ] {
        let text = edit(path, value.clone());
        assert!(text.contains(part), "{path} = {value}: {text}");
    }
}

#[test]
fn a_failing_self_test_is_refused() {
    let bytes = to_bytes(&model()).unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let json: Value = serde_json::from_str(&header.metadata().as_ref().unwrap()["pbas"]).unwrap();
    let values: Vec<f64> = serde_json::from_value(json["self_test"].clone()).unwrap();
    assert_eq!(values.len(), 4, "one value a head");
    let with = |values: &[f64]| forged(&bytes, |json, _| json["self_test"] = json!(values));

    for head in 0..4 {
        let mut tampered = values.clone();
        tampered[head] += 0.01 * (1.0 + tampered[head].abs());
        let (kind, text) = refused(&with(&tampered));
        assert_eq!(kind, ErrorKind::Input);
        assert!(text.contains("self-test: expected"), "{text}");
    }
    refused(&with(&values[..3]));
    // What another processor may round differently is no damage.
    let near: Vec<f64> = values.iter().map(|v| v + 1e-5).collect();
    from_bytes(&with(&near), NAME).unwrap();
    // Weights that were changed by somebody who mends the checksum give other values.
    let (_, text) =
        refused(&forged(&bytes, |_, t| tensor(t, "view1.head1.discriminator.output").data.fill(0)));
    assert!(text.contains("self-test"), "{text}");
    // A variance below zero has no root.
    let negative = (-1.0f32).to_le_bytes().repeat(8);
    let (_, text) =
        refused(&forged(&bytes, |_, t| tensor(t, "view1.head1.discriminator.running_var").data = negative));
    assert!(text.contains("self-test"), "{text}");
}
