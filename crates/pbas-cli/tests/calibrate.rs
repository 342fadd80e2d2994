//! `pbas calibrate`, run as a user runs it.

mod common;

use std::fs;

use common::{folder, model, pbas, set};
use pbas::demo::{DemoKind, render};
use serde_json::Value;

fn info(model: &std::path::Path) -> Value {
    let run = pbas(&["info".as_ref(), model.as_os_str(), "--json".as_ref()]).code(0);
    serde_json::from_str(&run.stdout).unwrap()
}

#[test]
fn another_rate_needs_no_pictures_and_keeps_the_old_promise() {
    let out = folder();
    let changed = out.path().join("m.pbas");
    let args = [
        "calibrate".as_ref(),
        model().as_os_str(),
        "--false-reject-rate".as_ref(),
        "0.2".as_ref(),
        "-o".as_ref(),
    ];
    let run = pbas(&[&args[..], &[changed.as_os_str()]].concat()).code(0);
    assert!(run.stderr.contains("20 %"), "{}", run.stderr);
    let (old, new) = (info(model()), info(&changed));
    let threshold = |v: &Value| v["calibration"]["threshold"].as_f64().unwrap();
    assert!(threshold(&new) < threshold(&old));
    assert_eq!(new["calibration"]["history"][0]["threshold"], old["calibration"]["threshold"]);
    assert_eq!(new["views"], old["views"]);
}

#[test]
fn new_good_pictures_set_the_threshold_and_trained_ones_are_refused() {
    let out = folder();
    let changed = out.path().join("m.pbas");
    let run = |dir: &std::path::Path| {
        let args =
            ["calibrate".as_ref(), model().as_os_str(), dir.as_os_str(), "-o".as_ref(), changed.as_os_str()];
        pbas(&args)
    };
    let seen = run(&set().join("train/good")).code(2);
    assert!(seen.stderr.contains("expected ones that the model was not trained on"), "{}", seen.stderr);
    assert!(!changed.exists());
    // Saved anew in another format it is the same picture.
    let anew = |from: &std::path::Path, to: &std::path::Path| image::open(from).unwrap().save(to).unwrap();
    let first = fs::read_dir(set().join("train/good")).unwrap().next().unwrap().unwrap().path();
    let resaved = out.path().join("resaved");
    fs::create_dir(&resaved).unwrap();
    anew(&first, &resaved.join("other.bmp"));
    let seen = run(&resaved).code(2);
    assert!(
        seen.stderr.contains("was not trained on") && seen.stderr.contains("other.bmp"),
        "{}",
        seen.stderr
    );

    // New ones, with one that cannot be read and one twice.
    let fresh = out.path().join("fresh");
    fs::create_dir(&fresh).unwrap();
    let count = 7;
    for i in 0..count {
        render(DemoKind::Good, 500 + i).picture.write_png(&fresh.join(format!("{i}.png"))).unwrap();
    }
    fs::copy(fresh.join("0.png"), fresh.join("copy.png")).unwrap();
    anew(&fresh.join("1.png"), &fresh.join("copy.bmp"));
    fs::write(fresh.join("torn.png"), b"not a picture").unwrap();
    let done = run(&fresh).code(2);
    assert!(done.stderr.contains("left out") && done.stderr.contains("torn.png"), "{}", done.stderr);
    assert!(done.stderr.contains("count once"), "{}", done.stderr);
    let new = info(&changed);
    assert_eq!(new["promise"]["pictures"], count);
    assert_eq!(new["promise"]["proven_rate"].as_f64().unwrap(), 1.0 / 8.0);

    fs::remove_file(fresh.join("torn.png")).unwrap();
    let (mut kept, all) = (0, fs::read_dir(&fresh).unwrap());
    for entry in all {
        kept += 1;
        if kept > 3 {
            fs::remove_file(entry.unwrap().path()).unwrap();
        }
    }
    let few = run(&fresh).code(2);
    assert!(few.stderr.contains("expected at least 5"), "{}", few.stderr);
    for rate in ["0", "0.6", "-1", "NaN"] {
        let args = ["calibrate".as_ref(), model().as_os_str(), "--false-reject-rate".as_ref(), rate.as_ref()];
        pbas(&args).code(2);
    }
}
