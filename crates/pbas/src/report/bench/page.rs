//! The report as one page: everything is in it, nothing is loaded.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use minijinja::Environment;
use minijinja::value::Serde;
use serde::Serialize;

use super::ablations::{Ablation, Difference, ablations, shown};
use super::figures::{METRICS, Metric, Source, Spread, Table};
use super::plots::plots;
use super::published::{PUBLISHED, Published};
use super::text::percent;
use crate::bench::{Config, Protocol, Reason, Record};
use crate::words::counted;
use crate::{Error, ErrorKind, Result};

/// The name's ending makes the engine escape whatever is put in.
const NAME: &str = "page.html";

/// What the template is given.
#[derive(Serialize)]
struct Page<'a> {
    title: &'a str,
    about: String,
    cards: Vec<[String; 3]>,
    labels: [&'static str; METRICS.len()],
    kinds: Vec<KindRow>,
    ablation_labels: Vec<&'static str>,
    ablations: Vec<AblationRow>,
    metrics: Vec<MetricTable>,
    published: &'static [Published],
    gaps: Vec<Gap>,
    categories: Vec<CategoryPart>,
    runs: Vec<Vec<String>>,
    notes: Vec<String>,
    version: &'static str,
}

/// Means over categories of one kind of figures.
#[derive(Serialize)]
struct KindRow {
    name: String,
    oracle: bool,
    cells: Vec<Cell>,
}

/// A variant against the base.
#[derive(Serialize)]
struct AblationRow {
    variant: String,
    figures: String,
    oracle: bool,
    runs: usize,
    cells: Vec<Cell>,
}

/// A figure for people, and by what it is sorted.
#[derive(Serialize)]
struct Cell {
    text: String,
    value: f64,
}

#[derive(Serialize)]
struct MetricTable {
    label: &'static str,
    kinds: Vec<String>,
    rows: Vec<(String, Vec<Cell>)>,
}

/// What the choice by test labels gains.
#[derive(Serialize)]
struct Gap {
    label: &'static str,
    last: String,
    oracle: String,
    gap: String,
}

#[derive(Serialize)]
struct CategoryPart {
    name: String,
    summary: String,
    plots: Vec<String>,
    types: Vec<(String, usize, Cell, usize)>,
    gallery: Vec<Shown>,
}

#[derive(Serialize)]
struct Shown {
    word: &'static str,
    path: String,
    detail: String,
    image: String,
}

/// The page.
pub(super) fn html(
    dir: &Path,
    config: &Config,
    records: &[&Record],
    table: &Table,
    title: &str,
) -> Result<String> {
    let categories = table.categories.iter().map(|c| category(dir, records, c)).collect::<Result<_>>()?;
    let page = Page {
        title,
        about: about(config, records, table),
        cards: cards(records, table),
        labels: METRICS.map(|m| m.label),
        kinds: kinds(table),
        ablation_labels: shown().map(|m| m.label).collect(),
        ablations: ablation_rows(records, table),
        metrics: metrics(table),
        published: &PUBLISHED,
        gaps: gaps(table),
        categories,
        runs: records.iter().map(|r| run(r)).collect(),
        notes: notes(records),
        version: env!("CARGO_PKG_VERSION"),
    };
    let broken = |e: minijinja::Error| {
        Error::new(ErrorKind::Unsupported, "cannot lay out the page of the report").with_source(e)
    };
    let mut environment = Environment::new();
    environment.add_template(NAME, include_str!("page.html")).map_err(broken)?;
    let template = environment.get_template(NAME).map_err(broken)?;
    template.render(Serde(&page)).map_err(broken)
}

fn cell(spread: Option<Spread>) -> Cell {
    Cell { text: percent(spread), value: spread.map_or(-1.0, |s| s.mean) }
}

fn about(config: &Config, records: &[&Record], table: &Table) -> String {
    let seeds: BTreeSet<u64> = records.iter().map(|r| r.seed).collect();
    let protocol = match config.protocol {
        Protocol::Honest => "honest: no test picture is opened before a model is finished",
        Protocol::Paper => {
            "paper: the last epoch, and beside it, called oracle, the epoch that test labels choose, as published figures are made"
        }
    };
    let n = table.categories.len();
    let categories = if n == 1 { "1 category".into() } else { format!("{n} categories") };
    format!(
        "{}, {categories}, {}; backbone {}; protocol {protocol}.",
        counted(records.len(), "run"),
        counted(seeds.len(), "seed"),
        records[0].backbone.name,
    )
}

fn cards(records: &[&Record], table: &Table) -> Vec<[String; 3]> {
    let Some(base) = table.base(Source::Last) else { return Vec::new() };
    let mut cards: Vec<[String; 3]> = ["image_auroc", "pixel_auroc", "aupro"]
        .iter()
        .filter_map(|key| METRICS.iter().position(|m| m.key == *key))
        .map(|m| {
            [
                METRICS[m].label.to_owned(),
                percent(table.means[base][m]),
                "mean over categories, deviation over seeds".into(),
            ]
        })
        .collect();
    let base: Vec<_> = records.iter().filter(|r| r.variant == "base").collect();
    let sum = |of: fn(&Record) -> usize| base.iter().map(|r| of(r)).sum::<usize>();
    let share = |n: usize, of: usize| {
        if of == 0 { "-".into() } else { format!("{:.1} %", 100.0 * n as f64 / of as f64) }
    };
    let (rejects, good) = (sum(|r| r.result.summary.false_rejects), sum(|r| r.result.summary.good));
    let (missed, defective) = (sum(|r| r.result.summary.missed), sum(|r| r.result.summary.defective));
    cards.push(["good rejected".into(), share(rejects, good), format!("{rejects} of {good}, all runs")]);
    cards.push([
        "defects missed".into(),
        share(missed, defective),
        format!("{missed} of {defective}, all runs"),
    ]);
    let seconds = base.iter().map(|r| r.cost.train_seconds).sum::<f64>() / base.len().max(1) as f64;
    cards.push(["training".into(), format!("{seconds:.0} s"), "mean of a run".into()]);
    cards
}

fn kinds(table: &Table) -> Vec<KindRow> {
    let row = |(kind, means): (&super::figures::Kind, &Vec<Option<Spread>>)| KindRow {
        name: kind.name.clone(),
        oracle: kind.is_oracle(),
        cells: means.iter().map(|m| cell(*m)).collect(),
    };
    table.shown().into_iter().map(|k| row((&table.kinds[k], &table.means[k]))).collect()
}

fn ablation_rows(records: &[&Record], table: &Table) -> Vec<AblationRow> {
    let cell = |d: &Option<Difference>| Cell {
        text: d.map_or_else(|| "-".into(), Difference::text),
        value: d.map_or(-1.0, |d| d.mean),
    };
    let row = |a: Ablation| AblationRow {
        variant: a.variant,
        figures: a.figures,
        oracle: a.oracle,
        runs: a.pairs,
        cells: a.cells.iter().map(cell).collect(),
    };
    ablations(records, table).into_iter().map(row).collect()
}

fn metrics(table: &Table) -> Vec<MetricTable> {
    let of = |(m, metric): (usize, &Metric)| {
        // Kinds that do not have this figure leave no empty column.
        let kinds: Vec<usize> = table.shown().into_iter().filter(|&k| table.means[k][m].is_some()).collect();
        let row = |(c, name): (usize, &String)| {
            (name.clone(), kinds.iter().map(|&k| cell(table.cells[k][m][c])).collect())
        };
        let rows = table.categories.iter().enumerate().map(row).collect();
        let names = kinds.iter().map(|&k| table.kinds[k].name.clone()).collect();
        (!kinds.is_empty()).then_some(MetricTable { label: metric.label, kinds: names, rows })
    };
    METRICS.iter().enumerate().filter_map(of).collect()
}

fn gaps(table: &Table) -> Vec<Gap> {
    let (Some(last), Some(oracle)) = (table.base(Source::Last), table.base(Source::Oracle)) else {
        return Vec::new();
    };
    let of = |(m, metric): (usize, &Metric)| {
        let (last, oracle) = (table.means[last][m]?, table.means[oracle][m]?);
        Some(Gap {
            label: metric.label,
            last: percent(Some(last)),
            oracle: percent(Some(oracle)),
            gap: format!("{:+.2}", 100.0 * (oracle.mean - last.mean)),
        })
    };
    METRICS.iter().enumerate().filter_map(of).collect()
}

/// Curves, types and pictures of a category, by its first run.
fn category(dir: &Path, records: &[&Record], name: &str) -> Result<CategoryPart> {
    let of: Vec<_> = records.iter().filter(|r| r.category == name && r.variant == "base").collect();
    let Some(first) = of.first().or(records.iter().find(|r| r.category == name).as_ref()).copied() else {
        return Err(Error::caller(format!("no run of `{name}`")));
    };
    let s = &first.result.summary;
    let types = first.result.defect_types.iter().chain(&first.result.defect_sizes).map(|t| {
        let auroc = t.image_auroc.and_then(|v| Spread::of(&[v]));
        (t.defect_type.clone(), t.images, cell(auroc), t.missed)
    });
    let shown = |p: &crate::bench::GalleryPicture| {
        let image = std::fs::read(dir.join("gallery").join(&p.file)).ok()?;
        Some(Shown {
            word: match p.reason {
                Reason::Miss => "missed",
                Reason::FalseReject => "false reject",
                Reason::Sample => "found",
            },
            path: p.path.clone(),
            detail: format!("{}, score {:.3}", p.defect_type, p.image_score),
            image: STANDARD.encode(image),
        })
    };
    Ok(CategoryPart {
        name: name.to_owned(),
        summary: format!(
            "Seed {}: {} of {} good rejected, {} of {} defective missed, threshold {:.3}",
            first.seed, s.false_rejects, s.good, s.missed, s.defective, s.threshold
        ),
        plots: plots(&first.result)?,
        types: types.collect(),
        gallery: first.gallery.iter().filter_map(shown).collect(),
    })
}

fn run(r: &Record) -> Vec<String> {
    let memory =
        r.cost.peak_memory_bytes.map_or_else(|| "-".to_owned(), |b| format!("{:.0} MB", b as f64 / 1e6));
    let commit = r.program.commit.as_deref().map_or_else(String::new, |c| format!(" ({c})"));
    vec![
        r.category.clone(),
        r.variant.clone(),
        r.seed.to_string(),
        r.train_pictures.to_string(),
        format!("{:.1}", r.cost.train_seconds),
        format!("{:.1}", r.cost.evaluate_seconds),
        memory,
        format!("{} of {}", r.cost.threads, r.machine.cores),
        r.machine.processor.clone().unwrap_or_else(|| r.machine.system.clone()),
        format!("{}{commit}", r.program.version),
    ]
}

/// Each warning and note once, with the runs that had it.
fn notes(records: &[&Record]) -> Vec<String> {
    let mut by_text: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for r in records {
        let failures = r.result.failures.iter().map(|f| f.error.as_str());
        for text in r.warnings.iter().chain(&r.result.notes).map(String::as_str).chain(failures) {
            by_text.entry(text).or_default().insert(&r.category);
        }
    }
    let line = |(text, of): (&str, BTreeSet<&str>)| {
        format!("{}: {text}", of.into_iter().collect::<Vec<_>>().join(", "))
    };
    let mut notes: Vec<String> = by_text.into_iter().map(line).collect();
    let programs: BTreeSet<String> = records.iter().map(|r| format!("{:?}", r.program)).collect();
    if programs.len() > 1 {
        notes.insert(0, format!("runs of {} versions of the program are mixed", programs.len()));
    }
    notes
}
