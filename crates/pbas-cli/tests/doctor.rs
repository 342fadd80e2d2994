//! `pbas doctor`: text, JSON, page, exit codes.

mod common;

use std::fs;

use common::{copy, folder, pbas, set};

#[test]
fn a_category_is_examined() {
    let out = folder();
    let page = out.path().join("report.html");
    let args = ["doctor", set().to_str().unwrap(), "--html", page.to_str().unwrap()];
    let run = pbas(&args).code(0).says(&["page: "]);
    for part in [
        "verdict      ",
        "good         12 pictures",
        "test         7 pictures",
        "promise      12 distinct",
        "an estimate",
    ] {
        assert!(run.stdout.contains(part), "expected `{part}` in\n{}", run.stdout);
    }
    let html = fs::read_to_string(page).unwrap();
    assert!(html.starts_with("<!doctype html>") && html.trim_end().ends_with("</html>"));

    let json: serde_json::Value =
        serde_json::from_str(&pbas(&["doctor", set().to_str().unwrap(), "--json", "-q"]).code(0).stdout)
            .unwrap();
    assert_eq!(json["good"]["readable"], 12);
    assert_eq!(json["test"]["readable"], 7);
    assert!(json["cost"]["seconds"].as_f64().unwrap() > 0.0);
    assert_eq!(json["support"]["wanted"][3]["pictures"], 447);
}

#[test]
fn faults_are_reported_with_exit_code_0_and_a_failed_run_with_2() {
    let out = folder();
    let dir = out.path().join("parts");
    copy(&set().join("train/good"), &dir);
    fs::copy(dir.join("000.png"), dir.join("copy.png")).unwrap();
    fs::write(dir.join("broken.png"), "text").unwrap();
    let run = pbas(&["doctor", dir.to_str().unwrap()]).code(0);
    for part in [
        "verdict      usable with warnings: ",
        "warning: 1 picture cannot be read and will be left out: `broken.png`",
        "warning: 1 good picture is the same file as another good picture: `copy.png`",
        "    000.png = copy.png: the same bytes",
    ] {
        assert!(run.stdout.contains(part), "expected `{part}` in\n{}", run.stdout);
    }

    let missing = out.path().join("nowhere");
    pbas(&["doctor", missing.to_str().unwrap()]).refused(&["nowhere"]);
    let page = missing.join("page.html");
    pbas(&["doctor", dir.to_str().unwrap(), "--html", page.to_str().unwrap()])
        .refused(&["cannot write page", "does not exist"]);
    let none = out.path().join("none");
    fs::create_dir_all(&none).unwrap();
    fs::write(none.join("broken.png"), "text").unwrap();
    let run = pbas(&["doctor", none.to_str().unwrap()]).code(2);
    assert!(run.stdout.contains("not ready: no good picture could be read, of 1"), "{run:#?}");
}
