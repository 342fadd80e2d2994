//! How long the report of 15 categories with 5 seeds each takes, with the scores of 100 test pictures a run and a gallery:
//! `cargo bench -p pbas --bench report`. One real run is made on rendered parts and repeated.

use std::hint::black_box;
use std::path::Path;

use criterion::{Criterion, SamplingMode};
use pbas::backbone::Backbone;
use pbas::bench::{Config, Digests, Job, Program, Protocol, Record, plan, run};
use pbas::dataset::open;
use pbas::demo::{DemoKind, render};
use pbas::preprocess::InputSize;
use pbas::report::bench::report;
use pbas::settings::{Length, Preset, Settings, Sizes};
use pbas::train::observer::Silent;

const CATEGORIES: usize = 15;
const SEEDS: u64 = 5;

/// A small category of rendered parts.
fn parts(root: &Path) {
    for (folder, kind, count) in [
        ("train/good", DemoKind::Good, 8),
        ("test/good", DemoKind::Good, 50),
        ("test/dent", DemoKind::Dent, 50),
    ] {
        let folder = root.join(folder);
        std::fs::create_dir_all(&folder).expect("a folder");
        for i in 0..count {
            let seed = i + 100 * folder.as_os_str().len() as u64;
            render(kind, seed).picture.write_png(&folder.join(format!("{i:03}.png"))).expect("a picture");
        }
    }
}

/// One run, with its gallery in `output`.
fn one_run(root: &Path, output: &Path) -> (Config, Record) {
    let mut settings = Settings::preset(Preset::Fast);
    settings.sizes = Sizes::Fixed(vec![InputSize::square(64)]);
    settings.head.length = Length::Steps(5);
    let backbone = Backbone::embedded().expect("the built-in network");
    let set = open(root).expect("a category");
    let runs = plan(&set, &settings, &[], 1, Protocol::Honest).expect("a plan");
    std::fs::create_dir_all(output.join("gallery")).expect("a folder");
    let job = Job {
        backbone: &backbone,
        protocol: Protocol::Honest,
        oracle_every: 1,
        baseline: true,
        cache_limit: 1 << 30,
        temp_dir: None,
        output,
        jobs: 1,
        program: Program { version: "0".into(), commit: None },
        digests: Digests::default(),
    };
    let record = run(&job, &runs[0], &Silent).expect("a run");
    let config = Config {
        format: Record::FORMAT,
        protocol: Protocol::Honest,
        baseline: true,
        oracle_every: None,
        backbone_sha256: String::new(),
        settings,
    };
    (config, record)
}

fn main() {
    let (root, output) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    parts(root.path());
    let (config, record) = one_run(root.path(), output.path());
    let each = (0..CATEGORIES).flat_map(|c| (0..SEEDS).map(move |s| (c, s)));
    let records: Vec<Record> = each
        .map(|(c, seed)| Record { category: format!("category {c:02}"), seed, ..record.clone() })
        .collect();
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("report");
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    group.bench_function("15 categories, 5 seeds", |b| {
        b.iter(|| {
            let made = report(output.path(), &config, black_box(&records), "parts").expect("a report");
            assert!(made.html.len() < 20_000_000);
            made
        });
    });
    group.finish();
    criterion.final_summary();
}
