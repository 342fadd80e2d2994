//! A folder `good` beside folders of defects (`bad`, or one for each type): no split, so one is made.

use std::path::Path;

use super::folder::{is_good, subfolders};
use super::{Category, DataSet, Label, Layout, test_set};
use crate::words::counted;
use crate::{Error, Result};

/// Every so many-th good picture is a test picture.
const TESTED: usize = 4;

/// Whether there is `good` beside another folder.
///
/// # Errors
/// A folder that cannot be read.
pub(super) fn is_one(dir: &Path) -> Result<bool> {
    let folders = subfolders(dir)?;
    Ok(folders.len() > 1 && folders.iter().any(|f| is_good(&f.name)))
}

/// Lists it. Every fourth good picture, by name, is for testing; the others are learnt from.
///
/// # Errors
/// Too few good pictures for both.
pub(super) fn open(dir: &Path, name: String) -> Result<DataSet> {
    let mut test = test_set(dir)?;
    let mut good = Vec::new();
    let mut at = 0;
    test.samples.retain(|sample| {
        if sample.label == Label::Defective {
            return true;
        }
        at += 1;
        let tested = at % TESTED == 0;
        if !tested {
            good.push(sample.path.clone());
        }
        tested
    });
    if at < TESTED {
        return Err(Error::caller(format!(
            "`{}`: expected at least {TESTED} good pictures, found {at}",
            dir.display()
        )));
    }
    let notes = vec![format!(
        "no split is given: every {TESTED}th good picture is for testing, {} for learning",
        counted(good.len(), "picture")
    )];
    Ok(DataSet {
        layout: Layout::Pair,
        categories: vec![Category::new(name, good, test)],
        broken: Vec::new(),
        notes,
    })
}
