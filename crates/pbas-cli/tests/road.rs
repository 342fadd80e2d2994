//! The road as a user goes it: train, eval, predict, info, demo; exit codes; what is on stdout.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use common::{Run, TRAIN_GOOD, command, copy, files, folder, model, noise, pbas, set};
use serde_json::Value;

fn predict(inputs: &[&Path], more: &[&str]) -> Run {
    let mut args = vec![PathBuf::from("predict"), model().to_owned()];
    args.extend(inputs.iter().map(|p| p.to_path_buf()));
    args.extend(more.iter().map(PathBuf::from));
    pbas(&args)
}

/// A record without the time it took.
fn timeless(mut record: Value) -> Value {
    assert!(record.as_object_mut().unwrap().remove("milliseconds").unwrap().as_f64().unwrap() > 0.0);
    record
}

#[test]
fn training_says_where_the_model_is_and_what_comes_next() {
    let out = folder();
    let path = out.path().join("part.pbas");
    fs::write(&path, "an older model").unwrap();
    let run = common::train(set(), &path, &["--seed", "3"]).code(0);
    assert_eq!(run.stdout, "");
    run.says(&[
        "features: 12 pictures",
        "training: 10 steps",
        "threshold: ",
        "12 good pictures prove at most 14 %",
    ])
    .says(&["model: ", "pictures: 12 used, 0 left out", "time: ", "next: pbas eval "]);
    assert_eq!(files(out.path()), ["part.pbas"], "nothing but the model is left");
    let quiet = common::train(set(), &path, &["-q"]).code(0);
    assert_eq!((quiet.stdout.as_str(), quiet.stderr.as_str()), ("", ""));
}

#[test]
fn info_says_what_is_in_the_file() {
    let text = pbas(&["info".as_ref(), model().as_os_str()]).code(0).stdout;
    for part in
        ["12 used", "efficientnet_lite0, embedded", "Apache-2.0", "64 x 64 pixels, 8 x 8 patches", "2 heads"]
            .iter()
            .chain(&[
                "fast, seed 0",
                "5 steps a head, 100 patches a step",
                "set for 1 % of good parts, an estimate: 12 good pictures prove at most",
            ])
    {
        assert!(text.contains(part), "expected `{part}` in\n{text}");
    }
    let run = pbas(&["info".as_ref(), model().as_os_str(), "--json".as_ref()]).code(0);
    let v: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(v["provenance"]["pictures"], TRAIN_GOOD);
    assert_eq!((&v["views"][0]["heads"], &v["views"][0]["grid_width"]), (&2.into(), &8.into()));
    // Two heads of six pictures each, which must both agree.
    assert!((v["promise"]["proven_rate"].as_f64().unwrap() - 1.0 / 7.0).abs() < 1e-12);
    assert_eq!(v["backbone"]["weights_sha256"].as_str().unwrap().len(), 64);
}

#[test]
fn eval_gives_every_figure_a_table_and_heatmaps() {
    let out = folder();
    let (json, maps) = (out.path().join("r.json"), out.path().join("maps"));
    let run = pbas(&[
        "eval".as_ref(),
        model().as_os_str(),
        set().as_os_str(),
        "--json".as_ref(),
        json.as_os_str(),
        "--heatmaps".as_ref(),
        maps.as_os_str(),
        "--compare".as_ref(),
        "patchcore,oracle".as_ref(),
        "--oracle-epochs".as_ref(),
        "2".as_ref(),
    ])
    .code(0);
    let v: Value = serde_json::from_slice(&fs::read(&json).unwrap()).unwrap();
    for key in ["image_auroc", "image_ap", "image_f1_max", "pixel_auroc", "pixel_ap", "pixel_f1_max", "aupro"]
    {
        assert!((0.0..=1.0).contains(&v[key].as_f64().expect(key)), "{key}");
        assert!(run.stdout.contains(&format!("\n{key} ")), "{key} in\n{}", run.stdout);
    }
    assert_eq!((&v["images"], &v["good"], &v["defective"]), (&7.into(), &3.into(), &4.into()));
    let counts = ["good_with_regions", "defective_with_regions", "regions_on_defect"];
    for key in [&["aupro_0.05", "threshold", "false_rejects", "missed"], &counts[..]].concat() {
        assert!(v[key].is_number() && run.stdout.contains(key), "{key}");
    }
    let nearest = &v["compared"][0];
    assert_eq!(nearest["method"], "nearest neighbour");
    assert!(
        nearest["image_auroc"].as_f64().unwrap() > 0.5 && nearest["pixel_auroc"].as_f64().unwrap() > 0.5,
        "{nearest}"
    );
    assert!(run.stdout.contains("\npbas ") && run.stdout.contains("\nnearest neighbour "), "{}", run.stdout);
    let oracle = &v["compared"][1];
    assert!(
        oracle["method"].as_str().unwrap().starts_with("oracle: best of 2 epochs by test labels"),
        "{oracle}"
    );
    assert!(oracle["image_auroc"].is_number() && oracle["pixel_auroc"].is_number(), "{oracle}");
    // The model was trained on these good pictures.
    assert!(!run.stderr.contains("are not those"), "{}", run.stderr);
    let rows: Vec<&str> = run.stdout.lines().take_while(|l| !l.is_empty()).collect();
    assert_eq!(rows.len(), 4, "{}", run.stdout);
    assert!(rows[1].starts_with("dent ") && rows[2].starts_with("scratch ") && rows[3].starts_with("all "));
    let drawn = files(&maps);
    assert_eq!(drawn.len(), 7);
    assert_eq!(drawn[0], "test/dent/000.png");
    // Picture, overlay and mask beside each other; a good picture has no mask.
    let (wide, narrow) = ("test/dent/000.png", "test/good/000.png");
    let size = |name: &str| image::image_dimensions(maps.join(name)).unwrap();
    assert!(size(wide).0 > 3 * 320 && size(narrow).0 < 3 * 320, "{:?} {:?}", size(wide), size(narrow));
    assert!(size(wide).1 > 320);
}

#[test]
fn predict_answers_in_order_and_alike_in_every_company() {
    let run = predict(&[&set().join("test"), &set().join("train/good/003.png")], &["--threads", "2"]).code(0);
    let together = run.json_lines();
    let names: Vec<&str> = together.iter().map(|r| r["path"].as_str().unwrap()).collect();
    assert_eq!(names.len(), 8);
    assert!(names[0].ends_with("dent/000.png") && names[6].ends_with("scratch/001.png"));
    assert!(names[7].ends_with("train/good/003.png"));
    for record in &together {
        assert_eq!((&record["width"], &record["height"]), (&320.into(), &320.into()));
        assert!(
            record["image_score"].is_f64() && record["threshold"].is_f64() && record["regions"].is_array()
        );
        let above = record["image_score"].as_f64() > record["threshold"].as_f64();
        assert_eq!(record["verdict"], if above { "anomalous" } else { "normal" });
    }
    let alone = predict(&[Path::new(names[1])], &["--threads", "1"]).code(0).json_lines();
    assert_eq!(timeless(alone[0].clone()), timeless(together[1].clone()));
    let single = predict(&[Path::new(names[1])], &["--threads", "3"]).code(0).json_lines();
    assert_eq!(timeless(single[0].clone()), timeless(together[1].clone()));
}

/// The model with other thresholds: what a training of a few steps finds is not what is tested here.
fn model_with(threshold: f64, pixel_threshold: f64, path: &Path) {
    let mut changed = pbas::model_file::load(model()).unwrap();
    changed.calibration.threshold = threshold;
    changed.calibration.pixel_threshold = pixel_threshold;
    pbas::model_file::save(&changed, path).unwrap();
}

#[test]
fn anomalies_are_an_exit_code_only_where_asked() {
    let out = folder();
    let (strict, lax) = (out.path().join("strict.pbas"), out.path().join("lax.pbas"));
    model_with(-1e6, -1e6, &strict);
    model_with(1e6, 1e6, &lax);
    let strange = out.path().join("noise.png");
    noise(&strange, 320, 240);
    let predict = |model: &Path, more: &[&str]| {
        let args = ["predict", model.to_str().unwrap(), strange.to_str().unwrap()];
        pbas(&[&args[..], more].concat())
    };
    let record = &predict(&strict, &[]).code(0).json_lines()[0];
    assert_eq!(record["verdict"], "anomalous");
    let region = &record["regions"][0];
    for key in ["x", "y", "width", "height", "area"] {
        assert!(region[key].is_u64(), "{key}: {region}");
    }
    assert!(region["peak"].is_f64());
    // All of the map is above this threshold: the region is the picture, in its own pixels.
    let rectangle = ["x", "y", "width", "height", "area"].map(|key| region[key].as_u64().unwrap());
    assert_eq!(rectangle, [0, 0, 320, 240, 320 * 240]);
    predict(&strict, &["--fail-on-anomaly"]).code(1);
    // A failure outweighs a finding.
    predict(&strict, &["--fail-on-anomaly", "missing.png"]).code(2);

    // Where nothing is above the pixel threshold an anomalous picture shows where its map is highest, a good one nothing.
    let unmarked = out.path().join("unmarked.pbas");
    model_with(-1e6, 1e6, &unmarked);
    let record = &predict(&unmarked, &[]).code(0).json_lines()[0];
    let marked = record["regions"].as_array().unwrap();
    assert_eq!((&record["verdict"], marked.len()), (&"anomalous".into(), 1));
    assert!(marked[0]["peak"].as_f64().unwrap() < 1e6, "{record}");
    let record = &predict(&lax, &["--fail-on-anomaly"]).code(0).json_lines()[0];
    assert_eq!((&record["verdict"], record["regions"].as_array().unwrap().len()), (&"normal".into(), 0));
}

#[test]
fn eval_counts_regions() {
    let out = folder();
    let (everywhere, highest) = (out.path().join("everywhere.pbas"), out.path().join("highest.pbas"));
    model_with(1e6, -1e6, &everywhere);
    model_with(-1e6, 1e6, &highest);
    let eval = |model: &Path| {
        let json = out.path().join("results.json");
        let args =
            ["eval".as_ref(), model.as_os_str(), set().as_os_str(), "--json".as_ref(), json.as_os_str()];
        let run = pbas(&args).code(0);
        let v: Value = serde_json::from_slice(&fs::read(json).unwrap()).unwrap();
        (run, v)
    };
    let keys =
        ["good_with_regions", "defective_with_regions", "regions_on_defect", "false_rejects", "missed"];
    let counts = |v: &Value| keys.map(|key| v[key].as_u64().unwrap());
    // All of every map is above the pixel threshold, and no picture is rejected.
    let (run, v) = eval(&everywhere);
    assert_eq!(counts(&v), [3, 4, 4, 0, 4]);
    assert!(v["good_with_regions_p"].as_f64().unwrap() < 0.01, "{v}");
    run.says(&["3 of 3 good pictures have a region, more than chance allows"]);
    // None of any map is, and every picture is rejected: each has a region, which is none above the pixel threshold.
    let (run, v) = eval(&highest);
    let found = counts(&v);
    assert_eq!([found[0], found[1], found[3], found[4]], [0, 4, 3, 0]);
    assert_eq!(v["good_with_regions_p"], 1.0);
    let samples = v["samples"].as_array().unwrap();
    assert!(samples.len() == 7 && samples.iter().all(|s| s["highest_region"].is_number()), "{samples:?}");
    assert_eq!(samples.iter().filter(|s| s["region_on_defect"] == true).count() as u64, found[2]);
    run.says(&["3 of 3 good pictures are rejected, more than chance allows"]);
}

#[test]
fn csv_and_table() {
    let inputs = [set().join("test/good"), PathBuf::from("missing.png")];
    let inputs: Vec<&Path> = inputs.iter().map(PathBuf::as_path).collect();
    let run = predict(&inputs, &["--format", "csv"]).code(2);
    let mut reader = csv::Reader::from_reader(run.stdout.as_bytes());
    let columns = reader.headers().unwrap().clone();
    let column = |name: &str| columns.iter().position(|c| c == name).unwrap();
    let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    assert_eq!(rows.len(), 4);
    assert!(rows[0][column("image_score")].parse::<f64>().is_ok() && rows[0][column("error")].is_empty());
    assert!(rows[3][column("error")].contains("cannot read `missing.png`"));

    let run = predict(&inputs, &["--format", "table"]).code(2);
    let lines: Vec<&str> = run.stdout.lines().collect();
    assert_eq!(lines.len(), 5);
    let at = lines[0].find("verdict").unwrap();
    assert!(["normal", "anomal"].iter().any(|v| lines[1][at..].starts_with(v)), "{}", run.stdout);
    assert!(lines[4].starts_with("missing.png") && lines[4][at..].starts_with("error"), "{}", run.stdout);
}

#[test]
fn pictures_of_one_name_in_subfolders_are_kept_apart() {
    let out = folder();
    let good = out.path().join("good");
    for side in ["left", "right"] {
        copy(&set().join("test/good"), &good.join(side));
    }
    let maps = out.path().join("maps");
    let run = predict(&[&good], &["--heatmaps", maps.to_str().unwrap()]).code(0);
    assert_eq!(run.json_lines().len(), 6);
    assert_eq!(files(&maps).len(), 6);
    assert!(files(&maps).contains(&"right/002.png".to_owned()));
    let path = out.path().join("part.pbas");
    common::train(&good, &path, &[])
        .code(0)
        .says(&["warning: only 3 different pictures among 6 good ones", "pictures: 6 used"]);
}

#[test]
fn a_reader_that_has_enough_is_no_failure() {
    let test = set().join("test");
    let args = ["predict".as_ref(), model().as_os_str(), test.as_os_str(), test.as_os_str()];
    let mut child = command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    Run::of(child.wait_with_output().unwrap()).code(0);
}

#[test]
fn demo_goes_the_whole_road() {
    let out = folder();
    let dir = out.path().join("demo set");
    let args = ["demo", "-o", dir.to_str().unwrap(), "--size", "64", "--steps", "2", "--seed", "5"];
    let run = pbas(&args).code(0);
    assert!(run.stdout.contains("missing_chamfer") && run.stdout.contains("image_auroc"), "{}", run.stdout);
    let run = run.says(&["Where to look:", "pbas train '", "--seed 5 --size 64 --steps 2", "pbas info '"]);
    let found = files(&dir);
    assert_eq!(found.iter().filter(|f| f.starts_with("train/good/")).count(), 60);
    assert_eq!(found.iter().filter(|f| f.starts_with("heatmaps/test/")).count(), 40);
    for file in ["washers.pbas", "results.json"] {
        assert!(found.iter().any(|f| f == file), "{file}");
        assert!(run.stderr.contains(file), "{file}");
    }
    // What is not a demo set is not written into.
    fs::remove_file(dir.join(pbas::demo::MARKER)).unwrap();
    pbas(&args).code(2).says(&["expected an empty folder or an earlier demo set"]);
}

#[test]
fn wrong_usage_is_refused_with_the_range() {
    let refuse = |more: &[&str], says: &str| {
        let run = pbas(&[&["train", "good", "-o", "part.pbas"], more].concat()).code(2);
        assert!(run.stderr.contains(says) && run.stdout.is_empty(), "{run:#?}");
    };
    refuse(&["--threads", "0"], "1..=1024");
    refuse(&["--threads", "1025"], "1..=1024");
    refuse(&["--size", "16"], "from 32 to 4096");
    refuse(&["--synthesis-scale", "0.5..0.1"], "LOW..HIGH");
    refuse(&["--cache-limit", "2TB"], "such as 500MB, 2GB or 1GiB");
    refuse(&["--epochs", "1", "--steps", "1"], "cannot be used with");
    refuse(&["--folds", "0"], "folds: expected 1 to 16, found 0");
    refuse(&["--hidden", "0"], "hidden units: expected 1 to 8192");
    refuse(&["--fit", "crop", "--size", "64,32"], "expected one size");
    refuse(&["--preset", "paper", "--size", "auto", "--fit", "pad"], "the paper preset looks at one size");
    refuse(&["--preset", "paper", "--size", "64,32", "--fit", "pad"], "sizes: expected one");
    refuse(&["--preset", "paper", "--fuse", "nearest"], "`--fuse`: expected `none`");
}
