//! Bad input: each has a clear message, an exit code of 2, and loses nothing.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{TRAIN_GOOD, bad_pictures, copy, crc32, folder, grey, model, noise, pbas, set, test_copy};
use serde_json::Value;

fn run(args: &[&dyn AsRef<Path>]) -> common::Run {
    pbas(&args.iter().map(|a| a.as_ref().as_os_str()).collect::<Vec<_>>())
}

#[test]
fn folders_without_pictures() {
    let out = folder();
    let model_path = out.path().join("part.pbas");
    let empty = out.path().join("empty");
    fs::create_dir(&empty).unwrap();
    common::train(&empty, &model_path, &[]).refused(&[
        "no good pictures in `",
        "it is empty",
        "hint: expected",
    ]);
    fs::write(empty.join("notes.txt"), "x").unwrap();
    common::train(&empty, &model_path, &[]).refused(&["it holds 1 file of another kind"]);
    common::train(&out.path().join("missing"), &model_path, &[])
        .refused(&["cannot open folder", "caused by"]);
    run(&[&"eval", &model(), &empty]).refused(&["no test set in `", "hint: expected"]);
    // For a prediction it is one input among others.
    let picture = set().join("test/good/000.png");
    let records = run(&[&"predict", &model(), &empty, &picture]).code(2).json_lines();
    assert!(records[0]["error"].as_str().unwrap().starts_with("no pictures in `"));
    assert_eq!(records[1]["path"].as_str(), picture.to_str());
    assert!(records[1]["image_score"].is_f64());
    assert!(!model_path.exists());
}

#[test]
fn an_instruction_set_that_is_not_there() {
    let picture = set().join("test/good/000.png");
    let with = |forced: &str| {
        let mut command = common::command(&["predict".as_ref(), model().as_os_str(), picture.as_os_str()]);
        common::Run::of(command.env("PBAS_CPU", forced).output().unwrap())
    };
    with("z80").refused(&["PBAS_CPU", "expected one of portable", "found `z80`"]);
    // Another set rounds otherwise, and says the same of the part.
    let score = |run: common::Run| run.json_lines()[0]["image_score"].as_f64().unwrap();
    let usual = run(&[&"predict", &model(), &picture]).code(0);
    let (portable, usual) = (score(with("portable").code(0)), score(usual));
    assert!((portable - usual).abs() < 1e-3 * usual.abs().max(1.0), "{portable} {usual}");
}

#[test]
fn bad_pictures_among_good_ones() {
    let out = folder();
    let dir = out.path().join("good");
    copy(&set().join("train/good"), &dir);
    let bad = bad_pictures(&dir);
    let model_path = out.path().join("part.pbas");
    let run_ = common::train(&dir, &model_path, &[]).code(2).says(&["pictures: 12 used, 4 left out"]);
    for (path, says) in &bad {
        let line = run_.stderr.lines().find(|l| l.starts_with("warning: left out: ") && l.contains(says));
        let line = line.unwrap_or_else(|| panic!("{says}: {run_:#?}"));
        assert!(line.contains(path.to_str().unwrap()), "{line}");
    }
    let info: Value = serde_json::from_str(&run(&[&"info", &model_path, &"--json"]).code(0).stdout).unwrap();
    assert_eq!(
        (&info["provenance"]["pictures"], &info["provenance"]["skipped"]),
        (&TRAIN_GOOD.into(), &4.into())
    );

    let run_ = run(&[&"predict", &model(), &dir]).code(2).says(&["4 of 16 inputs failed"]);
    let records = run_.json_lines();
    assert_eq!(records.len(), TRAIN_GOOD + bad.len());
    for (path, says) in &bad {
        let record = records.iter().find(|r| r["path"].as_str() == path.to_str()).unwrap();
        assert!(record["error"].as_str().unwrap().contains(says), "{record}");
        assert_eq!(record.as_object().unwrap().len(), 2, "{record}");
    }
    // Nothing but bad ones: there is nothing to learn from.
    let only = out.path().join("only");
    bad_pictures(&only);
    let none = out.path().join("none.pbas");
    common::train(&only, &none, &[]).code(2).says(&["none of the 4 pictures could be read", "caused by"]);
    assert!(!none.exists());
}

#[test]
fn pictures_of_extreme_sizes() {
    let out = folder();
    let (dot, strip, maps) =
        (out.path().join("dot.png"), out.path().join("strip.png"), out.path().join("maps"));
    grey(&dot, 1, 1, &[200]);
    noise(&strip, 20, 4000);
    let records = run(&[&"predict", &model(), &dot, &strip, &"--heatmaps", &maps]).code(0).json_lines();
    let size = |r: &Value| (r["width"].as_u64().unwrap(), r["height"].as_u64().unwrap());
    assert_eq!((size(&records[0]), size(&records[1])), ((1, 1), (20, 4000)));
    for record in &records {
        assert!(record["image_score"].as_f64().unwrap().is_finite());
        for r in record["regions"].as_array().unwrap() {
            let at = |key: &str| r[key].as_u64().unwrap();
            assert!(
                at("x") + at("width") <= size(record).0 && at("y") + at("height") <= size(record).1,
                "{r}"
            );
        }
    }
    assert_eq!(common::files(&maps), ["dot.png", "strip.png"]);
}

#[cfg(target_os = "linux")]
#[test]
fn names_that_are_not_unicode() {
    use std::os::unix::ffi::OsStrExt;
    let out = folder();
    let odd = out.path().join(std::ffi::OsStr::from_bytes(b"\xff\xfe.png"));
    if fs::copy(set().join("test/good/000.png"), &odd).is_err() {
        eprintln!("skipped: this file system has no such names");
        return;
    }
    let maps = out.path().join("maps");
    let records = run(&[&"predict", &model(), &odd, &"--heatmaps", &maps]).code(0).json_lines();
    assert!(records[0]["path"].as_str().unwrap().ends_with(".png"));
    assert_eq!(common::files(&maps).len(), 1);
    let records = run(&[&"predict", &model(), &out.path()]).json_lines();
    assert!(records.iter().all(|r| r["image_score"].is_f64()), "{records:?}");
}

#[cfg(unix)]
#[test]
fn a_picture_without_permission() {
    use std::os::unix::fs::PermissionsExt;
    let out = folder();
    let closed = out.path().join("closed.png");
    fs::copy(set().join("test/good/000.png"), &closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).unwrap();
    if fs::read(&closed).is_ok() {
        eprintln!("skipped: this user may read everything");
        return;
    }
    let records = run(&[&"predict", &model(), &closed]).code(2).json_lines();
    assert!(records[0]["error"].as_str().unwrap().contains("ermission denied"), "{records:?}");
}

/// Evaluates a set; gives the JSON and what was said.
fn evaluate(dir: &Path, code: i32) -> (Value, String) {
    let out = folder();
    let json = out.path().join("r.json");
    let run = run(&[&"eval", &model(), &dir, &"--json", &json]).code(code);
    (serde_json::from_slice(&fs::read(json).unwrap()).unwrap(), run.stderr)
}

#[test]
fn masks_that_do_not_fit() {
    let out = folder();
    test_copy(out.path());
    let masks = out.path().join("ground_truth");
    grey(&masks.join("scratch/000_mask.png"), 10, 10, &[255; 100]);
    fs::copy(masks.join("dent/000_mask.png"), masks.join("dent/077_mask.png")).unwrap();
    fs::remove_file(masks.join("scratch/001_mask.png")).unwrap();
    let (json, stderr) = evaluate(out.path(), 0);
    let notes = json["notes"].to_string();
    for says in [
        "expected 320 x 320 pixels as its picture, found 10 x 10",
        "077_mask.png` belongs to no picture",
        "scratch/001.png` is defective and has no mask",
    ] {
        assert!(notes.contains(says) && stderr.contains(says), "{says}: {notes}\n{stderr}");
    }
    assert!(json["pixel_auroc"].is_f64() && json["image_auroc"].is_f64());
    assert_eq!(json["images"], 7, "these pictures leave the pixel figures alone");
    // No masks at all: no pixel figures, and the reason.
    fs::remove_dir_all(&masks).unwrap();
    let (json, _) = evaluate(out.path(), 0);
    assert!(json["pixel_auroc"].is_null() && json["aupro"].is_null() && json["image_auroc"].is_f64());
    assert!(json["notes"].to_string().contains("pixel figures are absent"), "{}", json["notes"]);
}

#[test]
fn test_sets_of_one_kind_alone() {
    for (removed, says) in [(&["good"][..], "no good"), (&["scratch", "dent"], "no defective")] {
        let out = folder();
        test_copy(out.path());
        for folder in removed {
            fs::remove_dir_all(out.path().join("test").join(folder)).unwrap();
        }
        let (json, stderr) = evaluate(out.path(), 0);
        assert!(json["image_auroc"].is_null() && json["image_ap"].is_null(), "{json}");
        assert!(json["notes"].to_string().contains(says) && stderr.contains(says), "{stderr}");
        assert!(json["threshold"].is_f64() && json["samples"].as_array().unwrap().len() >= 3);
    }
}

#[test]
fn bad_test_pictures_do_not_stop_the_others() {
    let out = folder();
    test_copy(out.path());
    let bad = bad_pictures(&out.path().join("test/scratch"));
    let (json, stderr) = evaluate(out.path(), 2);
    assert_eq!((&json["images"], json["failures"].as_array().unwrap().len()), (&7.into(), bad.len()));
    for (_, says) in bad {
        assert!(stderr.contains(says), "{says}: {stderr}");
    }
}

/// Writes changed bytes of the model and says how `info` and `predict` end.
fn refuse_model(bytes: &[u8], says: &[&str]) {
    let out = folder();
    let path = out.path().join("changed.pbas");
    fs::write(&path, bytes).unwrap();
    let picture: PathBuf = set().join("test/good/000.png");
    run(&[&"info", &path]).refused(&["cannot load model `"]).says(says);
    run(&[&"predict", &path, &picture]).refused(says);
}

/// Replaces every `from` by `to`, of one length.
fn replaced(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut bytes = bytes.to_vec();
    let places: Vec<usize> =
        (0..bytes.len() - from.len()).filter(|&i| bytes[i..].starts_with(from.as_bytes())).collect();
    assert!(!places.is_empty(), "{from} is in the file");
    for i in places {
        bytes[i..i + to.len()].copy_from_slice(to.as_bytes());
    }
    bytes
}

/// Makes the checksum right again, so that what lies behind it is looked at.
fn signed(mut bytes: Vec<u8>) -> Vec<u8> {
    let mark = br#"\"crc32\":\""#;
    let at = bytes.windows(mark.len()).position(|w| w == mark).unwrap() + mark.len();
    bytes[at..at + 8].copy_from_slice(b"00000000");
    let sum = format!("{:08x}", crc32(&bytes));
    bytes[at..at + 8].copy_from_slice(sum.as_bytes());
    bytes
}

#[test]
fn damaged_models() {
    let whole = fs::read(model()).unwrap();
    assert_eq!(signed(whole.clone()), whole, "the checksum is understood");
    let header = u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;

    refuse_model(&[], &["caused by"]);
    refuse_model(b"this is no model", &["caused by"]);
    refuse_model(&whole[..whole.len() - 1], &["hint: the file is damaged"]);
    refuse_model(&whole[..header / 2], &["hint: the file is damaged"]);
    let later = replaced(&whole, r#"\"format_version\":7"#, r#"\"format_version\":8"#);
    refuse_model(&later, &["found 8: it was made by a later pbas", "hint: use the version of pbas"]);
    let earlier = replaced(&whole, r#"\"format_version\":7"#, r#"\"format_version\":1"#);
    refuse_model(&earlier, &["found 1: it was made by an earlier pbas", "hint: train again"]);
    let shape = signed(replaced(&whole, r#"\"hidden\":16"#, r#"\"hidden\":17"#));
    refuse_model(&shape, &["expected shape [17, 344], found [16, 344]"]);
    let mut nan = whole.clone();
    nan[8 + header..][..4].copy_from_slice(&f32::NAN.to_le_bytes());
    refuse_model(&signed(nan), &["caused by", "hint: the file is damaged"]);
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    refuse_model(&flipped, &["some of its bytes have changed"]);

    // Many more places: the length, the header, the weights.
    let places = (0..8)
        .chain((8..8 + header).step_by(header / 40))
        .chain((8 + header..whole.len()).step_by(whole.len() / 40));
    let mut count = 0;
    for (i, at) in places.enumerate() {
        let mut flipped = whole.clone();
        flipped[at] ^= 1 << (i % 8);
        assert!(pbas::model_file::from_bytes(&flipped, "flipped").is_err(), "bit {} of byte {at}", i % 8);
        count += 1;
    }
    assert!(count > 60);
    for length in (0..whole.len()).step_by(whole.len() / 30) {
        assert!(pbas::model_file::from_bytes(&whole[..length], "cut").is_err(), "cut to {length}");
    }
}

#[test]
fn outputs_are_checked_before_the_work() {
    let out = folder();
    let missing = out.path().join("missing/part.pbas");
    common::train(set(), &missing, &[]).refused(&["does not exist", "hint: make the folder first"]);
    common::train(set(), out.path(), &[]).refused(&["it is a folder"]);
    let file = out.path().join("file");
    fs::write(&file, "x").unwrap();
    common::train(set(), &file.join("part.pbas"), &[]).code(2).says(&["error: cannot write model"]);
    run(&[&"eval", &model(), &set(), &"--json", &out.path().join("missing/r.json")])
        .refused(&["does not exist"]);
    run(&[&"eval", &model(), &set(), &"--heatmaps", &file]).refused(&["it is a file, not a folder"]);
    run(&[&"predict", &model(), &set(), &"--heatmaps", &file]).refused(&["it is a file, not a folder"]);
    assert_eq!(fs::read(&file).unwrap(), b"x");
}

#[cfg(unix)]
#[test]
fn folders_that_cannot_be_written() {
    use std::os::unix::fs::PermissionsExt;
    let out = folder();
    let mut folders = vec![out.path().join("closed")];
    fs::create_dir(&folders[0]).unwrap();
    fs::set_permissions(&folders[0], fs::Permissions::from_mode(0o555)).unwrap();
    if fs::write(folders[0].join("probe"), "").is_ok() {
        folders.clear(); // The superuser writes everywhere but where nobody can.
    }
    folders.extend([PathBuf::from("/proc")].into_iter().filter(|p| p.is_dir()));
    assert!(!folders.is_empty() || cfg!(not(target_os = "linux")));
    for folder in folders {
        common::train(set(), &folder.join("part.pbas"), &[]).refused(&["cannot write model", "caused by"]);
        run(&[&"eval", &model(), &set(), &"--heatmaps", &folder]).refused(&["cannot write heatmaps into"]);
    }
}
