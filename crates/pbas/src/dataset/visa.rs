//! VisA as published: `split_csv/1cls.csv` names every picture; `<object>/Data/Images/{Normal,Anomaly}`, masks in
//! `<object>/Data/Masks/Anomaly` hold the classes of defects as values from 1 on.

use std::path::{Path, PathBuf};

use super::split::{Entry, Part, categories};
use super::{DataSet, Layout};
use crate::{Error, Result};

const COLUMNS: [&str; 5] = ["object", "split", "label", "image", "mask"];

/// The split of the published one-class protocol, where there is one.
pub(super) fn split_file(dir: &Path) -> Option<PathBuf> {
    let path = dir.join("split_csv").join("1cls.csv");
    path.is_file().then_some(path)
}

/// Whether a folder is an object of VisA.
pub(super) fn looks_like_category(dir: &Path) -> bool {
    dir.join("Data").join("Images").is_dir()
}

/// VisA whose split is not there.
pub(super) fn without_split(dir: &Path) -> Error {
    Error::caller(format!(
        "`{}` is VisA without `split_csv/1cls.csv`, which says what is for training and what for testing",
        dir.display()
    ))
    .with_hint("take the folder `split_csv` from the archive that the pictures came in")
}

/// Lists it.
///
/// # Errors
/// A split file that cannot be read or has other columns.
pub(super) fn open(dir: &Path, split: &Path) -> Result<DataSet> {
    let rows = super::split::read_csv(split, &COLUMNS)?;
    let mut entries = Vec::new();
    for (line, row) in rows {
        let [object, part, label, image, mask] = COLUMNS.map(|c| row.get(c).cloned().unwrap_or_default());
        let odd = |what: &str, expected: &str, found: &str| {
            Error::input(format!(
                "`{}` line {line}: {what}: expected {expected}, found `{found}`",
                split.display()
            ))
        };
        let part = Part::parse(&part).ok_or_else(|| odd("split", "train or test", &part))?;
        let good = match label.as_str() {
            "normal" => true,
            "anomaly" => false,
            _ => return Err(odd("label", "normal or anomaly", &label)),
        };
        let prefix = format!("{object}/");
        let name = image.strip_prefix(&prefix).unwrap_or(&image).to_owned();
        entries.push(Entry {
            category: object,
            part,
            defect_type: if good { "good".into() } else { "anomaly".into() },
            path: dir.join(&image),
            name,
            mask: (!mask.is_empty()).then(|| dir.join(&mask)),
        });
    }
    categories(Layout::Visa, entries, split)
}
