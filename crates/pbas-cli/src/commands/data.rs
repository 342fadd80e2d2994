//! `pbas data inspect`: what a data set holds.

use std::time::Duration;

use pbas::dataset::{CategoryFacts, Inspection, open};
use pbas::{Error, ErrorKind, Result};

use crate::args::{Data, DataCommand, Inspect};
use crate::output::{Printer, Status, Table, data};
use crate::progress::{Patient, Progress};

/// Work shorter than this shows no progress.
const PATIENCE: Duration = Duration::from_secs(2);
/// Sizes named in the table; of more only their number is said.
const SIZES: usize = 2;

/// Runs the command.
///
/// # Errors
/// Nothing recognised, or a file that cannot be read.
pub fn run(args: &Data, printer: Printer) -> Result<Status> {
    let DataCommand::Inspect(args) = &args.command;
    inspect(args, printer)
}

fn inspect(args: &Inspect, printer: Printer) -> Result<Status> {
    let progress = Progress::new(printer);
    let found = open(&args.dir)?.inspect(&Patient::new(&progress, PATIENCE))?;
    let text = if args.json {
        let text = serde_json::to_string_pretty(&found);
        text.map_err(|e| Error::new(ErrorKind::Io, "cannot write the inspection").with_source(e))? + "\n"
    } else {
        as_text(&found)
    };
    data(text.as_bytes())?;
    Ok(if found.broken.is_empty() { Status::Done } else { Status::SomeFailed })
}

fn as_text(found: &Inspection) -> String {
    let mut table = Table::new(&[
        "category",
        "train",
        "validation",
        "test good",
        "defective",
        "masks",
        "unlabelled",
        "types",
        "sizes",
    ]);
    let mut row = |name: &str, n: [usize; 6], types: String, sizes: String| {
        let mut cells = vec![name.to_owned()];
        cells.extend(n.map(|n| n.to_string()));
        cells.extend([types, sizes]);
        table.row(&cells);
    };
    let counts = |c: &CategoryFacts| {
        [c.train_good, c.validation_good, c.test_good, c.test_defective, c.masks, c.unlabelled]
    };
    let mut sum = [0; 6];
    for c in &found.categories {
        let sizes = if c.sizes.len() <= SIZES {
            c.sizes.keys().map(|s| s.replace(' ', "")).collect::<Vec<_>>().join(", ")
        } else {
            format!("{} sizes", c.sizes.len())
        };
        sum.iter_mut().zip(counts(c)).for_each(|(s, n)| *s += n);
        row(&c.name, counts(c), c.defect_types.len().to_string(), sizes);
    }
    if found.categories.len() > 1 {
        row("all", sum, String::new(), String::new());
    }
    let mut text = format!("layout: {}\n\n{}", found.layout, table.render());
    for note in &found.notes {
        text.push_str(&format!("\nnote: {note}"));
    }
    for (name, error) in &found.broken {
        text.push_str(&format!("\n{name}: cannot be used: {error}"));
    }
    for c in &found.categories {
        for odd in &c.oddities {
            text.push_str(&format!("\n{}: {odd}", c.name));
        }
    }
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}
