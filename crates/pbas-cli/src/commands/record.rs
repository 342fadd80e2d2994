//! What `predict` writes of a picture, in its three formats.

use std::path::Path;

use pbas::report::verdict::Judged;
use pbas::score::Region;
use pbas::{Error, ErrorKind, Result};
use serde::Serialize;

use crate::args::Format;

/// One picture: judged, or not.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Record {
    /// What the model says.
    Judged(Judged),
    /// Why the model could not say anything.
    Failed {
        /// As it was given, or found below a folder that was given.
        path: String,
        /// The error and its causes.
        error: String,
    },
}

const CSV_HEADER: [&str; 15] = [
    "path",
    "image_score",
    "p_value",
    "threshold",
    "verdict",
    "width",
    "height",
    "regions",
    "region_x",
    "region_y",
    "region_width",
    "region_height",
    "region_peak",
    "milliseconds",
    "error",
];

/// Turns records into bytes.
#[derive(Debug)]
pub struct Writer {
    format: Format,
    /// Characters of the table's first column.
    path_width: usize,
}

impl Writer {
    /// A writer; `paths` are all that will come, for the width of the table's first column.
    pub fn new<'a>(format: Format, paths: impl Iterator<Item = &'a Path>) -> Self {
        let longest = paths.map(|p| p.display().to_string().chars().count()).max().unwrap_or(0);
        Self { format, path_width: longest.max("path".len()) }
    }

    /// What comes before the first record.
    ///
    /// # Errors
    /// None in practice.
    pub fn header(&self) -> Result<Vec<u8>> {
        match self.format {
            Format::Jsonl => Ok(Vec::new()),
            Format::Csv => csv_row(CSV_HEADER),
            Format::Table => Ok(format!(
                "{:<width$}  {:<9}  {:>10}  {:>10}  {:>8}  {:>7}  highest region (x, y, width, height)\n",
                "path",
                "verdict",
                "score",
                "threshold",
                "p-value",
                "regions",
                width = self.path_width
            )
            .into_bytes()),
        }
    }

    /// A record.
    ///
    /// # Errors
    /// None in practice.
    pub fn record(&self, record: &Record) -> Result<Vec<u8>> {
        match (self.format, record) {
            (Format::Jsonl, _) => {
                let mut line = serde_json::to_vec(record).map_err(unwritable)?;
                line.push(b'\n');
                Ok(line)
            }
            (Format::Csv, Record::Judged(j)) => {
                let best = j.regions.first();
                let of_region = |f: fn(&Region) -> String| best.map(f).unwrap_or_default();
                csv_row([
                    j.path.clone(),
                    j.image_score.to_string(),
                    j.p_value.to_string(),
                    j.threshold.to_string(),
                    j.verdict.word().to_owned(),
                    j.width.to_string(),
                    j.height.to_string(),
                    j.regions.len().to_string(),
                    of_region(|r| r.x.to_string()),
                    of_region(|r| r.y.to_string()),
                    of_region(|r| r.width.to_string()),
                    of_region(|r| r.height.to_string()),
                    of_region(|r| r.peak.to_string()),
                    j.milliseconds.to_string(),
                    String::new(),
                ])
            }
            (Format::Csv, Record::Failed { path, error }) => {
                let mut row = vec![String::new(); CSV_HEADER.len()];
                row[0].clone_from(path);
                row[CSV_HEADER.len() - 1].clone_from(error);
                csv_row(row)
            }
            (Format::Table, Record::Judged(j)) => {
                let region =
                    j.regions.first().map(|r| format!("{}, {}, {}, {}", r.x, r.y, r.width, r.height));
                Ok(format!(
                    "{:<width$}  {:<9}  {:>10.4}  {:>10.4}  {:>8.1e}  {:>7}  {}\n",
                    j.path,
                    j.verdict.word(),
                    j.image_score,
                    j.threshold,
                    j.p_value,
                    j.regions.len(),
                    region.as_deref().unwrap_or("-"),
                    width = self.path_width
                )
                .into_bytes())
            }
            (Format::Table, Record::Failed { path, error }) => {
                Ok(format!("{path:<width$}  {:<9}  {error}\n", "error", width = self.path_width).into_bytes())
            }
        }
    }
}

fn csv_row(cells: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(cells).map_err(unwritable)?;
    writer.into_inner().map_err(|e| unwritable(e.into_error()))
}

fn unwritable(e: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::new(ErrorKind::Io, "cannot write a record").with_source(e)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn awkward_names_stay_one_record() {
        let path = "a \"b\",\nc.png".to_owned();
        let failed = Record::Failed { path: path.clone(), error: "x".into() };
        let writer = |format| Writer::new(format, std::iter::empty());
        let json = writer(Format::Jsonl).record(&failed).unwrap();
        assert_eq!(json.iter().filter(|b| **b == b'\n').count(), 1);
        let row = writer(Format::Csv).record(&failed).unwrap();
        let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(row.as_slice());
        let row = reader.records().next().unwrap().unwrap();
        assert_eq!((row.len(), &row[0], &row[14]), (CSV_HEADER.len(), path.as_str(), "x"));
    }
}
