//! Geometry, normalisation and the way back, against Pillow's figures and slow, obvious twins.

use std::path::PathBuf;

use pbas::ErrorKind;
use pbas::image::{DecodeOptions, DefectMask, Rgb8, read_rgb};
use pbas::preprocess::{Axis, Fit, Geometry, InputSize, Normalization, Placement, map_to_original};
use pbas::score::ScoreMap;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

fn golden(name: &str) -> PathBuf {
    let folder = std::env::var_os("PBAS_GOLDEN").map(PathBuf::from);
    folder.unwrap_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden"))).join(name)
}

fn noise(width: usize, height: usize) -> Rgb8 {
    let mut rng = ChaCha8Rng::seed_from_u64((width * 10_000 + height) as u64);
    Rgb8 { width, height, data: (0..width * height * 3).map(|_| rng.random()).collect() }
}

fn geometry(fit: Fit, height: usize, width: usize) -> Geometry {
    Geometry { fit, size: InputSize { height, width } }
}

#[test]
fn golden_crop_matches_torchvision_on_pillow() {
    let bytes = std::fs::read(golden("preprocess.safetensors")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let (mut coloured, mut grey) = (0, 0);
    for (name, tensor) in tensors.tensors() {
        let (file, sizes) = match name.strip_prefix("grey.") {
            Some(sizes) => ("picture_grey.png", sizes),
            None => ("picture.png", name.as_str()),
        };
        *(if file == "picture.png" { &mut coloured } else { &mut grey }) += 1;
        let (resize, crop) = sizes.strip_prefix("resize").unwrap().split_once("_crop").unwrap();
        let (resize, crop): (usize, usize) = (resize.parse().unwrap(), crop.parse().unwrap());

        let picture = read_rgb(&golden(file), &DecodeOptions::default()).unwrap();
        let (input, _) = geometry(Fit::Crop { resize }, crop, crop).apply(&picture).unwrap();
        let values = Normalization::IMAGENET.to_nhwc(&input);

        let sampled = crop.div_ceil(4);
        assert_eq!(tensor.shape(), [3, sampled, sampled], "{name}");
        let expected = tensor.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()));
        let (mut worst, mut sum) = (0.0_f32, 0.0);
        for (i, expected) in expected.enumerate() {
            let (c, y, x) = (i / (sampled * sampled), i / sampled % sampled * 4, i % sampled * 4);
            let level = 1.0 / 255.0 / Normalization::IMAGENET.std[c];
            let difference = (values[(y * crop + x) * 3 + c] - expected).abs() / level;
            worst = worst.max(difference);
            sum += f64::from(difference);
        }
        let mean = sum / (3 * sampled * sampled) as f64;
        println!("{name}: worst {worst:.4}, mean {mean:.4} grey levels");
        assert!(worst <= 1.001, "{name}: {worst} grey levels");
        assert!(mean <= 0.1, "{name}: {mean} grey levels on average");
    }
    assert!(coloured >= 3 && grey >= 3, "{coloured} coloured and {grey} grey tensors");
}

/// Antialiased bilinear along one axis in float64, whole length, as Pillow's ImagingResample defines it.
fn slow_resample(line: &[f64], out: usize) -> Vec<f64> {
    let scale = line.len() as f64 / out as f64;
    let support = scale.max(1.0);
    (0..out)
        .map(|i| {
            let centre = (i as f64 + 0.5) * scale;
            let weight = |j: usize| (1.0 - ((j as f64 + 0.5 - centre) / support).abs()).max(0.0);
            let (mut sum, mut weights) = (0.0, 0.0);
            for (j, value) in line.iter().enumerate() {
                sum += weight(j) * value;
                weights += weight(j);
            }
            sum / weights
        })
        .collect()
}

/// One channel resized, row-major float64.
fn slow_resize(picture: &Rgb8, channel: usize, width: usize, height: usize) -> Vec<f64> {
    let value = |x: usize, y: usize| f64::from(picture.data[(y * picture.width + x) * 3 + channel]);
    let columns: Vec<Vec<f64>> = (0..picture.width)
        .map(|x| slow_resample(&(0..picture.height).map(|y| value(x, y)).collect::<Vec<_>>(), height))
        .collect();
    (0..height)
        .flat_map(|y| slow_resample(&columns.iter().map(|c| c[y]).collect::<Vec<_>>(), width))
        .collect()
}

/// How a case of `CASES` is resized in full, and where the model's input begins in that (negative: padding).
struct Case {
    picture: (usize, usize),
    fit: Fit,
    model: (usize, usize),
    resized: (usize, usize),
    start: (i64, i64),
}

/// Widths before heights; resized sizes and starts worked out by hand from torchvision's rules.
const CASES: [Case; 15] = [
    case((40, 30), Fit::Stretch, (24, 24), (24, 24), (0, 0)),
    case((17, 90), Fit::Stretch, (64, 32), (64, 32), (0, 0)),
    case((1, 1), Fit::Stretch, (16, 12), (16, 12), (0, 0)),
    case((20, 4000), Fit::Stretch, (32, 32), (32, 32), (0, 0)),
    case((1, 9000), Fit::Stretch, (8192, 8), (8192, 8), (0, 0)), // too much between rows first and columns
    // 24 * 45 / 31 = 34.8 -> 34; (34 - 24) / 2 = 5
    case((31, 45), Fit::Crop { resize: 24 }, (24, 24), (24, 34), (0, 5)),
    // 33 * 45 / 31 = 47.9 -> 47; (47 - 30) / 2 = 8.5 -> 8; (33 - 30) / 2 = 1.5 -> 2: halves go to even
    case((45, 31), Fit::Crop { resize: 33 }, (30, 30), (47, 33), (8, 2)),
    case((31, 31), Fit::Crop { resize: 31 }, (20, 21), (31, 31), (6, 5)), // 5.5 -> 6; 5
    case((1, 1), Fit::Crop { resize: 9 }, (8, 8), (9, 9), (0, 0)),        // 0.5 -> 0
    case((20, 4000), Fit::Crop { resize: 32 }, (32, 32), (32, 6400), (0, 3184)),
    case((40, 30), Fit::Pad, (24, 24), (24, 18), (0, -3)),
    case((30, 45), Fit::Pad, (32, 24), (16, 24), (-8, 0)),
    case((10, 7), Fit::Pad, (33, 32), (33, 23), (0, -4)), // 23.1 -> 23; 4.5 -> 4
    case((1, 1), Fit::Pad, (16, 12), (12, 12), (-2, 0)),
    case((20, 4000), Fit::Pad, (32, 32), (1, 32), (-15, 0)), // 0.16 -> at least 1
];

const fn case(
    picture: (usize, usize),
    fit: Fit,
    model: (usize, usize),
    resized: (usize, usize),
    start: (i64, i64),
) -> Case {
    Case { picture, fit, model, resized, start }
}

impl Case {
    fn geometry(&self) -> Geometry {
        geometry(self.fit, self.model.1, self.model.0)
    }
    /// The pixel of the resized picture at a pixel of the model's input.
    fn resized_at(&self, x: usize, y: usize) -> Option<(usize, usize)> {
        let x = usize::try_from(x as i64 + self.start.0).ok().filter(|&x| x < self.resized.0)?;
        let y = usize::try_from(y as i64 + self.start.1).ok().filter(|&y| y < self.resized.1)?;
        Some((x, y))
    }
    fn name(&self) -> String {
        format!("{:?} {:?} {:?}", self.picture, self.fit, self.model)
    }
}

#[test]
fn every_fit_agrees_with_resizing_all_in_float64() {
    for case in &CASES {
        let name = case.name();
        let picture = noise(case.picture.0, case.picture.1);
        let (input, placement) = case.geometry().apply(&picture).unwrap();
        assert_eq!((input.width, input.height), case.model, "{name}");
        assert_eq!(input.data.len(), case.model.0 * case.model.1 * 3, "{name}");
        for channel in 0..3 {
            let slow = slow_resize(&picture, channel, case.resized.0, case.resized.1);
            let sum: u64 = picture.data.iter().skip(channel).step_by(3).map(|&v| u64::from(v)).sum();
            let mean = sum as f64 / (picture.width * picture.height) as f64;
            for (i, pixel) in input.data.chunks_exact(3).enumerate() {
                let at = case.resized_at(i % case.model.0, i / case.model.0);
                let expected = at.map_or(mean, |(x, y)| slow[y * case.resized.0 + x]);
                // Both passes round to whole grey levels.
                let difference = (f64::from(pixel[channel]) - expected).abs();
                assert!(difference <= 1.01, "{name}: pixel {i}: {} for {expected}", pixel[channel]);
            }
        }
        // Where the edges of the resized picture lie in the input.
        let corner = |x, y| placement.to_model(x, y);
        let far = corner(case.picture.0 as f64, case.picture.1 as f64);
        let expected_far =
            (case.resized.0 as f64 - case.start.0 as f64, case.resized.1 as f64 - case.start.1 as f64);
        assert_eq!(corner(0.0, 0.0), (-case.start.0 as f64, -case.start.1 as f64), "{name}");
        assert!((far.0 - expected_far.0).abs() < 1e-9 && (far.1 - expected_far.1).abs() < 1e-9, "{name}");
        assert_eq!(case.geometry().place(case.picture.0, case.picture.1).unwrap(), placement, "{name}");
    }
}

#[test]
fn masks_take_the_nearest_pixel_and_stay_binary() {
    for case in &CASES {
        let (width, height) = case.picture;
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let data = (0..width * height).map(|_| rng.random_range(0..2)).collect();
        let mask = DefectMask { width, height, data };
        let out = case.geometry().apply_mask(&mask).unwrap();
        assert_eq!((out.width, out.height), case.model);
        assert_eq!(out.data.len(), case.model.0 * case.model.1);
        for (i, &value) in out.data.iter().enumerate() {
            let expected = case.resized_at(i % case.model.0, i / case.model.0).map_or(0, |(x, y)| {
                // floor((i + 0.5) * from / to), in whole numbers.
                let (x, y) =
                    ((2 * x + 1) * width / (2 * case.resized.0), (2 * y + 1) * height / (2 * case.resized.1));
                mask.data[y * width + x]
            });
            assert_eq!(value, expected, "{} pixel {i}", case.name());
        }
    }
    // Anything but 0 counts as 1.
    let mask = DefectMask { width: 2, height: 1, data: vec![0, 255] };
    assert_eq!(geometry(Fit::Stretch, 1, 2).apply_mask(&mask).unwrap().data, [0, 1]);
}

#[test]
fn a_picture_of_the_right_size_is_not_touched() {
    let picture = noise(20, 14);
    for fit in [Fit::Stretch, Fit::Pad, Fit::Crop { resize: 14 }] {
        let (input, placement) = geometry(fit, 14, 20).apply(&picture).unwrap();
        assert_eq!(input, picture, "{fit:?}");
        let same = Axis { scale: 1.0, offset: 0.0 };
        assert_eq!((placement.x, placement.y), (same, same), "{fit:?}");
    }
}

#[test]
fn no_size_trips_over_rounding() {
    for length in 1..600 {
        let side = 1 + length % 5;
        for (width, height) in [(side, length), (length, side)] {
            let picture = Rgb8 { width, height, data: vec![77; width * height * 3] };
            for fit in [Fit::Stretch, Fit::Pad, Fit::Crop { resize: 7 }, Fit::Crop { resize: 8 }] {
                let (input, _) = geometry(fit, 7, 7).apply(&picture).unwrap();
                assert!(input.data.iter().all(|&v| v == 77), "{width} x {height}, {fit:?}");
            }
        }
    }
}

#[test]
fn senseless_geometry_is_refused() {
    let picture = noise(40, 30);
    let cases = [
        (
            geometry(Fit::Crop { resize: 20 }, 24, 24),
            ErrorKind::Caller,
            "cannot crop 24 x 24 from a picture of 40 x 30: it is resized to 26 x 20",
        ),
        (geometry(Fit::Crop { resize: 24 }, 24, 60), ErrorKind::Caller, "cannot crop 60 x 24"),
        (geometry(Fit::Crop { resize: 0 }, 24, 24), ErrorKind::Caller, "shorter side before the crop"),
        (
            geometry(Fit::Stretch, 0, 24),
            ErrorKind::Caller,
            "model input: expected at least 1 x 1 pixels, found 24 x 0",
        ),
        (geometry(Fit::Pad, 24, 1 << 40), ErrorKind::Limits, "model input"),
        (geometry(Fit::Crop { resize: 1 << 40 }, 24, 24), ErrorKind::Limits, "shorter side before the crop"),
    ];
    for (geometry, kind, part) in cases {
        let mask = DefectMask { width: 40, height: 30, data: vec![0; 1200] };
        for e in [geometry.apply(&picture).unwrap_err(), geometry.apply_mask(&mask).unwrap_err()] {
            assert_eq!(e.kind(), kind, "{e}");
            assert!(e.to_string().contains(part), "`{e}` does not say `{part}`");
        }
    }
    let stretch = geometry(Fit::Stretch, 8, 8);
    let empty = Rgb8 { width: 0, height: 3, data: vec![] };
    assert_eq!(stretch.apply(&empty).unwrap_err().kind(), ErrorKind::Caller);
    let short = Rgb8 { width: 2, height: 2, data: vec![0; 11] };
    assert_eq!(stretch.apply(&short).unwrap_err().kind(), ErrorKind::Caller);
    let short = DefectMask { width: 2, height: 2, data: vec![0; 3] };
    assert_eq!(stretch.apply_mask(&short).unwrap_err().kind(), ErrorKind::Caller);
    let long = Rgb8 { width: 1 << 21, height: 1, data: vec![0; 3 << 21] };
    assert_eq!(stretch.apply(&long).unwrap_err().kind(), ErrorKind::Limits);
}

#[test]
fn placement_goes_there_and_back() {
    // 400 x 300 padded into 200 x 200: half size, 25 rows above.
    let pad = geometry(Fit::Pad, 200, 200).place(400, 300).unwrap();
    assert_eq!(pad.to_model(0.0, 0.0), (0.0, 25.0));
    assert_eq!(pad.to_model(400.0, 300.0), (200.0, 175.0));
    assert_eq!(pad.to_original(100.0, 100.0), (200.0, 150.0));
    assert_eq!(pad.rect_to_original([0.0, 0.0, 200.0, 200.0]), [0.0, 0.0, 400.0, 300.0]);
    assert_eq!(pad.rect_to_original([10.0, 35.0, 5.0, 6.0]), [20.0, 20.0, 10.0, 12.0]);
    assert_eq!(pad.rect_to_original([10.0, 0.0, 5.0, 20.0]), [20.0, 0.0, 10.0, 0.0]); // padding alone
    assert_eq!(pad.rect_to_model([20.0, 20.0, 10.0, 12.0]), [10.0, 35.0, 5.0, 6.0]);

    // 400 x 300, shorter side to 150, centre 100 x 100: 200 x 150 cropped by 50 and 25.
    let crop = geometry(Fit::Crop { resize: 150 }, 100, 100).place(400, 300).unwrap();
    assert_eq!(crop.to_model(0.0, 0.0), (-50.0, -25.0));
    assert_eq!(crop.rect_to_original([0.0, 0.0, 100.0, 100.0]), [100.0, 50.0, 200.0, 200.0]);
    assert_eq!(crop.rect_to_model([0.0, 0.0, 120.0, 60.0]), [0.0, 0.0, 10.0, 5.0]);
    for placement in [pad, crop] {
        let (x, y) = placement.to_model(123.25, 45.5);
        let (x, y) = placement.to_original(x, y);
        assert!((x - 123.25).abs() < 1e-9 && (y - 45.5).abs() < 1e-9);
    }
}

#[test]
fn normalisation_follows_its_formula_in_nhwc_order() {
    let picture = Rgb8 {
        width: 256,
        height: 2,
        data: (0..=255).flat_map(|v| [v, 255 - v, v]).collect::<Vec<u8>>().repeat(2),
    };
    let lite = Normalization::LITE.to_nhwc(&picture);
    let imagenet = Normalization::IMAGENET.to_nhwc(&picture);
    assert_eq!(lite.len(), picture.data.len());
    for (i, &byte) in picture.data.iter().enumerate() {
        let value = f32::from(byte);
        assert!((lite[i] - (value - 127.0) / 128.0).abs() < 1e-6, "{byte}: {}", lite[i]);
        let (mean, std) = ([0.485, 0.456, 0.406][i % 3], [0.229, 0.224, 0.225][i % 3]);
        assert!((imagenet[i] - (value / 255.0 - mean) / std).abs() < 1e-6, "{byte}: {}", imagenet[i]);
    }
    let mut out = vec![f32::NAN; picture.data.len()];
    Normalization::LITE.write_nhwc(&picture, &mut out).unwrap();
    assert_eq!(out, lite);
    let e = Normalization::LITE.write_nhwc(&picture, &mut out[1..]).unwrap_err();
    assert!(e.to_string().contains("256 x 2: expected room for 1536 values, found 1535"), "{e}");
}

#[test]
fn settings_survive_json() {
    for fit in [Fit::Stretch, Fit::Crop { resize: 329 }, Fit::Pad] {
        let geometry = geometry(fit, 288, 320);
        let text = serde_json::to_string(&geometry).unwrap();
        assert_eq!(serde_json::from_str::<Geometry>(&text).unwrap(), geometry, "{text}");
    }
    let text = serde_json::to_string(&geometry(Fit::Crop { resize: 329 }, 288, 320)).unwrap();
    assert_eq!(text, r#"{"fit":{"crop":{"resize":329}},"size":{"height":288,"width":320}}"#);
    let text = serde_json::to_string(&Normalization::IMAGENET).unwrap();
    assert_eq!(serde_json::from_str::<Normalization>(&text).unwrap(), Normalization::IMAGENET);
}

fn random_map(width: usize, height: usize) -> ScoreMap {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    ScoreMap { width, height, values: (0..width * height).map(|_| rng.random::<f32>() * 4.0 - 1.0).collect() }
}

/// The map's value at one pixel of the original, in float64 from the definition.
fn slow_value(map: &ScoreMap, placement: &Placement, x: f64, y: f64) -> f64 {
    let (x, y) = placement.to_model(x, y);
    let (width, height) = (placement.model.width as f64, placement.model.height as f64);
    if x < 0.0 || y < 0.0 || x > width || y > height {
        return f64::from(map.values.iter().copied().fold(f32::INFINITY, f32::min));
    }
    // The cells that show the picture; the rest is padding.
    let shown = placement.rect_to_model([
        0.0,
        0.0,
        placement.original.width as f64,
        placement.original.height as f64,
    ]);
    let along = |at: f64, start: f64, length: f64, model: f64, cells: usize| {
        let ratio = cells as f64 / model;
        let low = (start * ratio).floor();
        let high = ((start + length) * ratio - 1e-9).ceil() - 1.0;
        let at = (at * ratio - 0.5).max(low).min(high);
        let next = (at.floor() + 1.0).min(high);
        (at.floor() as usize, next as usize, at - at.floor())
    };
    let (x0, x1, wx) = along(x, shown[0], shown[2], width, map.width);
    let (y0, y1, wy) = along(y, shown[1], shown[3], height, map.height);
    let at = |x: usize, y: usize| f64::from(map.values[y * map.width + x]);
    (at(x0, y0) * (1.0 - wx) + at(x1, y0) * wx) * (1.0 - wy)
        + (at(x0, y1) * (1.0 - wx) + at(x1, y1) * wx) * wy
}

#[test]
fn maps_come_back_as_the_definition_says() {
    for case in &CASES {
        let placement = case.geometry().place(case.picture.0, case.picture.1).unwrap();
        // At the input's resolution and at a grid of another.
        for (width, height) in [case.model, (5, 3)] {
            let map = random_map(width, height);
            let back = map_to_original(&map, &placement, case.picture.0, case.picture.1).unwrap();
            assert_eq!((back.width, back.height), case.picture);
            assert_eq!(back.values.len(), case.picture.0 * case.picture.1);
            for (i, &value) in back.values.iter().enumerate() {
                let (x, y) = ((i % back.width) as f64 + 0.5, (i / back.width) as f64 + 0.5);
                let expected = slow_value(&map, &placement, x, y);
                assert!(
                    (f64::from(value) - expected).abs() < 1e-5,
                    "{} pixel {i}: {value}, {expected}",
                    case.name()
                );
            }
        }
    }
}

#[test]
fn map_of_the_same_size_comes_back_unchanged_and_bright_spots_stay_in_place() {
    let map = random_map(30, 20);
    let placement = geometry(Fit::Stretch, 20, 30).place(30, 20).unwrap();
    assert_eq!(map_to_original(&map, &placement, 30, 20).unwrap(), map);

    // A bright square of the original is found by its way through the model and back.
    for fit in [Fit::Stretch, Fit::Pad, Fit::Crop { resize: 70 }] {
        let (width, height) = (160, 120);
        let mut picture = Rgb8 { width, height, data: vec![0; width * height * 3] };
        for y in 70..80 {
            picture.data[(y * width + 90) * 3..(y * width + 100) * 3].fill(255);
        }
        let (input, placement) = geometry(fit, 64, 64).apply(&picture).unwrap();
        let values = input.data.chunks_exact(3).map(|p| f32::from(p[0])).collect();
        let map = ScoreMap { width: 64, height: 64, values };
        let back = map_to_original(&map, &placement, width, height).unwrap();
        let (mut sum, mut x, mut y) = (0.0, 0.0, 0.0);
        let ground = if fit == Fit::Pad { f32::from(input.data[0]) } else { 0.0 };
        for (i, &value) in back.values.iter().enumerate().filter(|(_, v)| **v > ground) {
            sum += f64::from(value);
            x += f64::from(value) * ((i % width) as f64 + 0.5);
            y += f64::from(value) * ((i / width) as f64 + 0.5);
        }
        assert!(
            (x / sum - 95.0).abs() < 0.5 && (y / sum - 75.0).abs() < 0.5,
            "{fit:?}: {} {}",
            x / sum,
            y / sum
        );
    }
}

#[test]
fn cropped_pixels_take_the_lowest_value_and_padding_is_cut_off() {
    // 400 x 100 -> shorter side 10, centre 10 x 10: columns 150..250 of the original are seen.
    let crop = geometry(Fit::Crop { resize: 10 }, 10, 10).place(400, 100).unwrap();
    let mut map = ScoreMap { width: 10, height: 10, values: vec![5.0; 100] };
    map.values[55] = 2.0;
    let back = map_to_original(&map, &crop, 400, 100).unwrap();
    for (i, &value) in back.values.iter().enumerate() {
        match i % 400 {
            150..250 => assert!((2.0..=5.0).contains(&value)),
            _ => assert_eq!(value, 2.0),
        }
    }
    assert_eq!(back.values[150], 5.0);
    assert_eq!(back.values[249], 5.0);

    // 400 x 200 in 20 x 20: rows 5..15 show the picture. The alarm in the padding is heard nowhere.
    let pad = geometry(Fit::Pad, 20, 20).place(400, 200).unwrap();
    let values = (0..400).map(|i| if (5..15).contains(&(i / 20)) { 1.0 } else { 99.0 }).collect();
    let back = map_to_original(&ScoreMap { width: 20, height: 20, values }, &pad, 400, 200).unwrap();
    assert!(back.values.iter().all(|&v| v == 1.0));
}

#[test]
fn maps_are_drawn_at_other_sizes_and_bad_ones_refused() {
    let placement = geometry(Fit::Stretch, 4, 4).place(100, 60).unwrap();
    let map = ScoreMap { width: 4, height: 4, values: (0..16).map(|i| (i % 4) as f32).collect() };
    let back = map_to_original(&map, &placement, 8, 2).unwrap();
    assert_eq!((back.width, back.height), (8, 2));
    assert_eq!(back.values[..8], [0.0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3.0]);
    assert!(map_to_original(&map, &placement, 0, 3).unwrap().values.is_empty());

    for (width, height, length) in [(4, 4, 15), (0, 0, 0), (usize::MAX, 2, 4)] {
        let bad = ScoreMap { width, height, values: vec![0.0; length] };
        assert_eq!(map_to_original(&bad, &placement, 8, 2).unwrap_err().kind(), ErrorKind::Caller);
    }
}
