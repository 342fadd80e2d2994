//! `pbas bench`: every category of a data set with several seeds, unattended.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use indicatif::MultiProgress;
use pbas::bench::{self, Config, Digests, Folder, Job, PlannedRun, Program, Protocol, Record};
use pbas::dataset::{DataSet, open};
use pbas::error::chain;
use pbas::settings::{CenterRule, Length, Settings, Synthesis};
use pbas::words::counted;
use pbas::{Error, ErrorKind, Result};

use super::recipe;
use crate::args::{Bench, BenchCommand, BenchRun, Change, Merge, PresetName};
use crate::output::{Printer, Status, Table, data, duration, figure, print_error, to_stderr};
use crate::paths::{check_folder, shell};
use crate::progress::Progress;

/// Runs the command.
///
/// # Errors
/// What keeps the runs from being done at all; one that fails is reported and the others go on.
pub fn run(args: &Bench, threads: Option<u16>, printer: Printer) -> Result<Status> {
    match (&args.command, &args.run.data, &args.run.output) {
        (Some(BenchCommand::Merge(m)), ..) => merge(m, printer),
        (None, Some(data), Some(output)) => run_all(&args.run, (data, output), threads, printer),
        (None, ..) => Err(Error::caller("`pbas bench`: expected a data set and `--output`")),
    }
}

fn merge(args: &Merge, printer: Printer) -> Result<Status> {
    let merged = bench::merge(&args.dirs, &args.output)?;
    let copies =
        if merged.copies > 0 { format!(", {} there more than once", merged.copies) } else { String::new() };
    printer.say(&format!("{} in {}{copies}", counted(merged.runs, "run"), shell(&args.output)));
    Ok(Status::Done)
}

fn run_all(
    args: &BenchRun,
    (dir, output): (&Path, &Path),
    threads: Option<u16>,
    printer: Printer,
) -> Result<Status> {
    let protocol = Protocol::from(args.protocol);
    let mut recipe = args.recipe.clone();
    if protocol == Protocol::Paper {
        recipe.preset = PresetName::Paper;
    }
    let mut settings = recipe::settings(&recipe)?;
    change(&mut settings, &args.change)?;
    if protocol == Protocol::Paper && !matches!(settings.head.length, Length::Epochs(_)) {
        return Err(Error::caller("`--protocol paper`: expected a length in epochs, found `--steps`")
            .with_hint("give `--epochs`, or leave both out"));
    }
    if let Some(dir) = &recipe.temp_dir {
        check_folder("temporary files", dir)?;
    }
    let backbone = recipe::backbone(&recipe, &mut settings, printer)?;
    let set = chosen(open(dir)?, &args.categories, dir)?;
    let variants = bench::named_ablations(&settings, &backbone.feature_layers(), &args.ablations)?;
    let config = Config {
        format: Record::FORMAT,
        protocol,
        baseline: args.baseline.is_some(),
        oracle_every: (protocol == Protocol::Paper).then_some(args.oracle_every),
        backbone_sha256: backbone.info.weights_sha256.clone(),
        settings: settings.clone(),
    };
    let runs = bench::plan(&set, &settings, &variants, args.seeds, protocol)?;
    let mut folder = Folder::open(output, &config)?;
    if let Some(what) = folder.repaired() {
        to_stderr(&format!("warning: {what}"));
    }
    let planned = runs.len();
    let mine = runs.into_iter().enumerate().filter(|(i, _)| args.shard.is_none_or(|s| i % s.of == s.index));
    let (done, todo): (Vec<_>, Vec<_>) =
        mine.map(|(_, run)| run).partition(|run| folder.records().iter().any(|r| run.is(r)));
    let categories = set.categories.len() + set.broken.len();
    let shard = args
        .shard
        .map(|s| format!(", shard {} of {}: {}", s.index, s.of, done.len() + todo.len()))
        .unwrap_or_default();
    let there = if done.is_empty() { String::new() } else { format!(", {} done before", done.len()) };
    printer.say(&format!("{}, {}{shard}{there}", counted_categories(categories), counted(planned, "run")));
    for note in &set.notes {
        to_stderr(&format!("warning: {note}"));
    }
    for (name, error) in &set.broken {
        to_stderr(&format!("error: category `{name}` is left out: {}", chain(error)));
    }
    let jobs = usize::from(args.jobs).min(todo.len()).max(1);
    let job = Job {
        backbone: &backbone,
        protocol,
        oracle_every: args.oracle_every,
        baseline: config.baseline,
        cache_limit: recipe.cache_limit / jobs as u64,
        temp_dir: recipe.temp_dir.as_deref(),
        output,
        jobs,
        program: Program {
            version: env!("CARGO_PKG_VERSION").into(),
            commit: Some(env!("PBAS_COMMIT").to_owned()).filter(|c| !c.is_empty()),
        },
        digests: Digests::default(),
    };
    let failed = work(&job, todo.into(), &mut folder, threads, printer)?;
    data(table(&set, &folder, protocol).as_bytes())?;
    printer.say(&format!("results: {}", output.join(bench::RESULTS).display()));
    let whole =
        failed == 0 && set.broken.is_empty() && folder.records().iter().all(|r| r.result.failures.is_empty());
    Ok(if whole { Status::Done } else { Status::SomeFailed })
}

/// Leaves out or changes what is asked for, in the settings of every run.
fn change(settings: &mut Settings, args: &Change) -> Result<()> {
    let h = &mut settings.head;
    h.boundary_weight = args.boundary_weight.unwrap_or(h.boundary_weight);
    h.centers = args.centers.map_or(h.centers, CenterRule::from);
    if args.center_momentum.is_some() && h.centers != CenterRule::Positions {
        return Err(Error::caller("`--center-momentum`: expected centres by position, found another rule")
            .with_hint("give `--centers positions`, or leave it out"));
    }
    h.center_momentum = args.center_momentum.unwrap_or(h.center_momentum);
    if args.noise.is_some() && args.without_rbo {
        return Err(Error::caller(
            "`--noise`: expected a discriminator that learns from it, found `--without-rbo`",
        )
        .with_hint("give one of them"));
    }
    h.synthesis = args.noise.map_or(h.synthesis, Synthesis::Noise);
    h.refinement = !args.without_rbo;
    h.multiply_rates(args.rate_factor.unwrap_or(1.0));
    settings.validate()
}

fn counted_categories(n: usize) -> String {
    if n == 1 { "1 category".into() } else { format!("{n} categories") }
}

/// The categories that are asked for.
fn chosen(mut set: DataSet, names: &[String], dir: &Path) -> Result<DataSet> {
    if names.is_empty() {
        return Ok(set);
    }
    let there: Vec<String> =
        set.categories.iter().map(|c| c.name.clone()).chain(set.broken.iter().map(|b| b.0.clone())).collect();
    if let Some(missing) = names.iter().find(|n| !there.contains(n)) {
        return Err(Error::caller(format!(
            "`--categories {missing}`: no such category in `{}`",
            dir.display()
        ))
        .with_hint(format!("there are: {}", there.join(", "))));
    }
    set.categories.retain(|c| names.contains(&c.name));
    set.broken.retain(|b| names.contains(&b.0));
    Ok(set)
}

/// Does the runs with so many workers; how many failed.
fn work(
    job: &Job<'_>,
    todo: VecDeque<PlannedRun<'_>>,
    folder: &mut Folder,
    threads: Option<u16>,
    printer: Printer,
) -> Result<usize> {
    let total = todo.len();
    let queue = Mutex::new(todo.into_iter().enumerate().collect::<VecDeque<_>>());
    let (folder, bars) = (Mutex::new(folder), MultiProgress::new());
    // What ends the whole: a wish to stop, or results that cannot be written.
    let (end, failed) = (Mutex::new(None::<Error>), Mutex::new(0));
    let say = |text: &str| bars.suspend(|| printer.say(text));
    let worker = || {
        loop {
            if end.lock().unwrap_or_else(PoisonError::into_inner).is_some() {
                return;
            }
            let Some((i, planned)) = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front() else {
                return;
            };
            let label = format!("{} ({} of {total})", planned.name(), i + 1);
            let progress = Progress::labelled(printer, &label, &bars);
            let started = Instant::now();
            let outcome = catch_unwind(AssertUnwindSafe(|| bench::run(job, &planned, &progress)))
                .unwrap_or_else(|_| {
                    Err(Error::new(
                        ErrorKind::Unsupported,
                        "the run panicked, which is a bug of this program",
                    ))
                });
            let outcome = match outcome {
                Ok(record) => {
                    let said = summary(&record);
                    let kept = folder.lock().unwrap_or_else(PoisonError::into_inner).append(record);
                    kept.map(|()| say(&format!("{label}: {said}, {}", duration(started.elapsed()))))
                        .map_err(Outcome::Ends)
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => Err(Outcome::Ends(e)),
                Err(e) => Err(Outcome::Failed(e)),
            };
            match outcome {
                Ok(()) => {}
                Err(Outcome::Failed(e)) => {
                    let e = e.context(format!("{label} failed; the others go on"));
                    bars.suspend(|| print_error(&e));
                    *failed.lock().unwrap_or_else(PoisonError::into_inner) += 1;
                }
                Err(Outcome::Ends(e)) => {
                    end.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(e);
                }
            }
        }
    };
    if job.jobs == 1 {
        worker();
    } else {
        let all =
            threads.map_or_else(|| std::thread::available_parallelism().map_or(1, usize::from), usize::from);
        let share = (all / job.jobs).max(1);
        let pools = (0..job.jobs).map(|_| rayon::ThreadPoolBuilder::new().num_threads(share).build());
        let pools = pools
            .collect::<std::result::Result<Vec<_>, _>>()
            .map_err(|e| Error::new(ErrorKind::Io, "cannot start threads").with_source(e))?;
        std::thread::scope(|scope| {
            for pool in &pools {
                scope.spawn(|| pool.install(worker));
            }
        });
    }
    match end.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(e) if e.kind() == ErrorKind::Interrupted => {
            Err(Error::new(ErrorKind::Interrupted, "the benchmark was stopped")
                .with_hint("the same command goes on after the runs that are finished"))
        }
        Some(e) => Err(e),
        None => Ok(failed.into_inner().unwrap_or_else(PoisonError::into_inner)),
    }
}

/// How a run went wrong.
enum Outcome {
    /// It alone.
    Failed(Error),
    /// The others cannot go on either.
    Ends(Error),
}

/// The figures of a run on one line.
fn summary(record: &Record) -> String {
    let s = &record.result.summary;
    let mut said = format!("image AUROC {}, pixel AUROC {}", figure(s.image_auroc), figure(s.pixel_auroc));
    if let Some(oracle) = &record.oracle {
        said.push_str(&format!(
            "; oracle (epoch {}): {}, {}",
            oracle.epoch,
            figure(oracle.summary.image_auroc),
            figure(oracle.summary.pixel_auroc)
        ));
    }
    for o in &record.result.compared {
        said.push_str(&format!("; {}: {}, {}", o.method, figure(o.image_auroc), figure(o.pixel_auroc)));
    }
    said
}

/// Means over seeds of each category, and their mean.
fn table(set: &DataSet, folder: &Folder, protocol: Protocol) -> String {
    let mut header = vec!["category", "runs", "image AUROC", "pixel AUROC", "AUPRO"];
    if protocol == Protocol::Paper {
        header.extend(["oracle image", "oracle pixel"]);
    }
    let compared = folder.records().iter().any(|r| !r.result.compared.is_empty());
    if compared {
        header.extend(["nearest image", "nearest pixel"]);
    }
    let mut table = Table::new(&header);
    let mut columns: Vec<Vec<f64>> = vec![Vec::new(); header.len() - 2];
    for category in &set.categories {
        let of = |r: &&Record| r.category == category.name && r.variant == "base";
        let records: Vec<&Record> = folder.records().iter().filter(of).collect();
        if records.is_empty() {
            continue;
        }
        let mut figures: Vec<fn(&Record) -> Option<f64>> =
            vec![|r| r.result.summary.image_auroc, |r| r.result.summary.pixel_auroc, |r| {
                r.result.summary.aupro
            }];
        if protocol == Protocol::Paper {
            figures.push(|r| r.oracle.as_ref()?.summary.image_auroc);
            figures.push(|r| r.oracle.as_ref()?.summary.pixel_auroc);
        }
        if compared {
            figures.push(|r| r.result.compared.first()?.image_auroc);
            figures.push(|r| r.result.compared.first()?.pixel_auroc);
        }
        let mut row = vec![category.name.clone(), records.len().to_string()];
        for (of, column) in figures.iter().zip(&mut columns) {
            let mean = mean(&records.iter().filter_map(|r| of(r)).collect::<Vec<_>>());
            column.extend(mean);
            row.push(figure(mean));
        }
        table.row(&row);
    }
    let means = columns.iter().map(|c| figure(mean(c)));
    table.row(&["mean".to_owned(), String::new()].into_iter().chain(means).collect::<Vec<_>>());
    table.render()
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}
