//! `--roi` and `--min-area`, run as a user runs them.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{folder, grey, pbas, set, train};
use pbas::image::{DecodeOptions, read_rgb};
use serde_json::Value;

/// Side of the pictures of [`set`].
const SIDE: u32 = 320;

/// A mask of `width` x `height` whose left half is white.
fn left_half(path: &Path, width: u32, height: u32) {
    let values: Vec<u8> = (0..width * height).map(|i| if i % width < width / 2 { 255 } else { 0 }).collect();
    grey(path, width, height, &values);
}

fn predict(model: &Path, picture: &Path, more: &[&str]) -> Value {
    let mut args = vec!["predict", model.to_str().unwrap(), picture.to_str().unwrap()];
    args.extend(more);
    let mut record = pbas(&args).code(0).json_lines().remove(0);
    for volatile in ["path", "milliseconds"] {
        record.as_object_mut().unwrap().remove(volatile);
    }
    record
}

/// A test picture with its left or right half replaced by coarse noise.
fn spoiled(out: &Path, left: bool) -> PathBuf {
    let mut picture = read_rgb(&set().join("test/good/000.png"), &DecodeOptions::default()).unwrap();
    let half = picture.width / 2;
    for (i, p) in picture.data.chunks_exact_mut(3).enumerate() {
        let (x, y) = (i % (2 * half), i / (2 * half));
        if (x < half) == left {
            p.fill(if (x / 7 + y / 5) % 2 == 0 { 250 } else { 5 });
        }
    }
    let path = out.join(format!("spoiled_{left}.png"));
    picture.write_png(&path).unwrap();
    path
}

#[test]
fn outside_nothing_trains_and_nothing_scores() {
    let out = folder();
    let (mask, model) = (out.path().join("mask.png"), out.path().join("m.pbas"));
    left_half(&mask, SIDE, SIDE);
    // At such a rate about half of the good pictures show a region, and defective ones more often.
    let args = ["--roi", mask.to_str().unwrap(), "--size", "96,64", "--false-reject-rate", "0.5"];
    let run = pbas(
        &[&["train", set().to_str().unwrap(), "-o", model.to_str().unwrap()][..], &SHORT, &args].concat(),
    );
    assert!(!run.code(0).stderr.contains("is resized"));

    let info = pbas(&["info", model.to_str().unwrap()]).code(0).stdout;
    assert!(info.contains("of interest `mask.png`, 320 x 320 pixels: 50 % of the picture"), "{info}");
    assert!(info.contains("format 7"), "{info}");

    let good = set().join("test/good/000.png");
    let (right, left) = (spoiled(out.path(), false), spoiled(out.path(), true));
    let clean = predict(&model, &good, &[]);
    assert_eq!(predict(&model, &right, &[]), clean, "what lies outside counts for nothing");
    let seen = predict(&model, &left, &[]);
    assert_ne!(seen["image_score"], clean["image_score"], "what lies inside counts");
    let run = pbas(&["predict", model.to_str().unwrap(), set().to_str().unwrap()]).code(0);
    let mut regions = 0;
    for r in run.json_lines().iter().flat_map(|record| record["regions"].as_array().unwrap()) {
        let end = r["x"].as_u64().unwrap() + r["width"].as_u64().unwrap();
        assert!(end <= u64::from(SIDE / 2) + 4, "beyond the region of interest: {r}"); // A pixel of the map is 3.3 wide.
        regions += 1;
    }
    assert!(regions > 0, "the rate of 50 % shows none");

    // Nothing outside trains: other pictures that are the same inside give the same weights.
    let others = out.path().join("others");
    fs::create_dir(&others).unwrap();
    for entry in fs::read_dir(set().join("train/good")).unwrap() {
        let path = entry.unwrap().path();
        let mut picture = read_rgb(&path, &DecodeOptions::default()).unwrap();
        for (i, p) in picture.data.chunks_exact_mut(3).enumerate() {
            if i % picture.width >= picture.width / 2 {
                p.fill((i * 31 % 200) as u8);
            }
        }
        picture.write_png(&others.join(path.file_name().unwrap())).unwrap();
    }
    let twin = out.path().join("twin.pbas");
    pbas(&[&["train", others.to_str().unwrap(), "-o", twin.to_str().unwrap()][..], &SHORT, &args].concat())
        .code(0);
    assert_eq!(predict(&twin, &good, &[]), clean);

    // Every command obeys it.
    let maps = out.path().join("maps");
    let json = out.path().join("r.json");
    let run = pbas(&[
        "eval",
        model.to_str().unwrap(),
        set().to_str().unwrap(),
        "--json",
        json.to_str().unwrap(),
        "--heatmaps",
        maps.to_str().unwrap(),
    ]);
    run.code(0);
    let json: Value = serde_json::from_slice(&fs::read(json).unwrap()).unwrap();
    let of_good =
        json["samples"].as_array().unwrap().iter().find(|s| s["path"] == "test/good/000.png").unwrap();
    assert_eq!(of_good["image_score"], clean["image_score"]);
    let heatmap = read_rgb(&maps.join("test/good/000.png"), &DecodeOptions::default()).unwrap();
    assert!(heatmap.width >= 2 * SIDE as usize);
    let changed = out.path().join("c.pbas");
    let rate = ["--false-reject-rate", "0.2", "-o", changed.to_str().unwrap()];
    pbas(&[&["calibrate", model.to_str().unwrap()][..], &rate].concat()).code(0);
    assert!(pbas(&["info", changed.to_str().unwrap()]).stdout.contains("of interest `mask.png`"));

    // A picture of other proportions cannot be told where to look.
    let wide = out.path().join("wide.png");
    common::noise(&wide, 640, 320);
    let args = ["predict", model.to_str().unwrap(), wide.to_str().unwrap(), good.to_str().unwrap()];
    let records = pbas(&args).code(2).json_lines();
    let said = records[0]["error"].as_str().unwrap();
    assert!(said.contains("`mask.png`, 320 x 320 pixels, found 640 x 320"), "{said}");
    assert_eq!(records[1]["image_score"], clean["image_score"]);
}

/// As `common::TINY`, without the size.
const SHORT: [&str; 8] = ["--steps", "5", "--folds", "2", "--batch-size", "100", "--hidden", "16"];

#[test]
fn masks_of_other_sizes_and_masks_that_are_refused() {
    let out = folder();
    let (mask, model) = (out.path().join("mask.png"), out.path().join("m.pbas"));
    let with = |mask: &Path| train(set(), &model, &["--roi", mask.to_str().unwrap()]);
    left_half(&mask, 80, 80);
    with(&mask).code(0).says(&[
        "warning: region of interest `mask.png` of 80 x 80 pixels is resized to the pictures' 320 x 320",
    ]);
    fs::remove_file(&model).unwrap();

    left_half(&mask, 320, 200);
    with(&mask).refused(&["000.png`", "`mask.png`, 320 x 200 pixels, found 320 x 320", "hint: "]);
    grey(&mask, 320, 320, &vec![127; 320 * 320]);
    with(&mask).refused(&["region of interest `mask.png`: expected white pixels", "found none"]);
    let dot: Vec<u8> = (0..320 * 320).map(|i| if i == 320 * 160 + 160 { 255 } else { 0 }).collect();
    grey(&mask, 320, 320, &dot);
    with(&mask).refused(&["no patch of the view of 64 x 64 pixels", "hint: draw a larger region"]);
    fs::write(&mask, "no picture").unwrap();
    with(&mask).refused(&["cannot read the region of interest", "is not a picture"]);
    with(&out.path().join("missing.png")).refused(&["cannot read the region of interest", "missing.png"]);
    assert!(!model.exists());
}

#[test]
fn the_part_is_found_on_a_plain_background_or_nothing_is_guessed() {
    let out = folder();
    let model = out.path().join("m.pbas");
    let dir = out.path().join("discs");
    fs::create_dir(&dir).unwrap();
    for i in 0..6u32 {
        let value = |p: u32| {
            let (x, y) = ((p % 96) as i32, (p / 96) as i32);
            let inside = (x - 40 - i as i32).pow(2) + (y - 48).pow(2) < 500;
            if inside { 150 + (x * 7 + y * 3) as u8 % 40 } else { 30 + ((x + y + i as i32) % 3) as u8 }
        };
        grey(&dir.join(format!("{i}.png")), 96, 96, &(0..96 * 96).map(value).collect::<Vec<u8>>());
    }
    let run = train(&dir, &model, &["--roi", "auto"]).code(0);
    assert!(
        run.stderr.contains("the part stands out in 6 of 6 pictures; a region around all of them keeps"),
        "{run:#?}"
    );
    assert!(pbas(&["info", model.to_str().unwrap()]).code(0).stdout.contains("of interest `auto`"));

    fs::remove_file(&model).unwrap();
    let texture = out.path().join("texture");
    fs::create_dir(&texture).unwrap();
    (0..5).for_each(|i| common::noise(&texture.join(format!("{i}.png")), 90 + i, 90 + i));
    let run = train(&texture, &model, &["--roi", "auto"]).code(2);
    let run = run.says(&[
        "error: `--roi auto`: expected parts that stand out",
        "in 0 of 5 pictures",
        "hint: draw a mask",
    ]);
    assert!(!run.stderr.contains("features:") && !model.exists());
}

#[test]
fn small_regions_are_left_out_and_verdicts_stay() {
    let out = folder();
    // At such a rate about half of the good pictures show a region, and defective ones more often.
    let often = ["--false-reject-rate", "0.5"];
    let model = out.path().join("often.pbas");
    train(set(), &model, &often).code(0);
    let areas = |record: &Value| -> Vec<u64> {
        record["regions"].as_array().unwrap().iter().map(|r| r["area"].as_u64().unwrap()).collect()
    };
    let entries = |dir: PathBuf| std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path());
    let mut pictures: Vec<PathBuf> = entries(set().join("test")).flat_map(entries).collect();
    pictures.sort();
    let pictures = pictures.into_iter();
    let mut all = pictures.map(|p| (predict(&model, &p, &[]), p));
    let (all, picture) = all.find(|(record, _)| !areas(record).is_empty()).expect("a picture with a region");
    let largest = areas(&all).into_iter().max().unwrap();
    let at = predict(&model, &picture, &["--min-area", &largest.to_string()]);
    assert!(areas(&at).iter().all(|&a| a >= largest) && !areas(&at).is_empty());
    let none = predict(&model, &picture, &["--min-area", &(largest + 1).to_string()]);
    assert_eq!(areas(&none), [0u64; 0]);
    for key in ["image_score", "verdict", "p_value"] {
        assert_eq!(none[key], all[key]);
    }
    // A model's own default, and a call that overrides it.
    let own = out.path().join("own.pbas");
    train(set(), &own, &[&often[..], &["--min-area", &(largest + 1).to_string()]].concat()).code(0);
    assert_eq!(areas(&predict(&own, &picture, &[])), [0u64; 0]);
    assert_eq!(predict(&own, &picture, &["--min-area", "0"]), all);
    let info = pbas(&["info", own.to_str().unwrap()]).code(0).stdout;
    assert!(info.contains(&format!("of at least {} pixels", largest + 1)), "{info}");
    pbas(&["predict", model.to_str().unwrap(), picture.to_str().unwrap(), "--min-area", "-1"]).code(2);
}
