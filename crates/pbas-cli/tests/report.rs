//! `pbas report`: one page with everything in it, Markdown and CSV.

mod common;

use std::fs;
use std::path::Path;

use common::{TINY, folder, pbas, set};
use serde_json::Value;

/// Results of one category in `out`.
fn results(out: &Path, more: &[&str]) {
    let mut args =
        vec!["bench".to_owned(), set().display().to_string(), "-o".into(), out.display().to_string()];
    args.extend(more.iter().map(|s| (*s).to_owned()));
    pbas(&args).code(0);
}

/// Repeats the runs that are there as those of many categories and seeds.
fn multiply(out: &Path, categories: usize, seeds: usize) {
    let file = out.join("results.jsonl");
    let text = fs::read_to_string(&file).unwrap();
    let first: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    let mut lines = String::new();
    for category in 0..categories {
        for seed in 0..seeds {
            let mut record = first.clone();
            record["category"] = format!("category {category:02} <b>").into();
            record["seed"] = seed.into();
            record["result"]["image_auroc"] = (0.9 + 0.01 * seed as f64).into();
            lines.push_str(&format!("{record}\n"));
        }
    }
    fs::write(&file, lines).unwrap();
}

#[test]
fn one_page_has_everything_and_loads_nothing() {
    let dir = folder();
    let out = dir.path().join("out");
    let more = common::paper("3");
    results(&out, &more);
    let shown = out.display().to_string();
    pbas(&["report", &shown, "--title", "Parts & <more>"]).code(0).says(&["page: ", "report: ", "table: "]);
    let html = fs::read_to_string(out.join("report.html")).unwrap();
    for part in [
        "Parts &amp; &lt;more&gt;",
        "pbas, last epoch",
        "pbas, oracle epoch",
        "nearest neighbours (PatchCore-style)",
        "What the choice by test labels gains",
        "not measured here",
        "99.8",
        "ROC, images",
        "Precision and recall",
        "PRO, regions",
        "<svg",
        "data:image/jpeg;base64,",
        "scratch",
        "aria-sort",
        "prefers-color-scheme: dark",
        "@media print",
    ] {
        assert!(html.contains(part), "{part}");
    }
    // The one address is that of SVG's own name space.
    let loaded = html.replace("http://www.w3.org/2000/svg", "");
    assert!(
        !loaded.contains("http://")
            && !loaded.contains("https://")
            && !loaded.contains("<link rel=\"stylesheet")
    );
    let markdown = fs::read_to_string(out.join("report.md")).unwrap();
    assert!(
        markdown.contains("# Parts & <more>") && markdown.contains("| pbas, oracle epoch |"),
        "{markdown}"
    );
    let csv = fs::read_to_string(out.join("report.csv")).unwrap();
    assert!(csv.starts_with("category,variant,seed,figures,image_auroc,"), "{csv}");
    assert_eq!(csv.lines().count(), 1 + 3, "pbas, oracle, nearest: {csv}");
}

#[test]
fn fifteen_categories_and_five_seeds_are_all_there_and_stay_small() {
    let dir = folder();
    let out = dir.path().join("out");
    results(&out, &TINY);
    multiply(&out, 15, 5);
    // How long it takes: `cargo bench -p pbas --bench report`.
    pbas(&["report", &out.display().to_string()]).code(0);
    let html = fs::read_to_string(out.join("report.html")).unwrap();
    assert!(html.len() < 20_000_000, "{} bytes", html.len());
    assert!(html.contains("category 14 &lt;b&gt;") && !html.contains("14 <b>"));
    // Five seeds from 0.90 to 0.94.
    assert!(html.contains("92.00 ± 1.58"), "mean and deviation over seeds");
    assert!(html.contains("75 runs, 15 categories, 5 seeds"));
}

#[test]
fn folders_without_results_are_refused() {
    let dir = folder();
    pbas(&["report", &dir.path().display().to_string()]).refused(&["results.jsonl", "pbas bench"]);
    fs::write(dir.path().join("results.jsonl"), "").unwrap();
    pbas(&["report", &dir.path().display().to_string()]).refused(&["expected `bench.json`"]);
}
