//! Sets that are of little use, and what is said of them: too few pictures, all the same, all black, defects among those that
//! calibrate; a backbone with other layers; scores that are no numbers. A clear sentence each, nothing lost.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{copy, folder, grey, model, pbas, set, train};
use pbas::demo::{DemoKind, render};
use serde_json::Value;

/// A folder of so many pictures.
fn pictures(out: &Path, name: &str, count: u64, write: impl Fn(u64, &Path)) -> PathBuf {
    let dir = out.join(name);
    fs::create_dir(&dir).unwrap();
    (0..count).for_each(|i| write(i, &dir.join(format!("{i:02}.png"))));
    dir
}

/// Trains, then judges a good test picture: a number and a verdict, whatever the training set.
fn trains_and_says(dir: &Path, out: &Path, says: &[&str]) {
    let path = out.join("m.pbas");
    train(dir, &path, &[]).code(0).says(says);
    let picture = set().join("test/good/000.png");
    let record =
        &pbas(&["predict", path.to_str().unwrap(), picture.to_str().unwrap()]).code(0).json_lines()[0];
    assert!(record["image_score"].as_f64().unwrap().is_finite(), "{record}");
    fs::remove_file(path).unwrap();
}

#[test]
fn few_identical_and_blank_pictures() {
    let out = folder();
    let at = out.path();
    let good = |i: u64, path: &Path| render(DemoKind::Good, 900 + i).picture.write_png(path).unwrap();
    let few = pictures(at, "few", 3, good);
    trains_and_says(
        &few,
        at,
        &["warning: only 3 good pictures: fewer than 5 say too little of what good parts look like"],
    );
    let one = pictures(at, "one", 1, good);
    trains_and_says(
        &one,
        at,
        &["warning: only 1 good picture: fewer than 5", "promises nothing of new pictures"],
    );
    let same = pictures(at, "same", 6, |_, path| good(0, path));
    let all = "warning: all 6 good pictures are identical or nearly so";
    trains_and_says(&same, at, &[all, "promises nothing of new pictures"]);
    // A model of nothing would call anything good.
    for (name, step) in [("black", 0), ("plain", 1)] {
        let blank = pictures(at, name, 6, |i, path| grey(path, 40, 40, &[90 * step + step * i as u8; 1600]));
        let path = at.join("blank.pbas");
        let run = train(&blank, &path, &[]).code(2);
        run.says(&[
            "error: expected good pictures that show something, found all of them to be one plain colour",
            "hint: look at",
        ]);
        assert!(!path.exists());
    }
    // One of them among others is named.
    let some =
        pictures(
            at,
            "some",
            6,
            |i, path| if i == 2 { grey(path, 320, 320, &[0; 320 * 320]) } else { good(i, path) },
        );
    trains_and_says(&some, at, &["1 good picture of one plain colour, which show nothing: `02.png`"]);
    // Nothing to say of a set that is sound.
    let sound = pictures(at, "sound", 12, good);
    let path = at.join("sound.pbas");
    assert!(!train(&sound, &path, &[]).code(0).stderr.contains("warning"));
}

#[test]
fn rates_that_mean_nothing() {
    let out = folder();
    let path = out.path().join("m.pbas");
    for rate in ["0", "0.51", "-0.1", "NaN", "1"] {
        train(set(), &path, &["--false-reject-rate", rate]).refused(&[
            "false-reject rate: expected 0.000001 to 0.5, found",
            "hint: 0.01 rejects one good part",
        ]);
    }
    assert!(!path.exists());
}

#[test]
fn pictures_that_calibrate_and_stand_out_are_named() {
    let out = folder();
    let changed = out.path().join("m.pbas");
    let calibrate = |dir: &Path| {
        let out = changed.to_str().unwrap();
        pbas(&["calibrate", model().to_str().unwrap(), dir.to_str().unwrap(), "-o", out]).code(0)
    };
    let mixed = pictures(out.path(), "mixed", 9, |i, path| {
        let mut picture = render(DemoKind::Good, 700 + i).picture;
        if i == 4 {
            picture.data.iter_mut().for_each(|v| *v /= 6);
        }
        picture.write_png(path).unwrap();
    });
    fs::write(mixed.join("08.png"), fs::read(mixed.join("07.png")).unwrap()).unwrap();
    let dark = "warning: 1 good picture much darker or brighter than the others: `04.png`";
    calibrate(&mixed).says(&[dark, "pbas doctor FOLDER", "count once"]);
    // Nothing is found in sound ones (what a model of five steps thinks of them is another matter).
    let sound = pictures(out.path(), "sound", 9, |i, path| {
        render(DemoKind::Good, 800 + i).picture.write_png(path).unwrap()
    });
    assert!(!calibrate(&sound).stderr.contains("doctor"));
}

/// The test part of the washers as MVTec LOCO has it: a folder of masks a picture, and a list of how much of each is enough.
fn as_loco(to: &Path, list: Option<&str>) {
    copy(&set().join("test"), &to.join("test"));
    for kind in ["scratch", "dent"] {
        for entry in fs::read_dir(set().join("ground_truth").join(kind)).unwrap() {
            let from = entry.unwrap().path();
            let stem = from.file_stem().unwrap().to_str().unwrap().trim_end_matches("_mask").to_owned();
            let folder = to.join("ground_truth").join(kind).join(stem);
            fs::create_dir_all(&folder).unwrap();
            let mask = image::open(&from).unwrap().into_luma8();
            let values: Vec<u8> = mask.iter().map(|v| if *v > 0 { 200 } else { 0 }).collect();
            grey(&folder.join("000.png"), mask.width(), mask.height(), &values);
        }
    }
    if let Some(list) = list {
        fs::write(to.join("defects_config.json"), list).unwrap();
    }
}

#[test]
fn saturation_of_mvtec_loco_is_honoured() {
    let out = folder();
    let entry = |threshold: &str| {
        format!(
            r#"[{{"defect_name": "any", "pixel_value": 200, "saturation_threshold": {threshold}, "relative_saturation": false}}]"#
        )
    };
    let figures = |name: &str, list: Option<String>| -> Value {
        let dir = out.path().join(name);
        as_loco(&dir, list.as_deref());
        let json = dir.join("figures.json");
        let args =
            ["eval", model().to_str().unwrap(), dir.to_str().unwrap(), "--json", json.to_str().unwrap()];
        pbas(&args).code(0);
        serde_json::from_slice(&fs::read(json).unwrap()).unwrap()
    };
    let noted = |f: &Value| f["notes"].to_string().contains("sPRO");
    let aupro = |f: &Value| f["aupro"].as_f64().unwrap();
    let plain = figures("plain", None);
    let (whole, few) = (figures("whole", Some(entry("1e9"))), figures("few", Some(entry("20"))));
    assert!(!noted(&plain) && noted(&whole) && noted(&few));
    // Twenty pixels of a defect are found sooner than all of it, and nothing else changes.
    assert!(aupro(&few) > aupro(&whole) + 0.01, "{} {}", aupro(&few), aupro(&whole));
    for figure in ["image_auroc", "pixel_auroc", "pixel_ap"] {
        assert_eq!(few[figure], plain[figure], "{figure}");
    }
    // A value that the list does not have leaves the pixel figures, and is named.
    let odd = figures("odd", Some(entry("20").replace("200", "7")));
    let notes = odd["notes"].to_string();
    assert!(notes.contains("grey values that the list of defects has, found 200"), "{notes}");
    assert!(odd["aupro"].is_null() && odd["image_auroc"].is_f64());
}

#[test]
fn a_resnet_has_layers_of_its_own() {
    let out = folder();
    let path = out.path().join("m.pbas");
    let weights =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../pbas/tests/golden/resnet_bottleneck_w8.safetensors");
    let weights = weights.to_str().unwrap();
    train(set(), &path, &["--backbone", weights]).code(0).says(&["feature layers: layer2, layer3"]);
    let info: Value =
        serde_json::from_str(&pbas(&["info", path.to_str().unwrap(), "--json"]).code(0).stdout).unwrap();
    assert_eq!(info["settings"]["feature_layers"], serde_json::json!(["layer2", "layer3"]));
    fs::remove_file(&path).unwrap();
    let run = train(set(), &path, &["--backbone", weights, "--feature-layers", "stride8,layer2"]);
    run.refused(&["feature layer `stride8`: expected one of layer1, layer2, layer3"]);
    let run = train(set(), &path, &["--feature-layers", "layer2"]);
    run.refused(&["feature layer `layer2`: expected one of ", "stride8"]);
    assert!(!path.exists());
}

#[test]
fn scores_that_are_no_numbers_are_errors_of_their_pictures() {
    let out = folder();
    let path = out.path().join("m.pbas");
    let mut damaged = pbas::model_file::load(model()).unwrap();
    damaged.views[0].scales.iter_mut().for_each(|s| s.deviation = 1e-300);
    pbas::model_file::save(&damaged, &path).unwrap();
    let picture = set().join("test/good/000.png");
    let record =
        &pbas(&["predict", path.to_str().unwrap(), picture.to_str().unwrap()]).code(2).json_lines()[0];
    assert!(
        record["error"].as_str().unwrap().contains("are not all numbers; the model is damaged"),
        "{record}"
    );
    let run = pbas(&["eval", path.to_str().unwrap(), set().to_str().unwrap()]).code(2);
    assert!(run.stderr.contains("none of the 7 test pictures could be judged"), "{run:#?}");
    let fresh = pictures(out.path(), "fresh", 6, |i, p| {
        render(DemoKind::Good, 600 + i).picture.write_png(p).unwrap()
    });
    let before = fs::read(&path).unwrap();
    let run = pbas(&["calibrate", path.to_str().unwrap(), fresh.to_str().unwrap()]).code(2);
    assert!(run.stderr.contains("are not all numbers"), "{run:#?}");
    assert!(fs::read(&path).unwrap() == before, "the model is as it was");
}
