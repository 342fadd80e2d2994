//! A manifest for everything else: CSV or JSON lines with `path`, `split`, `label`, `mask`, and `category` where there are several.
//!
//! Paths are relative to the manifest. `label` is `good`, `normal`, `ok` or 0 for good parts; `defective`, `anomaly`, `bad`, `ng` or 1 for others;
//! any other word is the type of a defect. `mask` may be empty or absent.

use std::collections::HashMap;
use std::path::Path;

use serde_json::Value;

use super::set::name_of;
use super::split::{Entry, Part, Row, categories, read_csv};
use super::{DataSet, Layout};
use crate::{Error, Result};

const NEEDED: [&str; 3] = ["path", "split", "label"];

/// Lists it.
///
/// # Errors
/// A file of another kind, or a row that does not say what is needed.
pub(super) fn open(file: &Path) -> Result<DataSet> {
    let extension = file.extension().map(|e| e.to_string_lossy().to_ascii_lowercase());
    let rows = match extension.as_deref() {
        Some("csv") => read_csv(file, &NEEDED)?,
        Some("jsonl" | "ndjson") => read_lines(file)?,
        _ => {
            return Err(Error::caller(format!(
                "`{}`: expected a folder, or a manifest .csv or .jsonl",
                file.display()
            )));
        }
    };
    let root = file.parent().unwrap_or(Path::new(""));
    let mut entries = Vec::new();
    for (line, mut row) in rows {
        let mut take = |name: &str| row.remove(name).unwrap_or_default();
        let odd = |what: &str, expected: &str, found: &str| {
            Error::input(format!(
                "`{}` line {line}: {what}: expected {expected}, found `{found}`",
                file.display()
            ))
        };
        let (path, part, label, mask, category) =
            (take("path"), take("split"), take("label"), take("mask"), take("category"));
        if path.is_empty() {
            return Err(odd("path", "a picture", ""));
        }
        if label.is_empty() {
            return Err(odd("label", "good, defective or the type of a defect", ""));
        }
        entries.push(Entry {
            category: if category.is_empty() { name_of(file) } else { category },
            part: Part::parse(&part).ok_or_else(|| odd("split", "train or test", &part))?,
            defect_type: defect_type(&label),
            path: root.join(&path),
            name: path,
            mask: (!mask.is_empty()).then(|| root.join(&mask)),
        });
    }
    categories(Layout::Manifest, entries, file)
}

fn defect_type(label: &str) -> String {
    match label.to_ascii_lowercase().as_str() {
        "good" | "normal" | "ok" | "0" => "good".into(),
        "defective" | "anomaly" | "bad" | "ng" | "1" => "defective".into(),
        _ => label.to_owned(),
    }
}

/// Rows of JSON objects.
fn read_lines(file: &Path) -> Result<Vec<Row>> {
    let bytes = std::fs::read(file).map_err(|e| Error::io("cannot read", file, e))?;
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    let mut rows = Vec::new();
    for (line, text) in (1..).zip(text.split(|&b| b == b'\n')) {
        if text.trim_ascii().is_empty() {
            continue;
        }
        let object: HashMap<String, Value> = serde_json::from_slice(text).map_err(|e| {
            Error::input(format!(
                "`{}` line {line}: expected a JSON object with path, split, label and mask",
                file.display()
            ))
            .with_source(e)
        })?;
        let text = |value: Value| match value {
            Value::Null => String::new(),
            Value::String(s) => s.replace('\\', "/"),
            other => other.to_string(),
        };
        rows.push((line, object.into_iter().map(|(k, v)| (k, text(v))).collect()));
    }
    Ok(rows)
}
