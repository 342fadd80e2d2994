//! Finished runs of a benchmark -> one self-contained HTML page, Markdown and CSV.
//!
//! What test labels have chosen is called `oracle` in every table, and figures that others have printed are called published.

mod ablations;
mod figures;
mod page;
mod plots;
mod published;
mod text;

use std::path::Path;

pub use figures::{METRICS, Metric, Spread};

use self::figures::Table;
use crate::bench::{Config, Record};
use crate::{Error, Result};

/// The three forms of a report.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// One page; nothing is loaded.
    pub html: String,
    /// Tables for people.
    pub markdown: String,
    /// One row a run and kind of figures.
    pub csv: String,
}

/// Makes the report of the runs in a folder; `title` names it.
///
/// # Errors
/// No runs; a template or plot that cannot be drawn, which is a bug.
pub fn report(dir: &Path, config: &Config, records: &[Record], title: &str) -> Result<Report> {
    if records.is_empty() {
        return Err(Error::caller(format!("`{}` holds no finished run", dir.display())));
    }
    let records = latest(records);
    let table = Table::of(&records);
    Ok(Report {
        html: page::html(dir, config, &records, &table, title)?,
        markdown: text::markdown(&records, &table, title),
        csv: text::csv(&records),
    })
}

/// The last of every run: files may have changed between two of the same category and seed.
fn latest(records: &[Record]) -> Vec<&Record> {
    let key = |r: &Record| (r.category.clone(), r.variant.clone(), r.seed);
    let by_key: std::collections::BTreeMap<_, &Record> = records.iter().map(|r| (key(r), r)).collect();
    by_key.into_values().collect()
}
