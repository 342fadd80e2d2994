//! `pbas export`, run as a user runs it. What the graph computes is tested in crates/pbas/tests/export.rs.

mod common;

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use common::{Run, folder, model, pbas, set};

fn export(model: &Path, output: &Path, more: &[&str]) -> Run {
    let mut args: Vec<&OsStr> = vec!["export".as_ref(), model.as_os_str(), output.as_os_str()];
    args.extend(more.iter().map(OsStr::new));
    pbas(&args)
}

#[test]
fn writes_the_graph_and_our_own_scores() {
    let out = folder();
    let onnx = out.path().join("part.onnx");
    let pictures = set().join("test/dent");
    let run = export(model(), &onnx, &["--check", pictures.to_str().unwrap()]).code(0);
    let bytes = fs::read(&onnx).unwrap();
    assert!(bytes.len() > 1_000_000, "{} bytes", bytes.len());
    assert!(run.stderr.contains("part.onnx"), "{}", run.stderr);
    let records = run.json_lines();
    assert_eq!(records.len(), 2);
    let predicted =
        pbas(&["predict".as_ref(), model().as_os_str(), pictures.as_os_str()]).code(0).json_lines();
    for (record, predicted) in records.iter().zip(&predicted) {
        for key in ["path", "image_score", "verdict"] {
            assert_eq!(record[key], predicted[key]);
        }
        assert!(record["map_max"].as_f64().unwrap() > record["map_mean"].as_f64().unwrap());
    }
    assert_eq!(fs::read_dir(out.path()).unwrap().count(), 1, "no temporary file is left");

    // A file that is there is kept, unless it may be replaced.
    export(model(), &onnx, &["--input", "any"]).refused(&[
        "part.onnx",
        "it is there already",
        "hint: --force",
    ]);
    assert!(fs::read(&onnx).unwrap() == bytes);
    for input in ["any", "any-bytes"] {
        let run = export(model(), &onnx, &["--input", input, "--opset", "21", "--force"]).code(0);
        assert_eq!(run.stdout, "");
        assert!(fs::read(&onnx).unwrap() != bytes);
    }
}

#[test]
fn pictures_that_cannot_be_read_are_named() {
    let out = folder();
    let torn = out.path().join("torn.png");
    fs::write(&torn, "no picture").unwrap();
    let good = set().join("test/good/000.png");
    let more = ["--check", torn.to_str().unwrap(), good.to_str().unwrap()];
    let run = export(model(), &out.path().join("part.onnx"), &more).code(2).says(&["1 of 2 pictures failed"]);
    let records = run.json_lines();
    assert!(records[0]["error"].as_str().unwrap().contains("torn.png"), "{records:?}");
    assert!(records[1]["image_score"].is_number(), "{records:?}");
    let empty = out.path().join("empty");
    fs::create_dir(&empty).unwrap();
    let onnx = out.path().join("other.onnx");
    export(model(), &onnx, &["--check", empty.to_str().unwrap()]).refused(&["no pictures", "empty"]);
    assert!(!onnx.exists());
}

#[test]
fn bad_requests_are_refused() {
    let out = folder();
    let onnx = out.path().join("part.onnx");
    let refused = |run: Run, parts: &[&str]| {
        run.refused(parts);
        assert!(!onnx.exists());
    };
    refused(export(model(), &onnx, &["--opset", "17"]), &["--opset", "expected 18 to", "found 17"]);
    refused(export(model(), &onnx, &["--opset", "99"]), &["--opset", "found 99"]);
    export(model(), &onnx, &["--opset", "new"]).code(2).says(&["--opset"]);
    export(model(), &onnx, &["--input", "some"]).code(2).says(&["--input", "any-bytes"]);
    let nowhere = out.path().join("missing").join("part.onnx");
    export(model(), &nowhere, &[]).refused(&["part.onnx", "does not exist", "hint: make the folder"]);
    export(model(), out.path(), &[]).refused(&["it is a folder"]);
    let proc = Path::new("/proc");
    if proc.is_dir() {
        export(model(), &proc.join("part.onnx"), &[]).refused(&["cannot write ONNX file", "caused by"]);
    }
    let copy = out.path().join("copy.pbas");
    fs::copy(model(), &copy).unwrap();
    export(&copy, &copy, &["--force"]).refused(&["copy.pbas", "it is the model itself"]);
    let (before, after) = (br#"\"format_version\":7"#, br#"\"format_version\":8"#);
    let mut bytes = fs::read(&copy).unwrap();
    let at = bytes.windows(before.len()).position(|w| w == before).unwrap();
    bytes[at..at + before.len()].copy_from_slice(after);
    fs::write(&copy, bytes).unwrap();
    refused(export(&copy, &onnx, &[]), &["copy.pbas", "made by a later pbas", "hint: use the version"]);
    refused(export(&out.path().join("no.pbas"), &onnx, &[]), &["no.pbas", "caused by"]);
}
