//! Joins the results of several machines.

use std::path::{Path, PathBuf};

use super::folder::{Folder, read_results, same_config};
use super::record::Record;
use crate::{Error, Result};

/// What [`merge`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Merged {
    /// Runs in the new folder.
    pub runs: usize,
    /// Runs that were there more than once; the first was kept.
    pub copies: usize,
}

/// Puts the finished runs of `dirs`, all of the same settings, into the folder `output`, sorted; of a run that is there more than once the
/// first is kept.
///
/// # Errors
/// A folder without results or of other settings; one run with two outcomes; the system refuses.
pub fn merge(dirs: &[PathBuf], output: &Path) -> Result<Merged> {
    let mut folders = Vec::new();
    for dir in dirs {
        let (config, records) = read_results(dir)?;
        folders.push((dir, config, records));
    }
    let Some((_, config, _)) = folders.first() else {
        return Err(Error::caller("nothing to merge: expected at least one folder"));
    };
    for (dir, found, _) in &folders {
        same_config(found, config, dir)?;
    }
    let mut merged = Folder::open(output, config)?;
    let mut all: Vec<(&PathBuf, &Record)> =
        folders.iter().flat_map(|(d, _, r)| r.iter().map(move |r| (*d, r))).collect();
    // Stable: of copies the first folder's stays first.
    all.sort_by(|a, b| a.1.key().cmp(&b.1.key()));
    let mut copies = 0;
    for (dir, record) in all {
        if let Some(there) = merged.records().iter().find(|r| r.key() == record.key()) {
            if there.result != record.result {
                return Err(Error::input(format!(
                    "`{}`: {} seed {} has other figures than in another folder",
                    dir.display(),
                    record.category,
                    record.seed
                ))
                .with_hint(
                    "runs of one seed are equal on machines of one kind and version; merge those apart",
                ));
            }
            copies += 1;
            continue;
        }
        for picture in &record.gallery {
            merged.copy_gallery(dir, &picture.file)?;
        }
        merged.append(record.clone())?;
    }
    Ok(Merged { runs: merged.records().len(), copies })
}
