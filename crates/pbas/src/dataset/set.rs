//! A data set with its categories, whatever its layout.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::folder::{require_folder, subfolders};
use super::{TestSet, good_pictures, test_set};
use crate::{Error, Result};

const HINT: &str = "expected a folder of categories `<category>/train/good` and `<category>/test/<type>`, or one such category";

/// How a data set is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// MVTec AD, MPDD and others: `train/good`, `test/<type>`, `ground_truth/<type>`.
    Mvtec,
}

impl Layout {
    /// Its name for people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Mvtec => "MVTec AD",
        }
    }
}

/// One product of a data set.
#[derive(Debug)]
pub struct Category {
    /// Its name.
    pub name: String,
    /// Good pictures to learn from, sorted.
    pub good: Vec<PathBuf>,
    /// Labelled test pictures.
    pub test: TestSet,
}

/// A data set.
#[derive(Debug)]
pub struct DataSet {
    /// How it is laid out.
    pub layout: Layout,
    /// Categories, sorted by name.
    pub categories: Vec<Category>,
    /// Categories that cannot be used, with the reason.
    pub broken: Vec<(String, Error)>,
}

/// Lists a data set: a folder of categories, or a single category.
///
/// # Errors
/// `Io` where a folder cannot be read; `Caller`, with a hint, where nothing in it looks like a category.
pub fn open(dir: &Path) -> Result<DataSet> {
    require_folder(dir).map_err(|e| e.with_hint(HINT))?;
    let named = |path: &Path| {
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        path.file_name().map_or_else(|| "category".into(), |n| n.to_string_lossy().into_owned())
    };
    let found: Vec<(String, PathBuf)> = if dir.join("train").is_dir() {
        vec![(named(dir), dir.to_owned())]
    } else {
        let folders = subfolders(dir)?.into_iter().filter(|f| f.path.join("train").is_dir());
        folders.map(|f| (f.name, f.path)).collect()
    };
    if found.is_empty() {
        return Err(Error::caller(format!("no category in `{}`", dir.display())).with_hint(HINT));
    }
    let (mut categories, mut broken) = (Vec::new(), Vec::new());
    for (name, path) in found {
        match good_pictures(&path).and_then(|good| Ok((good, test_set(&path)?))) {
            Ok((good, test)) => categories.push(Category { name, good, test }),
            Err(e) => broken.push((name, e)),
        }
    }
    Ok(DataSet { layout: Layout::Mvtec, categories, broken })
}
