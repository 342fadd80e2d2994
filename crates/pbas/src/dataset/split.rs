//! What split files have in common: rows of named columns, and pictures that are on a list but not on the disk.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use super::{Category, DataSet, Label, Layout, Sample, TestSet};
use crate::words::{counted, listed};
use crate::{Error, Result};

/// What a picture is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Train,
    Test,
}

impl Part {
    /// `train` or `test`, in any case.
    pub fn parse(text: &str) -> Option<Self> {
        match text.to_ascii_lowercase().as_str() {
            "train" => Some(Self::Train),
            "test" => Some(Self::Test),
            _ => None,
        }
    }
}

/// A picture on a list.
#[derive(Debug)]
pub(super) struct Entry {
    pub category: String,
    pub part: Part,
    /// `good` for none.
    pub defect_type: String,
    pub path: PathBuf,
    /// Below the category.
    pub name: String,
    pub mask: Option<PathBuf>,
}

/// A row by its columns, and the number of its line.
pub(super) type Row = (u64, HashMap<String, String>);

/// The rows of a CSV file that has at least these columns, in any order. A mark of the byte order, spaces around values and the backslashes
/// of Windows' paths are taken as what they stand for.
///
/// # Errors
/// A file that is not CSV, or lacks a column.
pub(super) fn read_csv(path: &Path, columns: &[&str]) -> Result<Vec<Row>> {
    let bytes = std::fs::read(path).map_err(|e| Error::io("cannot read", path, e))?;
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).flexible(true).from_reader(text);
    let unreadable =
        |e: csv::Error| Error::input(format!("`{}`: expected a CSV file", path.display())).with_source(e);
    let header: Vec<String> =
        reader.headers().map_err(unreadable)?.iter().map(str::to_ascii_lowercase).collect();
    if let Some(missing) = columns.iter().find(|c| !header.iter().any(|h| h == *c)) {
        return Err(Error::input(format!(
            "`{}`: expected the columns {}; `{missing}` is missing, found {}",
            path.display(),
            columns.join(", "),
            header.join(", ")
        )));
    }
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(unreadable)?;
        let line = record.position().map_or(0, csv::Position::line);
        if record.len() != header.len() {
            return Err(Error::input(format!(
                "`{}` line {line}: expected {} values, found {}",
                path.display(),
                header.len(),
                record.len()
            )));
        }
        let values = record.iter().map(|v| v.replace('\\', "/"));
        rows.push((line, header.iter().cloned().zip(values).collect()));
    }
    Ok(rows)
}

/// Sorts listed pictures into categories; those that are not there are left out and named.
///
/// # Errors
/// An empty list, or one of which no picture is there.
pub(super) fn categories(layout: Layout, entries: Vec<Entry>, list: &Path) -> Result<DataSet> {
    if entries.is_empty() {
        return Err(Error::input(format!("`{}`: expected at least one picture, found none", list.display())));
    }
    let mut there = Folders::default();
    let mut by_category: BTreeMap<String, Vec<Entry>> = BTreeMap::new();
    for entry in entries {
        by_category.entry(entry.category.clone()).or_default().push(entry);
    }
    let mut set = DataSet { layout, categories: Vec::new(), broken: Vec::new(), notes: Vec::new() };
    for (name, entries) in by_category {
        match category(&name, entries, &mut there, list) {
            Ok(category) => set.categories.push(category),
            Err(e) => set.broken.push((name, e)),
        }
    }
    Ok(set)
}

fn category(name: &str, entries: Vec<Entry>, there: &mut Folders, list: &Path) -> Result<Category> {
    let total = entries.len();
    let (mut good, mut samples, mut warnings) = (Vec::new(), Vec::new(), Vec::new());
    let (mut gone, mut gone_masks, mut defects_to_learn) = (Vec::new(), Vec::new(), 0);
    let mut seen = HashSet::new();
    for entry in entries {
        if !there.has(&entry.path) {
            gone.push(format!("`{}`", entry.name));
            continue;
        }
        if !seen.insert(entry.path.clone()) {
            warnings.push(format!("`{}` is listed more than once: the first is taken", entry.name));
            continue;
        }
        let is_good = entry.defect_type == "good";
        match entry.part {
            Part::Train if is_good => good.push(entry.path),
            Part::Train => defects_to_learn += 1,
            Part::Test => {
                let mask = entry.mask.filter(|_| !is_good);
                let found = mask.clone().filter(|m| there.has(m));
                if found.is_none() && mask.is_some() {
                    gone_masks.push(format!("`{}`", entry.name));
                }
                samples.push(Sample {
                    path: entry.path,
                    name: entry.name,
                    label: if is_good { Label::Good } else { Label::Defective },
                    defect_type: entry.defect_type,
                    mask: found,
                });
            }
        }
    }
    let of_list = format!("listed in `{}`", list.display());
    if gone.len() == total {
        return Err(Error::input(format!(
            "none of the {total} pictures {of_list} is there, such as {}",
            gone[0]
        )));
    }
    if good.is_empty() {
        return Err(Error::input(format!("no good training pictures of `{name}` are {of_list}")));
    }
    if samples.is_empty() {
        return Err(Error::input(format!("no test pictures of `{name}` are {of_list}")));
    }
    if !gone.is_empty() {
        warnings.push(format!("{} {of_list} not there: {}", are(gone.len(), "picture"), listed(&gone)));
    }
    if !gone_masks.is_empty() {
        warnings.push(format!(
            "masks {of_list} not there, of {}: left out of the pixel metrics",
            listed(&gone_masks)
        ));
    }
    if defects_to_learn > 0 {
        warnings.push(format!(
            "{} for training: left out, only good ones are learnt from",
            are(defects_to_learn, "defective picture")
        ));
    }
    good.sort();
    samples.sort_by(|a, b| a.name.as_bytes().cmp(b.name.as_bytes()));
    for (label, word) in [(Label::Good, "good"), (Label::Defective, "defective")] {
        if !samples.iter().any(|s| s.label == label) {
            warnings.push(format!("no {word} test pictures: AUROC is not defined"));
        }
    }
    Ok(Category::new(name.to_owned(), good, TestSet { samples, warnings, saturation: None }))
}

fn are(n: usize, what: &str) -> String {
    format!("{} {}", counted(n, what), if n == 1 { "is" } else { "are" })
}

/// Which files are there, a folder at a time: asking the system for each of ten thousand costs more.
#[derive(Debug, Default)]
pub(super) struct Folders(HashMap<PathBuf, HashSet<std::ffi::OsString>>);

impl Folders {
    /// Whether the file is there.
    pub fn has(&mut self, path: &Path) -> bool {
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return false };
        if let Some(names) = self.0.get(folder) {
            return names.contains(name);
        }
        let names: HashSet<_> =
            std::fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.file_name()).collect();
        let has = names.contains(name);
        self.0.insert(folder.to_owned(), names);
        has
    }
}
